//! What a whole replay comes to.

use std::collections::HashMap;

use polc_compiler::ir::{DecisionData, Direction};
use polc_runtime::Attachment;
use polc_runtime::replay::{Count, DecidedBy, Tally};

use super::describe;
use super::plan::Plan;

/// The counts of a replay, ready for output.
pub struct Summary<'a> {
    /// Packets read.
    pub packets: u64,
    /// Totals.
    pub tally: &'a Tally,
    /// What decided (or logged) at least once: policy in the order of the
    /// programs, then everything else.
    pub rows: Vec<Row<'a>>,
}

/// What one thing decided, over all endpoints.
pub struct Row<'a> {
    /// In words.
    pub text: String,
    /// For programs.
    pub by: By<'a>,
    /// How often.
    pub count: Count,
}

/// What a row is about.
#[derive(Copy, Clone)]
pub enum By<'a> {
    /// A decision of policy, in the first program that has it.
    Policy(Attachment, Direction, &'a DecisionData),
    /// Anything else.
    Other(DecidedBy),
}

impl<'a> Summary<'a> {
    /// Sums up; equal decisions of several programs become one row.
    pub fn new(packets: u64, plan: &'a Plan, tally: &'a Tally) -> Self {
        let mut rows: Vec<Row<'a>> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for at in plan.attachments() {
            let image = plan.image(at);
            let direction = plan.place(at).direction;
            for (data, count) in image.decisions.iter().zip(tally.decisions(at.0)) {
                if *count == Count::default() {
                    continue;
                }
                let mut text = describe::decision(image, direction, data);
                if data.rule.is_none() {
                    text = format!("{text} ({})", direction.as_str());
                }
                let row = *known.entry(text.clone()).or_insert(rows.len());
                if row == rows.len() {
                    rows.push(Row { text, by: By::Policy(at, direction, data), count: Count::default() });
                }
                let sum = &mut rows[row].count;
                sum.allowed += count.allowed;
                sum.denied += count.denied;
                sum.logged += count.logged;
            }
        }
        for (decided_by, count) in tally.others() {
            rows.push(Row { text: describe::not_policy(decided_by), by: By::Other(decided_by), count });
        }
        Self { packets, tally, rows }
    }
}
