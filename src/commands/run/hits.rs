//! Counts what packets are hits of: `--profile-out`.
//!
//! An engine says what decided. Which Pass and Log rules matched on the way, the
//! policy itself says, by the reference evaluator: the same for every engine.
//! Packets of tracked connections never get to a rule and count for none.

use polc_compiler::ir::{Decision, credited};
use polc_compiler::passes::Profile;
use polc_compiler::profile::{Entry, HitProfile, criteria};
use polc_runtime::packet::parse::{Parsed, parse};
use polc_runtime::replay::{DecidedBy, Record};

use super::plan::Plan;

/// Hits so far, by program.
pub struct Hits(Vec<Profile>);

impl Hits {
    /// None so far.
    pub fn new(plan: &Plan) -> Self {
        Self(plan.programs.iter().map(|_| Profile::new()).collect())
    }

    /// Counts a packet's evaluation, if policy decided it.
    pub fn add(&mut self, plan: &Plan, frame: &[u8], record: &Record) {
        let (Some(at), DecidedBy::Policy(decision)) = (record.at, record.decided_by) else { return };
        let program = plan.place(at).program;
        let hits = &mut self.0[program];
        match parse(frame) {
            Parsed::Ip(headers) => {
                for decision in credited(&plan.programs[program].ir, &headers.flow) {
                    hits[decision] += 1;
                }
            }
            Parsed::NotIp | Parsed::Bad(_) => hits[Decision::from_u32(decision)] += 1,
        }
    }

    /// The hits, summed over programs.
    pub fn profile(&self, plan: &Plan) -> HitProfile {
        let mut profile = HitProfile::default();
        for (program, hits) in plan.programs.iter().zip(&self.0) {
            let ir = &program.ir;
            let criteria = criteria(ir);
            for (id, data) in &ir.decisions {
                profile.add(Entry::new(ir.direction, data, criteria[id]), hits[id]);
            }
        }
        profile
    }
}
