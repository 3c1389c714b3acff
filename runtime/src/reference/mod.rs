//! The reference engine: header parsing, tracking and policy in plain Rust,
//! sharing no code with the entry programs or the emitter.
//!
//! The other engines are held against it. Policy is a function of the packet's
//! [`Flow`], usually `polc_compiler::ir::evaluate` on the IR before any pass.
//! Rules of parsing and tracking: `prebuilt-bpf/README.md`.
//!
//! One difference is left: the kernel's tables are bounded and forget the least
//! recently used entry, the tables here forget nothing. Cost: the policy
//! function's, and a look-up in a B-tree.

use polc_compiler::abi;
use polc_compiler::ir::{Direction, Flow, Outcome, Verdict};

use crate::packet::parse::{Fragment, Headers, Parsed, parse};
use crate::{Attachment, Engine, EngineError, Evaluation, Packet};

mod tracking;

use tracking::Tracking;

#[cfg(test)]
mod tests;

/// One endpoint and direction; [`Attachment`] is its index.
pub struct ReferenceAttachment {
    /// Endpoint id, which both directions of an endpoint share.
    pub endpoint: u32,
    /// Direction.
    pub direction: Direction,
    /// What policy says about the first packet of a connection.
    pub policy: Box<dyn Fn(&Flow) -> Outcome>,
}

/// How the engine runs.
#[derive(Copy, Clone, Debug, Default)]
pub struct ReferenceOptions {
    /// Evaluate each packet as a connection's first. Default: no.
    pub stateless: bool,
}

/// The reference engine.
pub struct Reference {
    attachments: Vec<ReferenceAttachment>,
    tracking: Option<Tracking>,
}

impl Reference {
    /// An engine for these attachments, which has seen no packet yet.
    pub fn new(attachments: Vec<ReferenceAttachment>, options: ReferenceOptions) -> Self {
        Self { attachments, tracking: (!options.stateless).then(Tracking::default) }
    }
}

impl Engine for Reference {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        let Some(attachment) = self.attachments.get(at.0 as usize) else {
            return Err(EngineError::Fault {
                program: "reference".into(),
                reason: format!("no attachment {} of {}", at.0, self.attachments.len()),
            });
        };
        let headers = match parse(packet.data) {
            Parsed::Ip(headers) => headers,
            Parsed::NotIp => return Ok(without_policy(Verdict::Allow, abi::REASON_NOT_IP)),
            Parsed::Bad(fault) => return Ok(without_policy(Verdict::Deny, fault.reason())),
        };
        if headers.neighbour_discovery {
            return Ok(without_policy(Verdict::Allow, abi::REASON_NEIGHBOUR_DISCOVERY));
        }
        Ok(match &mut self.tracking {
            None => by_policy(attachment, &headers),
            Some(tracking) => tracked(tracking, attachment, &headers, packet.now),
        })
    }
}

/// What tracking knows about the packet, else what policy says; tracking learns it.
fn tracked(
    tracking: &mut Tracking,
    attachment: &ReferenceAttachment,
    headers: &Headers,
    now: u64,
) -> Evaluation {
    let (endpoint, direction) = (attachment.endpoint, attachment.direction);
    if let Some(verdict) = tracking.verdict(endpoint, direction, headers, now) {
        return without_policy(verdict, abi::REASON_CONNTRACK);
    }
    let evaluation = by_policy(attachment, headers);
    tracking.decided(endpoint, direction, headers, now, evaluation.verdict);
    evaluation
}

fn by_policy(attachment: &ReferenceAttachment, headers: &Headers) -> Evaluation {
    let outcome = (attachment.policy)(&headers.flow);
    Evaluation {
        verdict: outcome.verdict,
        reason: abi::REASON_POLICY,
        decision: Some(outcome.decision.as_u32()),
        logged: outcome.logged.len() as u32,
        log_decision: outcome.logged.last().map(|decision| decision.as_u32()),
    }
}

fn without_policy(verdict: Verdict, reason: u32) -> Evaluation {
    Evaluation { verdict, reason, decision: None, logged: 0, log_decision: None }
}

/// Whether a transport header stood in the packet.
fn has_transport(headers: &Headers) -> bool {
    !matches!(headers.fragment, Fragment::Later { .. })
}
