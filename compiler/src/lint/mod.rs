//! Lints: what is legal and probably not meant.
//!
//! ```text
//! Objects ──────────────▶ lists and scalars as written ─┐
//! Cluster ─resolve_policy▶ IR of each policy, pruned ───┼─▶ diagnostics P07xx
//! Cluster ─selecting, members▶ selectors without match ─┘
//! ```
//!
//! One file for each lint. A lint never changes what is compiled, and never
//! proves anything on its own: what covers a rule, or keeps it from ever
//! matching, is what [`crate::passes::prune`] says of the policy's IR.
//!
//! `polc check` runs the lints; `compile` and `run` print the findings of reading
//! and resolving only, since resolving each policy on its own costs more than
//! resolving the endpoints that are asked for.
//!
//! Cost: each policy is resolved and pruned once for each direction.

mod covered;
mod fate;
mod isolation;
mod labels;
mod never;
mod octal;
mod places;
mod protocol;
#[cfg(test)]
mod tests;
mod unmatched;

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::diag::{Code, Diagnostic, FileId, Sources, codes, has_errors, sort};
use crate::ir::Direction;
use crate::manifest::{self, Objects};
use crate::resolve::{Cluster, EndpointKind};
use fate::Fates;
use labels::KnownLabels;
use places::Places;

/// Both directions, in the order of reports.
const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Codes that say why a rule matches nothing: such a rule is not reported again.
const REASONS: [Code; 5] = [
    codes::IMPOSSIBLE_PORT,
    codes::CATCH_ALL,
    codes::WRONG_FAMILY,
    codes::UNSUPPORTED_PEER,
    codes::UNKNOWN_PORT_NAME,
];

/// What the lints of rules work on.
struct Context<'a> {
    cluster: &'a Cluster,
    places: Places<'a>,
    objects: &'a Objects,
    labels: OnceCell<KnownLabels>,
    /// Whether the input has pods or workload endpoints.
    has_workloads: bool,
    /// Places inside rules that match nothing for a reason that is reported.
    explained: BTreeSet<(FileId, u32)>,
}

/// Reads the sources, takes stock of the objects and lints them: everything that
/// polc has to say about the input, sorted by place. Lints are left out when there
/// is an error, since what could be read is not what is meant then.
pub fn check(sources: &Sources) -> Vec<Diagnostic> {
    let (objects, mut found) = manifest::read(sources);
    let (cluster, more) = Cluster::new(sources, objects.clone());
    found.extend(more);
    if !has_errors(&found) {
        found.extend(lint(sources, &objects, &cluster, &found));
    }
    sort(&mut found);
    found
}

/// Runs every lint on objects that were read from `sources`, and on the cluster
/// that they make. `known` is what reading and resolving reported, none of it an
/// error: a rule that never matches for a reason given there is not reported
/// again.
///
/// Findings come sorted by place; none is an error.
pub fn lint(
    sources: &Sources,
    objects: &Objects,
    cluster: &Cluster,
    known: &[Diagnostic],
) -> Vec<Diagnostic> {
    let reasons = known.iter().filter(|d| REASONS.contains(&d.code)).filter_map(|d| d.span);
    let explained = reasons.map(|span| (span.file, span.start)).collect();
    let (places, labels) = (Places::new(sources, objects), OnceCell::new());
    let has_workloads = cluster.endpoints().values().any(|e| e.kind != EndpointKind::Host);
    let context = Context { cluster, places, objects, labels, has_workloads, explained };
    let mut found = isolation::lint(objects);
    found.extend(protocol::lint(objects));
    found.extend(octal::lint(sources, objects));
    found.extend(unmatched::policies(&context));
    for policy in cluster.policies().keys() {
        for direction in DIRECTIONS {
            let Some(ir) = cluster.resolve_policy(policy, direction) else { continue };
            found.extend(unmatched::rules(&context, &ir));
            let fates = Fates::new(&context, policy, ir);
            found.extend(never::lint(&context, &fates));
            found.extend(covered::lint(&context, &fates));
        }
    }
    sort(&mut found);
    found.dedup();
    found
}
