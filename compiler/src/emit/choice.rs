//! Compares or tables: what a packet would cost, before anything is emitted.
//!
//! Compares are for a policy of few rules whose sets stand in it. Their cost is that of
//! the packet that runs through all rules.

use crate::address::{AddressLayout, side_sets};
use crate::dispatch::cost::{self, Work};
use crate::dispatch::{Dispatch, Side};
use crate::ir::{PolicyIr, RuleData, SetKind, SideMatch};

/// Most tests of a policy whose sets are compared: beyond it tables are cheaper in any
/// case, and programs need not be estimated.
const MOST_TESTS: usize = 48;
/// Instructions of the look-up of a column, and of a source port beside it.
const COLUMN: u32 = 36;
/// Instructions that store the outcome, beyond what the floor does.
const OUTCOME: u32 = 7;
/// Hundredths of a branch that a packet takes unforeseen, for each test.
const UNFORESEEN: u32 = 12;

/// What a packet does in a program that compares; `None` if a set's members come from
/// selectors, which change without a compile, or if there are too many tests.
pub(super) fn compares(ir: &PolicyIr) -> Option<Work> {
    let mut work = Work { insns: 3, ..Work::default() };
    let mut tests = 0;
    for rule in ir.order.iter().flat_map(|chain| &ir.chains[*chain].rules) {
        let rule = &ir.rules[*rule];
        let sides = [&rule.matches.src, &rule.matches.dst];
        if sides.iter().flat_map(|side| side_sets(side)).any(|set| ir.sets[set].kind != SetKind::Nets) {
            return None;
        }
        let of_rule = tests_of(ir, rule);
        tests += of_rule;
        if tests > MOST_TESTS {
            return None;
        }
        // What misses does so at the first test as often as at any other.
        work.insns += 1 + of_rule as u32 * 3 / 2;
        work.branches += of_rule as u32 * UNFORESEEN;
    }
    Some(work)
}

/// Tests that a packet passes if it matches the rule.
fn tests_of(ir: &PolicyIr, rule: &RuleData) -> usize {
    let m = &rule.matches;
    let single = [m.family.is_some(), m.protocol.is_some(), m.not_protocol.is_some()];
    let icmp = [m.icmp.is_some(), m.not_icmp.is_some()];
    let of_side = |side: &SideMatch| {
        let nets = side.in_sets.iter().chain(&side.not_in).map(|set| 1 + 2 * ir.sets[*set].nets.len());
        nets.sum::<usize>() + side.ports.as_ref().map_or(0, Vec::len) + side.not_ports.len()
    };
    single.iter().filter(|is| **is).count()
        + icmp.iter().filter(|is| **is).count() * 2
        + of_side(&m.src)
        + of_side(&m.dst)
}

/// What a packet does in a program that looks into tables.
pub(super) fn tables(dispatch: &Dispatch, addresses: &AddressLayout) -> Work {
    let insns = COLUMN * if dispatch.ports.width > 0 { 2 } else { 1 } + OUTCOME;
    let mut work = Work { insns, reads: vec![dispatch.ports.bytes()], branches: 0 };
    for _ in [Side::Src, Side::Dst].into_iter().filter(|side| dispatch.uses(*side)) {
        work = work.and(addresses.work());
    }
    work.and(cost::form(&dispatch.tables, &dispatch.outcomes))
}
