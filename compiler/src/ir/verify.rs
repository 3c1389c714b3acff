//! The verifier: what every pass and the emitter may rely on.
//!
//! It looks at each entity once, dead ones included, and reports every violation
//! instead of the first. Cost: linear in the size of the IR. An empty port list
//! (`Some(vec![])`) is legal: it is how a rule says that it never matches.

use std::fmt;

use cranelift_entity::{EntityRef, EntitySet};

use super::protocol::{ICMP, ICMPV6};
use super::{
    Action, AddrSet, Chain, ChainEnd, Decision, Family, File, Match, Origin, PolicyIr, PortMatch, Rule,
    RuleData, SideMatch,
};

/// The entity that a violation is about; prints as in the textual form.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// The list of chains, [`PolicyIr::order`].
    Order,
    /// A set.
    Set(AddrSet),
    /// A decision.
    Decision(Decision),
    /// A rule.
    Rule(Rule),
    /// A chain.
    Chain(Chain),
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order => f.write_str("order"),
            Self::Set(e) => e.fmt(f),
            Self::Decision(e) => e.fmt(f),
            Self::Rule(e) => e.fmt(f),
            Self::Chain(e) => e.fmt(f),
        }
    }
}

/// What is wrong with an entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Nothing is evaluated.
    #[error("no chain")]
    NoChain,
    /// A chain that does not exist.
    #[error("{0} does not exist")]
    UnknownChain(Chain),
    /// A rule that does not exist.
    #[error("{0} does not exist")]
    UnknownRule(Rule),
    /// A set that does not exist.
    #[error("{0} does not exist")]
    UnknownSet(AddrSet),
    /// A decision that does not exist.
    #[error("{0} does not exist")]
    UnknownDecision(Decision),
    /// A file that does not exist.
    #[error("{0} does not exist")]
    UnknownFile(File),
    /// Lines and columns count from 1.
    #[error("line {0} column {1}: both count from 1")]
    ZeroPosition(u32, u32),
    /// A chain that is evaluated twice.
    #[error("{0} is listed twice")]
    ChainTwice(Chain),
    /// A rule that is in two places.
    #[error("{0} is placed twice")]
    RuleTwice(Rule),
    /// The last chain passes on, and nothing follows.
    #[error("the last chain ends with pass")]
    LastChainPasses,
    /// A rule of the last chain passes on, and nothing follows.
    #[error("{0} passes in the last chain")]
    PassInLastChain(Rule),
    /// First port above last.
    #[error("empty port range {0}-{1}")]
    EmptyRange(u16, u16),
    /// An ICMP criterion with a protocol that has no such thing.
    #[error("icmp type with protocol {0}")]
    IcmpProtocol(u8),
    /// An ICMP criterion whose protocol is the other family's.
    #[error("icmp type with protocol {protocol} and {family}")]
    IcmpFamily {
        /// The rule's protocol.
        protocol: u8,
        /// The rule's family, as the textual form has it.
        family: &'static str,
    },
    /// Host bits are set.
    #[error("{0} is not masked")]
    Unmasked(ipnet::IpNet),
    /// Members are out of order.
    #[error("{0} is not sorted after {1}")]
    Unsorted(ipnet::IpNet, ipnet::IpNet),
    /// The same member twice.
    #[error("{0} is listed twice")]
    MemberTwice(ipnet::IpNet),
    /// What is done is not what the decision says was written.
    #[error("does {does}, but {decision} says {says}")]
    ActionDiffers {
        /// What the rule or chain end does.
        does: &'static str,
        /// The decision it reports.
        decision: Decision,
        /// That decision's action.
        says: &'static str,
    },
}

/// One finding: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entity}: {violation}")]
pub struct VerifyError {
    /// Where.
    pub entity: Entity,
    /// What.
    pub violation: Violation,
}

/// Everything that is wrong with an IR; always a bug of polc, never the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyErrors {
    /// The pass after which the IR was checked; `None` for an input.
    pub after: Option<&'static str>,
    /// At least one finding, in the order sets, decisions, rules, chains, order.
    pub errors: Vec<VerifyError>,
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            Some(pass) => write!(f, "invalid IR after {pass}: ")?,
            None => f.write_str("invalid IR: ")?,
        }
        for (i, error) in self.errors.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

/// Checks that an IR is what its types alone cannot say: ids in range, members
/// masked and sorted, every rule in at most one place, no way past the last chain.
///
/// # Errors
/// All violations.
pub fn verify(ir: &PolicyIr) -> Result<(), VerifyErrors> {
    let mut verifier = Verifier { ir, errors: Vec::new() };
    verifier.sets();
    verifier.decisions();
    verifier.rules();
    verifier.chains();
    verifier.order();
    match verifier.errors {
        errors if errors.is_empty() => Ok(()),
        errors => Err(VerifyErrors { after: None, errors }),
    }
}

struct Verifier<'a> {
    ir: &'a PolicyIr,
    errors: Vec<VerifyError>,
}

impl Verifier<'_> {
    fn report(&mut self, entity: Entity, violation: Violation) {
        self.errors.push(VerifyError { entity, violation });
    }

    fn sets(&mut self) {
        let ir = self.ir;
        for (id, set) in &ir.sets {
            for net in &set.nets {
                if *net != net.trunc() {
                    self.report(Entity::Set(id), Violation::Unmasked(*net));
                }
            }
            for pair in set.nets.windows(2) {
                match pair[0].cmp(&pair[1]) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => {
                        self.report(Entity::Set(id), Violation::MemberTwice(pair[1]));
                    }
                    std::cmp::Ordering::Greater => {
                        self.report(Entity::Set(id), Violation::Unsorted(pair[1], pair[0]));
                    }
                }
            }
        }
    }

    fn decisions(&mut self) {
        let ir = self.ir;
        for (id, decision) in &ir.decisions {
            self.origin(Entity::Decision(id), decision.at);
        }
    }

    fn origin(&mut self, entity: Entity, at: Option<Origin>) {
        let Some(at) = at else { return };
        if !self.ir.files.is_valid(at.file) {
            self.report(entity, Violation::UnknownFile(at.file));
        }
        if at.line == 0 || at.column == 0 {
            self.report(entity, Violation::ZeroPosition(at.line, at.column));
        }
    }

    fn rules(&mut self) {
        let ir = self.ir;
        for (id, rule) in &ir.rules {
            let entity = Entity::Rule(id);
            self.icmp(entity, &rule.matches);
            self.side(entity, &rule.matches.src);
            self.side(entity, &rule.matches.dst);
            self.decision(entity, rule.action, rule.decision);
            self.rule_origins(entity, rule);
        }
    }

    fn rule_origins(&mut self, entity: Entity, rule: &RuleData) {
        let o = &rule.origins;
        for at in [o.rule, o.protocol, o.src, o.dst, o.src_ports, o.dst_ports] {
            self.origin(entity, at);
        }
    }

    fn icmp(&mut self, entity: Entity, m: &Match) {
        if m.icmp.is_none() {
            return;
        }
        match (m.protocol, m.family) {
            (Some(protocol), _) if protocol != ICMP && protocol != ICMPV6 => {
                self.report(entity, Violation::IcmpProtocol(protocol));
            }
            (Some(ICMP), Some(Family::V6)) => {
                self.report(entity, Violation::IcmpFamily { protocol: ICMP, family: "v6" });
            }
            (Some(ICMPV6), Some(Family::V4)) => {
                self.report(entity, Violation::IcmpFamily { protocol: ICMPV6, family: "v4" });
            }
            _ => {}
        }
    }

    fn side(&mut self, entity: Entity, side: &SideMatch) {
        for set in side.in_sets.iter().chain(&side.not_in) {
            self.set(entity, *set);
        }
        for port in side.ports.iter().flatten().chain(&side.not_ports) {
            match *port {
                PortMatch::Range(first, last) if first > last => {
                    self.report(entity, Violation::EmptyRange(first, last));
                }
                PortMatch::Range(..) => {}
                PortMatch::Named { set, .. } => self.set(entity, set),
            }
        }
    }

    fn set(&mut self, entity: Entity, set: AddrSet) {
        if !self.ir.sets.is_valid(set) {
            self.report(entity, Violation::UnknownSet(set));
        }
    }

    /// A Pass that was written may be done as a Deny: profiles and unsupported
    /// peers ask for that. Nothing else may differ.
    fn decision(&mut self, entity: Entity, does: Action, decision: Decision) {
        match self.ir.decisions.get(decision).map(|d| d.action) {
            None => self.report(entity, Violation::UnknownDecision(decision)),
            Some(says) if says == does || (says == Action::Pass && does == Action::Deny) => {}
            Some(says) => {
                let violation =
                    Violation::ActionDiffers { does: does.as_str(), decision, says: says.as_str() };
                self.report(entity, violation);
            }
        }
    }

    fn chains(&mut self) {
        let ir = self.ir;
        let mut placed = EntitySet::with_capacity(ir.rules.len());
        for (id, chain) in &ir.chains {
            for rule in &chain.rules {
                if rule.index() >= ir.rules.len() {
                    self.report(Entity::Chain(id), Violation::UnknownRule(*rule));
                } else if !placed.insert(*rule) {
                    self.report(Entity::Chain(id), Violation::RuleTwice(*rule));
                }
            }
            match chain.end {
                ChainEnd::Allow(decision) => self.decision(Entity::Chain(id), Action::Allow, decision),
                ChainEnd::Deny(decision) => self.decision(Entity::Chain(id), Action::Deny, decision),
                ChainEnd::Pass => {}
            }
        }
    }

    fn order(&mut self) {
        let ir = self.ir;
        let mut listed = EntitySet::with_capacity(ir.chains.len());
        for chain in &ir.order {
            if chain.index() >= ir.chains.len() {
                self.report(Entity::Order, Violation::UnknownChain(*chain));
            } else if !listed.insert(*chain) {
                self.report(Entity::Order, Violation::ChainTwice(*chain));
            }
        }
        match ir.order.last() {
            None => self.report(Entity::Order, Violation::NoChain),
            Some(last) => self.last_chain(*last),
        }
    }

    fn last_chain(&mut self, last: Chain) {
        let ir = self.ir;
        let Some(chain) = ir.chains.get(last) else { return };
        for rule in &chain.rules {
            if ir.rules.get(*rule).is_some_and(|r| r.action == Action::Pass) {
                self.report(Entity::Chain(last), Violation::PassInLastChain(*rule));
            }
        }
        if chain.end == ChainEnd::Pass {
            self.report(Entity::Chain(last), Violation::LastChainPasses);
        }
    }
}
