//! IPv4 prefixes: a trie of chunks whose leaves are classes.
//!
//! ```text
//! wide     leaf by bits 0–15 ─▶ chunk, leaf by bits 16–19 ─▶ … 20–23 ─▶ … 24–27 ─▶ … 28–31
//! narrow   leaf by bits 0–7 ─▶ chunk, leaf by bits 8–15 ─▶ … 16–23 ─▶ … 24–31
//! ```
//!
//! What: a leaf is one word, either a class or, with [`POINTER`] set, the number
//! of the chunk that tells the next bits apart. The wide trie has a root of 256 KiB
//! and chunks of one cache line, so that many scattered prefixes stay small; the
//! narrow one has a root and chunks of 1 KiB, so that few prefixes do. The root is
//! the first chunks, one after the other.
//!
//! Why it can change under readers: whatever an address finds hangs on one word,
//! which one aligned store replaces; a new chunk is complete before the leaf that
//! leads to it is stored.
//!
//! Cost: one load for the root and for each chunk on the way; a /24 takes three.

use serde::{Deserialize, Serialize};

/// Marks a leaf that leads to a chunk.
pub(super) const POINTER: u32 = 1 << 31;

/// The shape of a trie; code depends on [`Self::wide`] and on the map's size.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Which of the two tries it is.
    pub wide: bool,
    /// Chunks, those of the root included.
    pub chunks: u32,
}

impl Shape {
    /// Bits that a chunk tells apart.
    pub fn chunk_bits(wide: bool) -> u8 {
        if wide { 4 } else { 8 }
    }

    /// Leaves of a chunk, 4 bytes each.
    pub fn chunk(wide: bool) -> usize {
        1 << Self::chunk_bits(wide)
    }

    /// Leaves of the root.
    pub fn root(wide: bool) -> usize {
        1 << Self::root_bits(wide)
    }

    /// Chunks of the root.
    pub fn root_chunks(wide: bool) -> u32 {
        (Self::root(wide) / Self::chunk(wide)) as u32
    }

    /// Bits that the root tells apart.
    pub fn root_bits(wide: bool) -> u8 {
        if wide { 16 } else { 8 }
    }
}

/// A trie while it is built.
pub(super) struct Trie {
    pub wide: bool,
    /// All chunks, one after the other.
    pub words: Vec<u32>,
}

impl Trie {
    pub fn new(wide: bool) -> Self {
        Self { wide, words: vec![0; Shape::root(wide)] }
    }

    /// Gives all addresses of a prefix a class. Prefixes must come in ascending
    /// order, a prefix before those inside it.
    pub fn paint(&mut self, network: u32, length: u8, class: u32) {
        let (mut bits, size) = (Shape::root_bits(self.wide), Shape::chunk(self.wide));
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
            bits += Shape::chunk_bits(self.wide);
            at = chunk * size + (network >> (32 - bits)) as usize % size;
        }
        self.words[at..at + (1 << (bits - length))].fill(class);
    }
}

/// The class that an address finds.
#[cfg(test)]
pub(super) fn look_up(words: &[u32], wide: bool, address: u32) -> u32 {
    let mut bits = Shape::root_bits(wide);
    let mut leaf = words[(address >> (32 - bits)) as usize];
    while leaf & POINTER != 0 {
        bits += Shape::chunk_bits(wide);
        let size = Shape::chunk(wide);
        leaf = words[(leaf & !POINTER) as usize * size + (address >> (32 - bits)) as usize % size];
    }
    leaf
}

/// Chunks that a trie with a narrow or a wide root takes for prefixes, given as
/// network and length in ascending order; the root's are included.
pub(super) fn chunks_needed(prefixes: impl Iterator<Item = (u32, u8)> + Clone, wide: bool) -> u64 {
    let mut chunks = u64::from(Shape::root_chunks(wide));
    let mut bits = Shape::root_bits(wide);
    while bits < 32 {
        let mut last = None;
        for (network, length) in prefixes.clone() {
            let branch = network >> (32 - bits);
            if length > bits && last != Some(branch) {
                last = Some(branch);
                chunks += 1;
            }
        }
        bits += Shape::chunk_bits(wide);
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
        for wide in [false, true] {
            let mut trie = Trie::new(wide);
            prefixes.iter().for_each(|(n, l, c)| trie.paint(address(n), *l, *c));
            let needed = chunks_needed(prefixes.iter().map(|(n, l, _)| (address(n), *l)), wide);
            assert_eq!((trie.words.len() / Shape::chunk(wide)) as u64, needed);
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
                assert_eq!(look_up(&trie.words, wide, address(probe)), class, "{probe} wide {wide}");
            }
        }
    }
}
