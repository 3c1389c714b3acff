//! Relations between lists of port alternatives.
//!
//! A list is a disjunction. The answers are certain in one direction only, which
//! each function names: sets behind named ports are data, so two named ports are
//! known to be alike only if they use the same set.

use crate::ir::PortMatch;

/// Sorts and joins ranges, sorts named ports, drops what others cover. The result
/// holds for the same packets and is equal for lists that differ in order only.
pub(super) fn canonical(ports: &[PortMatch]) -> Vec<PortMatch> {
    let mut ranges = ranges(ports);
    let mut named: Vec<PortMatch> = ports
        .iter()
        .filter(|p| matches!(p, PortMatch::Named { port, .. } if !holds(&ranges, *port)))
        .copied()
        .collect();
    named.sort_unstable();
    named.dedup();
    let mut out: Vec<PortMatch> =
        ranges.drain(..).map(|(first, last)| PortMatch::Range(first, last)).collect();
    out.extend(named);
    out
}

/// The ranges of a list: sorted, disjoint, not adjacent.
fn ranges(ports: &[PortMatch]) -> Vec<(u16, u16)> {
    let mut all: Vec<(u16, u16)> = ports
        .iter()
        .filter_map(|p| match *p {
            PortMatch::Range(first, last) if first <= last => Some((first, last)),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match joined.last_mut() {
            Some(open) if u32::from(first) <= u32::from(open.1) + 1 => open.1 = open.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn holds(ranges: &[(u16, u16)], port: u16) -> bool {
    ranges.iter().any(|(first, last)| *first <= port && port <= *last)
}

/// What remains of `ports` if the ranges of `not` are cut out; named ports of
/// `not` are left to the caller. Canonical.
pub(super) fn without_ranges(ports: &[PortMatch], not: &[PortMatch]) -> Vec<PortMatch> {
    if let ([PortMatch::Range(first, last)], []) = (ports, not)
        && first <= last
    {
        return ports.to_vec();
    }
    let holes = ranges(not);
    let mut left = Vec::new();
    for port in ports {
        match *port {
            PortMatch::Range(first, last) => left.extend(cut_holes(first, last, &holes)),
            PortMatch::Named { port: number, .. } if holds(&holes, number) => {}
            named @ PortMatch::Named { .. } => left.push(named),
        }
    }
    canonical(&left)
}

fn cut_holes(first: u16, last: u16, holes: &[(u16, u16)]) -> Vec<PortMatch> {
    let (mut next, last, mut left) = (u32::from(first), u32::from(last), Vec::new());
    let mut keep = |from: u32, to: u32| {
        if let (Ok(from), Ok(to)) = (u16::try_from(from), u16::try_from(to)) {
            left.push(PortMatch::Range(from, to));
        }
    };
    for (from, to) in holes.iter().map(|(a, b)| (u32::from(*a), u32::from(*b))) {
        if next < from && next <= last {
            keep(next, last.min(from - 1));
        }
        next = next.max(to + 1);
    }
    if next <= last {
        keep(next, last);
    }
    left
}

/// Whether a packet for which one of `inner` holds is sure to have one of `outer`.
pub(super) fn covered(inner: &[PortMatch], outer: &[PortMatch]) -> bool {
    if let ([PortMatch::Range(first, last)], [PortMatch::Range(from, to)]) = (inner, outer) {
        return from <= first && last <= to;
    }
    let outer_ranges = ranges(outer);
    inner.iter().all(|port| match *port {
        PortMatch::Range(first, last) => outer_ranges.iter().any(|(a, b)| *a <= first && last <= *b),
        PortMatch::Named { port: number, .. } => holds(&outer_ranges, number) || outer.contains(port),
    })
}

/// Whether no packet can have one of each.
pub(super) fn are_disjoint(a: &[PortMatch], b: &[PortMatch]) -> bool {
    !a.iter().any(|x| b.iter().any(|y| may_overlap(x, y)))
}

fn may_overlap(a: &PortMatch, b: &PortMatch) -> bool {
    use PortMatch::{Named, Range};
    match (*a, *b) {
        (Range(a, b), Range(c, d)) => a <= d && c <= b,
        (Range(a, b), Named { port, .. }) | (Named { port, .. }, Range(a, b)) => a <= port && port <= b,
        (Named { protocol: p, port: a, .. }, Named { protocol: q, port: b, .. }) => p == q && a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::AddrSet;

    fn r(first: u16, last: u16) -> PortMatch {
        PortMatch::Range(first, last)
    }

    fn named(port: u16, set: u32) -> PortMatch {
        PortMatch::Named { protocol: 6, port, set: AddrSet::from_u32(set) }
    }

    #[test]
    fn canonical_lists() {
        let given = [r(5, 9), named(80, 1), named(7, 1), r(10, 12), r(1, 2), r(65535, 65535), named(80, 1)];
        assert_eq!(canonical(&given), [r(1, 2), r(5, 12), r(65535, 65535), named(80, 1)]);
    }

    #[test]
    fn cutting_holes() {
        let not = [r(0, 0), r(80, 90), r(65535, 65535)];
        assert_eq!(
            without_ranges(&[r(0, 65535), named(85, 0), named(91, 0)], &not),
            [r(1, 79), r(91, 65534)]
        );
        assert_eq!(without_ranges(&[r(80, 90)], &not), []);
        assert_eq!(without_ranges(&[r(89, 91)], &not), [r(91, 91)]);
        assert_eq!(without_ranges(&[r(1, 2)], &not), [r(1, 2)]);
    }

    #[test]
    fn covering_and_disjoint() {
        assert!(covered(&[r(1, 5), named(3, 0)], &[r(3, 9), r(1, 2)]));
        assert!(!covered(&[named(3, 0)], &[named(3, 1)]));
        assert!(covered(&[named(3, 0)], &[named(3, 0)]));
        assert!(!covered(&[r(3, 3)], &[named(3, 0)]));
        assert!(are_disjoint(&[r(1, 2), named(5, 0)], &[r(3, 4), named(6, 0)]));
        assert!(!are_disjoint(&[named(5, 0)], &[named(5, 1)]));
    }
}
