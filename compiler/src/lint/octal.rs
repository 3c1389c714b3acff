//! Numbers in quotes with leading zeros: decimal here, octal to some readers.
//!
//! Without quotes they are refused when read. Calico's ports and protocols may be
//! quoted numbers, and its parser reads these as decimal.

use crate::diag::{Diagnostic, Fix, Sources, Span, codes};
use crate::manifest::{CalicoRule, Objects, PortSpec};

/// One finding for each such scalar.
pub(super) fn lint(sources: &Sources, objects: &Objects) -> Vec<Diagnostic> {
    let policies = objects.calico_policies.iter();
    let rules = policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
    rules.flat_map(numbers).filter_map(|span| check(sources, span)).collect()
}

/// Where a rule's ports and protocols stand.
fn numbers(rule: &CalicoRule) -> Vec<Span> {
    let sides = [&rule.source, &rule.destination];
    let ports = sides.into_iter().flat_map(|side| side.ports.iter().chain(&side.not_ports));
    let ports = ports.filter(|port| matches!(port.value, PortSpec::Range(..))).map(|port| port.span);
    let protocols = [&rule.protocol, &rule.not_protocol].into_iter().flatten();
    protocols.filter(|protocol| !protocol.value.by_name).map(|p| p.span).chain(ports).collect()
}

fn check(sources: &Sources, span: Span) -> Option<Diagnostic> {
    let text = sources.file(span.file).text.get(span.start as usize..span.end as usize)?;
    let inner = text.trim_matches(['"', '\'']);
    let decimal = without_zeros(inner)?;
    let start = span.start + text.find(inner)? as u32;
    let place = Span { start, end: start + inner.len() as u32, ..span };
    let message = format!("`{inner}` is read as {decimal}; some readers take leading zeros for octal");
    let found = Diagnostic::warning(codes::LEADING_ZERO, span, message).help(format!("write {decimal}"));
    Some(found.fix(Some(Fix { span: place, text: decimal })))
}

/// A number or range without its leading zeros; `None` where it has none.
fn without_zeros(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let has_zero = parts.iter().any(|part| part.len() > 1 && part.starts_with('0'));
    if !has_zero || parts.len() > 2 || !parts.iter().all(is_number) {
        return None;
    }
    let strip = |part: &&str| match part.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest => rest.to_owned(),
    };
    Some(parts.iter().map(strip).collect::<Vec<_>>().join(":"))
}
