//! Which tables there are and how large: all that look-up code depends on.

use serde::{Deserialize, Serialize};

use super::{AddressError, AddressLimits, Prefixes, buckets, lengths, trie};

/// Hosts that a table has room for beyond those that are there, at most and at
/// least: as many again, within these.
const ROOM: std::ops::RangeInclusive<u64> = 32..=65_536;
/// Likewise for a trie's chunks.
const CHUNK_ROOM: std::ops::RangeInclusive<u64> = 8..=1_024;
/// Classes that tables have room for at least.
const LEAST_CLASSES: u32 = 64;
/// Bytes of a narrow trie above which a wide one is worth its root.
const NARROW_TRIE: u64 = 48 << 10;

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
    /// A power of two, at most 2^24.
    pub(super) classes: u32,
}

impl AddressLayout {
    /// Classes that there is room for; look-ups give less than this. A power of two.
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
            Table::Nets4 => self.nets4.map(|t| u64::from(t.chunks) * trie::Shape::chunk(t.wide) as u64),
            Table::Hosts6 => self.hosts6.as_ref().map(lines),
            Table::Nets6 => self.nets6.as_ref().map(|n| {
                let tree =
                    if lengths::is_data(&n.lengths) { n.lengths.len() * buckets::LINE_WORDS } else { 0 };
                lines(&n.buckets) + tree as u64
            }),
        }
    }

    /// Words of one value of a table's map.
    pub(super) fn value_words(&self, table: Table) -> u32 {
        match (table, self.nets4) {
            (Table::Nets4, Some(shape)) => trie::Shape::chunk(shape.wide) as u32,
            _ => buckets::LINE_WORDS as u32,
        }
    }
}

/// What the layout of the IPv4 tables is to be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan4 {
    /// Addresses stand in buckets, with room for this many.
    pub hosts: Option<u64>,
    /// There is a trie, with room for this many chunks.
    pub trie: Option<(bool, u64)>,
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
    let planned = now + now.clamp(*ROOM.start(), *ROOM.end());
    planned.next_multiple_of(planned.next_power_of_two() / 8)
}

/// Addresses go to buckets, prefixes to a trie.
pub(super) fn plan4(prefixes: &Prefixes<u32>, open: bool) -> Plan4 {
    let hosts = prefixes.iter().filter(|(_, length, _)| *length == 32).count();
    let nets =
        prefixes.iter().filter(|(_, length, _)| *length < 32).map(|(network, length, _)| (*network, *length));
    Plan4 {
        hosts: (hosts > 0 || open).then(|| room(hosts as u64, open)),
        trie: (hosts < prefixes.len()).then(|| trie_of(nets, open)),
    }
}

/// Root and chunks of a trie for these prefixes.
fn trie_of(prefixes: impl Iterator<Item = (u32, u8)> + Clone, open: bool) -> (bool, u64) {
    let room = |chunks: u64, root: u64| {
        let more = chunks - root;
        if open { chunks + more.clamp(*CHUNK_ROOM.start(), *CHUNK_ROOM.end()) } else { chunks }
    };
    let narrow = trie::chunks_needed(prefixes.clone(), false);
    if narrow * trie::Shape::chunk(false) as u64 * 4 <= NARROW_TRIE {
        return (false, room(narrow, u64::from(trie::Shape::root_chunks(false))));
    }
    (true, room(trie::chunks_needed(prefixes, true), u64::from(trie::Shape::root_chunks(true))))
}

/// Classes to plan for: a power of two with at least half as many again.
pub(super) fn class_capacity(classes: usize) -> Result<u32, AddressError> {
    let max = 1 << lengths::CLASS_BITS;
    let too_many = AddressError::TooManyClasses { given: classes as u64, max };
    let needed = u32::try_from(classes).ok().filter(|c| *c <= max).ok_or(too_many)?;
    Ok((needed + needed / 2).clamp(LEAST_CLASSES, max).next_power_of_two())
}

/// Checks every map's size.
pub(super) fn check(layout: &AddressLayout, limits: &AddressLimits) -> Result<(), AddressError> {
    for table in Table::ALL {
        let Some(words) = layout.map_words(table) else { continue };
        let map = table.name();
        let (bytes, values) = (words * 4, words / u64::from(layout.value_words(table)));
        if values > u64::from(limits.max_entries) {
            return Err(AddressError::TooManyEntries { map, given: values, max: limits.max_entries });
        }
        if bytes > limits.max_table_bytes {
            return Err(AddressError::TableTooLarge { map, given: bytes, max: limits.max_table_bytes });
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
            let (least, most) = (n + n.clamp(32, 65_536), 1 + (n + n.clamp(32, 65_536)) * 5 / 4);
            assert!((least..=most).contains(&room(n, true)), "{n}: {}", room(n, true));
        }
    }
}
