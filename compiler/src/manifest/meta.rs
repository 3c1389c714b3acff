//! `metadata`: names, namespaces and labels.

use super::fields::Fields;
use super::kinds::Head;
use super::objects::{Labels, Meta};
use super::reader::{Reader, clip};
use super::stored;
use super::yaml::Node;
use crate::diag::{Diagnostic, codes};

/// Fields of ObjectMeta that say nothing about policy.
const IRRELEVANT: &[&str] = &[
    "annotations",
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Whether a kind's objects live in namespaces.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In a namespace, `default` if none is named.
    Namespaced,
    /// In the whole cluster.
    Cluster,
}

/// How unknown fields are treated.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// They are errors: a misspelt field changes what a policy means.
    Strict,
    /// They are accepted: the schema is larger than what policy looks at.
    Lenient,
}

/// Reads `metadata`; `None` if the object has no usable name.
pub(super) fn read_meta(
    reader: &mut Reader,
    head: &Head<'_>,
    object: &mut Fields<'_, '_>,
    scope: Scope,
    strictness: Strictness,
) -> Option<Meta> {
    let node = object.require("metadata")?;
    let mut fields = Fields::new(reader, node, "metadata")?;
    fields.ignore(IRRELEVANT);
    let name = fields.require("name").and_then(|node| read_name(reader, node, head));
    let labels = fields.take("labels").map(|node| read_labels(reader, node, "`labels`")).unwrap_or_default();
    let namespace = read_namespace(reader, &mut fields, head, scope, strictness);
    match strictness {
        Strictness::Strict => fields.finish(reader),
        Strictness::Lenient => fields.finish_leniently(reader),
    }
    let mut meta = Meta {
        api: head.api.to_owned(),
        kind: head.kind.to_owned(),
        namespace,
        name: name?,
        labels,
        span: head.span,
    };
    stored::restore(reader, node, &mut meta);
    Some(meta)
}

fn read_namespace(
    reader: &mut Reader,
    fields: &mut Fields<'_, '_>,
    head: &Head<'_>,
    scope: Scope,
    strictness: Strictness,
) -> Option<String> {
    let entry = fields.entry("namespace");
    match scope {
        Scope::Namespaced => {
            let text = entry.and_then(|e| {
                let text = reader.string(&e.value, "`namespace`")?;
                check_name(reader, &e.value, text, "`namespace`", is_label_name(text));
                Some(text).filter(|text| !text.is_empty())
            });
            Some(text.unwrap_or("default").to_owned())
        }
        Scope::Cluster => {
            if let (Some(entry), Strictness::Strict) = (entry, strictness) {
                let message = format!("a {} belongs to no namespace", head.kind);
                let span = reader.key_span(entry);
                reader.report(
                    Diagnostic::error(codes::BAD_COMBINATION, span, message).help("remove `namespace`"),
                );
            }
            None
        }
    }
}

fn read_name(reader: &mut Reader, node: &Node<'_>, head: &Head<'_>) -> Option<String> {
    let text = reader.string(node, "`name`")?;
    let valid = match head.kind {
        "Namespace" | "Tier" => is_label_name(text),
        _ => is_subdomain(text),
    };
    check_name(reader, node, text, "`name`", valid);
    Some(text.to_owned())
}

fn check_name(reader: &mut Reader, node: &Node<'_>, text: &str, what: &str, valid: bool) {
    if !valid {
        let message = format!("{what} cannot be `{}`", clip(text));
        let help = "use lower-case letters, digits and `-`; start and end with a letter or digit";
        reader.error_with_help(codes::BAD_NAME, node, message, help);
    }
}

/// Reads a mapping of labels.
pub(super) fn read_labels(reader: &mut Reader, node: &Node<'_>, what: &str) -> Labels {
    let mut labels = Labels::new();
    for entry in reader.entries(node, what).unwrap_or_default() {
        let key_span = reader.key_span(entry);
        check_label_key(reader, key_span, &entry.key);
        if let Some(value) = reader.string(&entry.value, "a label value") {
            check_label_value(reader, &entry.value, value);
            labels.entry(entry.key.to_string()).or_insert_with(|| value.to_owned());
        }
    }
    labels
}

/// Reports a label key that the API refuses.
pub(super) fn check_label_key(reader: &mut Reader, span: crate::diag::Span, key: &str) {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|p| !is_subdomain(p)) || name.is_empty() || !is_label_text(name) {
        let help =
            "a key is `name` or `prefix/name`: letters, digits, `-`, `_` and `.`, at most 63 characters";
        let message = format!("`{}` cannot be a label key", clip(key));
        reader.report(Diagnostic::error(codes::BAD_LABEL, span, message).help(help));
    }
}

/// Reports a label value that the API refuses.
pub(super) fn check_label_value(reader: &mut Reader, node: &Node<'_>, value: &str) {
    if !is_label_text(value) {
        let help = "a value has at most 63 letters, digits, `-`, `_` and `.`, and starts and ends with a letter or digit";
        let message = format!("`{}` cannot be a label value", clip(value));
        reader.error_with_help(codes::BAD_LABEL, node, message, help);
    }
}

/// A label's value, or its key behind the prefix.
fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS label as of RFC 1123.
fn is_label_name(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_subdomain(text)
}

/// A DNS subdomain as of RFC 1123, in lower case.
fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        let legal = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        legal && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, subdomain, label) in [
            ("web", true, true),
            ("a-1", true, true),
            ("default.web", true, false),
            ("Web", false, false),
            ("-a", false, false),
            ("a..b", false, false),
            ("", false, false),
            ("a_b", false, false),
        ] {
            assert_eq!((is_subdomain(text), is_label_name(text)), (subdomain, label), "{text:?}");
        }
    }

    #[test]
    fn label_texts() {
        for (text, want) in
            [("", true), ("Web_1.x", true), ("-a", false), ("a-", false), ("a b", false), ("ä", false)]
        {
            assert_eq!(is_label_text(text), want, "{text:?}");
        }
        assert!(is_label_text(&"a".repeat(63)) && !is_label_text(&"a".repeat(64)));
    }
}
