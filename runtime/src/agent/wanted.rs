//! What an agent is asked for.

use polc_compiler::image::SourceLines;
use polc_compiler::live::ResolvedPolicy;

use crate::kernel::{Failsafe, Hook};

/// An endpoint's policy at an interface, as it was resolved. As in
/// [`crate::kernel::AttachRequest`], but for policies that are compiled when they have
/// to be: once, if several interfaces refer to the same one.
#[derive(Copy, Clone)]
pub struct EndpointPolicy<'a> {
    /// Interface: the host's end of a workload's link, or a host's interface.
    pub interface: &'a str,
    /// Name of the endpoint.
    pub endpoint: &'a str,
    /// Whether it is a host endpoint.
    pub host: bool,
    /// The hook; `None` keeps what is there, else takes tcx where the kernel has it.
    pub hook: Option<Hook>,
    /// Configuration flags (`CONFIG_*`).
    pub flags: u32,
    /// Whether the new policy is asked again about connections that the old one
    /// allowed.
    pub recheck: bool,
    /// Failsafe ports of the host, for a host endpoint.
    pub failsafes: &'a [Failsafe],
    /// Policy for packets towards the endpoint.
    pub ingress: &'a ResolvedPolicy,
    /// Policy for packets from the endpoint.
    pub egress: &'a ResolvedPolicy,
    /// A host endpoint's untracked policy for packets towards it.
    pub untracked_ingress: Option<UntrackedPolicy<'a>>,
    /// A host endpoint's untracked policy for packets from it.
    pub untracked_egress: Option<UntrackedPolicy<'a>>,
    /// The text of the YAML lines.
    pub lines: &'a SourceLines<'a>,
}

/// Untracked policy of one direction of a host endpoint.
#[derive(Copy, Clone)]
pub struct UntrackedPolicy<'a> {
    /// The policy.
    pub policy: &'a ResolvedPolicy,
    /// Decision with which it says that it has nothing to say.
    pub pass_decision: u32,
}

/// The places of an endpoint that have a policy: ingress, egress, then untracked.
pub(super) const PLACES: usize = 4;

impl<'a> EndpointPolicy<'a> {
    /// A workload's policies, ingress first, at whatever hook; connections that the old ones
    /// allowed go on.
    pub fn new(
        interface: &'a str,
        endpoint: &'a str,
        [ingress, egress]: [&'a ResolvedPolicy; 2],
        lines: &'a SourceLines<'a>,
    ) -> Self {
        Self {
            interface,
            endpoint,
            host: false,
            hook: None,
            flags: 0,
            recheck: false,
            failsafes: &[],
            ingress,
            egress,
            untracked_ingress: None,
            untracked_egress: None,
            lines,
        }
    }

    /// The policy of a place; untracked ones there may be none.
    pub(super) fn place(&self, place: usize) -> Option<&'a ResolvedPolicy> {
        match place {
            0 => Some(self.ingress),
            1 => Some(self.egress),
            2 => self.untracked_ingress.map(|untracked| untracked.policy),
            _ => self.untracked_egress.map(|untracked| untracked.policy),
        }
    }

    /// Whether a place's programs run at XDP.
    pub(super) fn is_xdp(place: usize) -> bool {
        place == 2
    }
}
