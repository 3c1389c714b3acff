//! A place in the textual form, and the tokens that can be read there.

use std::collections::BTreeMap;
use std::str::FromStr;

use ipnet::IpNet;

use super::protocol;

/// The text is not in the form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was expected, or what is wrong.
    pub message: String,
}

type Result<T> = std::result::Result<T, ParseError>;

/// Reads from left to right. White space and comments count as nothing between
/// tokens; the position is always at a token or at the end.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut cursor = Self { text, at: 0 };
        cursor.skip();
        cursor
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.skip();
    }

    /// An error at this place.
    pub fn fail<T>(&self, message: &str) -> Result<T> {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.matches('\n').count() as u32 + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) as u32 + 1;
        Err(ParseError { line, column, message: message.to_string() })
    }

    /// Characters from here on that satisfy the predicate.
    fn run(&self, is: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is(c)).unwrap_or(rest.len())]
    }

    pub fn peek(&self, symbol: &str) -> bool {
        self.rest().starts_with(symbol)
    }

    /// Takes a punctuation mark if it stands here.
    pub fn eat(&mut self, symbol: &str) -> bool {
        let found = self.peek(symbol);
        if found {
            self.advance(symbol.len());
        }
        found
    }

    fn peek_word(&self) -> &'a str {
        self.run(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// Whether a word and then a punctuation mark stand here.
    pub fn word_before(&self, symbol: &str) -> bool {
        let word = self.peek_word();
        self.rest()[word.len()..].trim_start().starts_with(symbol)
    }

    /// Takes a whole word if it stands here.
    pub fn word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.advance(word.len());
        }
        found
    }

    /// Takes whatever word stands here; empty if none does.
    pub fn take_word(&mut self) -> &'a str {
        let word = self.peek_word();
        self.advance(word.len());
        word
    }

    /// Takes a word or a punctuation mark that must stand here.
    pub fn expect(&mut self, token: &str) -> Result<()> {
        let is_word = token.starts_with(|c: char| c.is_ascii_alphabetic());
        if if is_word { self.word(token) } else { self.eat(token) } {
            return Ok(());
        }
        self.fail(&format!("expected `{token}`"))
    }

    /// Takes one of several words; hyphens belong to the word.
    pub fn one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Result<T> {
        let have = self.run(|c| c.is_ascii_alphanumeric() || c == '-');
        if let Some((word, value)) = words.iter().find(|(word, _)| *word == have) {
            self.advance(word.len());
            return Ok(*value);
        }
        let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        self.fail(&format!("expected {}", words.join(" or ")))
    }

    /// Takes a decimal number that fits the type.
    pub fn number<T: FromStr>(&mut self) -> Result<T> {
        let digits = self.run(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(number) => {
                self.advance(digits.len());
                Ok(number)
            }
            Err(_) if digits.is_empty() => self.fail("expected a number"),
            Err(_) => self.fail(&format!("{digits} is too large here")),
        }
    }

    pub fn protocol(&mut self) -> Result<u8> {
        let word = self.peek_word();
        match protocol::by_name(word) {
            Some(number) => {
                self.advance(word.len());
                Ok(number)
            }
            None if word.starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            None => self.fail("expected a protocol name or number"),
        }
    }

    /// Takes `kind` with its index, as in `rule7`, if it stands here.
    pub fn entity(&mut self, kind: &str) -> Result<Option<u32>> {
        let word = self.peek_word();
        let Some(digits) = word.strip_prefix(kind) else { return Ok(None) };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        match digits.parse() {
            Ok(u32::MAX) | Err(_) => self.fail(&format!("{word}: the index is too large")),
            Ok(index) => {
                self.advance(word.len());
                Ok(Some(index))
            }
        }
    }

    pub fn required_entity(&mut self, kind: &str) -> Result<u32> {
        match self.entity(kind)? {
            Some(index) => Ok(index),
            None => self.fail(&format!("expected a {kind}, as in `{kind}0`")),
        }
    }

    pub fn net(&mut self) -> Result<IpNet> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/'));
        match word.parse() {
            Ok(net) => {
                self.advance(word.len());
                Ok(net)
            }
            Err(_) => self.fail("expected a prefix, as in `10.0.0.0/8` or `fd00::/64`"),
        }
    }

    /// Takes a text in double quotes.
    pub fn string(&mut self) -> Result<String> {
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        if !rest.starts_with('"') {
            return self.fail("expected a text in double quotes");
        }
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.advance(at + 1);
                    return Ok(text);
                }
                '\\' => match escaped(&mut chars) {
                    Some(c) => text.push(c),
                    None => {
                        self.at += at;
                        return self.fail(r#"expected `\"`, `\\` or `\u{…}`"#);
                    }
                },
                c => text.push(c),
            }
        }
        self.fail("the text has no closing quote")
    }

    /// Fills a criterion that may stand once.
    pub fn once<T>(&self, place: &mut Option<T>, value: T) -> Result<()> {
        match place.replace(value) {
            None => Ok(()),
            Some(_) => self.fail("this criterion stands twice"),
        }
    }

    /// Adds an item that may be defined once.
    pub fn define<T>(&self, kind: &str, items: &mut BTreeMap<u32, T>, id: u32, item: T) -> Result<()> {
        match items.insert(id, item) {
            None => Ok(()),
            Some(_) => self.fail(&format!("{kind}{id} is defined twice")),
        }
    }
}

/// What follows a backslash.
fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    match chars.next()?.1 {
        c @ ('"' | '\\') => Some(c),
        'u' => {
            let open = chars.next()?.1;
            let hex: String = chars.map(|(_, c)| c).take_while(|c| *c != '}').take(7).collect();
            let code = u32::from_str_radix(&hex, 16).ok()?;
            (open == '{').then(|| char::from_u32(code))?
        }
        _ => None,
    }
}
