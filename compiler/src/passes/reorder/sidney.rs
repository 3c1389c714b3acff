//! Sidney's decomposition: parts of falling density that some optimal order takes
//! one after the other.
//!
//! What: the first part is the densest of all sets of rules that may stand first
//! (those that hold every rule that must stand before one of theirs); the others
//! are the decomposition of what is left. Any order that keeps to it costs less
//! than twice the least (Chekuri and Motwani; Margot, Queyranne and Wang).
//!
//! How: a set of rules is cut in two as long as one of its initial sets is denser
//! than all together. Which initial set has the most weight above the average is a
//! minimum cut: rules above the average are fed, rules below it drain, and feed may
//! flow to all that must stand before. What the drains cannot take is the set.
//!
//! Cost: at most two cuts per part; a cut of n rules is a flow over up to n²/4
//! arcs of two layers.

use super::precedence::Precedence;
use super::sequence::Step;

/// The parts in order, each ascending.
pub(super) fn decompose(graph: &Precedence, steps: &[Step]) -> Vec<Vec<usize>> {
    let mut parts = Vec::new();
    let mut open = vec![(0..steps.len()).collect::<Vec<_>>()];
    while let Some(nodes) = open.pop() {
        let front = denser_front(graph, steps, &nodes);
        if front.is_empty() {
            parts.push(nodes);
            continue;
        }
        let rest = nodes.into_iter().filter(|node| front.binary_search(node).is_err()).collect();
        open.push(rest);
        open.push(front);
    }
    parts
}

/// An initial set of `nodes` that is denser than all together; empty if none is.
fn denser_front(graph: &Precedence, steps: &[Step], nodes: &[usize]) -> Vec<usize> {
    let weight: i128 = nodes.iter().map(|node| i128::from(steps[*node].0)).sum();
    let cost: i128 = nodes.iter().map(|node| i128::from(steps[*node].1)).sum();
    let above = |node: usize| i128::from(steps[node].0) * cost - i128::from(steps[node].1) * weight;
    let fed: Vec<usize> = nodes.iter().copied().filter(|node| above(*node) > 0).collect();
    let drains: Vec<usize> = nodes.iter().copied().filter(|node| above(*node) < 0).collect();
    let mut network = Network {
        arcs: fed
            .iter()
            .map(|from| (0..drains.len()).filter(|to| graph.is_at_or_before(drains[*to], *from)).collect())
            .collect(),
        flow: vec![vec![0; drains.len()]; fed.len()],
        feed: fed.iter().map(|node| above(*node)).collect(),
        drain: drains.iter().map(|node| -above(*node)).collect(),
    };
    let open: Vec<usize> = network.overfed().into_iter().map(|i| fed[i]).collect();
    nodes.iter().copied().filter(|node| open.iter().any(|o| graph.is_at_or_before(*node, *o))).collect()
}

/// A flow network of two layers.
struct Network {
    /// By fed node: the drains that it may flow to; without limit.
    arcs: Vec<Vec<usize>>,
    flow: Vec<Vec<i128>>,
    /// What is left to send.
    feed: Vec<i128>,
    /// What is left to take.
    drain: Vec<i128>,
}

impl Network {
    /// Sends what can be sent; returns the fed nodes whose feed, or feed that could
    /// take its place, is left.
    fn overfed(&mut self) -> Vec<usize> {
        loop {
            let (levels, reached) = self.levels();
            if !reached {
                return (0..self.feed.len()).filter(|i| levels[*i].is_some()).collect();
            }
            let mut next = vec![0; self.feed.len()];
            for from in 0..self.feed.len() {
                while self.feed[from] > 0 {
                    let sent = self.send(from, self.feed[from], &levels, &mut next);
                    if sent == 0 {
                        break;
                    }
                    self.feed[from] -= sent;
                }
            }
        }
    }

    /// Rounds through both layers after which each fed node is reached from one
    /// that has feed left, and whether a drain that can take more is.
    fn levels(&self) -> (Vec<Option<u32>>, bool) {
        let mut levels: Vec<Option<u32>> = self.feed.iter().map(|left| (*left > 0).then_some(0)).collect();
        let mut round: Vec<usize> = (0..levels.len()).filter(|i| levels[*i].is_some()).collect();
        let mut seen = vec![false; self.drain.len()];
        let (mut reached, mut level) = (false, 0);
        while !round.is_empty() && !reached {
            level += 1;
            let mut next = Vec::new();
            for from in round {
                for to in &self.arcs[from] {
                    if std::mem::replace(&mut seen[*to], true) {
                        continue;
                    }
                    reached |= self.drain[*to] > 0;
                    for back in (0..levels.len()).filter(|back| self.flow[*back][*to] > 0) {
                        if levels[back].is_none() {
                            levels[back] = Some(level);
                            next.push(back);
                        }
                    }
                }
            }
            round = next;
        }
        (levels, reached)
    }

    /// Sends up to `most` from a fed node along rising levels; returns how much.
    /// As deep as levels rise: at most the number of fed nodes.
    fn send(&mut self, from: usize, most: i128, levels: &[Option<u32>], next: &mut [usize]) -> i128 {
        while let Some(to) = self.arcs[from].get(next[from]).copied() {
            let direct = most.min(self.drain[to]);
            if direct > 0 {
                self.drain[to] -= direct;
                self.flow[from][to] += direct;
                return direct;
            }
            for back in 0..self.feed.len() {
                let rises = levels[back] == levels[from].map(|level| level + 1);
                let held = self.flow[back][to];
                if !rises || held <= 0 {
                    continue;
                }
                let sent = self.send(back, most.min(held), levels, next);
                if sent > 0 {
                    self.flow[back][to] -= sent;
                    self.flow[from][to] += sent;
                    return sent;
                }
            }
            next[from] += 1;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::Rng;

    /// Every part is the densest of the sets that may stand first, by trying all.
    #[test]
    fn parts_are_densest_first() {
        let mut rng = Rng::new(23);
        let mut split = 0;
        for case in 0..300 {
            let rules = 1 + rng.below(9);
            let percent = rng.of([0, 15, 30, 60]);
            let pairs = (0..rules).flat_map(|to| (0..to).map(move |from| (from, to)));
            let edges: Vec<(usize, usize)> = pairs.filter(|_| rng.chance(percent)).collect();
            let graph = Precedence::of_edges(rules, &edges);
            let steps: Vec<Step> =
                (0..rules).map(|_| (rng.below(20) as u64, 1 + rng.below(9) as u64)).collect();
            let parts = decompose(&graph, &steps);
            let sums = |set: usize| {
                let members = || (0..rules).filter(move |i| set & (1 << i) != 0);
                let weight: u64 = members().map(|i| steps[i].0).sum();
                (weight, members().map(|i| steps[i].1).sum::<u64>())
            };
            let mut placed = 0;
            for part in &parts {
                let set = part.iter().fold(0, |set, i| set | 1_usize << i);
                let (weight, cost) = sums(set);
                for other in (1..1_usize << rules).filter(|other| other & placed == 0) {
                    let initial = (0..rules)
                        .filter(|i| other & (1 << i) != 0)
                        .all(|i| graph.with_self(i).all(|before| (other | placed) & (1 << before) != 0));
                    let (w, c) = sums(other);
                    assert!(!initial || w * cost <= weight * c, "case {case}: {parts:?}");
                }
                for i in part {
                    assert!(graph.with_self(*i).all(|b| (set | placed) & (1 << b) != 0), "case {case}");
                }
                placed |= set;
            }
            assert_eq!(placed, (1 << rules) - 1);
            split += parts.len() - 1;
        }
        assert!(split > 300, "{split}");
    }
}
