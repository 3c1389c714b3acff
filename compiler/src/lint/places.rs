//! From where the IR says that something stands to the place in the file.
//!
//! An [`Origin`] is a line and a column; a diagnostic needs a range. Ranges of
//! rules, peers and selectors are known from the objects; of anything else the
//! rest of the line is taken.

use std::collections::{BTreeMap, HashMap};

use crate::diag::{FileId, Position, Sources, Span};
use crate::ir::{Direction, Origin, PolicyIr};
use crate::manifest::{
    CalicoPolicy, CalicoRule, ClusterPeer, ClusterPolicy, ClusterRule, EntityRule, KubernetesPolicy,
    KubernetesRule, Objects, Spanned,
};
use crate::selector::Selector;

/// A file and a byte offset in it.
type At = (FileId, u32);

/// What a policy's object says about its places.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// Its selector, if one is written.
    pub(super) selector: Option<Span>,
    /// Its rules, by direction.
    pub(super) rules: [Vec<Span>; 2],
}

/// Ranges by their first byte.
pub(super) struct Places<'a> {
    sources: &'a Sources,
    files: HashMap<&'a str, FileId>,
    ends: BTreeMap<At, u32>,
    written: BTreeMap<At, Written>,
}

impl<'a> Places<'a> {
    pub(super) fn new(sources: &'a Sources, objects: &Objects) -> Self {
        let mut files = HashMap::new();
        for (id, file) in sources.iter() {
            files.entry(file.name.as_str()).or_insert(id);
        }
        let mut places = Self { sources, files, ends: BTreeMap::new(), written: BTreeMap::new() };
        objects.kubernetes_policies.iter().for_each(|policy| places.kubernetes(policy));
        objects.calico_policies.iter().for_each(|policy| places.calico(policy));
        objects.cluster_policies.iter().for_each(|policy| places.cluster(policy));
        places
    }

    /// The range that starts where `origin`, a place of an IR, says.
    pub(super) fn of(&self, ir: &PolicyIr, origin: Option<Origin>) -> Option<Span> {
        let origin = origin?;
        let file = *self.files.get(ir.files.get(origin.file)?.as_str())?;
        self.span(file, origin)
    }

    /// The range of a policy's `kind`.
    pub(super) fn of_policy(&self, at: Origin) -> Option<Span> {
        let (file, _) = self.sources.iter().nth(at.file.as_u32() as usize)?;
        self.span(file, at)
    }

    /// What is known about the object whose `kind` stands at `span`.
    pub(super) fn written(&self, span: Span) -> Option<&Written> {
        self.written.get(&(span.file, span.start))
    }

    fn span(&self, file: FileId, origin: Origin) -> Option<Span> {
        let at = Position { line: origin.line, column: origin.column };
        let start = self.sources.offset(file, at)?;
        let rest_of_line = || {
            let rest = &self.sources.file(file).text[start as usize..];
            start + rest.lines().next().unwrap_or_default().trim_end().len() as u32
        };
        let end = self.ends.get(&(file, start)).copied().unwrap_or_else(rest_of_line);
        Some(Span { file, start, end })
    }

    fn add(&mut self, span: Span) {
        self.ends.insert((span.file, span.start), span.end);
    }

    fn kubernetes(&mut self, policy: &KubernetesPolicy) {
        let spans = |rules: &[KubernetesRule]| rules.iter().map(|rule| rule.span).collect();
        let rules = [spans(&policy.ingress), spans(&policy.egress)];
        self.policy(policy.meta.span, policy.places.selector, rules);
        for rule in policy.ingress.iter().chain(&policy.egress) {
            rule.peers.iter().for_each(|peer| self.add(peer.span()));
            rule.ports.iter().for_each(|port| self.add(port.span));
        }
    }

    fn cluster(&mut self, policy: &ClusterPolicy) {
        let spans = |rules: &[ClusterRule]| rules.iter().map(|rule| rule.span).collect();
        self.policy(policy.meta.span, None, [spans(&policy.ingress), spans(&policy.egress)]);
        for peer in policy.ingress.iter().chain(&policy.egress).flat_map(|rule| &rule.peers) {
            let (ClusterPeer::Pods { span, .. }
            | ClusterPeer::Networks { span, .. }
            | ClusterPeer::Unsupported { span }) = peer;
            self.add(*span);
        }
    }

    fn calico(&mut self, policy: &CalicoPolicy) {
        let written = [&policy.selector, &policy.namespace_selector, &policy.service_account_selector];
        let selector = written.into_iter().flatten().next().map(|selector| selector.span);
        let spans = |rules: &Option<Vec<CalicoRule>>| rules.iter().flatten().map(|rule| rule.span).collect();
        self.policy(policy.meta.span, selector, [spans(&policy.ingress), spans(&policy.egress)]);
        for rule in policy.ingress.iter().chain(&policy.egress).flatten() {
            self.entity(&rule.source);
            self.entity(&rule.destination);
        }
    }

    fn entity(&mut self, side: &EntityRule) {
        let span = |selector: &Option<Spanned<Selector>>| selector.as_ref().map(|s| s.span);
        let selectors = [&side.selector, &side.not_selector, &side.namespace_selector];
        let accounts = side.service_accounts.as_ref().map(|s| s.span);
        let nets = side.nets.iter().chain(&side.not_nets).map(|net| net.span);
        let places: Vec<Span> = selectors.into_iter().filter_map(span).chain(accounts).chain(nets).collect();
        places.into_iter().for_each(|place| self.add(place));
    }

    fn policy(&mut self, at: Span, selector: Option<Span>, rules: [Vec<Span>; 2]) {
        self.add(at);
        rules.iter().flatten().for_each(|rule| self.add(*rule));
        self.written.insert((at.file, at.start), Written { selector, rules });
    }
}

/// `ingress[2]`: a rule as the listing and the reports name it.
pub(super) fn rule_name(direction: Direction, index: u32) -> String {
    format!("`{}[{index}]`", direction.as_str())
}
