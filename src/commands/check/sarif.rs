//! `-o sarif`: a log in the Static Analysis Results Interchange Format 2.1.0
//! (OASIS), as code scanning services take it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use polc_compiler::diag::{Diagnostic, Fix, Sources, Span, codes};
use serde_json::{Map, Value, json};

use super::{Region, severity};

/// Where the pages about codes are published.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/diagnostics");

/// Writes the log.
pub(super) fn write(out: &mut impl Write, sources: &Sources, found: &[Diagnostic]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &log(sources, found))?;
    writeln!(out)
}

fn log(sources: &Sources, found: &[Diagnostic]) -> Value {
    let used: BTreeSet<&str> = found.iter().map(|d| d.code).collect();
    let used: Vec<&str> = used.into_iter().collect();
    let results: Vec<Value> = found.iter().map(|d| result(sources, &used, d)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "polc",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": used.iter().map(|code| rule(code)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: &str) -> Value {
    json!({
        "id": code,
        "shortDescription": {"text": codes::title(code).unwrap_or(code)},
        "helpUri": format!("{PAGES}/{code}.md"),
    })
}

fn result(sources: &Sources, rules: &[&str], diagnostic: &Diagnostic) -> Value {
    let mut result = Map::new();
    result.insert("ruleId".into(), diagnostic.code.into());
    result.insert("ruleIndex".into(), rules.binary_search(&diagnostic.code).unwrap_or_default().into());
    result.insert("level".into(), severity(diagnostic.severity).into());
    result.insert("message".into(), json!({"text": text(diagnostic)}));
    if let Some(span) = diagnostic.span {
        result.insert("locations".into(), json!([{"physicalLocation": physical(sources, span)}]));
    }
    if !diagnostic.related.is_empty() {
        let related = diagnostic.related.iter().zip(0_u32..).map(|((span, text), id)| {
            json!({"id": id, "message": {"text": text}, "physicalLocation": physical(sources, *span)})
        });
        result.insert("relatedLocations".into(), related.collect());
    }
    if let Some(change) = &diagnostic.fix {
        result.insert("fixes".into(), json!([fix(sources, diagnostic, change)]));
    }
    result.into()
}

/// The message, and on further lines what to write instead.
fn text(diagnostic: &Diagnostic) -> String {
    let lines: Vec<&str> =
        std::iter::once(&diagnostic.message).chain(&diagnostic.help).map(String::as_str).collect();
    lines.join("\n")
}

fn physical(sources: &Sources, span: Span) -> Value {
    let region = Region::of(sources, span);
    json!({"artifactLocation": {"uri": uri(region.file)}, "region": numbers(&region)})
}

fn numbers(region: &Region<'_>) -> Value {
    json!({
        "startLine": region.start.line,
        "startColumn": region.start.column,
        "endLine": region.end.line,
        "endColumn": region.end.column,
    })
}

fn fix(sources: &Sources, diagnostic: &Diagnostic, fix: &Fix) -> Value {
    let region = Region::of(sources, fix.span);
    let description = diagnostic.help.first().unwrap_or(&diagnostic.message);
    json!({
        "description": {"text": description},
        "artifactChanges": [{
            "artifactLocation": {"uri": uri(region.file)},
            "replacements": [{
                "deletedRegion": numbers(&region),
                "insertedContent": {"text": fix.text},
            }],
        }],
    })
}

/// A file's name as a URI reference (RFC 3986): everything else than unreserved
/// characters and slashes is escaped.
fn uri(name: &str) -> String {
    let scheme = if name.starts_with('/') { "file://" } else { "" };
    let mut uri = String::from(scheme);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into())
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_become_uris() {
        for (name, want) in [
            ("policy.yaml", "policy.yaml"),
            ("a b/ü.yaml", "a%20b/%C3%BC.yaml"),
            ("<stdin>", "%3Cstdin%3E"),
            ("/etc/polc/p.yaml", "file:///etc/polc/p.yaml"),
            ("a:b%.yaml", "a%3Ab%25.yaml"),
        ] {
            assert_eq!(uri(name), want);
        }
    }
}
