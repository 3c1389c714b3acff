//! Calico's label selector language.
//!
//! ```text
//! text ─parse─▶ Expr (canonical tree) ─Display─▶ canonical text ─parse─▶ the same Expr
//!                        └─evaluate(labels)─▶ bool
//! ```
//!
//! Semantics follow projectcalico/calico `libcalico-go/lib/selector`: a missing
//! label makes `!=` and `not in` true and everything else false; words are
//! operators only right after a label, so labels may be called `in` or `has`.

mod cursor;
mod error;
mod expr;
mod kubernetes;
pub mod labels;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

pub use error::SelectorError;
pub use expr::{Expr, Op};
pub use parser::MAX_DEPTH;

use crate::manifest::Labels;

/// A parsed selector in canonical form: two selectors are equal exactly if they
/// print the same text, and what a selector prints parses to it again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Expr);

impl Selector {
    /// Parses a selector; an empty one is `all()`.
    ///
    /// # Errors
    /// The first place that does not fit the grammar, with what to write
    /// instead where that can be guessed.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text).map(Self)
    }

    /// `all()`.
    pub fn all() -> Self {
        Self(Expr::All)
    }

    /// `has(key)`.
    pub fn has(key: impl Into<String>) -> Self {
        Self(Expr::Has(key.into()))
    }

    /// `key == 'value'`.
    pub fn equals(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self(Expr::Test { key: key.into(), op: Op::Equals, value: value.into() })
    }

    /// `key in {values}`.
    pub fn is_in(key: impl Into<String>, values: impl IntoIterator<Item = String>) -> Self {
        Self(Expr::member(key, false, values.into_iter().collect()))
    }

    /// The negation.
    #[must_use]
    pub fn negate(self) -> Self {
        Self(self.0.negate())
    }

    /// The conjunction without its redundant parts: `all()` and repetitions go;
    /// `all()` if nothing is left.
    pub fn all_of(operands: impl IntoIterator<Item = Self>) -> Self {
        let flat = match Expr::and(operands.into_iter().map(|s| s.0)) {
            Expr::And(operands) => operands,
            single => vec![single],
        };
        let mut seen = HashSet::new();
        Self(Expr::and(flat.into_iter().filter(|e| *e != Expr::All && seen.insert(e.clone()))))
    }

    /// The tree.
    pub fn expr(&self) -> &Expr {
        &self.0
    }

    /// Whether the labels satisfy the selector.
    pub fn evaluate(&self, labels: &Labels) -> bool {
        self.evaluate_with(&|key| labels.get(key).map(String::as_str))
    }

    /// Whether labels that are looked up by key satisfy the selector.
    pub fn evaluate_with<'a>(&self, labels: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.0.holds(labels)
    }

    /// The selector with `prefix` before every label key.
    #[must_use]
    pub fn prefix_keys(&self, prefix: &str) -> Self {
        Self(self.0.map_leaves(&|leaf| match leaf {
            Expr::Has(key) => Expr::Has(format!("{prefix}{key}")),
            Expr::Test { key, op, value } => {
                Expr::Test { key: format!("{prefix}{key}"), op: *op, value: value.clone() }
            }
            Expr::Member { key, negated, values } => {
                Expr::Member { key: format!("{prefix}{key}"), negated: *negated, values: values.clone() }
            }
            other => other.clone(),
        }))
    }

    /// The selector with each `all()` replaced.
    #[must_use]
    pub fn replace_all(&self, with: &Selector) -> Self {
        self.replace(&Expr::All, with)
    }

    /// The selector with each `global()` replaced.
    #[must_use]
    pub fn replace_global(&self, with: &Selector) -> Self {
        self.replace(&Expr::Global, with)
    }

    fn replace(&self, what: &Expr, with: &Selector) -> Self {
        Self(self.0.map_leaves(&|leaf| if leaf == what { with.0.clone() } else { leaf.clone() }))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
