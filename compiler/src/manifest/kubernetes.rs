//! `networking.k8s.io/v1` NetworkPolicy.

use super::calico::{StagedAction, read_action};
use super::fields::Fields;
use super::kinds::Head;
use super::label_selector::read_label_selector;
use super::meta::{Scope, Strictness, read_meta};
use super::net::{self, Bare};
use super::objects::{
    KubernetesPeer, KubernetesPolicy, KubernetesPort, KubernetesRule, PolicyPlaces, PortSpec,
};
use super::reader::Reader;
use super::yaml::Node;
use crate::diag::{Diagnostic, codes};
use crate::ir::{Direction, protocol};

/// Policy types by name, as both APIs write them.
pub(super) const DIRECTIONS: &[(&str, Direction)] =
    &[("Ingress", Direction::Ingress), ("Egress", Direction::Egress)];

/// Reads a policy.
pub(super) fn read_policy(reader: &mut Reader, node: &Node<'_>, head: &Head<'_>) -> Option<KubernetesPolicy> {
    let staged = head.kind.starts_with("Staged");
    let what = if staged { "a StagedKubernetesNetworkPolicy" } else { "a NetworkPolicy" };
    let mut object = Fields::new(reader, node, what)?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, Scope::Namespaced, Strictness::Strict);
    let spec = object.require("spec");
    object.finish(reader);
    let spec = spec?;
    let mut fields = Fields::new(reader, spec, "spec")?;
    let deletes = read_action(reader, head, &mut fields, spec) == StagedAction::Delete;
    let selector = fields.take("podSelector");
    let places = read_places(reader, &fields);
    let policy_types = fields.take("policyTypes").map(|node| read_types(reader, node));
    let ingress = fields.take("ingress").map(|node| read_rules(reader, node, Direction::Ingress));
    let egress = fields.take("egress").map(|node| read_rules(reader, node, Direction::Egress));
    let pod_selector = selector.and_then(|node| read_label_selector(reader, node, "podSelector"));
    let before = reader.diagnostics.len();
    fields.finish(reader);
    if selector.is_none() && !deletes && reader.diagnostics.len() == before {
        let message = "without `podSelector` the policy selects every pod of its namespace";
        let warning = Diagnostic::warning(codes::IMPLIED_FIELD, head.span, message);
        reader.report(warning.help("write `podSelector: {}` if that is meant"));
    }
    Some(KubernetesPolicy {
        meta: meta?,
        pod_selector: pod_selector.unwrap_or_default(),
        policy_types: policy_types.filter(|types| !types.is_empty()),
        ingress: ingress.unwrap_or_default(),
        egress: egress.unwrap_or_default(),
        places,
    })
}

/// Where the parts of a policy's spec stand.
pub(super) fn read_places(reader: &Reader, fields: &Fields<'_, '_>) -> PolicyPlaces {
    let place = |name| fields.place(reader, name);
    PolicyPlaces { selector: place("podSelector"), ingress: place("ingress"), egress: place("egress") }
}

/// Reads a list of policy types; each may stand once.
pub(super) fn read_types(reader: &mut Reader, node: &Node<'_>) -> Vec<Direction> {
    let mut seen = Vec::new();
    reader.list(node, "the list of policy types", |reader, node| {
        let direction = reader.choice(node, "a policy type", DIRECTIONS)?;
        if seen.contains(&direction) {
            reader.error(codes::BAD_COMBINATION, node, "this policy type stands twice");
            return None;
        }
        seen.push(direction);
        Some(direction)
    })
}

fn read_rules(reader: &mut Reader, node: &Node<'_>, direction: Direction) -> Vec<KubernetesRule> {
    let (what, list) = match direction {
        Direction::Ingress => ("an ingress rule", "`ingress`"),
        Direction::Egress => ("an egress rule", "`egress`"),
    };
    reader.list(node, list, |reader, node| read_rule(reader, node, direction, what))
}

fn read_rule(
    reader: &mut Reader,
    node: &Node<'_>,
    direction: Direction,
    what: &'static str,
) -> Option<KubernetesRule> {
    let mut fields = Fields::new(reader, node, what)?;
    let (peers, wrong, reason) = match direction {
        Direction::Ingress => ("from", "to", "ingress rules have `from`, egress rules have `to`"),
        Direction::Egress => ("to", "from", "egress rules have `to`, ingress rules have `from`"),
    };
    for name in [peers, "ports"] {
        if let Some(value) = node.get(name).filter(|value| value.is_null()) {
            let message = format!("`{name}` without items matches everything");
            let help = "put items under it, or remove it if everything is meant";
            reader.warning(codes::IMPLIED_FIELD, value, message, help);
        }
    }
    let peers =
        fields.take(peers).map(|node| reader.list(node, "the list of peers", read_peer)).unwrap_or_default();
    let ports = fields.take("ports").map(|node| reader.list(node, "`ports`", read_port)).unwrap_or_default();
    fields.misplaced(reader, wrong, reason);
    fields.finish(reader);
    let impossible = ports.iter().find(|(_, possible)| !possible).map(|(port, _)| port.clone());
    let ports = match impossible {
        Some(port) => vec![port],
        None => ports.into_iter().map(|(port, _)| port).collect(),
    };
    Some(KubernetesRule { peers, ports, span: reader.span(node) })
}

fn read_peer(reader: &mut Reader, node: &Node<'_>) -> Option<KubernetesPeer> {
    let mut fields = Fields::new(reader, node, "a peer")?;
    let pods = fields.take("podSelector");
    let namespaces = fields.take("namespaceSelector");
    let block = fields.entry("ipBlock");
    let before = reader.diagnostics.len();
    fields.finish(reader);
    let span = reader.span(node);
    let pod_selector = pods.and_then(|node| read_label_selector(reader, node, "podSelector"));
    let namespace_selector =
        namespaces.and_then(|node| read_label_selector(reader, node, "namespaceSelector"));
    let Some(block) = block else {
        if pods.is_none() && namespaces.is_none() {
            if reader.diagnostics.len() == before {
                let help = "write `podSelector: {}` for every pod of this namespace, `namespaceSelector: {}` for \
                            every pod; leave the list out for everything";
                reader.error_with_help(codes::EMPTY_PEER, node, "a peer must select something", help);
            }
            return None;
        }
        return Some(KubernetesPeer::Pods { pod_selector, namespace_selector, span });
    };
    if pods.is_some() || namespaces.is_some() {
        let message = "`ipBlock` cannot stand beside a selector in one peer";
        let help = "write two peers: a new `-` starts one, and a rule matches if any of its peers does";
        let at = reader.key_span(block);
        reader.report(Diagnostic::error(codes::MIXED_PEER, at, message).help(help));
    }
    read_ip_block(reader, &block.value, span)
}

fn read_ip_block(reader: &mut Reader, node: &Node<'_>, span: crate::diag::Span) -> Option<KubernetesPeer> {
    let mut fields = Fields::new(reader, node, "ipBlock")?;
    let cidr = fields.require("cidr").and_then(|node| net::cidr(reader, node, "`cidr`", Bare::Refused));
    let except = fields.take("except").map(|node| net::cidrs(reader, node, "`except`", Bare::Refused));
    fields.finish(reader);
    let (cidr, except) = (cidr?, except.unwrap_or_default());
    for cut in &except {
        let inside = cidr.value.contains(&cut.value) && cidr.value != cut.value;
        if !inside {
            let message = format!("`{}` is not a part of `{}`", cut.value, cidr.value);
            let error = Diagnostic::error(codes::EXCEPT_OUTSIDE, cut.span, message);
            reader.report(
                error
                    .related(cidr.span, "the block it should cut")
                    .help("an except must be smaller than its block and inside it"),
            );
        }
    }
    Some(KubernetesPeer::IpBlock { cidr, except, span })
}

/// Reads a port entry, and whether the port can exist. The API server refuses
/// `endPort` with a name; Calico drops the rule. An impossible port is named
/// with the empty name, which no pod can have: the rule keeps its number, still
/// counts for the default of `policyTypes`, and matches nothing.
fn read_port(reader: &mut Reader, node: &Node<'_>) -> Option<(KubernetesPort, bool)> {
    let mut fields = Fields::new(reader, node, "a port entry")?;
    let protocol_node = fields.take("protocol");
    let protocol = match protocol_node {
        Some(node) => net::kubernetes_protocol(reader, node),
        None => Some(protocol::TCP),
    };
    let port_node = fields.take("port");
    let port = port_node.map(|node| net::kubernetes_port(reader, node));
    let end = fields.take("endPort");
    fields.finish(reader);
    let span = reader.span(node);
    let (port, possible) = match (port, end) {
        (None, None) => (None, true),
        (Some(port), None) => (Some(port?), true),
        (None, Some(end)) => {
            let help = "write the first port as `port`";
            reader.error_with_help(codes::MISSING_FIELD, end, "`endPort` needs `port`", help);
            return None;
        }
        (Some(port), Some(end)) => match end_port(reader, port?, end)? {
            PortSpec::Name(name) => (Some(PortSpec::Name(name)), false),
            range => (Some(range), true),
        },
    };
    let implied_protocol = protocol_node.is_none();
    Some((KubernetesPort { protocol: protocol?, implied_protocol, port, span }, possible))
}

fn end_port(reader: &mut Reader, port: PortSpec, end: &Node<'_>) -> Option<PortSpec> {
    let last = net::port_number(reader, end, "`endPort`")?;
    match port {
        PortSpec::Range(first, _) if first <= last => Some(PortSpec::Range(first, last)),
        PortSpec::Range(first, _) => {
            let message = format!("`endPort` {last} is below `port` {first}");
            reader.error_with_help(codes::REVERSED_PORTS, end, message, "swap the two");
            None
        }
        PortSpec::Name(name) => {
            let message = format!(
                "no port is both the name `{name}` and the start of a range: the rule matches nothing"
            );
            reader.warning(
                codes::IMPOSSIBLE_PORT,
                end,
                message,
                "write a number as `port`, or remove `endPort`",
            );
            Some(PortSpec::Name(String::new()))
        }
    }
}
