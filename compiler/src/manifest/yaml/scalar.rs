//! What a scalar means: the YAML 1.2 core schema, as the API server reads it.
//!
//! No base-60 numbers and no dates: `10:30` and `2024-01-01` are strings.
//! Numbers in forms that readers disagree about (`010`, `1_000`, `0x50`) are
//! told apart so that they can be refused instead of guessed.

use super::Scalar;

/// A scalar's value.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(in crate::manifest) enum Resolved<'t> {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A decimal integer.
    Int(i64),
    /// A decimal fraction, or an integer beyond 64 bits.
    Float(f64),
    /// A number in a form that is read differently by different readers.
    OddNumber,
    /// Anything else.
    Str(&'t str),
}

impl Scalar<'_> {
    /// The value that the text stands for.
    pub fn resolve(&self) -> Resolved<'_> {
        if self.quoted { Resolved::Str(&self.text) } else { resolve_plain(&self.text) }
    }

    /// Whether it is `null`, `~` or nothing.
    pub fn is_null(&self) -> bool {
        !self.quoted && is_null(&self.text)
    }

    /// Whether it is an unquoted word that YAML 1.1 readers take for a boolean.
    pub fn is_yaml11_bool(&self) -> bool {
        const WORDS: [&str; 4] = ["yes", "no", "on", "off"];
        !self.quoted && self.text.len() <= 3 && WORDS.iter().any(|w| self.text.eq_ignore_ascii_case(w))
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn resolve_plain(text: &str) -> Resolved<'_> {
    if is_null(text) {
        return Resolved::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        _ => {}
    }
    match text.as_bytes() {
        [b'0'..=b'9' | b'+' | b'-' | b'.', ..] => resolve_number(text),
        _ => Resolved::Str(text),
    }
}

fn resolve_number(text: &str) -> Resolved<'_> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Resolved::OddNumber;
    }
    if digits.starts_with(|c: char| c.is_ascii_digit()) && is_odd(digits) {
        return Resolved::OddNumber;
    }
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !plain || !digits.contains(|c: char| c.is_ascii_digit()) || digits.starts_with(['e', 'E']) {
        return Resolved::Str(text);
    }
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(int), _) => Resolved::Int(int),
        (_, Ok(float)) if float.is_finite() => Resolved::Float(float),
        (_, Ok(_)) => Resolved::OddNumber,
        _ => Resolved::Str(text),
    }
}

/// Whether unsigned text that starts with a digit is a number with a leading
/// zero, a base prefix or underscores.
fn is_odd(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    let based =
        |allowed: fn(u8) -> bool| bytes.len() > 2 && bytes[2..].iter().all(|b| allowed(*b) || *b == b'_');
    match bytes {
        [b'0', b'x' | b'X', ..] => based(|b| b.is_ascii_hexdigit()),
        [b'0', b'o' | b'O' | b'b' | b'B', ..] => based(|b| b.is_ascii_digit()),
        _ => {
            let number = bytes.iter().all(|b| b.is_ascii_digit() || *b == b'_');
            number && (bytes.contains(&b'_') || bytes.len() > 1 && bytes[0] == b'0')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars() {
        use Resolved::*;
        for (text, want) in [
            ("", Null),
            ("~", Null),
            ("null", Null),
            ("true", Bool(true)),
            ("False", Bool(false)),
            ("80", Int(80)),
            ("-1", Int(-1)),
            ("0", Int(0)),
            ("1.5", Float(1.5)),
            ("1e3", Float(1000.0)),
            ("010", OddNumber),
            ("0x50", OddNumber),
            ("0o17", OddNumber),
            ("1_000", OddNumber),
            (".inf", OddNumber),
            ("-.inf", OddNumber),
            ("1e999", OddNumber),
            ("99999999999999999999", Float(1e20)),
            ("10:30", Str("10:30")),
            ("190:20:30", Str("190:20:30")),
            ("2024-01-01", Str("2024-01-01")),
            ("10.0.0.0/8", Str("10.0.0.0/8")),
            ("1.2.3", Str("1.2.3")),
            ("-", Str("-")),
            (".", Str(".")),
            ("+e1", Str("+e1")),
            ("0x", Str("0x")),
            ("0b1g", Str("0b1g")),
            ("yes", Str("yes")),
            ("http", Str("http")),
        ] {
            assert_eq!(resolve_plain(text), want, "{text:?}");
        }
    }

    #[test]
    fn quoted_scalars_are_strings() {
        let scalar = Scalar { text: "80".into(), quoted: true, verbatim: None };
        assert_eq!(scalar.resolve(), Resolved::Str("80"));
        assert!(!Scalar { text: "".into(), quoted: true, verbatim: None }.is_null());
    }

    #[test]
    fn yaml_1_1_booleans() {
        for (text, want) in [("yes", true), ("Off", true), ("y", false), ("nope", false), ("true", false)] {
            assert_eq!(
                Scalar { text: text.into(), quoted: false, verbatim: None }.is_yaml11_bool(),
                want,
                "{text}"
            );
        }
    }
}
