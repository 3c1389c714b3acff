//! The tables of an image in force, changed while programs read them.
//!
//! A change is a list of [`Store`]s in the order that keeps every reader right;
//! this module only carries them out, in that order, through mapped memory. Whoever
//! makes the list says which ids may be used again after a grace period
//! ([`grace_period`]).
//!
//! An image whose tables were changed is no longer what its digest says: it is
//! marked first, so that no other attachment takes it for that. Who is in which set is
//! then read from the tables themselves (`members`); what a class means is recorded
//! before any address leads to it.
//!
//! Cost: a few ns for each store; the first one to a table maps it.

use std::path::{Path, PathBuf};

use polc_compiler::image::Store;
use polc_compiler::live::LiveTables;

use super::error::{LoaderError, kernel};
use super::image::map_pin;
use super::members::{self, MembersRecord};
use super::pins;
use super::record::{self, ImageRecord};
use crate::sys::bpf::{Map, MappedArray};

/// The maps of one image.
#[derive(Debug)]
pub struct LiveImage {
    folder: PathBuf,
    maps: Vec<Map>,
    value_sizes: Vec<u32>,
    mapped: Vec<Option<MappedArray>>,
}

/// Name of the pin that marks a changed image.
pub(super) const MARK: &str = "changed";

impl LiveImage {
    /// Opens an image's maps, to be changed.
    pub(super) fn open(folder: &Path) -> Result<Self, LoaderError> {
        let mark = folder.join(MARK);
        if !mark.exists() {
            record::write(&true, &mark)?;
        }
        let image: ImageRecord = record::read(&folder.join("record"))?;
        let open = |index: usize| {
            let path = map_pin(folder, index);
            Map::open(&path).map_err(kernel(format!("opening {}", path.display())))
        };
        let maps = (0..image.maps.len()).map(open).collect::<Result<Vec<_>, _>>()?;
        let mapped = maps.iter().map(|_| None).collect();
        Ok(Self { folder: folder.to_owned(), maps, value_sizes: image.value_sizes, mapped })
    }

    /// Records what the classes are that the next stores name, `staged` being where it is
    /// written first. Whoever is killed between this and those stores leaves a record
    /// that says more than the tables use.
    ///
    /// # Errors
    /// What the kernel says: the old record is there still.
    pub(super) fn record(&self, tables: &LiveTables, staged: &Path) -> Result<(), LoaderError> {
        let Some(record) = MembersRecord::new(tables) else { return Ok(()) };
        pins::unpin(staged)?;
        record::write(&record, staged)?;
        pins::rename(staged, &members::pin(&self.folder))
    }

    /// Carries stores out, in order.
    ///
    /// # Errors
    /// A store to no word of a mappable array, or to a fixed map, which may be other images'
    /// as well and is frozen: those before it are done.
    pub fn store(&mut self, stores: &[Store]) -> Result<(), LoaderError> {
        for store in stores {
            let what = || format!("storing to map {} at {}", store.map, store.index);
            let index = store.map as usize;
            let unknown = || LoaderError::Unknown { path: what().into(), reason: "no such map".into() };
            let slot = self.mapped.get_mut(index).ok_or_else(unknown)?;
            let mapped = match slot {
                Some(mapped) => mapped,
                None => {
                    let map = &self.maps[index];
                    let size = self.value_sizes.get(index).copied();
                    let size = size.unwrap_or_else(|| map.definition().value_size);
                    slot.insert(MappedArray::of_values(map, size).map_err(kernel(what()))?)
                }
            };
            mapped.store_word(store.index, store.offset, store.value).map_err(kernel(what()))?;
        }
        Ok(())
    }
}

/// Returns when every packet that was being decided has been.
///
/// # Errors
/// What the kernel says.
pub fn grace_period() -> Result<(), LoaderError> {
    crate::sys::rcu_barrier().map_err(kernel("waiting for a grace period"))
}
