//! Exact keys in lines of 64 bytes, two candidate lines for each key.
//!
//! ```text
//! line   key 0 … key s-1 │ value 0 … value s-1 │ (unused) │ overflow
//! ```
//!
//! What: a key lies in the line that its first hash names, or, if that one was
//! full when the key came, in the line that its second hash names; then the first
//! line's overflow word is not 0. A value of 0 marks a free slot, whatever its
//! key. A reader that finds nothing in the first line and no overflow is done:
//! most look-ups, hits and misses, touch one cache line.
//!
//! Why it can change under readers: a new key's words are written while its value
//! is 0, the overflow word before the value, the value last. A reader may meet a part
//! of the new key and a part of an old one, so it compares keys of several words again
//! when it has found a value. A key in use stays where it is. A freed slot may take another key only when no reader is left that
//! compared the old one: see [`super::Membership`].
//!
//! Cost: 64 / s bytes for each slot; lines are filled to [`FILL`] at most. Building
//! is linear: keys whose lines are both full move others to their second line.

use serde::{Deserialize, Serialize};

/// 4-byte words of a line.
pub(super) const LINE_WORDS: usize = 16;
/// The word that says whether keys overflowed to their second line.
pub(super) const OVERFLOW: usize = 15;
/// Keys per hundred slots that capacity is planned for.
const FILL: u64 = 70;
/// Seeds that are tried before a set of keys counts as impossible to place.
const SEEDS: u32 = 8;
/// Keys that one insertion may move while a table is built.
const MOVES: u32 = 500;

/// A key: the address's words as they lie in memory (network order), the first
/// [`Keys::words`] of them; the rest is 0.
pub(super) type Key = [u32; 4];

/// What the keys of a table are.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Keys {
    /// IPv4 addresses.
    Word,
    /// The upper half of IPv6 addresses.
    Half,
    /// IPv6 addresses.
    Full,
}

impl Keys {
    /// 4-byte words of a key.
    pub const fn words(self) -> usize {
        match self {
            Self::Word => 1,
            Self::Half => 2,
            Self::Full => 4,
        }
    }

    /// Keys in a line.
    pub const fn slots(self) -> usize {
        match self {
            Self::Word => 7,
            Self::Half => 5,
            Self::Full => 3,
        }
    }

    /// The word in a line where a slot's key begins.
    pub const fn key_at(self, slot: usize) -> usize {
        slot * self.words()
    }

    /// The word in a line that is a slot's value.
    pub const fn value_at(self, slot: usize) -> usize {
        self.slots() * self.words() + slot
    }
}

/// The shape of a table; code depends on this and on nothing else.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Shape {
    pub keys: Keys,
    /// Lines; at least 1, below 2^31.
    pub lines: u32,
    /// Chooses the hash functions.
    pub seed: u32,
}

impl Shape {
    /// A table with room for `capacity` keys.
    pub fn new(keys: Keys, capacity: u64, seed: u32) -> Self {
        let slots = (capacity * 100).div_ceil(FILL);
        let lines = slots.div_ceil(keys.slots() as u64).clamp(1, (1 << 31) - 1);
        Self { keys, lines: lines as u32, seed }
    }

    /// The multipliers of the first (0) or second (1) hash of keys of a prefix
    /// length: for the key's lower and upper eight bytes in memory order.
    pub fn multipliers(&self, which: u8, length: u8) -> [u64; 2] {
        let base = (u64::from(self.seed) << 16) | (u64::from(length) << 8) | (u64::from(which) << 1);
        [mix(base) | 1, mix(base | 1) | 1]
    }

    /// What is added to the key's first eight bytes: prefixes of different lengths
    /// may have the same bits, `::` of every length among them.
    pub fn salt(&self, length: u8) -> u32 {
        match (self.keys, length) {
            (Keys::Word, _) | (_, 128) => 0,
            _ => (u32::from(length) + 1) * 0x00e1_95ab,
        }
    }

    /// The key's line by its first (0) or second (1) hash: the upper half of the
    /// product picks it, so that no mask and no power of two is needed.
    pub fn line(&self, key: &Key, which: u8, length: u8) -> u32 {
        self.line_by(key, self.multipliers(which, length), length)
    }

    /// As [`Self::line`], by the multipliers of the hash.
    fn line_by(&self, key: &Key, [a, b]: [u64; 2], length: u8) -> u32 {
        let half = |i: usize| {
            let bytes = u64::from(key[i]) | (u64::from(key[i + 1]) << 32);
            // In network order the last byte, in which neighbours differ, is the
            // lowest: a product spreads it over all bits. As it lies in memory it is
            // the highest, and the product keeps eight bits of it.
            if self.keys == Keys::Word { bytes } else { bytes.swap_bytes() }
        };
        let first = half(0).wrapping_add(self.salt(length).into()).wrapping_mul(a);
        let hash = match self.keys {
            Keys::Word | Keys::Half => first,
            Keys::Full => first.wrapping_add(half(2).wrapping_mul(b)),
        };
        (((hash >> 32) * u64::from(self.lines)) >> 32) as u32
    }

    /// Where in the table a line's slot has its value.
    pub fn value_word(&self, line: u32, slot: usize) -> usize {
        line as usize * LINE_WORDS + self.keys.value_at(slot)
    }

    /// Where in the table a line's slot has its key.
    pub fn key_word(&self, line: u32, slot: usize) -> usize {
        line as usize * LINE_WORDS + self.keys.key_at(slot)
    }

    /// A slot's key.
    pub fn key(&self, words: &[u32], line: u32, slot: usize) -> Key {
        let at = self.key_word(line, slot);
        let mut key = [0; 4];
        key[..self.keys.words()].copy_from_slice(&words[at..at + self.keys.words()]);
        key
    }
}

/// SplitMix64's output function.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key to be placed: its prefix length and its value, which is not 0. Keys that
/// are equal have different lengths, which their values tell apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Key,
    pub length: u8,
    pub value: u32,
}

/// A table that holds the entries, with room for `capacity` of them. `None` if no
/// seed places them all, which takes keys that were chosen for it.
pub(super) fn build(keys: Keys, capacity: u64, entries: &[Entry]) -> Option<(Shape, Vec<u32>)> {
    let capacity = capacity.max(entries.len() as u64);
    (0..SEEDS).find_map(|seed| {
        let shape = Shape::new(keys, capacity, seed);
        Some((shape, place(&shape, entries)?))
    })
}

const FREE: u32 = u32::MAX;

/// The lines of entries. Multipliers take longer than all else, and are those of a length.
struct Lines<'a> {
    shape: &'a Shape,
    entries: &'a [Entry],
    multipliers: Vec<[[u64; 2]; 2]>,
}

impl<'a> Lines<'a> {
    fn new(shape: &'a Shape, entries: &'a [Entry]) -> Self {
        let of = |length: u8| [0, 1].map(|which| shape.multipliers(which, length));
        Self { shape, entries, multipliers: (0..=128).map(of).collect() }
    }

    fn of(&self, entry: u32, which: u8) -> u32 {
        let Entry { key, length, .. } = &self.entries[entry as usize];
        self.shape.line_by(key, self.multipliers[usize::from(*length)][usize::from(which)], *length)
    }
}

fn place(shape: &Shape, entries: &[Entry]) -> Option<Vec<u32>> {
    let slots = shape.keys.slots();
    let mut owner = vec![FREE; shape.lines as usize * slots];
    let lines = Lines::new(shape, entries);
    for first in 0..entries.len() as u32 {
        settle(&lines, slots, &mut owner, first)?;
    }
    let mut words = vec![0; shape.lines as usize * LINE_WORDS];
    for (line, owners) in owner.chunks(slots).enumerate() {
        for (slot, number) in owners.iter().enumerate().filter(|(_, o)| **o != FREE) {
            let entry = &entries[*number as usize];
            let at = shape.key_word(line as u32, slot);
            // One to four words: less than a call to copy them.
            words[at..].iter_mut().zip(entry.key).take(shape.keys.words()).for_each(|(to, from)| *to = from);
            words[shape.value_word(line as u32, slot)] = entry.value;
            let first = lines.of(*number, 0);
            if first as usize != line {
                words[first as usize * LINE_WORDS + OVERFLOW] = 1;
            }
        }
    }
    Some(words)
}

/// Gives an entry a free slot of a line, if there is one.
fn take(slots: usize, owner: &mut [u32], line: u32, entry: u32) -> bool {
    let line = &mut owner[line as usize * slots..][..slots];
    let free = line.iter_mut().find(|owner| **owner == FREE);
    free.map(|owner| *owner = entry).is_some()
}

/// Gives an entry a slot, moving others as it takes.
fn settle(lines: &Lines<'_>, slots: usize, owner: &mut [u32], entry: u32) -> Option<()> {
    let mut entry = entry;
    let mut avoid = u32::MAX;
    for turn in 0..MOVES {
        let first = lines.of(entry, 0);
        if take(slots, owner, first, entry) {
            return Some(());
        }
        let second = lines.of(entry, 1);
        if take(slots, owner, second, entry) {
            return Some(());
        }
        // Both are full: one key of the line that this one was not driven from
        // has to go to its other line.
        let line = if first == avoid { second } else { first };
        let victim =
            line as usize * slots + (mix(u64::from(turn) ^ u64::from(entry)) % slots as u64) as usize;
        avoid = line;
        std::mem::swap(&mut owner[victim], &mut entry);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a key's value is that is not 0.
    fn find(shape: &Shape, words: &[u32], entry: &Entry) -> Option<usize> {
        let lines = (0..2).map(|which| shape.line(&entry.key, which, entry.length));
        let mut slots = lines.flat_map(|line| (0..shape.keys.slots()).map(move |slot| (line, slot)));
        let found = slots.find(|(line, slot)| {
            shape.key(words, *line, *slot) == entry.key && words[shape.value_word(*line, *slot)] != 0
        });
        found.map(|(line, slot)| shape.value_word(line, slot))
    }

    fn entries(keys: Keys, n: u32, spread: impl Fn(u32) -> Key) -> Vec<Entry> {
        (0..n)
            .map(|i| {
                let mut key = spread(i);
                key[keys.words()..].fill(0);
                Entry { key, length: 128, value: i + 1 }
            })
            .collect()
    }

    #[test]
    fn every_key_is_found_with_its_value() {
        let spreads: [fn(u32) -> Key; 3] = [
            |i| [i.swap_bytes(), 0, 0, i.swap_bytes()],
            |i| [i.wrapping_mul(0x9e37_79b9), i, i.rotate_left(7), !i],
            |i| [i << 16, 0, i << 20, 5],
        ];
        for keys in [Keys::Word, Keys::Half, Keys::Full] {
            for (s, spread) in spreads.iter().enumerate() {
                for n in [0, 1, 5, 100, 3_000] {
                    let all = entries(keys, n, spread);
                    let (shape, words) = build(keys, u64::from(n), &all).unwrap();
                    for e in &all {
                        let at = find(&shape, &words, e);
                        assert_eq!(at.map(|at| words[at]), Some(e.value), "{keys:?} {s} {n}");
                    }
                    assert_eq!(shape.lines as usize * LINE_WORDS, words.len());
                }
            }
        }
    }

    #[test]
    fn a_key_outside_its_first_line_is_announced_there() {
        let all = entries(Keys::Full, 5_000, |i| [mix(u64::from(i)) as u32, 0, 0, i]);
        let (shape, words) = build(Keys::Full, 8_000, &all).unwrap();
        let mut moved = 0;
        for e in &all {
            let first = shape.line(&e.key, 0, e.length);
            let at = find(&shape, &words, e).unwrap();
            if at / LINE_WORDS != first as usize {
                assert_ne!(words[first as usize * LINE_WORDS + OVERFLOW], 0);
                moved += 1;
            }
        }
        assert!((1..500).contains(&moved), "{moved}");
    }

    #[test]
    fn the_zero_prefixes_of_all_lengths_find_room() {
        for keys in [Keys::Half, Keys::Full] {
            let all: Vec<Entry> =
                (0..65).map(|length| Entry { key: [0; 4], length, value: u32::from(length) + 1 }).collect();
            assert!(build(keys, 65, &all).is_some(), "{keys:?}");
        }
    }

    #[test]
    fn keys_that_cannot_be_told_apart_do_not_fit() {
        let all = entries(Keys::Word, 15, |_| [7, 0, 0, 0]);
        assert_eq!(build(Keys::Word, 15, &all), None);
    }

    /// Pods as clusters number them: a /64 for each node, hosts from 1.
    #[test]
    fn dense_pods_find_places() {
        for (nodes, hosts) in [(1, 250), (4, 256), (40, 256), (256, 1), (1_000, 30)] {
            let lines_of = |shape: &Shape| {
                let mut used = std::collections::BTreeSet::new();
                for node in 0..nodes {
                    for host in 0..hosts {
                        let address = (0xfd00_0010_u128 << 96) | (node << 64) | (host + 1);
                        used.insert(shape.line(&super::super::lengths::key(address), 0, 128));
                    }
                }
                used.len() as u32
            };
            let shape = Shape::new(Keys::Full, (nodes * hosts) as u64, 0);
            let used = lines_of(&shape);
            assert!(used * 2 > shape.lines, "{nodes} x {hosts}: {used} of {} lines", shape.lines);
        }
    }
}
