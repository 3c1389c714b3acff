//! Kubernetes NetworkPolicy in the common form, as Calico converts it
//! (projectcalico/calico `libcalico-go/lib/backend/k8s/conversion/conversion.go`):
//! tier `default`, order 1,000, every rule allows.

use super::peers::Peers;
use super::policy::{Context, Head, PolicyData, Stage};
use super::rule::{RuleSpec, SideSpec};
use super::tiers;
use crate::diag::Span;
use crate::ir::{Action, Direction};
use crate::manifest::{KubernetesPeer, KubernetesPolicy, KubernetesPort, KubernetesRule, PortSpec};
use crate::selector::{Selector, labels};

/// The order that every Kubernetes policy has.
const ORDER: f64 = 1_000.0;

/// Kind of the converted policy; breaks ties with Calico policies of the same name.
pub(super) const SORT_KIND: &str = "KubernetesNetworkPolicy";

/// Converts a policy.
pub(super) fn convert(policy: &KubernetesPolicy, context: &mut Context<'_>) -> PolicyData {
    let namespace = policy.meta.namespace.clone().unwrap_or_default();
    let own = Selector::equals(labels::NAMESPACE, namespace.as_str());
    let head = Head {
        stage: Stage::Normal,
        tier: tiers::DEFAULT.into(),
        order: Some(ORDER),
        selector: Selector::all_of([Selector::pods(&policy.pod_selector), own]),
    };
    let rules = |direction, rules: &[KubernetesRule]| {
        governs(policy, direction).then(|| convert_rules(&namespace, direction, rules))
    };
    let ingress = rules(Direction::Ingress, &policy.ingress);
    let egress = rules(Direction::Egress, &policy.egress);
    context.policy(&policy.meta, head, ingress, egress)
}

/// Without `policyTypes` egress is governed only if there is an egress rule:
/// an empty list leaves it open.
pub(super) fn governs(policy: &KubernetesPolicy, direction: Direction) -> bool {
    match &policy.policy_types {
        Some(types) => types.contains(&direction),
        None => direction == Direction::Ingress || !policy.egress.is_empty(),
    }
}

fn convert_rules(namespace: &str, direction: Direction, rules: &[KubernetesRule]) -> Vec<RuleSpec> {
    let mut specs = Vec::new();
    for (rule, index) in rules.iter().zip(0..) {
        expand(namespace, direction, rule, index, &mut specs);
    }
    specs
}

/// One rule for each peer and protocol; together they mean the user's rule.
fn expand(
    namespace: &str,
    direction: Direction,
    rule: &KubernetesRule,
    index: u32,
    specs: &mut Vec<RuleSpec>,
) {
    let peers: Vec<(SideSpec, Option<Span>)> = match rule.peers.as_slice() {
        [] => vec![(SideSpec::default(), None)],
        peers => peers.iter().map(|peer| (side(namespace, peer), Some(peer.span()))).collect(),
    };
    for group in port_groups(&rule.ports) {
        for (peer, peer_span) in &peers {
            let mut spec = RuleSpec::new(index, Action::Allow, rule.span);
            spec.protocol = group.protocol;
            spec.spans.protocol = group.span;
            spec.spans.dst_ports = group.span.filter(|_| !group.ports.is_empty());
            match direction {
                Direction::Ingress => (spec.src, spec.spans.src) = (peer.clone(), *peer_span),
                Direction::Egress => (spec.dst, spec.spans.dst) = (peer.clone(), *peer_span),
            }
            spec.dst.ports.clone_from(&group.ports);
            specs.push(spec);
        }
    }
}

fn side(namespace: &str, peer: &KubernetesPeer) -> SideSpec {
    match peer {
        KubernetesPeer::IpBlock { cidr, except, .. } => SideSpec {
            nets: vec![cidr.value],
            not_nets: except.iter().map(|net| net.value).collect(),
            ..SideSpec::default()
        },
        KubernetesPeer::Pods { pod_selector, namespace_selector, .. } => {
            let pods = Selector::pods(&pod_selector.clone().unwrap_or_default());
            let namespaces = namespace_selector.as_ref().map(Selector::namespaces);
            let peers =
                Peers { selector: Some(&pods), namespace_selector: namespaces.as_ref(), ..Peers::default() };
            peers.side(Some(namespace))
        }
    }
}

/// The ports of one protocol; no ports means all of the protocol's.
struct PortGroup {
    protocol: Option<u8>,
    ports: Vec<PortSpec>,
    span: Option<Span>,
}

/// `ports` by protocol, in the order of first mention.
fn port_groups(ports: &[KubernetesPort]) -> Vec<PortGroup> {
    if ports.is_empty() {
        return vec![PortGroup { protocol: None, ports: Vec::new(), span: None }];
    }
    let mut groups: Vec<(u8, Vec<&KubernetesPort>)> = Vec::new();
    for port in ports {
        match groups.iter_mut().find(|(protocol, _)| *protocol == port.protocol) {
            Some((_, group)) => group.push(port),
            None => groups.push((port.protocol, vec![port])),
        }
    }
    groups.into_iter().map(|(protocol, entries)| port_group(protocol, &entries)).collect()
}

fn port_group(protocol: u8, entries: &[&KubernetesPort]) -> PortGroup {
    let listed: Option<Vec<PortSpec>> = entries.iter().map(|entry| entry.port.clone()).collect();
    PortGroup {
        protocol: Some(protocol),
        // An entry without a port stands for all of them, whatever the others say.
        ports: listed.unwrap_or_default(),
        span: entries.first().map(|entry| entry.span),
    }
}
