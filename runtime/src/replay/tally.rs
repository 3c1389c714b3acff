//! Counts of a whole replay: the summary.

use polc_compiler::abi;
use polc_compiler::ir::Verdict;

use super::{DecidedBy, Record};

/// Evaluations that one thing decided.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets that passed.
    pub allowed: u64,
    /// Packets that were dropped.
    pub denied: u64,
    /// Packets for which it was the last Log rule that matched.
    pub logged: u64,
}

/// Counts of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Evaluations at an endpoint.
    pub evaluations: u64,
    /// Evaluations that let the packet pass.
    pub allowed: u64,
    /// Evaluations that dropped the packet.
    pub denied: u64,
    /// Matches of Log rules.
    pub logged: u64,
    /// Packets of no endpoint (of those that are looked at): not evaluated.
    pub other: u64,
    /// Packets whose addresses cannot be read: dropped, but at no endpoint.
    pub unreadable: u64,
    /// Evaluations that a missing program or table decided.
    pub faults: u64,
    /// By attachment, then by decision of its image.
    decisions: Vec<Vec<Count>>,
    /// By reason, for what policy did not decide.
    reasons: Vec<Count>,
}

impl Tally {
    /// Zero counts for attachments whose images have this many decisions each.
    pub fn new(decisions: impl IntoIterator<Item = usize>) -> Self {
        Self {
            evaluations: 0,
            allowed: 0,
            denied: 0,
            logged: 0,
            other: 0,
            unreadable: 0,
            faults: 0,
            decisions: decisions.into_iter().map(|n| vec![Count::default(); n]).collect(),
            reasons: vec![Count::default(); abi::COUNTER_REASONS as usize],
        }
    }

    /// Counts a record.
    #[inline]
    pub fn add(&mut self, record: &Record) {
        match (record.at, record.decided_by) {
            (None, DecidedBy::NotAnEndpoint(_)) => self.other += 1,
            (None, _) => self.unreadable += 1,
            (Some(at), decided_by) => {
                self.evaluations += 1;
                match record.verdict {
                    Verdict::Allow => self.allowed += 1,
                    Verdict::Deny => self.denied += 1,
                }
                self.logged += u64::from(record.logged);
                self.faults += u64::from(matches!(decided_by, DecidedBy::Fault(_)));
                if let Some(count) = self.slot(at.0, decided_by) {
                    count.count(record.verdict);
                }
                if let Some(count) = record.log_decision.and_then(|n| self.decision(at.0, n)) {
                    count.logged += 1;
                }
            }
        }
    }

    /// Counts of one attachment by decision.
    pub fn decisions(&self, attachment: u32) -> &[Count] {
        self.decisions.get(attachment as usize).map_or(&[], Vec::as_slice)
    }

    /// Counts of evaluations that policy did not decide, where any.
    pub fn others(&self) -> impl Iterator<Item = (DecidedBy, Count)> {
        let counts = self.reasons.iter().enumerate();
        counts.filter(|(_, c)| **c != Count::default()).map(|(n, c)| (DecidedBy::reason_alone(n as u32), *c))
    }

    fn slot(&mut self, attachment: u32, decided_by: DecidedBy) -> Option<&mut Count> {
        let reason = match decided_by {
            DecidedBy::Policy(decision) => return self.decision(attachment, decision),
            DecidedBy::Conntrack => abi::REASON_CONNTRACK,
            DecidedBy::Failsafe(n)
            | DecidedBy::Malformed(n)
            | DecidedBy::NotAnEndpoint(n)
            | DecidedBy::Fault(n) => n.min(abi::COUNTER_REASONS - 1),
        };
        self.reasons.get_mut(reason as usize)
    }

    fn decision(&mut self, attachment: u32, decision: u32) -> Option<&mut Count> {
        self.decisions.get_mut(attachment as usize)?.get_mut(decision as usize)
    }
}

impl Count {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Allow => self.allowed += 1,
            Verdict::Deny => self.denied += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attachment;

    #[test]
    fn counts_add_up() {
        let of = |at, verdict, decided_by, log_decision: Option<u32>| Record {
            at: Some(Attachment(at)),
            verdict,
            decided_by,
            logged: u32::from(log_decision.is_some()),
            log_decision,
        };
        let mut tally = Tally::new([1, 3]);
        for record in [
            of(1, Verdict::Allow, DecidedBy::Policy(2), None),
            of(1, Verdict::Deny, DecidedBy::Policy(0), Some(2)),
            of(0, Verdict::Allow, DecidedBy::Conntrack, None),
            of(0, Verdict::Deny, DecidedBy::Fault(9999), None),
            of(0, Verdict::Deny, DecidedBy::Policy(u32::MAX), None),
            Record::not_an_endpoint(abi::REASON_NOT_IP),
            Record::unreadable(abi::REASON_TOO_SHORT),
        ] {
            tally.add(&record);
        }
        assert_eq!((tally.evaluations, tally.allowed, tally.denied), (5, 2, 3));
        assert_eq!((tally.logged, tally.other, tally.unreadable, tally.faults), (1, 1, 1, 1));
        let count = |allowed, denied, logged| Count { allowed, denied, logged };
        assert_eq!(tally.decisions(1), [count(0, 1, 0), count(0, 0, 0), count(1, 0, 1)]);
        assert_eq!(tally.decisions(7), []);
        let others: Vec<_> = tally.others().collect();
        assert_eq!(others, [(DecidedBy::Conntrack, count(1, 0, 0)), (DecidedBy::Fault(15), count(0, 1, 0))]);
    }
}
