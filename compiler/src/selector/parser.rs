//! Recursive descent over `||`, `&&`, and single operations.
//!
//! Cost: linear in the text; recursion is bounded by [`MAX_DEPTH`].

use super::cursor::Cursor;
use super::error::SelectorError;
use super::expr::{Expr, Op};

/// Deepest nesting of parentheses that is read. Real selectors nest two or
/// three deep; the limit keeps the stack small on hostile input.
pub const MAX_DEPTH: u32 = 64;

/// Parses a whole selector; text without any operation is `all()`.
pub(super) fn parse(text: &str) -> Result<Expr, SelectorError> {
    let mut parser = Parser { cursor: Cursor::new(text), depth: 0 };
    parser.cursor.skip_space();
    if parser.cursor.rest().is_empty() {
        return Ok(Expr::All);
    }
    let expr = parser.disjunction()?;
    if !parser.cursor.rest().is_empty() {
        return Err(parser.expected_connective());
    }
    Ok(expr)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    depth: u32,
}

impl Parser<'_> {
    /// `conjunction || conjunction || …`
    fn disjunction(&mut self) -> Result<Expr, SelectorError> {
        let mut operands = vec![self.conjunction()?];
        while self.cursor.take("||") {
            operands.push(self.conjunction()?);
        }
        Ok(Expr::or(operands))
    }

    /// `operation && operation && …`
    fn conjunction(&mut self) -> Result<Expr, SelectorError> {
        let mut operands = vec![self.operation()?];
        while self.cursor.take("&&") {
            operands.push(self.operation()?);
        }
        Ok(Expr::and(operands))
    }

    /// Any number of `!`, then one operation, then space.
    fn operation(&mut self) -> Result<Expr, SelectorError> {
        let mut negated = false;
        self.cursor.skip_space();
        while self.cursor.take("!") {
            negated = !negated;
            self.cursor.skip_space();
        }
        let expr = self.plain_operation()?;
        self.cursor.skip_space();
        Ok(if negated { expr.negate() } else { expr })
    }

    fn plain_operation(&mut self) -> Result<Expr, SelectorError> {
        if self.cursor.take("(") {
            return self.parenthesized();
        }
        if self.cursor.take("has(") {
            return self.has();
        }
        if self.cursor.take("all(") {
            return self.close("all()").map(|()| Expr::All);
        }
        if self.cursor.take("global(") {
            return self.close("global()").map(|()| Expr::Global);
        }
        let start = self.cursor.at();
        match self.cursor.label() {
            "" => Err(self.expected_operation()),
            key => self.label_operation(key, start),
        }
    }

    fn parenthesized(&mut self) -> Result<Expr, SelectorError> {
        let start = self.cursor.at() - 1;
        if self.depth >= MAX_DEPTH {
            let message = format!("parentheses nest deeper than {MAX_DEPTH} levels");
            return Err(SelectorError::new(start, start + 1, message));
        }
        self.depth += 1;
        let expr = self.disjunction()?;
        self.depth -= 1;
        if self.cursor.take(")") {
            return Ok(expr);
        }
        if self.cursor.rest().is_empty() {
            let error = SelectorError::new(start, start + 1, "parenthesis without its closing `)`");
            return Err(error.help("add `)`"));
        }
        Err(self.expected_connective())
    }

    fn has(&mut self) -> Result<Expr, SelectorError> {
        self.cursor.skip_space();
        let key = self.cursor.label();
        if key.is_empty() {
            let message = format!("expected a label in `has()`, but {}", self.cursor.found());
            let error = self.cursor.error(message);
            return Err(if self.cursor.rest().starts_with(['\'', '"']) {
                error.help("write the label without quotes")
            } else {
                error
            });
        }
        self.close("has()")?;
        Ok(Expr::Has(key.to_owned()))
    }

    /// The closing parenthesis of `all(`, `global(` or `has(label`.
    fn close(&mut self, function: &str) -> Result<(), SelectorError> {
        self.cursor.skip_space();
        if self.cursor.take(")") {
            return Ok(());
        }
        Err(self.cursor.error(format!("expected `)` to end `{function}`, but {}", self.cursor.found())))
    }

    /// An operator and its value or set after label `key`, which starts at `start`.
    fn label_operation(&mut self, key: &str, start: usize) -> Result<Expr, SelectorError> {
        self.cursor.skip_space();
        let operator_at = self.cursor.at();
        if let Some(op) = self.comparison() {
            self.cursor.skip_space();
            let value = self.cursor.string()?.to_owned();
            return Ok(Expr::Test { key: key.to_owned(), op, value });
        }
        if self.cursor.take("in") {
            return Ok(Expr::member(key, false, self.set()?));
        }
        if self.two_words("not", "in") {
            return Ok(Expr::member(key, true, self.set()?));
        }
        Err(self.unknown_operator(key, start, operator_at))
    }

    fn comparison(&mut self) -> Option<Op> {
        if self.cursor.take("==") {
            Some(Op::Equals)
        } else if self.cursor.take("!=") {
            Some(Op::Differs)
        } else if self.cursor.take("contains") {
            Some(Op::Contains)
        } else if self.two_words("starts", "with") {
            Some(Op::StartsWith)
        } else if self.two_words("ends", "with") {
            Some(Op::EndsWith)
        } else {
            None
        }
    }

    /// Takes two words with or without space between them, or nothing.
    fn two_words(&mut self, first: &str, second: &str) -> bool {
        let before = self.cursor.clone();
        if self.cursor.take(first) {
            self.cursor.skip_space();
            if self.cursor.take(second) {
                return true;
            }
        }
        self.cursor = before;
        false
    }

    /// `{'a', 'b'}`; empty and with a trailing comma too.
    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        self.cursor.skip_space();
        if !self.cursor.take("{") {
            let message = format!("expected a set, but {}", self.cursor.found());
            return Err(self.cursor.error(message).help("write the values as {'a', 'b'}"));
        }
        let mut values = Vec::new();
        loop {
            self.cursor.skip_space();
            if self.cursor.take("}") {
                return Ok(values);
            }
            values.push(self.cursor.string()?.to_owned());
            self.cursor.skip_space();
            if !self.cursor.take(",") && !self.cursor.rest().starts_with('}') {
                let message = format!("expected `,` or `}}` in the set, but {}", self.cursor.found());
                return Err(self.cursor.error(message));
            }
        }
    }

    fn expected_operation(&self) -> SelectorError {
        let error = self.cursor.error(format!("expected a condition, but {}", self.cursor.found()));
        match self.cursor.rest().chars().next() {
            Some('\'' | '"') => error.help("labels are written without quotes"),
            _ => error.help("write for example role == 'db', has(role) or all()"),
        }
    }

    fn expected_connective(&self) -> SelectorError {
        let error = self.cursor.error(format!("expected `&&` or `||`, but {}", self.cursor.found()));
        let rest = self.cursor.rest().to_ascii_lowercase();
        match rest.as_bytes() {
            [b'&', ..] | [b'a', b'n', b'd', ..] => error.meant("&&"),
            [b'|', ..] | [b'o', b'r', ..] => error.meant("||"),
            [b')', ..] => error.help("there is no `(` for this `)`"),
            [b',', ..] => error.help("conditions are joined with `&&` or `||`"),
            _ => error,
        }
    }

    fn unknown_operator(&self, key: &str, start: usize, operator_at: usize) -> SelectorError {
        let rest = self.cursor.rest();
        let message = format!("expected an operator after label `{key}`, but {}", self.cursor.found());
        if rest.starts_with('=') {
            return self.cursor.error(message).meant("==");
        }
        if rest.starts_with('(') && operator_at > start + key.len() && is_function(key) {
            return SelectorError::new(start, operator_at + 1, "space between the function and its `(`")
                .help(format!("write `{key}(`"));
        }
        if rest.starts_with('(') {
            let error = SelectorError::new(start, operator_at, format!("unknown function `{key}`"));
            return error.help("the functions are has(label), all() and global()");
        }
        if rest.is_empty() || rest.starts_with(['&', '|', ')']) {
            let error = SelectorError::new(start, start + key.len(), message);
            return error.help(format!("to ask whether the label is present write has({key})"));
        }
        self.cursor
            .error(message)
            .help("operators are ==, !=, in, not in, contains, starts with and ends with")
    }
}

fn is_function(word: &str) -> bool {
    matches!(word, "has" | "all" | "global")
}
