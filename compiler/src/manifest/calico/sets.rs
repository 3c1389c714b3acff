//! NetworkSet, GlobalNetworkSet and Tier.

use crate::diag::{Diagnostic, codes};
use crate::ir::Action;
use crate::manifest::fields::Fields;
use crate::manifest::kinds::Head;
use crate::manifest::meta::{Scope, Strictness, read_meta};
use crate::manifest::net::{self, Bare};
use crate::manifest::objects::{NetworkSet, Tier};
use crate::manifest::reader::Reader;
use crate::manifest::yaml::Node;

/// Built-in tiers: name, order and default action, none of which can change.
const BUILT_IN: &[(&str, f64, Action)] = &[
    ("kube-admin", 1_000.0, Action::Pass),
    ("adminnetworkpolicy", 1_000.0, Action::Pass),
    ("default", 1_000_000.0, Action::Deny),
    ("kube-baseline", 10_000_000.0, Action::Pass),
    ("baselineadminnetworkpolicy", 10_000_000.0, Action::Pass),
];

/// Reads a set; `scope` tells a NetworkSet from a GlobalNetworkSet.
pub(in crate::manifest) fn read_network_set(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
    scope: Scope,
) -> Option<NetworkSet> {
    let mut object = Fields::new(reader, node, "a network set")?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, scope, Strictness::Strict);
    let spec = object.take("spec");
    object.finish(reader);
    let mut nets = Vec::new();
    if let Some(mut fields) = spec.and_then(|spec| Fields::new(reader, spec, "spec")) {
        nets = fields
            .take("nets")
            .map(|node| net::cidrs(reader, node, "`nets`", Bare::Host))
            .unwrap_or_default();
        fields.refuse(reader, &["allowedEgressDomains"]);
        fields.finish(reader);
    }
    let meta = meta?;
    if meta.labels.contains_key("projectcalico.org/namespace") {
        let message = "a set cannot have the label `projectcalico.org/namespace`";
        let at = labels_span(reader, node).unwrap_or(head.span);
        reader.report(Diagnostic::error(codes::BAD_LABEL, at, message).help("Calico sets this label itself"));
    }
    Some(NetworkSet { meta, nets })
}

fn labels_span(reader: &Reader, node: &Node<'_>) -> Option<crate::diag::Span> {
    Some(reader.span(node.get("metadata")?.get("labels")?))
}

/// Reads a tier.
pub(in crate::manifest) fn read_tier(reader: &mut Reader, node: &Node<'_>, head: &Head<'_>) -> Option<Tier> {
    let mut object = Fields::new(reader, node, "a Tier")?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, Scope::Cluster, Strictness::Strict);
    let spec = object.take("spec");
    object.finish(reader);
    let mut tier = Tier { meta: meta?, order: None, default_action: Action::Deny };
    let mut action = None;
    if let Some(mut fields) = spec.and_then(|spec| Fields::new(reader, spec, "spec")) {
        tier.order = fields.take("order").and_then(|node| reader.float(node, "`order`"));
        let words = [("Deny", Action::Deny), ("Pass", Action::Pass)];
        action = fields.take("defaultAction").and_then(|node| reader.choice(node, "`defaultAction`", &words));
        fields.finish(reader);
    }
    complete_built_in(reader, head, &mut tier, action);
    Some(tier)
}

/// Sets the default action, and for a built-in tier what is not written.
fn complete_built_in(reader: &mut Reader, head: &Head<'_>, tier: &mut Tier, action: Option<Action>) {
    let Some((name, order, built_in)) = BUILT_IN.iter().find(|(name, ..)| *name == tier.meta.name) else {
        tier.default_action = action.unwrap_or(Action::Deny);
        return;
    };
    if action.is_some_and(|a| a != *built_in) || tier.order.is_some_and(|o| o != *order) {
        let word = if *built_in == Action::Pass { "Pass" } else { "Deny" };
        let message = format!("the built-in tier `{name}` has order {order} and default action {word}");
        let help = "write these, or leave the tier out: it always exists";
        reader.report(Diagnostic::error(codes::BUILT_IN_TIER, head.span, message).help(help));
    }
    tier.order = Some(*order);
    tier.default_action = *built_in;
}
