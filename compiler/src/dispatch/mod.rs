//! Flat dispatch: the whole policy as tables, so that a packet costs a few
//! look-ups however many rules there are.
//!
//! ```text
//! protocol, ports, ICMP ─ports─▶ column ┐
//! source address ─────▶ class ──────────┼─ cells ─▶ outcome
//! destination address ▶ class ──────────┘
//! ```
//!
//! This module is pure data: [`column`] partitions packets by everything but
//! addresses, [`condition`] says which classes of addresses meet what rules ask
//! for, [`outcome`] evaluates whole policies, and a *form* ([`cells`]) holds the
//! outcomes of all combinations. [`Dispatch::evaluate`] reads the same tables as a
//! program does; `emit` writes the instructions.
//!
//! Every form is a function of the sets that hold a packet's addresses, so that
//! the contents for a class are known before any address is in it.

pub mod axis;
pub mod cells;
pub mod column;
pub mod condition;
pub mod outcome;
pub mod ports;

use crate::ir::{Flow, PolicyIr};
use crate::passes::{AddressClasses, Class};

use cells::{Cells, Layout};
use column::Partition;
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
    /// How cells lie.
    pub layout: Layout,
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
    /// Outcomes by column and class.
    pub cells: Cells,
}

/// Builds the tables of a policy that has passed [`crate::ir::verify`]; `classes`
/// must be its own.
///
/// # Errors
/// See [`Unfit`].
pub fn build(ir: &PolicyIr, classes: &AddressClasses, limits: &Limits) -> Result<Dispatch, Unfit> {
    let partition = column::partition(ir, usize::from(u16::MAX))?;
    let ports = ports::lay_out(&partition)?;
    let mut outcomes = Outcomes::new(ir);
    let cells = cells::fill(&partition, classes, &mut outcomes, limits)?;
    Ok(Dispatch { partition, ports, outcomes, cells })
}

impl Dispatch {
    /// Evaluates a packet by the tables; `None` where a program would find no table
    /// entry.
    pub fn evaluate(&self, classes: &AddressClasses, flow: &Flow) -> Option<Word> {
        let column = self.ports.column(flow)?;
        let class = match self.cells.side {
            Some(Side::Src) => classes.class_of(flow.src),
            Some(Side::Dst) => classes.class_of(flow.dst),
            None => Class::NONE,
        };
        self.cells.word(column, class)
    }
}

#[cfg(test)]
mod tests;
