//! What staged policies have beside the policies that they stage.

use crate::diag::{Diagnostic, codes};
use crate::manifest::fields::Fields;
use crate::manifest::kinds::Head;
use crate::manifest::reader::Reader;
use crate::manifest::yaml::{Node, NodeKind};

/// What is to become of the policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::manifest) enum StagedAction {
    /// It is to be enforced as written.
    Set,
    /// The enforced policy of its name is to be deleted.
    Delete,
    /// Neither.
    Other,
}

const ACTIONS: &[(&str, StagedAction)] = &[
    ("Set", StagedAction::Set),
    ("Delete", StagedAction::Delete),
    ("Learn", StagedAction::Other),
    ("Ignore", StagedAction::Other),
];

/// Takes `stagedAction` from the fields of a staged policy's spec; `Set` for
/// other kinds and where it is missing. A deletion must say nothing else.
pub(in crate::manifest) fn read_action(
    reader: &mut Reader,
    head: &Head<'_>,
    fields: &mut Fields<'_, '_>,
    spec: &Node<'_>,
) -> StagedAction {
    if !head.kind.starts_with("Staged") {
        return StagedAction::Set;
    }
    let action = fields.take("stagedAction").and_then(|node| reader.choice(node, "`stagedAction`", ACTIONS));
    let action = action.unwrap_or(StagedAction::Set);
    if action == StagedAction::Delete
        && let NodeKind::Mapping(entries) = &spec.kind
        && let Some(entry) = entries.iter().find(|e| !matches!(e.key.as_ref(), "stagedAction" | "tier"))
    {
        let message = format!("a staged deletion has no `{}`", entry.key);
        let error = Diagnostic::error(codes::BAD_COMBINATION, reader.key_span(entry), message);
        reader.report(error.help("leave only `stagedAction` and `tier`, or write `stagedAction: Set`"));
    }
    action
}

/// Says that a staged policy has been read and has no effect.
pub(in crate::manifest) fn report(reader: &mut Reader, head: &Head<'_>) {
    let message = format!("a {} is not enforced", head.kind);
    let warning = Diagnostic::warning(codes::STAGED_POLICY, head.span, message);
    reader.report(warning.help("write the kind without `Staged` to compile it"));
}
