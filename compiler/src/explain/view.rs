//! A walk in the user's terms: tier, policy, rule as written, and why.

use std::collections::BTreeMap;

use serde::Serialize;

use super::evidence::{Disagreement, Ran, agree};
use super::walk::{ChainWalk, Ended, Outcome, RuleWalk, Walk, walk};
use super::words;
use crate::bpf::{Code, Insn, MapRef, Names};
use crate::image::PolicyImage;
use crate::ir::{ChainEnd, Criterion, Decision, DecisionData, DecisionKind, Flow, Origin, PolicyIr};
use crate::resolve::{Cluster, Endpoint, PolicyData};

/// Why one packet got its verdict at one endpoint in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Tiers in evaluation order, then the profiles.
    pub tiers: Vec<TierView>,
    /// The instructions that ran.
    pub instructions: Vec<StepView>,
}

/// A place in the user's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A tier, or the profiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierView {
    /// Name; `profiles` for the profiles.
    pub name: String,
    /// Whether evaluation got here.
    pub reached: bool,
    /// The policies of the tier that govern the direction, in order.
    pub policies: Vec<PolicyView>,
    /// What stands at the tier's end.
    pub end: End,
}

/// The end of a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// `allow`, `deny`, or `pass` for going on to the next tier.
    pub action: &'static str,
    /// Whether evaluation got here: no rule of the tier had decided or passed.
    pub reached: bool,
    /// Where the tier stands; `None` for what is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
}

/// A policy, or a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// `apiVersion`; empty for what is built in.
    pub api: String,
    /// `kind`.
    pub kind: String,
    /// Namespace, `None` for cluster-wide objects.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Where it stands; `None` for what is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// Its rules for the direction, as the user ordered them.
    pub rules: Vec<RuleView>,
}

/// What became of a rule.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Something before it had decided.
    NotReached,
    /// No alternative matched.
    NoMatch,
    /// One matched.
    Match,
    /// No packet can match it: it never became part of a program.
    Impossible,
}

/// A rule as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleView {
    /// Zero-based index in the user's list.
    pub index: u32,
    /// `allow`, `deny`, `pass` or `log`; `None` for a rule that no packet can match.
    pub action: Option<&'static str>,
    /// What became of it.
    pub found: Found,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// One for each combination of peer and protocol that it stands for; those
    /// after one that matched were not reached, unless the rule only logs.
    pub alternatives: Vec<Alternative>,
}

/// One combination of a rule's peers and protocols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// What became of it.
    pub found: Found,
    /// Why it did not match: the first criterion that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where that criterion stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// Whether the traced program has instructions for it. What the compiler
    /// found to have no effect has none; the reference evaluator speaks then.
    pub in_program: bool,
}

/// An instruction that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// Name of the program.
    pub program: String,
    /// First slot.
    pub slot: u32,
    /// The instruction.
    pub text: String,
    /// What it is for.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The YAML behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
}

/// Explains what a run at an endpoint found. `ir` is the endpoint's policy before
/// any pass, `image` what was compiled from it at level 0, `ran` what it left.
///
/// # Errors
/// What ran is not what policy means: a bug of polc.
///
/// # Panics
/// If an id is out of range: `ir` must have passed [`crate::ir::verify`].
pub fn explain(
    cluster: &Cluster,
    endpoint: Endpoint,
    ir: &PolicyIr,
    image: &PolicyImage,
    flow: &Flow,
    ran: &Ran,
) -> Result<Explanation, Disagreement> {
    let mut found = walk(ir, flow);
    agree(ir, &mut found, image, ran)?;
    let direction = ir.direction;
    let policies: Vec<&PolicyData> = cluster
        .selecting(endpoint)
        .iter()
        .map(|policy| &cluster.policies()[*policy])
        .filter(|policy| policy.governs(direction))
        .collect();
    let view = View { ir, flow, cluster };
    Ok(Explanation { tiers: view.tiers(&found, &policies), instructions: instructions(image, &ran.steps) })
}

struct View<'a> {
    ir: &'a PolicyIr,
    flow: &'a Flow,
    cluster: &'a Cluster,
}

impl View<'_> {
    fn tiers(&self, walk: &Walk, policies: &[&PolicyData]) -> Vec<TierView> {
        walk.chains.iter().map(|chain| self.tier(chain, policies)).collect()
    }

    fn tier(&self, chain: &ChainWalk, policies: &[&PolicyData]) -> TierView {
        let data = &self.ir.chains[chain.chain];
        let (action, decision) = match data.end {
            ChainEnd::Allow(decision) => ("allow", Some(decision)),
            ChainEnd::Deny(decision) => ("deny", Some(decision)),
            ChainEnd::Pass => ("pass", None),
        };
        let at = decision.and_then(|d| self.ir.decisions[d].at).and_then(|at| self.place(at));
        TierView {
            name: data.name.clone(),
            reached: chain.ended != Ended::NotReached,
            policies: self.policies(chain, policies),
            end: End { action, reached: chain.ended == Ended::AtEnd, at },
        }
    }

    /// The policies that the chain's rules are from, and between them those of
    /// the tier that have no rule: they isolate all the same.
    fn policies(&self, chain: &ChainWalk, policies: &[&PolicyData]) -> Vec<PolicyView> {
        let name = &self.ir.chains[chain.chain].name;
        let mut views: Vec<PolicyView> = Vec::new();
        let of_tier: Vec<&PolicyData> =
            policies.iter().filter(|p| p.chain_name() == *name).copied().collect();
        let mut rest = of_tier.as_slice();
        for rules in chain.rules.chunk_by(|a, b| same_policy(self.data(a), self.data(b))) {
            let Some(first) = rules.first() else { continue };
            let decider = self.data(first);
            let Some(place) = rest.iter().position(|policy| is(policy, decider)) else {
                views.push(self.undeclared(decider, rules));
                continue;
            };
            let (without_rules, from) = rest.split_at(place);
            views.extend(without_rules.iter().map(|policy| self.declared(policy, &[])));
            if let [policy, after @ ..] = from {
                views.push(self.declared(policy, rules));
                rest = after;
            }
        }
        views.extend(rest.iter().map(|policy| self.declared(policy, &[])));
        views
    }

    /// A policy of the input.
    fn declared(&self, policy: &PolicyData, rules: &[RuleWalk]) -> PolicyView {
        let at = self.cluster.file_name(policy.at.file).map(|file| Place {
            file: file.to_owned(),
            line: policy.at.line,
            column: policy.at.column,
        });
        PolicyView {
            api: policy.api.clone(),
            kind: policy.kind.clone(),
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            at,
            rules: self.rules(rules, policy.written_rules(self.ir.direction)),
        }
    }

    /// What decides without being among the policies: a profile.
    fn undeclared(&self, decider: &DecisionData, rules: &[RuleWalk]) -> PolicyView {
        let (kind, name) = match (decider.kind, decider.object.as_str()) {
            (DecisionKind::Profile, "") => ("Profile", decider.name.as_str()),
            (DecisionKind::Failsafe, "") => ("FelixConfiguration", "(failsafe ports built in)"),
            (_, object) => (object, decider.name.as_str()),
        };
        PolicyView {
            api: decider.api.clone(),
            kind: kind.to_owned(),
            namespace: decider.namespace.clone(),
            name: name.to_owned(),
            at: None,
            rules: self.rules(rules, 0),
        }
    }

    /// The user's rules: those that became IR by their decision, and in the gaps
    /// those that no packet can match.
    fn rules(&self, rules: &[RuleWalk], written: u32) -> Vec<RuleView> {
        let mut views = Vec::new();
        let mut next = 0;
        let impossible = |index| RuleView {
            index,
            action: None,
            found: Found::Impossible,
            at: None,
            alternatives: Vec::new(),
        };
        for same in rules.chunk_by(|a, b| self.decision(a) == self.decision(b)) {
            let Some(first) = same.first() else { continue };
            let index = self.data(first).rule.unwrap_or(next);
            views.extend((next..index).map(impossible));
            views.push(self.rule(index, first, same));
            next = index.max(next) + 1;
        }
        views.extend((next..written).map(impossible));
        views
    }

    fn rule(&self, index: u32, first: &RuleWalk, same: &[RuleWalk]) -> RuleView {
        let data = &self.ir.rules[first.rule];
        let any = |outcome| same.iter().any(|r| r.outcome == outcome);
        let found = match () {
            () if any(Outcome::Matched) => Found::Match,
            () if first.outcome == Outcome::NotReached => Found::NotReached,
            () => Found::NoMatch,
        };
        RuleView {
            index,
            action: Some(data.action.as_str()),
            found,
            at: data.origins.rule.and_then(|at| self.place(at)),
            alternatives: same.iter().map(|rule| self.alternative(rule)).collect(),
        }
    }

    fn alternative(&self, rule: &RuleWalk) -> Alternative {
        let (found, failed) = match rule.outcome {
            Outcome::NotReached => (Found::NotReached, None),
            Outcome::Matched => (Found::Match, None),
            Outcome::Missed(criterion) => (Found::NoMatch, Some(criterion)),
        };
        let reason = failed.map(|criterion: Criterion| {
            words::reason(self.ir, &self.ir.rules[rule.rule], criterion, self.flow)
        });
        let at = reason.as_ref().and_then(|(_, at)| *at).and_then(|at| self.place(at));
        Alternative { found, reason: reason.map(|(text, _)| text), at, in_program: rule.in_program }
    }

    fn decision(&self, rule: &RuleWalk) -> Decision {
        self.ir.rules[rule.rule].decision
    }

    fn data(&self, rule: &RuleWalk) -> &DecisionData {
        &self.ir.decisions[self.decision(rule)]
    }

    fn place(&self, at: Origin) -> Option<Place> {
        let file = self.ir.files.get(at.file)?.clone();
        Some(Place { file, line: at.line, column: at.column })
    }
}

fn same_policy(a: &DecisionData, b: &DecisionData) -> bool {
    let key = |d: &DecisionData| (d.kind, d.namespace.clone(), d.name.clone());
    key(a) == key(b) && (&a.api, &a.object) == (&b.api, &b.object)
}

fn is(policy: &PolicyData, decider: &DecisionData) -> bool {
    (&policy.api, &policy.kind, &policy.namespace, &policy.name)
        == (&decider.api, &decider.object, &decider.namespace, &decider.name)
}

/// The instructions that ran, as the listing shows them.
fn instructions(image: &PolicyImage, steps: &[(u32, u32)]) -> Vec<StepView> {
    let all = (0..).zip(&image.programs);
    let by_slot: BTreeMap<(u32, u32), &Insn> =
        all.flat_map(|(n, p)| p.code.iter().map(move |(slot, insn)| ((n, slot), insn))).collect();
    let mut views = Vec::with_capacity(steps.len());
    for (number, slot) in steps {
        let Some(program) = image.programs.get(*number as usize) else { continue };
        let Some(insn) = by_slot.get(&(*number, *slot)).copied() else { continue };
        let target = Code::jump_target(*slot, insn);
        let label = target.and_then(|to| {
            let known = program.labels.binary_search_by_key(&to, |(slot, _)| *slot).ok()?;
            program.labels.get(known).map(|(_, name)| name.as_str())
        });
        let map = match insn.map() {
            Some(MapRef::Private(index)) => image.maps.get(index as usize).map(|map| map.name.as_str()),
            _ => None,
        };
        let note = program.notes.partition_point(|note| note.slot <= *slot);
        let note = note.checked_sub(1).and_then(|last| program.notes.get(last));
        let at = note.and_then(|note| note.at).and_then(|at| {
            let file = image.files.get(at.file.as_u32() as usize)?.clone();
            Some(Place { file, line: at.line, column: at.column })
        });
        views.push(StepView {
            program: program.name.clone(),
            slot: *slot,
            text: insn.text(Names { target: label, map }).to_string(),
            note: note.map(|note| note.text.clone()),
            at,
        });
    }
    views
}

impl PolicyView {
    /// `NetworkPolicy shop/web`.
    pub fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }
}
