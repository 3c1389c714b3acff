//! Draws policies and packets for differential tests: the same seed and shape
//! give the same IR and flows.
//!
//! Drawn policies always verify. Their sets, ports and protocols come from small
//! pools, so that rules overlap, cover and contradict each other far more often
//! than chance alone would let them.

mod flows;
mod rng;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use flows::flows;
pub use rng::Rng;

use super::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};
use super::{
    Action, AddrSet, AddrSetData, Chain, ChainData, ChainEnd, Decision, DecisionData, DecisionKind,
    Direction, Family, File, IcmpMatch, Match, Origin, PolicyIr, PortMatch, Rule, RuleData, RuleOrigins,
    SetKind, SideMatch,
};

/// How large a drawn policy is, and what may occur in it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Chains, at least 1 (0 counts as 1). Default 3.
    pub chains: usize,
    /// Most rules of one chain; each chain draws 0 to this many. Default 8.
    pub rules: usize,
    /// Address sets. Default 6.
    pub sets: usize,
    /// Most members of one set; each set draws 0 to this many. Default 4.
    pub nets: usize,
    /// Most alternatives of one port criterion, at least 1. Default 3.
    pub ports: usize,
    /// Whether Log rules occur. Default true.
    pub log: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { chains: 3, rules: 8, sets: 6, nets: 4, ports: 3, log: true }
    }
}

/// Draws a policy that verifies.
pub fn policy(seed: u64, shape: &Shape) -> PolicyIr {
    let mut rng = Rng::new(seed);
    let direction = rng.of([Direction::Ingress, Direction::Egress]);
    let mut ir = PolicyIr::new(format!("generated/{seed}"), direction);
    ir.files.push("generated.yaml".into());
    for _ in 0..shape.sets {
        let data = set(&mut rng, &ir, shape);
        ir.sets.push(data);
    }
    let chains = shape.chains.max(1);
    for i in 0..chains {
        let chain = chain(&mut rng, &mut ir, shape, i + 1 == chains);
        let at = rng.below(ir.order.len() + 1);
        ir.order.insert(if i + 1 == chains { ir.order.len() } else { at }, chain);
    }
    ir
}

/// A prefix from a small world: a few IPv4 and IPv6 networks, nested and next
/// to each other, down to single hosts; rarely a whole family.
fn net(rng: &mut Rng) -> IpNet {
    if rng.chance(70) {
        let length = rng.of([0, 1, 8, 16, 23, 24, 30, 31, 32, 32, 32, 32]);
        let address = Ipv4Addr::new(rng.of([10, 10, 11, 203]), rng.of([0, 1]), rng.of([0, 1, 255]), 0);
        let host = rng.of([0, 1, 2, 3, 4, 255]);
        let bits = u32::from(address) | host;
        Ipv4Net::new(bits.into(), length).map(|n| IpNet::V4(n.trunc())).unwrap_or_default()
    } else {
        let length = rng.of([0, 1, 48, 64, 112, 126, 127, 128, 128, 128]);
        let host = u128::from(rng.of([0_u32, 1, 2, 3, 0xffff, 0x10000]));
        let bits = (0xfd00_u128 << 112) | (u128::from(rng.of([0_u32, 1])) << 64) | host;
        Ipv6Net::new(Ipv6Addr::from(bits), length).map(|n| IpNet::V6(n.trunc())).unwrap_or_default()
    }
}

/// Up to `n` members of a set: sorted, without duplicates.
pub fn nets(rng: &mut Rng, n: usize) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = (0..n).map(|_| net(rng)).collect();
    nets.sort();
    nets.dedup();
    nets
}

fn set(rng: &mut Rng, ir: &PolicyIr, shape: &Shape) -> AddrSetData {
    let twin = rng.below(ir.sets.len());
    if rng.chance(15)
        && let Some(twin) = ir.sets.get(AddrSet::from_u32(twin as u32))
    {
        return twin.clone();
    }
    let n = rng.below(shape.nets + 1);
    let nets = nets(rng, n);
    let kind = rng.of([SetKind::Nets, SetKind::Members]);
    let name = match kind {
        SetKind::Nets => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        SetKind::Members => format!("role == 'r{}'", ir.sets.len()),
    };
    AddrSetData { kind, name, nets }
}

fn chain(rng: &mut Rng, ir: &mut PolicyIr, shape: &Shape, last: bool) -> Chain {
    let name = if last { "profiles".into() } else { format!("tier{}", ir.chains.len()) };
    let mut rules = Vec::new();
    for i in 0..rng.below(shape.rules + 1) {
        let rule = rule(rng, ir, shape, &name, i as u32, last);
        let at = rng.below(rules.len() + 1);
        rules.insert(at, rule);
    }
    let kind = if last { DecisionKind::NoProfileMatch } else { DecisionKind::TierDefault };
    let end = match rng.below(if last { 2 } else { 3 }) {
        0 => ChainEnd::Deny(decision(rng, ir, &name, kind, None, Action::Deny)),
        1 => ChainEnd::Allow(decision(rng, ir, &name, kind, None, Action::Allow)),
        _ => ChainEnd::Pass,
    };
    ir.chains.push(ChainData { name, rules, end })
}

fn decision(
    rng: &mut Rng,
    ir: &mut PolicyIr,
    tier: &str,
    kind: DecisionKind,
    rule: Option<u32>,
    action: Action,
) -> Decision {
    let line = ir.decisions.len() as u32 + 1;
    ir.decisions.push(DecisionData {
        kind,
        api: rule.map(|_| "projectcalico.org/v3".to_string()).unwrap_or_default(),
        object: rule.map(|_| "NetworkPolicy".to_string()).unwrap_or_default(),
        namespace: rng.chance(50).then(|| "prod".to_string()),
        name: format!("{tier}.p\"{}", rng.below(3)),
        tier: rng.chance(80).then(|| tier.to_string()),
        rule,
        action,
        at: rule.map(|_| Origin { file: File::from_u32(0), line, column: 3 }),
    })
}

/// Draws a rule: new, or a variation of an earlier one, so that rules cover
/// each other; sometimes it shares an earlier rule's decision.
fn rule(rng: &mut Rng, ir: &mut PolicyIr, shape: &Shape, tier: &str, index: u32, last: bool) -> Rule {
    let model = rng.below(ir.rules.len());
    let model = ir.rules.get(Rule::from_u32(model as u32)).cloned();
    let matches = match &model {
        Some(model) if rng.chance(35) => vary(rng, ir, shape, model.matches.clone()),
        _ => draw_match(rng, ir, shape),
    };
    let mut origins = RuleOrigins::default();
    if rng.chance(60) {
        let at = Some(Origin { file: File::from_u32(0), line: 10 + index, column: 5 });
        origins = RuleOrigins { rule: at, dst: at, dst_ports: at, ..origins };
    }
    if let Some(model) = model
        && rng.chance(25)
        && !(last && model.action == Action::Pass)
        && (shape.log || model.action != Action::Log)
    {
        return ir.rules.push(RuleData { matches, origins, ..model });
    }
    let written =
        rng.of([Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Pass, Action::Log]);
    let action = match written {
        Action::Pass if last => Action::Deny,
        Action::Log if !shape.log => Action::Deny,
        other => other,
    };
    let says = if written == Action::Log { action } else { written };
    let kind = if last { DecisionKind::Profile } else { DecisionKind::Rule };
    let decision = decision(rng, ir, tier, kind, Some(index), says);
    ir.rules.push(RuleData { matches, action, decision, origins })
}

fn draw_match(rng: &mut Rng, ir: &PolicyIr, shape: &Shape) -> Match {
    let mut m = Match::default();
    let criteria = if rng.chance(8) { 0 } else { 1 + rng.below(4) };
    for _ in 0..criteria {
        m = vary(rng, ir, shape, m);
    }
    m
}

/// Changes one criterion; the result stays valid.
fn vary(rng: &mut Rng, ir: &PolicyIr, shape: &Shape, mut m: Match) -> Match {
    const PROTOCOLS: [u8; 8] = [TCP, TCP, UDP, SCTP, ICMP, ICMPV6, 0, 255];
    let some = rng.chance(85);
    match rng.below(11) {
        0 => m.family = some.then(|| rng.of([Family::V4, Family::V6])),
        1 => m.protocol = some.then(|| rng.of(PROTOCOLS)),
        2 => m.not_protocol = some.then(|| rng.of(PROTOCOLS)),
        3 => m.icmp = some.then(|| icmp(rng)),
        4 => m.not_icmp = some.then(|| icmp(rng)),
        5..8 => m.src = side(rng, ir, shape, m.src),
        _ => m.dst = side(rng, ir, shape, m.dst),
    }
    let contradicts = match m.protocol {
        Some(ICMP) => m.family == Some(Family::V6),
        Some(ICMPV6) => m.family == Some(Family::V4),
        Some(_) => true,
        None => false,
    };
    if m.icmp.is_some() && contradicts {
        m.protocol = None;
    }
    m
}

fn icmp(rng: &mut Rng) -> IcmpMatch {
    let code = rng.chance(40).then(|| rng.of([0, 1, 255]));
    IcmpMatch { icmp_type: rng.of([0, 3, 8, 128, 255]), code }
}

fn side(rng: &mut Rng, ir: &PolicyIr, shape: &Shape, mut side: SideMatch) -> SideMatch {
    let set = (!ir.sets.is_empty()).then(|| AddrSet::from_u32(rng.below(ir.sets.len()) as u32));
    match (rng.below(16), set) {
        (0..5, Some(set)) => side.in_sets.push(set),
        (5..7, Some(set)) => side.not_in.push(set),
        (7..12, _) => side.ports = Some(ports(rng, shape, set)),
        (12 | 13, _) => side.not_ports = ports(rng, shape, set),
        (14, _) => side.ports = None,
        _ => side = SideMatch::default(),
    }
    side
}

fn ports(rng: &mut Rng, shape: &Shape, set: Option<AddrSet>) -> Vec<PortMatch> {
    const EDGES: [u16; 10] = [0, 1, 79, 80, 81, 443, 1023, 1024, 65534, 65535];
    let one = |rng: &mut Rng| match set {
        Some(set) if rng.chance(25) => {
            PortMatch::Named { protocol: rng.of([TCP, UDP]), port: rng.of(EDGES), set }
        }
        _ => {
            let (a, b) = (rng.of(EDGES), rng.of(EDGES));
            if rng.chance(50) { PortMatch::Range(a, a) } else { PortMatch::Range(a.min(b), a.max(b)) }
        }
    };
    let most = shape.ports.max(1);
    let n = if rng.chance(4) { 0 } else { 1 + rng.below(most) };
    (0..n).map(|_| one(rng)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::protocol;
    use crate::ir::{Verdict, evaluate, matches, verify};

    #[test]
    fn drawn_policies_verify_and_repeat() {
        for seed in 0..500 {
            let ir = policy(seed, &Shape::default());
            verify(&ir).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(ir, policy(seed, &Shape::default()), "seed {seed}");
        }
    }

    /// The generator is worth its name only if rules of every kind match, and
    /// both verdicts occur.
    #[test]
    fn flows_reach_rules_and_both_verdicts() {
        let (mut allowed, mut logged, mut rules, mut matched, mut flow_count) = (0, 0, 0, 0, 0);
        for seed in 0..300 {
            let ir = policy(seed, &Shape::default());
            let flows = flows(&ir, seed, 40);
            assert_eq!(flows.len(), 40);
            rules += ir.rules.len();
            matched +=
                ir.rules.values().filter(|r| flows.iter().any(|f| matches(&ir, &r.matches, f))).count();
            for flow in &flows {
                let outcome = evaluate(&ir, flow);
                allowed += usize::from(outcome.verdict == Verdict::Allow);
                logged += usize::from(!outcome.logged.is_empty());
                flow_count += 1;
            }
        }
        assert!(allowed * 4 > flow_count && allowed * 4 < 3 * flow_count, "{allowed} of {flow_count}");
        assert!(logged * 20 > flow_count, "{logged} of {flow_count}");
        assert!(matched * 10 > rules * 6, "{matched} of {rules}");
    }

    #[test]
    fn flows_are_packets_that_exist() {
        for seed in 0..100 {
            for flow in flows(&policy(seed, &Shape::default()), seed, 50) {
                assert_eq!(flow.src.is_ipv4(), flow.dst.is_ipv4());
                assert!(flow.ports.is_none() || protocol::has_ports(flow.protocol), "{flow:?}");
                let icmp = if flow.src.is_ipv4() { ICMP } else { ICMPV6 };
                assert!(flow.icmp.is_none() || flow.protocol == icmp, "{flow:?}");
            }
        }
    }
}
