//! The only module with unsafe code: memory below 4 GiB, the hand-over to rbpf,
//! and the few system calls that aya does not offer.
//!
//! Everything that it exports is safe to call with any argument. Addresses that
//! come out of a running program are numbers to the rest of the crate; they
//! become pointers only in here, after they were found to lie in the
//! [`LowArena`] or in the running program's own stack.

mod arena;
#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
mod host;
mod machine;
#[cfg(target_os = "linux")]
mod map_writer;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod privileged;
#[cfg(target_os = "linux")]
mod signals;

pub use arena::{ArenaError, LowArena};
#[cfg(target_os = "linux")]
pub use host::{
    interface_index, interface_name, lift_memory_limit, monotonic_ns, possible_cpus, rcu_barrier,
};
pub(crate) use machine::{HELPER_ENTER, HELPERS};
pub use machine::{Helpers, Machine, MachineError, Stack, VmEngine};
#[cfg(target_os = "linux")]
pub use map_writer::MapWriter;
#[cfg(target_os = "linux")]
pub use netlink::RouteSocket;
#[cfg(target_os = "linux")]
pub use privileged::{CpuPin, PrivateBpfFs, enter_network_namespace, is_bpffs, mount_bpffs};
#[cfg(target_os = "linux")]
pub use signals::Termination;

/// A system call failed; `source()` is the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("`{call}` failed")]
pub struct SyscallError {
    /// Name of the call.
    pub call: &'static str,
    /// The kernel's answer.
    #[source]
    pub io_error: std::io::Error,
}

impl SyscallError {
    fn last(call: &'static str) -> Self {
        Self { call, io_error: std::io::Error::last_os_error() }
    }
}
