//! IPv4 prefixes, and hosts where they are dense: a trie of chunks whose leaves are
//! classes.
//!
//! ```text
//! narrow   leaf by bits 0–7  ─▶ chunk, leaf by bits 8–15  ─▶ … 16–23 ─▶ … 24–31
//! wide     leaf by bits 0–15 ─▶ chunk, leaf by bits 16–23 ─▶ … 24–31
//! sparse   leaf by bits 0–15 ─▶ chunk, leaf by bits 16–19 ─▶ … 20–23 ─▶ … 24–27 ─▶ … 28–31
//! ```
//!
//! What: a leaf is one word, either a class or, with [`POINTER`] set, the number
//! of the chunk that tells the next bits apart. The wide and the sparse trie have a
//! root of 256 KiB; chunks are of 1 KiB, in the sparse one of a cache line, so that
//! many scattered prefixes stay small. The root is the first chunks, one after the
//! other.
//!
//! Why it can change under readers: whatever an address finds hangs on one word,
//! which one aligned store replaces; a new chunk is complete before the leaf that
//! leads to it is stored.
//!
//! Cost: one load for the root and for each chunk on the way.

use serde::{Deserialize, Serialize};

/// Marks a leaf that leads to a chunk.
pub(super) const POINTER: u32 = 1 << 31;

/// How many bits the root and each chunk tell apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Strides {
    /// 8, then 8 each.
    Narrow,
    /// 16, then 8 each.
    Wide,
    /// 16, then 4 each.
    Sparse,
}

impl Strides {
    /// Bits that the root tells apart.
    pub fn root_bits(self) -> u8 {
        if self == Self::Narrow { 8 } else { 16 }
    }

    /// Bits that a chunk tells apart.
    pub fn chunk_bits(self) -> u8 {
        if self == Self::Sparse { 4 } else { 8 }
    }

    /// Leaves of the root.
    pub fn root(self) -> usize {
        1 << self.root_bits()
    }

    /// Leaves of a chunk, 4 bytes each.
    pub fn chunk(self) -> usize {
        1 << self.chunk_bits()
    }

    /// Chunks of the root.
    pub fn root_chunks(self) -> u32 {
        (self.root() / self.chunk()) as u32
    }

    /// Bytes of this many chunks.
    pub fn bytes(self, chunks: u64) -> u64 {
        chunks * self.chunk() as u64 * 4
    }
}

/// The shape of a trie; code depends on this.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Shape {
    /// What its parts tell apart.
    pub strides: Strides,
    /// Chunks, those of the root included.
    pub chunks: u32,
}

/// A trie while it is built.
pub(super) struct Trie {
    pub strides: Strides,
    /// All chunks, one after the other.
    pub words: Vec<u32>,
}

impl Trie {
    pub fn new(strides: Strides) -> Self {
        Self { strides, words: vec![0; strides.root()] }
    }

    /// Gives all addresses of a prefix a class. Prefixes must come in ascending
    /// order, a prefix before those inside it.
    pub fn paint(&mut self, network: u32, length: u8, class: u32) {
        let (mut bits, size) = (self.strides.root_bits(), self.strides.chunk());
        let mut at = (network >> (32 - bits)) as usize;
        while length > bits {
            let leaf = self.words[at];
            let chunk = if leaf & POINTER == 0 {
                let new = self.words.len() / size;
                self.words.resize(self.words.len() + size, leaf);
                self.words[at] = POINTER | new as u32;
                new
            } else {
                (leaf & !POINTER) as usize
            };
            bits += self.strides.chunk_bits();
            at = chunk * size + (network >> (32 - bits)) as usize % size;
        }
        self.words[at..at + (1 << (bits - length))].fill(class);
    }
}

/// The class that an address finds.
#[cfg(test)]
pub(super) fn look_up(words: &[u32], strides: Strides, address: u32) -> u32 {
    let mut bits = strides.root_bits();
    let mut leaf = words[(address >> (32 - bits)) as usize];
    while leaf & POINTER != 0 {
        bits += strides.chunk_bits();
        let size = strides.chunk();
        leaf = words[(leaf & !POINTER) as usize * size + (address >> (32 - bits)) as usize % size];
    }
    leaf
}

/// Chunks that a trie takes for prefixes, given as network and length in ascending
/// order; the root's are included.
pub(super) fn chunks_needed(prefixes: impl Iterator<Item = (u32, u8)> + Clone, strides: Strides) -> u64 {
    let mut chunks = u64::from(strides.root_chunks());
    let mut bits = strides.root_bits();
    while bits < 32 {
        let mut last = None;
        for (network, length) in prefixes.clone() {
            let branch = network >> (32 - bits);
            if length > bits && last != Some(branch) {
                last = Some(branch);
                chunks += 1;
            }
        }
        bits += strides.chunk_bits();
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> u32 {
        text.parse::<std::net::Ipv4Addr>().unwrap().into()
    }

    #[test]
    fn longest_prefix_wins_at_every_edge() {
        let prefixes = [
            ("0.0.0.0", 0, 1),
            ("10.0.0.0", 8, 2),
            ("10.0.0.0", 15, 3),
            ("10.1.0.0", 16, 4),
            ("10.1.128.0", 17, 5),
            ("10.1.200.0", 24, 6),
            ("10.1.200.9", 32, 7),
            ("255.255.255.254", 31, 8),
        ];
        for strides in [Strides::Narrow, Strides::Wide, Strides::Sparse] {
            let mut trie = Trie::new(strides);
            prefixes.iter().for_each(|(n, l, c)| trie.paint(address(n), *l, *c));
            let needed = chunks_needed(prefixes.iter().map(|(n, l, _)| (address(n), *l)), strides);
            assert_eq!((trie.words.len() / strides.chunk()) as u64, needed);
            for (probe, class) in [
                ("0.0.0.0", 1),
                ("9.255.255.255", 1),
                ("10.0.0.0", 3),
                ("10.1.127.255", 4),
                ("10.1.128.0", 5),
                ("10.1.200.8", 6),
                ("10.1.200.9", 7),
                ("10.1.201.0", 5),
                ("10.2.0.0", 2),
                ("11.0.0.0", 1),
                ("255.255.255.253", 1),
                ("255.255.255.255", 8),
            ] {
                assert_eq!(look_up(&trie.words, strides, address(probe)), class, "{probe} {strides:?}");
            }
        }
    }
}
