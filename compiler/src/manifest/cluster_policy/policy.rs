//! The policy around its rules: kind, tier, priority, subject.

use super::peer::read_selection;
use super::rule::read_rules;
use super::{ClusterPolicy, ClusterPolicyKind, ClusterTier, Dialect, PodSelection, at_most_one};
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::Direction;
use crate::manifest::fields::Fields;
use crate::manifest::kinds::Head;
use crate::manifest::meta::{Scope, Strictness, read_meta};
use crate::manifest::objects::{Meta, Spanned};
use crate::manifest::reader::Reader;
use crate::manifest::yaml::Node;

/// The largest priority, which comes last.
const LAST_PRIORITY: i64 = 1000;

/// The only name that a BaselineAdminNetworkPolicy may have.
const BASELINE_NAME: &str = "default";

/// Reads a policy of one of the group's kinds.
pub(in crate::manifest) fn read_cluster_policy(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
    kind: ClusterPolicyKind,
) -> Option<ClusterPolicy> {
    let mut object = Fields::new(reader, node, "the policy")?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, Scope::Cluster, Strictness::Strict);
    let spec = object.require("spec");
    object.finish(reader);
    if let (ClusterPolicyKind::BaselineAdmin, Some(meta)) = (kind, &meta) {
        check_baseline_name(reader, node, meta);
    }
    let mut fields = Fields::new(reader, spec?, "spec")?;
    let policy = read_spec(reader, &mut fields, meta, head.span, Dialect::new(kind));
    fields.finish(reader);
    policy
}

fn check_baseline_name(reader: &mut Reader, node: &Node<'_>, meta: &Meta) {
    if meta.name != BASELINE_NAME {
        let name = node.get("metadata").and_then(|metadata| metadata.get("name"));
        let span = name.map_or(meta.span, |name| reader.span(name));
        let message = "the one BaselineAdminNetworkPolicy of a cluster is named `default`";
        let error = Diagnostic::error(codes::BAD_NAME, span, message);
        reader.report(error.help("write `name: default`, and put all baseline rules into this policy"));
    }
}

fn read_spec(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    meta: Option<Meta>,
    at: Span,
    dialect: Dialect,
) -> Option<ClusterPolicy> {
    let tier = read_tier(reader, fields, dialect.kind);
    let priority = read_priority(reader, fields, at, dialect.kind);
    let subject = fields.require("subject").map(|node| read_subject(reader, node, dialect));
    let mut rules = |name, direction| {
        let node = fields.take(name);
        node.map(|node| read_rules(reader, node, direction, dialect)).unwrap_or_default()
    };
    let (ingress, egress) = (rules("ingress", Direction::Ingress), rules("egress", Direction::Egress));
    Some(ClusterPolicy { meta: meta?, tier: tier?, priority: priority?, subject: subject??, ingress, egress })
}

fn read_tier(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    kind: ClusterPolicyKind,
) -> Option<ClusterTier> {
    let reason = "the kind says it; a ClusterNetworkPolicy (v1alpha2) has a tier";
    match kind {
        ClusterPolicyKind::Cluster => {
            let words = [("Admin", ClusterTier::Admin), ("Baseline", ClusterTier::Baseline)];
            fields.require("tier").and_then(|node| reader.choice(node, "`tier`", &words))
        }
        ClusterPolicyKind::Admin => {
            fields.misplaced(reader, "tier", reason);
            Some(ClusterTier::AdminV1)
        }
        ClusterPolicyKind::BaselineAdmin => {
            fields.misplaced(reader, "tier", reason);
            Some(ClusterTier::BaselineV1)
        }
    }
}

fn read_priority(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    at: Span,
    kind: ClusterPolicyKind,
) -> Option<Spanned<u16>> {
    if kind == ClusterPolicyKind::BaselineAdmin {
        let reason = "there is only one BaselineAdminNetworkPolicy, so it has no priority";
        fields.misplaced(reader, "priority", reason);
        return Some(Spanned { value: 0, span: at });
    }
    let node = fields.require("priority")?;
    let value = reader.integer(node, "`priority`", codes::BAD_NUMBER, 0, LAST_PRIORITY)?;
    Some(reader.spanned(node, u16::try_from(value).ok()?))
}

fn read_subject(reader: &mut Reader, node: &Node<'_>, dialect: Dialect) -> Option<PodSelection> {
    let mut fields = Fields::new(reader, node, "subject")?;
    let chosen = at_most_one(reader, &mut fields, "a subject", &["namespaces", "pods"]);
    let before = reader.diagnostics.len();
    fields.finish(reader);
    match chosen.ok()? {
        Some(entry) => read_selection(reader, entry, dialect),
        None if reader.diagnostics.len() > before => None,
        None => {
            let help =
                "write `namespaces: {}` for every pod, or `pods` with a namespaceSelector and a podSelector";
            reader.error_with_help(codes::EMPTY_PEER, node, "a subject must select something", help);
            None
        }
    }
}
