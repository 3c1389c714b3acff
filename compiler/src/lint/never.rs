//! Rules, and peers of rules, that no packet can match.

use super::Context;
use super::fate::{Fate, Fates, Written};
use super::places::rule_name;
use crate::diag::{Diagnostic, Span, codes};

const HELP: &str = "its criteria exclude each other: compare the nets with what is cut out of them, and the \
                    ports with the protocol";

/// One finding for each such rule, or for each such peer of a rule that has
/// others.
pub(super) fn lint(context: &Context<'_>, fates: &Fates) -> Vec<Diagnostic> {
    fates.written.iter().flat_map(|rule| lint_rule(context, fates, rule)).collect()
}

fn lint_rule(context: &Context<'_>, fates: &Fates, rule: &Written) -> Vec<Diagnostic> {
    let Some(span) = rule.span.filter(|span| !is_explained(context, *span)) else { return Vec::new() };
    let name = rule_name(fates.direction(), rule.index);
    let never = |rules: &[_]| rules.iter().all(|rule| fates.of(*rule) == Fate::Never);
    if never(&rule.rules) {
        let message = format!("{name} can never match a packet");
        return vec![Diagnostic::warning(codes::NEVER_MATCHES, span, message).help(HELP)];
    }
    let peers = fates.by_peer(rule).into_iter().filter(|(_, rules)| never(rules));
    let report = |span| {
        let message = format!("this peer of {name} can never match a packet");
        Diagnostic::warning(codes::NEVER_MATCHES, span, message).help(HELP)
    };
    peers.filter_map(|(at, _)| context.places.of(&fates.ir, at)).map(report).collect()
}

fn is_explained(context: &Context<'_>, rule: Span) -> bool {
    context.explained.range((rule.file, rule.start)..=(rule.file, rule.end)).next().is_some()
}
