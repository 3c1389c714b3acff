//! Peers of a rule, and the pods that subjects and peers select.

use ipnet::IpNet;

use super::{ClusterPeer, ClusterPolicyKind, Dialect, PodSelection, at_most_one, bounded_list};
use crate::diag::{Diagnostic, codes};
use crate::ir::{Action, Direction};
use crate::manifest::fields::Fields;
use crate::manifest::label_selector::read_label_selector;
use crate::manifest::net::{self, Bare};
use crate::manifest::objects::{LabelSelector, Spanned};
use crate::manifest::reader::Reader;
use crate::manifest::yaml::{Entry, Node, NodeKind};

/// Most networks in one peer.
const MOST_NETWORKS: usize = 25;

/// Reads `namespaces` or `pods`.
pub(super) fn read_selection(
    reader: &mut Reader,
    entry: &Entry<'_>,
    dialect: Dialect,
) -> Option<PodSelection> {
    if entry.key == "namespaces" {
        let namespaces = read_label_selector(reader, &entry.value, "namespaces")?;
        return Some(PodSelection { namespaces, pods: LabelSelector::default() });
    }
    let mut fields = Fields::new(reader, &entry.value, "pods")?;
    let namespaces = match dialect.is_new() {
        true => fields.take("namespaceSelector"),
        false => fields.require("namespaceSelector"),
    };
    let namespaces =
        namespaces.map(|node| read_label_selector(reader, node, "namespaceSelector")).unwrap_or_default();
    let pods = fields.require("podSelector");
    let pods = pods.and_then(|node| read_label_selector(reader, node, "podSelector"));
    fields.finish(reader);
    Some(PodSelection { namespaces: namespaces.unwrap_or_default(), pods: pods? })
}

/// Reads one peer of a rule with this action, if that is known.
pub(super) fn read_peer(
    reader: &mut Reader,
    node: &Node<'_>,
    direction: Direction,
    action: Option<Action>,
    dialect: Dialect,
) -> Option<ClusterPeer> {
    let mut fields = Fields::new(reader, node, "a peer")?;
    let before = reader.diagnostics.len();
    refuse_others(reader, &mut fields, direction);
    let kinds: &[&'static str] = match direction {
        Direction::Ingress => &["namespaces", "pods"],
        Direction::Egress if dialect.kind == ClusterPolicyKind::BaselineAdmin => {
            fields.misplaced(reader, "domainNames", "baseline policies do not have it");
            &["namespaces", "pods", "networks", "nodes"]
        }
        Direction::Egress => &["namespaces", "pods", "networks", "nodes", "domainNames"],
    };
    let chosen = at_most_one(reader, &mut fields, "a peer", kinds);
    fields.finish(reader);
    let Some(entry) = chosen.ok()? else {
        if reader.diagnostics.len() == before {
            let help = "write `namespaces: {}` for every pod of the cluster";
            reader.error_with_help(codes::EMPTY_PEER, node, "a peer must select something", help);
        }
        return None;
    };
    let span = reader.span(node);
    match entry.key.as_ref() {
        "networks" => read_networks(reader, &entry.value).map(|nets| ClusterPeer::Networks { nets, span }),
        "nodes" | "domainNames" => {
            read_unsupported(reader, entry, action);
            Some(ClusterPeer::Unsupported { span })
        }
        _ => read_selection(reader, entry, dialect).map(|selection| ClusterPeer::Pods { selection, span }),
    }
}

/// Refuses what peers of the other direction and of a NetworkPolicy have.
fn refuse_others(reader: &mut Reader, fields: &mut Fields<'_, '_>, direction: Direction) {
    for name in ["podSelector", "namespaceSelector"] {
        fields.misplaced(reader, name, "write `pods: {namespaceSelector: …, podSelector: …}`");
    }
    fields.misplaced(reader, "ipBlock", "write `networks: [\"10.0.0.0/8\"]`");
    if direction == Direction::Ingress {
        for name in ["networks", "nodes", "domainNames"] {
            fields.misplaced(reader, name, "only peers of egress rules have it");
        }
    }
}

/// At least one CIDR.
fn read_networks(reader: &mut Reader, node: &Node<'_>) -> Option<Vec<Spanned<IpNet>>> {
    if !has_items(reader, node, "`networks`") {
        return None;
    }
    let nets = bounded_list(reader, node, "`networks`", MOST_NETWORKS, |reader, node| {
        net::cidr(reader, node, "a network", Bare::Refused)
    });
    Some(nets)
}

/// Whether a list that must not be empty has items; reports it if not.
pub(super) fn has_items(reader: &mut Reader, node: &Node<'_>, what: &str) -> bool {
    let empty = matches!(&node.kind, NodeKind::Sequence(items) if items.is_empty());
    if empty {
        reader.error_with_help(codes::EMPTY_PEER, node, format!("{what} needs at least one item"), "add one");
    }
    !empty
}

/// Checks a peer that cannot be matched, and says what becomes of its rule.
fn read_unsupported(reader: &mut Reader, entry: &Entry<'_>, action: Option<Action>) {
    if entry.key == "nodes" {
        read_label_selector(reader, &entry.value, "nodes");
    } else {
        reader.list(&entry.value, "`domainNames`", |reader, node| {
            reader.string(node, "a domain name").map(drop)
        });
    }
    let effect = match action {
        Some(Action::Allow) => "the whole rule matches nothing",
        Some(_) => "the whole rule denies everything",
        None => return,
    };
    let message = format!("peers of the kind `{}` are not supported: {effect}", entry.key);
    let warning = Diagnostic::warning(codes::UNSUPPORTED_PEER, reader.key_span(entry), message);
    let help = match entry.key.as_ref() {
        "nodes" => "write the nodes' addresses as `networks`, or remove the peer to keep the others",
        _ => "write the addresses as `networks`, or remove the peer to keep the others",
    };
    reader.report(warning.help(help));
}
