//! Where along the 65,536 ports, or ICMP types and codes, a rule can match.
//!
//! ICMP is one axis as well: type times 256 plus code. A named port is a span of
//! one port with a condition of its own. Cost: sorting a rule's alternatives.

use std::collections::BTreeMap;

use super::condition::{Cond, Conditions};
use crate::ir::{AddrSet, IcmpMatch, Match, PortMatch, SideMatch};

/// A stretch of an axis, both ends included, on which a rule can match, and what
/// it asks of its side's address there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// First value.
    pub first: u16,
    /// Last value.
    pub last: u16,
    /// What the address has to meet.
    pub cond: Cond,
}

impl Span {
    fn everywhere(cond: Cond) -> Self {
        Self { first: 0, last: u16::MAX, cond }
    }
}

/// Spans of a side in packets without ports; empty if it never matches there.
pub fn without_ports(side: &SideMatch, conditions: &mut Conditions) -> Option<Span> {
    match side.ports {
        Some(_) => None,
        None => conditions.intern(side, None, &[]).map(Span::everywhere),
    }
}

/// Appends the spans of a side in packets of a protocol with ports: disjoint, ascending.
pub fn with_ports(side: &SideMatch, protocol: u8, conditions: &mut Conditions, spans: &mut Vec<Span>) {
    // What nearly every rule says.
    let only = match side.ports.as_deref() {
        None => Some((0, u16::MAX)),
        Some([PortMatch::Range(first, last)]) if first <= last => Some((*first, *last)),
        Some(_) => None,
    };
    match only {
        Some((first, last)) if side.not_ports.is_empty() => {
            spans.extend(conditions.intern(side, None, &[]).map(|cond| Span { first, last, cond }));
        }
        _ => with_lists(side, protocol, conditions, spans),
    }
}

fn with_lists(side: &SideMatch, protocol: u8, conditions: &mut Conditions, spans: &mut Vec<Span>) {
    let holes = merged(ranges(&side.not_ports));
    let inside = match &side.ports {
        Some(ports) => merged(ranges(ports)),
        None => vec![(0, u16::MAX)],
    };
    let mut free = cut(&inside, &holes);
    let names = named(side, protocol);
    let start = spans.len();
    for (port, (any, not)) in &names {
        if holes.iter().any(|(first, last)| first <= port && port <= last) {
            continue;
        }
        let in_range = free.iter().any(|(first, last)| first <= port && port <= last);
        let any = if in_range { None } else { Some(&any[..]) };
        let cond = conditions.intern(side, any, not);
        spans.extend(cond.map(|cond| Span { first: *port, last: *port, cond }));
    }
    if !names.is_empty() {
        let points: Vec<(u16, u16)> = names.keys().map(|port| (*port, *port)).collect();
        free = cut(&free, &merged(points));
    }
    if let Some(cond) = conditions.intern(side, None, &[]) {
        spans.extend(free.iter().map(|(first, last)| Span { first: *first, last: *last, cond }));
    }
    spans[start..].sort_unstable_by_key(|span| span.first);
}

/// Values of type times 256 plus code that a match admits: disjoint, ascending.
pub fn icmp(m: &Match) -> Vec<(u16, u16)> {
    let values = |icmp: IcmpMatch| {
        let base = u16::from(icmp.icmp_type) << 8;
        icmp.code.map_or((base, base | 0xff), |code| (base | u16::from(code), base | u16::from(code)))
    };
    let inside = vec![m.icmp.map_or((0, u16::MAX), values)];
    let holes: Vec<(u16, u16)> = m.not_icmp.map(values).into_iter().collect();
    cut(&inside, &holes)
}

type Names = BTreeMap<u16, (Vec<AddrSet>, Vec<AddrSet>)>;

/// For each number of a named port its sets, and those of negated ones.
fn named(side: &SideMatch, protocol: u8) -> Names {
    let mut names = Names::new();
    let of = |ports: &PortMatch| match *ports {
        PortMatch::Named { protocol: p, port, set } if p == protocol => Some((port, set)),
        _ => None,
    };
    for (port, set) in side.ports.iter().flatten().filter_map(of) {
        names.entry(port).or_default().0.push(set);
    }
    for (port, set) in side.not_ports.iter().filter_map(of) {
        names.entry(port).or_default().1.push(set);
    }
    names
}

fn ranges(ports: &[PortMatch]) -> Vec<(u16, u16)> {
    let range = |port: &PortMatch| match *port {
        PortMatch::Range(first, last) if first <= last => Some((first, last)),
        _ => None,
    };
    ports.iter().filter_map(range).collect()
}

/// The same values as ascending ranges that neither overlap nor touch.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
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

/// What of ascending ranges is outside of ascending holes; linear in both.
fn cut(ranges: &[(u16, u16)], holes: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut left = Vec::with_capacity(ranges.len());
    let mut holes = holes.iter().peekable();
    for (first, last) in ranges {
        let (mut next, last) = (u32::from(*first), u32::from(*last));
        while let Some((from, to)) = holes.peek() {
            let (from, to) = (u32::from(*from), u32::from(*to));
            if from > last {
                break;
            }
            if next < from {
                left.push((next as u16, (from - 1) as u16));
            }
            next = next.max(to + 1);
            if to > last {
                break;
            }
            holes.next();
        }
        if next <= last {
            left.push((next as u16, last as u16));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_cut_out() {
        assert_eq!(cut(&[(0, 65535)], &[(0, 0), (80, 90), (65535, 65535)]), [(1, 79), (91, 65534)]);
        assert_eq!(cut(&[(1, 5), (7, 9), (20, 30)], &[(4, 22)]), [(1, 3), (23, 30)]);
        assert_eq!(cut(&[(5, 6)], &[(1, 4), (7, 9)]), [(5, 6)]);
        assert_eq!(cut(&[(5, 6)], &[(0, 65535)]), []);
    }

    #[test]
    fn named_ports_are_spans_of_their_own() {
        let mut conditions = Conditions::default();
        let named = |port, set| PortMatch::Named { protocol: 6, port, set: AddrSet::from_u32(set) };
        let side = SideMatch {
            ports: Some(vec![PortMatch::Range(70, 90), named(80, 1), named(100, 1), named(100, 2)]),
            not_ports: vec![named(85, 3), PortMatch::Range(90, 90)],
            ..SideMatch::default()
        };
        let mut spans = Vec::new();
        with_ports(&side, 6, &mut conditions, &mut spans);
        let found: Vec<(u16, u16)> = spans.iter().map(|s| (s.first, s.last)).collect();
        assert_eq!(found, [(70, 79), (80, 80), (81, 84), (85, 85), (86, 89), (100, 100)]);
        assert_eq!(spans[1].cond, Cond::ALWAYS, "the range admits it whoever it is");
        assert_eq!(conditions.get(spans[3].cond).none, [AddrSet::from_u32(3)]);
        assert_eq!(conditions.get(spans[5].cond).any.len(), 2);
        let before = spans.len();
        with_ports(&side, 17, &mut conditions, &mut spans);
        assert_eq!(spans.len(), before + 1);
    }
}
