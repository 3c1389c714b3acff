//! The selector's tree, its evaluation and its canonical text.
//!
//! A tree is kept in one form: `And` and `Or` have at least two operands, none
//! of the same kind; a `Not` never holds a `Not`; value lists are sorted and
//! free of duplicates. So equal text means equal tree, which is what makes the
//! text usable as a set's name, and depth is bounded by the parentheses written.

use std::fmt;

/// One node of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// `all()`: true.
    All,
    /// `global()`: true; what it selects comes from rewriting in policies.
    Global,
    /// `has(key)`.
    Has(String),
    /// A comparison of one label's value.
    Test {
        /// Label key.
        key: String,
        /// How its value is compared.
        op: Op,
        /// What it is compared with.
        value: String,
    },
    /// `key in {…}` or, negated, `key not in {…}`.
    Member {
        /// Label key.
        key: String,
        /// Whether it is `not in`.
        negated: bool,
        /// Sorted values without duplicates; may be empty.
        values: Vec<String>,
    },
    /// `!operand`.
    Not(Box<Expr>),
    /// All operands hold.
    And(Vec<Expr>),
    /// One of the operands holds.
    Or(Vec<Expr>),
}

/// How a label's value is compared.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `==`.
    Equals,
    /// `!=`, true for a missing label.
    Differs,
    /// `contains`.
    Contains,
    /// `starts with`.
    StartsWith,
    /// `ends with`.
    EndsWith,
}

impl Op {
    /// The operator's canonical text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equals => "==",
            Self::Differs => "!=",
            Self::Contains => "contains",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
        }
    }

    fn holds(self, found: Option<&str>, value: &str) -> bool {
        match (self, found) {
            (Self::Differs, None) => true,
            (_, None) => false,
            (Self::Equals, Some(f)) => f == value,
            (Self::Differs, Some(f)) => f != value,
            (Self::Contains, Some(f)) => f.contains(value),
            (Self::StartsWith, Some(f)) => f.starts_with(value),
            (Self::EndsWith, Some(f)) => f.ends_with(value),
        }
    }
}

impl Expr {
    /// Whether labels, given as a look-up by key, satisfy the expression.
    pub(super) fn holds<'a>(&self, labels: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::All | Self::Global => true,
            Self::Has(key) => labels(key).is_some(),
            Self::Test { key, op, value } => op.holds(labels(key), value),
            Self::Member { key, negated, values } => {
                let found = labels(key);
                found.is_some_and(|f| values.binary_search_by(|v| v.as_str().cmp(f)).is_ok()) != *negated
            }
            Self::Not(operand) => !operand.holds(labels),
            Self::And(operands) => operands.iter().all(|o| o.holds(labels)),
            Self::Or(operands) => operands.iter().any(|o| o.holds(labels)),
        }
    }

    /// `key in {values}` (or `not in`) in canonical form.
    pub(super) fn member(key: impl Into<String>, negated: bool, mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::Member { key: key.into(), negated, values }
    }

    /// The negation; a double one cancels out.
    pub(super) fn negate(self) -> Self {
        match self {
            Self::Not(operand) => *operand,
            other => Self::Not(Box::new(other)),
        }
    }

    /// The conjunction of operands, nested ones flattened; `all()` of none.
    pub(super) fn and(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for operand in operands {
            match operand {
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() > 1 { Self::And(flat) } else { flat.pop().unwrap_or(Self::All) }
    }

    /// The disjunction of operands, nested ones flattened; `!all()` of none.
    pub(super) fn or(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for operand in operands {
            match operand {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() > 1 { Self::Or(flat) } else { flat.pop().unwrap_or_else(|| Self::All.negate()) }
    }

    /// Rebuilds the tree with every leaf replaced by what `leaf` makes of it.
    pub(super) fn map_leaves(&self, leaf: &dyn Fn(&Expr) -> Expr) -> Expr {
        match self {
            Self::Not(operand) => operand.map_leaves(leaf).negate(),
            Self::And(operands) => Self::and(operands.iter().map(|o| o.map_leaves(leaf))),
            Self::Or(operands) => Self::or(operands.iter().map(|o| o.map_leaves(leaf))),
            _ => leaf(self),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(key) => write!(f, "has({key})"),
            Self::Test { key, op, value } => write!(f, "{key} {} {}", op.as_str(), Quoted(value)),
            Self::Member { key, negated, values } => {
                let op = if *negated { "not in" } else { "in" };
                write!(f, "{key} {op} {{")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { ", " } else { "" }, Quoted(value))?;
                }
                f.write_str("}")
            }
            Self::Not(operand) => write!(f, "!{}", Operand(operand, Binding::Not)),
            Self::And(operands) => join(f, operands, " && ", Binding::And),
            Self::Or(operands) => join(f, operands, " || ", Binding::Or),
        }
    }
}

/// How strongly an operator holds its operands; later binds more strongly.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
}

/// An operand with the parentheses that its place needs.
struct Operand<'a>(&'a Expr, Binding);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = match self.0 {
            Expr::Or(_) => Binding::Or,
            Expr::And(_) => Binding::And,
            _ => return self.0.fmt(f),
        };
        if own < self.1 { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

fn join(f: &mut fmt::Formatter<'_>, operands: &[Expr], with: &str, binding: Binding) -> fmt::Result {
    for (i, operand) in operands.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { with } else { "" }, Operand(operand, binding))?;
    }
    Ok(())
}

/// A value in quotes. The language has no escapes, so a value that holds the
/// usual quote takes the other one; none that parses holds both.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') { '"' } else { '\'' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
