//! IPv6 prefixes: binary search on the prefix lengths present.
//!
//! What: a hash table of prefixes, and a balanced search tree over their lengths.
//! A look-up asks at a length whether the address's prefix of that length is in
//! the table; if so it remembers the entry's class and goes on with the longer
//! lengths, else with the shorter ones. So that a long prefix is found, each
//! shorter length on its way holds a marker: the prefix cut to that length, with
//! the class of the longest real prefix that covers it.
//!
//! Why sound: the last entry found is the longest on the address's way, and its
//! class is that of all prefixes that cover it. A marker may lead to lengths where
//! nothing matches; then its own class is the answer, which is why it has one.
//!
//! An entry's value is [`tag`]`(length) << 24 | class`, so that prefixes of
//! different lengths with the same bits are different entries. Cost: for n lengths
//! at most ⌈log2(n + 1)⌉ probes, and as many markers for each prefix.
//!
//! Up to [`UNROLLED`] lengths stand in the code, one probe for each. With more of
//! them the tree is data: a line for each length behind the table's own lines, and
//! the code walks it.

use super::buckets::{Entry, Key, Keys, LINE_WORDS, Shape};

/// Most lengths that code has a probe of its own for: a probe takes about a hundred
/// instructions.
const UNROLLED: usize = 4;

/// Whether the search tree over so many lengths is data.
pub(super) fn is_data(lengths: &[u8]) -> bool {
    lengths.len() > UNROLLED
}

/// Byte offsets in a line of the tree; of two hashes, the second one's multipliers
/// stand 16 bytes further.
pub(super) mod node {
    /// Mask of the address's first eight bytes as they lie in memory.
    pub const MASK: i16 = 0;
    /// Multiplier of these bytes.
    pub const MULTIPLIER: i16 = 16;
    /// The length's tag, where it stands in a value.
    pub const TAG: i16 = 48;
    /// What is added before the first half is multiplied.
    pub const SALT: i16 = 52;
    /// Line of the next length if the address's prefix was found; 0 ends.
    pub const HIT: i16 = 56;
    /// Likewise if it was not.
    pub const MISS: i16 = 60;
}

/// Bits of a mask of eight address bytes, of which the first `bits` bits count, as
/// they lie in memory.
pub(super) fn mask(bits: u8) -> u64 {
    u64::MAX.checked_shl(64 - u32::from(bits)).unwrap_or(0).swap_bytes()
}

/// The line of the length that the search starts with.
pub(super) fn first_line(shape: &Shape, lengths: &[u8]) -> u32 {
    shape.lines + middle(0, lengths.len()) as u32
}

/// Probes of the longest search.
pub(super) fn depth(lengths: &[u8]) -> u32 {
    usize::BITS - lengths.len().leading_zeros()
}

/// The tree's lines, one after the other.
pub(super) fn tree(shape: &Shape, lengths: &[u8]) -> Vec<u32> {
    let mut words = vec![0; lengths.len() * LINE_WORDS];
    let line = |from: usize, to: usize| if from < to { shape.lines + middle(from, to) as u32 } else { 0 };
    let mut todo = vec![(0, lengths.len())];
    while let Some((from, to)) = todo.pop() {
        if from == to {
            continue;
        }
        let mid = middle(from, to);
        let length = lengths[mid];
        let words = &mut words[mid * LINE_WORDS..(mid + 1) * LINE_WORDS];
        let mut long = |at: i16, value: u64| {
            words[at as usize / 4] = value as u32;
            words[at as usize / 4 + 1] = (value >> 32) as u32;
        };
        long(node::MASK, mask(length.min(64)));
        long(node::MASK + 8, mask(length.saturating_sub(64)));
        for which in 0..2 {
            let [a, b] = shape.multipliers(which, length);
            long(node::MULTIPLIER + 16 * i16::from(which), a);
            long(node::MULTIPLIER + 16 * i16::from(which) + 8, b);
        }
        words[node::TAG as usize / 4] = value(length, 0);
        words[node::SALT as usize / 4] = shape.salt(length);
        words[node::HIT as usize / 4] = line(mid + 1, to);
        words[node::MISS as usize / 4] = line(from, mid);
        todo.extend([(from, mid), (mid + 1, to)]);
    }
    words
}

/// Bits of a value that hold the class.
pub(super) const CLASS_BITS: u32 = 24;

/// The part of a value that says which prefix length the entry has; never 0.
pub(super) fn tag(length: u8) -> u32 {
    u32::from(length) + 1
}

/// The value of an entry.
pub(super) fn value(length: u8, class: u32) -> u32 {
    (tag(length) << CLASS_BITS) | class
}

/// The length that the tree asks about first, of those in `lengths[from..to]`.
pub(super) fn middle(from: usize, to: usize) -> usize {
    from + (to - from) / 2
}

/// The shorter lengths that a look-up for a prefix of length `lengths[at]` has to
/// find something at, ascending.
pub(super) fn way(lengths: &[u8], at: usize) -> impl Iterator<Item = u8> {
    let (mut from, mut to) = (0, lengths.len());
    std::iter::from_fn(move || {
        while from < to {
            let mid = middle(from, to);
            if mid == at {
                return None;
            }
            if mid < at {
                from = mid + 1;
                return Some(lengths[mid]);
            }
            to = mid;
        }
        None
    })
}

/// An address cut to a prefix length.
pub(super) fn cut(address: u128, length: u8) -> u128 {
    address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// The words of an address as they lie in memory.
pub(super) fn key(address: u128) -> Key {
    let bytes = address.to_be_bytes();
    std::array::from_fn(|i| {
        u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
    })
}

/// What the keys of a table of prefixes of these lengths have to be.
pub(super) fn keys(lengths: &[u8]) -> Keys {
    if lengths.iter().all(|l| *l <= 64) { Keys::Half } else { Keys::Full }
}

/// The distinct lengths of prefixes, ascending.
pub(super) fn lengths(prefixes: &[(u128, u8, u32)]) -> Vec<u8> {
    let mut present = [false; 129];
    prefixes.iter().for_each(|(_, length, _)| present[usize::from(*length)] = true);
    (0..=128).filter(|l| present[usize::from(*l)]).collect()
}

/// Prefixes (network, length, class; ascending, a prefix before those inside it)
/// and their markers.
pub(super) fn entries(prefixes: &[(u128, u8, u32)], lengths: &[u8]) -> Vec<Entry> {
    // A real prefix sorts before a marker of the same bits and length.
    let mut all: Vec<(u128, u8, u32)> = prefixes.to_vec();
    const MARKER: u32 = u32::MAX;
    for (network, length, _) in prefixes {
        let Ok(at) = lengths.binary_search(length) else { continue };
        all.extend(way(lengths, at).map(|short| (cut(*network, short), short, MARKER)));
    }
    all.sort_unstable();
    all.dedup_by_key(|(network, length, _)| (*network, *length));
    let mut around: Vec<(u128, u8, u32)> = Vec::new();
    let mut found = Vec::with_capacity(all.len());
    for (network, length, class) in all {
        while around.last().is_some_and(|(outer, short, _)| cut(network, *short) != *outer) {
            around.pop();
        }
        let class = match class {
            MARKER => around.last().map_or(0, |(_, _, class)| *class),
            class => class,
        };
        around.push((network, length, class));
        found.push(Entry { key: key(network), length, value: value(length, class) });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_to_every_length() {
        for n in 1..40_u8 {
            let lengths: Vec<u8> = (0..n).map(|i| i * 3).collect();
            for at in 0..lengths.len() {
                let way: Vec<u8> = way(&lengths, at).collect();
                assert!(way.is_sorted() && way.iter().all(|l| *l < lengths[at]));
                assert!(way.len() as u32 <= usize::BITS - lengths.len().leading_zeros());
            }
        }
    }

    #[test]
    fn markers_have_the_class_of_what_covers_them() {
        let net = |text: &str| u128::from(text.parse::<std::net::Ipv6Addr>().unwrap());
        let prefixes = [(net("fd00::"), 16, 1), (net("fd00:1::"), 64, 2), (net("fe00::"), 48, 3)];
        let lengths = lengths(&prefixes);
        assert_eq!(lengths, [16, 48, 64]);
        let found: Vec<(u8, u32)> =
            entries(&prefixes, &lengths).iter().map(|e| (e.length, e.value & 0xff_ffff)).collect();
        assert_eq!(found, [(16, 1), (48, 1), (64, 2), (48, 3)], "fd00:1::/48 is a marker of class 1");
        assert_eq!((cut(u128::MAX, 0), cut(u128::MAX, 128)), (0, u128::MAX));
    }
}
