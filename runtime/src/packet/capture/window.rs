//! A sliding window over a stream: the bytes that are being looked at, in one
//! piece, without a copy per packet.

use std::io::{self, Read};

/// Bytes read at a time. Large enough that reading costs nothing per packet,
/// small enough to stay in the second-level cache.
const CHUNK: usize = 256 * 1024;

/// A stream, buffered.
pub(super) struct Window<R> {
    reader: R,
    buf: Vec<u8>,
    /// Next unread byte.
    start: usize,
    /// One past the last valid byte.
    end: usize,
    /// Offset of `start` in the stream.
    offset: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buf: vec![0; CHUNK], start: 0, end: 0, offset: 0 }
    }

    /// Offset of the next unread byte in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Unread bytes at hand.
    pub(super) fn available(&self) -> usize {
        self.end - self.start
    }

    /// Makes at least `n` unread bytes available; false if the stream ends first.
    #[inline]
    pub(super) fn fill(&mut self, n: usize) -> io::Result<bool> {
        if self.available() >= n { Ok(true) } else { self.read_more(n) }
    }

    #[cold]
    fn read_more(&mut self, n: usize) -> io::Result<bool> {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buf.len() < n {
            self.buf.resize(n.next_multiple_of(CHUNK), 0);
        }
        while self.end < n {
            match self.reader.read(&mut self.buf[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(got) => self.end += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// The unread bytes at hand.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Takes `n` bytes, which must be available, and returns where they lie.
    /// They stay there until the next call of `fill` or `skip`.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> std::ops::Range<usize> {
        let taken = self.start..self.start + n;
        debug_assert!(taken.end <= self.end);
        self.start = taken.end;
        self.offset += n as u64;
        taken
    }

    /// Bytes that `take` returned the place of.
    #[inline]
    pub(super) fn taken(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buf[range]
    }

    /// Skips `n` bytes without holding them; false if the stream ends first.
    pub(super) fn skip(&mut self, mut n: u64) -> io::Result<bool> {
        loop {
            let now = n.min(self.available() as u64) as usize;
            self.take(now);
            n -= now as u64;
            if n == 0 {
                return Ok(true);
            }
            if !self.fill(1)? {
                return Ok(false);
            }
        }
    }
}
