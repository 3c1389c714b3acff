//! Attaching: the first time, a new policy in place, or another configuration.
//!
//! Order of a new policy: images loaded, slots stored, record replaced, old image
//! removed. Order of another configuration (endpoint, flags, entry object, hook):
//! everything staged, slots stored, old folder moved aside, new folder moved in
//! (the commit), hooks changed, old folder removed. [`super::repair`] finishes what
//! is behind the commit and undoes what is before it.

use std::path::Path;

use ipnet::IpNet;
use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::abi::failsafe::Port;
use polc_compiler::ir::Direction;

use super::slots::{free_endpoint, free_slots, open_program};
use super::{Dataplane, now};
use crate::kernel::error::{LoaderError, kernel};
use crate::kernel::hook::{self, Hook, Way};
use crate::kernel::image::{Policy, install};
use crate::kernel::record::{InterfaceRecord, Place};
use crate::kernel::step::step;
use crate::kernel::{netlink, pins, record, support};
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
    /// Policy for packets towards the endpoint.
    pub ingress: Policy<'a>,
    /// Policy for packets from the endpoint.
    pub egress: Policy<'a>,
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
    /// [`LoaderError::NoInterface`]; [`LoaderError::Refused`] with the verifier's
    /// log; [`LoaderError::Limit`] where no slot is free. What was in force before
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
        let images = [&request.ingress, &request.egress].map(|p| install(&self.pins, &self.shared, p));
        let [ingress, egress] = images;
        let (ingress, egress) = (ingress?, egress?);
        let mut new = self.wanted(request, ifindex, &records, old.as_ref(), [ingress, egress])?;
        let report = AttachReport {
            hook: new.hook,
            replaced: old.is_some(),
            changed: old.as_ref().is_none_or(|o| {
                (&o.ingress.image, &o.egress.image) != (&new.ingress.image, &new.egress.image)
            }),
        };
        if request.host {
            self.set_failsafes(request.failsafes)?;
        }
        match old {
            Some(old) if same_entry(&old, &new) => self.replace_policy(&new)?,
            old => {
                if old.as_ref().is_none_or(|old| old.endpoint_id != new.endpoint_id) {
                    self.reset(&new)?;
                }
                self.replace_entry(&mut new, old.as_ref())?;
                if let Some(old) = old.filter(|old| old.endpoint_id != new.endpoint_id) {
                    self.release(&old)?;
                }
            }
        }
        if request.recheck {
            self.recheck(&new)?;
        }
        self.collect()?;
        Ok(report)
    }

    /// The record of what is to be.
    fn wanted(
        &self,
        request: &AttachRequest<'_>,
        ifindex: u32,
        records: &[InterfaceRecord],
        old: Option<&InterfaceRecord>,
        images: [String; 2],
    ) -> Result<InterfaceRecord, LoaderError> {
        let same = old.filter(|o| o.endpoint == request.endpoint && o.host == request.host);
        let (endpoint_id, slots) = match same {
            Some(old) => (old.endpoint_id, [old.ingress.slot, old.egress.slot]),
            None => (free_endpoint(records), free_slots(records)?),
        };
        let hook = match request.hook.or(old.map(|o| o.hook)) {
            Some(hook) => hook,
            None => support::best_hook()?,
        };
        let [ingress, egress] = images;
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
            ingress: Place { slot: slots[0], image: ingress },
            egress: Place { slot: slots[1], image: egress },
            attached_at: same.map_or_else(now, |o| o.attached_at),
            updated_at: now(),
        })
    }

    /// Another policy under the same entry programs.
    fn replace_policy(&self, new: &InterfaceRecord) -> Result<(), LoaderError> {
        let staged = self.pins.staging().join("record");
        pins::unpin(&staged)?;
        record::write(new, &staged)?;
        step("record staged");
        self.fill_slot(&new.ingress)?;
        step("ingress slot stored");
        self.fill_slot(&new.egress)?;
        step("egress slot stored");
        pins::rename(&staged, &self.place(new.ifindex).join("record"))?;
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
        self.fill_slot(&new.ingress)?;
        step("ingress slot stored");
        self.fill_slot(&new.egress)?;
        step("egress slot stored");
        if !takes_over {
            attach_hooks(new, &programs, &staged)?;
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

    /// Loads and pins the entry programs.
    fn load_entries(&self, new: &InterfaceRecord, folder: &Path) -> Result<Vec<(Way, Program)>, LoaderError> {
        let mut programs = Vec::new();
        for way in Way::BOTH {
            let (name, slot, peer) = if way == new.way(Direction::Egress) {
                (abi::PROG_EGRESS, new.egress.slot, new.ingress.slot)
            } else {
                (abi::PROG_INGRESS, new.ingress.slot, new.egress.slot)
            };
            // Slots and counter rows are as many, and each way has one of both.
            let failsafes = if new.host { abi::CONFIG_FAILSAFES } else { 0 };
            let config = Config {
                policy_slot: slot,
                endpoint: new.endpoint_id,
                flags: new.flags | failsafes,
                peer_slot: peer,
                counters: slot,
                ..Config::default()
            };
            let program = self.entry.load(&[name], &self.shared, &config)?.remove(0);
            let path = hook::entry_pin(folder, way);
            program.pin(&path).map_err(kernel(format!("pinning {}", path.display())))?;
            programs.push((way, program));
        }
        Ok(programs)
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
                Hook::Tcx => hook::update_tcx(&program, &hook::link_pin(place, way))?,
                Hook::Clsact => {
                    let what = || format!("attaching to {}", record.interface);
                    netlink::add_clsact(record.ifindex).map_err(kernel(what()))?;
                    hook::set_clsact(&program, record.ifindex, way).map_err(kernel(what()))?;
                }
            }
            step(&format!("hook {} changed", way.name()));
        }
        Ok(())
    }
}

/// Whether the entry programs of one record do for the other.
fn same_entry(old: &InterfaceRecord, new: &InterfaceRecord) -> bool {
    let of = |r: &InterfaceRecord| {
        (r.endpoint_id, r.host, r.hook, r.flags, r.entry.clone(), r.ingress.slot, r.egress.slot)
    };
    of(old) == of(new)
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
