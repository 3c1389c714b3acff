//! One rule: tests, then the action.

use super::builder::{Builder, SCRATCH};
use super::sets::SetTests;
use super::{EmitOptions, PIECE_SLOTS, ports, text};
use crate::abi::{
    FLAG_ICMP, Field, STATE_DECISION, STATE_DPORT, STATE_DST, STATE_DST_CLASS, STATE_DST_PREFIX,
    STATE_FAMILY, STATE_FLAGS, STATE_ICMP_CODE, STATE_ICMP_TYPE, STATE_LOG_DECISION, STATE_LOGGED,
    STATE_PROTOCOL, STATE_SPORT, STATE_SRC, STATE_SRC_CLASS, STATE_SRC_PREFIX,
};
use crate::bpf::{AluOp, AsmError, Cond, Insn, Label, Reg};
use crate::image::Subject;
use crate::ir::{
    Action, Criterion, Decision, Family, IcmpMatch, Match, PolicyIr, PortMatch, Rule, RuleData, SideMatch,
};

/// A side of a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Where it comes from.
    Src,
    /// Where it goes to.
    Dst,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Src, Self::Dst];

    /// Register that points to the row of the side's class.
    pub fn row(self) -> Reg {
        match self {
            Self::Src => Reg::R7,
            Self::Dst => Reg::R8,
        }
    }

    /// The side's port.
    pub fn port_field(self) -> Field {
        match self {
            Self::Src => STATE_SPORT,
            Self::Dst => STATE_DPORT,
        }
    }

    /// The side's class.
    pub fn class_field(self) -> Field {
        match self {
            Self::Src => STATE_SRC_CLASS,
            Self::Dst => STATE_DST_CLASS,
        }
    }

    /// The side's address as a key of the address table.
    pub fn key_field(self) -> Field {
        match self {
            Self::Src => STATE_SRC_PREFIX,
            Self::Dst => STATE_DST_PREFIX,
        }
    }

    /// The side's address.
    pub fn address_field(self) -> Field {
        match self {
            Self::Src => STATE_SRC,
            Self::Dst => STATE_DST,
        }
    }

    /// What a rule says about the side.
    pub fn of(self, m: &Match) -> &SideMatch {
        match self {
            Self::Src => &m.src,
            Self::Dst => &m.dst,
        }
    }

    /// Whether a rule looks at the side's row.
    pub fn uses_sets(self, m: &Match) -> bool {
        let side = self.of(m);
        let mut ports = side.ports.iter().flatten().chain(&side.not_ports);
        !side.in_sets.is_empty()
            || !side.not_in.is_empty()
            || ports.any(|port| matches!(port, PortMatch::Named { .. }))
    }

    pub fn ports_criterion(self) -> Criterion {
        match self {
            Self::Src => Criterion::SrcPorts,
            Self::Dst => Criterion::DstPorts,
        }
    }

    pub fn not_ports_criterion(self) -> Criterion {
        match self {
            Self::Src => Criterion::SrcNotPorts,
            Self::Dst => Criterion::DstNotPorts,
        }
    }

    pub fn sets_criterion(self) -> Criterion {
        match self {
            Self::Src => Criterion::SrcSets,
            Self::Dst => Criterion::DstSets,
        }
    }

    /// `src` or `dst`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Src => "src",
            Self::Dst => "dst",
        }
    }
}

/// Where a rule's actions lead.
#[derive(Copy, Clone)]
pub(super) struct Exits {
    pub allow: Label,
    pub deny: Label,
    /// The next chain.
    pub pass: Label,
    /// The next rule.
    pub miss: Label,
    /// Counters by decision and where a missing one leads, if rules that do not end
    /// the evaluation are counted.
    pub count: Option<(u32, Label)>,
}

/// Slots that a rule takes at most, or their equal in branches: a program is full
/// when either of its budgets is spent.
pub(super) fn cost(ir: &PolicyIr, rule: Rule, sets: SetTests<'_>, options: &EmitOptions) -> u32 {
    let mut b = Builder::default();
    let [allow, deny, pass, miss, none] = [(); 5].map(|()| b.label());
    let count = options.count.then(|| (sets.hits(), none));
    // Fails only for labels bound twice; the program itself reports that.
    let _ = emit(&mut b, ir, rule, sets, Exits { allow, deny, pass, miss, count });
    let as_slots = u64::from(b.branches()) * u64::from(options.max_slots);
    let as_slots = as_slots.div_ceil(options.max_branches.max(1).into());
    b.slots().max(u32::try_from(as_slots).unwrap_or(u32::MAX))
}

/// Emits one rule. What does not match goes to `exits.miss`, which the caller binds.
pub(super) fn emit(
    b: &mut Builder,
    ir: &PolicyIr,
    rule: Rule,
    sets: SetTests<'_>,
    exits: Exits,
) -> Result<(), AsmError> {
    let data = &ir.rules[rule];
    b.about(Subject::Rule(rule), text::rule(ir, data), data.origins.rule.or(ir.decisions[data.decision].at));
    protocol_tests(b, data, exits.miss)?;
    for side in Side::BOTH {
        port_tests(b, side, data, sets, exits.miss)?;
    }
    for side in Side::BOTH {
        set_tests(b, side, ir, data, sets, exits.miss)?;
    }
    action(b, data, exits);
    Ok(())
}

fn protocol_tests(b: &mut Builder, rule: &RuleData, miss: Label) -> Result<(), AsmError> {
    let m = &rule.matches;
    let at = rule.origins.protocol.or(rule.origins.rule);
    if let Some(family) = m.family {
        b.about(Subject::Test(Criterion::Family), text::family(family), rule.origins.rule);
        b.load_field(STATE_FAMILY);
        b.jump_if(Cond::Ne, if family == Family::V4 { 4 } else { 6 }, miss);
        b.count_branches(1);
    }
    if let Some(protocol) = m.protocol {
        b.about(Subject::Test(Criterion::Protocol), text::protocol(protocol), at);
        b.load_field(STATE_PROTOCOL);
        b.jump_if(Cond::Ne, protocol.into(), miss);
        b.count_branches(1);
    }
    if let Some(protocol) = m.not_protocol {
        b.about(Subject::Test(Criterion::NotProtocol), format!("not {}", text::protocol(protocol)), at);
        b.load_field(STATE_PROTOCOL);
        b.jump_if(Cond::Eq, protocol.into(), miss);
        b.count_branches(1);
    }
    if let Some(icmp) = m.icmp {
        b.about(Subject::Test(Criterion::Icmp), text::icmp(icmp), at);
        icmp_test(b, icmp, miss);
    }
    if let Some(icmp) = m.not_icmp {
        b.about(Subject::Test(Criterion::NotIcmp), format!("not {}", text::icmp(icmp)), at);
        let other = b.label();
        icmp_test(b, icmp, other);
        b.jump(miss);
        b.bind(other)?;
    }
    Ok(())
}

/// Goes to `no` unless the packet has this type and code. They are 0 in packets
/// that have none, so that only type 0 needs the flag.
fn icmp_test(b: &mut Builder, icmp: IcmpMatch, no: Label) {
    b.count_branches(3);
    if icmp.icmp_type == 0 {
        b.load_field(STATE_FLAGS);
        b.mask(FLAG_ICMP);
        b.jump_if(Cond::Eq, 0, no);
    }
    b.load_field(STATE_ICMP_TYPE);
    b.jump_if(Cond::Ne, icmp.icmp_type.into(), no);
    if let Some(code) = icmp.code {
        b.load_field(STATE_ICMP_CODE);
        b.jump_if(Cond::Ne, code.into(), no);
    }
}

fn port_tests(
    b: &mut Builder,
    side: Side,
    rule: &RuleData,
    sets: SetTests<'_>,
    miss: Label,
) -> Result<(), AsmError> {
    let at = match side {
        Side::Src => rule.origins.src_ports,
        Side::Dst => rule.origins.dst_ports,
    };
    let at = at.or(rule.origins.rule);
    let (criteria, protocol) = (side.of(&rule.matches), rule.matches.protocol);
    if let Some(list) = &criteria.ports {
        b.about(Subject::Test(side.ports_criterion()), text::ports(side, "", list), at);
        let hit = b.label();
        ports::test(b, side, list, protocol, sets, hit, miss)?;
        b.bind(hit)?;
    }
    if !criteria.not_ports.is_empty() {
        b.about(
            Subject::Test(side.not_ports_criterion()),
            text::ports(side, "not ", &criteria.not_ports),
            at,
        );
        let other = b.label();
        ports::test(b, side, &criteria.not_ports, protocol, sets, miss, other)?;
        b.bind(other)?;
    }
    Ok(())
}

fn set_tests(
    b: &mut Builder,
    side: Side,
    ir: &PolicyIr,
    rule: &RuleData,
    sets: SetTests<'_>,
    miss: Label,
) -> Result<(), AsmError> {
    let criteria = side.of(&rule.matches);
    if criteria.in_sets.is_empty() && criteria.not_in.is_empty() {
        return Ok(());
    }
    let at = match side {
        Side::Src => rule.origins.src,
        Side::Dst => rule.origins.dst,
    };
    b.about(Subject::Test(side.sets_criterion()), text::sets(ir, side, criteria), at.or(rule.origins.rule));
    sets.test(b, side, rule.matches.family, &criteria.in_sets, &criteria.not_in, miss)
}

fn action(b: &mut Builder, rule: &RuleData, exits: Exits) {
    let at = rule.origins.rule;
    match rule.action {
        Action::Allow => decide(b, rule.decision, "allow", at, exits.allow),
        Action::Deny => decide(b, rule.decision, "deny", at, exits.deny),
        Action::Pass => {
            b.about(Subject::Action, "pass", at);
            count(b, rule.decision, exits.count);
            b.jump(exits.pass);
        }
        Action::Log => {
            b.about(Subject::Action, "log", at);
            count(b, rule.decision, exits.count);
            b.load_field(STATE_LOGGED);
            b.push(Insn::alu(AluOp::Add, SCRATCH, 1));
            b.store_field(STATE_LOGGED, SCRATCH);
            b.store_field(STATE_LOG_DECISION, rule.decision.as_u32() as i32);
        }
    }
}

fn count(b: &mut Builder, decision: Decision, count: Option<(u32, Label)>) {
    if let Some((map, missing)) = count {
        b.push(Insn::mov(SCRATCH, decision.as_u32() as i32));
        b.count(map, SCRATCH, missing);
        b.count_branches(1);
    }
}

/// Stores the decision and goes to where the verdict is made: [`PIECE_SLOTS`].
pub(super) fn decide(
    b: &mut Builder,
    decision: Decision,
    verb: &str,
    at: Option<crate::ir::Origin>,
    to: Label,
) {
    const { assert!(PIECE_SLOTS == 2) };
    b.about(Subject::Action, format!("{verb} by {decision}"), at);
    b.store_field(STATE_DECISION, decision.as_u32() as i32);
    b.jump(to);
}
