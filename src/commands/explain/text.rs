//! The explanation for people.
//!
//! ```text
//! tcp 10.30.1.11:32768 > 10.30.2.11:8000
//!
//! egress at shop-web/web-1 (source): allow
//!   tier default
//!     NetworkPolicy shop-web/web (policy.yaml:13)
//!     + egress[0] allow (policy.yaml:54)
//! ```

use std::io::{self, Write};
use std::net::IpAddr;

use polc_compiler::explain::{Explanation, Found, Place, PolicyView, RuleView, StepView, TierView};
use polc_compiler::ir::Direction;
use polc_compiler::resolve::Cluster;

use super::Report;
use super::evaluate::Section;
use crate::commands::run::describe;

/// Column of an instruction's comment.
const COMMENT: usize = 56;

/// Writes the report.
pub fn write(
    out: &mut impl Write,
    cluster: &Cluster,
    report: &Report,
    with_instructions: bool,
) -> io::Result<()> {
    write!(out, "{}", describe::packet(&report.subject.frame))?;
    match (report.subject.number, report.stateless) {
        (Some(number), true) => writeln!(out, " (packet {number}, as a connection's first)")?,
        (Some(number), false) => writeln!(out, " (packet {number})")?,
        (None, _) => writeln!(out)?,
    }
    for section in &report.sections {
        write_section(out, section, with_instructions)?;
    }
    writeln!(out)?;
    strangers(out, cluster, report)?;
    summary(out, report)
}

/// Sides of the packet that nobody answers for.
fn strangers(out: &mut impl Write, cluster: &Cluster, report: &Report) -> io::Result<()> {
    let Some((src, dst)) = report.subject.addresses() else {
        return match report.subject.is_unreadable() {
            true => writeln!(out, "its addresses cannot be read: every endpoint drops it"),
            false => writeln!(out, "not IP: policy does not speak about it"),
        };
    };
    let mut say = |side: &str, address: IpAddr, direction: &str| match cluster.owners(address) {
        [] => writeln!(out, "{side} {address} is no endpoint's: no {direction} policy is asked"),
        _ => Ok(()),
    };
    say("source", src, "egress")?;
    say("destination", dst, "ingress")
}

fn summary(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let verdict = report.verdict().as_str();
    let by: Vec<String> = report
        .sections
        .iter()
        .filter(|s| s.record.verdict == report.verdict())
        .map(|s| format!("{} at {}", s.place.direction.as_str(), s.place.name))
        .collect();
    match by.as_slice() {
        [] => writeln!(out, "verdict: {verdict} (no endpoint was asked)"),
        some => writeln!(out, "verdict: {verdict} ({})", some.join(", ")),
    }
}

fn write_section(out: &mut impl Write, section: &Section, with_instructions: bool) -> io::Result<()> {
    let place = &section.place;
    let side = match place.direction {
        Direction::Egress => "source",
        Direction::Ingress => "destination",
    };
    let (direction, verdict) = (place.direction.as_str(), section.record.verdict.as_str());
    writeln!(out, "\n{direction} at {} ({side}): {verdict}", place.name)?;
    if let Some(explanation) = &section.explanation {
        for tier in &explanation.tiers {
            write_tier(out, tier, direction)?;
        }
    }
    writeln!(out, "  decided by {}", section.decided_by)?;
    match &section.explanation {
        None => writeln!(out, "  no policy was asked"),
        Some(explanation) if with_instructions => write_instructions(out, explanation),
        Some(_) => Ok(()),
    }
}

fn write_tier(out: &mut impl Write, tier: &TierView, direction: &str) -> io::Result<()> {
    let title = match tier.name.as_str() {
        "profiles" => "profiles".to_owned(),
        "failsafe" => "failsafe ports".to_owned(),
        name => format!("tier {name}"),
    };
    if !tier.reached {
        return writeln!(out, "  {title}: not reached");
    }
    writeln!(out, "  {title}")?;
    for policy in &tier.policies {
        write_policy(out, policy, direction)?;
    }
    if tier.end.reached {
        let at = place(tier.end.at.as_ref());
        writeln!(out, "    end of {title}: {}{at}", tier.end.action)?;
    }
    Ok(())
}

fn write_policy(out: &mut impl Write, policy: &PolicyView, direction: &str) -> io::Result<()> {
    writeln!(out, "    {}{}", policy.title(), place(policy.at.as_ref()))?;
    if policy.rules.is_empty() {
        return writeln!(out, "      no {direction} rules: it only isolates");
    }
    for rule in &policy.rules {
        write_rule(out, rule, direction)?;
    }
    Ok(())
}

/// `+` for a rule that matched, `-` for one that did not.
fn write_rule(out: &mut impl Write, rule: &RuleView, direction: &str) -> io::Result<()> {
    let mark = match rule.found {
        Found::Match => '+',
        Found::NoMatch | Found::Impossible => '-',
        Found::NotReached => ' ',
    };
    let action = rule.action.map(|action| format!(" {action}")).unwrap_or_default();
    write!(out, "      {mark} {direction}[{}]{action}{}", rule.index, place(rule.at.as_ref()))?;
    match rule.found {
        Found::Match => writeln!(out, ": matches")?,
        Found::NotReached => writeln!(out, ": not reached")?,
        Found::Impossible => writeln!(out, ": no packet can match it")?,
        Found::NoMatch => writeln!(out)?,
    }
    if rule.found == Found::Match && !rule.alternatives.iter().any(|a| a.found == Found::NoMatch) {
        return Ok(());
    }
    for alternative in &rule.alternatives {
        let Some(reason) = &alternative.reason else { continue };
        let unseen = if alternative.in_program { "" } else { " [no instructions: it can have no effect]" };
        writeln!(out, "          {reason}{}{unseen}", place(alternative.at.as_ref()))?;
    }
    Ok(())
}

fn write_instructions(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    let steps = &explanation.instructions;
    writeln!(out, "  {} instructions ran:", steps.len())?;
    let mut last: Option<&StepView> = None;
    for step in steps {
        if last.is_none_or(|last| last.program != step.program) {
            writeln!(out, "    {}:", step.program)?;
        }
        let line = format!("    {:6}: {}", step.slot, step.text);
        let same = last.is_some_and(|last| (&last.note, &last.at) == (&step.note, &step.at));
        match &step.note {
            Some(note) if !same => writeln!(out, "{line:COMMENT$}; {note}{}", place(step.at.as_ref()))?,
            _ => writeln!(out, "{line}")?,
        }
        last = Some(step);
    }
    Ok(())
}

fn place(at: Option<&Place>) -> String {
    at.map(|at| format!(" ({}:{})", at.file, at.line)).unwrap_or_default()
}
