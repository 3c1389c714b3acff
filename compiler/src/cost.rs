//! What a packet costs in a program, as estimated before it is emitted.
//!
//! A *hot* packet finds everything in the first cache: it costs its instructions. The
//! *spread* of many packets pays for what they read as well, by the size of each table,
//! and for branches that no predictor can know. Constants are what `cargo bench --bench
//! dispatch -- --primitives` printed on an idle machine; they only rank forms, so that
//! another machine's would have to differ much to change a choice.

/// Tenths of a nanosecond for ten instructions.
const TEN_INSNS: u32 = 7;
/// Tenths of a nanosecond for a branch that goes as nobody foresaw.
const BRANCH: u32 = 53;
/// Tenths of a nanosecond to read from a table of up to so many bytes, beyond what an
/// instruction takes.
const READ: [(u64, u32); 7] = [
    (4 << 10, 0),
    (32 << 10, 14),
    (256 << 10, 29),
    (1 << 20, 59),
    (4 << 20, 106),
    (16 << 20, 158),
    (u64::MAX, 225),
];

/// Tenths of a nanosecond per packet, over the floor of a program that only looks the
/// packet state up and ends.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The same packet again and again.
    pub hot: u32,
    /// Many packets in turn.
    pub spread: u32,
}

impl Cost {
    /// What forms are compared by.
    pub fn total(self) -> u32 {
        self.hot + self.spread
    }
}

/// What a packet does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Instructions that run.
    pub insns: u32,
    /// Bytes of each table that is read.
    pub reads: Vec<u64>,
    /// Branches that go either way, in hundredths.
    pub branches: u32,
}

impl Work {
    /// What that costs.
    pub fn cost(&self) -> Cost {
        let hot = self.insns * TEN_INSNS / 10;
        let read = |bytes: &u64| READ.iter().find(|(most, _)| bytes <= most).map_or(0, |(_, cost)| *cost);
        let spread = hot + self.reads.iter().map(read).sum::<u32>() + self.branches * BRANCH / 100;
        Cost { hot, spread }
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.insns += other.insns;
        self.reads.extend(other.reads);
        self.branches += other.branches;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_tables_cost_more_in_the_spread_only() {
        let work = |bytes| Work { insns: 20, reads: vec![bytes], branches: 0 };
        let costs: Vec<Cost> =
            [1 << 10, 1 << 19, 1 << 23, 1 << 28].into_iter().map(|b| work(b).cost()).collect();
        assert!(costs.windows(2).all(|w| w[0].hot == w[1].hot && w[0].spread < w[1].spread), "{costs:?}");
        let branchy = Work { branches: 100, ..work(1) };
        assert_eq!(branchy.cost().spread - branchy.cost().hot, BRANCH);
    }
}
