//! Slots of the shared program arrays: which are taken, by what, and changing them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use polc_compiler::abi;
use polc_compiler::ir::Direction;

use super::Dataplane;
use crate::kernel::error::{LoaderError, kernel};
use crate::kernel::hook;
use crate::kernel::image::program_pin;
use crate::kernel::record::{InterfaceRecord, Place};
use crate::sys::bpf::Program;

impl Dataplane {
    /// One store: packets take the old program before it and the new one after it.
    pub(super) fn set_slot(
        &self,
        array: &'static str,
        slot: u32,
        program: &Program,
    ) -> Result<(), LoaderError> {
        let what = format!("setting slot {slot} of `{array}`");
        self.shared_map(array)?.set_program(slot, program).map_err(kernel(what))
    }

    /// Lets the slot of a direction lead to its policy.
    pub(super) fn fill_slot(
        &self,
        record: &InterfaceRecord,
        direction: Direction,
    ) -> Result<(), LoaderError> {
        let place = record.place(direction);
        self.lead_slot(abi::PROGS_MAP, place.slot, &self.first_program(place))
    }

    /// The same for untracked policy, if there is any. `interface` is the folder of
    /// the attachment's entry programs.
    pub(super) fn fill_untracked_slots(
        &self,
        record: &InterfaceRecord,
        direction: Direction,
        interface: &Path,
    ) -> Result<(), LoaderError> {
        let Some(place) = record.untracked_place(direction) else { return Ok(()) };
        let first = self.first_program(place);
        if let (Direction::Egress, Some(untracked)) = (direction, &record.untracked_egress) {
            self.lead_slot(abi::PROGS_MAP, untracked.next_slot, &hook::tracked_pin(interface))?;
            return self.lead_slot(abi::PROGS_MAP, place.slot, &first);
        }
        self.lead_slot(abi::XDP_PROGS_MAP, place.slot, &first)
    }

    fn first_program(&self, place: &Place) -> PathBuf {
        program_pin(&self.pins.images().join(&place.image), 0)
    }

    /// Lets a slot lead to a pinned program.
    fn lead_slot(&self, array: &'static str, slot: u32, path: &Path) -> Result<(), LoaderError> {
        let program = open_program(path)?;
        if self.slot_program(array, slot)? != Some(program_id(&program, path)?) {
            self.set_slot(array, slot, &program)?;
        }
        Ok(())
    }

    /// Id of the program that a slot leads to.
    fn slot_program(&self, array: &'static str, slot: u32) -> Result<Option<u32>, LoaderError> {
        let what = format!("reading slot {slot} of `{array}`");
        let value = self.shared_map(array)?.lookup(&slot.to_le_bytes()).map_err(kernel(what))?;
        Ok(value.and_then(|v| v.first_chunk().map(|v| u32::from_le_bytes(*v))))
    }

    /// Empties every policy slot that none of these attachments has.
    pub(super) fn clear_unowned(&self, records: &[InterfaceRecord]) -> Result<(), LoaderError> {
        let owned: BTreeSet<_> = records.iter().flat_map(InterfaceRecord::slots).collect();
        for array in [abi::PROGS_MAP, abi::XDP_PROGS_MAP] {
            let mut all = abi::SLOT_FIRST_POLICY..abi::PROGS_ENTRIES;
            all.try_for_each(|slot| {
                if owned.contains(&(array, slot)) { Ok(()) } else { self.clear_slot(array, slot) }
            })?;
        }
        Ok(())
    }

    /// Empties a slot; one that is empty is fine.
    pub(super) fn clear_slot(&self, array: &'static str, slot: u32) -> Result<(), LoaderError> {
        let what = format!("clearing slot {slot} of `{array}`");
        self.shared_map(array)?.delete(&slot.to_le_bytes()).map(drop).map_err(kernel(what))
    }
}

/// Numbers that no attachment has: neither as slot of an array nor as row of the
/// counters. One numbering for all, so that a new slot may be a new row.
pub(super) struct FreeSlots {
    taken: BTreeSet<u32>,
    attachments: usize,
}

impl FreeSlots {
    pub fn new(records: &[InterfaceRecord]) -> Self {
        let slots = records.iter().flat_map(InterfaceRecord::slots).map(|(_, slot)| slot);
        let taken = slots.chain(records.iter().flat_map(InterfaceRecord::rows)).collect();
        Self { taken, attachments: records.len() }
    }

    /// The lowest one, which is taken then.
    pub fn take(&mut self) -> Result<u32, LoaderError> {
        let free = (abi::SLOT_FIRST_POLICY..abi::PROGS_ENTRIES).find(|slot| !self.taken.contains(slot));
        let slot = free.ok_or(LoaderError::Limit {
            what: "attached interfaces",
            given: self.attachments as u64 + 1,
            allowed: self.attachments as u64,
        })?;
        self.taken.insert(slot);
        Ok(slot)
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
