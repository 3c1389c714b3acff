//! Making the kernel's state what the records say. An update that was killed
//! before its commit is undone, one that was killed behind it is finished;
//! attachments of interfaces that are gone are removed.
//!
//! Cost: a few system calls for each attachment and each slot; no program is
//! loaded.

use std::collections::BTreeSet;

use polc_compiler::ir::Direction;

use super::Dataplane;
use crate::kernel::error::LoaderError;
use crate::kernel::fixed;
use crate::kernel::hook::{self, Hook, Way};
use crate::kernel::pins;
use crate::kernel::record::{self, InterfaceRecord};
use crate::kernel::step::step;
use crate::sys::interface_name;

impl Dataplane {
    /// Removes attachments of interfaces that are gone, as every start does: for a
    /// process that lives longer than they. A few system calls for each attachment.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget_gone(&mut self) -> Result<(), LoaderError> {
        if self.remove_gone()? > 0 { self.collect() } else { Ok(()) }
    }

    fn remove_gone(&self) -> Result<usize, LoaderError> {
        let mut count = 0;
        for (place, record) in self.records()? {
            if record.netns == self.netns && self.is_gone(&record, &place) {
                self.retire(&place, &record)?;
                self.release(&record)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Makes what is attached what the records say, as every start does: hooks that
    /// somebody else took away get their programs back, slots lead to their policies. An
    /// attachment whose link was detached is removed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn repair(&mut self) -> Result<(), LoaderError> {
        let staging = self.pins.staging();
        if let Some(record) = staged_record(&staging.join("gone")) {
            self.retire(&staging.join("gone"), &record)?;
            self.release(&record)?;
        }
        self.settle_replacement()?;
        if let Some(record) = staged_record(&staging.join("interface")) {
            self.retire(&staging.join("interface"), &record)?;
        }
        self.remove_gone()?;
        for (place, record) in self.records()? {
            if record.netns != self.netns {
                continue;
            }
            for direction in [Direction::Ingress, Direction::Egress] {
                self.fill_untracked_slots(&record, direction, &place)?;
                self.fill_slot(&record, direction)?;
            }
            self.ensure_hooks(&record, &place)?;
        }
        let records: Vec<InterfaceRecord> = self.records()?.into_iter().map(|(_, r)| r).collect();
        self.clear_unowned(&records)?;
        self.collect()
    }

    /// Undoes or finishes the change to another configuration.
    fn settle_replacement(&self) -> Result<(), LoaderError> {
        let aside = self.pins.staging().join("old");
        let Some(old) = staged_record(&aside) else { return Ok(()) };
        let place = self.pins.interfaces().join(format!("{}_{}", old.netns, old.ifindex));
        if place.exists() { self.finish_replacement() } else { pins::rename(&aside, &place) }
    }

    /// Whether an attachment's interface is no longer there.
    fn is_gone(&self, record: &InterfaceRecord, place: &std::path::Path) -> bool {
        match interface_name(record.ifindex) {
            None => true,
            // The link says so itself: an index may have come to another interface.
            Some(_) if record.hook == Hook::Tcx => Way::BOTH
                .into_iter()
                .any(|way| hook::attached(Hook::Tcx, record.ifindex, way, place).is_none()),
            Some(name) => {
                name != record.interface
                    && hook::attached(Hook::Clsact, record.ifindex, Way::In, place).is_none()
            }
        }
    }

    /// Removes what no attachment refers to: images, staged things, and then the fixed maps
    /// that were theirs alone.
    pub(super) fn collect(&self) -> Result<(), LoaderError> {
        let records: Vec<InterfaceRecord> = self.records()?.into_iter().map(|(_, r)| r).collect();
        let used: BTreeSet<&String> =
            records.iter().flat_map(|r| r.places().map(|place| &place.image)).collect();
        for name in pins::names(&self.pins.images())? {
            if !used.contains(&name) {
                pins::remove(&self.pins.images().join(name))?;
                step("image removed");
            }
        }
        for name in pins::names(&self.pins.staging())? {
            let path = self.pins.staging().join(name);
            if path.is_dir() { pins::remove(&path)? } else { pins::unpin(&path)? }
        }
        fixed::collect(&self.pins)
    }
}

/// The record of a staged folder, if it got that far. Links are attached and
/// filters are set only after it was written.
fn staged_record(folder: &std::path::Path) -> Option<InterfaceRecord> {
    record::read(&folder.join("record")).ok()
}
