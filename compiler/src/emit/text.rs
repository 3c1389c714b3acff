//! Notes in the user's terms.

use std::fmt::Write as _;

use super::rule::Side;
use crate::ir::{
    AddrSet, Chain, ChainData, ChainEnd, DecisionData, DecisionKind, Direction, Family, IcmpMatch, PolicyIr,
    PortMatch, RuleData, SideMatch, protocol,
};

/// Alternatives and sets that a note lists before it only counts.
const LISTED: usize = 4;
/// Characters of a set's name that a note shows.
const NAME: usize = 60;

/// `NetworkPolicy shop/web ingress[1] allow`.
pub(super) fn rule(ir: &PolicyIr, rule: &RuleData) -> String {
    format!("{} {}", decision(&ir.decisions[rule.decision], ir.direction), rule.action.as_str())
}

/// `tier default`.
pub(super) fn chain(chain: &ChainData) -> String {
    format!("chain {}", chain.name)
}

/// What a chain's end does.
pub(super) fn chain_end(ir: &PolicyIr, chain: Chain) -> String {
    let data = &ir.chains[chain];
    match data.end {
        ChainEnd::Allow(d) => format!("{} allow", decision(&ir.decisions[d], ir.direction)),
        ChainEnd::Deny(d) => format!("{} deny", decision(&ir.decisions[d], ir.direction)),
        ChainEnd::Pass => format!("end of {} pass", data.name),
    }
}

/// What decides, without the action.
fn decision(d: &DecisionData, direction: Direction) -> String {
    let mut text = String::with_capacity(64);
    push_decision(&mut text, d, direction);
    text
}

/// Appends what decides, without the action.
pub(super) fn push_decision(text: &mut String, d: &DecisionData, direction: Direction) {
    match d.kind {
        DecisionKind::Rule if d.object.is_empty() => {}
        DecisionKind::Rule => text.extend([d.object.as_str(), " "]),
        DecisionKind::Profile => text.push_str("profile "),
        DecisionKind::TierDefault => return text.extend(["end of tier ", &d.name]),
        DecisionKind::NoProfileMatch => return text.push_str("no profile matches"),
        DecisionKind::Failsafe => return text.push_str("failsafe port"),
    }
    if let Some(namespace) = &d.namespace {
        text.extend([namespace.as_str(), "/"]);
    }
    text.push_str(&d.name);
    if let Some(index) = d.rule {
        let _ = write!(text, " {}[{index}]", direction.as_str());
    }
}

/// `family ipv4`.
pub(super) fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// `protocol tcp`.
pub(super) fn protocol(number: u8) -> String {
    match protocol::name(number) {
        Some(name) => format!("protocol {name}"),
        None => format!("protocol {number}"),
    }
}

/// `icmp type 8 code 0`.
pub(super) fn icmp(icmp: IcmpMatch) -> String {
    match icmp.code {
        Some(code) => format!("icmp type {} code {code}", icmp.icmp_type),
        None => format!("icmp type {}", icmp.icmp_type),
    }
}

/// `not dst port 80, 8000-8100`.
pub(super) fn ports(side: Side, not: &str, ports: &[PortMatch]) -> String {
    let one = |port: &PortMatch| match *port {
        PortMatch::Range(first, last) if first == last => first.to_string(),
        PortMatch::Range(first, last) => format!("{first}-{last}"),
        PortMatch::Named { protocol, port, set } => {
            let protocol = protocol::name(protocol).map_or(protocol.to_string(), str::to_string);
            format!("named {protocol}/{port} in {set}")
        }
    };
    format!("{not}{} port {}", side.as_str(), list(ports.iter().map(one)))
}

/// `src in role == 'web'; not in 10.0.0.0/8`.
pub(super) fn sets(ir: &PolicyIr, side: Side, criteria: &SideMatch) -> String {
    let name = |set: &AddrSet| {
        let name = &ir.sets[*set].name;
        let mut short: String = name.chars().take(NAME).collect();
        if short.len() < name.len() {
            short.push('…');
        }
        if short.is_empty() { set.to_string() } else { short }
    };
    let mut parts = Vec::new();
    if !criteria.in_sets.is_empty() {
        parts.push(format!("{} in {}", side.as_str(), list(criteria.in_sets.iter().map(name))));
    }
    if !criteria.not_in.is_empty() {
        parts.push(format!("{} not in {}", side.as_str(), list(criteria.not_in.iter().map(name))));
    }
    parts.join("; ")
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let shown: Vec<String> = items.take(LISTED).collect();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}
