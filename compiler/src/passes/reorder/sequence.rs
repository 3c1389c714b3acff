//! A cheap order of rules under precedences: 1|prec|ΣwC.
//!
//! How: rules without precedences between them are ordered apart and merged by
//! falling density weight/cost (parallel parts); rules that can be cut in two so
//! that all of one half must stand first are cut there (series parts). Both are
//! exact (Lawler). What can be taken apart neither way is ordered
//! - up to [`EXACT`] rules by dynamic programming over the sets that stand first;
//! - up to [`SIDNEY`] rules by its Sidney decomposition: parts of falling density,
//!   of which an optimal order exists; parts above [`EXACT`] rules as below, which
//!   costs less than twice the least whatever the order in a part;
//! - above by always placing the rule whose ancestors and itself have the highest
//!   density together (Tapdiya and Fulp).
//!
//! Beside the order a lower bound comes out: what no legal order can cost less than.
//!
//! Cost: O(n²) for the last, 2^[`EXACT`] steps for the first, min cuts for the second.

use std::cmp::Ordering;

use super::precedence::Precedence;
use super::sidney;

/// Weight and cost of a rule; costs are at least 1.
pub(super) type Step = (u64, u64);

/// Most rules of a part that is ordered by trying all sets.
pub const EXACT: usize = 12;
/// Most rules of a part of which the Sidney decomposition is computed.
pub const SIDNEY: usize = 256;
/// Most series and parallel parts inside each other.
const DEPTH: u32 = 64;

/// An order and how good it is.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// The rules, by position in what was ordered.
    pub sequence: Vec<usize>,
    /// No legal order costs less.
    pub least: u128,
}

/// Orders all rules of a graph.
pub(super) fn order(graph: &Precedence, steps: &[Step]) -> Ordered {
    let part = parallel(graph, steps, DEPTH);
    let mut bounds = part.bounds;
    if !graph.complete {
        bounds = steps.iter().map(|step| Weighed::of(*step)).collect();
    }
    Ordered { sequence: part.sequence, least: total(bounds) }
}

/// What no order of the rules costs less than, if none has to stand before another.
pub(super) fn least(steps: &[Step]) -> u128 {
    total(steps.iter().map(|step| Weighed::of(*step)).collect())
}

fn total(mut bounds: Vec<Weighed>) -> u128 {
    bounds.sort_by(|a, b| b.compare(a));
    bounds.into_iter().reduce(Weighed::then).map_or(0, |all| all.least)
}

/// An order of some rules.
struct Part {
    sequence: Vec<usize>,
    /// What stands together in an optimal order of these rules, of falling density.
    bounds: Vec<Weighed>,
}

impl Part {
    fn of(step: Step) -> Self {
        Self { sequence: vec![0], bounds: vec![Weighed::of(step)] }
    }

    /// The sequence by other names.
    fn named(&self, names: &[usize]) -> Vec<usize> {
        self.sequence.iter().map(|rule| names[*rule]).collect()
    }
}

/// Rules as one.
#[derive(Copy, Clone)]
struct Weighed {
    weight: u128,
    cost: u128,
    /// No order of them costs less.
    least: u128,
}

impl Weighed {
    fn of((weight, cost): Step) -> Self {
        let (weight, cost) = (weight.into(), cost.into());
        Self { weight, cost, least: weight * cost }
    }

    /// These, then others.
    fn then(self, next: Self) -> Self {
        Self {
            weight: self.weight + next.weight,
            cost: self.cost + next.cost,
            least: self.least + next.least + next.weight * self.cost,
        }
    }

    /// By density.
    fn compare(&self, other: &Self) -> Ordering {
        (self.weight * other.cost).cmp(&(other.weight * self.cost))
    }
}

/// Orders components apart and merges them by density.
fn parallel(graph: &Precedence, steps: &[Step], depth: u32) -> Part {
    if let [_] = graph.components.as_slice() {
        return series(graph, steps, depth);
    }
    let mut blocks = Vec::new();
    let mut bounds = Vec::new();
    for component in &graph.components {
        let own: Vec<Step> = component.iter().map(|rule| steps[*rule]).collect();
        let part = match own.as_slice() {
            [step] => Part::of(*step),
            _ => series(&graph.restrict(component), &own, depth),
        };
        blocks.extend(falling_blocks(&part.named(component), steps));
        bounds.extend(part.bounds);
    }
    // Equal density: as the rules came. Within a component densities fall
    // strictly, so the sort never turns its blocks round.
    blocks.sort_by(|a, b| b.all.compare(&a.all).then(a.first.cmp(&b.first)));
    bounds.sort_by(|a, b| b.compare(a));
    Part { sequence: blocks.into_iter().flat_map(|block| block.rules).collect(), bounds }
}

/// Orders a component: part by part if it has series parts.
fn series(graph: &Precedence, steps: &[Step], depth: u32) -> Part {
    let cuts = graph.series_cuts();
    if cuts.is_empty() || depth == 0 {
        return inseparable(graph, steps);
    }
    let mut whole = Part { sequence: Vec::with_capacity(graph.len()), bounds: Vec::new() };
    let ends = cuts.iter().copied().chain([graph.len()]);
    let mut from = 0;
    for to in ends {
        let names: Vec<usize> = (from..to).collect();
        let part = match &steps[from..to] {
            [step] => Part::of(*step),
            own => parallel(&graph.restrict(&names), own, depth - 1),
        };
        whole.sequence.extend(part.named(&names));
        part.bounds.into_iter().for_each(|bound| push_falling(&mut whole.bounds, bound));
        from = to;
    }
    whole
}

/// Adds what stands behind all others; joins what does not fall in density.
fn push_falling(bounds: &mut Vec<Weighed>, mut next: Weighed) {
    while let Some(before) = bounds.pop_if(|before| before.compare(&next).is_le()) {
        next = before.then(next);
    }
    bounds.push(next);
}

fn inseparable(graph: &Precedence, steps: &[Step]) -> Part {
    if graph.len() <= EXACT {
        return in_order(graph, steps, vec![(0..graph.len()).collect()]);
    }
    if graph.len() <= SIDNEY {
        return in_order(graph, steps, sidney::decompose(graph, steps));
    }
    let mut bounds: Vec<Weighed> = steps.iter().map(|step| Weighed::of(*step)).collect();
    bounds.sort_by(|a, b| b.compare(a));
    Part { sequence: densest_first(graph, steps), bounds }
}

/// Orders parts that stand one after the other in an optimal order.
fn in_order(graph: &Precedence, steps: &[Step], parts: Vec<Vec<usize>>) -> Part {
    let mut whole = Part { sequence: Vec::with_capacity(graph.len()), bounds: Vec::new() };
    for nodes in parts {
        let own: Vec<Step> = nodes.iter().map(|rule| steps[*rule]).collect();
        let graph = graph.restrict(&nodes);
        let sequence = if nodes.len() <= EXACT {
            let sequence = exact(&graph, &own);
            sequence.iter().for_each(|rule| push_falling(&mut whole.bounds, Weighed::of(own[*rule])));
            sequence
        } else {
            push_falling(&mut whole.bounds, block(&own));
            densest_first(&graph, &own)
        };
        whole.sequence.extend(sequence.into_iter().map(|rule| nodes[rule]));
    }
    whole
}

/// Rules of which no initial set is denser than all together, as one. The weight
/// that is done after cost t is then at most W·t/C, which leaves at least half of
/// W·C, and half of what the steps of single costs add.
fn block(steps: &[Step]) -> Weighed {
    let weight: u128 = steps.iter().map(|(weight, _)| u128::from(*weight)).sum();
    let cost: u128 = steps.iter().map(|(_, cost)| u128::from(*cost)).sum();
    let squares: u128 = steps.iter().map(|(_, cost)| u128::from(*cost) * u128::from(*cost)).sum();
    let twice = weight * cost + (weight * squares).div_ceil(cost.max(1));
    Weighed { weight, cost, least: twice.div_ceil(2) }
}

/// The optimal order of a few rules, by dynamic programming over the sets of rules
/// that stand first.
fn exact(graph: &Precedence, steps: &[Step]) -> Vec<usize> {
    let full = (1_usize << steps.len()) - 1;
    let before: Vec<usize> = (0..steps.len())
        .map(|rule| graph.with_self(rule).filter(|a| *a != rule).fold(0, |set, a| set | 1 << a))
        .collect();
    // best[set]: least cost of an order of the set, and which rule is last in it.
    let mut best: Vec<Option<(u128, usize)>> = vec![None; full + 1];
    best[0] = Some((0, 0));
    for set in 0..full {
        let Some((so_far, _)) = best[set] else { continue };
        let tested: u128 =
            (0..steps.len()).filter(|i| set & (1 << i) != 0).map(|i| u128::from(steps[i].1)).sum();
        for i in (0..steps.len()).filter(|i| set & (1 << i) == 0 && before[*i] & !set == 0) {
            let (weight, cost) = steps[i];
            let total = so_far + u128::from(weight) * (tested + u128::from(cost));
            let entry = &mut best[set | 1 << i];
            if entry.is_none_or(|(known, _)| total < known) {
                *entry = Some((total, i));
            }
        }
    }
    let (mut set, mut sequence) = (full, Vec::with_capacity(steps.len()));
    while set != 0 {
        let Some((_, last)) = best[set] else { return (0..steps.len()).collect() };
        sequence.push(last);
        set &= !(1 << last);
    }
    sequence.reverse();
    sequence
}

/// Places, again and again, the rule that is densest together with those of its
/// ancestors that are not placed yet; these go before it, in their order.
fn densest_first(graph: &Precedence, steps: &[Step]) -> Vec<usize> {
    let mut sums: Vec<(u128, u128)> = (0..steps.len())
        .map(|rule| {
            graph.with_self(rule).fold((0, 0), |(w, c), a| {
                let (weight, cost) = steps[a];
                (w + u128::from(weight), c + u128::from(cost))
            })
        })
        .collect();
    let mut open: Vec<usize> = (0..steps.len()).collect();
    let mut placed = vec![false; steps.len()];
    let mut sequence = Vec::with_capacity(steps.len());
    while let Some(pick) = densest(&sums, &open) {
        for rule in graph.with_self(pick).filter(|rule| !placed[*rule]).collect::<Vec<_>>() {
            placed[rule] = true;
            sequence.push(rule);
            let (weight, cost) = steps[rule];
            for later in open.iter().filter(|later| **later > rule && graph.is_at_or_before(rule, **later)) {
                sums[*later] = (sums[*later].0 - u128::from(weight), sums[*later].1 - u128::from(cost));
            }
        }
        open.retain(|rule| !placed[*rule]);
    }
    sequence
}

fn densest(sums: &[(u128, u128)], open: &[usize]) -> Option<usize> {
    open.iter().copied().reduce(|best, rule| {
        if sums[rule].0 * sums[best].1 > sums[best].0 * sums[rule].1 { rule } else { best }
    })
}

/// Neighbouring rules of one component that stay together.
struct Block {
    all: Weighed,
    /// The smallest original position, to break ties.
    first: usize,
    rules: Vec<usize>,
}

/// Cuts a sequence where the density falls: a rule that is denser than what
/// stands before it joins it.
fn falling_blocks(sequence: &[usize], steps: &[Step]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for rule in sequence {
        let mut block = Block { all: Weighed::of(steps[*rule]), first: *rule, rules: vec![*rule] };
        while let Some(before) = blocks.pop_if(|before| before.all.compare(&block.all).is_le()) {
            let mut rules = before.rules;
            rules.append(&mut block.rules);
            block = Block { all: before.all.then(block.all), first: before.first.min(block.first), rules };
        }
        blocks.push(block);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::Rng;
    use crate::passes::cost::expected;

    /// A random graph whose edges lead upwards, and random steps.
    fn draw(rng: &mut Rng, rules: usize, percent: usize) -> (Precedence, Vec<Step>) {
        let pairs = (0..rules).flat_map(|to| (0..to).map(move |from| (from, to)));
        let edges: Vec<(usize, usize)> = pairs.filter(|_| rng.chance(percent)).collect();
        (Precedence::of_edges(rules, &edges), draw_steps(rng, rules))
    }

    fn draw_steps(rng: &mut Rng, rules: usize) -> Vec<Step> {
        (0..rules).map(|_| (rng.below(50) as u64, 1 + rng.below(9) as u64)).collect()
    }

    /// The cheapest of all orders, by trying each.
    fn cheapest(graph: &Precedence, steps: &[Step], prefix: &mut Vec<usize>) -> u128 {
        if prefix.len() == steps.len() {
            return expected(prefix.iter().map(|rule| &steps[*rule]));
        }
        let mut best = u128::MAX;
        for next in (0..steps.len()).filter(|next| !prefix.contains(next)).collect::<Vec<_>>() {
            if graph.with_self(next).all(|before| before == next || prefix.contains(&before)) {
                prefix.push(next);
                best = best.min(cheapest(graph, steps, prefix));
                prefix.pop();
            }
        }
        best
    }

    fn cost_of(graph: &Precedence, steps: &[Step], sequence: &[usize]) -> u128 {
        let mut place = vec![usize::MAX; steps.len()];
        sequence.iter().enumerate().for_each(|(at, rule)| place[*rule] = at);
        assert!(sequence.len() == steps.len() && place.iter().all(|at| *at < steps.len()), "{sequence:?}");
        for rule in 0..steps.len() {
            assert!(graph.with_self(rule).all(|before| place[before] <= place[rule]), "{sequence:?}");
        }
        expected(sequence.iter().map(|rule| &steps[*rule]))
    }

    #[test]
    fn small_graphs_are_ordered_optimally() {
        let mut rng = Rng::new(11);
        for case in 0..300 {
            let (rules, percent) = (1 + rng.below(8), rng.of([0, 10, 25, 50, 80]));
            let (graph, steps) = draw(&mut rng, rules, percent);
            let found = order(&graph, &steps);
            let best = cheapest(&graph, &steps, &mut Vec::new());
            assert_eq!(cost_of(&graph, &steps, &found.sequence), best, "case {case}");
            assert_eq!(found.least, best, "case {case}");
        }
    }

    /// The same optimum as by trying all sets, where the graph is taken apart first.
    #[test]
    fn decompositions_lose_nothing() {
        let mut rng = Rng::new(13);
        for case in 0..200 {
            let (rules, percent) = (2 + rng.below(EXACT - 1), rng.of([5, 15, 30, 60]));
            let (graph, steps) = draw(&mut rng, rules, percent);
            let best = cost_of(&graph, &steps, &exact(&graph, &steps));
            let by_parts = in_order(&graph, &steps, sidney::decompose(&graph, &steps));
            assert_eq!(cost_of(&graph, &steps, &by_parts.sequence), best, "case {case}");
            assert_eq!(total(by_parts.bounds), best, "case {case}");
            assert_eq!(cost_of(&graph, &steps, &order(&graph, &steps).sequence), best, "case {case}");
        }
    }

    #[test]
    fn medium_graphs_cost_less_than_twice_the_least() {
        let mut rng = Rng::new(17);
        let mut above = 0;
        for case in 0..60 {
            let (rules, percent) = (30 + rng.below(60), rng.of([1, 3, 8, 20]));
            let (graph, steps) = draw(&mut rng, rules, percent);
            let found = order(&graph, &steps);
            let cost = cost_of(&graph, &steps, &found.sequence);
            assert!(found.least <= cost && cost < 2 * found.least, "case {case}: {cost} {}", found.least);
            above += usize::from(found.least < cost);
        }
        assert!(above > 5, "{above}: some are too large to be ordered exactly");
    }

    #[test]
    fn large_graphs_respect_their_edges_and_gain() {
        let mut rng = Rng::new(5);
        for _ in 0..5 {
            let (graph, steps) = draw(&mut rng, 2 * SIDNEY, 1);
            let found = order(&graph, &steps);
            let cost = cost_of(&graph, &steps, &found.sequence);
            assert!(found.least <= cost && cost < expected(steps.iter()));
        }
    }

    /// Chains of thousands of rules, side by side and nested, are taken apart.
    #[test]
    fn series_and_parallel_parts_are_exact_at_any_size() {
        let mut rng = Rng::new(7);
        let rules = 1_500;
        // Four chains side by side between two barriers.
        let edges: Vec<(usize, usize)> = (1..rules)
            .flat_map(|to| match to {
                1..=4 => vec![(0, to)],
                _ if to + 1 == rules => (to - 4..to).map(|from| (from, to)).collect(),
                _ => vec![(to - 4, to)],
            })
            .collect();
        let graph = Precedence::of_edges(rules, &edges);
        let steps = draw_steps(&mut rng, rules);
        let found = order(&graph, &steps);
        assert_eq!(cost_of(&graph, &steps, &found.sequence), found.least);
    }
}
