//! A file's documents, one after the other; the items of a list one by one.

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, StrInput, Tag};

use super::builder::{Builder, Placed, too_deep};
use super::tree::{Node, Scalar};
use super::{MAX_BYTES, MAX_DEPTH};
use crate::diag::{Diagnostic, FileId, Span, codes};

/// What a file consists of.
pub(in crate::manifest) enum Piece<'a> {
    /// An element of a top-level `items`. It is left out of its document, which
    /// follows after its last item.
    Item(Node<'a>),
    /// A document.
    Document(Node<'a>),
    /// A finding; after an error the rest of its document is skipped.
    Finding(Box<Diagnostic>),
}

/// Reads the pieces of one file.
pub(in crate::manifest) struct Stream<'a> {
    text: &'a str,
    file: FileId,
    parser: Parser<'a, StrInput<'a>>,
    builder: Builder<'a>,
    done: bool,
}

impl<'a> Stream<'a> {
    /// Starts at the beginning of a text.
    pub fn new(file: FileId, text: &'a str) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.flow_nesting_limit = MAX_DEPTH;
        options.block_nesting_limit = MAX_DEPTH;
        let parser = Parser::new_from_str_with_options(text, options);
        Self { text, file, parser, builder: Builder::new(file), done: false }
    }

    /// Refuses a file that byte offsets of 32 bits or a run's memory cannot hold.
    pub fn check_size(file: FileId, text: &str) -> Result<(), Box<Diagnostic>> {
        if text.len() <= MAX_BYTES {
            return Ok(());
        }
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", text.len());
        Err(Diagnostic::error(codes::TOO_BIG, Span { file, start: 0, end: 0 }, message)
            .help("split it into several files")
            .into())
    }

    fn skip_document(&mut self) {
        self.builder = Builder::new(self.file);
        self.done = !matches!(self.parser.proceed_next_document(), Ok(true));
    }

    fn step(&mut self, event: Event<'a>, start: u32, end: u32) -> Result<Option<Piece<'a>>, Box<Diagnostic>> {
        let placed = match event {
            Event::DocumentStart(..) => {
                self.builder = Builder::new(self.file);
                return Ok(None);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", start)?;
                self.builder.open_sequence(start, anchor)?;
                return Ok(None);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", start)?;
                self.builder.open_mapping(start, anchor)?;
                return Ok(None);
            }
            Event::SequenceEnd | Event::MappingEnd => self.builder.close((end > start).then_some(end))?,
            Event::Alias(anchor) => self.builder.alias((start, end), anchor)?,
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = self.is_string(style, tag.as_deref(), start)?;
                let verbatim = self.verbatim(&text, style, start, end);
                self.builder.scalar((start, end), anchor, Scalar { text, quoted, verbatim })?
            }
            _ => return Ok(None),
        };
        Ok(match placed {
            Placed::Inside => None,
            Placed::Item(node) => Some(Piece::Item(node)),
            Placed::Root(node) => Some(Piece::Document(node)),
        })
    }

    fn check_tag(&self, tag: Option<&Tag>, want: &str, start: u32) -> Result<(), Box<Diagnostic>> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema_tag(want) => Err(self.bad_tag(tag, start)),
            _ => Ok(()),
        }
    }

    fn bad_tag(&self, tag: &Tag, start: u32) -> Box<Diagnostic> {
        let at = Span { file: self.file, start, end: start };
        Diagnostic::error(
            codes::UNSUPPORTED_YAML,
            at,
            format!("the tag `{}` has no meaning here", tag.original()),
        )
        .help("remove the tag")
        .into()
    }

    /// Whether a scalar is a string whatever it looks like.
    fn is_string(&self, style: ScalarStyle, tag: Option<&Tag>, start: u32) -> Result<bool, Box<Diagnostic>> {
        let Some(tag) = tag else { return Ok(style != ScalarStyle::Plain) };
        if tag.is_yaml_core_schema_tag("str") {
            return Ok(true);
        }
        if ["int", "float", "bool", "null"].iter().any(|t| tag.is_yaml_core_schema_tag(t)) {
            return Ok(false);
        }
        Err(self.bad_tag(tag, start))
    }

    /// Where a scalar's text stands in the file byte by byte, if it does.
    fn verbatim(&self, text: &str, style: ScalarStyle, start: u32, end: u32) -> Option<u32> {
        let quote = match style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Literal | ScalarStyle::Folded => return None,
        };
        let from = start.checked_add(quote)?;
        let to = end.checked_sub(quote)?;
        (self.text.get(from as usize..to as usize)? == text).then_some(from)
    }

    fn parse_error(&self, error: &granit_parser::ScanError) -> Box<Diagnostic> {
        let offset = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let end = self.text[offset..].chars().next().map_or(offset, |c| offset + c.len_utf8());
        let at = Span { file: self.file, start: offset as u32, end: end as u32 };
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => too_deep(at),
            kind => {
                let diagnostic = Diagnostic::error(codes::SYNTAX, at, format!("not YAML: {kind}"));
                match syntax_help(kind) {
                    Some(help) => diagnostic.help(help).into(),
                    None => diagnostic.into(),
                }
            }
        }
    }
}

impl<'a> Iterator for Stream<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            if let Some(finding) = self.builder.findings.pop() {
                return Some(Piece::Finding(Box::new(finding)));
            }
            if self.done {
                return None;
            }
            match self.parser.next_event() {
                None => self.done = true,
                Some(Err(error)) => {
                    let finding = self.parse_error(&error);
                    self.skip_document();
                    return Some(Piece::Finding(finding));
                }
                Some(Ok((event, span))) => {
                    let start = span.start.byte_offset().unwrap_or(0) as u32;
                    let end = span.end.byte_offset().unwrap_or(0) as u32;
                    match self.step(event, start, end) {
                        Ok(None) => {}
                        Ok(Some(piece)) => return Some(piece),
                        Err(finding) => {
                            self.skip_document();
                            return Some(Piece::Finding(finding));
                        }
                    }
                }
            }
        }
    }
}

/// What to do about the mistakes that people make most.
fn syntax_help(kind: &ErrorKind) -> Option<&'static str> {
    use ErrorKind::*;
    Some(match kind {
        TabNotAllowed | TabInBlockIndentation | TabInIndentation | TabInPlainScalar => {
            "indent with spaces, not tabs"
        }
        UnclosedQuotedScalar => "close the quote",
        InvalidQuotedScalarIndent | DocumentIndicatorInQuotedScalar => {
            "close the quote that was opened above"
        }
        UnclosedFlowCollection { .. } => "close the bracket",
        UnknownAnchor => "define the anchor with `&name` before its alias",
        MappingValueNotAllowed => "quote a value that contains `: `; line keys of one mapping up",
        InvalidIndentation | ExpectedBlockMappingKey => "line the key up with the keys beside it",
        _ => return None,
    })
}
