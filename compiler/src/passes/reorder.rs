//! Reorder: puts rules that decide much and cost little first.
//!
//! What: within each chain, minimises the expected cost of `cost.rs` under the
//! precedence DAG of rules that must keep their order.
//!
//! Why sound: two rules may change places if no packet matches both, or if they
//! have the same action and decision, for then the first of them to match gives
//! the same outcome either way (two equal Log rules write equal records). All
//! other pairs keep their order, Log rules and whatever they overlap included. An
//! order that keeps every such pair is reached by swaps of neighbours that may
//! change places, so verdict, decision and log records stay.
//!
//! How: 1|prec|ΣwC is NP-hard. The DAG's connected components are ordered one by
//! one: up to [`EXACT`] rules by dynamic programming over subsets, larger ones by
//! always placing the rule whose ancestors and itself have the highest density
//! p/c together (Tapdiya and Fulp). Each component's order is cut into blocks of
//! falling density, and blocks of all components are merged by density (Sidney),
//! which is optimal if the components' orders are. The result is kept only if it
//! is cheaper than the order that the rules came in.
//!
//! Cost: O(n²) pair tests and O(n²) for the heuristic. Chains above [`MAX_RULES`]
//! rules or [`MAX_EDGES`] precedences keep their order.

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::unionfind::UnionFind;
use petgraph::visit::EdgeRef;

use super::cost::{Profile, cost, expected, weights};
use super::facts;
use crate::ir::{Chain, PolicyIr, Rule};

/// Most rules of a chain that is reordered: 50 million pair tests.
pub const MAX_RULES: usize = 10_000;
/// Most precedences of a chain that is reordered: about 100 MB of graph.
pub const MAX_EDGES: usize = 4_000_000;
/// Most rules of a component that is ordered exactly: 256 subsets.
pub const EXACT: usize = 8;

/// What the pass changed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reordered {
    /// Rules that have another place in their chain now.
    pub moved: usize,
    /// Chains that were too large to look at.
    pub skipped: usize,
    /// Expected cost of all chains before, in the model's units.
    pub cost_before: u128,
    /// Expected cost of all chains after; never above `cost_before`.
    pub cost_after: u128,
}

/// Orders the rules of every chain; needs [`super::normalise`] to see much.
/// `ir` must have passed [`crate::ir::verify`].
pub fn reorder(ir: &mut PolicyIr, profile: Option<&Profile>) -> Reordered {
    let weights = weights(ir, profile);
    let mut done = Reordered::default();
    for i in 0..ir.order.len() {
        let chain = ir.order[i];
        let rules = &ir.chains[chain].rules;
        let steps: Vec<(u64, u64)> =
            rules.iter().map(|r| (weights[*r], cost(&ir.rules[*r].matches))).collect();
        let before = expected(steps.iter());
        done.cost_before += before;
        let after = match precedences(ir, chain) {
            Some(graph) => apply(ir, chain, &order(&graph, &steps), &steps, before, &mut done),
            None => {
                done.skipped += 1;
                before
            }
        };
        done.cost_after += after;
    }
    done
}

/// Sets the order if it is cheaper; returns what the chain costs then.
fn apply(
    ir: &mut PolicyIr,
    chain: Chain,
    order: &[usize],
    steps: &[(u64, u64)],
    before: u128,
    done: &mut Reordered,
) -> u128 {
    let after = expected(order.iter().map(|i| &steps[*i]));
    if after >= before {
        return before;
    }
    let rules = &mut ir.chains[chain].rules;
    done.moved += order.iter().enumerate().filter(|(at, from)| at != *from).count();
    *rules = order.iter().map(|i| rules[*i]).collect();
    after
}

/// The DAG of rules that keep their order; node i is the chain's rule i. `None`
/// if the chain is too large.
fn precedences(ir: &PolicyIr, chain: Chain) -> Option<DiGraph<Rule, ()>> {
    let rules = &ir.chains[chain].rules;
    if rules.len() > MAX_RULES {
        return None;
    }
    let mut graph = DiGraph::with_capacity(rules.len(), 0);
    for rule in rules {
        graph.add_node(*rule);
    }
    for (i, earlier) in rules.iter().enumerate() {
        for (j, later) in rules.iter().enumerate().skip(i + 1) {
            if !commute(ir, *earlier, *later) {
                graph.add_edge(NodeIndex::new(i), NodeIndex::new(j), ());
            }
        }
        if graph.edge_count() > MAX_EDGES {
            return None;
        }
    }
    Some(graph)
}

/// Whether two neighbours may change places.
fn commute(ir: &PolicyIr, a: Rule, b: Rule) -> bool {
    let (a, b) = (&ir.rules[a], &ir.rules[b]);
    (a.action == b.action && a.decision == b.decision) || facts::are_disjoint(ir, &a.matches, &b.matches)
}

/// A cheap order that respects the graph.
fn order(graph: &DiGraph<Rule, ()>, steps: &[(u64, u64)]) -> Vec<usize> {
    let mut blocks = Vec::new();
    for component in components(graph) {
        let sequence = match component.len() {
            0..=EXACT => exact(graph, &component, steps),
            _ => densest_first(graph, &component, steps),
        };
        blocks.extend(falling_blocks(&sequence, steps));
    }
    // Equal density: as the rules came. Within a component densities fall
    // strictly, so the sort never turns its blocks round.
    blocks.sort_by(|a, b| b.compare(a).then(a.first.cmp(&b.first)));
    blocks.into_iter().flat_map(|block| block.rules).collect()
}

/// Weakly connected components, each ascending.
fn components(graph: &DiGraph<Rule, ()>) -> Vec<Vec<usize>> {
    let mut union = UnionFind::new(graph.node_count());
    for edge in graph.edge_references() {
        union.union(edge.source().index(), edge.target().index());
    }
    let mut by_root = vec![Vec::new(); graph.node_count()];
    for node in 0..graph.node_count() {
        by_root[union.find(node)].push(node);
    }
    by_root.retain(|component| !component.is_empty());
    by_root
}

/// The optimal order of a small component, by dynamic programming over the sets
/// of rules that stand first.
fn exact(graph: &DiGraph<Rule, ()>, nodes: &[usize], steps: &[(u64, u64)]) -> Vec<usize> {
    let full = (1_usize << nodes.len()) - 1;
    let before: Vec<usize> = nodes
        .iter()
        .map(|node| {
            let earlier = graph.neighbors_directed(NodeIndex::new(*node), Incoming);
            earlier.filter_map(|n| nodes.binary_search(&n.index()).ok()).fold(0, |set, i| set | 1 << i)
        })
        .collect();
    // best[set]: least cost of an order of the set, and which rule is last in it.
    let mut best: Vec<Option<(u128, usize)>> = vec![None; full + 1];
    best[0] = Some((0, 0));
    for set in 0..full {
        let Some((so_far, _)) = best[set] else { continue };
        let tested: u128 =
            (0..nodes.len()).filter(|i| set & (1 << i) != 0).map(|i| u128::from(steps[nodes[i]].1)).sum();
        for i in (0..nodes.len()).filter(|i| set & (1 << i) == 0 && before[*i] & !set == 0) {
            let (weight, cost) = steps[nodes[i]];
            let total = so_far + u128::from(weight) * (tested + u128::from(cost));
            let entry = &mut best[set | 1 << i];
            if entry.is_none_or(|(known, _)| total < known) {
                *entry = Some((total, i));
            }
        }
    }
    let (mut set, mut sequence) = (full, Vec::with_capacity(nodes.len()));
    while set != 0 {
        let Some((_, last)) = best[set] else { return nodes.to_vec() };
        sequence.push(nodes[last]);
        set &= !(1 << last);
    }
    sequence.reverse();
    sequence
}

/// Places, again and again, the rule that is densest together with those of its
/// ancestors that are not placed yet; these go before it, in their order.
fn densest_first(graph: &DiGraph<Rule, ()>, nodes: &[usize], steps: &[(u64, u64)]) -> Vec<usize> {
    let ancestors = Ancestors::new(graph, nodes);
    let mut sums: Vec<(u128, u128)> = (0..nodes.len())
        .map(|i| {
            ancestors.with_self(i).fold((0, 0), |(w, c), a| {
                let (weight, cost) = steps[nodes[a]];
                (w + u128::from(weight), c + u128::from(cost))
            })
        })
        .collect();
    let mut placed = vec![false; nodes.len()];
    let mut sequence = Vec::with_capacity(nodes.len());
    while let Some(pick) = densest(&sums, &placed) {
        for i in ancestors.with_self(pick).filter(|i| !placed[*i]).collect::<Vec<_>>() {
            placed[i] = true;
            sequence.push(nodes[i]);
            let (weight, cost) = steps[nodes[i]];
            for (later, sum) in sums.iter_mut().enumerate().skip(i) {
                if ancestors.is_at_or_before(i, later) {
                    *sum = (sum.0 - u128::from(weight), sum.1 - u128::from(cost));
                }
            }
        }
    }
    sequence
}

fn densest(sums: &[(u128, u128)], placed: &[bool]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for i in (0..sums.len()).filter(|i| !placed[*i]) {
        let denser = |b: usize| sums[i].0 * sums[b].1 > sums[b].0 * sums[i].1;
        if best.is_none_or(denser) {
            best = Some(i);
        }
    }
    best
}

/// For each rule of a component a bit per rule that must stand before it; edges
/// lead from lower to higher positions only.
struct Ancestors {
    words: usize,
    bits: Vec<u64>,
    len: usize,
}

impl Ancestors {
    fn new(graph: &DiGraph<Rule, ()>, nodes: &[usize]) -> Self {
        let words = nodes.len().div_ceil(64);
        let mut bits = vec![0; words * nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            bits[i * words + i / 64] |= 1 << (i % 64);
            for later in graph.neighbors_directed(NodeIndex::new(*node), Outgoing) {
                let Ok(j) = nodes.binary_search(&later.index()) else { continue };
                let (own, rest) = bits.split_at_mut(j * words);
                for (to, from) in rest[..words].iter_mut().zip(&own[i * words..(i + 1) * words]) {
                    *to |= from;
                }
            }
        }
        Self { words, bits, len: nodes.len() }
    }

    /// Whether `a` is `b` or must stand before it.
    fn is_at_or_before(&self, a: usize, b: usize) -> bool {
        self.bits[b * self.words + a / 64] & (1 << (a % 64)) != 0
    }

    /// What must stand before a rule, then itself; ascending.
    fn with_self(&self, of: usize) -> impl Iterator<Item = usize> {
        (0..self.len.min(of + 1)).filter(move |a| self.is_at_or_before(*a, of))
    }
}

/// Neighbouring rules of one component that stay together.
struct Block {
    weight: u128,
    cost: u128,
    /// The smallest original position, to break ties.
    first: usize,
    rules: Vec<usize>,
}

impl Block {
    /// By density; costs are at least 1.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        (self.weight * other.cost).cmp(&(other.weight * self.cost))
    }
}

/// Cuts a sequence where the density falls: a rule that is denser than what
/// stands before it joins it.
fn falling_blocks(sequence: &[usize], steps: &[(u64, u64)]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for rule in sequence {
        let (weight, cost) = (u128::from(steps[*rule].0), u128::from(steps[*rule].1));
        let mut block = Block { weight, cost, first: *rule, rules: vec![*rule] };
        while let Some(before) = blocks.pop_if(|before| before.compare(&block).is_le()) {
            let mut rules = before.rules;
            rules.append(&mut block.rules);
            block = Block {
                weight: before.weight + block.weight,
                cost: before.cost + block.cost,
                first: before.first.min(block.first),
                rules,
            };
        }
        blocks.push(block);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Rng, Shape, policy};
    use crate::passes::testing::differential;
    use crate::passes::{normalise, prune};

    #[test]
    fn reordering_keeps_every_outcome_and_never_costs_more() {
        let shape = Shape { rules: 16, ..Shape::default() };
        let moved = differential(&shape, 1000, |ir| {
            normalise(ir);
            prune(ir);
            let done = reorder(ir, None);
            assert!(done.cost_after <= done.cost_before);
            assert_eq!(done.moved == 0, done.cost_after == done.cost_before);
            done.moved
        });
        assert!(moved > 1_000, "{moved}");
    }

    #[test]
    fn profiles_keep_every_outcome_too() {
        let mut rng = Rng::new(3);
        let moved = differential(&Shape::default(), 500, |ir| {
            let mut profile = Profile::new();
            for decision in ir.decisions.keys() {
                profile[decision] = rng.next_u64() >> rng.below(64);
            }
            reorder(ir, Some(&profile)).moved
        });
        assert!(moved > 500, "{moved}");
    }

    /// A random DAG whose edges lead upwards, and random steps.
    fn dag(rng: &mut Rng, n: usize, percent: usize) -> (DiGraph<Rule, ()>, Vec<(u64, u64)>) {
        let mut graph = DiGraph::new();
        for i in 0..n {
            graph.add_node(Rule::from_u32(i as u32));
        }
        for i in 0..n {
            for j in i + 1..n {
                if rng.chance(percent) {
                    graph.add_edge(NodeIndex::new(i), NodeIndex::new(j), ());
                }
            }
        }
        (graph, (0..n).map(|_| (rng.below(50) as u64, 1 + rng.below(9) as u64)).collect())
    }

    /// The cheapest of all orders, by trying each.
    fn cheapest(graph: &DiGraph<Rule, ()>, steps: &[(u64, u64)], prefix: &mut Vec<usize>) -> u128 {
        if prefix.len() == steps.len() {
            return expected(prefix.iter().map(|i| &steps[*i]));
        }
        let mut best = u128::MAX;
        for next in 0..steps.len() {
            let ready = graph
                .neighbors_directed(NodeIndex::new(next), Incoming)
                .all(|before| prefix.contains(&before.index()));
            if ready && !prefix.contains(&next) {
                prefix.push(next);
                best = best.min(cheapest(graph, steps, prefix));
                prefix.pop();
            }
        }
        best
    }

    #[test]
    fn small_graphs_are_ordered_optimally() {
        let mut rng = Rng::new(11);
        for case in 0..200 {
            let percent = rng.of([0, 10, 25, 50]);
            let (graph, steps) = dag(&mut rng, 7, percent);
            let order = order(&graph, &steps);
            let have = expected(order.iter().map(|i| &steps[*i]));
            assert_eq!(have, cheapest(&graph, &steps, &mut Vec::new()), "case {case}");
        }
    }

    #[test]
    fn large_components_respect_their_edges_and_gain() {
        let mut rng = Rng::new(5);
        for _ in 0..50 {
            let (graph, steps) = dag(&mut rng, 60, 5);
            let order = order(&graph, &steps);
            let mut place = vec![usize::MAX; 60];
            for (at, rule) in order.iter().enumerate() {
                place[*rule] = at;
            }
            assert!(place.iter().all(|at| *at < 60));
            for edge in graph.edge_references() {
                assert!(place[edge.source().index()] < place[edge.target().index()]);
            }
            assert!(expected(order.iter().map(|i| &steps[*i])) < expected(steps.iter()));
        }
    }

    #[test]
    fn a_chain_above_the_bound_keeps_its_order() {
        let mut ir = policy(1, &Shape::default());
        let model = ir.rules.values().next().cloned().unwrap();
        let chain = ir.order[0];
        for _ in 0..=MAX_RULES {
            let rule = ir.rules.push(model.clone());
            ir.chains[chain].rules.push(rule);
        }
        let before = ir.chains[chain].rules.clone();
        assert_eq!(reorder(&mut ir, None).skipped, 1);
        assert_eq!(ir.chains[chain].rules, before);
    }
}
