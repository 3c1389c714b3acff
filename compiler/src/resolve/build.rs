//! Puts the policies that select one endpoint together as a [`PolicyIr`].
//!
//! Rules come with sets and files counted over the whole cluster; an IR holds
//! only those that it uses, counted in the order of first use.
//!
//! Cost: linear in the rules and in the members of the sets that they use.

use std::collections::HashMap;

use super::felix::{self, Failsafe};
use super::policy::{PolicyData, PolicyRule, Stage};
use super::profiles::Verdicts;
use super::tiers::TierData;
use super::{Cluster, Policy};
use crate::ir::{
    Action, AddrSet, ChainData, ChainEnd, Decision, DecisionData, DecisionKind, Direction, File, Match,
    Origin, PolicyIr, PortMatch, Rule, RuleData, RuleOrigins, SideMatch,
};
use crate::manifest::Meta;

/// Whose IR is built.
pub(super) struct Subject<'a> {
    /// Name of the IR.
    pub(super) name: String,
    /// Policies in evaluation order; those that leave the direction alone are
    /// skipped.
    pub(super) policies: &'a [Policy],
    /// Names of the profiles, asked after all policies.
    pub(super) profiles: &'a [String],
    /// The node of a host endpoint, whose failsafe ports come first.
    pub(super) node: Option<&'a str>,
}

/// Builds an IR: failsafe ports, then untracked, pre-DNAT and normal policies
/// tier by tier, then profiles.
pub(super) fn build(cluster: &Cluster, subject: &Subject<'_>, direction: Direction) -> PolicyIr {
    let ir = PolicyIr::new(&subject.name, direction);
    let mut builder = Builder { cluster, ir, sets: HashMap::new(), files: HashMap::new() };
    if let Some(node) = subject.node {
        builder.failsafes(node);
    }
    for stage in [Stage::Untracked, Stage::PreDnat, Stage::Normal] {
        builder.stage(stage, subject);
    }
    builder.profiles(subject.profiles);
    builder.ir
}

/// Builds an IR of the untracked policies alone, and gives the decision that lets
/// all other packets pass; `None` if there is no such policy.
pub(super) fn build_untracked(
    cluster: &Cluster,
    subject: &Subject<'_>,
    direction: Direction,
) -> Option<(PolicyIr, Decision)> {
    let ir = PolicyIr::new(&subject.name, direction);
    let mut builder = Builder { cluster, ir, sets: HashMap::new(), files: HashMap::new() };
    builder.stage(Stage::Untracked, subject);
    if builder.ir.order.is_empty() {
        return None;
    }
    let others = builder.ir.decisions.push(built_in(DecisionKind::TierDefault, "", Action::Allow));
    let rule = builder.ir.rules.push(RuleData {
        matches: Match::default(),
        action: Action::Allow,
        decision: others,
        origins: RuleOrigins::default(),
    });
    // Never reached, but every IR ends in a denial.
    let end = builder.ir.decisions.push(built_in(DecisionKind::NoProfileMatch, "", Action::Deny));
    builder.chain("no untracked policy".into(), vec![rule], ChainEnd::Deny(end));
    Some((builder.ir, others))
}

struct Builder<'c> {
    cluster: &'c Cluster,
    ir: PolicyIr,
    sets: HashMap<AddrSet, AddrSet>,
    files: HashMap<File, File>,
}

impl Builder<'_> {
    /// The chains of one stage, tier by tier.
    fn stage(&mut self, stage: Stage, subject: &Subject<'_>) {
        let (cluster, direction) = (self.cluster, self.ir.direction);
        let asked = |p: &&PolicyData| p.stage == stage && p.governs(direction);
        let policies: Vec<&PolicyData> =
            subject.policies.iter().map(|p| &cluster.policies[*p]).filter(asked).collect();
        for tier in policies.chunk_by(|a, b| a.tier == b.tier) {
            self.tier(stage, tier, subject.node);
        }
    }

    /// A chain that lets failsafe ports through.
    fn failsafes(&mut self, node: &str) {
        let (cluster, direction) = (self.cluster, self.ir.direction);
        let failsafes = cluster.felix.failsafes(node, direction);
        if failsafes.is_empty() {
            return;
        }
        let rules =
            failsafes.iter().map(|f| self.failsafe(f, &f.requests(direction), Action::Allow)).collect();
        self.chain("failsafe".into(), rules, ChainEnd::Pass);
    }

    fn failsafe(&mut self, failsafe: &Failsafe, matches: &Match, action: Action) -> Rule {
        let at = self.origin(failsafe.at);
        let rule = failsafe.meta.as_ref().map(|_| failsafe.index);
        let data = built_in(DecisionKind::Failsafe, "", action);
        let data = match &failsafe.meta {
            Some(meta) => DecisionData {
                api: meta.api.clone(),
                object: meta.kind.clone(),
                name: meta.name.clone(),
                ..data
            },
            None => data,
        };
        let decision = self.ir.decisions.push(DecisionData { rule, at, ..data });
        let matches = self.matches(matches);
        self.ir.rules.push(RuleData {
            matches,
            action,
            decision,
            origins: RuleOrigins { rule: at, ..RuleOrigins::default() },
        })
    }

    /// A chain for policies of one stage and tier. The end of an untracked or
    /// pre-DNAT tier decides nothing: normal policies are still to come
    /// (projectcalico/calico `felix/rules/endpoints.go`).
    fn tier(&mut self, stage: Stage, policies: &[&PolicyData], node: Option<&str>) {
        let Some(first) = policies.first() else { return };
        let mut rules = Vec::new();
        if let (Stage::Untracked, Some(node)) = (stage, node) {
            rules.extend(self.failsafe_replies(node));
        }
        rules.extend(policies.iter().flat_map(|policy| self.policy(policy)));
        match stage {
            Stage::Untracked | Stage::PreDnat => self.chain(first.chain_name(), rules, ChainEnd::Pass),
            Stage::Normal => self.normal_tier(first, rules),
        }
    }

    /// Replies of failsafe ports skip untracked policy: half of a tracked
    /// connection must not go untracked.
    fn failsafe_replies(&mut self, node: &str) -> Vec<Rule> {
        let (cluster, direction) = (self.cluster, self.ir.direction);
        let failsafes = cluster.felix.failsafes(node, felix::opposite(direction));
        failsafes.iter().map(|f| self.failsafe(f, &f.replies(direction), Action::Pass)).collect()
    }

    fn normal_tier(&mut self, first: &PolicyData, rules: Vec<Rule>) {
        let cluster = self.cluster;
        let end = match cluster.tiers.get(cluster.tiers.rank(&first.tier)) {
            Some(tier) if tier.default_action == Action::Pass => ChainEnd::Pass,
            tier => ChainEnd::Deny(self.tier_default(&first.tier, tier)),
        };
        self.chain(first.chain_name(), rules, end);
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

    /// All profiles in one chain: the first rule that decides ends it.
    fn profiles(&mut self, names: &[String]) {
        let cluster = self.cluster;
        let mut rules = Vec::new();
        for name in names {
            match cluster.profiles.verdicts(name, self.ir.direction) {
                Verdicts::Rules(meta, list) => {
                    rules.extend(list.iter().map(|rule| self.profile_rule(meta, rule)));
                }
                Verdicts::Always(Action::Pass) => {}
                Verdicts::Always(action) => rules.push(self.whole_profile(name, action)),
            }
        }
        let deny = self.ir.decisions.push(built_in(DecisionKind::NoProfileMatch, "", Action::Deny));
        self.chain("profiles".into(), rules, ChainEnd::Deny(deny));
    }

    /// A profile that says the same about every packet.
    fn whole_profile(&mut self, name: &str, action: Action) -> Rule {
        let decision = self.ir.decisions.push(built_in(DecisionKind::Profile, name, action));
        let (matches, origins) = (Match::default(), RuleOrigins::default());
        self.ir.rules.push(RuleData { matches, action, decision, origins })
    }

    /// A rule of a Profile; there is nothing that Pass could go on to.
    fn profile_rule(&mut self, meta: &Meta, rule: &PolicyRule) -> Rule {
        let at = self.origin(rule.origins.rule);
        let decision = self.ir.decisions.push(DecisionData {
            api: meta.api.clone(),
            object: meta.kind.clone(),
            rule: Some(rule.index),
            at,
            ..built_in(DecisionKind::Profile, &meta.name, rule.action)
        });
        let id = self.rule(rule, decision);
        let data = &mut self.ir.rules[id];
        if data.action == Action::Pass {
            data.action = Action::Deny;
        }
        id
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
