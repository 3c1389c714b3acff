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
//! Costs are those of the chain form, in tests of about one instruction pair (a
//! load or compare and a jump). All integers: the same on every machine.

use cranelift_entity::SecondaryMap;

use crate::ir::{Action, Decision, Match, PolicyIr, PortMatch, Rule, SideMatch};

/// How often each decision was hit, from counters or a replayed capture.
pub type Profile = SecondaryMap<Decision, u64>;

/// What testing a rule takes when rules are a chain: 1 for the rule itself and for
/// each fact compared; a set is one load and one bit test in the class's row; ports
/// are compared one after the other up to four ranges, else in a balanced tree; a
/// named port is a protocol, a port and a set.
pub fn cost(m: &Match) -> u64 {
    let facts = [m.family.is_some(), m.protocol.is_some(), m.not_protocol.is_some()];
    let icmp = [m.icmp, m.not_icmp].iter().flatten().map(|i| 2 + u64::from(i.code.is_some())).sum::<u64>();
    1 + facts.iter().filter(|f| **f).count() as u64 + icmp + side_cost(&m.src) + side_cost(&m.dst)
}

fn side_cost(side: &SideMatch) -> u64 {
    let sets = side.in_sets.len() + side.not_in.len();
    2 * sets as u64 + port_cost(side.ports.as_deref().unwrap_or_default()) + port_cost(&side.not_ports)
}

fn port_cost(ports: &[PortMatch]) -> u64 {
    let named = ports.iter().filter(|port| matches!(port, PortMatch::Named { .. })).count() as u64;
    let ranges = ports.len() as u64 - named;
    let compares = if ranges <= 4 { 2 * ranges } else { 4 + 2 * u64::from(ranges.ilog2()) };
    4 * named + compares
}

/// How often each rule of a chain decides or passes on, up to a common factor: by
/// the profile, or by the model where there is none; 0 for Log rules, which end
/// nothing, and for rules in no chain. With a profile every decision counts as hit
/// once more than it says, so that what was never hit is ordered by cost. O(rules).
pub fn weights(ir: &PolicyIr, profile: Option<&Profile>) -> SecondaryMap<Rule, u64> {
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
            Some(hits) => (hits[data.decision].min(1 << 40) + 1) * 256 / sharing[data.decision].max(1),
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
