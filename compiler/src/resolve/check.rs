//! What is wrong or suspicious about the objects taken together.

use std::collections::HashMap;

use super::tiers::Tiers;
use super::{calico, codes, kubernetes};
use crate::diag::{Diagnostic, Span};
use crate::ir::Direction;
use crate::manifest::{CalicoPolicy, Meta, Objects};

/// All findings, in the order of the objects within each kind.
pub(super) fn check(objects: &Objects, tiers: &Tiers) -> Vec<Diagnostic> {
    let mut found = duplicates(objects);
    found.extend(objects.calico_policies.iter().filter_map(|policy| unknown_tier(policy, tiers)));
    found.extend(rules_without_effect(objects));
    found
}

/// Objects that are declared more than once. Which one would hold in a cluster
/// depends on the order of applying them, so none is taken silently.
fn duplicates(objects: &Objects) -> Vec<Diagnostic> {
    let mut seen: HashMap<(&str, &str, Option<&str>, &str), Span> = HashMap::new();
    let mut found = Vec::new();
    for (group, meta) in metas(objects) {
        let key = (group, meta.kind.as_str(), meta.namespace.as_deref(), meta.name.as_str());
        let Some(first) = seen.insert(key, meta.span) else { continue };
        let name = match &meta.namespace {
            Some(namespace) => format!("{namespace}/{}", meta.name),
            None => meta.name.clone(),
        };
        found.push(
            Diagnostic::error(codes::DUPLICATE, meta.span, format!("{} {name} is declared twice", meta.kind))
                .related(first, "first declared here")
                .help("keep one of them"),
        );
    }
    found
}

/// Every object with the API group that its kind belongs to.
fn metas(objects: &Objects) -> impl Iterator<Item = (&'static str, &Meta)> {
    let core = objects.namespaces.iter().chain(&objects.service_accounts);
    let core = core.chain(objects.pods.iter().map(|o| &o.meta));
    let kubernetes = objects.kubernetes_policies.iter().map(|o| &o.meta);
    let calico = objects.network_sets.iter().map(|o| &o.meta);
    let calico = calico.chain(objects.calico_policies.iter().map(|o| &o.meta));
    let calico = calico.chain(objects.tiers.iter().map(|o| &o.meta));
    core.chain(kubernetes).map(|meta| ("kubernetes", meta)).chain(calico.map(|meta| ("calico", meta)))
}

fn unknown_tier(policy: &CalicoPolicy, tiers: &Tiers) -> Option<Diagnostic> {
    let tier = &policy.tier;
    if tiers.get(tiers.rank(&tier.value)).is_some_and(|t| t.known) {
        return None;
    }
    let message = format!("tier `{}` does not exist: the policy comes after all others", tier.value);
    Some(
        Diagnostic::warning(codes::UNKNOWN_TIER, tier.span, message)
            .help(format!("add a Tier named `{}`; its end denies until then", tier.value)),
    )
}

/// Rules of a direction that `policyTypes` or `types` leave out.
fn rules_without_effect(objects: &Objects) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut report = |span: Option<Span>, direction: Direction, field: &str| {
        let Some(span) = span else { return };
        let direction = direction.as_str();
        let message = format!("{direction} rules have no effect: `{field}` does not list {direction}");
        found.push(Diagnostic::warning(codes::RULES_WITHOUT_EFFECT, span, message));
    };
    for policy in &objects.kubernetes_policies {
        for (direction, rules) in [(Direction::Ingress, &policy.ingress), (Direction::Egress, &policy.egress)]
        {
            let span = rules.first().map(|rule| rule.span);
            report(span.filter(|_| !kubernetes::governs(policy, direction)), direction, "policyTypes");
        }
    }
    for policy in objects.calico_policies.iter().filter(|policy| policy.types.is_some()) {
        for (direction, rules) in [(Direction::Ingress, &policy.ingress), (Direction::Egress, &policy.egress)]
        {
            let span = rules.iter().flatten().next().map(|rule| rule.span);
            report(span.filter(|_| !calico::listed(policy, direction)), direction, "types");
        }
    }
    found
}
