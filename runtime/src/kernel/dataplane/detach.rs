//! Detaching: hooks first, then what they led to. When nothing is attached any
//! more, nothing stays pinned.

use std::path::Path;
use std::time::Duration;

use super::Dataplane;
use crate::kernel::error::{LoaderError, kernel};
use crate::kernel::hook::{self, Hook};
use crate::kernel::lock::Lock;
use crate::kernel::pins::{self, Pins};
use crate::kernel::record::{self, InterfaceRecord};
use crate::kernel::step::step;
use crate::sys::interface_index;

impl Dataplane {
    /// Detaches from an interface: its packets pass unfiltered from then on.
    ///
    /// # Errors
    /// [`LoaderError::NotAttached`]; else what the kernel says.
    pub fn detach(&mut self, interface: &str) -> Result<(), LoaderError> {
        let outcome = self.detach_one(interface);
        self.remove_if_empty()?;
        outcome
    }

    /// As [`Self::detach`], but shared maps stay pinned after the last one.
    ///
    /// # Errors
    /// As for [`Self::detach`].
    pub fn detach_one(&mut self, interface: &str) -> Result<(), LoaderError> {
        let index = interface_index(interface).ok();
        let found = self.records()?.into_iter().find(|(_, record)| {
            record.netns == self.netns
                && index.map_or(record.interface == interface, |index| record.ifindex == index)
        });
        let not_attached = || LoaderError::NotAttached(interface.to_owned());
        let (place, record) = found.ok_or_else(not_attached)?;
        let gone = self.pins.staging().join("gone");
        pins::rename(&place, &gone)?;
        step("interface moved out");
        self.retire(&gone, &record)?;
        step("hooks removed");
        self.release(&record)?;
        self.collect()
    }

    /// Takes an attachment off its hooks and removes its folder. Filters stay
    /// where the interface's present attachment uses them.
    pub(super) fn retire(&self, folder: &Path, record: &InterfaceRecord) -> Result<(), LoaderError> {
        if record.hook == Hook::Clsact && record.netns == self.netns {
            let place = self.place(record.ifindex).join("record");
            let present: Option<InterfaceRecord> =
                if place.exists() { Some(record::read(&place)?) } else { None };
            if present.is_none_or(|present| present.hook != Hook::Clsact) {
                hook::remove_clsact(record.ifindex, record.made_qdisc)
                    .map_err(kernel(format!("detaching from {}", record.interface)))?;
            }
        }
        hook::detach_links(folder);
        pins::remove(folder)
    }

    /// Gives the right to change attachments back, and leaves no pin if nothing is
    /// attached: one that is dropped instead leaves the shared maps then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn close(self) -> Result<(), LoaderError> {
        self.remove_if_empty()
    }

    /// Removes everything when nothing is attached.
    fn remove_if_empty(&self) -> Result<(), LoaderError> {
        if pins::names(&self.pins.interfaces())?.is_empty() {
            step("last interface detached");
            pins::remove(self.pins.root())?;
        }
        Ok(())
    }
}

/// Detaches everything and removes every pin, whatever version made it.
///
/// # Errors
/// [`LoaderError::Busy`]; [`LoaderError::File`] for a folder that may not be looked
/// into; else what the kernel says.
pub fn detach_all(bpffs: &Path, wait: Duration) -> Result<u32, LoaderError> {
    let pins = Pins::new(bpffs);
    if !pins::is_there(pins.root())? {
        return Ok(0);
    }
    let _lock = Lock::take(pins.root(), wait)?;
    let netns = super::netns()?;
    let mut count = 0;
    for folder in [pins.interfaces(), pins.staging()] {
        for name in pins::names(&folder)? {
            // Another version's record still says which interface and hook, in the
            // fields that every version has.
            let path = folder.join(&name).join("record");
            if let Ok(record) = record::read::<Attached>(&path) {
                if record.hook == Hook::Clsact && record.netns == netns {
                    hook::remove_clsact(record.ifindex, record.made_qdisc)
                        .map_err(kernel(format!("detaching from interface {}", record.ifindex)))?;
                }
                count += 1;
            }
            hook::detach_links(&folder.join(&name));
        }
    }
    pins::remove(pins.root())?;
    Ok(count)
}

/// What every version's record of an attachment says.
#[derive(serde::Deserialize)]
struct Attached {
    ifindex: u32,
    netns: u64,
    hook: Hook,
    made_qdisc: bool,
}
