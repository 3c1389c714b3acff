//! Reads typed values from nodes and collects what is wrong with them.
//!
//! Every reader returns `None` after it has reported a finding, so that its
//! caller goes on with the next field and one run reports everything.

use std::borrow::Cow;

use super::Spanned;
use super::suggest::nearest;
use super::yaml::{Entry, Node, NodeKind, Resolved, Scalar};
use crate::diag::{Diagnostic, FileId, Fix, Span, codes};

/// Longest text that a message repeats.
const MAX_QUOTED: usize = 60;

/// The file that is read, and the findings so far.
pub(super) struct Reader {
    file: FileId,
    /// Findings in the order they were made.
    pub diagnostics: Vec<Diagnostic>,
}

impl Reader {
    /// A reader for one file.
    pub fn new(file: FileId) -> Self {
        Self { file, diagnostics: Vec::new() }
    }

    /// The place of a node.
    pub fn span(&self, node: &Node<'_>) -> Span {
        Span { file: self.file, start: node.start, end: node.end }
    }

    /// The place of a key.
    pub fn key_span(&self, entry: &Entry<'_>) -> Span {
        Span { file: self.file, start: entry.start, end: entry.end }
    }

    /// A node's value with its place.
    pub fn spanned<T>(&self, node: &Node<'_>, value: T) -> Spanned<T> {
        Spanned { value, span: self.span(node) }
    }

    /// A byte range of this file.
    pub fn range(&self, start: u32, end: u32) -> Span {
        Span { file: self.file, start, end: end.max(start) }
    }

    /// The edit that gives a scalar another text and keeps its quotes; `None`
    /// where the text does not stand in the file as it is.
    pub fn replace(&self, node: &Node<'_>, text: impl Into<String>) -> Option<Fix> {
        let NodeKind::Scalar(scalar) = &node.kind else { return None };
        let start = scalar.verbatim?;
        let end = start.checked_add(u32::try_from(scalar.text.len()).ok()?)?;
        Some(Fix { span: self.range(start, end), text: text.into() })
    }

    /// Records a finding.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Records an error at a node.
    pub fn error(&mut self, code: &'static str, node: &Node<'_>, message: impl Into<String>) {
        let span = self.span(node);
        self.report(Diagnostic::error(code, span, message));
    }

    /// Records an error at a node, and what to write instead.
    pub fn error_with_help(
        &mut self,
        code: &'static str,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let span = self.span(node);
        self.report(Diagnostic::error(code, span, message).help(help));
    }

    /// Records a warning at a node.
    pub fn warning(
        &mut self,
        code: &'static str,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let span = self.span(node);
        self.report(Diagnostic::warning(code, span, message).help(help));
    }

    fn wrong_type(&mut self, node: &Node<'_>, what: &str, want: &str) {
        let message = format!("{what} must be {want}, not {}", describe(node));
        self.error(codes::WRONG_TYPE, node, message);
    }

    /// The entries of a mapping.
    pub fn entries<'n, 'a>(&mut self, node: &'n Node<'a>, what: &str) -> Option<&'n [Entry<'a>]> {
        match &node.kind {
            NodeKind::Mapping(entries) => Some(entries),
            _ => {
                self.wrong_type(node, what, "a mapping");
                None
            }
        }
    }

    /// The items of a sequence.
    pub fn items<'n, 'a>(&mut self, node: &'n Node<'a>, what: &str) -> Option<&'n [Node<'a>]> {
        match &node.kind {
            NodeKind::Sequence(items) => Some(items),
            _ => {
                self.wrong_type(node, what, "a list");
                None
            }
        }
    }

    /// The items of a list, each read; those that do not read are left out.
    pub fn list<'a, T>(
        &mut self,
        node: &Node<'a>,
        what: &str,
        mut read: impl FnMut(&mut Self, &Node<'a>) -> Option<T>,
    ) -> Vec<T> {
        let Some(items) = self.items(node, what) else { return Vec::new() };
        items.iter().filter_map(|item| read(self, item)).collect()
    }

    /// A scalar, whatever it resolves to.
    pub fn scalar<'n, 'a>(&mut self, node: &'n Node<'a>, what: &str, want: &str) -> Option<&'n Scalar<'a>> {
        match &node.kind {
            NodeKind::Scalar(scalar) => Some(scalar),
            _ => {
                self.wrong_type(node, what, want);
                None
            }
        }
    }

    /// A string. An unquoted number or boolean is an error, as in the API server.
    pub fn string<'n>(&mut self, node: &'n Node<'_>, what: &str) -> Option<&'n str> {
        let scalar = self.scalar(node, what, "a string")?;
        match scalar.resolve() {
            Resolved::Str(text) => {
                if scalar.is_yaml11_bool() {
                    let message = format!("readers of YAML 1.1 take the unquoted `{text}` for a boolean");
                    self.warning(codes::OTHER_READING, node, message, format!("write \"{text}\""));
                }
                Some(text)
            }
            _ => {
                let text = &scalar.text;
                let message = format!("{what} must be a string, not {}", describe(node));
                let help = match scalar.is_null() {
                    true => "write \"\" for an empty string".into(),
                    false => format!("write {text:?}"),
                };
                self.error_with_help(codes::NOT_A_STRING, node, message, help);
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, node: &Node<'_>, what: &str) -> Option<bool> {
        match self.scalar(node, what, "true or false")?.resolve() {
            Resolved::Bool(value) => Some(value),
            _ => {
                self.wrong_type(node, what, "true or false");
                None
            }
        }
    }

    /// An integer within `min..=max`.
    pub fn integer(
        &mut self,
        node: &Node<'_>,
        what: &str,
        code: &'static str,
        min: i64,
        max: i64,
    ) -> Option<i64> {
        let scalar = self.scalar(node, what, "a number")?;
        match scalar.resolve() {
            Resolved::Int(value) if (min..=max).contains(&value) => Some(value),
            Resolved::Int(_) | Resolved::Float(_) => {
                self.error(code, node, format!("{what} must be a whole number from {min} to {max}"));
                None
            }
            Resolved::OddNumber => {
                self.odd_number(node, what);
                None
            }
            _ => {
                self.wrong_type(node, what, "a number");
                None
            }
        }
    }

    /// A number with a fraction.
    pub fn float(&mut self, node: &Node<'_>, what: &str) -> Option<f64> {
        match self.scalar(node, what, "a number")?.resolve() {
            Resolved::Int(value) => Some(value as f64),
            Resolved::Float(value) => Some(value),
            Resolved::OddNumber => {
                self.odd_number(node, what);
                None
            }
            _ => {
                self.wrong_type(node, what, "a number");
                None
            }
        }
    }

    fn odd_number(&mut self, node: &Node<'_>, what: &str) {
        let help = "write it in decimal, without leading zeros or underscores";
        self.error_with_help(codes::BAD_NUMBER, node, format!("{what} is an oddly written number"), help);
    }

    /// One of some words.
    pub fn choice<T: Copy>(&mut self, node: &Node<'_>, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(node, what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{what} cannot be `{}`", clip(text));
        let fix = nearest(text, names.iter().copied()).and_then(|near| self.replace(node, near));
        let help = did_you_mean(text, &names).unwrap_or_else(|| format!("write {}", one_of(&names)));
        let error = Diagnostic::error(codes::UNKNOWN_VALUE, self.span(node), message).help(help);
        self.report(error.fix(fix));
        None
    }
}

/// What a node is, in words.
pub(super) fn describe(node: &Node<'_>) -> String {
    match &node.kind {
        NodeKind::Sequence(_) => "a list".into(),
        NodeKind::Mapping(_) => "a mapping".into(),
        NodeKind::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => "null".into(),
            Resolved::Bool(_) => format!("the boolean {}", scalar.text),
            Resolved::Str(_) => "a string".into(),
            _ => format!("the number {}", clip(&scalar.text)),
        },
    }
}

/// A text short enough for a message.
pub(super) fn clip(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The help for a misspelt word.
pub(super) fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    nearest(word, candidates.iter().copied()).map(|near| format!("did you mean `{near}`?"))
}

/// `a`, `b` or `c`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
