//! Optimisation passes over [`crate::ir::PolicyIr`].

mod classify;
mod plan;

pub use classify::{AddressClasses, Class, SetBit, classify};
pub use plan::{Budget, MAX_SEGMENTS, Piece, PlanError, ProgramPlan, Segment, plan};
