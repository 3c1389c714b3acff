//! The cost model that rule ordering minimises.
//!
//! A chain is tested rule by rule until one decides. With weight pᵢ (how many
//! packets rule i decides) and cost cᵢ (what testing it takes), the expected cost
//! of an order is Σ pᵢ·(c of the rules up to and with i) plus the share of packets
//! that no rule decides, which all orders pay alike. The weights are taken not to
//! depend on the order: exact where rules are disjoint, and where rules overlap
//! only those with one decision may change places, which merely moves packets
//! between rules that count as one.
//!
//! Weights come from a profile of hits per decision, shared evenly by the rules
//! that report it; without one, from how much a rule's criteria narrow it down.
//! Costs are in tests of about one instruction pair. All integers: the same on
//! every machine.

use cranelift_entity::SecondaryMap;

use crate::ir::{Action, Decision, Match, PolicyIr, Rule, SideMatch};

/// How often each decision was hit, from counters or a replayed capture.
pub type Profile = SecondaryMap<Decision, u64>;

/// What testing a rule takes: 1 for each fact compared; a set is one load and one
/// bit test in the class's row, a port alternative one or two compares.
pub fn cost(m: &Match) -> u64 {
    let facts = [m.family.is_some(), m.protocol.is_some(), m.not_protocol.is_some()];
    let icmp = [m.icmp, m.not_icmp].iter().flatten().map(|i| 2 + u64::from(i.code.is_some())).sum::<u64>();
    1 + facts.iter().filter(|f| **f).count() as u64 + icmp + side_cost(&m.src) + side_cost(&m.dst)
}

fn side_cost(side: &SideMatch) -> u64 {
    let sets = side.in_sets.len() + side.not_in.len();
    let ports = side.ports.as_ref().map_or(0, Vec::len) + side.not_ports.len();
    2 * sets as u64 + 2 * ports as u64
}

/// How often a rule decides, by its profile or by the model; 0 for Log rules,
/// which decide nothing.
pub(super) fn weights(ir: &PolicyIr, profile: Option<&Profile>) -> SecondaryMap<Rule, u64> {
    let mut sharing: SecondaryMap<Decision, u64> = SecondaryMap::new();
    let live = || ir.order.iter().flat_map(|chain| &ir.chains[*chain].rules);
    for rule in live() {
        sharing[ir.rules[*rule].decision] += 1;
    }
    let mut weights = SecondaryMap::with_capacity(ir.rules.len());
    for rule in live() {
        let data = &ir.rules[*rule];
        weights[*rule] = match profile {
            _ if data.action == Action::Log => 0,
            // Scaled, so that even shares of few hits keep their order.
            Some(hits) => hits[data.decision].min(1 << 40) * 256 / sharing[data.decision].max(1),
            None => model(&data.matches),
        };
    }
    weights
}

/// Half the packets for each of the three big protocols or a family, a quarter
/// for a set, an eighth for a port list, a sixteenth for an ICMP type.
fn model(m: &Match) -> u64 {
    let side = |s: &SideMatch| 2 * s.in_sets.len() + if s.ports.is_some() { 3 } else { 0 };
    let narrowing = usize::from(m.family.is_some())
        + usize::from(m.protocol.is_some())
        + if m.icmp.is_some() { 4 } else { 0 }
        + side(&m.src)
        + side(&m.dst);
    (1 << 20) >> narrowing.min(20)
}

/// The expected cost of an order, up to what all orders pay alike.
pub(super) fn expected<'a>(steps: impl Iterator<Item = &'a (u64, u64)>) -> u128 {
    let (mut reached, mut total) = (0_u128, 0_u128);
    for (weight, cost) in steps {
        reached += u128::from(*cost);
        total += u128::from(*weight) * reached;
    }
    total
}
