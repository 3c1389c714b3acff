//! System calls that aya does not offer: a private bpffs, and one CPU for the
//! calling thread.

use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::SyscallError;

/// A bpffs of its own on a private temporary directory; both are gone after drop.
#[derive(Debug)]
pub struct PrivateBpfFs {
    path: PathBuf,
    mounted: bool,
}

impl PrivateBpfFs {
    /// Makes a directory under the system's temporary directory (mode 0700) and
    /// mounts a bpffs on it.
    ///
    /// # Errors
    /// The call that failed: `mkdtemp` or `mount` (EPERM without CAP_SYS_ADMIN,
    /// ENODEV without BPF in the kernel). Nothing is left behind.
    pub fn new() -> Result<Self, SyscallError> {
        let path = private_directory()?;
        let mut fs = Self { path, mounted: false };
        let target = c_string(&fs.path)?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        // SAFETY: four NUL-terminated strings (and a null for no options) that
        // live over the call; the kernel copies them.
        let result = unsafe {
            libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), flags, std::ptr::null())
        };
        if result != 0 {
            return Err(SyscallError::last("mount"));
        }
        fs.mounted = true;
        Ok(fs)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateBpfFs {
    fn drop(&mut self) {
        if let (true, Ok(target)) = (self.mounted, c_string(&self.path)) {
            // SAFETY: a NUL-terminated string that lives over the call. Detaching
            // works even while a pin in it is open.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
        // Fails harmlessly if something else was put there in the meantime.
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Whether a path lies on a bpffs.
///
/// # Errors
/// What the kernel says: `ENOENT`.
pub fn is_bpffs(path: &Path) -> Result<bool, SyscallError> {
    /// `BPF_FS_MAGIC`.
    const MAGIC: u32 = 0xcafe_4a11;
    let path = c_string(path)?;
    // SAFETY: a struct of integers, for which zero is a value.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a string that ends with a zero, and a writable struct.
    if unsafe { libc::statfs(path.as_ptr(), &mut answer) } != 0 {
        return Err(SyscallError::last("statfs"));
    }
    Ok(answer.f_type as u32 == MAGIC)
}

/// Mounts a bpffs on a directory.
///
/// # Errors
/// What the kernel says: `EPERM` without CAP_SYS_ADMIN, `ENOENT`.
pub fn mount_bpffs(path: &Path) -> Result<(), SyscallError> {
    let target = c_string(path)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: strings that end with a zero (and a null for no options) and live
    // over the call; the kernel copies them.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), flags, c"mode=0700".as_ptr().cast())
    };
    if result == 0 { Ok(()) } else { Err(SyscallError::last("mount")) }
}

/// Moves the calling thread into a network namespace (`/run/netns/NAME`,
/// `/proc/PID/ns/net`); sockets that it makes from then on belong to it.
///
/// # Errors
/// What the kernel says: `EPERM` without CAP_SYS_ADMIN, `EINVAL` for another file.
pub fn enter_network_namespace(namespace: &std::fs::File) -> Result<(), SyscallError> {
    // SAFETY: a descriptor that is open over the call, and a flag.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(SyscallError::last("setns")) }
}

fn private_directory() -> Result<PathBuf, SyscallError> {
    let template = c_string(&std::env::temp_dir().join("polc-bpffs-XXXXXX"))?;
    let mut bytes = template.into_bytes_with_nul();
    // SAFETY: a writable, NUL-terminated buffer; `mkdtemp` replaces six bytes of it.
    let made = unsafe { libc::mkdtemp(bytes.as_mut_ptr().cast()) };
    if made.is_null() {
        return Err(SyscallError::last("mkdtemp"));
    }
    bytes.pop();
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)))
}

fn c_string(path: &Path) -> Result<CString, SyscallError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SyscallError { call: "mkdtemp", io_error: std::io::ErrorKind::InvalidInput.into() })
}

/// Keeps the calling thread on the CPU that it runs on; the former set of CPUs
/// is restored on drop.
pub struct CpuPin {
    former: libc::cpu_set_t,
    cpu: usize,
    /// The set belongs to the thread that made it.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl CpuPin {
    /// Pins the calling thread.
    ///
    /// # Errors
    /// The call that failed.
    pub fn new() -> Result<Self, SyscallError> {
        // SAFETY: no arguments; gives a number or -1.
        let cpu = usize::try_from(unsafe { libc::sched_getcpu() });
        let Ok(cpu) = cpu else { return Err(SyscallError::last("sched_getcpu")) };
        let former = affinity()?;
        // SAFETY: `cpu_set_t` is an array of integers, for which zero is a value.
        let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(SyscallError {
                call: "sched_setaffinity",
                io_error: std::io::ErrorKind::Unsupported.into(),
            });
        }
        // SAFETY: `cpu` is below the set's size.
        unsafe { libc::CPU_SET(cpu, &mut one) };
        set_affinity(&one)?;
        Ok(Self { former, cpu, _not_send: std::marker::PhantomData })
    }

    /// The CPU's number.
    pub fn cpu(&self) -> usize {
        self.cpu
    }
}

impl Drop for CpuPin {
    fn drop(&mut self) {
        let _ = set_affinity(&self.former);
    }
}

fn affinity() -> Result<libc::cpu_set_t, SyscallError> {
    // SAFETY: as above: integers only.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set behind the pointer; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result == 0 { Ok(set) } else { Err(SyscallError::last("sched_getaffinity")) }
}

fn set_affinity(set: &libc::cpu_set_t) -> Result<(), SyscallError> {
    // SAFETY: the size is that of the set behind the pointer, which the kernel
    // only reads; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
    if result == 0 { Ok(()) } else { Err(SyscallError::last("sched_setaffinity")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_is_undone() {
        let before = affinity().unwrap();
        {
            let pin = CpuPin::new().unwrap();
            let now = affinity().unwrap();
            // SAFETY: both sets are initialised.
            unsafe {
                assert_eq!(libc::CPU_COUNT(&now), 1);
                assert!(libc::CPU_ISSET(pin.cpu(), &now));
            }
        }
        // SAFETY: as above.
        assert!(unsafe { libc::CPU_EQUAL(&before, &affinity().unwrap()) });
    }

    #[test]
    fn nothing_is_left_behind() {
        // Without privileges `new` fails after the directory was made: it must be gone too.
        let path = match PrivateBpfFs::new() {
            Ok(fs) => {
                assert!(fs.path().is_dir());
                fs.path().to_owned()
            }
            Err(_) => return,
        };
        assert!(!path.exists());
    }
}
