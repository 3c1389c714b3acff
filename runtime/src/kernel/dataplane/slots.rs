//! Slots of the shared program array: which are taken, by what, and changing them.

use std::collections::BTreeSet;
use std::path::Path;

use polc_compiler::abi;

use super::Dataplane;
use crate::kernel::error::{LoaderError, kernel};
use crate::kernel::image::program_pin;
use crate::kernel::record::{InterfaceRecord, Place};
use crate::sys::bpf::Program;

impl Dataplane {
    /// One store: packets take the old program before it and the new one after it.
    pub(super) fn set_slot(&self, slot: u32, program: &Program) -> Result<(), LoaderError> {
        let slots = self.shared_map(abi::PROGS_MAP)?;
        slots.set_program(slot, program).map_err(kernel(format!("setting slot {slot}")))
    }

    /// Lets a place's slot lead to its image.
    pub(super) fn fill_slot(&self, place: &Place) -> Result<(), LoaderError> {
        let path = program_pin(&self.pins.images().join(&place.image), 0);
        let program = open_program(&path)?;
        if self.slot_program(place.slot)? != Some(program_id(&program, &path)?) {
            self.set_slot(place.slot, &program)?;
        }
        Ok(())
    }

    /// Id of the program that a slot leads to.
    pub(super) fn slot_program(&self, slot: u32) -> Result<Option<u32>, LoaderError> {
        let slots = self.shared_map(abi::PROGS_MAP)?;
        let value = slots.lookup(&slot.to_le_bytes()).map_err(kernel(format!("reading slot {slot}")))?;
        Ok(value.and_then(|v| v.first_chunk().map(|v| u32::from_le_bytes(*v))))
    }

    /// Empties every policy slot that none of these attachments has.
    pub(super) fn clear_unowned(&self, records: &[InterfaceRecord]) -> Result<(), LoaderError> {
        let owned: BTreeSet<u32> = taken(records);
        let mut all = abi::SLOT_FIRST_POLICY..abi::PROGS_ENTRIES;
        all.try_for_each(|slot| if owned.contains(&slot) { Ok(()) } else { self.clear_slot(slot) })
    }

    /// Empties a slot; one that is empty is fine.
    pub(super) fn clear_slot(&self, slot: u32) -> Result<(), LoaderError> {
        let slots = self.shared_map(abi::PROGS_MAP)?;
        slots.delete(&slot.to_le_bytes()).map(drop).map_err(kernel(format!("clearing slot {slot}")))
    }
}

pub(super) fn taken(records: &[InterfaceRecord]) -> BTreeSet<u32> {
    records.iter().flat_map(|r| [r.ingress.slot, r.egress.slot]).collect()
}

/// The two lowest free slots.
pub(super) fn free_slots(records: &[InterfaceRecord]) -> Result<[u32; 2], LoaderError> {
    let taken = taken(records);
    let mut free = (abi::SLOT_FIRST_POLICY..abi::PROGS_ENTRIES).filter(|slot| !taken.contains(slot));
    match (free.next(), free.next()) {
        (Some(one), Some(two)) => Ok([one, two]),
        _ => Err(LoaderError::Limit {
            what: "attached interfaces",
            given: records.len() as u64 + 1,
            allowed: u64::from((abi::PROGS_ENTRIES - abi::SLOT_FIRST_POLICY) / 2),
        }),
    }
}

/// The lowest endpoint number that nobody has; 0 is nobody's.
pub(super) fn free_endpoint(records: &[InterfaceRecord]) -> u32 {
    let taken: BTreeSet<u32> = records.iter().map(|r| r.endpoint_id).collect();
    (1..).find(|id| !taken.contains(id)).unwrap_or(1)
}

pub(super) fn open_program(path: &Path) -> Result<Program, LoaderError> {
    Program::open(path).map_err(kernel(format!("opening {}", path.display())))
}

pub(super) fn program_id(program: &Program, path: &Path) -> Result<u32, LoaderError> {
    Ok(program.info().map_err(kernel(format!("asking for {}", path.display())))?.id)
}
