//! Codes of what resolving finds.

use crate::diag::Code;

/// A policy's tier is not declared.
pub const UNKNOWN_TIER: Code = "P0301";
/// A policy that acts on host endpoints only.
pub const HOSTS_ONLY: Code = "P0302";
/// A Kubernetes rule with a port that cannot be.
pub const IMPOSSIBLE_PORT: Code = "P0303";
/// Two objects of the same kind, namespace and name.
pub const DUPLICATE: Code = "P0304";
/// Rules of a direction that the policy's types leave out.
pub const RULES_WITHOUT_EFFECT: Code = "P0305";
