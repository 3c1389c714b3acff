//! Rules.

use super::peer::{has_items, read_peer};
use super::ports::{read_entry, read_protocol};
use super::{ClusterPeer, ClusterPolicyKind, ClusterPort, ClusterRule, Dialect, bounded_list};
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::{Action, Direction};
use crate::manifest::fields::Fields;
use crate::manifest::reader::Reader;
use crate::manifest::yaml::{Node, NodeKind};

/// Most characters in a rule's name.
const LONGEST_NAME: usize = 100;

/// Reads the rules of a direction.
pub(super) fn read_rules(
    reader: &mut Reader,
    node: &Node<'_>,
    direction: Direction,
    dialect: Dialect,
) -> Vec<ClusterRule> {
    let what = match direction {
        Direction::Ingress => "`ingress`",
        Direction::Egress => "`egress`",
    };
    bounded_list(reader, node, what, dialect.most, |reader, node| read_rule(reader, node, direction, dialect))
}

fn read_rule(
    reader: &mut Reader,
    node: &Node<'_>,
    direction: Direction,
    dialect: Dialect,
) -> Option<ClusterRule> {
    let mut fields = Fields::new(reader, node, "a rule")?;
    let name = fields.take("name").and_then(|node| read_name(reader, node));
    let action = fields.require("action").and_then(|node| read_action(reader, node, dialect.kind));
    let (peers, wrong, reason) = match direction {
        Direction::Ingress => ("from", "to", "ingress rules have `from`, egress rules have `to`"),
        Direction::Egress => ("to", "from", "egress rules have `to`, ingress rules have `from`"),
    };
    let peers = fields.require(peers).map(|node| read_peers(reader, node, direction, action, dialect));
    fields.misplaced(reader, wrong, reason);
    let ports = read_ports(reader, &mut fields, dialect);
    fields.finish(reader);
    let peers = peers?;
    check_named_ports(reader, &peers, &ports);
    Some(ClusterRule { action: action?, name, peers, ports, span: reader.span(node) })
}

fn read_name(reader: &mut Reader, node: &Node<'_>) -> Option<String> {
    let name = reader.string(node, "`name`")?;
    if name.chars().count() > LONGEST_NAME {
        let message = format!("the name of a rule has at most {LONGEST_NAME} characters");
        reader.error(codes::BAD_NAME, node, message);
    }
    Some(name.to_owned())
}

/// The versions have different words for the same action.
fn read_action(reader: &mut Reader, node: &Node<'_>, kind: ClusterPolicyKind) -> Option<Action> {
    let (deny, pass) = (("Deny", Action::Deny), ("Pass", Action::Pass));
    match kind {
        ClusterPolicyKind::Cluster => {
            reader.choice(node, "`action`", &[("Accept", Action::Allow), deny, pass])
        }
        ClusterPolicyKind::Admin => reader.choice(node, "`action`", &[("Allow", Action::Allow), deny, pass]),
        ClusterPolicyKind::BaselineAdmin => {
            reader.choice(node, "`action`", &[("Allow", Action::Allow), deny])
        }
    }
}

fn read_peers(
    reader: &mut Reader,
    node: &Node<'_>,
    direction: Direction,
    action: Option<Action>,
    dialect: Dialect,
) -> Vec<ClusterPeer> {
    has_items(reader, node, "the list of peers");
    bounded_list(reader, node, "the list of peers", dialect.most, |reader, node| {
        read_peer(reader, node, direction, action, dialect)
    })
}

/// Reads `protocols` (v1alpha2) or `ports` (v1alpha1).
fn read_ports(reader: &mut Reader, fields: &mut Fields<'_, '_>, dialect: Dialect) -> Vec<ClusterPort> {
    let (name, wrong, reason) = match dialect.is_new() {
        true => ("protocols", "ports", "v1alpha2 has `protocols`, v1alpha1 has `ports`"),
        false => ("ports", "protocols", "v1alpha1 has `ports`, v1alpha2 has `protocols`"),
    };
    fields.misplaced(reader, wrong, reason);
    let Some(node) = fields.take(name) else { return Vec::new() };
    if matches!(&node.kind, NodeKind::Sequence(items) if items.is_empty()) {
        let message = format!("`{name}` without items matches every protocol and port");
        reader.warning(codes::IMPLIED_FIELD, node, message, "remove it, or put items under it");
    }
    let read = if dialect.is_new() { read_protocol } else { read_entry };
    bounded_list(reader, node, &format!("`{name}`"), dialect.most, read)
}

/// Networks have no named ports.
fn check_named_ports(reader: &mut Reader, peers: &[ClusterPeer], ports: &[ClusterPort]) {
    let named = ports.iter().find_map(|port| match port {
        ClusterPort::Name { span, .. } => Some(*span),
        _ => None,
    });
    let nameless = peers.iter().find_map(|peer| match peer {
        ClusterPeer::Networks { span, .. } | ClusterPeer::Unsupported { span } => Some(*span),
        ClusterPeer::Pods { .. } => None,
    });
    if let (Some(named), Some(nameless)) = (named, nameless) {
        report_named(reader, named, nameless);
    }
}

fn report_named(reader: &mut Reader, named: Span, nameless: Span) {
    let message = "a port name cannot stand beside a peer that is no pod";
    let error = Diagnostic::error(codes::BAD_COMBINATION, named, message);
    let help = "write the number of the port, or two rules: one for the pods and one for the other peers";
    reader.report(error.related(nameless, "only pods name their ports").help(help));
}
