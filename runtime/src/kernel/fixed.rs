//! Fixed maps ([`MapSpec::fixed`]): those that are equal exist once, whatever image asks
//! for them.
//!
//! Such a map is pinned under its digest, and every image that has it holds a hard link
//! to that pin in the place where its own maps are. So the file system counts who uses a
//! map, and nobody else has to: one without another name than that of its digest is
//! nobody's. An image's folder is made, moved and removed as if the map were its own.
//!
//! Why sound: a map gets the name of its digest when it is filled and frozen; from then
//! on the kernel refuses to write to it, whoever asks. Whoever is killed before or
//! behind that leaves a map that has no other name once the staged image is removed,
//! which [`collect`] finds at the next start.
//!
//! Cost: SHA-256 of the contents, and a few system calls; one for each map to collect.

use std::path::Path;

use polc_compiler::image::MapSpec;

use super::digest;
use super::error::{LoaderError, kernel};
use super::image;
use super::pins::{self, Pins};
use super::step::step;
use crate::sys::bpf::{Map, MapDefinition};

/// The map that `spec` says, pinned at `place`: the one that is there, or a new one.
pub(super) fn map(pins: &Pins, spec: &MapSpec, place: &Path) -> Result<Map, LoaderError> {
    let table = pins.tables().join(digest::of_map(spec));
    if table.exists() {
        let map = Map::open(&table).map_err(kernel(format!("opening {}", table.display())))?;
        let needed = MapDefinition::from(spec.shape());
        if map.definition() != needed {
            let (found, needed) = (format!("{:?}", map.definition()), format!("{needed:?}"));
            return Err(LoaderError::Shape { path: table, found, needed });
        }
        pins::link(&table, place)?;
        return Ok(map);
    }
    let what = || format!("making map `{}`", spec.name);
    let map = image::filled(spec).map_err(kernel(what()))?;
    map.freeze().map_err(kernel(what()))?;
    map.pin(place).map_err(kernel(what()))?;
    pins::link(place, &table)?;
    step("table in place");
    Ok(map)
}

/// Removes the maps that no image has. To be called when images that are no longer
/// wanted are gone.
pub(super) fn collect(pins: &Pins) -> Result<(), LoaderError> {
    for name in pins::names(&pins.tables())? {
        let table = pins.tables().join(name);
        if pins::links(&table)? == 1 {
            pins::unpin(&table)?;
            step("table removed");
        }
    }
    Ok(())
}

/// Whether another image has the map that is pinned in an image's folder: its names are
/// that place, the digest, and one for each other image.
pub(super) fn is_shared(place: &Path) -> Result<bool, LoaderError> {
    Ok(pins::links(place)? > 2)
}
