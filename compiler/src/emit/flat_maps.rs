//! Private maps of a flat image, behind those of addresses.
//!
//! | map | value |
//! |---|---|
//! | `polc_ports` | 256 `u16`: directories, indices and pages |
//! | `polc_pairs` | 256 `u16`: columns by source and destination number; with source ports |
//! | `polc_defaults` | 256 `u32`: words by column; not with dense cells |
//! | `polc_cells` | dense: a class's words by column; sparse: a bucket of four slots |
//! | `polc_columns` | cross: a column's record |
//! | `polc_sides` | cross: ids by class, one or two bytes each |
//! | `polc_cross` | cross: 256 words |
//! | `polc_records` | bits: what a column does with a block |
//! | `polc_rows` | bits: a class's vectors; if addresses matter |
//! | `polc_blocks` | bits: what the item of each bit of a block does |
//! | `polc_outcomes` | decision, logged, last log decision, 0; if rules log or pass |
//! | `polc_hits` | counter of an outcome, per CPU |

use crate::dispatch::cells::{Cells, SLOTS, Table};
use crate::dispatch::cross::Cross;
use crate::dispatch::outcome::{Outcomes, Word};
use crate::dispatch::ports::PAGE;
use crate::dispatch::{Dispatch, Tables};
use crate::image::{F_MMAPABLE, HITS_MAP, MapKind, MapSpec};

/// Where the maps are among the private maps.
#[derive(Copy, Clone, Debug)]
pub(super) struct FlatMaps {
    /// `polc_ports`; `polc_pairs` follows it.
    pub ports: u32,
    /// First map of the form; the others follow in the table's order.
    pub form: u32,
    pub outcomes: Option<u32>,
    pub hits: Option<u32>,
}

/// The maps, the first of which has number `first`.
pub(super) fn maps(dispatch: &Dispatch, first: u32, classes: u32, count: bool) -> (FlatMaps, Vec<MapSpec>) {
    let mut maps: Vec<MapSpec> = Vec::new();
    let next = |maps: &Vec<MapSpec>| first + maps.len() as u32;
    let ports = next(&maps);
    let pages = dispatch.ports.pages.iter().flatten().copied();
    maps.push(array("polc_ports", PAGE as u32 * 2, narrow(pages)));
    if dispatch.ports.width > 0 {
        maps.push(array("polc_pairs", PAGE as u32 * 2, narrow(dispatch.ports.pairs.iter().copied())));
    }
    let form = next(&maps);
    match &dispatch.tables {
        Tables::Cells(cells) => push_cells(&mut maps, cells, classes),
        Tables::Bits(bits) => super::bits::push_maps(&mut maps, bits, dispatch.outcomes.are_narrow()),
        Tables::Cross(cross) => push_cross(&mut maps, cross, dispatch.outcomes.are_narrow(), classes),
    }
    let has_complex = !dispatch.outcomes.complex().is_empty();
    let outcomes = has_complex.then(|| next(&maps));
    if has_complex {
        maps.push(array("polc_outcomes", 16, records(&dispatch.outcomes)));
    }
    let hits = count.then(|| next(&maps));
    if count {
        maps.push(counters(dispatch.outcomes.count()));
    }
    (FlatMaps { ports, form, outcomes, hits }, maps)
}

fn push_cells(maps: &mut Vec<MapSpec>, cells: &Cells, classes: u32) {
    if !matches!(cells.table, Table::Dense { .. }) {
        maps.push(array("polc_defaults", PAGE as u32 * 4, wide(&cells.defaults)));
    }
    match &cells.table {
        Table::None => {}
        Table::Dense { words, narrow } => maps.push(dense(words, cells.defaults.len(), *narrow, classes)),
        Table::Sparse { slots, .. } => {
            let bytes = slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
            maps.push(array("polc_cells", SLOTS as u32 * 8, bytes));
        }
    }
}

fn push_cross(maps: &mut Vec<MapSpec>, cross: &Cross, is_narrow: bool, classes: u32) {
    let records = cross.records.iter().flat_map(|r| [r.src, r.dst, r.base, r.width]);
    maps.push(array("polc_columns", 16, records.flat_map(u32::to_le_bytes).collect()));
    let id = if cross.short { 1 } else { 2 };
    let size = (classes as usize * id).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(cross.rows.len() * size);
    for row in &cross.rows {
        let end = bytes.len() + size;
        match cross.short {
            true => bytes.extend(row.iter().map(|id| *id as u8)),
            false => bytes.extend(narrow(row.iter().copied())),
        }
        bytes.resize(end, 0);
    }
    maps.push(array("polc_sides", size as u32, bytes));
    let words = match is_narrow {
        true => narrow(cross.words.iter().map(|word| word.0 as u16)),
        false => wide(&cross.words),
    };
    maps.push(array("polc_cross", PAGE as u32 * if is_narrow { 2 } else { 4 }, words));
}

/// The counters of this many outcomes.
pub(super) fn counters(outcomes: u32) -> MapSpec {
    MapSpec {
        name: HITS_MAP.into(),
        kind: MapKind::PerCpuArray,
        key_size: 4,
        value_size: 8,
        max_entries: outcomes.max(1),
        flags: 0,
        entries: Vec::new(),
        dense: Vec::new(),
    }
}

/// An array that holds these bytes, the last value filled up with zeros.
pub(super) fn array(name: &str, value_size: u32, mut bytes: Vec<u8>) -> MapSpec {
    let values = bytes.len().div_ceil(value_size as usize).max(1);
    bytes.resize(values * value_size as usize, 0);
    MapSpec {
        name: name.into(),
        kind: MapKind::Array,
        key_size: 4,
        value_size,
        max_entries: values as u32,
        flags: F_MMAPABLE,
        entries: Vec::new(),
        dense: bytes,
    }
}

/// A value per class, with room for `classes` of them.
fn dense(words: &[Word], columns: usize, is_narrow: bool, classes: u32) -> MapSpec {
    let size = (columns * if is_narrow { 2 } else { 4 }).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(words.len().div_ceil(columns.max(1)) * size);
    for row in words.chunks_exact(columns) {
        let start = bytes.len();
        match is_narrow {
            true => bytes.extend(narrow(row.iter().map(|word| word.0 as u16))),
            false => bytes.extend(wide(row)),
        }
        bytes.resize(start + size, 0);
    }
    MapSpec { max_entries: classes, ..array("polc_cells", size as u32, bytes) }
}

fn records(outcomes: &Outcomes) -> Vec<u8> {
    let record = |complex: &crate::dispatch::outcome::Complex| {
        let last = complex.logged.last().map_or(crate::abi::NO_DECISION, |decision| decision.as_u32());
        [complex.decision.as_u32(), complex.logged.len() as u32, last, 0]
    };
    outcomes.complex().iter().flat_map(record).flat_map(u32::to_le_bytes).collect()
}

fn narrow(values: impl Iterator<Item = u16>) -> Vec<u8> {
    values.flat_map(u16::to_le_bytes).collect()
}

fn wide(words: &[Word]) -> Vec<u8> {
    words.iter().flat_map(|word| word.0.to_le_bytes()).collect()
}
