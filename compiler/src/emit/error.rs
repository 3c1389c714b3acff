//! Why a policy cannot be emitted.

use crate::address::AddressError;
use crate::bpf::AsmError;
use crate::dispatch::Unfit;
use crate::passes::PlanError;

/// A policy cannot be emitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// A rule or the whole policy takes more room than programs have.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// [`super::EmitOptions::max_slots`] is outside of what a program can be.
    #[error("a program budget of {given} slots is not between {min} and {max}")]
    Budget {
        /// Slots given.
        given: u32,
        /// Least that holds prologue and ends.
        min: u32,
        /// Most that jumps can span.
        max: u32,
    },
    /// More address sets than a row has bits.
    #[error("the policy uses {given} address sets, a row has room for {max}")]
    TooManySets {
        /// Sets.
        given: usize,
        /// Bits of the largest row.
        max: usize,
    },
    /// A table has too many entries.
    #[error("table {map} needs {given} entries, at most {max} are allowed")]
    TooManyEntries {
        /// The map's name.
        map: &'static str,
        /// Entries needed, room to grow included.
        given: u64,
        /// [`super::EmitOptions::max_entries`].
        max: u32,
    },
    /// A table is too large.
    #[error("table {map} needs {given} bytes, at most {max} are allowed")]
    TableTooLarge {
        /// The map's name.
        map: &'static str,
        /// Bytes needed, room to grow included.
        given: u64,
        /// [`super::EmitOptions::max_table_bytes`].
        max: u64,
    },
    /// [`super::EmitOptions::form`] forces a form that cannot hold the policy.
    #[error("the form that was asked for does not fit: {0}")]
    Form(#[from] Unfit),
    /// [`super::Form::Direct`] is for few rules, and for sets whose members stand in the policy.
    #[error("the policy has too many tests, or sets whose members change, to compare prefixes one by one")]
    NotDirect,
    /// The address tables do not fit.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A planned program came out larger than planned: a bug of polc.
    #[error("program {program} takes {given} slots, planned were at most {max}")]
    PlanExceeded {
        /// Program number.
        program: usize,
        /// Slots.
        given: u32,
        /// [`super::EmitOptions::max_slots`].
        max: u32,
    },
    /// The pieces do not link: a bug of polc.
    #[error("program {program}: {error}")]
    Assemble {
        /// Program number.
        program: usize,
        /// What does not fit.
        error: AsmError,
    },
}

impl EmitError {
    /// Whether the policy is too large, as against a bug of polc.
    pub fn is_limit(&self) -> bool {
        !matches!(self, Self::PlanExceeded { .. } | Self::Assemble { .. })
    }
}
