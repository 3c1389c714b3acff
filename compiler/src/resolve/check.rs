//! What is suspicious about the objects taken together.

use super::inventory::NamedPorts;
use super::tiers::Tiers;
use super::{calico, cluster_policy, kubernetes};
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::Direction;
use crate::manifest::{CalicoPolicy, Objects, PortSpec};

/// All findings, in the order of the objects within each kind.
pub(super) fn check(objects: &Objects, tiers: &Tiers, named: &NamedPorts) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> =
        objects.calico_policies.iter().filter_map(|policy| unknown_tier(policy, tiers)).collect();
    found.extend(rules_without_effect(objects));
    found.extend(cluster_policy::equal_priorities(&objects.cluster_policies));
    found.extend(port_names(objects).filter_map(|(name, span)| unknown_port(name, span, named)));
    found
}

/// Every port that a policy names instead of numbering it.
fn port_names(objects: &Objects) -> impl Iterator<Item = (&str, Span)> {
    let kubernetes = objects.kubernetes_policies.iter().flat_map(|p| p.ingress.iter().chain(&p.egress));
    let kubernetes =
        kubernetes.flat_map(|rule| &rule.ports).filter_map(|port| Some((port.port.as_ref()?, port.span)));
    let calico = objects.calico_policies.iter().flat_map(|p| p.ingress.iter().chain(&p.egress).flatten());
    let calico = calico.chain(objects.profiles.iter().flat_map(|p| p.ingress.iter().chain(&p.egress)));
    let calico = calico
        .flat_map(|rule| [&rule.source, &rule.destination])
        .flat_map(|side| side.ports.iter().chain(&side.not_ports))
        .map(|port| (&port.value, port.span));
    let named = kubernetes.chain(calico).filter_map(|(port, span)| match port {
        PortSpec::Name(name) => Some((name.as_str(), span)),
        PortSpec::Range(..) => None,
    });
    named.chain(cluster_policy::port_names(&objects.cluster_policies))
}

/// A name without a number leaves nothing to compile. The empty name stands for
/// a port that reading has already reported as impossible.
fn unknown_port(name: &str, span: Span, named: &NamedPorts) -> Option<Diagnostic> {
    if name.is_empty() || named.contains_key(name) {
        return None;
    }
    let message = format!("no pod in the input has a port named `{name}`: it matches nothing");
    Some(
        Diagnostic::warning(codes::UNKNOWN_PORT_NAME, span, message)
            .help("give the pods as input too, or write the port's number"),
    )
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
