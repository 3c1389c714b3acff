//! eBPF instructions. Knows nothing of policy.

/// Linked instructions: jumps resolved, map references symbolic.
#[derive(Clone, Debug, PartialEq)]
pub struct Code {}
