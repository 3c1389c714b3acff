//! Reorder: puts rules that decide much and cost little first.
//!
//! What: within each chain, minimises the expected cost of `cost.rs` under the
//! precedences of rules that must keep their order.
//!
//! Why sound: two rules may change places if no packet matches both, or if they
//! have the same action and decision, for then the first of them to match gives
//! the same outcome either way (two equal Log rules write equal records). All
//! other pairs keep their order, Log rules and whatever they overlap included. An
//! order that keeps every such pair is reached by swaps of neighbours that may
//! change places, so verdict, decision and log records stay.
//!
//! How: 1|prec|ΣwC, which is NP-hard. [`super::overlap`] finds the pairs to compare,
//! `precedence.rs` which of them keep their order, `sequence.rs` an order, `front.rs`
//! how much of it pays.
//!
//! How good: optimal where what can be taken apart no further has at most [`EXACT`]
//! rules, below twice the least up to [`SIDNEY`]; beyond that, and in chains of more
//! than [`MAX_RULES`] rules, of which the densest with all that must stand before
//! them are ordered, [`Reordered::cost_least`] says how far off it is at most. Never
//! dearer than the order that the rules came in.
//!
//! Cost: O(n²/64) bit operations and at worst O(n²) comparisons of up to
//! [`MAX_RULES`] rules, both bounded; O(n log n) beyond.

mod front;
mod precedence;
mod sequence;
mod sidney;

pub use sequence::{EXACT, SIDNEY};

use super::cost::{Profile, cost, expected, weights};
use crate::ir::{Chain, PolicyIr};
use precedence::Precedence;
use sequence::Step;

/// Most rules of a chain that are ordered; the others keep their order behind them.
pub const MAX_RULES: usize = 10_000;

/// What the pass changed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reordered {
    /// Rules that have another place in their chain now.
    pub moved: usize,
    /// Rules beyond [`MAX_RULES`] that were not looked at for a better place.
    pub unordered: usize,
    /// Expected cost of all chains before, in the model's units.
    pub cost_before: u128,
    /// Expected cost of all chains after; never above `cost_before`.
    pub cost_after: u128,
    /// What no legal order costs less than; equal to `cost_after` where the order is
    /// known to be optimal.
    pub cost_least: u128,
}

/// Orders the rules of every chain; needs [`super::normalise`] to see much.
/// `ir` must have passed [`crate::ir::verify`].
pub fn reorder(ir: &mut PolicyIr, profile: Option<&Profile>) -> Reordered {
    let weights = weights(ir, profile);
    let mut done = Reordered::default();
    for i in 0..ir.order.len() {
        let chain = ir.order[i];
        let steps: Vec<Step> =
            ir.chains[chain].rules.iter().map(|r| (weights[*r], cost(&ir.rules[*r].matches))).collect();
        reorder_chain(ir, chain, &steps, &mut done);
    }
    done
}

fn reorder_chain(ir: &mut PolicyIr, chain: Chain, steps: &[Step], done: &mut Reordered) {
    let rules = &ir.chains[chain].rules;
    let chosen = front::choose(ir, rules, steps);
    let own: Vec<Step> = chosen.iter().map(|at| steps[*at]).collect();
    let graph = Precedence::new(ir, &chosen.iter().map(|at| rules[*at]).collect::<Vec<_>>());
    let ordered = sequence::order(&graph, &own);
    let front: Vec<usize> = ordered.sequence.iter().map(|at| chosen[*at]).collect();
    let order = front::place(&front, steps);
    done.unordered += rules.len() - chosen.len();
    done.moved += order.iter().enumerate().filter(|(at, from)| at != *from).count();
    done.cost_before += expected(steps.iter());
    done.cost_after += expected(order.iter().map(|at| &steps[*at]));
    done.cost_least += if chosen.len() == rules.len() { ordered.least } else { sequence::least(steps) };
    ir.chains[chain].rules = order.iter().map(|at| rules[*at]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Rng, Shape, policy};
    use crate::passes::testing::differential;
    use crate::passes::{normalise, prune};

    fn is_sound(done: &Reordered) {
        assert!(done.cost_after <= done.cost_before, "{done:?}");
        assert!(done.cost_least <= done.cost_after, "{done:?}");
        assert!(done.cost_after < 2 * done.cost_least || done.cost_after == 0, "{done:?}");
        assert_eq!(done.moved == 0, done.cost_after == done.cost_before, "{done:?}");
    }

    #[test]
    fn reordering_keeps_every_outcome_and_never_costs_more() {
        let shape = Shape { rules: 16, ..Shape::default() };
        let moved = differential(&shape, 1000, |ir| {
            normalise(ir);
            prune(ir);
            let done = reorder(ir, None);
            is_sound(&done);
            done.moved
        });
        assert!(moved > 1_000, "{moved}");
    }

    #[test]
    fn profiles_keep_every_outcome_too() {
        let mut rng = Rng::new(3);
        let moved = differential(&Shape::default(), 500, |ir| {
            let mut profile = Profile::new();
            for decision in ir.decisions.keys() {
                profile[decision] = rng.next_u64() >> rng.below(64);
            }
            let done = reorder(ir, Some(&profile));
            is_sound(&done);
            done.moved
        });
        assert!(moved > 500, "{moved}");
    }

    #[test]
    fn reordering_twice_changes_nothing_more() {
        for seed in 0..300 {
            let mut ir = policy(seed, &Shape { rules: 20, ..Shape::default() });
            let first = reorder(&mut ir, None);
            let second = reorder(&mut ir, None);
            assert!(second.cost_after <= first.cost_after, "seed {seed}");
            assert_eq!(second.cost_before, first.cost_after, "seed {seed}");
        }
    }

    /// A rule that is hit most, at the end of a chain above the bound, comes first
    /// with the one rule that must stand before it.
    #[test]
    fn hot_rules_of_a_long_chain_come_first() {
        let text = r#"
            policy "p" ingress
            decision0 = rule allow index 0 name "p"
            decision1 = tier-default deny name "t"
            chain0 "t" {
              rule0: proto tcp; dport 1 -> allow decision0
            } deny decision1
            order chain0"#;
        let mut ir = crate::ir::parse(text).unwrap();
        let model = ir.rules.values().next().cloned().unwrap();
        let chain = ir.order[0];
        let mut profile = Profile::new();
        let mut add = |ir: &mut PolicyIr, port: u16, hits: u64| {
            let decision = ir.decisions[model.decision].clone();
            let decision = ir.decisions.push(decision);
            let mut rule = model.clone();
            rule.decision = decision;
            rule.matches.dst.ports = Some(vec![crate::ir::PortMatch::Range(port, port)]);
            profile[decision] = hits;
            let rule = ir.rules.push(rule);
            ir.chains[chain].rules.push(rule);
            rule
        };
        (2..=20_001).for_each(|port| {
            add(&mut ir, port, 1);
        });
        let before_hot = add(&mut ir, 30_000, 1);
        let hot = add(&mut ir, 30_000, 1_000_000);
        let done = reorder(&mut ir, Some(&profile));
        assert_eq!(done.unordered, 20_003 - MAX_RULES, "{done:?}");
        assert!(done.cost_after < done.cost_before / 50, "{done:?}");
        assert!(
            done.cost_least <= done.cost_after && done.cost_after * 100 < done.cost_least * 101,
            "{done:?}"
        );
        assert_eq!(ir.chains[chain].rules[..2], [before_hot, hot]);
    }
}
