//! From a request to the record of what is to be: which images, which slots.
//!
//! Untracked policy has a new slot whenever the decision changes with which it says
//! that it has nothing to say: entry programs have both as constants, so that no
//! policy ever runs under the other one's number.

use polc_compiler::ir::Direction;

use super::attach::{AttachRequest, Untracked};
use super::slots::{FreeSlots, free_endpoint};
use super::{Dataplane, now};
use crate::kernel::error::LoaderError;
use crate::kernel::hook::Hook;
use crate::kernel::image::{Policy, install};
use crate::kernel::record::{InterfaceRecord, Place, UntrackedEgress, UntrackedIngress};
use crate::kernel::support;

/// Names of a request's images.
pub(super) struct Images {
    ingress: String,
    egress: String,
    untracked_ingress: Option<String>,
    untracked_egress: Option<String>,
}

impl Dataplane {
    /// Installs all policies of a request that are not there yet.
    pub(super) fn install_all(
        &self,
        request: &AttachRequest<'_>,
        old: Option<&InterfaceRecord>,
    ) -> Result<Images, LoaderError> {
        let kept = |place: Option<&Place>| {
            let place = place.map(|place| place.image.clone());
            place.ok_or_else(|| LoaderError::NotAttached(request.interface.to_owned()))
        };
        let install = |policy: &Option<Policy<'_>>, place: Option<&Place>| match policy {
            Some(policy) => install(&self.pins, &self.shared, policy),
            None => kept(place),
        };
        let untracked = |u: &Option<Untracked<'_>>, direction: Direction| {
            let place = old.and_then(|old| old.untracked_place(direction));
            u.as_ref().map(|u| install(&u.policy, place)).transpose()
        };
        Ok(Images {
            ingress: install(&request.ingress, old.map(|old| &old.ingress))?,
            egress: install(&request.egress, old.map(|old| &old.egress))?,
            untracked_ingress: untracked(&request.untracked_ingress, Direction::Ingress)?,
            untracked_egress: untracked(&request.untracked_egress, Direction::Egress)?,
        })
    }

    /// The record of what is to be.
    pub(super) fn wanted(
        &self,
        request: &AttachRequest<'_>,
        ifindex: u32,
        records: &[InterfaceRecord],
        old: Option<&InterfaceRecord>,
        images: Images,
    ) -> Result<InterfaceRecord, LoaderError> {
        let same = old.filter(|o| o.endpoint == request.endpoint && o.host == request.host);
        let mut free = FreeSlots::new(records);
        let (endpoint_id, slots) = match same {
            Some(old) => (old.endpoint_id, [old.ingress.slot, old.egress.slot]),
            None => (free_endpoint(records), [free.take()?, free.take()?]),
        };
        let hook = match (request.hook, old.map(|o| o.hook)) {
            (None, Some(hook)) => hook,
            (None, None) => support::best_hook()?,
            (Some(Hook::Tcx), before) if before != Some(Hook::Tcx) => support::require_tcx()?,
            (Some(hook), _) => hook,
        };
        let untracked_ingress = match (&request.untracked_ingress, images.untracked_ingress) {
            (Some(wanted), Some(image)) => {
                let known = same.and_then(|old| old.untracked_ingress.as_ref());
                Some(untracked_ingress(wanted, image, known, &mut free)?)
            }
            _ => None,
        };
        let untracked_egress = match (&request.untracked_egress, images.untracked_egress) {
            (Some(wanted), Some(image)) => {
                let known = same.and_then(|old| old.untracked_egress.as_ref());
                Some(untracked_egress(wanted, image, known, &mut free)?)
            }
            _ => None,
        };
        Ok(InterfaceRecord {
            interface: request.interface.to_owned(),
            ifindex,
            netns: self.netns,
            endpoint: request.endpoint.to_owned(),
            endpoint_id,
            host: request.host,
            hook,
            made_qdisc: old.is_some_and(|o| o.hook == hook && o.made_qdisc),
            entry: self.entry.digest.clone(),
            flags: request.flags,
            ingress: Place { slot: slots[0], image: images.ingress },
            egress: Place { slot: slots[1], image: images.egress },
            untracked_ingress,
            untracked_egress,
            attached_at: same.map_or_else(now, |o| o.attached_at),
            updated_at: now(),
        })
    }
}

fn untracked_ingress(
    wanted: &Untracked<'_>,
    image: String,
    known: Option<&UntrackedIngress>,
    free: &mut FreeSlots,
) -> Result<UntrackedIngress, LoaderError> {
    let pass_decision = wanted.pass_decision;
    let slot = match known {
        Some(known) if known.pass_decision == pass_decision => known.place.slot,
        _ => free.take()?,
    };
    let counters = known.map_or(slot, |known| known.counters);
    Ok(UntrackedIngress { place: Place { slot, image }, pass_decision, counters })
}

fn untracked_egress(
    wanted: &Untracked<'_>,
    image: String,
    known: Option<&UntrackedEgress>,
    free: &mut FreeSlots,
) -> Result<UntrackedEgress, LoaderError> {
    let pass_decision = wanted.pass_decision;
    let (slot, next_slot) = match known {
        Some(known) if known.pass_decision == pass_decision => (known.place.slot, known.next_slot),
        _ => (free.take()?, free.take()?),
    };
    Ok(UntrackedEgress { place: Place { slot, image }, pass_decision, next_slot })
}
