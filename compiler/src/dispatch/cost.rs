//! What a packet costs in a program, as estimated before it is emitted.
//!
//! A *hot* packet finds everything in the first cache: it costs its instructions. The
//! *spread* of many packets pays for what they read as well, by the size of each table,
//! and for branches that no predictor can know. Constants are measured by
//! `cargo bench --bench dispatch -- --primitives`; what counts is how forms compare.

use super::bits::Bits;
use super::cells::{Cells, Table};
use super::cross::Cross;
use super::outcome::Outcomes;
use super::{Side, Tables};

/// Tenths of a nanosecond for ten instructions.
const TEN_INSNS: u32 = 9;
/// Tenths of a nanosecond for a branch that goes either way.
const BRANCH: u32 = 50;
/// Tenths of a nanosecond to read from a table of up to so many bytes, beyond what an
/// instruction takes.
const READ: [(u64, u32); 4] = [(32 << 10, 0), (1 << 20, 20), (16 << 20, 90), (u64::MAX, 500)];

/// Tenths of a nanosecond per packet, over the floor of a program that only looks the
/// packet state up and ends.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The same packet again and again.
    pub hot: u32,
    /// Many packets in turn.
    pub spread: u32,
}

impl Cost {
    /// What forms are compared by.
    pub fn total(self) -> u32 {
        self.hot + self.spread
    }
}

/// What a packet does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Instructions that run.
    pub insns: u32,
    /// Bytes of each table that is read.
    pub reads: Vec<u64>,
    /// Branches that go either way, in hundredths.
    pub branches: u32,
}

impl Work {
    /// What that costs.
    pub fn cost(&self) -> Cost {
        let hot = self.insns * TEN_INSNS / 10;
        let read = |bytes: &u64| READ.iter().find(|(most, _)| bytes <= most).map_or(0, |(_, cost)| *cost);
        let spread = hot + self.reads.iter().map(read).sum::<u32>() + self.branches * BRANCH / 100;
        Cost { hot, spread }
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.insns += other.insns;
        self.reads.extend(other.reads);
        self.branches += other.branches;
        self
    }
}

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
            Work { insns: 40, reads: vec![comb.bases.len() as u64 * 4, entries, defaults], branches: 0 }
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
    let width = bits.width as u32;
    let record = 24 + bits.width as u64 * 8;
    let entry = if bits.has_steps { 8 } else { word };
    let mut work = Work {
        // The first word that is not zero is on average in the middle.
        insns: 32 + 12 * sides + (4 + 2 * sides) * width.div_ceil(2),
        reads: vec![bits.records.len() as u64 * record, bits.entries.len() as u64 * entry],
        branches: 60 + if width > 1 { 60 } else { 0 },
    };
    work.reads.extend((0..sides).map(|_| bits.rows.len() as u64 * 8));
    // Half of the turns that the longest column takes.
    let more = (bits.turns - 1).div_ceil(2);
    work.insns += more * 30;
    work.branches += more * 50;
    work
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_tables_cost_more_in_the_spread_only() {
        let work = |bytes| Work { insns: 20, reads: vec![bytes], branches: 0 };
        let costs: Vec<Cost> =
            [1 << 10, 1 << 19, 1 << 23, 1 << 28].into_iter().map(|b| work(b).cost()).collect();
        assert!(costs.windows(2).all(|w| w[0].hot == w[1].hot && w[0].spread < w[1].spread), "{costs:?}");
        let branchy = Work { branches: 100, ..work(1) };
        assert_eq!(branchy.cost().spread - branchy.cost().hot, BRANCH);
    }
}
