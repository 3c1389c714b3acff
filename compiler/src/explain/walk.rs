//! The walk as the reference evaluator has it.

use crate::ir::{self, Action, Chain, ChainEnd, Criterion, Flow, PolicyIr, Rule, RuleData, first_failed};

/// What an evaluation met, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Every chain that the IR evaluates, in order.
    pub chains: Vec<ChainWalk>,
    /// How it ended.
    pub outcome: ir::Outcome,
}

/// What became of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainWalk {
    /// The chain.
    pub chain: Chain,
    /// How it was left.
    pub ended: Ended,
    /// Its rules in match order.
    pub rules: Vec<RuleWalk>,
}

/// How a chain was left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was never entered.
    NotReached,
    /// A rule decided, or passed to the next chain.
    By(Rule),
    /// At its end: no rule decided.
    AtEnd,
}

/// What became of one rule.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RuleWalk {
    /// The rule.
    pub rule: Rule,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the program that ran has instructions for it; [`super::agree`]
    /// sets it. Without, the reference evaluator alone vouches for the outcome.
    pub in_program: bool,
}

/// What became of one rule.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An earlier rule or chain had decided.
    NotReached,
    /// The first criterion that the packet failed.
    Missed(Criterion),
    /// All criteria held.
    Matched,
}

/// Walks through a policy for one packet.
///
/// # Panics
/// If an id is out of range: `ir` must have passed [`ir::verify`].
pub fn walk(ir: &PolicyIr, flow: &Flow) -> Walk {
    let mut open = true;
    let chains = ir.order.iter().map(|chain| walk_chain(ir, *chain, flow, &mut open)).collect();
    Walk { chains, outcome: ir::evaluate(ir, flow) }
}

fn walk_chain(ir: &PolicyIr, chain: Chain, flow: &Flow, open: &mut bool) -> ChainWalk {
    let data = &ir.chains[chain];
    let entered = *open;
    let mut left_by = None;
    let rules = data
        .rules
        .iter()
        .map(|rule| {
            let data = &ir.rules[*rule];
            let outcome =
                if !entered || left_by.is_some() { Outcome::NotReached } else { look(ir, data, flow) };
            if outcome == Outcome::Matched && data.action != Action::Log {
                left_by = Some(*rule);
            }
            RuleWalk { rule: *rule, outcome, in_program: false }
        })
        .collect();
    let decides = match left_by {
        Some(rule) => ir.rules[rule].action != Action::Pass,
        None => data.end != ChainEnd::Pass,
    };
    *open = entered && !decides;
    let ended = match (entered, left_by) {
        (false, _) => Ended::NotReached,
        (true, Some(rule)) => Ended::By(rule),
        (true, None) => Ended::AtEnd,
    };
    ChainWalk { chain, ended, rules }
}

fn look(ir: &PolicyIr, rule: &RuleData, flow: &Flow) -> Outcome {
    first_failed(ir, &rule.matches, flow).map_or(Outcome::Matched, Outcome::Missed)
}
