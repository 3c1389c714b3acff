//! Where things are pinned, and how folders of pins come and go.
//!
//! ```text
//! <bpffs>/polc/abi               record: ABI version, digest of the entry object
//!              maps/NAME          maps that all programs share
//!              programs/NAME      the programs that end a packet
//!              images/DIGEST/     a policy image: record, p0…, m0…
//!              tables/DIGEST      a fixed map of images: the same pin as theirs (`fixed`)
//!              interfaces/NETNS_IFINDEX/   record, entry programs, links
//!              staging/           what is being made; nothing refers to it yet
//! ```
//!
//! A folder is filled in `staging` and renamed to its place as a whole: what
//! stands in `images` or `interfaces` is complete, whenever its maker was killed.
//! Names have no dot (the kernel keeps those for itself).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::{LoaderError, file};

/// Paths under one bpffs.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The folder `polc` of a bpffs.
    pub fn new(bpffs: &Path) -> Self {
        Self { root: bpffs.join("polc") }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The record of the ABI.
    pub fn abi(&self) -> PathBuf {
        self.root.join("abi")
    }

    /// A shared map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    /// A program that ends a packet.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// The folder of images.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The folder of fixed maps.
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// The folder of attachments.
    pub fn interfaces(&self) -> PathBuf {
        self.root.join("interfaces")
    }

    /// The folder of what is being made.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// Makes the folders that are missing.
    pub fn create(&self) -> Result<(), LoaderError> {
        let parts = ["maps", "programs"].map(|part| self.root.join(part));
        let all = [self.images(), self.tables(), self.interfaces(), self.staging()];
        for folder in parts.into_iter().chain(all) {
            fs::create_dir_all(&folder).map_err(file(&folder))?;
        }
        Ok(())
    }
}

/// Whether something is there. Where one may not look, that is an error, and not
/// nothing.
pub(super) fn is_there(path: &Path) -> Result<bool, LoaderError> {
    path.try_exists().map_err(file(path))
}

/// Names in a folder, in byte order; none if it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, LoaderError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file(folder)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(file(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a folder of pins with everything in it; one that is not there is fine.
pub(super) fn remove(folder: &Path) -> Result<(), LoaderError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file(folder)(e)),
        _ => Ok(()),
    }
}

/// Removes one pin; one that is not there is fine.
pub(super) fn unpin(path: &Path) -> Result<(), LoaderError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file(path)(e)),
        _ => Ok(()),
    }
}

/// Moves a pin or folder of pins to its place; a pin that is there is replaced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), LoaderError> {
    fs::rename(from, to).map_err(file(to))
}

/// Gives a pin another name beside the one that it has.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), LoaderError> {
    fs::hard_link(from, to).map_err(file(to))
}

/// Names that a pin has.
pub(super) fn links(path: &Path) -> Result<u64, LoaderError> {
    Ok(fs::metadata(path).map_err(file(path))?.nlink())
}

/// An empty folder in the place of whatever was there.
pub(super) fn fresh(folder: &Path) -> Result<(), LoaderError> {
    remove(folder)?;
    fs::create_dir_all(folder).map_err(file(folder))
}
