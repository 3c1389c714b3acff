//! NetworkPolicy and GlobalNetworkPolicy.

use super::rule::read_rule;
use super::selector::{Global, read_selector};
use super::staged::read_action;
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::Direction;
use crate::manifest::fields::Fields;
use crate::manifest::kinds::Head;
use crate::manifest::kubernetes::{read_places, read_types};
use crate::manifest::meta::{Scope, Strictness, read_meta};
use crate::manifest::objects::{CalicoPolicy, CalicoRule, Meta, Spanned};
use crate::manifest::reader::Reader;
use crate::manifest::stored;
use crate::manifest::yaml::{Entry, Node};
use crate::selector::Selector;

/// Fields of a GlobalNetworkPolicy that a NetworkPolicy does not have.
const GLOBAL_ONLY: [&str; 4] = ["namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward"];

/// Reads a policy; `scope` tells a NetworkPolicy from a GlobalNetworkPolicy.
pub(in crate::manifest) fn read_policy(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
    scope: Scope,
) -> Option<CalicoPolicy> {
    let what = match (scope, head.kind.starts_with("Staged")) {
        (Scope::Cluster, false) => "a GlobalNetworkPolicy",
        (Scope::Cluster, true) => "a StagedGlobalNetworkPolicy",
        (Scope::Namespaced, false) => "a NetworkPolicy",
        (Scope::Namespaced, true) => "a StagedNetworkPolicy",
    };
    let mut object = Fields::new(reader, node, what)?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, scope, Strictness::Strict);
    let spec = object.require("spec");
    object.finish(reader);
    let spec = spec?;
    let mut fields = Fields::new(reader, spec, "spec")?;
    read_action(reader, head, &mut fields, spec);
    let mut policy = read_spec(reader, &mut fields, meta, head.span, scope);
    fields.finish(reader);
    if let Some(policy) = &mut policy {
        stored::trim_policy_name(node, &mut policy.meta, &policy.tier.value);
    }
    policy
}

fn read_spec(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    meta: Option<Meta>,
    at: Span,
    scope: Scope,
) -> Option<CalicoPolicy> {
    let tier = fields.take("tier").and_then(|node| {
        let tier = reader.string(node, "`tier`")?.to_owned();
        Some(reader.spanned(node, tier))
    });
    let order = fields.take("order").and_then(|node| reader.float(node, "`order`"));
    let selector = selector_of(reader, fields, "selector");
    let service_account_selector = selector_of(reader, fields, "serviceAccountSelector");
    let types = fields.take("types").map(|node| read_types(reader, node)).filter(|types| !types.is_empty());
    let ingress = fields.take("ingress").map(|node| read_rules(reader, node, "`ingress`"));
    let egress = fields.take("egress").map(|node| read_rules(reader, node, "`egress`"));
    note_performance_hints(reader, fields);
    let global = read_global(reader, fields, scope);
    check_host_only(reader, &global, types.as_deref(), egress.as_deref());
    Some(CalicoPolicy {
        meta: meta?,
        tier: tier.unwrap_or_else(|| Spanned { value: "default".into(), span: at }),
        order,
        selector,
        namespace_selector: global.namespace_selector,
        service_account_selector,
        types,
        ingress,
        egress,
        do_not_track: global.do_not_track.is_some(),
        pre_dnat: global.pre_dnat.is_some(),
        apply_on_forward: global.apply_on_forward,
        places: read_places(reader, fields),
    })
}

fn read_rules(reader: &mut Reader, node: &Node<'_>, what: &str) -> Vec<CalicoRule> {
    reader.list(node, what, read_rule)
}

fn selector_of(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    name: &'static str,
) -> Option<Spanned<Selector>> {
    let node = fields.take(name)?;
    read_selector(reader, node, &format!("`{name}`"), Global::Nowhere)
}

fn note_performance_hints(reader: &mut Reader, fields: &mut Fields<'_, '_>) {
    if let Some(entry) = fields.entry("performanceHints") {
        let span = reader.key_span(entry);
        let message = "`performanceHints` changes no verdict and is ignored";
        reader.report(Diagnostic::note(codes::IGNORED_FIELD, span, message));
    }
}

/// What only a GlobalNetworkPolicy has; flags carry the place where they are set.
#[derive(Default)]
struct GlobalFields {
    namespace_selector: Option<Spanned<Selector>>,
    do_not_track: Option<Span>,
    pre_dnat: Option<Span>,
    apply_on_forward: bool,
}

fn read_global(reader: &mut Reader, fields: &mut Fields<'_, '_>, scope: Scope) -> GlobalFields {
    if scope == Scope::Namespaced {
        for name in GLOBAL_ONLY {
            fields.misplaced(reader, name, "only a GlobalNetworkPolicy has it");
        }
        return GlobalFields::default();
    }
    GlobalFields {
        namespace_selector: selector_of(reader, fields, "namespaceSelector"),
        do_not_track: flag(reader, fields.entry("doNotTrack")),
        pre_dnat: flag(reader, fields.entry("preDNAT")),
        apply_on_forward: flag(reader, fields.entry("applyOnForward")).is_some(),
    }
}

/// The place of a flag that is set.
fn flag(reader: &mut Reader, entry: Option<&Entry<'_>>) -> Option<Span> {
    let entry = entry?;
    let set = reader.boolean(&entry.value, &format!("`{}`", entry.key))?;
    set.then(|| reader.key_span(entry))
}

/// Checks the combinations that the API allows for policies of host endpoints.
fn check_host_only(
    reader: &mut Reader,
    global: &GlobalFields,
    types: Option<&[Direction]>,
    egress: Option<&[CalicoRule]>,
) {
    let mut refuse = |span: Span, message: &str, help: &str| {
        reader.report(Diagnostic::error(codes::BAD_COMBINATION, span, message).help(help));
    };
    if let (Some(_), Some(span)) = (global.do_not_track, global.pre_dnat) {
        refuse(span, "`preDNAT` and `doNotTrack` exclude each other", "remove one of them");
    }
    if let Some(span) = global.pre_dnat
        && (types.is_some_and(|t| t.contains(&Direction::Egress)) || egress.is_some_and(|e| !e.is_empty()))
    {
        refuse(
            span,
            "a `preDNAT` policy cannot govern egress",
            "remove the egress rules and the type `Egress`",
        );
    }
    if let Some(span) = global.do_not_track.or(global.pre_dnat)
        && !global.apply_on_forward
    {
        refuse(span, "this flag needs `applyOnForward: true`", "write `applyOnForward: true`");
    }
}
