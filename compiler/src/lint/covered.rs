//! Rules, and peers of rules, that decide nothing because an earlier rule of the
//! same policy matches every packet that they match.

use super::Context;
use super::fate::{Fate, Fates, Written};
use super::places::rule_name;
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::{Action, Rule};

/// Earlier rules that a finding names.
const NAMED: usize = 3;

/// One finding for each such rule, or for each such peer of a rule that has
/// others.
pub(super) fn lint(context: &Context<'_>, fates: &Fates) -> Vec<Diagnostic> {
    fates.written.iter().flat_map(|rule| lint_rule(context, fates, rule)).collect()
}

fn lint_rule(context: &Context<'_>, fates: &Fates, rule: &Written) -> Vec<Diagnostic> {
    let name = rule_name(fates.direction(), rule.index);
    if let Some(by) = covering(fates, &rule.rules) {
        return report(context, fates, rule, rule.span, &name, &by).into_iter().collect();
    }
    let peers = fates.by_peer(rule);
    let covered = peers.iter().filter_map(|(at, rules)| Some((at, covering(fates, rules)?)));
    let what = format!("this peer of {name}");
    covered
        .filter_map(|(at, by)| report(context, fates, rule, context.places.of(&fates.ir, *at), &what, &by))
        .collect()
}

/// The rules that cover these, if none of these may decide and at least one is
/// covered.
fn covering(fates: &Fates, rules: &[Rule]) -> Option<Vec<Rule>> {
    let mut by = Vec::new();
    for rule in rules {
        match fates.of(*rule) {
            Fate::Lives => return None,
            Fate::Never => {}
            Fate::Covered(earlier) => by.push(earlier),
        }
    }
    (!by.is_empty()).then_some(by)
}

fn report(
    context: &Context<'_>,
    fates: &Fates,
    rule: &Written,
    at: Option<Span>,
    what: &str,
    by: &[Rule],
) -> Option<Diagnostic> {
    let mut earlier: Vec<u32> = by.iter().filter_map(|by| fates.index(*by)).collect();
    earlier.sort_unstable();
    earlier.dedup();
    let own = earlier == [rule.index];
    let names: Vec<String> = earlier.iter().map(|i| rule_name(fates.direction(), *i)).collect();
    let message = match own {
        true => format!("{what} decides nothing: an earlier peer matches every packet that it matches"),
        false => format!(
            "{what} decides nothing: {} before it {} every packet that it matches",
            names.join(" and "),
            if names.len() == 1 { "matches" } else { "match" }
        ),
    };
    let mut found = Diagnostic::warning(codes::COVERED_RULE, at?, message);
    for place in covering_places(context, fates, rule, own, by) {
        found = found.related(place, "this decides first");
    }
    Some(found.help(help(fates, rule, by)))
}

/// Where the earlier rules, or the earlier peers of the same rule, stand.
fn covering_places(
    context: &Context<'_>,
    fates: &Fates,
    rule: &Written,
    own: bool,
    by: &[Rule],
) -> Vec<Span> {
    let peers = || fates.by_peer(rule).into_iter().filter(|(_, rules)| rules.iter().any(|r| by.contains(r)));
    let mut places: Vec<Span> = match own {
        true => peers().filter_map(|(at, _)| context.places.of(&fates.ir, at)).collect(),
        false => {
            let is_named = |index| by.iter().any(|by| fates.index(*by) == Some(index));
            fates.written.iter().filter(|w| is_named(w.index)).filter_map(|w| w.span).collect()
        }
    };
    places.truncate(NAMED);
    places
}

fn help(fates: &Fates, rule: &Written, by: &[Rule]) -> &'static str {
    let action = |rule: &Rule| fates.ir.rules[*rule].action;
    let own = rule.rules.first().map(action);
    match by.iter().all(|by| Some(action(by)) == own) {
        true => "remove it: nothing changes",
        false if own == Some(Action::Log) => "move it to the front to log these packets",
        false => "move it to the front if it is meant as an exception, or remove it",
    }
}
