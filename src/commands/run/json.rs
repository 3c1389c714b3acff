//! The lines of `-o json`; `docs/schema/run.schema.json` describes them.

use std::io::{self, Write};

use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{DecisionData, DecisionKind, Direction};
use polc_runtime::packet::Captured;
use polc_runtime::replay::{Count, DecidedBy, Record};
use serde::Serialize;

use super::engine::Timing;
use super::plan::Plan;
use super::summary::{By, Row, Summary};

/// Version of the format.
pub const API_VERSION: &str = "polc/v1";

/// One evaluation.
#[derive(Serialize)]
struct Line<'a> {
    packet: u64,
    endpoint: Option<&'a str>,
    direction: Option<&'static str>,
    verdict: &'static str,
    decided_by: Decider<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Place<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    logged: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_log: Option<Decider<'a>>,
    time_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    timing: Option<Timing>,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What decided. Fields that a type does not have are left out; a cluster-wide
/// object's namespace is null.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Decider<'a> {
    Rule {
        #[serde(rename = "type")]
        kind: &'static str,
        api: &'a str,
        #[serde(rename = "kind")]
        object: &'a str,
        namespace: Option<&'a str>,
        name: &'a str,
        tier: Option<&'a str>,
        direction: &'static str,
        rule: Option<u32>,
        action: &'static str,
    },
    TierDefault {
        #[serde(rename = "type")]
        kind: &'static str,
        tier: &'a str,
        direction: &'static str,
        action: &'static str,
    },
    Profile {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
        direction: &'static str,
        rule: u32,
        action: &'static str,
    },
    NoProfileMatch {
        #[serde(rename = "type")]
        kind: &'static str,
        direction: &'static str,
        action: &'static str,
    },
    Other {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    },
}

/// Where the decision stands in the YAML.
#[derive(Serialize)]
pub struct Place<'a> {
    /// File as the user named it.
    pub file: &'a str,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    packets: u64,
    evaluations: u64,
    allowed: u64,
    denied: u64,
    logged: u64,
    other: u64,
    unreadable: u64,
    decisions: Vec<SummaryRow<'a>>,
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    decided_by: Decider<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Place<'a>>,
    allowed: u64,
    denied: u64,
    logged: u64,
}

/// Writes a record's line.
pub fn write_record(
    out: &mut impl Write,
    plan: &Plan,
    packet: &Captured<'_>,
    record: &Record,
    timing: Option<Timing>,
) -> io::Result<()> {
    let policy = |index: u32| {
        let at = record.at?;
        Some((plan.image(at), plan.place(at).direction, plan.decision(at, index)?))
    };
    let decision = match record.decided_by {
        DecidedBy::Policy(index) => policy(index),
        _ => None,
    };
    let place = record.at.map(|at| plan.place(at));
    let line = Line {
        packet: packet.number,
        endpoint: place.map(|p| p.name.as_str()),
        direction: place.map(|p| p.direction.as_str()),
        verdict: record.verdict.as_str(),
        decided_by: match decision {
            Some((_, direction, data)) => decider(direction, data),
            None => other(record.decided_by),
        },
        at: decision.and_then(|(image, _, data)| place_of(image, data)),
        logged: record.logged,
        last_log: record.log_decision.and_then(policy).map(|(_, direction, data)| decider(direction, data)),
        time_ns: packet.time,
        timing,
        api_version: API_VERSION,
    };
    write_line(out, &line)
}

/// Writes the summary as one object.
pub fn write_summary<'a>(out: &mut impl Write, plan: &'a Plan, summary: &Summary<'a>) -> io::Result<()> {
    let tally = summary.tally;
    let row = |row: &Row<'a>| {
        let Count { allowed, denied, logged } = row.count;
        let (decided_by, at) = match row.by {
            By::Policy(at, direction, data) => (decider(direction, data), place_of(plan.image(at), data)),
            By::Other(decided_by) => (other(decided_by), None),
        };
        SummaryRow { decided_by, at, allowed, denied, logged }
    };
    let decisions = summary.rows.iter().map(row).collect();
    let line = SummaryLine {
        api_version: API_VERSION,
        kind: "RunSummary",
        packets: summary.packets,
        evaluations: tally.evaluations,
        allowed: tally.allowed,
        denied: tally.denied,
        logged: tally.logged,
        other: tally.other,
        unreadable: tally.unreadable,
        decisions,
    };
    write_line(out, &line)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// A decision of policy.
pub fn decider(direction: Direction, data: &DecisionData) -> Decider<'_> {
    let (kind, direction, action) = (data.kind.as_str(), direction.as_str(), data.action.as_str());
    match data.kind {
        DecisionKind::Rule => Decider::Rule {
            kind,
            api: &data.api,
            object: &data.object,
            namespace: data.namespace.as_deref(),
            name: &data.name,
            tier: data.tier.as_deref(),
            direction,
            rule: data.rule,
            action,
        },
        DecisionKind::TierDefault => {
            Decider::TierDefault { kind, tier: data.tier.as_deref().unwrap_or(&data.name), direction, action }
        }
        DecisionKind::Profile => {
            Decider::Profile {
                kind,
                name: &data.name,
                direction,
                // A namespace's profile has one rule per direction.
                rule: data.rule.unwrap_or(0),
                action,
            }
        }
        DecisionKind::NoProfileMatch => Decider::NoProfileMatch { kind, direction, action },
        DecisionKind::Failsafe => Decider::Other { kind, reason: None },
    }
}

/// A decider that is not policy.
pub fn other(decided_by: DecidedBy) -> Decider<'static> {
    Decider::Other { kind: decided_by.as_str(), reason: decided_by.reason() }
}

/// Where a decision stands; `None` for what is built in.
pub fn place_of<'a>(image: &'a PolicyImage, data: &DecisionData) -> Option<Place<'a>> {
    let at = data.at?;
    let file = image.files.get(at.file.as_u32() as usize)?;
    Some(Place { file, line: at.line, column: at.column })
}
