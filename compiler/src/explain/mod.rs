//! Why a packet got its verdict: the walk through tiers, policies and rules.
//!
//! ```text
//! PolicyIr, Flow ─walk─▶ Walk ───────────┐  agree?
//! image, slots that ran ─▶ Evidence ─────┴─────────▶ Explanation ─▶ text, JSON
//! ```
//!
//! The walk is told twice. [`walk`] has it from the reference evaluator; an
//! [`Evidence`] has it from the instructions that ran, by the subjects of their
//! notes: which rules control got to, at which criterion it left them, whose
//! action it carried out. [`agree`] holds one against the other, rule by rule,
//! and verdict, decision and log records as well. Only a walk that both tell
//! becomes an [`Explanation`].
//!
//! The image must have been compiled at level 0: then every rule that the IR has
//! is in the program, in the order in which policy means it. What the compiler
//! could prove to do nothing has no instructions even so (a rule behind one that
//! always decides, a Pass to where control goes anyway); of such a rule only the
//! evaluator can speak, and [`RuleWalk::in_program`] says so.
//!
//! Cost: linear in the rules and in the instructions that ran.

mod evidence;
mod view;
mod walk;
mod words;

pub use evidence::{Disagreement, Evidence, Ran, agree};
pub use view::{
    Alternative, End, Explanation, Found, Place, PolicyView, RuleView, StepView, TierView, explain,
};
pub use walk::{ChainWalk, Ended, Outcome, RuleWalk, Walk, walk};

#[cfg(test)]
mod tests;
