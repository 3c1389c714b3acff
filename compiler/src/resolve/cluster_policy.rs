//! Policies of the policy API group in the common form, after
//! projectcalico/calico `libcalico-go/lib/backend/k8s/conversion/clusternetworkpolicy.go`.
//!
//! Subjects and peers are pods only: unlike in Calico's conversion no network
//! set is a member, as the API has it. A rule with a peer that cannot be matched
//! fails closed as a whole: it matches nothing if it would allow, and denies
//! everything if it would deny or pass.

use std::collections::HashMap;

use super::peers::Peers;
use super::policy::{Context, Head, PolicyData, Stage};
use super::rule::{RuleSpec, SideSpec};
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::{Action, Direction};
use crate::manifest::{
    ClusterPeer, ClusterPolicy, ClusterPort, ClusterRule, ClusterTier, PodSelection, PortSpec,
};
use crate::selector::Selector;

/// Name of the built-in tier.
fn tier_name(tier: ClusterTier) -> &'static str {
    match tier {
        ClusterTier::Admin => "kube-admin",
        ClusterTier::Baseline => "kube-baseline",
        ClusterTier::AdminV1 => "adminnetworkpolicy",
        ClusterTier::BaselineV1 => "baselineadminnetworkpolicy",
    }
}

/// Converts a policy. It leaves a direction alone that it has no rules for.
pub(super) fn convert(policy: &ClusterPolicy, context: &mut Context<'_>) -> PolicyData {
    let head = Head {
        stage: Stage::Normal,
        tier: tier_name(policy.tier).into(),
        order: Some(policy.priority.value.into()),
        selector: pods(&policy.subject).selector.unwrap_or_else(Selector::all),
    };
    let rules = |direction| {
        let rules = rules_of(policy, direction);
        (!rules.is_empty()).then(|| convert_rules(direction, rules))
    };
    context.policy(&policy.meta, head, rules(Direction::Ingress), rules(Direction::Egress))
}

fn rules_of(policy: &ClusterPolicy, direction: Direction) -> &[ClusterRule] {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

/// A side that only pods match.
fn pods(selection: &PodSelection) -> SideSpec {
    let pods = Selector::pods(&selection.pods);
    let namespaces = Selector::namespaces(&selection.namespaces);
    Peers { selector: Some(&pods), namespace_selector: Some(&namespaces), ..Peers::default() }.side(None)
}

fn convert_rules(direction: Direction, rules: &[ClusterRule]) -> Vec<RuleSpec> {
    let mut specs = Vec::new();
    for (rule, index) in rules.iter().zip(0..) {
        expand(direction, rule, index, &mut specs);
    }
    specs
}

/// One rule for each peer and protocol; together they mean the user's rule.
fn expand(direction: Direction, rule: &ClusterRule, index: u32, specs: &mut Vec<RuleSpec>) {
    let Some(peers) = rule.peers.iter().map(side).collect::<Option<Vec<_>>>() else {
        if rule.action != Action::Allow {
            specs.push(RuleSpec::new(index, Action::Deny, rule.span));
        }
        return;
    };
    for group in port_groups(&rule.ports) {
        for (peer, peer_span) in &peers {
            let mut spec = RuleSpec::new(index, rule.action, rule.span);
            spec.protocol = group.protocol;
            spec.spans.protocol = group.span.filter(|_| group.protocol.is_some());
            spec.spans.dst_ports = group.span.filter(|_| !group.ports.is_empty());
            match direction {
                Direction::Ingress => (spec.src, spec.spans.src) = (peer.clone(), Some(*peer_span)),
                Direction::Egress => (spec.dst, spec.spans.dst) = (peer.clone(), Some(*peer_span)),
            }
            spec.dst.ports.clone_from(&group.ports);
            specs.push(spec);
        }
    }
}

/// What a peer matches, and its place; `None` if that cannot be told.
fn side(peer: &ClusterPeer) -> Option<(SideSpec, Span)> {
    match peer {
        ClusterPeer::Pods { selection, span } => Some((pods(selection), *span)),
        ClusterPeer::Networks { nets, span } => {
            let nets = nets.iter().map(|net| net.value).collect();
            Some((SideSpec { nets, ..SideSpec::default() }, *span))
        }
        ClusterPeer::Unsupported { .. } => None,
    }
}

/// The ports of one protocol, or names without one; no ports means all.
#[derive(Default)]
struct PortGroup {
    protocol: Option<u8>,
    ports: Vec<PortSpec>,
    span: Option<Span>,
}

/// The entries by protocol, in the order of first mention; a single group
/// without criteria if anything goes.
fn port_groups(ports: &[ClusterPort]) -> Vec<PortGroup> {
    let mut groups: Vec<(Option<u8>, Option<Vec<PortSpec>>, Span)> = Vec::new();
    for port in ports {
        let (protocol, one, span) = match port {
            ClusterPort::Any { .. } => return vec![PortGroup::default()],
            ClusterPort::Number { protocol, range, span } => {
                (Some(*protocol), range.map(|(first, last)| PortSpec::Range(first, last)), *span)
            }
            ClusterPort::Name { name, span } => (None, Some(PortSpec::Name(name.clone())), *span),
        };
        match groups.iter_mut().find(|(known, ..)| *known == protocol) {
            // An entry without a port stands for all of them, whatever the others say.
            Some((_, listed, _)) => match (listed.as_mut(), one) {
                (Some(list), Some(one)) => list.push(one),
                _ => *listed = None,
            },
            None => groups.push((protocol, one.map(|one| vec![one]), span)),
        }
    }
    if groups.is_empty() {
        return vec![PortGroup::default()];
    }
    let group = |(protocol, ports, span): (_, Option<_>, _)| PortGroup {
        protocol,
        ports: ports.unwrap_or_default(),
        span: Some(span),
    };
    groups.into_iter().map(group).collect()
}

/// Warns of policies whose order the API leaves open: of one tier, with one
/// priority, and with rules for the same direction.
pub(super) fn equal_priorities(policies: &[ClusterPolicy]) -> Vec<Diagnostic> {
    let mut first: HashMap<(ClusterTier, u16, bool), &ClusterPolicy> = HashMap::new();
    let mut found = Vec::new();
    for policy in policies.iter().filter(|p| p.tier != ClusterTier::BaselineV1) {
        let mut other = None;
        for direction in [Direction::Ingress, Direction::Egress] {
            if rules_of(policy, direction).is_empty() {
                continue;
            }
            let key = (policy.tier, policy.priority.value, direction == Direction::Ingress);
            let earlier = *first.entry(key).or_insert(policy);
            if !std::ptr::eq(earlier, policy) {
                other = other.or(Some(earlier));
            }
        }
        found.extend(other.map(|other| equal_priority(policy, other)));
    }
    found
}

fn equal_priority(policy: &ClusterPolicy, other: &ClusterPolicy) -> Diagnostic {
    let (name, other_name, priority) = (&policy.meta.name, &other.meta.name, policy.priority.value);
    let message = format!("`{name}` has the same priority {priority} as `{other_name}`");
    Diagnostic::warning(codes::EQUAL_PRIORITIES, policy.priority.span, message)
        .related(other.priority.span, format!("`{other_name}` has it here"))
        .help("the API leaves open which comes first; polc goes by name, others may not: give each its own")
}

/// Every port that a policy names instead of numbering it.
pub(super) fn port_names(policies: &[ClusterPolicy]) -> impl Iterator<Item = (&str, Span)> {
    let rules = policies.iter().flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
    rules.flat_map(|rule| &rule.ports).filter_map(|port| match port {
        ClusterPort::Name { name, span } => Some((name.as_str(), *span)),
        _ => None,
    })
}
