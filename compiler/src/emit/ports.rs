//! Tests of port criteria.
//!
//! Few ranges are compared one after the other, many in a balanced tree. Ports
//! are 0 in packets without ports, so that only criteria that admit port 0 look
//! at the flag.

use super::builder::Builder;
use super::rule::Side;
use super::sets::SetTests;
use crate::abi::{FLAG_PORTS, STATE_FLAGS, STATE_PROTOCOL};
use crate::bpf::{AsmError, Cond, Label};
use crate::ir::{AddrSet, PortMatch};

/// Up to this many ranges a chain of compares is at least as fast as a tree.
pub(super) const CHAIN: usize = 12;

/// Goes to `yes` if one alternative holds, else to `no`. `protocol` is what the
/// rule has tested already.
pub(super) fn test(
    b: &mut Builder,
    side: Side,
    alternatives: &[PortMatch],
    protocol: Option<u8>,
    sets: SetTests<'_>,
    yes: Label,
    no: Label,
) -> Result<(), AsmError> {
    let ranges = merged(alternatives);
    let named = named(alternatives);
    if ranges.is_empty() && named.is_empty() {
        b.jump(no);
        return Ok(());
    }
    if alternatives.iter().any(admits_zero) {
        b.load_field(STATE_FLAGS);
        b.mask(FLAG_PORTS);
        b.jump_if(Cond::Eq, 0, no);
        b.count_branches(1);
    }
    let after_ranges = b.label();
    if !ranges.is_empty() {
        b.load_field(side.port_field());
        search(b, &ranges, yes, if named.is_empty() { no } else { after_ranges })?;
    }
    b.bind(after_ranges)?;
    let last = named.len().saturating_sub(1);
    for (i, (p, port, set)) in named.into_iter().enumerate() {
        let next = if i == last { no } else { b.label() };
        if protocol != Some(p) {
            b.load_field(STATE_PROTOCOL);
            b.jump_if(Cond::Ne, p.into(), next);
        }
        b.load_field(side.port_field());
        b.jump_if(Cond::Ne, port.into(), next);
        b.count_branches(2);
        sets.test(b, side, None, &[set], &[], next)?;
        b.jump(yes);
        if i < last {
            b.bind(next)?;
        }
    }
    Ok(())
}

/// Whether a packet without ports could be taken for a match.
fn admits_zero(alternative: &PortMatch) -> bool {
    match *alternative {
        PortMatch::Range(first, _) => first == 0,
        PortMatch::Named { port, .. } => port == 0,
    }
}

/// The ranges, ascending, without overlap; adjacent ones joined.
fn merged(alternatives: &[PortMatch]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = alternatives
        .iter()
        .filter_map(|a| match *a {
            PortMatch::Range(first, last) if first <= last => Some((first, last)),
            _ => None,
        })
        .collect();
    ranges.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

fn named(alternatives: &[PortMatch]) -> Vec<(u8, u16, AddrSet)> {
    let mut named: Vec<_> = alternatives
        .iter()
        .filter_map(|a| match *a {
            PortMatch::Named { protocol, port, set } => Some((protocol, port, set)),
            PortMatch::Range(..) => None,
        })
        .collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// Finds the scratch register's value among ascending ranges.
///
/// What waits while the verifier follows the first way out: in a chain the next
/// range, and one way out of each; in a tree two branches on each level as well.
fn search(b: &mut Builder, ranges: &[(u16, u16)], yes: Label, no: Label) -> Result<(), AsmError> {
    let chain = ranges.len().min(CHAIN) as u32;
    let levels = (ranges.len() / CHAIN).checked_ilog2().map_or(0, |levels| levels + 1);
    b.count_branches(1 + chain + 2 * levels);
    tree(b, ranges, yes, no)
}

fn tree(b: &mut Builder, ranges: &[(u16, u16)], yes: Label, no: Label) -> Result<(), AsmError> {
    let (below, rest) = ranges.split_at(ranges.len() / 2);
    let Some(((first, last), above)) = rest.split_first().filter(|_| ranges.len() > CHAIN) else {
        return chain(b, ranges, yes, no);
    };
    let (left, right) = (b.label(), b.label());
    b.jump_if(Cond::Lt, (*first).into(), left);
    b.jump_if(Cond::Gt, (*last).into(), right);
    b.jump(yes);
    b.bind(right)?;
    tree(b, above, yes, no)?;
    b.bind(left)?;
    tree(b, below, yes, no)
}

fn chain(b: &mut Builder, ranges: &[(u16, u16)], yes: Label, no: Label) -> Result<(), AsmError> {
    let Some((last, most)) = ranges.split_last() else {
        b.jump(no);
        return Ok(());
    };
    for (first, last) in most {
        if first == last {
            // Not taken but for the port itself: one instruction for every other packet.
            b.jump_if(Cond::Eq, (*first).into(), yes);
            continue;
        }
        let next = b.label();
        one(b, (*first, *last), yes, next, no);
        b.bind(next)?;
    }
    one(b, *last, yes, no, no);
    Ok(())
}

/// Goes to `above` for what is above the range. What is below it is in no later
/// range either, since they ascend.
fn one(b: &mut Builder, (first, last): (u16, u16), yes: Label, above: Label, below: Label) {
    if first == last {
        b.jump_if(Cond::Ne, first.into(), above);
    } else {
        if first > 0 {
            b.jump_if(Cond::Lt, first.into(), below);
        }
        if last < u16::MAX {
            b.jump_if(Cond::Gt, last.into(), above);
        }
    }
    b.jump(yes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined() {
        let r = |first, last| PortMatch::Range(first, last);
        let cases = [
            (vec![r(80, 80), r(81, 90), r(70, 75)], vec![(70, 75), (80, 90)]),
            (vec![r(0, 65535), r(5, 6)], vec![(0, 65535)]),
            (vec![r(65535, 65535), r(1, 1), r(1, 1)], vec![(1, 1), (65535, 65535)]),
            (vec![r(9, 8)], vec![]),
        ];
        for (input, want) in cases {
            assert_eq!(merged(&input), want);
        }
    }
}
