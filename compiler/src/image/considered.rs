//! Which forms of a program were looked at, and what came of it.

use super::PolicyImage;
use crate::cost::Cost;

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
}

impl PolicyImage {
    /// What images of one policy are compared by: what a packet is estimated to cost;
    /// the most there is without an estimate.
    pub(crate) fn total(&self) -> u32 {
        let taken = self.considered.first().and_then(|taken| taken.estimate.as_ref().ok());
        taken.map_or(u32::MAX, |(cost, _)| cost.total())
    }
}
