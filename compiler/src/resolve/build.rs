//! Puts the policies that select one endpoint together as a [`PolicyIr`].
//!
//! Rules come with sets and files counted over the whole cluster; an IR holds
//! only those that it uses, counted in the order of first use.
//!
//! Cost: linear in the rules and in the members of the sets that they use.

use std::collections::HashMap;

use super::policy::{PolicyData, PolicyRule};
use super::tiers::TierData;
use super::{Cluster, Policy};
use crate::ir::{
    Action, AddrSet, ChainData, ChainEnd, Decision, DecisionData, DecisionKind, Direction, File, Match,
    Origin, PolicyIr, PortMatch, Rule, RuleData, RuleOrigins, SideMatch,
};

/// Prefix of the profile that each namespace has.
const NAMESPACE_PROFILE: &str = "kns.";

/// Builds an IR from policies in evaluation order; those that leave the
/// direction alone are skipped. The profile of `namespace` comes last.
pub(super) fn build(
    cluster: &Cluster,
    name: String,
    direction: Direction,
    policies: &[Policy],
    namespace: &str,
) -> PolicyIr {
    let ir = PolicyIr::new(name, direction);
    let mut builder = Builder { cluster, ir, sets: HashMap::new(), files: HashMap::new() };
    let governing: Vec<&PolicyData> =
        policies.iter().map(|p| &cluster.policies[*p]).filter(|p| p.governs(direction)).collect();
    for tier in governing.chunk_by(|a, b| a.tier == b.tier) {
        builder.tier(tier);
    }
    builder.profile(namespace);
    builder.ir
}

struct Builder<'c> {
    cluster: &'c Cluster,
    ir: PolicyIr,
    sets: HashMap<AddrSet, AddrSet>,
    files: HashMap<File, File>,
}

impl Builder<'_> {
    /// A chain for policies of one tier.
    fn tier(&mut self, policies: &[&PolicyData]) {
        let Some(first) = policies.first() else { return };
        let rules = policies.iter().flat_map(|policy| self.policy(policy)).collect();
        let cluster = self.cluster;
        let end = match cluster.tiers.get(cluster.tiers.rank(&first.tier)) {
            Some(tier) if tier.default_action == Action::Pass => ChainEnd::Pass,
            tier => ChainEnd::Deny(self.tier_default(&first.tier, tier)),
        };
        self.chain(first.tier.clone(), rules, end);
    }

    fn chain(&mut self, name: String, rules: Vec<Rule>, end: ChainEnd) {
        let chain = self.ir.chains.push(ChainData { name, rules, end });
        self.ir.order.push(chain);
    }

    fn policy(&mut self, policy: &PolicyData) -> Vec<Rule> {
        let mut decided: Option<(u32, Decision)> = None;
        let mut rules = Vec::new();
        for rule in policy.rules(self.ir.direction).unwrap_or_default() {
            let decision = match decided {
                Some((index, decision)) if index == rule.index => decision,
                _ => self.rule_decision(policy, rule),
            };
            decided = Some((rule.index, decision));
            rules.push(self.rule(rule, decision));
        }
        rules
    }

    fn rule(&mut self, rule: &PolicyRule, decision: Decision) -> Rule {
        let matches = self.matches(&rule.matches);
        let origins = self.origins(&rule.origins);
        self.ir.rules.push(RuleData { matches, action: rule.action, decision, origins })
    }

    fn rule_decision(&mut self, policy: &PolicyData, rule: &PolicyRule) -> Decision {
        let at = self.origin(rule.origins.rule);
        self.ir.decisions.push(DecisionData {
            kind: DecisionKind::Rule,
            api: policy.api.clone(),
            object: policy.kind.clone(),
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            tier: Some(policy.tier.clone()),
            rule: Some(rule.index),
            action: rule.action,
            at,
        })
    }

    fn tier_default(&mut self, name: &str, tier: Option<&TierData>) -> Decision {
        let at = self.origin(tier.and_then(|tier| tier.at));
        let tier = Some(name.to_owned());
        let data = built_in(DecisionKind::TierDefault, name, Action::Deny);
        self.ir.decisions.push(DecisionData { tier, at, ..data })
    }

    /// The profile that a namespace gives its pods allows everything.
    fn profile(&mut self, namespace: &str) {
        let name = format!("{NAMESPACE_PROFILE}{namespace}");
        let allow = self.ir.decisions.push(built_in(DecisionKind::Profile, &name, Action::Allow));
        let deny = self.ir.decisions.push(built_in(DecisionKind::NoProfileMatch, "", Action::Deny));
        let rule = self.ir.rules.push(RuleData {
            matches: Match::default(),
            action: Action::Allow,
            decision: allow,
            origins: RuleOrigins::default(),
        });
        self.chain("profiles".into(), vec![rule], ChainEnd::Deny(deny));
    }

    fn matches(&mut self, matches: &Match) -> Match {
        let (src, dst) = (self.side(&matches.src), self.side(&matches.dst));
        Match { src, dst, ..*matches }
    }

    fn side(&mut self, side: &SideMatch) -> SideMatch {
        SideMatch {
            in_sets: side.in_sets.iter().map(|set| self.set(*set)).collect(),
            not_in: side.not_in.iter().map(|set| self.set(*set)).collect(),
            ports: side.ports.as_deref().map(|ports| self.ports(ports)),
            not_ports: self.ports(&side.not_ports),
        }
    }

    fn ports(&mut self, ports: &[PortMatch]) -> Vec<PortMatch> {
        let mut renumber = |port: &PortMatch| match *port {
            PortMatch::Named { protocol, port, set } => {
                PortMatch::Named { protocol, port, set: self.set(set) }
            }
            range @ PortMatch::Range(..) => range,
        };
        ports.iter().map(&mut renumber).collect()
    }

    fn set(&mut self, set: AddrSet) -> AddrSet {
        let (cluster, sets) = (self.cluster, &mut self.ir.sets);
        *self.sets.entry(set).or_insert_with(|| sets.push(cluster.sets[set].clone()))
    }

    fn origins(&mut self, origins: &RuleOrigins) -> RuleOrigins {
        RuleOrigins {
            rule: self.origin(origins.rule),
            protocol: self.origin(origins.protocol),
            src: self.origin(origins.src),
            dst: self.origin(origins.dst),
            src_ports: self.origin(origins.src_ports),
            dst_ports: self.origin(origins.dst_ports),
        }
    }

    fn origin(&mut self, origin: Option<Origin>) -> Option<Origin> {
        let origin = origin?;
        let (cluster, files) = (self.cluster, &mut self.ir.files);
        let file =
            *self.files.entry(origin.file).or_insert_with(|| files.push(cluster.files[origin.file].clone()));
        Some(Origin { file, ..origin })
    }
}

/// A decision that no object of the input makes.
fn built_in(kind: DecisionKind, name: &str, action: Action) -> DecisionData {
    DecisionData {
        kind,
        api: String::new(),
        object: String::new(),
        namespace: None,
        name: name.into(),
        tier: None,
        rule: None,
        action,
        at: None,
    }
}
