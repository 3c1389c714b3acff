//! Codes of what resolving finds: 06, the cluster as a whole.

use crate::diag::Code;

/// A policy's tier is not declared.
pub const UNKNOWN_TIER: Code = "P0601";
/// A policy that acts on host endpoints only.
pub const HOSTS_ONLY: Code = "P0602";
/// Rules of a direction that the policy's types leave out.
pub const RULES_WITHOUT_EFFECT: Code = "P0603";
/// A port name that no pod of the input declares.
pub const UNKNOWN_PORT_NAME: Code = "P0604";
