//! Which forms of a program were looked at, and what came of it.

use crate::dispatch::cost::Cost;

/// A form that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Its name: `direct`, `dense`, `sparse`, `cells`, `bits`, `cross`, `chain`.
    pub form: &'static str,
    /// What a packet costs, as estimated, and bytes of the form's tables (addresses and
    /// ports come on top); or why it cannot be, or is not estimated.
    pub estimate: Result<(Cost, u64), String>,
}

impl Considered {
    /// A form with its estimate.
    pub fn new(form: &'static str, estimate: Result<(Cost, u64), String>) -> Self {
        Self { form, estimate }
    }

    /// What forms are compared by; the most there is without an estimate.
    pub fn total(&self) -> u32 {
        self.estimate.as_ref().map_or(u32::MAX, |(cost, _)| cost.total())
    }
}
