//! Diagnostics as text, in rustc's form.
//!
//! Only the lines that are pointed at are handed to the renderer, and of very
//! long lines only the part around the place: the cost follows the findings,
//! not the files.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Severity, Sources, Span};

/// Lines up to this many bytes are shown by annotate-snippets, which trims them
/// to the width of a terminal; of longer ones a part is cut out first.
const LONG_LINE: usize = 1_000;

/// What is kept on both sides of a place in a long line, in bytes.
const AROUND: usize = 120;

/// Places of one file at most this many lines apart share a snippet.
const NEAR: u32 = 8;

/// Renders diagnostics sorted by file and place, with a blank line between
/// them; `color` adds ANSI escapes. Empty for no diagnostics.
///
/// ```text
/// error[P0201]: spec has no field `podSelectr`
///  --> web.yaml:6:3
///   |
/// 6 |   podSelectr: {}
///   |   ^^^^^^^^^^
///   |
///   = help: did you mean `podSelector`?
/// ```
pub fn render(sources: &Sources, diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|d| super::sort_key(d));
    let mut out = String::new();
    for (i, diagnostic) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(sources, diagnostic)]));
        out.push('\n');
    }
    out
}

fn group<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(printable(&diagnostic.message)).id(diagnostic.code);
    let mut group = Group::with_title(title);
    if let Some(span) = diagnostic.span {
        let primary = Place { span, label: &diagnostic.label, kind: AnnotationKind::Primary };
        let others = diagnostic.related.iter().map(|(span, label)| Place {
            span: *span,
            label,
            kind: AnnotationKind::Context,
        });
        let places: Vec<Place<'a>> = std::iter::once(primary).chain(others).collect();
        group = group.elements(elements(sources, &places));
    }
    group.elements(diagnostic.help.iter().map(|help| Level::HELP.message(printable(help))))
}

/// A text on one line: control characters, which input may bring, are escaped.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect::<String>().into()
}

/// A place to show.
struct Place<'a> {
    span: Span,
    label: &'a str,
    kind: AnnotationKind,
}

fn elements<'a>(sources: &'a Sources, places: &[Place<'a>]) -> Vec<Element<'a>> {
    let line = |place: &Place<'a>| sources.position(place.span).line;
    let is_long = |place: &Place<'a>| line_range(sources, place.span).len() > LONG_LINE;
    let Some((first, rest)) = places.split_first() else { return Vec::new() };
    let shares = |place: &&Place<'a>| {
        !is_long(first)
            && !is_long(place)
            && place.span.file == first.span.file
            && line(place).abs_diff(line(first)) <= NEAR
    };
    let (near, far): (Vec<&Place<'a>>, Vec<&Place<'a>>) = rest.iter().partition(shares);
    let mut elements = Vec::new();
    if is_long(first) {
        elements.extend(long_line(sources, first));
    } else {
        elements.push(snippet(sources, std::iter::once(first).chain(near).collect()));
    }
    for place in far {
        if is_long(place) {
            elements.extend(long_line(sources, place));
        } else {
            elements.push(snippet(sources, vec![place]));
        }
    }
    elements
}

/// The byte range of the line on which a span starts, without its line break.
fn line_range(sources: &Sources, span: Span) -> Range<usize> {
    let text = &sources.file(span.file).text;
    let at = floor(text, span.start as usize);
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    start..end
}

/// A span cut to its first line.
fn clip(sources: &Sources, span: Span) -> Range<usize> {
    let line = line_range(sources, span);
    let text = &sources.file(span.file).text;
    let start = floor(text, span.start as usize).min(line.end);
    let end = floor(text, span.end as usize).clamp(start, line.end);
    start..start + text[start..end].trim_end().len()
}

/// The nearest character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

fn annotation<'a>(place: &Place<'a>, range: Range<usize>) -> Annotation<'a> {
    let annotation = place.kind.span(range);
    if place.label.is_empty() { annotation } else { annotation.label(printable(place.label)) }
}

/// The lines that some places of one file stand on.
fn snippet<'a>(sources: &'a Sources, places: Vec<&Place<'a>>) -> Element<'a> {
    let file = places[0].span.file;
    let source = sources.file(file);
    let lines = places.iter().map(|p| line_range(sources, p.span));
    let (mut start, mut end) = (usize::MAX, 0);
    for line in lines {
        (start, end) = (start.min(line.start), end.max(line.end));
    }
    let first = places.iter().map(|p| sources.position(p.span).line).min().unwrap_or(1);
    let annotations = places.iter().map(|place| {
        let range = clip(sources, place.span);
        annotation(place, range.start - start..range.end - start)
    });
    let snippet = Snippet::source(&source.text[start..end])
        .path(source.name.as_str())
        .line_start(first as usize)
        .annotations(annotations.collect::<Vec<_>>());
    snippet.into()
}

/// The part of a long line around a place. The place is given apart, since the
/// cut-out text would yield the wrong column.
fn long_line<'a>(sources: &'a Sources, place: &Place<'a>) -> [Element<'a>; 2] {
    let source = sources.file(place.span.file);
    let line = line_range(sources, place.span);
    let range = clip(sources, place.span);
    let end = floor(&source.text, range.end.min(range.start + AROUND));
    let from = floor(&source.text, range.start.saturating_sub(AROUND)).max(line.start);
    let to = floor(&source.text, end + AROUND).min(line.end).max(end);
    let (before, after) = (if from > line.start { "…" } else { "" }, if to < line.end { "…" } else { "" });
    let shown: Cow<'a, str> = format!("{before}{}{after}", &source.text[from..to]).into();
    let shift = |offset: usize| offset - from + before.len();
    let at = sources.position(place.span);
    let origin = Origin::path(source.name.as_str()).line(at.line as usize).char_column(at.column as usize);
    let snippet = Snippet::source(shown)
        .line_start(at.line as usize)
        .annotation(annotation(place, shift(range.start)..shift(end)));
    [origin.into(), snippet.into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{FileId, codes};

    fn span(file: FileId, start: u32, end: u32) -> Span {
        Span { file, start, end }
    }

    #[test]
    fn renders_place_label_related_and_help() {
        let mut sources = Sources::default();
        let file = sources.add("web.yaml", "a: 1\nb: 2\na: 3\n");
        let diagnostic =
            Diagnostic::error(codes::DUPLICATE_KEY, span(file, 10, 11), "the key `a` stands twice")
                .label("again")
                .related(span(file, 0, 1), "first here")
                .help("remove one of them");
        let text = render(&sources, &[diagnostic], false);
        let want = "\
error[P0104]: the key `a` stands twice
 --> web.yaml:3:1
  |
1 | a: 1
  | - first here
2 | b: 2
3 | a: 3
  | ^ again
  |
  = help: remove one of them
";
        assert_eq!(text, want);
        assert_eq!(render(&sources, &[], false), "");
    }

    #[test]
    fn long_lines_are_cut_and_keep_their_column() {
        let mut sources = Sources::default();
        let text = format!("{}é10.0.0.0/99{}", "x".repeat(5_000), "y".repeat(5_000));
        let file = sources.add("long.json", text);
        let diagnostic = Diagnostic::error(codes::BAD_CIDR, span(file, 5_002, 5_013), "not a CIDR");
        let text = render(&sources, &[diagnostic], false);
        assert!(text.contains("long.json:1:5002"), "{text}");
        assert!(text.contains("10.0.0.0/99") && text.contains("^^^^^^^^^^^"), "{text}");
        assert!(text.lines().all(|l| l.chars().count() < 300), "{text}");
    }

    #[test]
    fn any_span_renders() {
        let mut sources = Sources::default();
        let texts = ["", "\n", "é\r\nü", "a\n\n\nb", "\t\tx: 1\n", "日本語: 値\n"];
        for text in texts {
            let file = sources.add("f", text);
            for start in 0..=text.len() as u32 + 2 {
                for end in start..=text.len() as u32 + 2 {
                    let diagnostic = Diagnostic::warning(codes::SYNTAX, span(file, start, end), "m")
                        .related(span(file, 0, end), "r");
                    assert!(render(&sources, &[diagnostic], true).contains("m"));
                }
            }
        }
    }
}
