//! Programs: load, ask, run.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{Command, address, address_mut, bpf, bpf_fd, fd_by_id, invalid, object_info, object_name};
use crate::sys::SyscallError;

/// Bytes of verifier log that are asked for; older kernels refuse a longer log
/// than fits and newer ones keep its end.
const LOG_SIZE: usize = 8 << 20;
/// Bytes of the log's end that an error keeps: the verifier's reason stands last.
const LOG_KEPT: usize = 64 << 10;
/// Size of `struct bpf_func_info` and of `struct bpf_line_info`.
const FUNC_INFO_SIZE: usize = 8;
const LINE_INFO_SIZE: usize = 16;

/// What runs a program; the numbers are those of `enum bpf_prog_type`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProgramKind {
    /// tc.
    Classifier = 3,
    /// XDP.
    Xdp = 6,
}

/// Types and source lines, as the kernel takes them.
#[derive(Copy, Clone, Debug, Default)]
pub struct DebugInfo<'a> {
    /// Contents of `.BTF`; empty for none, and then the rest is not looked at.
    pub btf: &'a [u8],
    /// `struct bpf_func_info` records: instruction slot, type id.
    pub functions: &'a [u8],
    /// `struct bpf_line_info` records: instruction slot, file, text, line and column.
    pub lines: &'a [u8],
}

/// A program to load.
#[derive(Copy, Clone, Debug)]
pub struct ProgramSource<'a> {
    /// Name; cut to 15 bytes.
    pub name: &'a str,
    /// What runs it.
    pub kind: ProgramKind,
    /// Encoded instructions, map references by descriptor.
    pub code: &'a [u8],
    /// Licence.
    pub license: &'a str,
    /// Types and source lines.
    pub debug: DebugInfo<'a>,
}

/// A program was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("`{}` failed: {}{}{log}", source.call, source.io_error, if log.is_empty() { "" } else { "; the verifier says:\n" })]
pub struct LoadError {
    /// The call and the kernel's answer.
    #[source]
    pub source: SyscallError,
    /// The verifier's log, from its end; empty if it did not get that far.
    pub log: String,
}

impl From<SyscallError> for LoadError {
    fn from(source: SyscallError) -> Self {
        Self { source, log: String::new() }
    }
}

/// The part of `union bpf_attr` for loading.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    slots: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
    btf_fd: u32,
    functions_size: u32,
    functions: u64,
    function_count: u32,
    lines_size: u32,
    lines: u64,
    line_count: u32,
    attach_btf_id: u32,
}

/// A program in the kernel.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

impl Program {
    /// Has the kernel verify and take a program. The log is asked for only after
    /// a refusal: writing it takes longer than the rest.
    ///
    /// # Errors
    /// [`LoadError`], with the verifier's log.
    pub fn load(source: &ProgramSource<'_>) -> Result<Self, LoadError> {
        const NAME: &str = "bpf_prog_load";
        let slots = u32::try_from(source.code.len() / 8).map_err(|_| invalid(NAME))?;
        if !source.code.len().is_multiple_of(8) {
            return Err(invalid(NAME).into());
        }
        let license = std::ffi::CString::new(source.license).map_err(|_| invalid(NAME))?;
        let btf = if source.debug.btf.is_empty() { None } else { load_btf(source.debug.btf).ok() };
        let mut attribute = Load {
            kind: source.kind as u32,
            slots,
            code: address(source.code),
            license: license.as_ptr().expose_provenance() as u64,
            name: object_name(source.name),
            ..Load::default()
        };
        if let Some(btf) = &btf {
            let (functions, lines) = (source.debug.functions, source.debug.lines);
            attribute.btf_fd = btf.as_raw_fd() as u32;
            attribute.functions_size = FUNC_INFO_SIZE as u32;
            attribute.functions = address(functions);
            attribute.function_count = (functions.len() / FUNC_INFO_SIZE) as u32;
            attribute.lines_size = LINE_INFO_SIZE as u32;
            attribute.lines = address(lines);
            attribute.line_count = (lines.len() / LINE_INFO_SIZE) as u32;
        }
        // SAFETY: `code` holds `slots` instructions of 8 bytes, the records as
        // many as the counts say, the licence ends with a zero; all live over the
        // call and are only read.
        match unsafe { bpf_fd(NAME, Command::ProgLoad, &mut attribute) } {
            Ok(fd) => Ok(Self { fd }),
            Err(error) => {
                let mut log = vec![0u8; LOG_SIZE];
                attribute.log_level = 1;
                attribute.log_size = LOG_SIZE as u32;
                attribute.log = address_mut(&mut log);
                // SAFETY: as above; `log` is writable for `log_size` bytes. A
                // second try that succeeds is closed and counts for nothing.
                drop(unsafe { bpf_fd(NAME, Command::ProgLoad, &mut attribute) });
                Err(LoadError { source: error, log: log_text(&log) })
            }
        }
    }

    pub(super) fn of(fd: OwnedFd) -> Result<Self, SyscallError> {
        match super::pinned_kind(fd.as_fd())? {
            Some(super::PinnedKind::Program) => Ok(Self { fd }),
            _ => Err(invalid("bpf_prog_info")),
        }
    }

    /// The program with an id.
    ///
    /// # Errors
    /// `ENOENT`, `EPERM`.
    pub fn by_id(id: u32) -> Result<Self, SyscallError> {
        Self::of(fd_by_id("bpf_prog_get_fd_by_id", Command::ProgFdById, id)?)
    }

    /// What the kernel tells of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<ProgramInfo, SyscallError> {
        let mut raw = RawInfo::default();
        // SAFETY: `RawInfo` is the head of `struct bpf_prog_info`; pointers and
        // counts in it are zero, so that the kernel copies no array.
        unsafe { object_info(self.fd.as_raw_fd(), &mut raw) }?;
        let maps_wanted = raw.map_count as usize;
        let mut ids = vec![0u32; maps_wanted];
        let mut again =
            RawInfo { map_count: raw.map_count, map_ids: address_mut(&mut ids), ..RawInfo::default() };
        // SAFETY: as above; `ids` has room for `map_count` numbers.
        unsafe { object_info(self.fd.as_raw_fd(), &mut again) }?;
        ids.truncate(again.map_count as usize);
        Ok(ProgramInfo {
            id: raw.id,
            tag: raw.tag,
            instructions: raw.xlated_length / 8,
            jited_bytes: raw.jited_length,
            loaded_at: raw.load_time,
            maps: ids,
        })
    }

    /// Runs it on a packet with `BPF_PROG_TEST_RUN`: what it returns, and ns per
    /// repetition.
    ///
    /// # Errors
    /// What the kernel says: `EINVAL` for a packet that it does not take.
    pub fn test_run(&self, packet: &[u8], repeat: u32) -> Result<(u32, u32), SyscallError> {
        self.run(packet, repeat, 0)
    }

    /// Runs an XDP program on `repeat` frames that then go where it says: what
    /// passes is received by the loopback device of this network namespace. Gives
    /// the return value (always 0) and ns per frame.
    ///
    /// # Errors
    /// What the kernel says: `EINVAL` before 5.18 and for programs of other kinds.
    pub fn test_run_live(&self, packet: &[u8], repeat: u32) -> Result<(u32, u32), SyscallError> {
        const LIVE_FRAMES: u32 = 2;
        self.run(packet, repeat, LIVE_FRAMES)
    }

    fn run(&self, packet: &[u8], repeat: u32, flags: u32) -> Result<(u32, u32), SyscallError> {
        #[repr(C)]
        struct Attribute {
            prog_fd: u32,
            returned: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            ctx_size_in: u32,
            ctx_size_out: u32,
            ctx_in: u64,
            ctx_out: u64,
            flags: u32,
            cpu: u32,
        }
        let mut attribute = Attribute {
            prog_fd: self.fd.as_raw_fd() as u32,
            returned: 0,
            data_size_in: u32::try_from(packet.len()).map_err(|_| invalid("bpf_prog_test_run"))?,
            data_size_out: 0,
            data_in: address(packet),
            data_out: 0,
            repeat,
            duration: 0,
            ctx_size_in: 0,
            ctx_size_out: 0,
            ctx_in: 0,
            ctx_out: 0,
            flags,
            cpu: 0,
        };
        // SAFETY: `packet` is as long as said and only read; no output buffer.
        unsafe { bpf("bpf_prog_test_run", Command::ProgTestRun, &mut attribute) }?;
        Ok((attribute.returned, attribute.duration))
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the kernel tells of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// The kernel's number for it.
    pub id: u32,
    /// Hash of its instructions, without the maps' numbers.
    pub tag: [u8; 8],
    /// Instructions after the verifier's rewriting.
    pub instructions: u32,
    /// Bytes of machine code; 0 where there is none, or it is hidden from us.
    pub jited_bytes: u32,
    /// When it was loaded, in ns since boot.
    pub loaded_at: u64,
    /// Ids of the maps that it refers to.
    pub maps: Vec<u32>,
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    xlated_length: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

fn load_btf(btf: &[u8]) -> Result<OwnedFd, SyscallError> {
    #[repr(C)]
    struct Attribute {
        btf: u64,
        log: u64,
        size: u32,
        log_size: u32,
        log_level: u32,
        padding: u32,
    }
    let size = u32::try_from(btf.len()).map_err(|_| invalid("bpf_btf_load"))?;
    let mut attribute = Attribute { btf: address(btf), log: 0, size, log_size: 0, log_level: 0, padding: 0 };
    // SAFETY: `btf` is `size` bytes long and only read.
    unsafe { bpf_fd("bpf_btf_load", Command::BtfLoad, &mut attribute) }
}

/// The end of a log, from the start of a line.
fn log_text(log: &[u8]) -> String {
    let length = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = &log[..length];
    let kept = &text[text.len().saturating_sub(LOG_KEPT)..];
    let start =
        if kept.len() < text.len() { kept.iter().position(|b| *b == b'\n').map_or(0, |n| n + 1) } else { 0 };
    String::from_utf8_lossy(&kept[start..]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_at_a_line() {
        assert_eq!(log_text(b"one\ntwo\n\0\0"), "one\ntwo");
        let mut long = vec![b'x'; LOG_KEPT];
        long.extend(b"\nlast line\n");
        assert_eq!(log_text(&long), "last line");
    }
}
