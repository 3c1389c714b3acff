//! Diagnostics: what is wrong with the input, where, and what to write instead.
//!
//! Front ends collect diagnostics instead of stopping at the first: they return
//! `(T, Vec<Diagnostic>)`. A diagnostic carries byte spans into [`Sources`];
//! only rendering turns them into lines and columns.

pub mod codes;
mod render;

pub use render::render;

use cranelift_entity::{PrimaryMap, entity_impl};

/// One input file (or standard input) in [`Sources`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);
entity_impl!(FileId, "file");

/// One input file: the name it is reported under and its whole text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name as the user gave it; `<stdin>` for standard input.
    pub name: String,
    /// The text as read.
    pub text: String,
    /// Byte offset of the start of each line, ascending; the first is 0.
    line_starts: Vec<u32>,
}

/// Every input of one run.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: PrimaryMap<FileId, SourceFile>,
}

/// A place in a file: line and column, both from 1; columns count characters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A byte range in one file; `start <= end <= text.len()`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Sources {
    /// Adds a file and returns its id. Files keep the order they were added in.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        let text = text.into();
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i as u32 + 1))
            .collect();
        self.files.push(SourceFile { name: name.into(), text, line_starts })
    }

    /// The file behind an id.
    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id]
    }

    /// All files in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        self.files.iter()
    }

    /// Line and column of a span's first byte.
    pub fn position(&self, span: Span) -> Position {
        self.position_of(span.file, span.start)
    }

    /// Line and column of a span's end: that of the byte after its last one.
    pub fn end_position(&self, span: Span) -> Position {
        self.position_of(span.file, span.end.max(span.start))
    }

    /// The byte offset of a place; `None` if the file has no such line, the end
    /// of the line if it has no such column.
    pub fn offset(&self, file: FileId, at: Position) -> Option<u32> {
        let file = &self.files[file];
        let start = *file.line_starts.get((at.line as usize).checked_sub(1)?)?;
        let line = file.text.get(start as usize..)?.split('\n').next()?;
        let column = (at.column as usize).checked_sub(1)?;
        let within = line.char_indices().nth(column).map_or(line.len(), |(offset, _)| offset);
        Some(start + within as u32)
    }

    fn position_of(&self, file: FileId, offset: u32) -> Position {
        let file = &self.files[file];
        let line = file.line_starts.partition_point(|s| *s <= offset).max(1);
        let start = file.line_starts[line - 1] as usize;
        let end = (offset as usize).clamp(start, file.text.len());
        let column = String::from_utf8_lossy(&file.text.as_bytes()[start..end]).chars().count();
        Position { line: line as u32, column: column as u32 + 1 }
    }
}

impl SourceFile {
    /// The text of a line (from 1) without its line break, or `None` past the end.
    pub fn line(&self, line: u32) -> Option<&str> {
        let start = *self.line_starts.get((line as usize).checked_sub(1)?)? as usize;
        self.text[start..].lines().next().or(Some(""))
    }
}

/// How grave a diagnostic is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that is worth knowing and needs no action.
    Note,
    /// Legal, and probably not what was meant.
    Warning,
    /// The input is refused.
    Error,
}

/// A stable code such as `P0103`; see [`codes`].
pub type Code = &'static str;

/// One finding about the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code.
    pub code: Code,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong, one line, no full stop.
    pub message: String,
    /// Where; `None` only for findings about the run as a whole.
    pub span: Option<Span>,
    /// Text to put at `span`; may be empty.
    pub label: String,
    /// Further places that explain the finding.
    pub related: Vec<(Span, String)>,
    /// What to write instead, or background.
    pub help: Vec<String>,
    /// An edit that cures the finding, where what was meant is evident.
    pub fix: Option<Fix>,
}

/// An edit of the input: this place becomes this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What goes.
    pub span: Span,
    /// What takes its place.
    pub text: String,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, span, message)
    }

    /// A warning at `span`.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, span, message)
    }

    /// A note at `span`.
    pub fn note(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Note, span, message)
    }

    fn new(code: Code, severity: Severity, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            span: Some(span),
            label: String::new(),
            related: Vec::new(),
            help: Vec::new(),
            fix: None,
        }
    }

    /// Sets the text shown at the span.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    /// Adds a place that explains the finding.
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push((span, text.into()));
        self
    }

    /// Adds what to write instead.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Sets the edit that cures the finding, if there is one.
    pub fn fix(mut self, fix: Option<Fix>) -> Self {
        self.fix = fix;
        self
    }
}

/// Whether any of the diagnostics is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}

/// Sorts diagnostics by file and place, then by code; those about the run as a
/// whole come last. Diagnostics at one place with one code keep their order.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(sort_key);
}

fn sort_key(diagnostic: &Diagnostic) -> (bool, Option<(FileId, u32)>, Code) {
    (diagnostic.span.is_none(), diagnostic.span.map(|s| (s.file, s.start)), diagnostic.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_places_and_back() {
        let mut sources = Sources::default();
        let file = sources.add("f", "a: é\n\nü: x");
        for (start, end, from, to) in
            [(0, 1, (1, 1), (1, 2)), (3, 5, (1, 4), (1, 5)), (7, 9, (3, 1), (3, 2)), (9, 12, (3, 2), (3, 5))]
        {
            let span = Span { file, start, end };
            let place = |(line, column)| Position { line, column };
            assert_eq!(
                (sources.position(span), sources.end_position(span)),
                (place(from), place(to)),
                "{start}"
            );
            assert_eq!(sources.offset(file, place(from)), Some(start));
        }
        for (line, column, want) in
            [(0, 1, None), (1, 0, None), (9, 1, None), (1, 99, Some(5)), (2, 1, Some(6))]
        {
            assert_eq!(sources.offset(file, Position { line, column }), want, "{line}:{column}");
        }
    }
}
