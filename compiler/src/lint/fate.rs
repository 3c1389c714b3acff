//! What becomes of each rule that the user wrote.
//!
//! A written rule may be several rules of the IR (one for each peer and
//! protocol), or none. Their fates come from the passes, on a copy: rules keep
//! their ids and their order there, so that every answer is about the rules in
//! the order that the user wrote.

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;

use super::Context;
use crate::diag::Span;
use crate::ir::{DecisionKind, Direction, Origin, PolicyIr, Rule};
use crate::passes::{normalise, prune};
use crate::resolve::Policy;

/// What becomes of one rule of the IR.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may decide.
    #[default]
    Lives,
    /// No packet matches it.
    Never,
    /// This earlier rule decides every packet that it matches.
    Covered(Rule),
}

/// One rule that the user wrote.
pub(super) struct Written {
    /// Its index in the list.
    pub(super) index: u32,
    /// Where it stands.
    pub(super) span: Option<Span>,
    /// The IR rules that it became.
    pub(super) rules: Vec<Rule>,
}

/// The fates of one policy's rules in one direction.
pub(super) struct Fates {
    /// The policy alone, before any pass.
    pub(super) ir: PolicyIr,
    /// The rules as written, by index.
    pub(super) written: Vec<Written>,
    fates: SecondaryMap<Rule, Fate>,
}

impl Fates {
    pub(super) fn new(context: &Context<'_>, policy: Policy, ir: PolicyIr) -> Self {
        let mut pruned = ir.clone();
        normalise(&mut pruned);
        let found = prune(&mut pruned);
        let mut fates = SecondaryMap::new();
        for rule in found.never {
            fates[rule] = Fate::Never;
        }
        for (rule, by) in found.covered {
            fates[rule] = Fate::Covered(by);
        }
        let written = written(context, policy, &ir);
        Self { ir, written, fates }
    }

    /// The fate of one IR rule.
    pub(super) fn of(&self, rule: Rule) -> Fate {
        self.fates[rule]
    }

    /// The direction.
    pub(super) fn direction(&self) -> Direction {
        self.ir.direction
    }

    /// The index that the user's rule behind an IR rule has.
    pub(super) fn index(&self, rule: Rule) -> Option<u32> {
        self.ir.decisions[self.ir.rules[rule].decision].rule
    }

    /// The IR rules of a written rule by the peer that they come from.
    pub(super) fn by_peer(&self, written: &Written) -> Vec<(Option<Origin>, Vec<Rule>)> {
        let mut peers: Vec<(Option<Origin>, Vec<Rule>)> = Vec::new();
        for rule in &written.rules {
            let origins = &self.ir.rules[*rule].origins;
            let peer = match self.direction() {
                Direction::Ingress => origins.src,
                Direction::Egress => origins.dst,
            };
            match peers.iter_mut().find(|(at, _)| *at == peer) {
                Some((_, rules)) => rules.push(*rule),
                None => peers.push((peer, vec![*rule])),
            }
        }
        peers
    }
}

/// The rules as written. Those that became no rule at all are known from the
/// object only.
fn written(context: &Context<'_>, policy: Policy, ir: &PolicyIr) -> Vec<Written> {
    let mut by_index: BTreeMap<u32, Written> = BTreeMap::new();
    let at = context.places.of_policy(context.cluster.policies()[policy].at);
    let spans =
        at.and_then(|at| context.places.written(at)).map(|w| w.rules[ir.direction as usize].as_slice());
    for (index, span) in (0..).zip(spans.unwrap_or_default()) {
        by_index.insert(index, Written { index, span: Some(*span), rules: Vec::new() });
    }
    for chain in &ir.order {
        for rule in &ir.chains[*chain].rules {
            let data = &ir.rules[*rule];
            let decision = &ir.decisions[data.decision];
            let (DecisionKind::Rule, Some(index)) = (decision.kind, decision.rule) else { continue };
            let new = || Written { index, span: context.places.of(ir, data.origins.rule), rules: Vec::new() };
            by_index.entry(index).or_insert_with(new).rules.push(*rule);
        }
    }
    by_index.into_values().collect()
}
