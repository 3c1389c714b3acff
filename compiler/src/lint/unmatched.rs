//! Selectors that match nothing in the input. Without pods or workload
//! endpoints in the input nothing is said: policies are often compiled apart from
//! the cluster they are for, or with its host endpoints only.

use std::collections::BTreeSet;

use cranelift_entity::SecondaryMap;

use super::Context;
use super::labels::KnownLabels;
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::{AddrSet, Origin, PolicyIr, SetKind, SideMatch};
use crate::resolve::{EndpointKind, Policy, PolicyData, Stage};
use crate::selector::Selector;

/// Longest selector that a message repeats, in characters.
const MAX_QUOTED: usize = 160;

/// Policies that select no endpoint.
pub(super) fn policies(context: &Context<'_>) -> Vec<Diagnostic> {
    let cluster = context.cluster;
    let mut selects: SecondaryMap<Policy, bool> = SecondaryMap::with_capacity(cluster.policies().len());
    for endpoint in cluster.endpoints().keys() {
        for policy in cluster.selecting(endpoint) {
            selects[*policy] = true;
        }
    }
    if !context.has_workloads {
        return Vec::new();
    }
    // That a policy needs a host endpoint and there is none is said elsewhere.
    let hosts = cluster.endpoints().values().any(|endpoint| endpoint.kind == EndpointKind::Host);
    let explained = |data: &PolicyData| data.stage != Stage::Normal && !hosts;
    let idle = cluster.policies().iter().filter(|(policy, data)| !selects[*policy] && !explained(data));
    idle.filter_map(|(_, data)| {
        let kind = context.places.of_policy(data.at)?;
        let at = context.places.written(kind).and_then(|written| written.selector).unwrap_or(kind);
        let message = format!("the policy `{}` selects no endpoint of the input", data.display_name());
        let found = Diagnostic::warning(codes::UNMATCHED_SELECTOR, at, message);
        Some(explain(context, found, &data.selector))
    })
    .collect()
}

/// Rule sides whose selector matches no address.
pub(super) fn rules(context: &Context<'_>, ir: &PolicyIr) -> Vec<Diagnostic> {
    if !context.has_workloads {
        return Vec::new();
    }
    let mut seen: BTreeSet<(Origin, AddrSet)> = BTreeSet::new();
    let mut found = Vec::new();
    for rule in ir.rules.values() {
        for (side, at) in [(&rule.matches.src, rule.origins.src), (&rule.matches.dst, rule.origins.dst)] {
            let (Some(origin), Some(span)) = (at, context.places.of(ir, at)) else { continue };
            for (set, negated) in empty_sets(ir, side) {
                if seen.insert((origin, set)) {
                    found.push(report(context, span, &ir.sets[set].name, negated));
                }
            }
        }
    }
    found
}

/// The selected sets of a side without a member; whether each is negated.
fn empty_sets(ir: &PolicyIr, side: &SideMatch) -> Vec<(AddrSet, bool)> {
    let wanted = side.in_sets.iter().map(|set| (*set, false));
    let all = wanted.chain(side.not_in.iter().map(|set| (*set, true)));
    let is_empty = |set: AddrSet| ir.sets[set].kind == SetKind::Members && ir.sets[set].nets.is_empty();
    all.filter(|(set, _)| is_empty(*set)).collect()
}

fn report(context: &Context<'_>, at: Span, selector: &str, negated: bool) -> Diagnostic {
    let message = match negated {
        true => "nothing in the input matches the negated selector: it excludes nothing",
        false => "no endpoint or network set of the input with an address matches this",
    };
    let found = Diagnostic::warning(codes::UNMATCHED_SELECTOR, at, message);
    match Selector::parse(selector) {
        Ok(selector) => explain(context, found, &selector),
        Err(_) => found,
    }
}

/// Adds what is looked for, and which label of it nothing has.
fn explain(context: &Context<'_>, mut found: Diagnostic, selector: &Selector) -> Diagnostic {
    let known = context.labels.get_or_init(|| KnownLabels::new(context.objects, context.cluster));
    found.help.extend(known.missing(selector));
    let text = selector.to_string();
    let shown = match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    found.help(format!("what is looked for is `{shown}`"))
}
