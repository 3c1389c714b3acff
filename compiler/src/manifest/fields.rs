//! The fields of one mapping: taken by name, then what is left is reported.

use super::reader::{Reader, did_you_mean};
use super::suggest::nearest;
use super::yaml::{Entry, Node};
use crate::diag::{Diagnostic, Fix, Span, codes};

/// The fields of one mapping.
pub(super) struct Fields<'n, 'a> {
    entries: &'n [Entry<'a>],
    /// Where a missing field is reported.
    at: Span,
    /// What the mapping is, for messages: `a rule`, `spec`.
    what: &'static str,
    /// Names that were asked for.
    known: Vec<&'static str>,
    /// Names that were asked for, are required and are not there.
    missing: Vec<&'static str>,
}

impl<'n, 'a> Fields<'n, 'a> {
    /// The fields of a mapping; reports anything else.
    pub fn new(reader: &mut Reader, node: &'n Node<'a>, what: &'static str) -> Option<Self> {
        let entries = reader.entries(node, what)?;
        let at = match entries.first() {
            Some(first) => reader.key_span(first),
            None => reader.span(node),
        };
        Some(Self { entries, at, what, known: Vec::new(), missing: Vec::new() })
    }

    /// Reports missing fields at `span` instead of the first key.
    pub fn at(mut self, span: Span) -> Self {
        self.at = span;
        self
    }

    /// A field's entry; one whose value is null is as good as missing.
    pub fn entry(&mut self, name: &'static str) -> Option<&'n Entry<'a>> {
        self.known.push(name);
        self.entries.iter().find(|e| e.key == name && !e.value.is_null())
    }

    /// Where a field's value stands, without asking for the field.
    pub fn place(&self, reader: &Reader, name: &str) -> Option<Span> {
        let entry = self.entries.iter().find(|e| e.key == name && !e.value.is_null())?;
        Some(reader.span(&entry.value))
    }

    /// A field's value; null is as good as missing.
    pub fn take(&mut self, name: &'static str) -> Option<&'n Node<'a>> {
        self.entry(name).map(|e| &e.value)
    }

    /// A field's value; [`Fields::finish`] reports it if it is missing.
    pub fn require(&mut self, name: &'static str) -> Option<&'n Node<'a>> {
        let found = self.take(name);
        if found.is_none() {
            self.missing.push(name);
        }
        found
    }

    /// Fields that are legal and mean nothing here.
    pub fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend_from_slice(names);
    }

    /// Refuses fields that the API has and polc cannot enforce yet.
    pub fn refuse(&mut self, reader: &mut Reader, names: &[&'static str]) {
        for name in names {
            if let Some(entry) = self.entry(name) {
                let message = format!("`{name}` is not supported yet");
                let help = "a policy that needs it cannot be compiled; remove the field or the rule";
                let span = reader.key_span(entry);
                reader.report(Diagnostic::error(codes::UNSUPPORTED_FIELD, span, message).help(help));
            }
        }
    }

    /// Refuses a field that exists elsewhere, with the reason.
    pub fn misplaced(&mut self, reader: &mut Reader, name: &'static str, reason: &str) {
        if let Some(entry) = self.entries.iter().find(|e| e.key == name) {
            let message = format!("{} has no field `{name}`", self.what);
            let span = reader.key_span(entry);
            reader.report(Diagnostic::error(codes::UNKNOWN_FIELD, span, message).help(reason));
            self.known.push(name);
        }
    }

    /// Reports unknown and missing fields.
    pub fn finish(mut self, reader: &mut Reader) {
        for entry in self.entries {
            if !self.known.contains(&entry.key.as_ref()) {
                self.unknown(reader, entry);
            }
        }
        self.finish_leniently(reader);
    }

    /// Reports missing fields and accepts unknown ones.
    pub fn finish_leniently(self, reader: &mut Reader) {
        for name in &self.missing {
            let message = format!("{} needs `{name}`", self.what);
            let mut error = Diagnostic::error(codes::MISSING_FIELD, self.at, message).label("here");
            let misspelt =
                self.entries.iter().map(|e| e.key.as_ref()).filter(|key| !self.known.contains(key));
            if let Some(key) = nearest(name, misspelt) {
                error = error.help(format!("is `{key}` meant to be `{name}`?"));
            }
            reader.report(error);
        }
    }

    /// Reports an unknown field. A required field that it was probably meant to
    /// be is not reported as missing as well.
    fn unknown(&mut self, reader: &mut Reader, entry: &Entry<'_>) {
        let meant = nearest(&entry.key, self.known.iter().copied());
        self.missing.retain(|name| Some(*name) != meant);
        let span = reader.key_span(entry);
        // Two fields of one name would not read either.
        let fix = meant.filter(|name| self.entries.iter().all(|e| e.key != *name));
        let fix = fix.map(|name| Fix { span, text: name.to_owned() });
        let help = did_you_mean(&entry.key, &self.known).unwrap_or_else(|| match self.known.as_slice() {
            [] => "remove it".into(),
            known => format!("fields here: {}", known.join(", ")),
        });
        let message = format!("{} has no field `{}`", self.what, super::reader::clip(&entry.key));
        reader.report(Diagnostic::error(codes::UNKNOWN_FIELD, span, message).help(help).fix(fix));
    }
}
