//! An array map's memory in this process: a store is one instruction, not a
//! system call, and programs see it at once.
//!
//! Why sound: the mapping lives as long as the value; every access is bounded by
//! the capacity. The kernel and programs access the same memory at the same time,
//! so each access here is an atomic one of the value's (or a word's) width, and
//! nothing refers to the memory as a slice.

use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::{Map, invalid};
use crate::sys::SyscallError;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// The mapped values of an array map with `BPF_F_MMAPABLE`.
#[derive(Debug)]
pub struct MappedArray {
    start: *mut u8,
    length: usize,
    value_size: usize,
    stride: usize,
    entries: u32,
}

// SAFETY: all access is atomic, and the mapping belongs to the process.
unsafe impl Send for MappedArray {}
// SAFETY: as above.
unsafe impl Sync for MappedArray {}

impl MappedArray {
    /// Maps the values for reading and writing.
    ///
    /// # Errors
    /// `EINVAL` for a map that is no mappable array; `EPERM` for a frozen one;
    /// else what the kernel says.
    pub fn new(map: &Map) -> Result<Self, SyscallError> {
        Self::of_values(map, map.definition().value_size)
    }

    /// As [`Self::new`], of a map whose only value is many values of `value_size` bytes
    /// (`polc_compiler::image::MapSpec::direct`), a multiple of eight, or whose own
    /// values are of that size.
    ///
    /// # Errors
    /// As there; `EINVAL` for a size that the map's is no multiple of.
    pub fn of_values(map: &Map, value_size: u32) -> Result<Self, SyscallError> {
        let definition = map.definition();
        if definition.kind != ARRAY || !map.is_mappable() {
            return Err(invalid("mmap"));
        }
        let stride = (definition.value_size as usize).next_multiple_of(8);
        let length = (stride * definition.max_entries as usize).next_multiple_of(page_size());
        // SAFETY: a new mapping at an address of the kernel's choice; the
        // descriptor is an array map's, whose memory is at least `length` long
        // (the kernel rounds it up to pages and refuses longer mappings).
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(SyscallError::last("mmap"));
        }
        let mut array = Self {
            start: start.cast(),
            length,
            value_size: definition.value_size as usize,
            stride,
            entries: definition.max_entries,
        };
        if value_size != definition.value_size {
            let divides = definition.max_entries == 1
                && value_size > 0
                && value_size.is_multiple_of(8)
                && definition.value_size.is_multiple_of(value_size);
            if !divides {
                return Err(invalid("mmap"));
            }
            array.value_size = value_size as usize;
            array.stride = value_size as usize;
            array.entries = definition.value_size / value_size;
        }
        Ok(array)
    }

    /// Stores a value. One of 1, 2, 4 or 8 bytes is stored whole: no reader sees
    /// a part of it. Longer ones are stored word by word, from the first to the
    /// last. Earlier stores are seen no later than this one.
    ///
    /// # Errors
    /// `EINVAL` for an index behind the end or a value of another size.
    pub fn store(&self, index: u32, value: &[u8]) -> Result<(), SyscallError> {
        if index >= self.entries || value.len() != self.value_size {
            return Err(invalid("store"));
        }
        let at = self.start.wrapping_add(index as usize * self.stride);
        match *value {
            // SAFETY: `at` lies in the mapping, since the index is
            // below the capacity; it is aligned to 8, as pages and strides are.
            [a] => unsafe { AtomicU8::from_ptr(at) }.store(a, Ordering::Release),
            [a, b] => {
                // SAFETY: as above.
                unsafe { AtomicU16::from_ptr(at.cast()) }
                    .store(u16::from_ne_bytes([a, b]), Ordering::Release);
            }
            [a, b, c, d] => {
                // SAFETY: as above.
                unsafe { AtomicU32::from_ptr(at.cast()) }
                    .store(u32::from_ne_bytes([a, b, c, d]), Ordering::Release);
            }
            _ => {
                let mut place = at;
                let mut words = value.chunks_exact(8);
                for word in &mut words {
                    let word = word.try_into().map_or(0, u64::from_ne_bytes);
                    // SAFETY: as above; the chunk ends within the value.
                    unsafe { AtomicU64::from_ptr(place.cast()) }.store(word, Ordering::Release);
                    place = place.wrapping_add(8);
                }
                for byte in words.remainder() {
                    // SAFETY: as above.
                    unsafe { AtomicU8::from_ptr(place) }.store(*byte, Ordering::Release);
                    place = place.wrapping_add(1);
                }
            }
        }
        Ok(())
    }

    /// Stores one aligned word of a value: no reader sees a part of it, and earlier
    /// stores are seen no later than this one.
    ///
    /// # Errors
    /// `EINVAL` for an index behind the end, or an offset that is not a multiple of
    /// 4 or not within a value.
    pub fn store_word(&self, index: u32, offset: u32, value: u32) -> Result<(), SyscallError> {
        let fits = index < self.entries
            && offset.is_multiple_of(4)
            && (offset as usize).checked_add(4).is_some_and(|end| end <= self.value_size);
        if !fits {
            return Err(invalid("store"));
        }
        let at = self.start.wrapping_add(index as usize * self.stride + offset as usize);
        // SAFETY: the word lies within a value of the mapping, aligned to 4.
        unsafe { AtomicU32::from_ptr(at.cast()) }.store(value, Ordering::Release);
        Ok(())
    }

    /// Fills the values from index 0 on with `values`, one behind the other; for
    /// a map that no program reads yet.
    ///
    /// # Errors
    /// `EINVAL` if there are more than entries, or a part of one.
    pub fn fill(&self, values: &[u8]) -> Result<(), SyscallError> {
        let whole = self.value_size > 0 && values.len().is_multiple_of(self.value_size);
        if !whole || values.len() / self.value_size > self.entries as usize {
            return Err(invalid("fill"));
        }
        for (index, value) in (0u32..).zip(values.chunks_exact(self.value_size)) {
            self.store(index, value)?;
        }
        Ok(())
    }

    /// The value at an index, byte by byte; `None` behind the end.
    pub fn load(&self, index: u32) -> Option<Vec<u8>> {
        if index >= self.entries {
            return None;
        }
        let at = self.start.wrapping_add(index as usize * self.stride);
        let byte = |i: usize| {
            // SAFETY: `i` is below the value's size, `index` below the capacity.
            unsafe { AtomicU8::from_ptr(at.wrapping_add(i)) }.load(Ordering::Acquire)
        };
        Some((0..self.value_size).map(byte).collect())
    }
}

impl Drop for MappedArray {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

pub(super) fn page_size() -> usize {
    // SAFETY: no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
