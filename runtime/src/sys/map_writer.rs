//! Writes map entries whose sizes are known only at run time; aya's typed maps
//! need a Rust type per size.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::MapData;

use super::SyscallError;

/// `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd`.
const MAP_UPDATE: libc::c_long = 2;
/// `BPF_MAP_UPDATE_BATCH`, Linux 5.6.
const MAP_UPDATE_BATCH: libc::c_long = 26;

/// The part of `union bpf_attr` that the command reads.
#[repr(C)]
struct Update {
    map_fd: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that the batch command reads.
#[repr(C)]
struct UpdateBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes entries into one map.
pub struct MapWriter<'a> {
    map: &'a MapData,
    key_size: usize,
    value_size: usize,
}

impl<'a> MapWriter<'a> {
    /// For a map whose value is one per key, not one per CPU.
    ///
    /// # Errors
    /// The kernel does not describe the map, or it is per CPU.
    pub fn new(map: &'a MapData) -> Result<Self, SyscallError> {
        let failed = |kind: std::io::ErrorKind| SyscallError { call: "bpf_map_info", io_error: kind.into() };
        let info = map.info().map_err(|_| failed(std::io::ErrorKind::Other))?;
        // Per-CPU kinds: hash 5, array 6, LRU hash 10, storage 21. Their value is
        // an array, longer than `value_size`.
        let kind = info.map_type().map_err(|_| failed(std::io::ErrorKind::Unsupported))?;
        if matches!(kind as u32, 5 | 6 | 10 | 21) {
            return Err(failed(std::io::ErrorKind::Unsupported));
        }
        Ok(Self { map, key_size: info.key_size() as usize, value_size: info.value_size() as usize })
    }

    /// Stores a value.
    ///
    /// # Errors
    /// `EINVAL` if a length differs from the map's; else what the kernel says.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), SyscallError> {
        if (key.len(), value.len()) != (self.key_size, self.value_size) {
            let io_error = std::io::Error::from_raw_os_error(libc::EINVAL);
            return Err(SyscallError { call: "bpf_map_update_elem", io_error });
        }
        let attribute = Update {
            map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
            _padding: 0,
            key: key.as_ptr().addr() as u64,
            value: value.as_ptr().addr() as u64,
            flags: 0,
        };
        key.as_ptr().expose_provenance();
        value.as_ptr().expose_provenance();
        // SAFETY: the kernel reads `key_size` bytes at `key` and `value_size` at
        // `value`, which both slices were found to have (the sizes are the
        // kernel's own); it copies them and keeps no pointer. The attribute has no
        // undefined bytes.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, MAP_UPDATE, std::ptr::from_ref(&attribute), size_of::<Update>())
        };
        if result == 0 { Ok(()) } else { Err(SyscallError::last("bpf_map_update_elem")) }
    }

    /// Stores the values of an array from index 0 on, `value_size` bytes each, in
    /// one call.
    ///
    /// # Errors
    /// `EINVAL` if keys are not four bytes or the length is not a multiple of the
    /// value's; else what the kernel says (`E2BIG` beyond the array's end).
    pub fn put_dense(&self, values: &[u8]) -> Result<(), SyscallError> {
        let call = "bpf_map_update_batch";
        let invalid = || SyscallError { call, io_error: std::io::Error::from_raw_os_error(libc::EINVAL) };
        if values.is_empty() {
            return Ok(());
        }
        if self.key_size != size_of::<u32>() || !values.len().is_multiple_of(self.value_size) {
            return Err(invalid());
        }
        let count = u32::try_from(values.len() / self.value_size).map_err(|_| invalid())?;
        let keys: Vec<u32> = (0..count).collect();
        let mut attribute = UpdateBatch {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr().expose_provenance() as u64,
            values: values.as_ptr().expose_provenance() as u64,
            count,
            map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel reads `count` keys of four bytes and `count` values of
        // `value_size` bytes, which both buffers hold (the sizes are the kernel's
        // own); it copies them, keeps no pointer, and writes the number of stored
        // values to `count` in the attribute, which is not read again. The
        // attribute has no padding.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, MAP_UPDATE_BATCH, &raw mut attribute, size_of::<UpdateBatch>())
        };
        if result == 0 { Ok(()) } else { Err(SyscallError::last(call)) }
    }
}
