//! Facts about this host: CPUs, interfaces.

use std::ffi::CString;

use super::SyscallError;

/// Number of CPUs that the kernel keeps per-CPU values for.
///
/// # Errors
/// `/sys` is not mounted, or says what nobody understands.
pub fn possible_cpus() -> Result<usize, SyscallError> {
    const FILE: &str = "/sys/devices/system/cpu/possible";
    let failed = |io_error| SyscallError { call: "read of /sys/devices/system/cpu/possible", io_error };
    let text = std::fs::read_to_string(FILE).map_err(failed)?;
    last_cpu(text.trim()).map(|last| last + 1).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))
}

/// The highest number of a list such as `0-3,8`.
fn last_cpu(list: &str) -> Option<usize> {
    list.rsplit([',', '-']).next()?.parse().ok()
}

/// Index of the interface with a name in this network namespace.
///
/// # Errors
/// `ENODEV` if there is none.
pub fn interface_index(name: &str) -> Result<u32, SyscallError> {
    let missing =
        || SyscallError { call: "if_nametoindex", io_error: std::io::Error::from_raw_os_error(libc::ENODEV) };
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: a string that ends with a zero and lives over the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
    }
}

/// Name of the interface with an index in this network namespace, if there is one.
pub fn interface_name(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: a buffer of `IF_NAMESIZE` bytes, which the call takes for granted.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let length = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    Some(String::from_utf8_lossy(&name[..length]).into_owned())
}

/// Time since boot in ns, without sleep: the clock that programs use.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a writable timespec; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets this process lock as much memory as it likes. Before 5.11, maps and programs
/// count as such, and the usual limit holds none of polc's tables; later kernels
/// account for them elsewhere. Without CAP_SYS_RESOURCE nothing changes, and where the
/// limit matters making a map says so.
pub fn lift_memory_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a struct of two numbers, which is read.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}

/// Returns when every RCU reader that runs now has finished; programs are such
/// readers while they decide a packet. Some ms.
///
/// # Errors
/// What the kernel says: `ENOSYS` without CONFIG_MEMBARRIER.
pub fn rcu_barrier() -> Result<(), SyscallError> {
    /// `MEMBARRIER_CMD_GLOBAL`: waits for an RCU grace period.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: numbers only.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(SyscallError::last("membarrier")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_end_with_the_highest() {
        for (list, want) in [("0", Some(0)), ("0-3", Some(3)), ("0-3,8-11", Some(11)), ("", None)] {
            assert_eq!(last_cpu(list), want, "{list}");
        }
    }

    #[test]
    fn the_loopback_has_a_name_and_an_index() {
        let index = interface_index("lo").unwrap();
        assert_eq!(interface_name(index).as_deref(), Some("lo"));
        assert!(interface_index("polc-nowhere-9").is_err());
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
        rcu_barrier().unwrap();
    }
}
