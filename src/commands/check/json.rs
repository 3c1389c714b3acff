//! `-o json`: one document, described by `docs/schema/diagnostics.schema.json`.

use std::io::{self, Write};

use polc_compiler::diag::{Diagnostic, Fix, Sources, Span};
use serde::Serialize;

use super::{Region, severity};

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Item<'a>>,
}

/// One finding; its place is null if it is about the input as a whole.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    code: &'a str,
    severity: &'static str,
    message: &'a str,
    label: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
    help: &'a [String],
    related: Vec<Related<'a>>,
    fix: Option<Edit<'a>>,
}

/// Lines and columns count from 1, columns in characters; the end is the place
/// behind the last character.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Place<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    end_line: Option<u32>,
    end_column: Option<u32>,
}

#[derive(Serialize)]
struct Related<'a> {
    message: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
}

/// What the text at the place becomes.
#[derive(Serialize)]
struct Edit<'a> {
    text: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
}

/// Writes the document.
pub(super) fn write(out: &mut impl Write, sources: &Sources, found: &[Diagnostic]) -> io::Result<()> {
    let items = found.iter().map(|diagnostic| item(sources, diagnostic)).collect();
    let document = Document { api_version: "polc/v1", kind: "Diagnostics", items };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn item<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Item<'a> {
    let related = diagnostic.related.iter();
    let edit = |fix: &'a Fix| Edit { text: &fix.text, place: place(sources, Some(fix.span)) };
    Item {
        code: diagnostic.code,
        severity: severity(diagnostic.severity),
        message: &diagnostic.message,
        label: &diagnostic.label,
        place: place(sources, diagnostic.span),
        help: &diagnostic.help,
        related: related
            .map(|(span, text)| Related { message: text, place: place(sources, Some(*span)) })
            .collect(),
        fix: diagnostic.fix.as_ref().map(edit),
    }
}

fn place(sources: &Sources, span: Option<Span>) -> Place<'_> {
    let region = span.map(|span| Region::of(sources, span));
    Place {
        file: region.as_ref().map(|r| r.file),
        line: region.as_ref().map(|r| r.start.line),
        column: region.as_ref().map(|r| r.start.column),
        end_line: region.as_ref().map(|r| r.end.line),
        end_column: region.as_ref().map(|r| r.end.column),
    }
}
