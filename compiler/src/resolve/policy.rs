//! A policy in the one form that every API is brought to.

use super::inventory::NamedPorts;
use super::rule::RuleSpec;
use super::sets::SetTable;
use crate::diag::{Diagnostic, Sources, Span};
use crate::ir::{Action, Direction, File, Match, Origin, RuleOrigins};
use crate::manifest::Meta;
use crate::selector::Selector;
use cranelift_entity::EntityRef;

/// Where in the way of a packet a policy is asked, in order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before connection tracking, at host endpoints only (`doNotTrack`).
    Untracked,
    /// Before address translation, at host endpoints only (`preDNAT`).
    PreDnat,
    /// Where all other policies are.
    Normal,
}

/// A policy, whichever API it was written in.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyData {
    /// `apiVersion` as written.
    pub api: String,
    /// `kind` as written.
    pub kind: String,
    /// Namespace; `None` for a global policy.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Name of its tier.
    pub tier: String,
    /// Order within the tier; infinite where none is written.
    pub order: f64,
    /// Where it is asked.
    pub stage: Stage,
    /// The endpoints that it selects: its namespace and selectors as one.
    pub selector: Selector,
    /// Where it stands.
    pub at: Origin,
    /// By direction; `None` where the policy does not govern it.
    rules: [Option<Vec<PolicyRule>>; 2],
    /// By direction: rules in the user's list, also those that no packet can match.
    written: [u32; 2],
}

/// A rule as IR, with sets and files counted over the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PolicyRule {
    pub(super) matches: Match,
    pub(super) action: Action,
    /// Zero-based index in the list that the user wrote; several rules may share it.
    pub(super) index: u32,
    pub(super) origins: RuleOrigins,
}

impl PolicyData {
    /// Whether the policy isolates, and decides about, packets of a direction.
    pub fn governs(&self, direction: Direction) -> bool {
        self.rules(direction).is_some()
    }

    /// `namespace/name`, or the name of a global policy.
    pub fn display_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Length of the list of rules that the user wrote for a direction.
    pub fn written_rules(&self, direction: Direction) -> u32 {
        self.written[direction as usize]
    }

    /// Name of the chain that the policy's rules are in: its tier's, and the
    /// stage where that is not the normal one.
    pub fn chain_name(&self) -> String {
        match self.stage {
            Stage::Untracked => format!("{} (untracked)", self.tier),
            Stage::PreDnat => format!("{} (pre-DNAT)", self.tier),
            Stage::Normal => self.tier.clone(),
        }
    }

    pub(super) fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        self.rules[direction as usize].as_deref()
    }

    /// What breaks ties of equal orders. Compared as a whole, so that the slash
    /// takes part: `a-b/…` sorts before `a/…`
    /// (projectcalico/calico `felix/calc/policy_sorter.go`).
    pub(super) fn tie_break(&self, kind: &str) -> String {
        format!("{}/{}/{kind}", self.name, self.namespace.as_deref().unwrap_or(""))
    }
}

/// What a policy says about itself, before its rules.
pub(super) struct Head {
    pub(super) stage: Stage,
    pub(super) tier: String,
    pub(super) order: Option<f64>,
    pub(super) selector: Selector,
}

/// What conversion needs and what it leaves behind.
pub(super) struct Context<'a> {
    pub(super) sources: &'a Sources,
    pub(super) named: NamedPorts,
    pub(super) sets: SetTable,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Context<'_> {
    /// Puts a policy together; `rules` are `None` for directions it leaves alone.
    pub(super) fn policy(
        &mut self,
        meta: &Meta,
        head: Head,
        ingress: Option<Vec<RuleSpec>>,
        egress: Option<Vec<RuleSpec>>,
    ) -> PolicyData {
        let written = [&ingress, &egress].map(|specs| {
            let last = specs.iter().flatten().map(|spec| spec.index).max();
            last.map_or(0, |index| index.saturating_add(1))
        });
        PolicyData {
            written,
            api: meta.api.clone(),
            kind: meta.kind.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            tier: head.tier,
            // Adding zero makes -0 and 0 the same order.
            order: head.order.map_or(f64::INFINITY, |order| order + 0.0),
            stage: head.stage,
            selector: head.selector,
            at: self.origin(meta.span),
            rules: [ingress.map(|specs| self.rules(specs)), egress.map(|specs| self.rules(specs))],
        }
    }

    /// Rules as IR; those that no packet can match are left out.
    pub(super) fn rules(&mut self, specs: Vec<RuleSpec>) -> Vec<PolicyRule> {
        specs.iter().filter_map(|spec| self.rule(spec)).collect()
    }

    fn rule(&mut self, spec: &RuleSpec) -> Option<PolicyRule> {
        let matches = spec.to_match(&mut self.sets, &self.named)?;
        let at = |span: Option<Span>| span.map(|span| self.origin(span));
        let origins = RuleOrigins {
            rule: at(Some(spec.spans.rule)),
            protocol: at(spec.spans.protocol),
            src: at(spec.spans.src),
            dst: at(spec.spans.dst),
            src_ports: at(spec.spans.src_ports),
            dst_ports: at(spec.spans.dst_ports),
        };
        Some(PolicyRule { matches, action: spec.action, index: spec.index, origins })
    }

    pub(super) fn origin(&self, span: Span) -> Origin {
        origin(self.sources, span)
    }
}

/// A span's place, its file counted as in `sources`.
pub(super) fn origin(sources: &Sources, span: Span) -> Origin {
    let position = sources.position(span);
    Origin { file: File::new(span.file.index()), line: position.line, column: position.column }
}
