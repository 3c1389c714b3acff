//! When connections that are over are swept from the table.
//!
//! Nothing here runs by itself: a loop asks at every turn whether a sweep is due and
//! calls [`Agent::sweep`](super::Agent::sweep) then, and may sleep for
//! [`Sweeps::wait`]. Connections that are over count as none whether they were swept
//! or not; sweeping gives their memory back, so that the table makes room by itself
//! (which can cost a live connection its place) only when it is full of live ones.

use std::time::{Duration, Instant};

/// How often the table is swept unless something else is asked for; Felix' interval.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Sweeps in equal steps of time.
#[derive(Clone, Debug)]
pub struct Sweeps {
    every: Duration,
    last: Instant,
}

impl Sweeps {
    /// The first sweep is due one interval from `now`.
    pub fn new(every: Duration, now: Instant) -> Self {
        Self { every, last: now }
    }

    /// Whether a sweep is due; if it is, the next one is due an interval from `now`.
    /// Those that a loop was too late for are not made up for.
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.wait(now).is_zero();
        if due {
            self.last = now;
        }
        due
    }

    /// How long until a sweep is due; zero if one is.
    pub fn wait(&self, now: Instant) -> Duration {
        self.every.saturating_sub(now.saturating_duration_since(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_due_once_in_each_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sweeps = Sweeps::new(SWEEP_EVERY, start);
        let due: Vec<u64> = (0..=45).filter(|second| sweeps.due(at(*second))).collect();
        assert_eq!(due, [10, 20, 30, 40]);
        assert_eq!(sweeps.wait(at(45)), Duration::from_secs(5));
        // A loop that was held up sweeps once, not once for each interval that is over.
        assert_eq!(sweeps.wait(at(99)), Duration::ZERO);
        assert!(sweeps.due(at(99)) && !sweeps.due(at(99)) && !sweeps.due(at(108)) && sweeps.due(at(109)));
        assert!(!sweeps.due(start), "a clock that goes back makes nothing due");
    }
}
