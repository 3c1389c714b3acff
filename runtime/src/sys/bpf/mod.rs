//! `bpf(2)`: maps, programs, links and pins, each an owned file descriptor.
//!
//! Why beside aya: generated programs are loaded as instructions, without an ELF
//! file in between, and their maps have sizes that are known only at run time.
//!
//! Why sound: every attribute is one of the `repr(C)` structs of this folder, as
//! long as the kernel is told and without padding. Buffers that the kernel reads
//! or writes are slices whose length was held against the size that the kernel
//! itself reports for the map; it keeps no pointer after the call.
//!
//! Cost: a system call each, where nothing else is said.

mod link;
mod map;
mod mapped;
mod pin;
mod program;
mod ring;

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

pub use link::{AttachPoint, Link, LinkInfo};
pub use map::{Map, MapDefinition, MapEntry};
pub use mapped::MappedArray;
pub use pin::{PinnedKind, pinned_kind};
pub use program::{DebugInfo, LoadError, Program, ProgramInfo, ProgramKind, ProgramSource};

pub use ring::RingBuffer;

use super::SyscallError;

/// Commands of `enum bpf_cmd`.
#[derive(Copy, Clone)]
#[repr(u32)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ProgTestRun = 10,
    ProgNextId = 11,
    MapNextId = 12,
    ProgFdById = 13,
    MapFdById = 14,
    ObjInfo = 15,
    BtfLoad = 18,
    MapFreeze = 22,
    MapLookupBatch = 24,
    MapUpdateBatch = 26,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkFdById = 30,
    LinkNextId = 31,
    LinkDetach = 34,
}

/// One command: the number that the kernel returns.
///
/// # Safety
/// `T` is the part of `union bpf_attr` that the command reads and writes, without
/// padding; every address in it is of memory that lives over the call and is as
/// long as the command takes it to be, and writable where it writes.
unsafe fn bpf<T>(name: &'static str, command: Command, attribute: &mut T) -> Result<i32, SyscallError> {
    // SAFETY: the caller's promise; the kernel takes `size_of::<T>()` bytes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32 as libc::c_long,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 { Err(SyscallError::last(name)) } else { Ok(result as i32) }
}

/// As [`bpf`], for a command that gives a descriptor.
///
/// # Safety
/// As for [`bpf`].
unsafe fn bpf_fd<T>(
    name: &'static str,
    command: Command,
    attribute: &mut T,
) -> Result<OwnedFd, SyscallError> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(name, command, attribute) }?;
    // SAFETY: the kernel has just made this descriptor for us (with close-on-exec).
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Address of what a slice holds, for the kernel.
fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr().expose_provenance() as u64
}

/// Address of what a slice holds, for the kernel to write to.
fn address_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr().expose_provenance() as u64
}

/// A name as the kernel takes it: at most 15 bytes of letters, digits, `_` and
/// `.`; others become `_`.
fn object_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out[..15].iter_mut().zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() || from == b'_' || from == b'.' { from } else { b'_' };
    }
    out
}

/// A call was refused before the kernel was asked.
fn invalid(call: &'static str) -> SyscallError {
    SyscallError { call, io_error: std::io::Error::from_raw_os_error(libc::EINVAL) }
}

/// `BPF_OBJ_GET_INFO_BY_FD` into a struct of the caller's; how much of it the
/// kernel filled, in bytes.
///
/// # Safety
/// `T` is (the head of) the info struct of the descriptor's kind, without padding
/// that matters: any bytes are a value of it. Pointers in it are zero.
unsafe fn object_info<T>(fd: RawFd, info: &mut T) -> Result<u32, SyscallError> {
    #[repr(C)]
    struct Attribute {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attribute = Attribute {
        fd: fd as u32,
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(info).expose_provenance() as u64,
    };
    // SAFETY: `info` is writable for `length` bytes; the rest is the caller's promise.
    unsafe { bpf("bpf_obj_get_info_by_fd", Command::ObjInfo, &mut attribute) }?;
    Ok(attribute.length)
}

/// The kind of object that ids count.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Programs.
    Program,
    /// Maps.
    Map,
    /// Links.
    Link,
}

/// Ids of all objects of a kind that the kernel holds, ascending.
///
/// # Errors
/// What the kernel says; `EPERM` without CAP_SYS_ADMIN.
pub fn object_ids(kind: ObjectKind) -> Result<Vec<u32>, SyscallError> {
    let command = match kind {
        ObjectKind::Program => Command::ProgNextId,
        ObjectKind::Map => Command::MapNextId,
        ObjectKind::Link => Command::LinkNextId,
    };
    let mut ids = Vec::new();
    // start_id, next_id, open_flags
    let mut attribute = [0u32; 3];
    loop {
        // SAFETY: three numbers and no pointer.
        match unsafe { bpf("bpf_get_next_id", command, &mut attribute) } {
            Ok(_) => {
                ids.push(attribute[1]);
                attribute[0] = attribute[1];
            }
            Err(e) if e.io_error.raw_os_error() == Some(libc::ENOENT) => return Ok(ids),
            Err(e) => return Err(e),
        }
    }
}

fn fd_by_id(name: &'static str, command: Command, id: u32) -> Result<OwnedFd, SyscallError> {
    // id, next_id, open_flags
    let mut attribute = [id, 0, 0];
    // SAFETY: three numbers and no pointer.
    unsafe { bpf_fd(name, command, &mut attribute) }
}
