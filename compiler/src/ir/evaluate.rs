//! The reference evaluator: what a [`PolicyIr`] means, and nothing else.
//!
//! A slow first-match loop that shares no code with passes, emitter or engines.
//! Every other way of running a policy is compared with it. Cost: each criterion
//! of each rule, sets searched linearly.

use std::net::IpAddr;

use cranelift_entity::packed_option::ReservedValue;

use super::{
    Action, AddrSet, Chain, ChainEnd, Decision, Family, Flow, IcmpMatch, Match, Outcome, PolicyIr, PortMatch,
    SideMatch, Verdict,
};

/// How the evaluation of one chain ended.
enum Step {
    Decided(Verdict, Decision),
    NextChain,
}

/// Evaluates one packet by the letter of the IR.
///
/// An IR whose last chain passes decides nothing; such an IR never verifies, and
/// here it denies with the reserved decision.
///
/// # Panics
/// If an id is out of range: `ir` must have passed [`super::verify`].
pub fn evaluate(ir: &PolicyIr, flow: &Flow) -> Outcome {
    let mut logged = Vec::new();
    for chain in &ir.order {
        if let Step::Decided(verdict, decision) = evaluate_chain(ir, *chain, flow, &mut logged) {
            return Outcome { verdict, decision, logged };
        }
    }
    Outcome { verdict: Verdict::Deny, decision: Decision::reserved_value(), logged }
}

fn evaluate_chain(ir: &PolicyIr, chain: Chain, flow: &Flow, logged: &mut Vec<Decision>) -> Step {
    let chain = &ir.chains[chain];
    for rule in &chain.rules {
        let rule = &ir.rules[*rule];
        if !matches(ir, &rule.matches, flow) {
            continue;
        }
        match rule.action {
            Action::Allow => return Step::Decided(Verdict::Allow, rule.decision),
            Action::Deny => return Step::Decided(Verdict::Deny, rule.decision),
            Action::Pass => return Step::NextChain,
            Action::Log => logged.push(rule.decision),
        }
    }
    match chain.end {
        ChainEnd::Allow(decision) => Step::Decided(Verdict::Allow, decision),
        ChainEnd::Deny(decision) => Step::Decided(Verdict::Deny, decision),
        ChainEnd::Pass => Step::NextChain,
    }
}

/// What a packet is a hit of: every Log and Pass rule that matched on the way, and
/// what decided; in that order.
///
/// # Panics
/// As [`evaluate`].
pub fn credited(ir: &PolicyIr, flow: &Flow) -> Vec<Decision> {
    let mut credited = Vec::new();
    for chain in ir.order.iter().map(|chain| &ir.chains[*chain]) {
        let mut matching =
            chain.rules.iter().map(|rule| &ir.rules[*rule]).filter(|r| matches(ir, &r.matches, flow));
        let ended_by = matching.find(|rule| {
            credited.push(rule.decision);
            rule.action != Action::Log
        });
        match (ended_by, chain.end) {
            (Some(rule), _) if rule.action == Action::Pass => {}
            (None, ChainEnd::Pass) => {}
            (None, ChainEnd::Allow(decision) | ChainEnd::Deny(decision)) => {
                credited.push(decision);
                break;
            }
            (Some(_), _) => break,
        }
    }
    credited
}

/// Whether all criteria hold for the packet.
///
/// # Panics
/// As [`evaluate`].
pub fn matches(ir: &PolicyIr, m: &Match, flow: &Flow) -> bool {
    let family = match flow.src {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    m.family.is_none_or(|f| f == family)
        && m.protocol.is_none_or(|p| p == flow.protocol)
        && m.not_protocol.is_none_or(|p| p != flow.protocol)
        && m.icmp.is_none_or(|i| icmp_matches(i, flow))
        && m.not_icmp.is_none_or(|i| !icmp_matches(i, flow))
        && side_matches(ir, &m.src, flow, flow.src, flow.ports.map(|(src, _)| src))
        && side_matches(ir, &m.dst, flow, flow.dst, flow.ports.map(|(_, dst)| dst))
}

fn icmp_matches(want: IcmpMatch, flow: &Flow) -> bool {
    flow.icmp.is_some_and(|(ty, code)| want.icmp_type == ty && want.code.is_none_or(|c| c == code))
}

fn side_matches(ir: &PolicyIr, side: &SideMatch, flow: &Flow, address: IpAddr, port: Option<u16>) -> bool {
    let one = |alternative: &PortMatch| port_matches(ir, alternative, flow.protocol, address, port);
    side.in_sets.iter().all(|set| contains(ir, *set, address))
        && !side.not_in.iter().any(|set| contains(ir, *set, address))
        && side.ports.as_ref().is_none_or(|ports| ports.iter().any(one))
        && !side.not_ports.iter().any(one)
}

fn port_matches(
    ir: &PolicyIr,
    alternative: &PortMatch,
    protocol: u8,
    address: IpAddr,
    port: Option<u16>,
) -> bool {
    let Some(port) = port else { return false };
    match *alternative {
        PortMatch::Range(first, last) => first <= port && port <= last,
        PortMatch::Named { protocol: p, port: number, set } => {
            p == protocol && number == port && contains(ir, set, address)
        }
    }
}

fn contains(ir: &PolicyIr, set: AddrSet, address: IpAddr) -> bool {
    ir.sets[set].nets.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{
        AddrSetData, ChainData, DecisionData, DecisionKind, Direction, RuleData, RuleOrigins, SetKind,
    };

    fn decision(ir: &mut PolicyIr, action: Action) -> Decision {
        ir.decisions.push(DecisionData {
            kind: DecisionKind::Rule,
            api: String::new(),
            object: String::new(),
            namespace: None,
            name: action.as_str().into(),
            tier: None,
            rule: None,
            action,
            at: None,
        })
    }

    fn set(ir: &mut PolicyIr, nets: &[&str]) -> AddrSet {
        let nets = nets.iter().map(|n| n.parse().unwrap()).collect();
        ir.sets.push(AddrSetData { kind: SetKind::Nets, name: "set".into(), nets })
    }

    /// One rule that allows, then the end denies.
    fn single(build: impl FnOnce(&mut PolicyIr) -> Match) -> PolicyIr {
        let mut ir = PolicyIr::new("test", Direction::Ingress);
        let matches = build(&mut ir);
        let allow = decision(&mut ir, Action::Allow);
        let deny = decision(&mut ir, Action::Deny);
        let rule = ir.rules.push(RuleData {
            matches,
            action: Action::Allow,
            decision: allow,
            origins: RuleOrigins::default(),
        });
        let chain = ir.chains.push(ChainData {
            name: "default".into(),
            rules: vec![rule],
            end: ChainEnd::Deny(deny),
        });
        ir.order.push(chain);
        ir
    }

    fn tcp(src: &str, dst: &str, ports: (u16, u16)) -> Flow {
        Flow {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol: 6,
            ports: Some(ports),
            icmp: None,
        }
    }

    #[test]
    fn sides_are_independent() {
        let ir = single(|ir| {
            let a = set(ir, &["10.0.0.0/8"]);
            let b = set(ir, &["10.1.0.0/16"]);
            Match {
                src: SideMatch { in_sets: vec![a], not_in: vec![b], ..Default::default() },
                dst: SideMatch { ports: Some(vec![PortMatch::Range(80, 81)]), ..Default::default() },
                ..Default::default()
            }
        });
        let cases = [
            (tcp("10.0.0.1", "1.1.1.1", (5, 80)), Verdict::Allow),
            (tcp("10.0.0.1", "1.1.1.1", (80, 82)), Verdict::Deny),
            (tcp("10.1.0.1", "1.1.1.1", (5, 80)), Verdict::Deny),
            (tcp("1.1.1.1", "10.0.0.1", (5, 80)), Verdict::Deny),
            (tcp("fd00::1", "fd00::2", (5, 80)), Verdict::Deny),
            (Flow { ports: None, ..tcp("10.0.0.1", "1.1.1.1", (0, 0)) }, Verdict::Deny),
        ];
        for (flow, want) in cases {
            assert_eq!(evaluate(&ir, &flow).verdict, want, "{flow:?}");
        }
    }

    #[test]
    fn named_port_needs_protocol_number_and_address() {
        let ir = single(|ir| {
            let web = set(ir, &["10.0.0.1/32"]);
            let named = PortMatch::Named { protocol: 6, port: 80, set: web };
            Match { dst: SideMatch { ports: Some(vec![named]), ..Default::default() }, ..Default::default() }
        });
        assert_eq!(evaluate(&ir, &tcp("1.1.1.1", "10.0.0.1", (1, 80))).verdict, Verdict::Allow);
        assert_eq!(evaluate(&ir, &tcp("1.1.1.1", "10.0.0.2", (1, 80))).verdict, Verdict::Deny);
        assert_eq!(evaluate(&ir, &tcp("1.1.1.1", "10.0.0.1", (1, 81))).verdict, Verdict::Deny);
        let udp = Flow { protocol: 17, ..tcp("1.1.1.1", "10.0.0.1", (1, 80)) };
        assert_eq!(evaluate(&ir, &udp).verdict, Verdict::Deny);
    }

    #[test]
    fn negations_hold_for_packets_without_the_fact() {
        let ir = single(|_| Match {
            not_icmp: Some(IcmpMatch { icmp_type: 8, code: None }),
            dst: SideMatch { not_ports: vec![PortMatch::Range(0, u16::MAX)], ..Default::default() },
            ..Default::default()
        });
        let echo = Flow { protocol: 1, ports: None, icmp: Some((8, 0)), ..tcp("1.1.1.1", "1.1.1.2", (0, 0)) };
        assert_eq!(evaluate(&ir, &echo).verdict, Verdict::Deny);
        let reply = Flow { icmp: Some((0, 0)), ..echo };
        assert_eq!(evaluate(&ir, &reply).verdict, Verdict::Allow);
        assert_eq!(evaluate(&ir, &tcp("1.1.1.1", "1.1.1.2", (1, 2))).verdict, Verdict::Deny);
    }

    /// Credits are the log records and the decision, and Pass rules besides.
    #[test]
    fn credits_agree_with_outcomes() {
        use crate::ir::generate::{Shape, flows, policy};
        let (mut passes, mut logs) = (0, 0);
        for seed in 0..300 {
            let ir = policy(seed, &Shape::default());
            let is = |decision: &Decision, action: Action| {
                ir.rules.values().any(|rule| rule.decision == *decision && rule.action == action)
            };
            for flow in flows(&ir, seed, 30) {
                let outcome = evaluate(&ir, &flow);
                let mut credited = credited(&ir, &flow);
                assert_eq!(credited.pop(), Some(outcome.decision), "seed {seed}");
                credited.retain(|decision| {
                    let passed = is(decision, Action::Pass);
                    passes += usize::from(passed);
                    !passed
                });
                logs += credited.len();
                assert!(credited.iter().all(|decision| is(decision, Action::Log)), "seed {seed}");
                let logged = outcome.logged.iter().filter(|decision| !is(decision, Action::Pass));
                assert!(logged.eq(&credited), "seed {seed}: {:?} {credited:?}", outcome.logged);
            }
        }
        assert!(passes > 300 && logs > 300, "{passes} {logs}");
    }

    #[test]
    fn pass_leaves_the_chain_and_log_goes_on() {
        let mut ir = single(|_| Match::default());
        let pass = decision(&mut ir, Action::Pass);
        let log = decision(&mut ir, Action::Log);
        let any = |action, decision| RuleData {
            matches: Match::default(),
            action,
            decision,
            origins: RuleOrigins::default(),
        };
        let log_rule = ir.rules.push(any(Action::Log, log));
        let pass_rule = ir.rules.push(any(Action::Pass, pass));
        let deny_rule = ir.rules.push(any(Action::Deny, Decision::from_u32(1)));
        let first = ir.chains.push(ChainData {
            name: "first".into(),
            rules: vec![log_rule, pass_rule, deny_rule],
            end: ChainEnd::Pass,
        });
        ir.order.insert(0, first);
        let outcome = evaluate(&ir, &tcp("1.1.1.1", "1.1.1.2", (1, 2)));
        let want = Outcome { verdict: Verdict::Allow, decision: Decision::from_u32(0), logged: vec![log] };
        assert_eq!(outcome, want);
    }
}
