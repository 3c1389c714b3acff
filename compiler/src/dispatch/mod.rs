//! Flat dispatch: the whole policy as tables, so that a packet costs a few
//! look-ups however many rules there are.
//!
//! ```text
//! protocol, ports, ICMP ─ports─▶ column ┐
//! source address ─────▶ class ──────────┼─ cells ─▶ outcome
//! destination address ▶ class ──────────┘
//! ```
//!
//! This module is pure data: [`mod@column`] partitions packets by everything but
//! addresses, [`condition`] says which classes of addresses meet what rules ask
//! for, [`outcome`] evaluates whole policies, and a *form* ([`cells`], [`cross`], [`bits`])
//! holds the outcomes of all combinations. [`Dispatch::evaluate`] reads the same tables as a
//! program does; `emit` writes the instructions.
//!
//! Every form is a function of the sets that hold a packet's addresses, so that
//! the contents for a class are known before any address is in it ([`live`]).

pub mod axis;
pub mod bits;
pub mod cells;
pub mod column;
pub mod comb;
pub mod condition;
pub mod cost;
pub mod cross;
pub mod lists;
pub mod live;
pub mod outcome;
pub mod ports;

use crate::address::AddressClasses;
use crate::cost::Cost;
use crate::ir::{Flow, PolicyIr};

use bits::Bits;
use cells::Cells;
use column::Partition;
use cross::Cross;
use outcome::{Outcomes, Word};
use ports::PortTables;

/// A side of a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where it comes from.
    Src,
    /// Where it goes to.
    Dst,
}

/// Why a policy does not fit a form.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// More columns than a number of 16 bits can tell apart.
    #[error("more than {max} columns of protocols and ports")]
    Columns {
        /// Most.
        max: usize,
    },
    /// Finding the columns would take too long.
    #[error("more than {max} rules to look at, summed over all columns")]
    Work {
        /// Most.
        max: u64,
    },
    /// Too many classes of source ports.
    #[error("more than {max} classes of source ports")]
    SourceClasses {
        /// Most.
        max: usize,
    },
    /// Too many combinations of source and destination ports.
    #[error("more than {max} combinations of source and destination ports")]
    Pairs {
        /// Most.
        max: usize,
    },
    /// Too many pages of ports.
    #[error("more than {max} pages of ports")]
    Pages {
        /// Most.
        max: usize,
    },
    /// A column tells too many classes apart.
    #[error("more than {max} classes to tell apart in one column")]
    SideIds {
        /// Most.
        max: usize,
    },
    /// A column needs more blocks, rules that log and rules that pass than the kernel's
    /// verifier is to follow.
    #[error("a column takes {given} turns, at most {max} are allowed")]
    Turns {
        /// Turns.
        given: u32,
        /// Most.
        max: u32,
    },
    /// Rules look at the addresses of both sides.
    #[error("rules look at the addresses of both sides")]
    TwoSided,
    /// The tables are too large.
    #[error("the tables take {given} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes.
        given: u64,
        /// Most.
        max: u64,
    },
}

/// Limits of the tables.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Classes that there must be room for, those that come later included.
    pub classes: u32,
    /// Most bytes of one table.
    pub max_table_bytes: u64,
}

impl Limits {
    /// Less, for a form that others may stand in for.
    fn at_most(self, bytes: u64) -> Self {
        Self { max_table_bytes: self.max_table_bytes.min(bytes), ..self }
    }
}

/// Bytes up to which cells are taken without a look at other forms.
const GOOD: u64 = 3 << 20;
/// Bytes above which a form has to be the only one.
const LARGE: u64 = 32 << 20;

/// A form that was looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, as for `--form`.
    pub form: &'static str,
    /// What it would do and take, or why it cannot be.
    pub outcome: Result<(Cost, u64), Unfit>,
}

/// Which form the tables take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that is estimated to be fastest.
    Fastest,
    /// Cells, however they are smaller.
    Cells,
    /// Cells, a word for every column and class.
    Dense,
    /// Cells, those that differ only.
    Sparse,
    /// Cross.
    Cross,
    /// Bits.
    Bits,
}

/// The tables of a form.
#[derive(Clone, Debug)]
pub enum Tables {
    /// One side at most matters.
    Cells(Cells),
    /// Both do.
    Cross(Cross),
    /// Both do, in too many combinations for a table of them.
    Bits(Bits),
}

/// A policy's tables.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Columns and the rules of each.
    pub partition: Partition,
    /// From packets to columns.
    pub ports: PortTables,
    /// Outcomes that the form's words number.
    pub outcomes: Outcomes,
    /// Outcomes by column and classes.
    pub tables: Tables,
    /// Forms that were looked at; cost and bytes of the form alone.
    pub candidates: Vec<Candidate>,
}

/// Builds the tables of a policy that has passed [`crate::ir::verify`]; `classes`
/// must be its own.
///
/// # Errors
/// See [`Unfit`].
pub fn build(
    ir: &PolicyIr,
    classes: &AddressClasses,
    choice: Choice,
    limits: &Limits,
) -> Result<Dispatch, Unfit> {
    let partition = column::partition(ir, usize::from(u16::MAX))?;
    let ports = ports::lay_out(&partition)?;
    let mut chooser = Chooser { ir, partition: &partition, classes, candidates: Vec::new() };
    let (outcomes, tables) = chooser.choose(choice, limits)?;
    let candidates = chooser.candidates;
    Ok(Dispatch { partition, ports, outcomes, tables, candidates })
}

/// Tries forms.
struct Chooser<'a> {
    ir: &'a PolicyIr,
    partition: &'a Partition,
    classes: &'a AddressClasses,
    candidates: Vec<Candidate>,
}

type Built = (Outcomes, Tables);

impl Chooser<'_> {
    /// The form that is asked for. Else cells if they are small, bits if no packet takes
    /// several turns, or else what costs least: bits, larger cells, or cross, which take
    /// long to build and are seldom faster (`cargo bench --bench dispatch -- --form bits`).
    /// Large forms only if no other fits.
    fn choose(&mut self, choice: Choice, limits: &Limits) -> Result<Built, Unfit> {
        match choice {
            Choice::Bits => return self.bits(limits),
            Choice::Cross => return self.cross(limits),
            Choice::Cells | Choice::Dense | Choice::Sparse => return self.cells(choice, limits),
            Choice::Fastest => {}
        }
        let cells = self.cells(choice, &limits.at_most(GOOD));
        if cells.is_ok() {
            return cells;
        }
        let usual = limits.at_most(LARGE);
        let bits = self.bits(&usual);
        if matches!(&bits, Ok((_, Tables::Bits(bits))) if bits.turns == 1) {
            return bits;
        }
        self.candidates.retain(|candidate| candidate.outcome.is_ok());
        let cells = self.cells(choice, &usual);
        let cross = if cells.is_ok() { None } else { Some(self.cross(&usual)) };
        let price = |built: &Built| cost::form(&built.1, &built.0).cost().total();
        let fits = [Some(cells), Some(bits), cross].into_iter().flatten().flatten();
        match fits.min_by_key(price) {
            Some(cheapest) => Ok(cheapest),
            None => self.cells(choice, limits).or_else(|_| self.bits(limits)).or_else(|_| self.cross(limits)),
        }
    }

    fn cells(&mut self, choice: Choice, limits: &Limits) -> Result<Built, Unfit> {
        let mut outcomes = Outcomes::new(self.ir);
        let cells = cells::fill(self.partition, self.classes, &mut outcomes, choice, limits);
        self.note("cells", cells.map(|cells| (outcomes, Tables::Cells(cells))))
    }

    fn bits(&mut self, limits: &Limits) -> Result<Built, Unfit> {
        let bits = bits::fill(self.partition, self.classes, limits);
        self.note("bits", bits.map(|bits| (Outcomes::new(self.ir), Tables::Bits(bits))))
    }

    fn cross(&mut self, limits: &Limits) -> Result<Built, Unfit> {
        let mut outcomes = Outcomes::new(self.ir);
        let cross = cross::fill(self.partition, self.classes, &mut outcomes, limits);
        self.note("cross", cross.map(|cross| (outcomes, Tables::Cross(cross))))
    }

    fn note(&mut self, form: &'static str, built: Result<Built, Unfit>) -> Result<Built, Unfit> {
        let outcome = match &built {
            Ok((outcomes, tables)) => {
                Ok((cost::form(tables, outcomes).cost(), cost::bytes(tables, outcomes)))
            }
            Err(unfit) => Err(*unfit),
        };
        self.candidates
            .push(Candidate { form: built.as_ref().map_or(form, |built| built.1.name()), outcome });
        built
    }
}

impl Tables {
    /// The name of the form, as for `--form`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cells(Cells { table: cells::Table::Dense { .. }, .. }) => "dense",
            Self::Cells(Cells { table: cells::Table::Sparse(_), .. }) => "sparse",
            Self::Cells(_) => "cells",
            Self::Cross(_) => "cross",
            Self::Bits(_) => "bits",
        }
    }
}

impl Dispatch {
    /// Whether a side's address has to be looked up.
    pub fn uses(&self, side: Side) -> bool {
        match &self.tables {
            Tables::Cells(cells) => cells.side == Some(side),
            Tables::Cross(cross) => cross.uses(side),
            Tables::Bits(bits) => bits.uses(side),
        }
    }

    /// Evaluates a packet by the tables; `None` where a program would find no table
    /// entry.
    pub fn evaluate(&self, classes: &AddressClasses, flow: &Flow) -> Option<Word> {
        let column = self.ports.column(flow)?;
        let (src, dst) = (classes.class_of(flow.src), classes.class_of(flow.dst));
        match &self.tables {
            Tables::Cells(cells) => cells.word(column, if cells.side == Some(Side::Dst) { dst } else { src }),
            Tables::Cross(cross) => cross.word(column, src, dst),
            Tables::Bits(bits) => bits.walk(column, src, dst).map(|walk| walk.word),
        }
    }
}

#[cfg(test)]
mod tests;
