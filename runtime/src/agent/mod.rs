//! What a node's agent does: hold what is wanted against what is attached, and
//! make it so.
//!
//! [`plan`] is pure: from the digests of what is attached and what is wanted to a
//! list of [`Step`]s. [`Agent::apply`] carries them out, each by itself: one that
//! fails leaves that interface's old policy in force and the others go on.
//! Membership does not pass through here as a new policy: [`Agent::store`] changes
//! the tables of the image in force.
//!
//! The loop around it is its user's (`polc agent` is one): it calls
//! [`Agent::apply`] when what is wanted or the interfaces changed, and
//! [`Agent::sweep`] when [`Sweeps`] says so.

mod apply;
mod plan;
mod sweeps;

pub use apply::{Agent, Outcome};
pub use plan::{Attached, Step, Wanted, plan};
pub use sweeps::{SWEEP_EVERY, Sweeps};
