//! Selectors, with errors mapped back into the file.

use crate::diag::{Diagnostic, Fix, Span, codes};
use crate::manifest::Spanned;
use crate::manifest::reader::Reader;
use crate::manifest::yaml::{Node, NodeKind};
use crate::selector::Selector;

/// Where `global()` may stand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// Alone, in the `namespaceSelector` of a rule.
    Alone,
    /// Nowhere.
    Nowhere,
}

/// Reads a selector; an empty one is as good as missing.
pub(super) fn read_selector(
    reader: &mut Reader,
    node: &Node<'_>,
    what: &str,
    global: Global,
) -> Option<Spanned<Selector>> {
    let text = reader.string(node, what)?;
    if text.trim().is_empty() {
        return None;
    }
    match Selector::parse(text) {
        Ok(selector) => {
            check_global(reader, node, text, global);
            Some(reader.spanned(node, selector))
        }
        Err(error) => {
            let span = inside(reader, node, text, error.start, error.end);
            let mut diagnostic = Diagnostic::error(codes::BAD_SELECTOR, span, error.message);
            diagnostic.help.extend(error.help);
            // The whole scalar stands for a place that is not known exactly.
            let exact = span != reader.span(node);
            let fix = error.replacement.filter(|_| exact);
            reader.report(diagnostic.fix(fix.map(|text| Fix { span, text: text.to_owned() })));
            None
        }
    }
}

fn check_global(reader: &mut Reader, node: &Node<'_>, text: &str, global: Global) {
    let message = match global {
        _ if !text.contains("global(") => return,
        Global::Alone if text.trim() == "global()" => return,
        Global::Alone => "`global()` cannot be combined with other selectors",
        Global::Nowhere => "`global()` has a meaning in the `namespaceSelector` of a rule only",
    };
    reader.error(codes::MISPLACED_GLOBAL, node, message);
}

/// The place of a byte range of a scalar's text: exact where the text stands in
/// the file as it is, else the whole scalar.
fn inside(reader: &Reader, node: &Node<'_>, text: &str, start: usize, end: usize) -> Span {
    let verbatim = match &node.kind {
        NodeKind::Scalar(scalar) => scalar.verbatim,
        _ => None,
    };
    match (verbatim, u32::try_from(start), u32::try_from(end)) {
        (Some(at), Ok(start), Ok(end)) if end as usize <= text.len() => reader.range(at + start, at + end),
        _ => reader.span(node),
    }
}
