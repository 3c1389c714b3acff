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

use std::collections::BTreeMap;

use ipnet::IpNet;
use polc_compiler::abi;
use polc_compiler::abi::failsafe::Port;
use polc_compiler::ir::{Direction, Flow, Outcome, Verdict};

use crate::packet::parse::{Echo, Fragment, Headers, Parsed, parse};
use crate::{Attachment, Engine, EngineError, Evaluation, Packet};

mod failsafes;
mod tracking;

use failsafes::Failsafes;
use tracking::{Known, Tracking};

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
    /// Let policy decide anew about connections that it allowed before it was
    /// replaced ([`Reference::replace_policy`]). Default: they are kept.
    pub recheck: bool,
}

/// The reference engine.
pub struct Reference {
    attachments: Vec<ReferenceAttachment>,
    /// How often each attachment's policy was replaced.
    generations: Vec<u32>,
    options: ReferenceOptions,
    tracking: Tracking,
    failsafes: Failsafes,
    untracked: BTreeMap<u32, Untracked>,
}

/// What untracked policy says about a packet; `None`: nothing.
pub type Untracked = Box<dyn Fn(&Flow) -> Option<Outcome>>;

impl Reference {
    /// An engine for these attachments, which has seen no packet yet.
    pub fn new(attachments: Vec<ReferenceAttachment>, options: ReferenceOptions) -> Self {
        let generations = vec![0; attachments.len()];
        let (tracking, failsafes) = (Tracking::default(), Failsafes::default());
        Self { attachments, generations, options, tracking, failsafes, untracked: BTreeMap::new() }
    }

    /// Replaces the policy of an attachment from the next packet on; does nothing
    /// where there is no such attachment.
    pub fn replace_policy(&mut self, at: Attachment, policy: Box<dyn Fn(&Flow) -> Outcome>) {
        if let Some(attachment) = self.attachments.get_mut(at.0 as usize) {
            attachment.policy = policy;
            self.generations[at.0 as usize] += 1;
        }
    }

    /// Opens failsafe ports at an endpoint, each for these far addresses (`None`:
    /// all), whatever policy says.
    pub fn open_failsafes(&mut self, endpoint: u32, ports: &[(Port, Vec<Option<IpNet>>)]) {
        self.failsafes.open(endpoint, ports);
    }

    /// Gives an attachment an untracked policy, which is asked before tracking.
    pub fn set_untracked(&mut self, at: Attachment, policy: Untracked) {
        self.untracked.insert(at.0, policy);
    }

    /// What untracked policy says about a packet that is none of failsafe ports.
    fn untracked(&self, at: Attachment, flow: &Flow) -> Option<Evaluation> {
        let policy = self.untracked.get(&at.0)?;
        let ReferenceAttachment { endpoint, direction, .. } = self.attachments[at.0 as usize];
        if self.failsafes.concern(endpoint, direction, flow) {
            return None;
        }
        policy(flow).map(|outcome| from_policy(&outcome))
    }

    /// The attachment of an endpoint's direction.
    fn find(&self, endpoint: u32, direction: Direction) -> Option<usize> {
        self.attachments.iter().position(|a| a.endpoint == endpoint && a.direction == direction)
    }

    /// What tracking knows about the packet, else what failsafe ports and policy
    /// say; tracking learns it.
    fn tracked(&mut self, at: usize, headers: &Headers, now: u64) -> Evaluation {
        let ReferenceAttachment { endpoint, direction, .. } = self.attachments[at];
        let attachments = &self.attachments;
        let generations = &self.generations;
        let generation = |of: Direction| {
            let found = attachments.iter().position(|a| a.endpoint == endpoint && a.direction == of);
            found.map_or(0, |found| generations[found])
        };
        let recheck: tracking::Recheck<'_> = if self.options.recheck { Some(&generation) } else { None };
        match self.tracking.look(endpoint, direction, headers, now, recheck) {
            Known::Verdict(verdict) => without_policy(verdict, abi::REASON_CONNTRACK),
            Known::Nothing => {
                let evaluation = self.decide(at, &headers.flow);
                let decided = (evaluation.verdict, self.generations[at]);
                self.tracking.decided(endpoint, direction, headers, now, decided);
                evaluation
            }
            Known::Stale(opener) => {
                let flow = if opener == direction { headers.flow } else { answered(headers) };
                let Some(judge) = self.find(endpoint, opener) else {
                    return without_policy(Verdict::Deny, abi::REASON_NO_PROGRAM);
                };
                let evaluation = self.decide(judge, &flow);
                let decided = (evaluation.verdict, self.generations[judge]);
                self.tracking.renewed(endpoint, direction, headers, now, decided);
                evaluation
            }
        }
    }

    /// What failsafe ports, then policy say about a connection's first packet.
    fn decide(&self, at: usize, flow: &Flow) -> Evaluation {
        let attachment = &self.attachments[at];
        if self.failsafes.admit(attachment.endpoint, attachment.direction, flow) {
            return without_policy(Verdict::Allow, abi::REASON_FAILSAFE);
        }
        by_policy(attachment, flow)
    }
}

impl Engine for Reference {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        let index = at.0 as usize;
        if index >= self.attachments.len() {
            return Err(EngineError::Fault {
                program: "reference".into(),
                reason: format!("no attachment {} of {}", at.0, self.attachments.len()),
            });
        }
        let headers = match parse(packet.data) {
            Parsed::Ip(headers) => headers,
            Parsed::NotIp => return Ok(without_policy(Verdict::Allow, abi::REASON_NOT_IP)),
            Parsed::Bad(fault) => return Ok(without_policy(Verdict::Deny, fault.reason())),
        };
        if headers.neighbour_discovery {
            return Ok(without_policy(Verdict::Allow, abi::REASON_NEIGHBOUR_DISCOVERY));
        }
        if let Some(evaluation) = self.untracked(at, &headers.flow) {
            return Ok(evaluation);
        }
        Ok(match self.options.stateless {
            true => self.decide(index, &headers.flow),
            false => self.tracked(index, &headers, packet.now),
        })
    }
}

/// The packet that this one answers, as policy sees it.
fn answered(headers: &Headers) -> Flow {
    let Flow { src, dst, protocol, ports, icmp } = headers.flow;
    let icmp = match (headers.echo, icmp) {
        (Some(Echo { request, .. }), Some((_, code))) => {
            let (ask, answer) = if src.is_ipv4() { (8, 0) } else { (128, 129) };
            Some((if request { answer } else { ask }, code))
        }
        (_, icmp) => icmp,
    };
    Flow { src: dst, dst: src, protocol, ports: ports.map(|(sport, dport)| (dport, sport)), icmp }
}

fn by_policy(attachment: &ReferenceAttachment, flow: &Flow) -> Evaluation {
    from_policy(&(attachment.policy)(flow))
}

fn from_policy(outcome: &Outcome) -> Evaluation {
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
