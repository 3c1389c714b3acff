//! What a replay says about one packet at one place.

use polc_compiler::abi;
use polc_compiler::ir::Verdict;

use crate::{Attachment, Evaluation};

/// One packet at one attachment, or one that belongs to none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where; `None` for a packet of no endpoint.
    pub at: Option<Attachment>,
    /// Whether the packet passes.
    pub verdict: Verdict,
    /// What decided.
    pub decided_by: DecidedBy,
    /// Log rules that matched on the way.
    pub logged: u32,
    /// Index into the image's decisions of the last of them.
    pub log_decision: Option<u32>,
}

/// What decided about a packet. The numbers are [`abi::REASONS`], except the
/// decision's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// Policy: an index into the decisions of the attachment's image.
    Policy(u32),
    /// A tracked connection, or the verdict on a datagram's first fragment.
    Conntrack,
    /// What passes whatever policy says: failsafe ports, neighbour discovery.
    Failsafe(u32),
    /// Headers that are cut, contradict themselves or are not followed.
    Malformed(u32),
    /// Nobody: the packet is not IP or belongs to no endpoint. Nothing of polc's
    /// would have seen it, so it passes.
    NotAnEndpoint(u32),
    /// A program or table was missing where none may be, and the packet was
    /// dropped for it. A bug or a broken installation, never policy.
    Fault(u32),
}

impl Record {
    /// What an engine found at an attachment.
    pub fn of(at: Attachment, evaluation: &Evaluation) -> Self {
        Self {
            at: Some(at),
            verdict: evaluation.verdict,
            decided_by: DecidedBy::of(evaluation),
            logged: evaluation.logged,
            log_decision: evaluation.log_decision,
        }
    }

    /// A packet that is nobody's.
    pub fn not_an_endpoint(reason: u32) -> Self {
        Self::nowhere(Verdict::Allow, DecidedBy::NotAnEndpoint(reason))
    }

    /// A packet that may be anybody's: its addresses cannot be read, so every
    /// endpoint would drop it.
    pub fn unreadable(reason: u32) -> Self {
        Self::nowhere(Verdict::Deny, DecidedBy::Malformed(reason))
    }

    fn nowhere(verdict: Verdict, decided_by: DecidedBy) -> Self {
        Self { at: None, verdict, decided_by, logged: 0, log_decision: None }
    }
}

impl DecidedBy {
    fn of(evaluation: &Evaluation) -> Self {
        match (evaluation.reason, evaluation.decision) {
            (abi::REASON_POLICY, Some(decision)) => Self::Policy(decision),
            (reason, _) => Self::reason_alone(reason),
        }
    }

    /// What one of [`abi::REASONS`] means where it comes without a policy decision.
    pub(super) fn reason_alone(reason: u32) -> Self {
        match reason {
            abi::REASON_CONNTRACK => Self::Conntrack,
            abi::REASON_FAILSAFE | abi::REASON_NEIGHBOUR_DISCOVERY => Self::Failsafe(reason),
            abi::REASON_MALFORMED | abi::REASON_TOO_SHORT | abi::REASON_UNSUPPORTED => {
                Self::Malformed(reason)
            }
            abi::REASON_NOT_IP => Self::NotAnEndpoint(reason),
            _ => Self::Fault(reason),
        }
    }

    /// The name of the type in output. Policy's decisions have finer types:
    /// [`polc_compiler::ir::DecisionKind`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy(_) => "policy",
            Self::Conntrack => "conntrack",
            Self::Failsafe(_) => "failsafe",
            Self::Malformed(_) => "malformed",
            Self::NotAnEndpoint(_) => "not-an-endpoint",
            Self::Fault(_) => "fault",
        }
    }

    /// The name of the reason in output; `None` where the type says it all.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Policy(_) | Self::Conntrack | Self::NotAnEndpoint(abi::REASON_NONE) => None,
            Self::Failsafe(n) | Self::Malformed(n) | Self::NotAnEndpoint(n) | Self::Fault(n) => {
                Some(abi::REASONS.iter().find(|(value, _)| *value == n).map_or("unknown", |(_, name)| name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        let of = |reason, decision| {
            DecidedBy::of(&Evaluation {
                verdict: Verdict::Deny,
                reason,
                decision,
                logged: 0,
                log_decision: None,
            })
        };
        let cases = [
            (abi::REASON_POLICY, Some(4), DecidedBy::Policy(4), None),
            (abi::REASON_POLICY, None, DecidedBy::Fault(abi::REASON_POLICY), Some("policy")),
            (abi::REASON_CONNTRACK, None, DecidedBy::Conntrack, None),
            (abi::REASON_FAILSAFE, None, DecidedBy::Failsafe(abi::REASON_FAILSAFE), Some("failsafe")),
            (abi::REASON_TOO_SHORT, None, DecidedBy::Malformed(abi::REASON_TOO_SHORT), Some("too-short")),
            (abi::REASON_NOT_IP, None, DecidedBy::NotAnEndpoint(abi::REASON_NOT_IP), Some("not-ip")),
            (abi::REASON_NO_PROGRAM, None, DecidedBy::Fault(abi::REASON_NO_PROGRAM), Some("no-program")),
            (abi::REASON_NONE, None, DecidedBy::Fault(abi::REASON_NONE), Some("none")),
            (1000, None, DecidedBy::Fault(1000), Some("unknown")),
        ];
        for (reason, decision, want, name) in cases {
            assert_eq!(of(reason, decision), want);
            assert_eq!(want.reason(), name, "{want:?}");
        }
    }
}
