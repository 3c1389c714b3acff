//! Private maps of a chain: address tables, rows, counters, the program array.
//!
//! | map | key | value |
//! |---|---|---|
//! | `polc_addr4` | prefix length, 4 bytes of address | class, `u32` |
//! | `polc_addr6` | prefix length, 16 bytes of address | class, `u32` |
//! | `polc_rows` | class, `u32` | bit i: the class is in set i; `u64` words |
//! | `polc_hits` | decision, `u32` | counter per CPU; with [`EmitOptions::count`] |
//! | `polc_sub` | segment, `u32` | program |
//!
//! Both sides share the tables. Capacities leave room, so that members can come
//! without a new program: twice what is needed now, as a power of two, at least
//! 256 addresses and 64 classes. Policies without sets have no tables.
//!
//! Tries and rows are fixed: a chain whose members change is replaced as a whole
//! (`crate::live`).

use super::sets::SetTests;
use super::{EmitError, EmitOptions};
use crate::image::{F_NO_PREALLOC, MapKind, MapSpec, SUB_PROGS_MAP};
use crate::passes::AddressClasses;

/// Index of the IPv4 table among the private maps, where there are sets.
pub(super) const ADDR4: u32 = 0;
/// Index of the IPv6 table.
pub(super) const ADDR6: u32 = 1;
/// Index of the rows.
pub(super) const ROWS: u32 = 2;

const LEAST_LEAVES: u64 = 256;
const LEAST_ROWS: u64 = 64;

const ADDR4_MAP: &str = "polc_addr4";
const ADDR6_MAP: &str = "polc_addr6";
const ROWS_MAP: &str = "polc_rows";

/// Index of the program array among the private maps.
pub(super) fn sub_programs(sets: SetTests<'_>, options: &EmitOptions) -> u32 {
    sets.hits() + u32::from(options.count)
}

/// The private maps with their contents.
pub(super) fn maps(
    sets: SetTests<'_>,
    programs: usize,
    decisions: usize,
    options: &EmitOptions,
) -> Result<Vec<MapSpec>, EmitError> {
    let mut maps = Vec::new();
    if let SetTests::Rows(classes) = sets
        && !classes.sets.is_empty()
    {
        let v4 = classes.v4.iter().map(|(net, class)| {
            (key(net.prefix_len(), &net.network().octets()), class.as_u32().to_le_bytes().to_vec())
        });
        maps.push(leaves(ADDR4_MAP, 8, v4.collect(), options)?);
        let v6 = classes.v6.iter().map(|(net, class)| {
            (key(net.prefix_len(), &net.network().octets()), class.as_u32().to_le_bytes().to_vec())
        });
        maps.push(leaves(ADDR6_MAP, 20, v6.collect(), options)?);
        maps.push(rows(classes, options)?);
    }
    if options.count {
        maps.push(super::flat_maps::counters(decisions as u32));
    }
    if programs > 1 {
        maps.push(MapSpec {
            name: SUB_PROGS_MAP.into(),
            kind: MapKind::ProgArray,
            key_size: 4,
            value_size: 4,
            max_entries: programs as u32,
            flags: 0,
            entries: Vec::new(),
            dense: Vec::new(),
            direct: false,
            fixed: false,
        });
    }
    Ok(maps)
}

/// A trie's key: prefix length in the machine's order, then the address.
fn key(length: u8, address: &[u8]) -> Vec<u8> {
    let mut key = u32::from(length).to_le_bytes().to_vec();
    key.extend_from_slice(address);
    key
}

fn leaves(
    name: &'static str,
    key_size: u32,
    mut entries: Vec<(Vec<u8>, Vec<u8>)>,
    options: &EmitOptions,
) -> Result<MapSpec, EmitError> {
    entries.sort_unstable();
    Ok(MapSpec {
        name: name.into(),
        kind: MapKind::LpmTrie,
        key_size,
        value_size: 4,
        max_entries: capacity(name, entries.len(), LEAST_LEAVES, key_size + 4, options)?,
        flags: F_NO_PREALLOC,
        entries,
        dense: Vec::new(),
        direct: false,
        fixed: true,
    })
}

fn rows(classes: &AddressClasses, options: &EmitOptions) -> Result<MapSpec, EmitError> {
    let value_size = classes.words() as u32 * 8;
    let entries = classes.classes().filter(|class| !classes.sets_of(*class).is_empty());
    let entries = entries.map(|class| {
        let value = classes.row(class).iter().flat_map(|word| word.to_le_bytes()).collect();
        (class.as_u32().to_le_bytes().to_vec(), value)
    });
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = entries.collect();
    entries.sort_unstable();
    Ok(MapSpec {
        name: ROWS_MAP.into(),
        kind: MapKind::Array,
        key_size: 4,
        value_size,
        max_entries: capacity(ROWS_MAP, classes.len(), LEAST_ROWS, value_size, options)?,
        flags: 0,
        entries,
        dense: Vec::new(),
        direct: false,
        fixed: true,
    })
}

/// Entries with room to grow; without it where only that breaks a limit.
fn capacity(
    map: &'static str,
    needed: usize,
    least: u64,
    entry_bytes: u32,
    options: &EmitOptions,
) -> Result<u32, EmitError> {
    let needed = needed as u64;
    let by_bytes = options.max_table_bytes / u64::from(entry_bytes.max(1));
    if needed > u64::from(options.max_entries) {
        return Err(EmitError::TooManyEntries { map, given: needed, max: options.max_entries });
    }
    if needed > by_bytes {
        let given = needed * u64::from(entry_bytes);
        return Err(EmitError::TableTooLarge { map, given, max: options.max_table_bytes });
    }
    let roomy = (needed * 2).max(least).next_power_of_two();
    Ok(roomy.min(u64::from(options.max_entries)).min(by_bytes) as u32)
}
