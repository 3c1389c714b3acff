//! Hands out runs of whole pages of the arena: one per set of maps that come and
//! go together. First fit; neighbours merge when they are freed.

/// Size of a page.
const PAGE: u64 = 4096;

/// Some pages of the arena.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub at: u64,
    pub len: u64,
}

/// Free pages, by address.
#[derive(Debug)]
pub(super) struct Pages {
    free: Vec<Region>,
}

impl Pages {
    /// All of `[at, at + len)` is free; both must be multiples of the page size.
    pub fn new(at: u64, len: u64) -> Self {
        Self { free: vec![Region { at, len }] }
    }

    /// A run of at least `bytes` bytes. `None` if no gap is large enough.
    pub fn take(&mut self, bytes: u64) -> Option<Region> {
        let len = pages(bytes);
        let gap = self.free.iter_mut().find(|gap| gap.len >= len)?;
        let taken = Region { at: gap.at, len };
        gap.at += len;
        gap.len -= len;
        self.free.retain(|gap| gap.len > 0);
        Some(taken)
    }

    /// Takes back what [`Self::take`] gave.
    pub fn give(&mut self, region: Region) {
        if region.len == 0 {
            return;
        }
        let at = self.free.partition_point(|gap| gap.at < region.at);
        self.free.insert(at, region);
        self.free.dedup_by(|right, left| {
            let touching = left.at + left.len == right.at;
            if touching {
                left.len += right.len;
            }
            touching
        });
    }

    /// Length of the largest gap.
    pub fn largest(&self) -> u64 {
        self.free.iter().map(|gap| gap.len).max().unwrap_or(0)
    }
}

/// Bytes rounded up to whole pages, at least one.
pub(super) fn pages(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let mut free = Pages::new(PAGE, 3 * PAGE);
            let taken: Vec<Region> = (0..3).map(|_| free.take(10).unwrap()).collect();
            assert_eq!(free.take(1), None);
            assert_eq!(free.largest(), 0);
            order.iter().for_each(|i| free.give(taken[*i]));
            assert_eq!(free.take(3 * PAGE), Some(Region { at: PAGE, len: 3 * PAGE }), "{order:?}");
        }
    }
}
