//! Compares or tables: what a packet would cost, before anything is emitted.
//!
//! Compares are for a policy of few rules whose sets stand in it. Their cost is that of
//! the packet that runs through all rules.

use super::ports::CHAIN;
use crate::address::{AddressLayout, side_sets};
use crate::cost::Work;
use crate::dispatch::cost;
use crate::dispatch::{Dispatch, Side};
use crate::ir::{PolicyIr, PortMatch, RuleData, SetKind, SideMatch};

/// Most tests of a policy whose sets are compared: beyond it tables are cheaper in any
/// case, and programs need not be estimated.
const MOST_TESTS: usize = 96;
/// Instructions of the look-up of a column, and of a source port beside it.
const COLUMN: u32 = 36;
/// Instructions that store the outcome, beyond what the floor does.
const OUTCOME: u32 = 7;
/// Hundredths of a branch that a packet takes unforeseen, for each rule and at most: what
/// programs that compare pay in the spread of `cargo bench --bench dispatch`.
const UNFORESEEN: u32 = 20;
const MOST_UNFORESEEN: u32 = 100;

/// Hundredths of a branch that goes either way, at each level of a tree.
const EITHER_WAY: u32 = 50;

/// What a packet does in a program that compares; `None` if a set's members come from
/// selectors, which change without a compile, or if there are too many tests.
pub(super) fn compares(ir: &PolicyIr) -> Option<Work> {
    let mut work = Work { insns: 3, ..Work::default() };
    let (mut rules, mut tests) = (0, 0);
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
        // Most packets miss at one of the first tests, of two instructions each.
        work.insns += 1 + of_rule as u32 * 3 / 2;
        rules += 1;
        for ports in sides.iter().flat_map(|side| [side.ports.as_ref(), Some(&side.not_ports)]).flatten() {
            work.branches += levels(ports.len()) * EITHER_WAY;
        }
    }
    work.branches += (rules * UNFORESEEN).min(MOST_UNFORESEEN);
    Some(work)
}

/// Tests that a packet passes if it matches the rule.
fn tests_of(ir: &PolicyIr, rule: &RuleData) -> usize {
    let m = &rule.matches;
    let single = [m.family.is_some(), m.protocol.is_some(), m.not_protocol.is_some()];
    let icmp = [m.icmp.is_some(), m.not_icmp.is_some()];
    let of_side = |side: &SideMatch| {
        let nets = side.in_sets.iter().chain(&side.not_in).map(|set| 1 + 2 * ir.sets[*set].nets.len());
        let ports = |ports: &Vec<PortMatch>| match levels(ports.len()) {
            0 => ports.len().div_ceil(2),
            levels => CHAIN / 2 + 2 * levels as usize,
        };
        nets.sum::<usize>() + side.ports.as_ref().map_or(0, ports) + ports(&side.not_ports)
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

/// Levels of the tree that is searched for a port among so many, down to where a chain
/// of compares is left.
fn levels(ports: usize) -> u32 {
    (ports / (CHAIN + 1)).checked_ilog2().map_or(0, |levels| levels + 1)
}
