//! Policies whose missing or empty list of rules decides more, or less, than it
//! shows: no rule in a direction that is governed denies everything, and an empty
//! list in a direction that is not governed changes nothing.
//!
//! A default deny is a common idiom. Where the policy's types name the direction
//! it is taken for one, and only noted.

use crate::diag::{Diagnostic, Span, codes};
use crate::ir::Direction;
use crate::manifest::{CalicoPolicy, KubernetesPolicy, Meta, Objects, PolicyPlaces};

/// What both APIs' policies have in common here.
struct Lists<'a> {
    meta: &'a Meta,
    places: PolicyPlaces,
    types: Option<&'a [Direction]>,
    /// The name of the field with the types.
    types_field: &'static str,
    /// Number of rules by direction.
    rules: [usize; 2],
}

/// One finding for each direction of a policy.
pub(super) fn lint(objects: &Objects) -> Vec<Diagnostic> {
    let kubernetes = objects.kubernetes_policies.iter().map(kubernetes);
    let calico = objects.calico_policies.iter().filter(|p| !p.do_not_track && !p.pre_dnat).map(calico);
    kubernetes.chain(calico).flat_map(|lists| super::DIRECTIONS.map(|d| lists.lint(d))).flatten().collect()
}

fn kubernetes(policy: &KubernetesPolicy) -> Lists<'_> {
    Lists {
        meta: &policy.meta,
        places: policy.places,
        types: policy.policy_types.as_deref(),
        types_field: "policyTypes",
        rules: [policy.ingress.len(), policy.egress.len()],
    }
}

fn calico(policy: &CalicoPolicy) -> Lists<'_> {
    let count = |rules: &Option<Vec<_>>| rules.as_ref().map_or(0, Vec::len);
    Lists {
        meta: &policy.meta,
        places: policy.places,
        types: policy.types.as_deref(),
        types_field: "types",
        rules: [count(&policy.ingress), count(&policy.egress)],
    }
}

impl Lists<'_> {
    fn lint(&self, direction: Direction) -> Option<Diagnostic> {
        if self.rules[direction as usize] > 0 {
            return None;
        }
        let list = match direction {
            Direction::Ingress => self.places.ingress,
            Direction::Egress => self.places.egress,
        };
        match self.types {
            Some(types) if types.contains(&direction) => Some(self.denies(direction, list)),
            Some(_) => None,
            None if self.implies(direction) => Some(self.denies_unasked(direction, list)),
            None => Some(self.leaves_open(direction, list?)),
        }
    }

    /// Whether the direction is governed although no type names it: ingress of a
    /// Kubernetes policy always, of a Calico policy unless it has egress rules.
    fn implies(&self, direction: Direction) -> bool {
        let calico = self.types_field == "types";
        direction == Direction::Ingress && !(calico && self.rules[Direction::Egress as usize] > 0)
    }

    fn denies(&self, direction: Direction, list: Option<Span>) -> Diagnostic {
        let name = direction.as_str();
        let message =
            format!("no {name} rules: what the policy selects has no {name} unless another policy allows it");
        Diagnostic::note(codes::EMPTY_LIST, list.unwrap_or(self.meta.span), message)
    }

    fn denies_unasked(&self, direction: Direction, list: Option<Span>) -> Diagnostic {
        let (name, field) = (direction.as_str(), self.types_field);
        let message = format!("without `{field}` and without {name} rules the policy denies all {name}");
        let found = Diagnostic::warning(codes::EMPTY_LIST, list.unwrap_or(self.meta.span), message);
        match self.rules[Direction::Egress as usize] {
            0 => found.help(format!("write `{field}: [Ingress]` if that is meant")),
            _ => found.help(format!(
                "write `{field}: [Egress]` to leave ingress alone, `{field}: [Ingress, Egress]` if it is meant"
            )),
        }
    }

    fn leaves_open(&self, direction: Direction, list: Span) -> Diagnostic {
        let (name, field) = (direction.as_str(), self.types_field);
        let message = format!("without `{field}` the empty list denies nothing: {name} is left open");
        let wanted = if direction == Direction::Egress { "Egress" } else { "Ingress" };
        let help = format!("list `{wanted}` in `{field}` to deny all {name}, or remove the empty list");
        Diagnostic::warning(codes::OPEN_LIST, list, message).help(help)
    }
}
