//! Calico's label selector language.

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {}
