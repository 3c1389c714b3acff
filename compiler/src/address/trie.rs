//! IPv4 prefixes, and hosts where they are dense: a trie of chunks whose leaves are
//! classes.
//!
//! ```text
//! narrow   leaf by bits 0–7  ─▶ chunk, leaf by bits 8–15  ─▶ … 16–23 ─▶ … 24–31
//! wide     leaf by bits 0–15 ─▶ chunk, leaf by bits 16–23 ─▶ … 24–31
//! sparse   leaf by bits 0–15 ─▶ chunk, leaf by bits 16–19 ─▶ … 20–23 ─▶ … 24–27 ─▶ … 28–31
//! ```
//!
//! What: a leaf is one word: with [`CLASS`] set a class, else the offset in bytes of
//! the chunk that tells the next bits apart. So one compare tells code both what a
//! leaf is and that the place is one in the table. The wide and the sparse trie have a
//! root of 256 KiB; chunks are of 1 KiB, in the sparse one of a cache line, so that
//! many scattered prefixes stay small. The root is the first chunks, one after the
//! other.
//!
//! Homes: where nearly all prefixes lie in one or two networks of 16 bits, as a cluster's
//! pods do, look-ups of their addresses start at chunks of their own behind the root,
//! which tell the bits from 16 on apart, and never see the levels above these.
//!
//! Why it can change under readers: whatever an address finds hangs on one word,
//! which one aligned store replaces; a new chunk is complete before the leaf that
//! leads to it is stored.
//!
//! Cost: one load for the root and for each chunk on the way. Each waits for the one
//! before it, which is what a look-up takes: with the adds around it some 2 ns.

use serde::{Deserialize, Serialize};

/// Marks a leaf that is a class.
pub(super) const CLASS: u32 = 1 << 31;

/// Where a leaf leads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// A class: the end.
    Class(u32),
    /// The chunk that begins with this word of the table.
    Chunk(usize),
}

impl Leaf {
    /// What a word says.
    pub fn of(word: u32) -> Self {
        if word & CLASS != 0 { Self::Class(word & !CLASS) } else { Self::Chunk(word as usize / 4) }
    }

    /// The word that says so.
    pub fn word(self) -> u32 {
        match self {
            Self::Class(class) => CLASS | class,
            Self::Chunk(at) => at as u32 * 4,
        }
    }
}

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
}

/// The shape of a trie; code depends on this.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Shape {
    /// What its parts tell apart.
    pub strides: Strides,
    /// The first 16 bits of addresses whose look-up starts at a chunk behind the root, the
    /// more frequent ones first.
    pub homes: Homes,
    /// Chunks, those of the root and of the homes included.
    pub chunks: u32,
}

/// Networks of 16 bits.
pub(super) type Homes = [Option<u16>; 2];

/// Bits that addresses at a home have in common.
pub(super) const HOME_BITS: u8 = 16;

impl Shape {
    /// Bytes of the table.
    pub fn bytes(self) -> u64 {
        u64::from(self.chunks) * self.strides.chunk() as u64 * 4
    }

    /// Chunks that are there before any prefix is.
    pub fn least(self) -> u32 {
        self.strides.root_chunks() + self.homes().count() as u32
    }

    /// The first address of each home, and the first word of its chunk.
    pub fn homes(self) -> impl Iterator<Item = (u32, usize)> {
        let chunks = (0..).map(move |i| self.strides.root() + i * self.strides.chunk());
        let networks = self.homes.into_iter().flatten();
        networks.map(|network| u32::from(network) << HOME_BITS).zip(chunks)
    }

    /// The chunk of the home with these leading bits.
    fn home(self, address: u32) -> Option<usize> {
        self.homes().find(|(low, _)| (low ^ address) >> (32 - HOME_BITS) == 0).map(|(_, chunk)| chunk)
    }

    /// Where the look-up of an address starts: a leaf's word, and how many bits the
    /// leaves there tell apart.
    pub fn start(self, address: u32) -> (usize, u8) {
        let strides = self.strides;
        let (base, bits) = match self.home(address) {
            Some(chunk) => (chunk, HOME_BITS + strides.chunk_bits()),
            None => (0, strides.root_bits()),
        };
        let leaves = if base == 0 { strides.root() } else { strides.chunk() };
        (base + (address >> (32 - bits)) as usize % leaves, bits)
    }
}

/// A trie while it is built.
pub(super) struct Trie {
    pub shape: Shape,
    /// All chunks, one after the other.
    pub words: Vec<u32>,
}

impl Trie {
    /// Without prefixes; the shape's chunks are not counted.
    pub fn new(shape: Shape) -> Self {
        Self { shape, words: vec![CLASS; shape.least() as usize * shape.strides.chunk()] }
    }

    /// Gives all addresses of a prefix a class. Prefixes must come in ascending
    /// order, a prefix before those inside it.
    pub fn paint(&mut self, network: u32, length: u8, class: u32) {
        let (strides, size) = (self.shape.strides, self.shape.strides.chunk());
        for (home, chunk) in self.shape.homes().filter(|_| length < HOME_BITS) {
            if (network ^ home) >> (31 - length) >> 1 == 0 {
                self.words[chunk..chunk + size].fill(Leaf::Class(class).word());
            }
        }
        let (mut at, mut bits) = match length {
            HOME_BITS.. => self.shape.start(network),
            _ => ((network >> (32 - strides.root_bits())) as usize, strides.root_bits()),
        };
        while length > bits {
            let leaf = self.words[at];
            let chunk = match Leaf::of(leaf) {
                Leaf::Chunk(chunk) => chunk,
                Leaf::Class(_) => {
                    let new = self.words.len();
                    self.words.resize(new + size, leaf);
                    self.words[at] = Leaf::Chunk(new).word();
                    new
                }
            };
            bits += strides.chunk_bits();
            at = chunk + (network >> (32 - bits)) as usize % size;
        }
        self.words[at..at + (1 << (bits - length))].fill(Leaf::Class(class).word());
    }
}

/// The class that an address finds.
#[cfg(test)]
pub(super) fn look_up(shape: Shape, address: u32, mut word: impl FnMut(usize) -> u32) -> u32 {
    let (mut at, mut bits) = shape.start(address);
    loop {
        match Leaf::of(word(at)) {
            Leaf::Class(class) => return class,
            Leaf::Chunk(chunk) => {
                bits += shape.strides.chunk_bits();
                at = chunk + (address >> (32 - bits)) as usize % shape.strides.chunk();
            }
        }
    }
}

/// The network of 16 bits, or the two, that hold nine of ten prefixes; these ascend.
pub(super) fn homes(prefixes: impl Iterator<Item = (u32, u8)>) -> Homes {
    let mut all = 0;
    // Prefixes in each network, of which a wider prefix is in none.
    let mut networks: Vec<(u32, u16)> = Vec::new();
    for (network, length) in prefixes {
        all += 1;
        let home = (network >> HOME_BITS) as u16;
        match networks.last_mut() {
            _ if length <= HOME_BITS => {}
            Some((count, last)) if *last == home => *count += 1,
            _ => networks.push((1, home)),
        }
    }
    networks.sort_unstable_by_key(|(count, home)| (std::cmp::Reverse(*count), *home));
    let nearly_all =
        |networks: &[(u32, u16)]| networks.iter().map(|(count, _)| count).sum::<u32>() * 10 >= all * 9;
    match networks[..] {
        [first, ..] if nearly_all(&[first]) => [Some(first.1), None],
        [first, second, ..] if nearly_all(&[first, second]) => [Some(first.1), Some(second.1)],
        _ => [None, None],
    }
}

/// Chunks that a trie takes for prefixes, given as network and length in ascending
/// order; the root's and those of the homes are included. The shape's own count is not used.
pub(super) fn chunks_needed(prefixes: impl Iterator<Item = (u32, u8)> + Clone, shape: Shape) -> u64 {
    let strides = shape.strides;
    let mut chunks = u64::from(shape.least());
    let mut bits = strides.root_bits();
    while bits < 32 {
        let mut last = None;
        for (network, length) in prefixes.clone() {
            let branch = network >> (32 - bits);
            if length > bits && bits <= HOME_BITS && length >= HOME_BITS && shape.home(network).is_some() {
                continue;
            }
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

    const STRIDES: [Strides; 3] = [Strides::Narrow, Strides::Wide, Strides::Sparse];

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
        let homes = [
            [None, None],
            [Some(0x0a01), None],
            [Some(0xffff), Some(0x0a01)],
            [Some(0x0a02), Some(0x0a00)],
            [Some(0x0b00), Some(0x0000)],
        ];
        for (strides, homes) in STRIDES.into_iter().flat_map(|strides| homes.map(|homes| (strides, homes))) {
            let shape = Shape { strides, homes, chunks: 0 };
            let mut trie = Trie::new(shape);
            prefixes.iter().for_each(|(n, l, c)| trie.paint(address(n), *l, *c));
            let needed = chunks_needed(prefixes.iter().map(|(n, l, _)| (address(n), *l)), shape);
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
                let found = look_up(shape, address(probe), |at| trie.words[at]);
                assert_eq!(found, class, "{probe} {shape:?}");
            }
        }
    }

    #[test]
    fn homes_are_where_nearly_all_prefixes_are() {
        let pods = |home: u32, count: u32| (0..count).map(move |pod| ((home << 16) + pod, 32));
        let (one, two) = (0x0a80, 0x0a81);
        let other = || pods(0x0b00, 1);
        assert_eq!(homes(pods(one, 9).chain(other())), [Some(0x0a80), None]);
        assert_eq!(homes([(0, 0)].into_iter().chain(pods(one, 9))), [Some(0x0a80), None]);
        assert_eq!(homes(pods(one, 4).chain(pods(two, 5)).chain(other())), [Some(0x0a81), Some(0x0a80)]);
        assert_eq!(homes(pods(one, 4).chain(pods(two, 4)).chain(other())), [None, None]);
        assert_eq!(homes([(one << 16, 16)].into_iter()), [None, None]);
        assert_eq!(homes(std::iter::empty()), [None, None]);
    }
}
