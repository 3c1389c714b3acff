//! What is attached, as the kernel has it; for anyone who may read pins. Nothing is
//! locked and nothing changed: what goes away while it is read is left out.

use std::path::{Path, PathBuf};

use polc_compiler::abi;
use polc_compiler::ir::Direction;

use super::dataplane::netns;
use super::error::{LoaderError, file, kernel};
use super::fixed;
use super::hook::{self, Way};
use super::image::{map_pin, program_pin};
use super::live::MARK;
use super::pins::{self, Pins};
use super::record::{self, AbiRecord, ImageRecord, InterfaceRecord, Place};
use crate::sys::bpf::{Map, Program};
use crate::sys::{interface_index, interface_name};

/// Reads what is pinned under one bpffs.
#[derive(Clone, Debug)]
pub struct View {
    pins: Pins,
    netns: u64,
}

/// An attachment and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What was asked for.
    pub record: InterfaceRecord,
    /// The interface's present name; `None` if it is gone or in another network namespace.
    pub name: Option<String>,
    /// Both directions, ingress first; behind them those of untracked policy that there are.
    pub directions: Vec<DirectionStatus>,
}

/// One direction of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectionStatus {
    /// The endpoint's direction.
    pub direction: Direction,
    /// Whether it is untracked policy: ingress is at XDP then.
    pub untracked: bool,
    /// Id of the entry program at the hook; `None` if nothing is attached there.
    pub entry: Option<u32>,
    /// Slot of the program array.
    pub slot: u32,
    /// Whether the slot leads to the image of the record.
    pub in_force: bool,
    /// Digest of the image.
    pub image: String,
    /// Ids of the policy's programs.
    pub programs: Vec<u32>,
    /// Instructions as emitted.
    pub instructions: u32,
    /// Instructions after the verifier, of all programs.
    pub verified_instructions: u32,
    /// Bytes of machine code.
    pub machine_code: u32,
    /// Bytes that the kernel holds for the policy's maps.
    pub map_memory: u64,
    /// Those of them that it holds for another policy's program, too: they are counted at
    /// each.
    pub shared_map_memory: u64,
}

impl View {
    /// Looks under a bpffs.
    ///
    /// # Errors
    /// [`LoaderError::File`] where there is no such folder, or one that may not be
    /// looked into; [`LoaderError::Version`] for pins of another version; what the
    /// kernel says.
    pub fn new(bpffs: &Path) -> Result<Self, LoaderError> {
        let pins = Pins::new(bpffs);
        std::fs::metadata(bpffs).map_err(file(bpffs))?;
        if pins::is_there(&pins.abi())? {
            let version = |found: String| LoaderError::Version {
                folder: pins.root().to_owned(),
                found,
                needed: abi::ABI_VERSION,
            };
            match record::read::<AbiRecord>(&pins.abi()) {
                Ok(known) if known.abi == abi::ABI_VERSION => {}
                Ok(known) => return Err(version(known.abi.to_string())),
                Err(LoaderError::Unknown { .. }) => return Err(version("unknown".into())),
                Err(e) => return Err(e),
            }
        }
        Ok(Self { pins, netns: netns()? })
    }

    /// All attachments.
    ///
    /// # Errors
    /// What the kernel says, [`LoaderError::Unknown`] for records of another version.
    pub fn attachments(&self) -> Result<Vec<Attachment>, LoaderError> {
        let mut found = Vec::new();
        for (folder, record) in self.records()? {
            let here = record.netns == self.netns;
            let name = if here { interface_name(record.ifindex) } else { None };
            let all = [false, true].into_iter().flat_map(|untracked| {
                [Direction::Ingress, Direction::Egress].map(|direction| (direction, untracked))
            });
            let mut directions = Vec::new();
            for (direction, untracked) in all {
                let place =
                    if untracked { record.untracked_place(direction) } else { Some(record.place(direction)) };
                if let Some(place) = place {
                    directions.push(self.direction(&folder, &record, direction, untracked, place)?);
                }
            }
            found.push(Attachment { record, name, directions });
        }
        Ok(found)
    }

    /// The attachment of an interface of this network namespace.
    ///
    /// # Errors
    /// [`LoaderError::NotAttached`]; what the kernel says.
    pub fn record(&self, interface: &str) -> Result<InterfaceRecord, LoaderError> {
        let index = interface_index(interface).ok();
        let found = self.records()?.into_iter().map(|(_, record)| record).find(|record| {
            record.netns == self.netns
                && index.map_or(record.interface == interface, |index| record.ifindex == index)
        });
        found.ok_or_else(|| LoaderError::NotAttached(interface.to_owned()))
    }

    /// What an image is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn image(&self, place: &Place) -> Result<ImageRecord, LoaderError> {
        record::read(&self.folder(place).join("record"))
    }

    /// Whether an image's tables were changed since it was installed.
    pub fn is_changed(&self, place: &Place) -> bool {
        self.is_changed_image(&place.image)
    }

    /// Likewise, by the image's name.
    pub fn is_changed_image(&self, image: &str) -> bool {
        self.pins.images().join(image).join(MARK).exists()
    }

    /// The listing of an image: instructions beside the policy's lines.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listing(&self, place: &Place) -> Result<String, LoaderError> {
        record::read(&self.folder(place).join("listing"))
    }

    /// A map of an image, by its name; `None` if the image has none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn image_map(&self, place: &Place, name: &str) -> Result<Option<Map>, LoaderError> {
        let record = self.image(place)?;
        let Some(index) = record.maps.iter().position(|map| map == name) else { return Ok(None) };
        open_map(&map_pin(&self.folder(place), index)).map(Some)
    }

    /// A shared map; `None` while nothing is attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shared_map(&self, name: &str) -> Result<Option<Map>, LoaderError> {
        let path = self.pins.map(name);
        if path.exists() { open_map(&path).map(Some) } else { Ok(None) }
    }

    pub(super) fn folder(&self, place: &Place) -> PathBuf {
        self.pins.images().join(&place.image)
    }

    fn records(&self) -> Result<Vec<(PathBuf, InterfaceRecord)>, LoaderError> {
        let mut found = Vec::new();
        for name in pins::names(&self.pins.interfaces())? {
            let folder = self.pins.interfaces().join(name);
            match record::read(&folder.join("record")) {
                Ok(record) => found.push((folder, record)),
                // Detached since the folder was listed.
                Err(_) if !folder.exists() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    fn direction(
        &self,
        folder: &Path,
        record: &InterfaceRecord,
        direction: Direction,
        untracked: bool,
        place: &Place,
    ) -> Result<DirectionStatus, LoaderError> {
        let image = self.image(place)?;
        let pins = self.folder(place);
        let (mut programs, mut verified, mut machine_code) = (Vec::new(), 0, 0);
        for index in 0..image.programs.len() {
            let path = program_pin(&pins, index);
            let what = || format!("asking for {}", path.display());
            let info = Program::open(&path).and_then(|p| p.info()).map_err(kernel(what()))?;
            programs.push(info.id);
            verified += info.instructions;
            machine_code += info.jited_bytes;
        }
        let (mut memory, mut shared) = (0, 0);
        for index in 0..image.maps.len() {
            let path = map_pin(&pins, index);
            let bytes =
                open_map(&path)?.memory().map_err(kernel(format!("asking for {}", path.display())))?;
            memory += bytes;
            shared += if fixed::is_shared(&path)? { bytes } else { 0 };
        }
        let at_xdp = untracked && direction == Direction::Ingress;
        let slots = self.shared_map(if at_xdp { abi::XDP_PROGS_MAP } else { abi::PROGS_MAP })?;
        let key = place.slot.to_le_bytes();
        let slot = slots.and_then(|slots| slots.lookup(&key).ok().flatten());
        let slot = slot.and_then(|id| id.first_chunk().map(|id| u32::from_le_bytes(*id)));
        let way = record.way(direction);
        let entry = match (record.netns == self.netns, at_xdp) {
            (false, _) => None,
            (true, true) => hook::linked(record.ifindex, &hook::xdp_link_pin(folder)),
            (true, false) => hook::attached(record.hook, record.ifindex, way, folder),
        };
        Ok(DirectionStatus {
            direction,
            untracked,
            entry,
            slot: place.slot,
            in_force: slot.is_some() && slot == programs.first().copied(),
            image: place.image.clone(),
            instructions: image.instructions,
            programs,
            verified_instructions: verified,
            machine_code,
            map_memory: memory,
            shared_map_memory: shared,
        })
    }
}

impl InterfaceRecord {
    /// The hook that a direction's packets pass: what comes in from a workload's
    /// link leaves the workload.
    pub(super) fn way(&self, direction: Direction) -> Way {
        if (direction == Direction::Egress) != self.host { Way::In } else { Way::Out }
    }
}

pub(super) fn open_map(path: &Path) -> Result<Map, LoaderError> {
    Map::open(path).map_err(kernel(format!("opening {}", path.display())))
}
