//! Which tables there are and how large: all that look-up code depends on.

use serde::{Deserialize, Serialize};

use super::trie::Strides;
use super::{AddressError, AddressLimits, Prefixes, buckets, lengths, trie};
use crate::bpf::Values;
use crate::cost::Work;
use crate::image::MapSpec;

/// Hosts that a table has room for beyond those that are there, at least and at
/// most: a quarter of them, within these.
const ROOM: std::ops::RangeInclusive<u64> = 32..=65_536;
/// Likewise for a trie's chunks: an eighth.
const CHUNK_ROOM: std::ops::RangeInclusive<u64> = 8..=1_024;
/// Likewise for classes: an eighth.
const CLASS_ROOM: std::ops::RangeInclusive<u32> = 32..=65_536;
/// Bytes of a narrow trie above which another one is worth its root.
const NARROW_TRIE: u64 = 64 << 10;
/// Bytes of a wide trie above which a sparse one is taken if it is smaller by a third: it
/// has two steps more, but what it saves stays in the cache.
const WIDE_TRIE: u64 = 1 << 20;
/// Hosts share the trie of prefixes while it takes at most this many times the bytes
/// that a table of their own would.
const DENSE: u64 = 2;

/// One of the tables, in the order of their maps.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    /// IPv4 addresses.
    Hosts4,
    /// IPv4 prefixes.
    Nets4,
    /// IPv6 addresses.
    Hosts6,
    /// IPv6 prefixes and markers.
    Nets6,
}

impl Table {
    pub const ALL: [Self; 4] = [Self::Hosts4, Self::Nets4, Self::Hosts6, Self::Nets6];

    /// The map's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hosts4 => "polc_hosts4",
            Self::Nets4 => "polc_nets4",
            Self::Hosts6 => "polc_hosts6",
            Self::Nets6 => "polc_nets6",
        }
    }
}

/// The IPv6 prefixes' table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Nets6 {
    pub buckets: buckets::Shape,
    /// Prefix lengths that the code searches, ascending.
    pub lengths: Vec<u8>,
}

/// Which tables there are and how large. Two policies with equal layouts have the
/// same look-up code; members may change within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressLayout {
    pub(super) hosts4: Option<buckets::Shape>,
    pub(super) nets4: Option<trie::Shape>,
    pub(super) hosts6: Option<buckets::Shape>,
    pub(super) nets6: Option<Nets6>,
    /// At most 2^24.
    pub(super) classes: u32,
    /// Most bytes of a table that is addressed directly.
    pub(super) max_direct: u64,
}

impl AddressLayout {
    /// Classes that there is room for: ids are less than this.
    pub fn class_capacity(&self) -> u32 {
        self.classes
    }

    /// Number of maps.
    pub fn map_count(&self) -> u32 {
        Table::ALL.into_iter().filter(|t| self.map_words(*t).is_some()).count() as u32
    }

    /// Bytes of all maps.
    pub fn bytes(&self) -> u64 {
        Table::ALL.into_iter().filter_map(|t| self.map_words(t)).sum::<u64>() * 4
    }

    /// What a look-up does: that of the family that takes more instructions.
    pub(crate) fn work(&self) -> Work {
        let bytes = |table| self.map_words(table).map_or(0, |words| words * 4);
        let mut v4 = Work { insns: 4, ..Work::default() };
        if self.hosts4.is_some() {
            v4 = v4.and(Work { insns: 28, reads: vec![bytes(Table::Hosts4)], branches: 60 });
        }
        if let Some(trie) = self.nets4 {
            let (insns, steps) = match (trie.strides, trie.homes) {
                (Strides::Narrow, [None, _]) => (28, 3),
                (Strides::Narrow | Strides::Wide, [Some(_), _]) => (20, 2),
                (Strides::Wide, [None, _]) => (23, 2),
                (Strides::Sparse, _) => (44, 4),
            };
            v4 = v4.and(Work { insns, reads: vec![bytes(Table::Nets4); steps], branches: 60 });
        }
        let mut v6 = Work { insns: 4, ..Work::default() };
        if self.hosts6.is_some() {
            v6 = v6.and(Work { insns: 30, reads: vec![bytes(Table::Hosts6)], branches: 60 });
        }
        if let Some(nets) = &self.nets6 {
            let steps = (nets.lengths.len() as u32 + 1).next_power_of_two().trailing_zeros();
            let reads = vec![bytes(Table::Nets6); steps as usize];
            v6 = v6.and(Work { insns: 46 * steps, reads, branches: 90 * steps });
        }
        if v4.insns >= v6.insns { v4 } else { v6 }
    }

    /// A table's place among the maps.
    pub(super) fn map(&self, table: Table) -> Option<u32> {
        self.map_words(table)?;
        Some(Table::ALL.into_iter().filter(|t| *t < table && self.map_words(*t).is_some()).count() as u32)
    }

    /// A table's size in 4-byte words; `None` without that table.
    pub(super) fn map_words(&self, table: Table) -> Option<u64> {
        let lines = |shape: &buckets::Shape| u64::from(shape.lines) * buckets::LINE_WORDS as u64;
        match table {
            Table::Hosts4 => self.hosts4.as_ref().map(lines),
            Table::Nets4 => self.nets4.map(|t| t.bytes() / 4),
            Table::Hosts6 => self.hosts6.as_ref().map(lines),
            Table::Nets6 => self.nets6.as_ref().map(|n| {
                let tree =
                    if lengths::is_data(&n.lengths) { n.lengths.len() * buckets::LINE_WORDS } else { 0 };
                lines(&n.buckets) + tree as u64
            }),
        }
    }

    /// A table's map as code refers to it, if the first one is private map `first`.
    pub(super) fn values(&self, table: Table, first: u32) -> Option<Values> {
        let (words, map) = (self.map_words(table)?, self.map(table)?);
        Some(self.spec(table, words, Vec::new()).values(first + map))
    }

    /// A table's map, which begins with `dense`.
    pub(super) fn spec(&self, table: Table, words: u64, dense: Vec<u8>) -> MapSpec {
        let size = self.value_words(table);
        let count = u32::try_from(words / u64::from(size)).unwrap_or(u32::MAX);
        MapSpec::array(table.name(), size * 4, count, dense, self.max_direct)
    }

    /// Words of one value of a table's map.
    pub(super) fn value_words(&self, table: Table) -> u32 {
        match (table, self.nets4) {
            (Table::Nets4, Some(shape)) => shape.strides.chunk() as u32,
            _ => buckets::LINE_WORDS as u32,
        }
    }
}

/// What the layout of the IPv4 tables is to be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan4 {
    /// Addresses stand in buckets, with room for this many.
    pub hosts: Option<u64>,
    /// There is a trie; of hosts as well if they do not stand in buckets.
    pub trie: Option<trie::Shape>,
}

/// Hosts to plan for. Where none can come there is some air, which keeps hosts in
/// their first line.
///
/// Where more can come the number is rounded up, in steps of an eighth to a quarter,
/// so that a policy which is compiled again for a few members more or less has the
/// same layout, and with it the same code.
pub(super) fn room(now: u64, open: bool) -> u64 {
    if !open {
        return now + (now / 2).min(*ROOM.end());
    }
    rounded(now + (now / 4).clamp(*ROOM.start(), *ROOM.end()), 8)
}

/// The next multiple of a `steps`th of the next power of two.
fn rounded(planned: u64, steps: u64) -> u64 {
    planned.next_multiple_of((planned.next_power_of_two() / steps).max(1))
}

/// Prefixes go to a trie. So do hosts where they lie close to each other: then one
/// look-up finds both. Scattered ones go to buckets.
pub(super) fn plan4(prefixes: &Prefixes<u32>, open: bool) -> Plan4 {
    let all = prefixes.iter().map(|(network, length, _)| (*network, *length));
    let nets = all.clone().filter(|(_, length)| *length < 32);
    let (count, hosts) = (prefixes.len() as u64, (prefixes.len() - nets.clone().count()) as u64);
    if count == 0 && !open {
        return Plan4 { hosts: None, trie: None };
    }
    let apart = (hosts < count).then(|| trie_of(nets, open));
    let together = trie_of(all, open);
    let room = room(hosts, open);
    let buckets = u64::from(buckets::Shape::new(buckets::Keys::Word, room, 0).lines) * 64;
    if hosts == 0 && !open {
        return Plan4 { hosts: None, trie: apart };
    }
    if together.bytes() <= NARROW_TRIE.max(DENSE * (buckets + apart.map_or(0, trie::Shape::bytes))) {
        return Plan4 { hosts: None, trie: Some(together) };
    }
    Plan4 { hosts: Some(room), trie: apart }
}

/// The shape of a trie for these prefixes: the fewest steps within bounds on its bytes.
fn trie_of(prefixes: impl Iterator<Item = (u32, u8)> + Clone, open: bool) -> trie::Shape {
    let homes = trie::homes(prefixes.clone());
    let with_room = |strides: Strides| {
        let shape = trie::Shape { strides, homes, chunks: 0 };
        let chunks = trie::chunks_needed(prefixes.clone(), shape);
        let more = ((chunks - u64::from(shape.least())) / 8).clamp(*CHUNK_ROOM.start(), *CHUNK_ROOM.end());
        let chunks = if open { rounded(chunks + more, 16) } else { chunks };
        trie::Shape { chunks: u32::try_from(chunks).unwrap_or(u32::MAX), ..shape }
    };
    let narrow = with_room(Strides::Narrow);
    if narrow.bytes() <= NARROW_TRIE {
        return narrow;
    }
    let wide = with_room(Strides::Wide);
    if wide.bytes() <= WIDE_TRIE {
        return wide;
    }
    let sparse = with_room(Strides::Sparse);
    if wide.bytes() * 2 <= sparse.bytes() * 3 { wide } else { sparse }
}

/// Classes to plan for: an eighth more than there are.
pub(super) fn class_capacity(classes: usize) -> Result<u32, AddressError> {
    let max = 1 << lengths::CLASS_BITS;
    let too_many = AddressError::TooManyClasses { given: classes as u64, max };
    let needed = u32::try_from(classes).ok().filter(|c| *c <= max).ok_or(too_many)?;
    let planned = needed + (needed / 8).clamp(*CLASS_ROOM.start(), *CLASS_ROOM.end());
    Ok(rounded(planned.into(), 16).min(max.into()) as u32)
}

/// Checks every map's size.
pub(super) fn check(layout: &AddressLayout, limits: &AddressLimits) -> Result<(), AddressError> {
    for table in Table::ALL {
        let Some(words) = layout.map_words(table) else { continue };
        let map = table.name();
        let (bytes, values) = (words * 4, words / u64::from(layout.value_words(table)));
        // A leaf of the trie has 31 bits to say where a chunk is.
        let max_bytes = limits.max_table_bytes.min(1 << 31);
        if values > u64::from(limits.max_entries) {
            return Err(AddressError::TooManyEntries { map, given: values, max: limits.max_entries });
        }
        if bytes > max_bytes {
            return Err(AddressError::TableTooLarge { map, given: bytes, max: max_bytes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_more_seldom_changes_the_layout() {
        let changes = (0..10_000).filter(|n| room(*n, true) != room(n + 1, true)).count();
        assert!((10..50).contains(&changes), "{changes}");
        for n in [0, 1, 31, 32, 33, 1_000, 65_536, 1_000_000] {
            let more = n + (n / 4).clamp(32, 65_536);
            let (least, most) = (more, 1 + more * 5 / 4);
            assert!((least..=most).contains(&room(n, true)), "{n}: {}", room(n, true));
        }
    }
}
