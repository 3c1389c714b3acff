//! Which rules may overlap: an index over ports and addresses.
//!
//! What: along each of four axes (ports and listed addresses of both sides) the
//! ends of all rules' ranges cut the axis into cells; a rule stands in the list of
//! every cell that it covers. A rule that says nothing along an axis, or covers
//! more than [`WIDE`] cells, may overlap any rule there.
//!
//! Why sound: two rules that share no cell along one axis match no packet in
//! common. Sets whose members are data cover the whole axis. The index only leaves
//! pairs out; what it names must still be compared.
//!
//! Cost: O(r log r) for r ranges in all; a query is linear in what it returns.

use super::{facts, nets};
use crate::ir::protocol::has_ports;
use crate::ir::{IcmpMatch, PolicyIr, PortMatch, Rule, SideMatch, protocol};

/// Most cells of an axis that a rule is listed in.
const WIDE: usize = 64;

/// Ends of a range, both included.
type Span = (u128, u128);

/// The index over a list of rules; rules are named by their position in it.
pub(super) struct Overlaps {
    axes: [Axis; 4],
}

struct Axis {
    /// By rule; `None` if it may overlap any other along this axis.
    cells: Vec<Option<Vec<u32>>>,
    /// By cell, ascending.
    rules: Vec<Vec<u32>>,
    /// Rules without cells, ascending.
    wide: Vec<u32>,
}

impl Overlaps {
    /// Builds the index.
    pub(super) fn new(ir: &PolicyIr, rules: &[Rule]) -> Self {
        let axis = |spans: &dyn Fn(Rule) -> Option<Vec<Span>>| {
            Axis::new(&rules.iter().map(|rule| spans(*rule)).collect::<Vec<_>>())
        };
        let side = |rule: Rule, src: bool| {
            let m = &ir.rules[rule].matches;
            if src { &m.src } else { &m.dst }
        };
        Self {
            axes: [
                axis(&|rule| port_spans(ir, rule, side(rule, false))),
                axis(&|rule| port_spans(ir, rule, side(rule, true))),
                axis(&|rule| address_spans(ir, side(rule, true))),
                axis(&|rule| address_spans(ir, side(rule, false))),
            ],
        }
    }

    /// Every earlier rule that may overlap this one, and maybe others, from the
    /// last to the first; each once.
    pub(super) fn earlier(&self, rule: usize) -> Vec<u32> {
        let best =
            self.axes.iter().filter_map(|axis| Some((axis.count(rule)?, axis))).min_by_key(|(n, _)| *n);
        match best {
            Some((_, axis)) => axis.earlier(rule),
            None => (0..rule as u32).rev().collect(),
        }
    }
}

impl Axis {
    fn new(spans: &[Option<Vec<Span>>]) -> Self {
        let mut cuts: Vec<u128> = Vec::new();
        for (first, last) in spans.iter().flatten().flatten() {
            cuts.push(*first);
            cuts.extend(last.checked_add(1));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut axis = Self { cells: Vec::new(), rules: vec![Vec::new(); cuts.len() + 1], wide: Vec::new() };
        for (rule, spans) in spans.iter().enumerate() {
            let cells = spans.as_ref().and_then(|spans| covered(&cuts, spans));
            match &cells {
                Some(cells) => cells.iter().for_each(|cell| axis.rules[*cell as usize].push(rule as u32)),
                None => axis.wide.push(rule as u32),
            }
            axis.cells.push(cells);
        }
        axis
    }

    /// How many rules [`Self::earlier`] looks at; `None` if all.
    fn count(&self, rule: usize) -> Option<usize> {
        let cells = self.cells[rule].as_ref()?;
        let listed: usize = cells.iter().map(|cell| before(&self.rules[*cell as usize], rule).len()).sum();
        Some(listed + before(&self.wide, rule).len())
    }

    fn earlier(&self, rule: usize) -> Vec<u32> {
        let mut found = before(&self.wide, rule).to_vec();
        for cell in self.cells[rule].iter().flatten() {
            found.extend_from_slice(before(&self.rules[*cell as usize], rule));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        found
    }
}

/// The part of an ascending list that stands before a rule.
fn before(list: &[u32], rule: usize) -> &[u32] {
    &list[..list.partition_point(|other| (*other as usize) < rule)]
}

/// Cells that spans cover, ascending; `None` if there are many.
fn covered(cuts: &[u128], spans: &[Span]) -> Option<Vec<u32>> {
    let cell = |at: u128| cuts.partition_point(|cut| *cut <= at);
    let mut cells = Vec::new();
    for (first, last) in spans {
        let (from, to) = (cell(*first), cell(*last));
        if cells.len() + (to - from) >= WIDE {
            return None;
        }
        cells.extend((from..=to).map(|cell| cell as u32));
    }
    cells.sort_unstable();
    cells.dedup();
    Some(cells)
}

/// Ports of a side. Packets without ports stand behind the ports, by protocol.
fn port_spans(ir: &PolicyIr, rule: Rule, side: &SideMatch) -> Option<Vec<Span>> {
    const NO_PORTS: u128 = 1 << 16;
    let m = &ir.rules[rule].matches;
    let without = |p: u8| (NO_PORTS + u128::from(p), NO_PORTS + u128::from(p));
    match (&side.ports, m.protocol, m.icmp) {
        (Some(ports), ..) => Some(
            ports
                .iter()
                .map(|port| match *port {
                    PortMatch::Range(first, last) => (first.into(), last.into()),
                    PortMatch::Named { port, .. } => (port.into(), port.into()),
                })
                .filter(|(first, last)| first <= last)
                .collect(),
        ),
        (None, Some(p), _) if !has_ports(p) => Some(vec![without(p)]),
        (None, None, Some(IcmpMatch { .. })) => {
            Some([protocol::ICMP, protocol::ICMPV6].map(without).to_vec())
        }
        _ => None,
    }
}

/// Listed addresses of a side: those of its first set that is part of the policy.
/// IPv4 addresses stand among the IPv6 addresses that map them.
fn address_spans(ir: &PolicyIr, side: &SideMatch) -> Option<Vec<Span>> {
    let listed = side.in_sets.iter().find_map(|set| facts::known(ir, *set))?;
    Some(listed.iter().map(nets::span).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, policy};

    /// What the index leaves out is what the facts prove apart, pair by pair.
    #[test]
    fn no_overlap_is_missed() {
        let (mut left_out, mut kept) = (0, 0);
        for seed in 0..400 {
            let ir = policy(seed, &Shape { rules: 12, chains: 1, ..Shape::default() });
            let rules: Vec<Rule> = ir.rules.keys().collect();
            let overlaps = Overlaps::new(&ir, &rules);
            for later in 0..rules.len() {
                let named = overlaps.earlier(later);
                assert!(named.is_sorted_by(|a, b| a > b) && named.iter().all(|e| (*e as usize) < later));
                for earlier in (0..later).filter(|e| !named.contains(&(*e as u32))) {
                    let (a, b) = (&ir.rules[rules[earlier]].matches, &ir.rules[rules[later]].matches);
                    assert!(facts::are_disjoint(&ir, a, b), "seed {seed}: {a} and {b}");
                    left_out += 1;
                }
                kept += named.len();
            }
        }
        assert!(left_out > 1_000 && kept > 1_000, "{left_out} {kept}");
    }
}
