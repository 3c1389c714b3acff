//! A packet's outcome by the steps of a program, in the bytes of an image's maps.

use crate::address::testing::look_up;
use crate::dispatch::cells::Table;
use crate::dispatch::ports::PAGE;
use crate::dispatch::{Dispatch, Side, Tables as Form};
use crate::image::{MapSpec, PolicyImage};
use crate::ir::{Decision, Flow, Outcome, Verdict};
use crate::live::{LiveTables, Tables};

/// What the tables of an image say about a packet. Those that no change touches are
/// read from the dispatch.
pub(super) fn read(live: &LiveTables, image: &PolicyImage, flow: &Flow) -> Outcome {
    let Tables::Flat(flat) = &live.tables else { panic!("no tables") };
    let dispatch = flat.rows.dispatch();
    let column = dispatch.ports.column(flow).unwrap();
    let class = |side: Side| {
        let address = if side == Side::Src { flow.src } else { flow.dst };
        look_up(flat.membership.layout(), &image.maps, address)
    };
    let map = |name: &str| image.maps.iter().find(|map| map.name == name).unwrap();
    match &dispatch.tables {
        Form::Cells(cells) => {
            let class = class(cells.side.unwrap());
            let default = cells.defaults[usize::from(column)].0;
            let word = match &cells.table {
                Table::None => default,
                Table::Dense { narrow, .. } => {
                    let map = map("polc_cells");
                    number(map, class, u32::from(column), if *narrow { 2 } else { 4 })
                }
                Table::Sparse(comb) => {
                    let size = if comb.narrow { 4 } else { 8 };
                    let entry = |at: u32| {
                        let (map, page) = (map("polc_cells"), at / PAGE as u32);
                        let half = |half: u32| number(map, page, at % PAGE as u32 * (size / 4) + half, 4);
                        match comb.narrow {
                            true => (half(0) >> 16, half(0) & 0xffff),
                            false => (half(1), half(0)),
                        }
                    };
                    let base = number(map("polc_bases"), class / PAGE as u32, class % PAGE as u32, 4);
                    match entry(base + u32::from(column)) {
                        (own, word) if own == base => word,
                        _ => entry(u32::from(column)).1,
                    }
                }
            };
            outcome(dispatch, word)
        }
        Form::Cross(cross) => {
            let record = cross.records[usize::from(column)];
            let size = if cross.short { 1 } else { 2 };
            let id = |side, row| match cross.uses(side) {
                true => number(map("polc_sides"), row, class(side), size),
                false => 0,
            };
            let at = record.base + id(Side::Src, record.src) * record.width + id(Side::Dst, record.dst);
            outcome(dispatch, cross.words[at as usize].0)
        }
        Form::Bits(bits) => {
            let mut bits = bits.clone();
            bits.rows =
                map("polc_rows").dense.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
            let class = |side| crate::address::Class::from_u32(if bits.uses(side) { class(side) } else { 0 });
            let walk = bits.walk(column, class(Side::Src), class(Side::Dst)).unwrap();
            let verdict = verdict(walk.word.0);
            Outcome { verdict, decision: Decision::from_u32(walk.word.0 / 2), logged: walk.logged }
        }
    }
}

/// Number `at` of a value, each `size` bytes.
fn number(map: &MapSpec, index: u32, at: u32, size: u32) -> u32 {
    assert!((at + 1) * size <= map.value_size && index < map.max_entries);
    let at = index as usize * map.value_size as usize + (at * size) as usize;
    let bytes = map.dense.get(at..at + size as usize).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn verdict(word: u32) -> Verdict {
    if word & 1 == 1 { Verdict::Allow } else { Verdict::Deny }
}

fn outcome(dispatch: &Dispatch, word: u32) -> Outcome {
    let (number, simple) = (word / 2, dispatch.outcomes.simple());
    let (decision, logged) = match number.checked_sub(simple) {
        None => (Decision::from_u32(number), Vec::new()),
        Some(at) => {
            let complex = &dispatch.outcomes.complex()[at as usize];
            (complex.decision, complex.logged.clone())
        }
    };
    Outcome { verdict: verdict(word), decision, logged }
}
