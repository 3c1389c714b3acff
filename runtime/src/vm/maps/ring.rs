//! A ring buffer: records that programs leave and Rust takes.
//!
//! Records lie outside the arena, where programs cannot reach them again. As in
//! the kernel, each takes eight bytes more than its data, rounded up to eight.

use super::MapError;

pub(in crate::vm) struct RingBuf {
    capacity: u64,
    used: u64,
    records: Vec<Vec<u8>>,
}

impl RingBuf {
    /// An empty ring of this many bytes.
    pub fn new(capacity: u32) -> Self {
        Self { capacity: capacity.into(), used: 0, records: Vec::new() }
    }

    /// Leaves a record; [`MapError::Again`] if there is no room.
    pub fn push(&mut self, record: &[u8]) -> Result<(), MapError> {
        let takes = (record.len() as u64 + 8).next_multiple_of(8);
        if self.used + takes > self.capacity {
            return Err(MapError::Again);
        }
        self.used += takes;
        self.records.push(record.to_vec());
        Ok(())
    }

    /// Takes all records, oldest first.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        self.used = 0;
        std::mem::take(&mut self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_takes_no_more_until_it_is_read() {
        let mut ring = RingBuf::new(64);
        for record in [&b"first"[..], b"second", b"third", b"fourth"] {
            assert_eq!(ring.push(record), Ok(()));
        }
        assert_eq!(ring.push(b"fifth"), Err(MapError::Again));
        assert_eq!(ring.take(), [&b"first"[..], b"second", b"third", b"fourth"]);
        assert_eq!(ring.push(b"fifth"), Ok(()));
        assert_eq!(ring.take().len(), 1);
    }
}
