//! A policy as it was resolved, for those who carry it from the front end to the
//! tables in force and need not look inside.

use super::{LiveTables, compile_live};
use crate::compile::{CompileError, CompileOptions};
use crate::image::PolicyImage;
use crate::ir::{PolicyIr, SetKind};

/// A resolved policy and how to compile it.
#[derive(Clone, Debug)]
pub struct ResolvedPolicy {
    ir: PolicyIr,
    options: CompileOptions,
}

impl ResolvedPolicy {
    /// A policy to be compiled with these options.
    pub fn new(ir: PolicyIr, options: CompileOptions) -> Self {
        Self { ir, options }
    }

    /// Compiles it.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn compile(&self) -> Result<(PolicyImage, LiveTables), CompileError> {
        compile_live(self.ir.clone(), &self.options)
    }

    /// Whose policy it is, for people.
    pub fn name(&self) -> &str {
        &self.ir.name
    }

    pub(super) fn ir(&self) -> &PolicyIr {
        &self.ir
    }
}

/// Why the tables in force cannot follow a newly resolved policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileNeeded {
    /// Something else than members differs.
    #[error("the policy itself has changed")]
    Policy,
    /// The image is a chain of rules.
    #[error("the policy is a chain of rules, whose tables are replaced as a whole")]
    Chain,
    /// See [`crate::address::Refused::Merged`].
    #[error("sets that were equal when the policy was compiled are not any more")]
    Merged,
    /// This prefix changes, and one around it.
    #[error("{0} changes, and so does a prefix around it: no order of the two keeps every packet right")]
    Nested(ipnet::IpNet),
}

/// Whether two policies differ in nothing but the members of sets whose members may
/// change. Names of policies don't count: equal policies share tables.
pub(super) fn same_but_members(a: &PolicyIr, b: &PolicyIr) -> bool {
    let same_sets = a.sets.len() == b.sets.len()
        && a.sets.values().zip(b.sets.values()).all(|(a, b)| {
            (a.kind, &a.name) == (b.kind, &b.name) && (a.kind == SetKind::Members || a.nets == b.nets)
        });
    same_sets
        && a.direction == b.direction
        && a.order == b.order
        && a.chains == b.chains
        && a.rules == b.rules
        && a.decisions == b.decisions
        && a.files == b.files
}
