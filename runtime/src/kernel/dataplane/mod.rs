//! What is attached on this host, and how it changes.
//!
//! A [`Dataplane`] is the right to change it: one process has it at a time. The
//! kernel's own tables are the truth: a slot of the shared program array leads to
//! an image's first program, and an update is one store to that slot. Everything
//! is loaded before that store, and old pins are removed after it, so an update
//! that fails or is killed leaves the old policy in force; what it left behind is
//! cleaned up by the next [`Dataplane::open`].

mod attach;
mod detach;
mod repair;
mod slots;
mod tables;
mod wanted;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::live::LiveTables;

use super::entry::Entry;
use super::error::{LoaderError, file, kernel};
use super::live::LiveImage;
use super::lock::Lock;
use super::pins::{self, Pins};
use super::record::{self, AbiRecord, InterfaceRecord};
use super::step::step;
use crate::sys::bpf::{Map, Program};
use crate::sys::lift_memory_limit;

pub use attach::{AttachReport, AttachRequest, Failsafe, Untracked};
pub use detach::detach_all;

/// The programs that end a packet, and their slots.
const ENDS: [(&str, u32, &str); 4] = [
    (abi::PROGS_MAP, abi::SLOT_ALLOWED, abi::PROG_ALLOWED),
    (abi::PROGS_MAP, abi::SLOT_DENIED, abi::PROG_DENIED),
    (abi::XDP_PROGS_MAP, abi::SLOT_ALLOWED, abi::PROG_XDP_ALLOWED),
    (abi::XDP_PROGS_MAP, abi::SLOT_DENIED, abi::PROG_XDP_DENIED),
];

/// The right to change what is attached: one process has it at a time.
pub struct Dataplane {
    pins: Pins,
    entry: Entry,
    shared: BTreeMap<String, Map>,
    netns: u64,
    _lock: Lock,
}

impl Dataplane {
    /// Takes the lock, makes what is missing, and finishes or undoes what a killed
    /// process left.
    ///
    /// # Errors
    /// [`LoaderError::Busy`] if another process has the lock for longer than
    /// `wait`; [`LoaderError::Version`] and [`LoaderError::Shape`] for pins of
    /// another version; else what the kernel says.
    pub fn open(bpffs: &Path, wait: Duration) -> Result<Self, LoaderError> {
        lift_memory_limit();
        let pins = Pins::new(bpffs);
        let lock = Lock::take(pins.root(), wait)?;
        let entry = Entry::parse(crate::ENTRY_OBJECT)?;
        let known = check_abi(&pins)?;
        pins.create()?;
        if known.is_none() {
            write_abi(&pins, &entry)?;
        }
        let shared = entry.shared_maps(&pins)?;
        let mut plane = Self { pins, entry, shared, netns: netns()?, _lock: lock };
        plane.place_ends(known.is_some_and(|known| known.object != plane.entry.digest))?;
        plane.repair()?;
        Ok(plane)
    }

    /// Lets the first slots lead to the programs that end a packet; `renew` replaces
    /// those of another entry object.
    fn place_ends(&mut self, renew: bool) -> Result<(), LoaderError> {
        for (array, slot, name) in ENDS {
            let path = self.pins.program(name);
            let pinned = if path.exists() && !renew {
                Some(Program::open(&path).map_err(kernel(format!("opening {}", path.display())))?)
            } else {
                None
            };
            let program = match pinned {
                Some(program) => program,
                None => {
                    let mut loaded = self.entry.load(&[name], &self.shared, &Config::default())?;
                    let program = loaded.remove(0);
                    let staged = self.pins.staging().join("program");
                    pins::unpin(&staged)?;
                    program.pin(&staged).map_err(kernel(format!("pinning `{name}`")))?;
                    pins::rename(&staged, &path)?;
                    program
                }
            };
            self.set_slot(array, slot, &program)?;
        }
        if renew {
            pins::unpin(&self.pins.staging().join("abi"))?;
            write_abi(&self.pins, &self.entry)?;
        }
        Ok(())
    }

    /// All attachments: folder and record. Folders without a record that this
    /// version can read are an error.
    fn records(&self) -> Result<Vec<(PathBuf, InterfaceRecord)>, LoaderError> {
        let folder = self.pins.interfaces();
        let names = pins::names(&folder)?;
        names
            .into_iter()
            .map(|name| {
                let path = folder.join(name);
                record::read(&path.join("record")).map(|record| (path, record))
            })
            .collect()
    }

    /// An image's tables, to be changed while programs read them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn live_image(&self, image: &str) -> Result<LiveImage, LoaderError> {
        LiveImage::open(&self.pins.images().join(image))
    }

    /// Records what the classes of an image's tables are, before stores name new ones.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn record_classes(&self, image: &LiveImage, tables: &LiveTables) -> Result<(), LoaderError> {
        image.record(tables, &self.pins.staging().join("members"))
    }

    fn shared_map(&self, name: &'static str) -> Result<&Map, LoaderError> {
        let missing = || LoaderError::Object(format!("map `{name}` is missing"));
        self.shared.get(name).ok_or_else(missing)
    }

    /// Where the attachment of an interface of this network namespace is pinned.
    fn place(&self, ifindex: u32) -> PathBuf {
        self.pins.interfaces().join(format!("{}_{ifindex}", self.netns))
    }
}

/// What the pins were made for; `None` if there are none.
fn check_abi(pins: &Pins) -> Result<Option<AbiRecord>, LoaderError> {
    let version = |found: String| LoaderError::Version {
        folder: pins.root().to_owned(),
        found,
        needed: abi::ABI_VERSION,
    };
    if !pins.abi().exists() {
        // The record is the first thing that is pinned.
        return if pins::names(pins.root())?.iter().any(|name| name == "maps") && has_maps(pins)? {
            Err(version("unknown".into()))
        } else {
            Ok(None)
        };
    }
    let record: AbiRecord = match record::read(&pins.abi()) {
        Err(LoaderError::Unknown { .. }) => return Err(version("unknown".into())),
        record => record?,
    };
    if record.abi != abi::ABI_VERSION {
        return Err(version(record.abi.to_string()));
    }
    Ok(Some(record))
}

fn has_maps(pins: &Pins) -> Result<bool, LoaderError> {
    Ok(!pins::names(&pins.root().join("maps"))?.is_empty())
}

fn write_abi(pins: &Pins, entry: &Entry) -> Result<(), LoaderError> {
    let staged = pins.staging().join("abi");
    pins::unpin(&staged)?;
    record::write(&AbiRecord { abi: abi::ABI_VERSION, object: entry.digest.clone() }, &staged)?;
    step("abi record staged");
    pins::rename(&staged, &pins.abi())
}

/// Inode of this thread's network namespace.
pub(super) fn netns() -> Result<u64, LoaderError> {
    let path = Path::new("/proc/thread-self/ns/net");
    Ok(std::fs::metadata(path).map_err(file(path))?.ino())
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
