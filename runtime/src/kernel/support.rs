//! What the running kernel offers, found by asking for it rather than by its
//! version: distributions bring features to older kernels.

use std::path::Path;

use polc_compiler::image::{DIRECT_BYTES, MAX_DIRECT_BYTES, MapKind};

use super::error::{LoaderError, kernel};
use super::hook::Hook;
use crate::sys::bpf::{
    AttachPoint, DebugInfo, Link, Map, MapDefinition, Program, ProgramKind, ProgramSource,
};
use crate::sys::{SyscallError, is_bpffs, lift_memory_limit, mount_bpffs};

/// What operators of such agents look for in a log, at start.
pub const ENABLED: &str = "BPF enabled, starting BPF endpoint manager and map manager.";
/// What they look for where it cannot start.
pub const NOT_SUPPORTED: &str =
    "BPF dataplane mode enabled but not supported by the kernel. Disabling BPF mode.";

/// `CAP_NET_ADMIN`, `CAP_SYS_ADMIN`, `CAP_BPF`: bits of a capability set.
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// What a host that can enforce policy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The kernel's release.
    pub release: String,
    /// How programs are attached unless something else is asked for.
    pub hook: Hook,
    /// Whether programs are compiled to machine code.
    pub jit: bool,
}

/// Looks at the host. With `mount`, a bpffs is mounted where none is.
///
/// # Errors
/// [`LoaderError::Unsupported`] with everything that is missing.
pub fn check(bpffs: &Path, mount: bool) -> Result<Support, LoaderError> {
    let mut missing = Vec::new();
    lift_memory_limit();
    capabilities(&mut missing);
    match tiny() {
        Ok(program) => {
            features(&mut missing);
            pins(bpffs, mount, &mut missing);
            if missing.is_empty() {
                let hook = if has_tcx(&program) { Hook::Tcx } else { Hook::Clsact };
                return Ok(Support { release: release(), hook, jit: is_compiled(&program) });
            }
        }
        Err(e) => missing.push(match e.io_error.raw_os_error() {
            Some(libc::ENOSYS) => "bpf(2): this kernel is built without CONFIG_BPF_SYSCALL".into(),
            Some(libc::EPERM) => {
                "the right to load a program: run as root, or with CAP_BPF and CAP_NET_ADMIN".into()
            }
            _ => format!(
                "programs of instruction set v3: {} refuses a small one ({}); needed is 5.10 or newer",
                release(),
                e.io_error
            ),
        }),
    }
    Err(LoaderError::Unsupported { missing })
}

/// Most bytes of a table that programs may address directly here: what to compile with
/// ([`polc_compiler::emit::EmitOptions::max_direct_bytes`]) if programs are for this kernel.
/// Costs a map of 4 MiB for a moment.
pub fn max_direct_bytes() -> u64 {
    let definition = MapDefinition {
        kind: MapKind::Array as u32,
        key_size: 4,
        value_size: DIRECT_BYTES as u32 + 8,
        max_entries: 1,
        flags: MMAPABLE,
    };
    if Map::create("polc_probe", &definition).is_ok() { MAX_DIRECT_BYTES } else { DIRECT_BYTES }
}

/// tcx where the kernel has it, else clsact.
pub(super) fn best_hook() -> Result<Hook, LoaderError> {
    let program = tiny().map_err(kernel("loading a small program"))?;
    Ok(if has_tcx(&program) { Hook::Tcx } else { Hook::Clsact })
}

/// tcx, which somebody asked for by name.
pub(super) fn require_tcx() -> Result<Hook, LoaderError> {
    match best_hook()? {
        Hook::Tcx => Ok(Hook::Tcx),
        Hook::Clsact => {
            let what = format!("tcx links (6.6; this is {}): take the hook clsact, or auto", release());
            Err(LoaderError::Unsupported { missing: vec![what] })
        }
    }
}

/// Asks for a link to no interface: a kernel with tcx looks for the interface.
fn has_tcx(program: &Program) -> bool {
    let answer = Link::create(program, u32::MAX >> 1, AttachPoint::TcxIngress);
    answer.is_err_and(|e| e.io_error.raw_os_error() == Some(libc::ENODEV))
}

/// `r0 = 0; if w0 == 0 goto +0; exit`: the 32-bit compare is instruction set v3.
fn tiny() -> Result<Program, SyscallError> {
    let code = [
        0xb7, 0, 0, 0, 0, 0, 0, 0, //
        0x16, 0, 0, 0, 0, 0, 0, 0, //
        0x95, 0, 0, 0, 0, 0, 0, 0,
    ];
    let source = ProgramSource {
        name: "polc_probe",
        kind: ProgramKind::Classifier,
        code: &code,
        license: "Apache-2.0",
        debug: DebugInfo::default(),
    };
    Program::load(&source).map_err(|e| e.source)
}

fn capabilities(missing: &mut Vec<String>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let Some(set) = line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok()) else { return };
    let has = |bit: u32| set >> bit & 1 == 1;
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN: attaching to an interface takes it".into());
    }
    if !has(SYS_ADMIN) {
        let what = if has(BPF) { "ids of programs and maps are open to" } else { "loading programs takes" };
        missing.push(format!("CAP_SYS_ADMIN: {what} it"));
    }
}

/// Kinds of maps and operations, each tried.
fn features(missing: &mut Vec<String>) {
    let kinds = [
        ("array maps that can be mapped (BPF_F_MMAPABLE, 5.5)", 2, 4, 4, MMAPABLE),
        ("LRU hash maps", 9, 4, 4, 0),
        ("LPM trie maps", 11, 8, 4, 1),
        ("ring buffers (5.8)", 27, 0, 0, 0),
    ];
    for (what, kind, key_size, value_size, flags) in kinds {
        let max_entries = if kind == 27 { 4096 * 16 } else { 1 };
        let definition = MapDefinition { kind, key_size, value_size, max_entries, flags };
        if let Err(e) = Map::create("polc_probe", &definition) {
            let limit = match e.io_error.raw_os_error() {
                Some(libc::EPERM) => "; before 5.11 it also takes CAP_SYS_RESOURCE or `ulimit -l unlimited`",
                _ => "",
            };
            missing.push(format!("{what}: {}{limit}", e.io_error));
        }
    }
    let definition = MapDefinition { kind: 1, key_size: 4, value_size: 4, max_entries: 1, flags: 0 };
    let batch = Map::create("polc_probe", &definition).and_then(|m| m.update_batch(&[0; 4], &[0; 4]));
    if let Err(e) = batch {
        missing.push(format!("batch operations on maps (5.6): {}", e.io_error));
    }
}

fn pins(bpffs: &Path, mount: bool, missing: &mut Vec<String>) {
    let at = bpffs.display();
    let answer = match is_bpffs(bpffs) {
        Ok(false) if mount => mount_bpffs(bpffs).map(|()| true),
        answer => answer,
    };
    match answer {
        Ok(true) => {}
        Ok(false) => {
            missing.push(format!("a bpffs at {at}: give --mount-bpffs, or run `mount -t bpf bpf {at}`"))
        }
        Err(e) => missing.push(format!("a bpffs at {at}: {e}: {}", e.io_error)),
    }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "this kernel".into(), |r| r.trim().into())
}

/// Whether the kernel made machine code of a program. Its switch does not say so in
/// other network namespaces than the first.
fn is_compiled(program: &Program) -> bool {
    program.info().is_ok_and(|info| info.jited_bytes > 0)
}
