//! Hostile surroundings for a drawn policy that must not change any verdict.

use polc_compiler::ir::{
    Action, AddrSetData, DecisionData, DecisionKind, Match, PolicyIr, PortMatch, RuleData, RuleOrigins,
    SetKind, SideMatch,
};

/// Changes a policy without changing what it says.
pub type Frame = fn(PolicyIr) -> PolicyIr;

/// Rules that [`padded`] puts in front of each chain's own.
const PADDING: u32 = 3000;

/// The policy as drawn.
pub fn plain(ir: PolicyIr) -> PolicyIr {
    ir
}

/// The policy behind thousands of rules that match nobody: their source must be
/// in a set that has no members now but might have some later, so that no pass
/// may drop them.
pub fn padded(mut ir: PolicyIr) -> PolicyIr {
    let nobody = ir.sets.push(AddrSetData {
        kind: SetKind::Members,
        name: "nobody == 'here'".into(),
        nets: Vec::new(),
    });
    let Some(&first) = ir.order.first() else { return ir };
    let mut padding = Vec::new();
    for i in 0..PADDING {
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
        let matches = Match {
            protocol: Some(6),
            src: SideMatch { in_sets: vec![nobody], ..SideMatch::default() },
            dst: SideMatch { ports: Some(vec![PortMatch::Range(port, port)]), ..SideMatch::default() },
            ..Match::default()
        };
        padding.push(ir.rules.push(RuleData { matches, action, decision, origins: RuleOrigins::default() }));
    }
    let own = std::mem::take(&mut ir.chains[first].rules);
    padding.extend(own);
    ir.chains[first].rules = padding;
    ir
}
