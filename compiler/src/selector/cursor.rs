//! Reads a selector's text piece by piece.
//!
//! What a word means depends on its place: `in` is a label where an operation
//! starts and an operator after a label. So there is no separate token list;
//! the parser asks the cursor for what its place allows.

use super::error::SelectorError;

/// A position in a selector's text.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Byte offset of the next piece.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips spaces and tabs, the only white space there is.
    pub(super) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    /// Takes `token` if it comes next.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes a label key; empty if none comes next.
    pub(super) fn label(&mut self) -> &'a str {
        let rest = self.rest();
        let label = &rest[..rest.find(|c| !is_label_char(c)).unwrap_or(rest.len())];
        self.at += label.len();
        label
    }

    /// Takes a string in single or double quotes; there are no escapes.
    pub(super) fn string(&mut self) -> Result<&'a str, SelectorError> {
        let start = self.at;
        let Some(quote @ ('\'' | '"')) = self.rest().chars().next() else {
            return Err(self.expected_string());
        };
        let body = &self.rest()[1..];
        let Some(len) = body.find(quote) else {
            return Err(SelectorError::new(start, self.text.len(), "string without a closing quote")
                .help(format!("end it with {quote}")));
        };
        self.at += len + 2;
        Ok(&body[..len])
    }

    /// An error that covers the next piece: a word, or one character.
    pub(super) fn error(&self, message: impl Into<String>) -> SelectorError {
        SelectorError::new(self.at, self.at + self.next_piece().len(), message)
    }

    /// What comes next, as a person would name it.
    pub(super) fn found(&self) -> String {
        match self.next_piece() {
            "" => "the selector ends".into(),
            piece => format!("found `{piece}`"),
        }
    }

    fn next_piece(&self) -> &'a str {
        let rest = self.rest();
        let word = rest.find(|c| !is_label_char(c)).unwrap_or(rest.len());
        let len = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        &rest[..len]
    }

    fn expected_string(&self) -> SelectorError {
        let error = self.error(format!("expected a value in quotes, but {}", self.found()));
        let piece = self.next_piece();
        match piece.chars().next() {
            Some(c) if is_label_char(c) => error.help(format!("write '{piece}'")),
            _ => error,
        }
    }
}

/// Characters of a label key in the selector language.
fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}
