//! Attaching: the first time, a new policy in place, or another configuration.
//!
//! Untracked policy of a host endpoint has an entry program and a link at XDP. A
//! packet that meets the old program at one hook and the new one at the other still
//! gets a verdict of one of them: whole policies hold the untracked chain as well.
//!
//! Order of a new policy: images loaded, slots stored, record replaced, old image
//! removed, and then the fixed maps that were its alone. Order of another
//! configuration (endpoint, flags, entry object, hook): everything staged, slots
//! stored, old folder moved aside, new folder moved in (the commit), hooks changed, old
//! folder removed. [`super::repair`] finishes what is behind the commit and undoes what
//! is before it.

use std::path::Path;

use ipnet::IpNet;
use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::abi::failsafe::Port;
use polc_compiler::ir::Direction;

use super::Dataplane;
use super::slots::open_program;
use crate::kernel::error::{LoaderError, kernel};
use crate::kernel::hook::{self, Hook, Way};
use crate::kernel::image::Policy;
use crate::kernel::record::InterfaceRecord;
use crate::kernel::step::step;
use crate::kernel::{netlink, pins, record};
use crate::sys::bpf::Program;
use crate::sys::{SyscallError, interface_index, interface_name};

/// What to enforce where.
#[derive(Copy, Clone)]
pub struct AttachRequest<'a> {
    /// Interface: the host's end of a workload's link, or a host's interface.
    pub interface: &'a str,
    /// Name of the endpoint.
    pub endpoint: &'a str,
    /// Whether it is a host endpoint: ingress is then what comes in through the
    /// interface; a workload's ingress is what leaves through it.
    pub host: bool,
    /// The hook; `None` keeps what is there, else takes tcx where the kernel has it.
    pub hook: Option<Hook>,
    /// Configuration flags (`CONFIG_*`).
    pub flags: u32,
    /// Whether the new policy is asked again about connections that the old one
    /// allowed. Without it they go on.
    pub recheck: bool,
    /// Failsafe ports of the host, for a host endpoint.
    pub failsafes: &'a [Failsafe],
    /// Policy for packets towards the endpoint; `None` keeps the one in force.
    pub ingress: Option<Policy<'a>>,
    /// Policy for packets from the endpoint, likewise.
    pub egress: Option<Policy<'a>>,
    /// A host endpoint's untracked policy for packets towards it, made for XDP.
    pub untracked_ingress: Option<Untracked<'a>>,
    /// A host endpoint's untracked policy for packets from it.
    pub untracked_egress: Option<Untracked<'a>>,
}

impl<'a> AttachRequest<'a> {
    /// To enforce a workload's policies, ingress first, at whatever hook; connections that
    /// the old ones allowed go on.
    pub fn new(interface: &'a str, endpoint: &'a str, [ingress, egress]: [Policy<'a>; 2]) -> Self {
        Self {
            interface,
            endpoint,
            host: false,
            hook: None,
            flags: 0,
            recheck: false,
            failsafes: &[],
            ingress: Some(ingress),
            egress: Some(egress),
            untracked_ingress: None,
            untracked_egress: None,
        }
    }
}

/// Untracked policy of one direction of a host endpoint.
#[derive(Copy, Clone)]
pub struct Untracked<'a> {
    /// The policy; `None` keeps the one in force.
    pub policy: Option<Policy<'a>>,
    /// Decision with which it says that it has nothing to say.
    pub pass_decision: u32,
}

/// A failsafe port and the far addresses that it is open for; `None` for all.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Failsafe {
    /// The port.
    pub port: Port,
    /// The addresses.
    pub net: Option<IpNet>,
}

/// What an attach did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachReport {
    /// How it is attached.
    pub hook: Hook,
    /// Whether a policy was in force before.
    pub replaced: bool,
    /// Whether the images in force are other ones than before.
    pub changed: bool,
}

impl Dataplane {
    /// Attaches, or replaces what is attached: the old policy is in force until
    /// the new one is.
    ///
    /// # Errors
    /// [`LoaderError::NoInterface`]; [`LoaderError::NotAttached`] where what is not there
    /// is to be kept; [`LoaderError::Refused`] with the verifier's log; [`LoaderError::Limit`] where no slot is free. What was in force before
    /// stays in force.
    pub fn attach(&mut self, request: &AttachRequest<'_>) -> Result<AttachReport, LoaderError> {
        let gone = || LoaderError::NoInterface(request.interface.to_owned());
        let ifindex = interface_index(request.interface).map_err(|_| gone())?;
        let outcome = self.attach_index(request, ifindex);
        if outcome.is_err() {
            // The reason is the first error; repair has its say at the next start too.
            let _ = self.repair();
            if interface_name(ifindex).is_none() {
                return Err(gone());
            }
        }
        outcome
    }

    fn attach_index(
        &mut self,
        request: &AttachRequest<'_>,
        ifindex: u32,
    ) -> Result<AttachReport, LoaderError> {
        let records: Vec<InterfaceRecord> = self.records()?.into_iter().map(|(_, r)| r).collect();
        let old = records.iter().find(|r| (r.ifindex, r.netns) == (ifindex, self.netns)).cloned();
        let images = self.install_all(request, old.as_ref())?;
        let mut new = self.wanted(request, ifindex, &records, old.as_ref(), images)?;
        let report = AttachReport {
            hook: new.hook,
            replaced: old.is_some(),
            changed: old.as_ref().is_none_or(|old| images_of(old) != images_of(&new)),
        };
        if request.host {
            self.set_failsafes(request.failsafes)?;
        }
        match old {
            Some(old) if same_entry(&old, &new) => self.replace_policy(&new)?,
            old => {
                self.reset(&new, old.as_ref())?;
                self.replace_entry(&mut new, old.as_ref())?;
                match old {
                    Some(old) if old.endpoint_id != new.endpoint_id => self.release(&old)?,
                    Some(old) => self.clear_stale(&old, &new)?,
                    None => {}
                }
            }
        }
        if request.recheck {
            self.recheck(&new)?;
        }
        self.collect()?;
        Ok(report)
    }

    /// Another policy under the same entry programs.
    fn replace_policy(&self, new: &InterfaceRecord) -> Result<(), LoaderError> {
        let staged = self.pins.staging().join("record");
        pins::unpin(&staged)?;
        record::write(new, &staged)?;
        step("record staged");
        let place = self.place(new.ifindex);
        self.store_slots(new, &place)?;
        pins::rename(&staged, &place.join("record"))?;
        step("record in place");
        Ok(())
    }

    /// Other entry programs: a first attachment, or another configuration.
    fn replace_entry(
        &self,
        new: &mut InterfaceRecord,
        old: Option<&InterfaceRecord>,
    ) -> Result<(), LoaderError> {
        let staged = self.pins.staging().join("interface");
        pins::fresh(&staged)?;
        let programs = self.load_entries(new, &staged)?;
        step("entry programs loaded");
        let takes_over = old.is_some_and(|old| old.hook == new.hook);
        if new.hook == Hook::Clsact && !takes_over {
            // Known before it is made, so that it is removed by whoever cleans up.
            new.made_qdisc = !has_clsact(new.ifindex).map_err(kernel("looking for the clsact qdisc"))?;
        }
        record::write(new, &staged.join("record"))?;
        step("interface staged");
        self.store_slots(new, &staged)?;
        if !takes_over {
            attach_hooks(new, &programs, &staged)?;
        }
        if new.untracked_ingress.is_some() && old.is_none_or(|old| old.untracked_ingress.is_none()) {
            attach_xdp(new, &staged)?;
        }
        let (place, aside) = (self.place(new.ifindex), self.pins.staging().join("old"));
        if old.is_some() {
            pins::rename(&place, &aside)?;
            step("old interface moved aside");
        }
        pins::rename(&staged, &place)?;
        step("interface in place");
        self.finish_replacement()
    }

    /// Puts the policies in force, of each direction the untracked one first.
    fn store_slots(&self, new: &InterfaceRecord, interface: &Path) -> Result<(), LoaderError> {
        for direction in [Direction::Ingress, Direction::Egress] {
            if new.untracked_place(direction).is_some() {
                self.fill_untracked_slots(new, direction, interface)?;
                step(&format!("slot of untracked {} stored", direction.as_str()));
            }
            self.fill_slot(new, direction)?;
            step(&format!("{} slot stored", direction.as_str()));
        }
        Ok(())
    }

    /// Loads and pins the entry programs; those at tc are given back.
    fn load_entries(&self, new: &InterfaceRecord, folder: &Path) -> Result<Vec<(Way, Program)>, LoaderError> {
        let mut programs = Vec::new();
        for way in Way::BOTH {
            let direction =
                if way == new.way(Direction::Egress) { Direction::Egress } else { Direction::Ingress };
            let name = match direction {
                Direction::Egress => abi::PROG_EGRESS,
                Direction::Ingress => abi::PROG_INGRESS,
            };
            let config = config(new, direction);
            programs.push((way, self.load_entry(name, &config, &hook::entry_pin(folder, way))?));
            if config.flags & abi::CONFIG_UNTRACKED != 0 {
                self.load_entry(abi::PROG_TRACKED, &config, &hook::tracked_pin(folder))?;
            }
        }
        if let Some(untracked) = &new.untracked_ingress {
            let config = Config {
                policy_slot: untracked.place.slot,
                endpoint: new.endpoint_id,
                flags: new.flags,
                counters: untracked.counters,
                pass_decision: untracked.pass_decision,
                ..Config::default()
            };
            self.load_entry(abi::PROG_XDP, &config, &hook::xdp_pin(folder))?;
        }
        Ok(programs)
    }

    fn load_entry(&self, name: &str, config: &Config, pin: &Path) -> Result<Program, LoaderError> {
        let program = self.entry.load(&[name], &self.shared, config)?.remove(0);
        program.pin(pin).map_err(kernel(format!("pinning {}", pin.display())))?;
        Ok(program)
    }

    /// Empties slots that an endpoint had before its configuration changed.
    fn clear_stale(&self, old: &InterfaceRecord, new: &InterfaceRecord) -> Result<(), LoaderError> {
        let kept = new.slots();
        let stale = old.slots().into_iter().filter(|slot| !kept.contains(slot));
        stale.into_iter().try_for_each(|(array, slot)| self.clear_slot(array, slot))
    }

    /// Behind the commit of another configuration: hands the old folder's links
    /// over, lets every hook run the new program, and removes the old folder.
    pub(super) fn finish_replacement(&self) -> Result<(), LoaderError> {
        let aside = self.pins.staging().join("old");
        if !aside.exists() {
            return Ok(());
        }
        let old: InterfaceRecord = record::read(&aside.join("record"))?;
        let place = self.pins.interfaces().join(format!("{}_{}", old.netns, old.ifindex));
        let new: InterfaceRecord = record::read(&place.join("record"))?;
        if (old.hook, new.hook) == (Hook::Tcx, Hook::Tcx) {
            for way in Way::BOTH {
                let (from, to) = (hook::link_pin(&aside, way), hook::link_pin(&place, way));
                if from.exists() {
                    pins::rename(&from, &to)?;
                }
            }
            step("links handed over");
        }
        let (from, to) = (hook::xdp_link_pin(&aside), hook::xdp_link_pin(&place));
        if new.untracked_ingress.is_some() && from.exists() {
            pins::rename(&from, &to)?;
            step("xdp link handed over");
        }
        self.ensure_hooks(&new, &place)?;
        self.retire(&aside, &old)
    }

    /// Lets every hook run the pinned entry program.
    pub(super) fn ensure_hooks(&self, record: &InterfaceRecord, place: &Path) -> Result<(), LoaderError> {
        for way in Way::BOTH {
            let path = hook::entry_pin(place, way);
            let program = open_program(&path)?;
            let wanted = super::slots::program_id(&program, &path)?;
            if hook::attached(record.hook, record.ifindex, way, place) == Some(wanted) {
                continue;
            }
            match record.hook {
                Hook::Tcx => hook::update_link(&program, &hook::link_pin(place, way))?,
                Hook::Clsact => {
                    let what = || format!("attaching to {}", record.interface);
                    netlink::add_clsact(record.ifindex).map_err(kernel(what()))?;
                    hook::set_clsact(&program, record.ifindex, way).map_err(kernel(what()))?;
                }
            }
            step(&format!("hook {} changed", way.name()));
        }
        ensure_xdp(record, place)
    }
}

/// Whether the entry programs of one record do for the other.
fn same_entry(old: &InterfaceRecord, new: &InterfaceRecord) -> bool {
    let of = |r: &InterfaceRecord| {
        let passes = (
            r.untracked_ingress.as_ref().map(|u| (u.pass_decision, u.counters)),
            r.untracked_egress.as_ref().map(|u| u.pass_decision),
        );
        (r.endpoint_id, r.host, r.hook, r.flags, r.entry.clone(), r.slots(), passes)
    };
    of(old) == of(new)
}

fn images_of(record: &InterfaceRecord) -> Vec<&str> {
    record.places().map(|place| place.image.as_str()).collect()
}

/// What the entry program of a direction is told.
fn config(new: &InterfaceRecord, direction: Direction) -> Config {
    let (own, peer) = match direction {
        Direction::Ingress => (new.ingress.slot, new.egress.slot),
        Direction::Egress => (new.egress.slot, new.ingress.slot),
    };
    let failsafes = if new.host { abi::CONFIG_FAILSAFES } else { 0 };
    // Slots and counter rows are as many, and each direction has one of both.
    let common = Config {
        policy_slot: own,
        endpoint: new.endpoint_id,
        flags: new.flags | failsafes,
        peer_slot: peer,
        counters: own,
        ..Config::default()
    };
    match (direction, &new.untracked_ingress, &new.untracked_egress) {
        (Direction::Ingress, Some(_), _) => Config { flags: common.flags | abi::CONFIG_XDP, ..common },
        (Direction::Egress, _, Some(untracked)) => Config {
            flags: common.flags | abi::CONFIG_UNTRACKED,
            untracked_slot: untracked.place.slot,
            next_slot: untracked.next_slot,
            pass_decision: untracked.pass_decision,
            ..common
        },
        _ => common,
    }
}

/// Attaches the pinned entry program at XDP for the first time.
fn attach_xdp(record: &InterfaceRecord, folder: &Path) -> Result<(), LoaderError> {
    let program = open_program(&hook::xdp_pin(folder))?;
    let what = format!("attaching untracked policy at XDP to {} (one program fits there)", record.interface);
    hook::attach_xdp(&program, record.ifindex, &hook::xdp_link_pin(folder)).map_err(kernel(what))?;
    step("hook xdp attached");
    Ok(())
}

/// Lets XDP run the pinned entry program, where there is untracked policy.
fn ensure_xdp(record: &InterfaceRecord, place: &Path) -> Result<(), LoaderError> {
    if record.untracked_ingress.is_none() {
        return Ok(());
    }
    let (path, link) = (hook::xdp_pin(place), hook::xdp_link_pin(place));
    let program = open_program(&path)?;
    let wanted = super::slots::program_id(&program, &path)?;
    match hook::linked(record.ifindex, &link) {
        Some(found) if found == wanted => return Ok(()),
        Some(_) => hook::update_link(&program, &link)?,
        None => {
            // Somebody took it off.
            pins::unpin(&link)?;
            return attach_xdp(record, place);
        }
    }
    step("hook xdp changed");
    Ok(())
}

fn has_clsact(ifindex: u32) -> Result<bool, SyscallError> {
    if netlink::add_clsact(ifindex)? {
        netlink::remove_clsact(ifindex)?;
        return Ok(false);
    }
    Ok(true)
}

/// Attaches to both hooks for the first time. Links are pinned in `folder`.
fn attach_hooks(
    new: &InterfaceRecord,
    programs: &[(Way, Program)],
    folder: &Path,
) -> Result<(), LoaderError> {
    let what = || format!("attaching to {}", new.interface);
    if new.hook == Hook::Clsact {
        netlink::add_clsact(new.ifindex).map_err(kernel(what()))?;
        step("qdisc added");
    }
    for (way, program) in programs {
        match new.hook {
            Hook::Tcx => hook::attach_tcx(program, new.ifindex, *way, &hook::link_pin(folder, *way)),
            Hook::Clsact => hook::set_clsact(program, new.ifindex, *way),
        }
        .map_err(kernel(what()))?;
        step(&format!("hook {} attached", way.name()));
    }
    Ok(())
}
