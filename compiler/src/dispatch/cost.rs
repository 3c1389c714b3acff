//! What each form does for a packet, between column and classes and the word.

use super::bits::Bits;
use super::cells::{Cells, Table};
use super::cross::Cross;
use super::outcome::Outcomes;
use super::{Side, Tables};
use crate::cost::Work;

/// What a form does between column, classes and word.
pub fn form(tables: &Tables, outcomes: &Outcomes) -> Work {
    let word = if outcomes.are_narrow() { 2 } else { 4 };
    match tables {
        Tables::Cells(cells) => of_cells(cells),
        Tables::Cross(cross) => of_cross(cross, word),
        Tables::Bits(bits) => of_bits(bits, word),
    }
}

/// Bytes of a form's tables.
pub fn bytes(tables: &Tables, outcomes: &Outcomes) -> u64 {
    let mut reads = form(tables, outcomes).reads;
    // Some are read twice.
    reads.sort_unstable();
    reads.dedup();
    reads.iter().sum()
}

fn of_cells(cells: &Cells) -> Work {
    match &cells.table {
        Table::None => Work { insns: 7, reads: vec![cells.defaults.len() as u64 * 4], branches: 0 },
        Table::Dense { words, narrow } => {
            let word = if *narrow { 2 } else { 4 };
            Work { insns: 11, reads: vec![words.len() as u64 * word], branches: 0 }
        }
        Table::Sparse(comb) => {
            let entries = comb.entries.len() as u64 * if comb.narrow { 4 } else { 8 };
            let defaults = cells.defaults.len() as u64 * 8;
            Work { insns: 22, reads: vec![comb.bases.len() as u64 * 4, entries, defaults], branches: 50 }
        }
    }
}

fn of_cross(cross: &Cross, word: u64) -> Work {
    let id = if cross.short { 1 } else { 2 };
    let ids: u64 = cross.rows.iter().map(|row| row.len() as u64 * id).sum();
    let mut work = Work {
        insns: 16,
        reads: vec![cross.records.len() as u64 * 16, cross.words.len() as u64 * word],
        branches: 0,
    };
    for _ in [Side::Src, Side::Dst].into_iter().filter(|side| cross.uses(*side)) {
        work.insns += 14;
        work.reads.push(ids);
    }
    work
}

fn of_bits(bits: &Bits, word: u64) -> Work {
    let sides = [Side::Src, Side::Dst].into_iter().filter(|side| bits.uses(*side)).count() as u32;
    let record = 24 + bits.width as u64 * 8;
    let entry = if bits.has_steps { 8 } else { word };
    let tables = Work {
        insns: 32,
        reads: vec![bits.records.len() as u64 * record, bits.entries.len() as u64 * entry],
        branches: 60,
    };
    tables.and(vectors(bits.width as u32, sides, bits.turns, bits.rows.len() as u64 * 8))
}

/// What bits do with the vectors of so many sides, in rows of so many bytes, for the column
/// that takes most turns.
pub(super) fn vectors(width: u32, sides: u32, turns: u32, rows: u64) -> Work {
    // Half of the turns that the longest column takes.
    let more = (turns - 1).div_ceil(2);
    Work {
        // The first word that is not zero is on average in the middle.
        insns: 12 * sides + (4 + 2 * sides) * width.div_ceil(2) + more * 30,
        reads: (0..sides).map(|_| rows).collect(),
        branches: more * 50 + if width > 1 { 60 } else { 0 },
    }
}
