//! What a node's agent does: hold what is wanted against what is attached, and
//! make it so.
//!
//! ```text
//! wanted: resolved policies ─┬ others than in force ─ compile ─ load ─▶ plan ─▶ attach, replace, detach
//!                            └ other members only ─────────────────────────────▶ stores to tables in force
//! ```
//!
//! [`plan`] is pure: from what is attached and what is wanted to a list of [`Step`]s.
//! [`Agent::apply`] carries them out, each by itself: one that fails leaves that
//! interface's old policy in force and the others go on. A policy is compiled only if
//! no tables in force can take it over by a change of members; what they then refuse
//! is compiled after all. Membership is carried over behind every change of policy,
//! one address after the other.
//!
//! The loop around it is its user's (`polc agent` is one): it calls
//! [`Agent::apply`] when what is wanted or the interfaces changed, and
//! [`Agent::sweep`] when [`Sweeps`] says so.

mod apply;
mod plan;
mod sweeps;
mod tables;
mod wanted;

pub use apply::{Agent, Outcome};
pub use plan::{Attached, Step, Wanted, plan};
pub use sweeps::{SWEEP_EVERY, Sweeps};
pub use wanted::{EndpointPolicy, UntrackedPolicy};
