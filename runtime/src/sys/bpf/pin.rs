//! Pins: objects by a path of a bpffs.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Command, Link, Map, Program, bpf, bpf_fd, invalid};
use crate::sys::SyscallError;

/// The part of `union bpf_attr` for pins.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SyscallError> {
    let path = c_string(path)?;
    let mut attribute = Pin { path: address(&path), fd: fd.as_raw_fd() as u32, flags: 0 };
    // SAFETY: the path ends with a zero and lives over the call.
    unsafe { bpf("bpf_obj_pin", Command::ObjPin, &mut attribute) }.map(drop)
}

fn open(path: &Path) -> Result<OwnedFd, SyscallError> {
    let path = c_string(path)?;
    let mut attribute = Pin { path: address(&path), fd: 0, flags: 0 };
    // SAFETY: as above.
    unsafe { bpf_fd("bpf_obj_get", Command::ObjGet, &mut attribute) }
}

fn address(path: &CString) -> u64 {
    path.as_ptr().expose_provenance() as u64
}

fn c_string(path: &Path) -> Result<CString, SyscallError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid("bpf_obj_pin"))
}

impl Map {
    /// Pins it.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM`, and `EINVAL` for a path outside a bpffs or with a dot.
    pub fn pin(&self, path: &Path) -> Result<(), SyscallError> {
        pin(self.as_fd(), path)
    }

    /// The map that is pinned at a path.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` if it is no map.
    pub fn open(path: &Path) -> Result<Self, SyscallError> {
        Self::of(open(path)?)
    }
}

impl Program {
    /// Pins it.
    ///
    /// # Errors
    /// As for [`Map::pin`].
    pub fn pin(&self, path: &Path) -> Result<(), SyscallError> {
        pin(self.as_fd(), path)
    }

    /// The program that is pinned at a path.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` if it is no program.
    pub fn open(path: &Path) -> Result<Self, SyscallError> {
        Self::of(open(path)?)
    }
}

impl Link {
    /// Pins it.
    ///
    /// # Errors
    /// As for [`Map::pin`].
    pub fn pin(&self, path: &Path) -> Result<(), SyscallError> {
        pin(self.as_fd(), path)
    }

    /// The link that is pinned at a path.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` if it is no link.
    pub fn open(path: &Path) -> Result<Self, SyscallError> {
        Self::of(open(path)?)
    }
}

/// What a descriptor of a pin is of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PinnedKind {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

/// What a descriptor is of, by the name that the kernel gives it; `None` for
/// anything else. Asking for information does not tell: each kind would be taken
/// for the one that was expected.
///
/// # Errors
/// `/proc` is not mounted.
pub fn pinned_kind(fd: BorrowedFd<'_>) -> Result<Option<PinnedKind>, SyscallError> {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(|io_error| SyscallError { call: "readlink", io_error })?;
    Ok(match target.as_os_str().as_bytes() {
        b"anon_inode:bpf-map" => Some(PinnedKind::Map),
        b"anon_inode:bpf-prog" => Some(PinnedKind::Program),
        b"anon_inode:bpf_link" | b"anon_inode:bpf-link" => Some(PinnedKind::Link),
        _ => None,
    })
}
