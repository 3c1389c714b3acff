//! Private maps of a flat image, behind those of addresses.
//!
//! | map | value |
//! |---|---|
//! | `polc_ports` | 256 `u16`: directories, indices and pages |
//! | `polc_pairs` | 256 `u16`: columns by source and destination number; with source ports |
//! | `polc_defaults` | 256 `u32`: words by column, where no address matters |
//! | `polc_bases` | sparse cells: 256 `u32`, base of the row by class |
//! | `polc_cells` | dense: a class's words by column; sparse: 256 entries, word and base |
//! | `polc_columns` | cross: a column's record |
//! | `polc_sides` | cross: ids by class, one or two bytes each |
//! | `polc_cross` | cross: 256 words |
//! | `polc_records` | bits: what a column does with a block |
//! | `polc_rows` | bits: a class's vectors; if addresses matter |
//! | `polc_blocks` | bits: what the item of each bit of a block does |
//! | `polc_outcomes` | decision, logged, last log decision, 0; if rules log or pass |
//! | `polc_hits` | counter of an outcome, per CPU |
//!
//! What is there for each class (bases, cells, sides, rows) changes when classes come; all
//! others but the counters are fixed.

use super::bits;
use crate::bpf::Values;
use crate::dispatch::cells::{Cells, Table};
use crate::dispatch::comb::Entry;
use crate::dispatch::cross::Cross;
use crate::dispatch::outcome::{Outcomes, Word};
use crate::dispatch::ports::PAGE;
use crate::dispatch::{Dispatch, Tables};
use crate::image::{HITS_MAP, MapKind, MapSpec, put_words};

/// The maps that code refers to.
#[derive(Clone, Debug)]
pub(super) struct FlatMaps {
    pub ports: Values,
    /// With source ports.
    pub pairs: Option<Values>,
    pub form: FormMaps,
    /// Number of the form's first map.
    pub first: u32,
    pub outcomes: Option<Values>,
    /// Number of the counters.
    pub hits: Option<u32>,
}

/// The maps of a form.
#[derive(Copy, Clone, Debug)]
pub(super) enum FormMaps {
    None { defaults: Values },
    Dense { words: Values },
    Sparse { bases: Values, entries: Values },
    Cross { columns: Values, sides: Values, words: Values },
    Bits { records: Values, rows: Option<Values>, blocks: Values },
}

/// Maps as they come up.
pub(super) struct Maps {
    /// Number of the first one among the private maps.
    first: u32,
    specs: Vec<MapSpec>,
    max_direct: u64,
}

impl Maps {
    fn next(&self) -> u32 {
        self.first + self.specs.len() as u32
    }

    fn push(&mut self, spec: MapSpec) -> u32 {
        let number = self.next();
        self.specs.push(spec);
        number
    }

    /// An array with `count` values of `size` bytes at least that begins with these bytes,
    /// and which `dispatch::live` stores to when a class gets contents.
    pub fn array(&mut self, name: &str, size: u32, count: u32, dense: Vec<u8>) -> Values {
        self.push_array(MapSpec::array(name, size, count, dense, self.max_direct))
    }

    /// An array of these bytes that says nothing about classes.
    pub fn fixed(&mut self, name: &str, size: u32, dense: Vec<u8>) -> Values {
        let spec = MapSpec::array(name, size, 0, dense, self.max_direct);
        self.push_array(MapSpec { fixed: true, ..spec })
    }

    fn push_array(&mut self, spec: MapSpec) -> Values {
        let values = spec.values(self.next());
        self.push(spec);
        values
    }
}

/// What the maps depend on beside the tables.
#[derive(Copy, Clone, Debug)]
pub(super) struct Layout {
    /// Number of the first map.
    pub first: u32,
    /// Address classes that there is room for.
    pub classes: u32,
    /// Whether outcomes are counted.
    pub count: bool,
    /// Most bytes of a map that is addressed directly.
    pub max_direct: u64,
}

/// The maps, with what code calls them.
pub(super) fn maps(dispatch: &Dispatch, layout: Layout) -> (FlatMaps, Vec<MapSpec>) {
    let mut maps = Maps { first: layout.first, specs: Vec::new(), max_direct: layout.max_direct };
    let pages = dispatch.ports.pages.iter().flatten().copied();
    let ports = maps.fixed("polc_ports", PAGE as u32 * 2, narrow(pages));
    let pairs = (dispatch.ports.width > 0)
        .then(|| maps.fixed("polc_pairs", PAGE as u32 * 2, narrow(dispatch.ports.pairs.iter().copied())));
    let is_narrow = dispatch.outcomes.are_narrow();
    let first = maps.next();
    let form = match &dispatch.tables {
        Tables::Cells(cells) => cells_maps(&mut maps, cells, layout.classes),
        Tables::Bits(bits) => bits::maps(&mut maps, bits, is_narrow),
        Tables::Cross(cross) => cross_maps(&mut maps, cross, is_narrow, layout.classes),
    };
    let has_complex = !dispatch.outcomes.complex().is_empty();
    let outcomes = has_complex.then(|| maps.fixed("polc_outcomes", 16, records(&dispatch.outcomes)));
    let hits = layout.count.then(|| maps.push(counters(dispatch.outcomes.count())));
    (FlatMaps { ports, pairs, form, first, outcomes, hits }, maps.specs)
}

fn cells_maps(maps: &mut Maps, cells: &Cells, classes: u32) -> FormMaps {
    match &cells.table {
        Table::None => {
            FormMaps::None { defaults: maps.fixed("polc_defaults", PAGE as u32 * 4, wide(&cells.defaults)) }
        }
        Table::Dense { words, narrow } => {
            FormMaps::Dense { words: dense(maps, words, cells.defaults.len(), *narrow, classes) }
        }
        Table::Sparse(comb) => {
            let pages = classes.div_ceil(PAGE as u32);
            let bases = comb.bases.iter().flat_map(|base| base.to_le_bytes()).collect();
            let bases = maps.array("polc_bases", PAGE as u32 * 4, pages, bases);
            let entry = if comb.narrow { 4 } else { 8 };
            let mut bytes = with_room(comb.entries.len(), entry);
            for Entry { base, word } in &comb.entries {
                match comb.narrow {
                    true => bytes.extend_from_slice(&(base << 16 | word.0).to_le_bytes()),
                    false => {
                        bytes.extend_from_slice(&(u64::from(*base) << 32 | u64::from(word.0)).to_le_bytes())
                    }
                }
            }
            let entries = maps.array("polc_cells", (PAGE * entry) as u32, 0, bytes);
            FormMaps::Sparse { bases, entries }
        }
    }
}

fn cross_maps(maps: &mut Maps, cross: &Cross, is_narrow: bool, classes: u32) -> FormMaps {
    let records = cross.records.iter().flat_map(|r| [r.src, r.dst, r.base, r.width]);
    let columns = maps.fixed("polc_columns", 16, records.flat_map(u32::to_le_bytes).collect());
    let id = if cross.short { 1 } else { 2 };
    let size = (classes as usize * id).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(cross.rows.len() * size);
    for row in &cross.rows {
        let end = bytes.len() + size;
        match cross.short {
            true => bytes.extend(row.iter().map(|id| *id as u8)),
            false => put_narrow(&mut bytes, row.iter().copied()),
        }
        bytes.resize(end, 0);
    }
    let sides = maps.array("polc_sides", size as u32, 0, bytes);
    let words = match is_narrow {
        true => narrow(cross.words.iter().map(|word| word.0 as u16)),
        false => wide(&cross.words),
    };
    let words = maps.fixed("polc_cross", PAGE as u32 * if is_narrow { 2 } else { 4 }, words);
    FormMaps::Cross { columns, sides, words }
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
        direct: false,
        fixed: false,
    }
}

/// A value per class, with room for `classes` of them.
fn dense(maps: &mut Maps, words: &[Word], columns: usize, is_narrow: bool, classes: u32) -> Values {
    let size = (columns * if is_narrow { 2 } else { 4 }).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(words.len() / columns.max(1) * size);
    for row in words.chunks_exact(columns) {
        let start = bytes.len();
        match is_narrow {
            true => put_narrow(&mut bytes, row.iter().map(|word| word.0 as u16)),
            false => put_wide(&mut bytes, row),
        }
        bytes.resize(start + size, 0);
    }
    maps.array("polc_cells", size as u32, classes, bytes)
}

fn records(outcomes: &Outcomes) -> Vec<u8> {
    let record = |complex: &crate::dispatch::outcome::Complex| {
        let last = complex.logged.last().map_or(crate::abi::NO_DECISION, |decision| decision.as_u32());
        [complex.decision.as_u32(), complex.logged.len() as u32, last, 0]
    };
    outcomes.complex().iter().flat_map(record).flat_map(u32::to_le_bytes).collect()
}

/// Room for elements, and for what fills their last value of [`PAGE`] of them up.
fn with_room(elements: usize, size: usize) -> Vec<u8> {
    Vec::with_capacity(elements.next_multiple_of(PAGE) * size)
}

fn narrow(values: impl Iterator<Item = u16>) -> Vec<u8> {
    let mut bytes = with_room(values.size_hint().0, 2);
    put_narrow(&mut bytes, values);
    bytes
}

fn wide(words: &[Word]) -> Vec<u8> {
    let mut bytes = with_room(words.len(), 4);
    put_wide(&mut bytes, words);
    bytes
}

fn put_narrow(bytes: &mut Vec<u8>, values: impl Iterator<Item = u16>) {
    values.for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
}

fn put_wide(bytes: &mut Vec<u8>, words: &[Word]) {
    put_words(bytes, words.iter().map(|word| word.0.to_le_bytes()));
}
