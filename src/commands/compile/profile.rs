//! The file of `--profile`: read, and what of it found no rule.

use std::fs;
use std::path::Path;

use polc_compiler::ir::DecisionKind;
use polc_compiler::profile::{Entry, HitProfile, Unused};
use polc_compiler::resolve::Cluster;

use crate::exit::Failure;
use crate::output;

/// Entries that are named before the rest is counted.
const NAMED: usize = 10;

/// Reads a profile.
pub fn read(path: &Path) -> Result<HitProfile, Failure> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|e| Failure::usage(format!("{name}: {e}")))?;
    HitProfile::parse(&text).map_err(|e| Failure::usage(format!("{name}:{e}")))
}

/// Says which entries were of no use. If only a part of the input was compiled, those
/// about the rest are left alone.
pub fn warn<'a>(path: &Path, cluster: &Cluster, partly: bool, unused: impl Iterator<Item = Unused<'a>>) {
    let mut more = 0;
    for (number, (unused, why)) in
        unused.filter_map(|unused| Some((unused, reason(cluster, partly, &unused)?))).enumerate()
    {
        if number < NAMED {
            let Unused { entry, hits, .. } = unused;
            output::warning(&format!("{}: {entry} {why}; its {hits} hits are ignored", path.display()));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        output::warning(&format!("{}: {more} more entries are ignored", path.display()));
    }
}

/// Why an entry found no rule; `None` if it is about what was not compiled.
fn reason(cluster: &Cluster, partly: bool, unused: &Unused<'_>) -> Option<&'static str> {
    match (unused.policy_known, unused.entry.kind) {
        (true, _) => Some("has changed or is gone since the profile was taken"),
        (false, DecisionKind::Rule) => (!is_input(cluster, unused.entry)).then_some("is not in the input"),
        (false, _) => (!partly).then_some("is not in the input"),
    }
}

fn is_input(cluster: &Cluster, entry: &Entry) -> bool {
    cluster.policies().values().any(|policy| {
        policy.name == entry.name
            && policy.namespace == entry.namespace
            && policy.kind == entry.object
            && policy.api == entry.api
    })
}
