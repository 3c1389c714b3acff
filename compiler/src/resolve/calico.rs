//! Calico NetworkPolicy and GlobalNetworkPolicy in the common form.

use super::peers::{self, Peers};
use super::policy::{Context, Head, PolicyData, Stage};
use super::rule::{RuleSpec, SideSpec};
use crate::diag::Span;
use crate::ir::{Direction, Family, protocol};
use crate::manifest::{CalicoPolicy, CalicoRule, EntityRule, PortSpec, Protocol, Spanned};
use crate::selector::Selector;

/// Converts a policy.
pub(super) fn convert(policy: &CalicoPolicy, context: &mut Context<'_>) -> PolicyData {
    let selector = selector_of(policy);
    let head = Head { stage: stage(policy), tier: policy.tier.value.clone(), order: policy.order, selector };
    let namespace = policy.meta.namespace.as_deref();
    let rules = |direction, rules: &Option<Vec<CalicoRule>>| {
        let rules = rules.as_deref().unwrap_or_default();
        listed(policy, direction).then(|| rules.iter().zip(0..).map(|(r, i)| spec(namespace, r, i)).collect())
    };
    let ingress = rules(Direction::Ingress, &policy.ingress);
    let egress = rules(Direction::Egress, &policy.egress);
    context.policy(&policy.meta, head, ingress, egress)
}

fn stage(policy: &CalicoPolicy) -> Stage {
    match (policy.do_not_track, policy.pre_dnat) {
        (true, _) => Stage::Untracked,
        (_, true) => Stage::PreDnat,
        _ => Stage::Normal,
    }
}

/// Whether the policy is of the direction's type. Without `types`: what there
/// are rules for, ingress if there are none.
pub(super) fn listed(policy: &CalicoPolicy, direction: Direction) -> bool {
    let any = |rules: &Option<Vec<CalicoRule>>| rules.as_ref().is_some_and(|r| !r.is_empty());
    match (&policy.types, direction) {
        (Some(types), _) => types.contains(&direction),
        (None, Direction::Ingress) => any(&policy.ingress) || !any(&policy.egress),
        (None, Direction::Egress) => any(&policy.egress),
    }
}

fn selector_of(policy: &CalicoPolicy) -> Selector {
    let (selector, accounts) = (value(&policy.selector), value(&policy.service_account_selector));
    match policy.meta.namespace.as_deref() {
        Some(namespace) => peers::namespaced_policy(namespace, selector, accounts),
        None => peers::global_policy(selector, value(&policy.namespace_selector), accounts),
    }
}

fn value<T>(spanned: &Option<Spanned<T>>) -> Option<&T> {
    spanned.as_ref().map(|s| &s.value)
}

/// A rule of a policy of `namespace`; `None` for a global policy or a profile.
pub(super) fn spec(namespace: Option<&str>, rule: &CalicoRule, index: u32) -> RuleSpec {
    let mut spec = RuleSpec::new(index, rule.action, rule.span);
    // A version that is written beats the one that the protocol's name implies.
    spec.family = rule.ip_version.or_else(|| value(&rule.protocol).and_then(implied_family));
    spec.protocol = value(&rule.protocol).map(|p| p.number);
    spec.not_protocol = value(&rule.not_protocol).map(|p| p.number);
    spec.icmp = value(&rule.icmp).copied();
    spec.not_icmp = value(&rule.not_icmp).copied();
    spec.src = side(namespace, &rule.source);
    spec.dst = side(namespace, &rule.destination);
    let icmp = [span(&rule.icmp), span(&rule.not_icmp)];
    spec.spans.protocol = first([span(&rule.protocol), span(&rule.not_protocol)].into_iter().chain(icmp));
    spec.spans.src = addresses_span(&rule.source);
    spec.spans.dst = addresses_span(&rule.destination);
    spec.spans.src_ports = ports_span(&rule.source);
    spec.spans.dst_ports = ports_span(&rule.destination);
    spec
}

/// The names of the ICMP protocols imply an IP version, the numbers do not.
fn implied_family(protocol: &Protocol) -> Option<Family> {
    protocol::icmp_family(protocol.number).filter(|_| protocol.by_name)
}

fn side(namespace: Option<&str>, entity: &EntityRule) -> SideSpec {
    let peers = Peers {
        selector: value(&entity.selector),
        not_selector: value(&entity.not_selector),
        namespace_selector: value(&entity.namespace_selector),
        service_accounts: value(&entity.service_accounts),
    };
    SideSpec {
        nets: entity.nets.iter().map(|net| net.value).collect(),
        not_nets: entity.not_nets.iter().map(|net| net.value).collect(),
        ports: ports(&entity.ports),
        not_ports: ports(&entity.not_ports),
        ..peers.side(namespace)
    }
}

fn ports(ports: &[Spanned<PortSpec>]) -> Vec<PortSpec> {
    ports.iter().map(|port| port.value.clone()).collect()
}

fn span<T>(spanned: &Option<Spanned<T>>) -> Option<Span> {
    spanned.as_ref().map(|s| s.span)
}

/// The first of what is written.
fn first(spans: impl IntoIterator<Item = Option<Span>>) -> Option<Span> {
    spans.into_iter().flatten().next()
}

fn addresses_span(entity: &EntityRule) -> Option<Span> {
    first([
        span(&entity.selector),
        span(&entity.namespace_selector),
        span(&entity.service_accounts),
        span(&entity.not_selector),
        entity.nets.first().map(|net| net.span),
        entity.not_nets.first().map(|net| net.span),
    ])
}

fn ports_span(entity: &EntityRule) -> Option<Span> {
    first([entity.ports.first().map(|p| p.span), entity.not_ports.first().map(|p| p.span)])
}
