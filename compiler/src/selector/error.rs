//! What is wrong with a selector, and where in its text.

/// A selector that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SelectorError {
    /// First byte of the offending text, counted from the selector's start.
    pub start: usize,
    /// One past its last byte; equals `start` at the end of the selector.
    pub end: usize,
    /// What is wrong, one line, no full stop.
    pub message: String,
    /// What to write instead, where that can be guessed.
    pub help: Option<String>,
    /// The text to write from `start` to `end`, where it is evident.
    pub replacement: Option<&'static str>,
}

impl SelectorError {
    /// An error at `start..end` without help.
    pub(super) fn new(start: usize, end: usize, message: impl Into<String>) -> Self {
        Self { start, end, message: message.into(), help: None, replacement: None }
    }

    /// Says what was probably meant in place of the offending text.
    pub(super) fn meant(mut self, text: &'static str) -> Self {
        self.replacement = Some(text);
        self.help(format!("did you mean `{text}`?"))
    }

    /// Adds what to write instead.
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}
