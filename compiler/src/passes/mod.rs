//! Optimisation passes over [`crate::ir::PolicyIr`], and the plan that splits what
//! is too large for one program.
//!
//! A pass is one file and one function. [`optimize`] is the pipeline: a plain
//! sequence with the verifier after each step. Every pass keeps verdict, decision
//! and log records of every packet; each file says why.
//!
//! [`prepare`] is the part of it that tables gain from; only what stays a chain of rules
//! takes the rest.
//!
//! [`plan`] is not an optimisation: the emitter calls it on the optimised IR.

mod cost;
mod facts;
mod nets;
mod normalise;
mod overlap;
mod plan;
mod ports;
mod prune;
mod reorder;
#[cfg(test)]
mod testing;

pub use crate::address::{AddressClasses, Class, SetBit, classify};
pub use cost::{Profile, cost, weights};
pub use normalise::{Normalised, normalise};
pub use plan::{Budget, MAX_SEGMENTS, Piece, PlanError, ProgramPlan, Segment, plan};
pub use prune::{MAX_PAIRS, Pruned, prune};
pub use reorder::{EXACT, MAX_RULES, Reordered, SIDNEY, reorder};

use crate::ir::{PolicyIr, VerifyErrors, verify};

/// Most rules of a policy that [`prepare`] prunes: their pairs take less time than the
/// smallest tables.
pub const PRUNED: usize = 256;

/// How to optimise.
#[derive(Clone, Debug)]
pub struct OptOptions {
    /// 0: nothing; 1: normalise and prune; 2 and above: reorder too. Default 2.
    /// Lower it to read what the resolver said, or to find a pass at fault.
    pub level: u8,
    /// How often each decision was hit. Default none: a model takes its place.
    /// Set it from counters or a replayed capture of this policy's traffic.
    pub profile: Option<Profile>,
    /// Whether the verifier runs after each pass in release builds as well; it
    /// always does in debug builds. Default false. Linear in the policy.
    pub verify: bool,
}

impl Default for OptOptions {
    fn default() -> Self {
        Self { level: 2, profile: None, verify: false }
    }
}

/// What the passes changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptStats {
    /// By [`normalise`].
    pub normalised: Normalised,
    /// By [`prune`].
    pub pruned: Pruned,
    /// By [`reorder`].
    pub reordered: Reordered,
    /// By [`prune`] after [`reorder`]; its ids are those that the first run left.
    pub pruned_again: Pruned,
}

/// Optimises a policy; the input is always verified.
///
/// # Errors
/// The IR is not valid: as it came in, or by a fault of the pass that the error
/// names. Both are bugs of polc.
pub fn optimize(ir: &mut PolicyIr, options: &OptOptions) -> Result<OptStats, VerifyErrors> {
    let mut stats = OptStats::default();
    verify(ir)?;
    if options.level >= 1 {
        stats.normalised = normalise(ir);
        verify_after(ir, options, "normalise")?;
        stats.pruned = prune(ir);
        verify_after(ir, options, "prune")?;
    }
    if options.level >= 2 {
        stats.reordered = reorder(ir, options.profile.as_ref());
        verify_after(ir, options, "reorder")?;
        // A rule may stand behind one that says the same of more packets now.
        stats.pruned_again = prune(ir);
        verify_after(ir, options, "prune after reorder")?;
    }
    Ok(stats)
}

/// What pays before tables are filled, of level 1: [`normalise`], since fewer sets are
/// fewer classes, and [`prune`] for policies of at most [`PRUNED`] rules. The input is
/// always verified; [`optimize`] may follow.
///
/// Tables need no order, and their columns drop most rules that decide nothing by
/// themselves: those behind a rule without condition, and those that ask for what a
/// rule before them asks for.
///
/// # Errors
/// As for [`optimize`].
pub fn prepare(ir: &mut PolicyIr, options: &OptOptions) -> Result<OptStats, VerifyErrors> {
    let mut stats = OptStats::default();
    verify(ir)?;
    stats.normalised = normalise(ir);
    verify_after(ir, options, "normalise")?;
    if ir.rules.len() <= PRUNED {
        stats.pruned = prune(ir);
        verify_after(ir, options, "prune")?;
    }
    Ok(stats)
}

fn verify_after(ir: &PolicyIr, options: &OptOptions, pass: &'static str) -> Result<(), VerifyErrors> {
    if options.verify || cfg!(debug_assertions) {
        return verify(ir).map_err(|e| VerifyErrors { after: Some(pass), ..e });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, policy};
    use crate::ir::{Chain, Entity, Violation};

    #[test]
    fn every_level_keeps_every_outcome() {
        let shapes = [
            Shape::default(),
            Shape { chains: 1, rules: 40, sets: 3, nets: 2, ..Shape::default() },
            Shape { chains: 6, rules: 5, sets: 12, nets: 8, ports: 8, log: false },
        ];
        for shape in shapes {
            for level in 0..=2 {
                let options = OptOptions { level, verify: true, ..OptOptions::default() };
                let changed = testing::differential(&shape, 300, |ir| {
                    let stats = optimize(ir, &options).unwrap();
                    stats.normalised.rules + stats.pruned.rules() + stats.reordered.moved
                });
                assert_eq!(changed > 1_000, level > 0, "level {level}: {changed}");
            }
        }
    }

    #[test]
    fn what_tables_take_keeps_every_outcome() {
        let options = OptOptions { verify: true, ..OptOptions::default() };
        for rules in [8, PRUNED + 1] {
            let shape = Shape { chains: 1, rules, ..Shape::default() };
            let changed = testing::differential(&shape, 30, |ir| {
                let stats = prepare(ir, &options).unwrap();
                assert_eq!(stats.pruned == Pruned::default(), ir.rules.len() > PRUNED);
                stats.normalised.rules
            });
            assert!(changed > 50, "{changed}");
        }
    }

    #[test]
    fn an_order_that_lets_a_rule_cover_its_equals_drops_them() {
        let text = r#"
            policy "p" ingress
            decision0 = rule allow index 0 name "p"
            decision1 = tier-default deny name "t"
            set0 = members "all()" { }
            chain0 "t" {
              rule0: proto tcp; src in set0; dport 80, 81, 99 -> allow decision0
              rule1: proto tcp -> allow decision0
            } deny decision1
            order chain0"#;
        let mut ir = crate::ir::parse(text).unwrap();
        let stats = optimize(&mut ir, &OptOptions::default()).unwrap();
        assert_eq!((stats.pruned.rules(), stats.reordered.moved, stats.pruned_again.rules()), (0, 2, 1));
        assert_eq!((ir.rules.len(), ir.sets.len()), (1, 0));
    }

    #[test]
    fn invalid_input_is_refused_and_left_alone() {
        let mut ir = policy(1, &Shape::default());
        ir.order.push(Chain::from_u32(99));
        let before = ir.clone();
        let errors = optimize(&mut ir, &OptOptions::default()).unwrap_err();
        assert_eq!(errors.after, None);
        assert_eq!(errors.errors[0].entity, Entity::Order);
        assert_eq!(errors.errors[0].violation, Violation::UnknownChain(Chain::from_u32(99)));
        assert_eq!(ir, before);
    }
}
