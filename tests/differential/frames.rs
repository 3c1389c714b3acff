//! Hostile surroundings for a drawn policy that must not change any verdict.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use polc_compiler::ir::{
    Action, AddrSet, AddrSetData, DecisionData, DecisionKind, Match, PolicyIr, PortMatch, RuleData,
    RuleOrigins, SetKind, SideMatch,
};

/// Changes a policy without changing what it says.
pub type Frame = fn(PolicyIr) -> PolicyIr;

/// Rules that [`padded`] puts in front of the first chain's own.
const PADDING: u32 = 3000;
/// Rules that [`crowded`] does.
const CROWD: u32 = 10_000;

/// The policy as drawn.
pub fn plain(ir: PolicyIr) -> PolicyIr {
    ir
}

/// The policy without what it says of destination addresses.
pub fn one_sided(mut ir: PolicyIr) -> PolicyIr {
    let named = |port: &PortMatch| matches!(port, PortMatch::Named { .. });
    for rule in ir.rules.values_mut() {
        let dst = &mut rule.matches.dst;
        dst.in_sets.clear();
        dst.not_in.clear();
        dst.not_ports.retain(|port| !named(port));
        if let Some(ports) = &mut dst.ports {
            ports.retain(|port| !named(port));
        }
    }
    ir
}

/// The policy with all members standing in it, and rules left out until there are few
/// enough to compare prefixes one by one.
pub fn listed(mut ir: PolicyIr) -> PolicyIr {
    for set in ir.sets.values_mut() {
        set.kind = SetKind::Nets;
        set.nets.truncate(2);
    }
    for chain in ir.chains.values_mut() {
        chain.rules.truncate(2);
    }
    ir
}

/// The policy with other matches: every rule asks for sets on both sides, and none
/// for anything else, so that hundreds of them meet in one column. Few log.
pub fn widened(mut ir: PolicyIr) -> PolicyIr {
    let sets: Vec<AddrSet> = ir.sets.keys().collect();
    for (i, rule) in ir.rules.values_mut().enumerate() {
        let mut matches = Match::default();
        matches.src.in_sets.push(sets[i * 7 % sets.len()]);
        let dst = sets[i * 11 % sets.len()];
        match i % 4 {
            0 => matches.dst.not_in.push(dst),
            _ => matches.dst.in_sets.push(dst),
        }
        rule.matches = matches;
    }
    let rules = &ir.rules;
    for chain in ir.chains.values_mut() {
        chain.rules.retain(|rule| rules[*rule].action != Action::Log || rule.as_u32() % 16 == 0);
    }
    ir
}

/// [`one_sided`], behind ten thousand rules of many sources.
pub fn crowded(ir: PolicyIr) -> PolicyIr {
    surround(one_sided(ir), CROWD, 500)
}

/// As [`crowded`], with what the policy says of destination addresses.
pub fn crowded_both(ir: PolicyIr) -> PolicyIr {
    surround(ir, CROWD, 500)
}

/// The policy behind thousands of rules that match nobody: their source must be
/// in a set that has no members now but might have some later, so that no pass
/// may drop them.
pub fn padded(ir: PolicyIr) -> PolicyIr {
    surround(ir, PADDING, 1)
}

/// Puts `rules` rules in front, whose sources are in one of `sets` sets that only
/// addresses of 198.18.0.0/15 are in, or none: no packet drawn for the policy is
/// from there.
fn surround(mut ir: PolicyIr, rules: u32, sets: u32) -> PolicyIr {
    let nobody: Vec<AddrSet> = (0..sets)
        .map(|i| {
            let host = Ipv4Addr::from(0xc612_0000 + i);
            let nets = if i == 0 { Vec::new() } else { vec![IpNet::from(IpAddr::V4(host))] };
            let name = format!("nobody == '{i}'");
            ir.sets.push(AddrSetData { kind: SetKind::Members, name, nets })
        })
        .collect();
    let Some(&first) = ir.order.first() else { return ir };
    let mut around = Vec::new();
    for i in 0..rules {
        let action = if i % 3 == 0 { Action::Deny } else { Action::Allow };
        let decision = ir.decisions.push(DecisionData {
            kind: DecisionKind::Rule,
            api: "projectcalico.org/v3".into(),
            object: "NetworkPolicy".into(),
            namespace: Some("padding".into()),
            name: "padding".into(),
            tier: Some("default".into()),
            rule: Some(i),
            action,
            at: None,
        });
        let port = (i % 60_000) as u16;
        let set = nobody[(i % sets) as usize];
        let matches = Match {
            protocol: Some(6),
            src: SideMatch { in_sets: vec![set], ..SideMatch::default() },
            dst: SideMatch { ports: Some(vec![PortMatch::Range(port, port)]), ..SideMatch::default() },
            ..Match::default()
        };
        around.push(ir.rules.push(RuleData { matches, action, decision, origins: RuleOrigins::default() }));
    }
    let own = std::mem::take(&mut ir.chains[first].rules);
    around.extend(own);
    ir.chains[first].rules = around;
    ir
}
