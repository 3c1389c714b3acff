//! A ring buffer map, read.
//!
//! ```text
//! page 0      consumer position (u64), ours to write
//! page 1      producer position (u64), the kernel's
//! then        the data, mapped twice in a row: no record is cut at the end
//! record      length u32 (bit 31: being written, bit 30: discarded), page u32, data, filled up to 8
//! ```
//!
//! Why sound: the mappings live as long as the value; positions are read and
//! written with atomics, a record only behind the producer's position and without
//! the busy bit, when the kernel no longer writes to it; its length is held
//! against the mapping. Records are copied out byte by byte.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Map, invalid};
use crate::sys::SyscallError;

/// `BPF_MAP_TYPE_RINGBUF`.
const RING: u32 = 27;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Bytes of a record's head.
const HEAD: u64 = 8;

/// A mapping that is undone on drop.
#[derive(Debug)]
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    fn new(map: &Map, length: usize, writable: bool, offset: usize) -> Result<Self, SyscallError> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(SyscallError::last("mmap"));
        }
        Ok(Self { start: start.cast(), length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// The reading end of a ring buffer. One process may have it at a time: whoever
/// reads a record takes it from all others.
#[derive(Debug)]
pub struct RingBuffer {
    map: Map,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    mask: u64,
}

impl RingBuffer {
    /// Maps it.
    ///
    /// # Errors
    /// `EINVAL` for another kind of map; else what the kernel says.
    pub fn new(map: Map) -> Result<Self, SyscallError> {
        let size = map.definition().max_entries as usize;
        if map.definition().kind != RING || !size.is_power_of_two() {
            return Err(invalid("mmap"));
        }
        let page = super::mapped::page_size();
        let consumer = Mapping::new(&map, page, true, 0)?;
        let producer = Mapping::new(&map, page + 2 * size, false, page)?;
        Ok(Self { map, consumer, producer, page, mask: size as u64 - 1 })
    }

    /// Waits up to `wait` for records; gives each that is there to `each`. Returns
    /// how many there were.
    ///
    /// # Errors
    /// What the kernel says about waiting; an interrupted wait gives none.
    pub fn read(&mut self, wait: Duration, mut each: impl FnMut(&[u8])) -> Result<u32, SyscallError> {
        let mut poll = libc::pollfd { fd: self.map.raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one writable pollfd.
        if unsafe { libc::poll(&mut poll, 1, wait) } < 0 {
            let error = SyscallError::last("poll");
            let interrupted = error.io_error.kind() == std::io::ErrorKind::Interrupted;
            return if interrupted { Ok(0) } else { Err(error) };
        }
        let mut count = 0;
        while let Some(record) = self.next() {
            if let Some(record) = record {
                each(&record);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Takes one record; `Some(None)` for a discarded one, `None` if no whole one
    /// is there.
    fn next(&mut self) -> Option<Option<Vec<u8>>> {
        // SAFETY: the first word of a mapped page; nobody accesses it but
        // with atomics.
        let consumer = unsafe { AtomicU64::from_ptr(self.consumer.start.cast()) };
        // SAFETY: as above; the page is only read.
        let producer = unsafe { AtomicU64::from_ptr(self.producer.start.cast()) };
        let at = consumer.load(Ordering::Relaxed);
        if at >= producer.load(Ordering::Acquire) {
            return None;
        }
        let record = self.producer.start.wrapping_add(self.page + (at & self.mask) as usize);
        // SAFETY: positions are multiples of 8 and masked, so the word lies in the
        // data, aligned.
        let length = unsafe { AtomicU32::from_ptr(record.cast()) }.load(Ordering::Acquire);
        if length & BUSY != 0 {
            return None;
        }
        let bytes = u64::from(length & !DISCARDED);
        let found = (length & DISCARDED == 0 && bytes + HEAD <= self.mask + 1).then(|| {
            let byte = |i: u64| {
                let place = record.wrapping_add((HEAD + i) as usize);
                // SAFETY: the record starts within the first copy of the data and
                // is no longer than one copy.
                unsafe { AtomicU8::from_ptr(place) }.load(Ordering::Relaxed)
            };
            (0..bytes).map(byte).collect()
        });
        consumer.store(at + (bytes + HEAD).next_multiple_of(8), Ordering::Release);
        Some(found)
    }
}
