//! Which rules must stand before which: the transitive closure of "may not change
//! places", as one bit row per rule.
//!
//! A pair whose order already follows from other pairs is not compared, so that n
//! rules that all overlap take n comparisons, not n². The comparisons are bounded
//! by [`MAX_WORK`]; the pairs beyond are taken to keep their order, which is always
//! sound.
//!
//! Cost: n²/8 bytes; see [`MAX_WORK`] for time.

use petgraph::unionfind::UnionFind;

use crate::ir::{PolicyIr, Rule};
use crate::passes::facts;
use crate::passes::overlap::Overlaps;

/// Most work of one chain's precedences: a pair compared counts as 8, a word of
/// closure joined as 1. About a third of a second.
const MAX_WORK: u64 = 160_000_000;
const COMPARED: u64 = 8;

/// Precedences among a list of rules; rules are named by their position in it.
pub(super) struct Precedence {
    words: usize,
    /// For each rule the rules that must stand before it, and itself.
    bits: Vec<u64>,
    /// Whether every pair was compared: no order but those allowed here is legal.
    pub(super) complete: bool,
    /// Sets of rules with no precedence between them; each ascending, none empty.
    pub(super) components: Vec<Vec<usize>>,
}

impl Precedence {
    /// Finds the precedences among rules given in match order.
    pub(super) fn new(ir: &PolicyIr, rules: &[Rule]) -> Self {
        Self::bounded(ir, rules, MAX_WORK)
    }

    fn bounded(ir: &PolicyIr, rules: &[Rule], max_work: u64) -> Self {
        let overlaps = Overlaps::new(ir, rules);
        let mut work = 0;
        let mut found = Self::by(rules.len(), |later, closure| {
            for earlier in overlaps.earlier(later) {
                if closure.knows(earlier as usize) {
                    continue;
                }
                let open = work < max_work;
                work += COMPARED;
                if !open || !commute(ir, rules[earlier as usize], rules[later]) {
                    work += closure.words as u64;
                    closure.join(earlier as usize);
                }
            }
        });
        found.complete = work <= max_work;
        found
    }

    /// Precedences that `find` names for each rule in turn.
    fn by(rules: usize, mut find: impl FnMut(usize, &mut Closure<'_>)) -> Self {
        let words = rules.div_ceil(64);
        let mut bits = vec![0; words * rules];
        let mut union = UnionFind::<usize>::new(rules);
        for rule in 0..rules {
            let (known, own) = bits.split_at_mut(rule * words);
            own[rule / 64] |= 1 << (rule % 64);
            find(rule, &mut Closure { words, rule, known, own: &mut own[..words], union: &mut union });
        }
        Self { words, bits, complete: true, components: components(&mut union, rules) }
    }

    /// Whether `a` is `b` or must stand before it.
    pub(super) fn is_at_or_before(&self, a: usize, b: usize) -> bool {
        self.bits[b * self.words + a / 64] & (1 << (a % 64)) != 0
    }

    /// What must stand before a rule, then itself; ascending.
    pub(super) fn with_self(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        let row = &self.bits[of * self.words..][..of / 64 + 1];
        row.iter().enumerate().flat_map(|(i, word)| ones(*word).map(move |bit| i * 64 + bit))
    }

    /// Number of rules.
    pub(super) fn len(&self) -> usize {
        self.bits.len().checked_div(self.words).unwrap_or(0)
    }

    /// Where the rules can be cut in two so that all before the cut must stand
    /// before all behind it; ascending, without the ends. O(n²/64).
    pub(super) fn series_cuts(&self) -> Vec<usize> {
        let mut cuts = Vec::new();
        let mut all_behind_have = self.len();
        for rule in (1..self.len()).rev() {
            let row = self.row(rule);
            let missing = row.iter().position(|word| *word != u64::MAX).unwrap_or(self.words - 1);
            all_behind_have = all_behind_have.min(missing * 64 + row[missing].trailing_ones() as usize);
            if all_behind_have >= rule {
                cuts.push(rule);
            }
        }
        cuts.reverse();
        cuts
    }

    /// The precedences among some of the rules, given ascending; these are then
    /// named by their position in `nodes`. O(n²/64) and O(1) for each precedence.
    pub(super) fn restrict(&self, nodes: &[usize]) -> Self {
        let mut local = vec![0; self.len()];
        let mut mask = vec![0_u64; self.words];
        for (at, node) in nodes.iter().enumerate() {
            local[*node] = at;
            mask[node / 64] |= 1 << (node % 64);
        }
        let words = nodes.len().div_ceil(64);
        let mut bits = vec![0; words * nodes.len()];
        let mut union = UnionFind::new(nodes.len());
        for (at, node) in nodes.iter().enumerate() {
            let mut left: Vec<u64> =
                self.row(*node).iter().zip(&mask).map(|(row, mask)| row & mask).collect();
            for (i, word) in left.iter().enumerate() {
                for a in ones(*word).map(|bit| local[i * 64 + bit]) {
                    bits[at * words + a / 64] |= 1 << (a % 64);
                }
            }
            // What an ancestor's ancestors join needs no look of its own.
            left[node / 64] &= !(1 << (node % 64));
            for i in (0..=node / 64).rev() {
                while left[i] != 0 {
                    let a = i * 64 + left[i].ilog2() as usize;
                    union.union(local[a], at);
                    left.iter_mut().zip(self.row(a)).for_each(|(left, known)| *left &= !known);
                }
            }
        }
        Self { words, bits, complete: self.complete, components: components(&mut union, nodes.len()) }
    }

    fn row(&self, of: usize) -> &[u64] {
        &self.bits[of * self.words..][..self.words]
    }

    /// A graph of precedences between rules given by `edges`, which lead upwards.
    #[cfg(test)]
    pub(super) fn of_edges(rules: usize, edges: &[(usize, usize)]) -> Self {
        Self::by(rules, |later, closure| {
            edges.iter().filter(|(_, to)| *to == later).for_each(|(from, _)| closure.join(*from));
        })
    }
}

/// A rule whose precedences are being found.
struct Closure<'a> {
    words: usize,
    rule: usize,
    /// Rows of the rules before it.
    known: &'a [u64],
    own: &'a mut [u64],
    union: &'a mut UnionFind<usize>,
}

impl Closure<'_> {
    /// Whether `earlier` is known to stand before the rule.
    fn knows(&self, earlier: usize) -> bool {
        self.own[earlier / 64] & (1 << (earlier % 64)) != 0
    }

    /// Puts `earlier`, and what stands before it, before the rule.
    fn join(&mut self, earlier: usize) {
        let row = &self.known[earlier * self.words..][..self.words];
        self.own.iter_mut().zip(row).for_each(|(to, from)| *to |= from);
        self.union.union(earlier, self.rule);
    }
}

/// The sets of a partition, each ascending.
fn components(union: &mut UnionFind<usize>, rules: usize) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new(); rules];
    (0..rules).for_each(|rule| found[union.find_mut(rule)].push(rule));
    found.retain(|component| !component.is_empty());
    found
}

/// The bits of a word, ascending.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// Whether two neighbours may change places.
pub(super) fn commute(ir: &PolicyIr, a: Rule, b: Rule) -> bool {
    let (a, b) = (&ir.rules[a], &ir.rules[b]);
    (a.action == b.action && a.decision == b.decision) || facts::are_disjoint(ir, &a.matches, &b.matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, policy};

    /// Against the closure of all pairs, compared one by one.
    #[test]
    fn the_closure_is_that_of_all_pairs() {
        let mut edges = 0;
        for seed in 0..300 {
            let ir = policy(seed, &Shape { rules: 90, chains: 1, ..Shape::default() });
            let rules = &ir.chains[ir.order[0]].rules;
            let have = Precedence::new(&ir, rules);
            let limited = Precedence::bounded(&ir, rules, 64 * COMPARED);
            assert!(have.complete);
            let mut want = vec![vec![false; rules.len()]; rules.len()];
            for later in 0..rules.len() {
                want[later][later] = true;
                for earlier in (0..later).filter(|e| !commute(&ir, rules[*e], rules[later])) {
                    (0..=earlier).filter(|a| want[earlier][*a]).collect::<Vec<_>>().into_iter().for_each(
                        |a| {
                            want[later][a] = true;
                        },
                    );
                    edges += 1;
                }
                for (a, before) in want[later].iter().enumerate() {
                    assert_eq!(have.is_at_or_before(a, later), *before, "seed {seed}");
                    assert!(!before || limited.is_at_or_before(a, later), "seed {seed}");
                }
                let row: Vec<usize> = (0..rules.len()).filter(|a| want[later][*a]).collect();
                assert_eq!(have.with_self(later).collect::<Vec<_>>(), row);
            }
        }
        assert!(edges > 10_000, "{edges}");
    }
}
