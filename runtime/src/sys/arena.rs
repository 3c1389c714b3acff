//! One zeroed memory region below 4 GiB, shared between Rust and eBPF programs.
//!
//! `__sk_buff` holds packet pointers in 32 bits, so whatever a program reaches
//! through it must lie below 4 GiB. Programs hold raw addresses into the region
//! and write through them, so no reference into it ever leaves this module: all
//! access copies bytes in or out.
//!
//! Cost: address space is reserved at once, memory is committed by first touch.

use std::ptr::NonNull;

use super::SyscallError;

/// The region could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The kernel has no such region below 4 GiB.
    #[error("no {bytes} contiguous bytes of address space below 4 GiB")]
    NoSpace {
        /// Bytes that were asked for.
        bytes: usize,
        /// The kernel's answer to the last attempt.
        #[source]
        source: SyscallError,
    },
}

/// A private, zeroed memory region below 4 GiB; unmapped on drop.
#[derive(Debug)]
pub struct LowArena {
    base: NonNull<u8>,
    len: usize,
}

/// Lowest address that is tried: below it lie the null page and, on most
/// systems, `vm.mmap_min_addr`.
const LOWEST: usize = 0x1_0000;
/// Steps in which the address space below 4 GiB is searched.
const STEP: usize = 64 << 20;
const TOP: usize = 1 << 32;

impl LowArena {
    /// Reserves at least `bytes` bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// [`ArenaError::NoSpace`] if no gap below 4 GiB is large enough.
    pub fn new(bytes: usize) -> Result<Self, ArenaError> {
        let len = bytes.max(1).next_multiple_of(4096);
        let mut last = SyscallError { call: "mmap", io_error: std::io::ErrorKind::OutOfMemory.into() };
        // Downwards from the top: a position-dependent executable and its heap sit low.
        let mut at = (TOP.saturating_sub(len)) / STEP * STEP;
        while at >= LOWEST && len < TOP {
            match map_at(at, len) {
                Ok(base) => return Ok(Self { base, len }),
                Err(e) => last = e,
            }
            at = at.saturating_sub(STEP);
        }
        Err(ArenaError::NoSpace { bytes, source: last })
    }

    /// Address of the first byte; with [`Self::size`] it ends at or below 4 GiB.
    pub fn base(&self) -> u32 {
        self.base.as_ptr().addr() as u32
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.len
    }

    /// The pointer to `len` bytes at `address`, if they all lie in the region.
    fn pointer(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(address).ok()?.checked_sub(self.base.as_ptr().addr())?;
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset + len` was found not to exceed the mapping's length.
        Some(unsafe { self.base.add(offset) })
    }

    /// Whether `len` bytes at `address` lie in the region.
    pub fn contains(&self, address: u64, len: usize) -> bool {
        self.pointer(address, len).is_some()
    }

    /// Copies `bytes` to `address`; `false` (and nothing copied) if they do not
    /// all lie in the region.
    pub fn write(&self, address: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.pointer(address, bytes.len()) else { return false };
        // SAFETY: `to` is valid for `bytes.len()` bytes of a mapping that only
        // this type and the programs on this thread reach (it is neither `Send`
        // nor `Sync`); `bytes` cannot overlap it, as no reference into it exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    /// Copies bytes at `address` to `out`; `false` (and nothing copied) if they
    /// do not all lie in the region.
    pub fn read(&self, address: u64, out: &mut [u8]) -> bool {
        let Some(from) = self.pointer(address, out.len()) else { return false };
        // SAFETY: as for `write`, with the roles exchanged; the mapping is zeroed
        // by the kernel, so every byte is initialised.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), out.as_mut_ptr(), out.len()) };
        true
    }

    /// Reads a native-endian `u32`; `None` outside the region.
    pub fn read_u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_ne_bytes(bytes))
    }

    /// Writes a native-endian `u32`; `false` outside the region.
    pub fn write_u32(&self, address: u64, value: u32) -> bool {
        self.write(address, &value.to_ne_bytes())
    }

    /// Zeroes whole pages and gives their memory back. `address` and `len` must
    /// be multiples of the page size; `false` if not, or outside the region.
    pub fn clear_pages(&self, address: u64, len: usize) -> bool {
        if !address.is_multiple_of(4096) || !len.is_multiple_of(4096) {
            return false;
        }
        let Some(at) = self.pointer(address, len) else { return false };
        if len == 0 {
            return true;
        }
        // SAFETY: whole pages of this private anonymous mapping, which read as
        // zero afterwards; no reference into them exists.
        let result = unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_DONTNEED) };
        result == 0
    }

    /// Bytes of the region as a pointer that rbpf may hand to compiled code.
    pub(super) fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for LowArena {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map_at` with this length and is
        // unmapped once; no reference into it exists, and whoever runs programs
        // borrows the arena for the run.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

fn map_at(address: usize, len: usize) -> Result<NonNull<u8>, SyscallError> {
    let hint: *mut libc::c_void = std::ptr::without_provenance_mut(address);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping that exists, so no
    // memory that Rust knows of changes; a kernel that ignores the flag (before
    // 4.17) takes the address as a hint, and the result is checked.
    let got = unsafe { libc::mmap(hint, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED {
        return Err(SyscallError::last("mmap"));
    }
    match NonNull::new(got.cast::<u8>()) {
        Some(base) if base.as_ptr().addr().saturating_add(len) <= TOP => {
            // Programs reach the region by address alone.
            base.as_ptr().expose_provenance();
            Ok(base)
        }
        _ => {
            // SAFETY: just mapped, and known to nobody.
            unsafe { libc::munmap(got, len) };
            Err(SyscallError { call: "mmap", io_error: std::io::ErrorKind::AddrNotAvailable.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_below_four_gib_and_is_zero() {
        let arena = LowArena::new(3 << 20).unwrap();
        assert!(arena.base() as usize + arena.size() <= 1 << 32);
        assert_eq!(arena.read_u32(u64::from(arena.base()) + 1000), Some(0));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for bytes in [TOP, TOP * 2, usize::MAX / 2] {
            assert!(matches!(LowArena::new(bytes), Err(ArenaError::NoSpace { .. })), "{bytes}");
        }
    }

    #[test]
    fn access_outside_is_refused_byte_by_byte() {
        let arena = LowArena::new(4096).unwrap();
        let base = u64::from(arena.base());
        let cases = [
            (base, 4, true),
            (base + 4092, 4, true),
            (base + 4093, 4, false),
            (base - 1, 4, false),
            (base + 4096, 0, true),
            (base + 4097, 0, false),
            (u64::MAX - 2, 4, false),
            (0, 1, false),
            ((1 << 32) + base, 4, false),
        ];
        for (address, len, inside) in cases {
            assert_eq!(arena.contains(address, len), inside, "{address:#x} {len}");
            assert_eq!(arena.write(address, &vec![1; len]), inside, "{address:#x} {len}");
            assert_eq!(arena.read(address, &mut vec![0; len]), inside, "{address:#x} {len}");
        }
    }

    #[test]
    fn cleared_pages_read_as_zero() {
        let arena = LowArena::new(8192).unwrap();
        let base = u64::from(arena.base());
        assert!(arena.write(base + 4096, &[7; 4096]) && arena.write(base, &[7; 8]));
        assert!(arena.clear_pages(base + 4096, 4096));
        assert_eq!(arena.read_u32(base + 4096), Some(0));
        assert_eq!(arena.read_u32(base), Some(0x0707_0707), "the page before is untouched");
        assert!(!arena.clear_pages(base + 8, 4096), "not a page boundary");
    }
}
