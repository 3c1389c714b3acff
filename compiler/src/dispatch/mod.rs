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
pub mod condition;
pub mod cross;
pub mod live;
pub mod outcome;
pub mod ports;

use crate::address::AddressClasses;
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
    let (outcomes, tables) = tables(ir, &partition, classes, choice, limits)?;
    Ok(Dispatch { partition, ports, outcomes, tables })
}

/// Cells where one side matters and they fit. Else bits, in small tables, for packets
/// that need no second turn: they are as fast as cross or faster in every shape of
/// `cargo bench --bench dispatch -- --form bits`, in a fraction of the size. With
/// more turns cross, if it fits.
fn tables(
    ir: &PolicyIr,
    partition: &Partition,
    classes: &AddressClasses,
    choice: Choice,
    limits: &Limits,
) -> Result<(Outcomes, Tables), Unfit> {
    let mut outcomes = Outcomes::new(ir);
    if choice == Choice::Bits {
        return Ok((outcomes, Tables::Bits(bits::fill(partition, classes, limits)?)));
    }
    if choice != Choice::Cross {
        match cells::fill(partition, classes, &mut outcomes, choice, limits) {
            Ok(cells) => return Ok((outcomes, Tables::Cells(cells))),
            Err(unfit) if choice != Choice::Fastest => return Err(unfit),
            Err(_) => outcomes = Outcomes::new(ir),
        }
    }
    let mut spare = None;
    if choice == Choice::Fastest {
        match bits::fill(partition, classes, limits) {
            Ok(bits) if bits.turns == 1 => return Ok((outcomes, Tables::Bits(bits))),
            done => spare = done.ok(),
        }
    }
    match (cross::fill(partition, classes, &mut outcomes, limits), spare) {
        (Err(_), Some(bits)) => Ok((Outcomes::new(ir), Tables::Bits(bits))),
        (cross, _) => Ok((outcomes, Tables::Cross(cross?))),
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
