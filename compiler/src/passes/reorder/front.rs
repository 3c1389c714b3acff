//! Which rules of a long chain are worth ordering, and how far an order pays.
//!
//! What: [`choose`] takes the densest rules of a chain that is too long to be
//! ordered as a whole, each with all that must stand before it, until
//! [`MAX_RULES`] rules or [`MAX_LOOKS`] looks are spent. [`place`] puts the first
//! rules of an order in front of all others, which keep theirs, as many as cost
//! least.
//!
//! Why sound: what is chosen holds every rule that must stand before one of its
//! own, and so do the first rules of any legal order of it.
//!
//! Cost: as [`MAX_LOOKS`] says; O(n log n) for the placing.

use super::MAX_RULES;
use super::precedence::commute;
use super::sequence::Step;
use crate::ir::{PolicyIr, Rule};
use crate::passes::overlap::Overlaps;

/// Most pairs of rules that are looked at to choose: about a fifth of a second.
const MAX_LOOKS: usize = 10_000_000;

/// The rules to order, by position, ascending: all of them in a chain of up to
/// [`MAX_RULES`].
pub(super) fn choose(ir: &PolicyIr, rules: &[Rule], steps: &[Step]) -> Vec<usize> {
    if rules.len() <= MAX_RULES {
        return (0..rules.len()).collect();
    }
    let density = |a: &usize, b: &usize| {
        let left = u128::from(steps[*a].0) * u128::from(steps[*b].1);
        left.cmp(&(u128::from(steps[*b].0) * u128::from(steps[*a].1)))
    };
    let mut densest: Vec<usize> = (0..rules.len()).collect();
    densest.sort_by(|a, b| density(b, a));
    let overlaps = Overlaps::new(ir, rules);
    let mut chosen = vec![false; rules.len()];
    let (mut count, mut looks) = (0, 0);
    for rule in densest {
        if chosen[rule] || looks >= MAX_LOOKS || count >= MAX_RULES {
            continue;
        }
        let most = MAX_RULES - count;
        if let Some(found) = ancestors(ir, rules, &overlaps, rule, &mut chosen, most, &mut looks) {
            count += found;
        }
    }
    (0..rules.len()).filter(|rule| chosen[*rule]).collect()
}

/// Chooses a rule and all that must stand before it; chooses nothing if these are
/// more than `most` or it takes too many looks.
fn ancestors(
    ir: &PolicyIr,
    rules: &[Rule],
    overlaps: &Overlaps,
    rule: usize,
    chosen: &mut [bool],
    most: usize,
    looks: &mut usize,
) -> Option<usize> {
    chosen[rule] = true;
    let mut found = vec![rule];
    let mut at = 0;
    while at < found.len() && found.len() <= most && *looks < MAX_LOOKS {
        let later = found[at];
        at += 1;
        for earlier in overlaps.earlier(later) {
            *looks += 1;
            let earlier = earlier as usize;
            if !chosen[earlier] && !commute(ir, rules[earlier], rules[later]) {
                chosen[earlier] = true;
                found.push(earlier);
            }
        }
    }
    if at < found.len() || found.len() > most {
        found.iter().for_each(|rule| chosen[*rule] = false);
        return None;
    }
    Some(found.len())
}

/// The order that starts with as many rules of `front` as pay and goes on with all
/// others as they came; never dearer than the order that they came in.
pub(super) fn place(front: &[usize], steps: &[Step]) -> Vec<usize> {
    let (weights, costs) = steps.iter().map(|(w, c)| (i128::from(*w), i128::from(*c))).unzip();
    let mut weights = Sums::new(weights);
    let mut costs = Sums::new(costs);
    let (mut change, mut least, mut pays) = (0, 0, 0);
    for (at, rule) in front.iter().enumerate() {
        let (weight, cost) = (i128::from(steps[*rule].0), i128::from(steps[*rule].1));
        weights.add(*rule, -weight);
        costs.add(*rule, -cost);
        // It overtakes the others that stand before it.
        change += cost * weights.before(*rule) - weight * costs.before(*rule);
        if change < least {
            (least, pays) = (change, at + 1);
        }
    }
    let mut first = vec![false; steps.len()];
    front[..pays].iter().for_each(|rule| first[*rule] = true);
    front[..pays].iter().copied().chain((0..steps.len()).filter(|rule| !first[*rule])).collect()
}

/// Numbers whose sums up to a position are at hand (a binary indexed tree).
struct Sums(Vec<i128>);

impl Sums {
    fn new(numbers: Vec<i128>) -> Self {
        let mut sums = Self(vec![0; numbers.len() + 1]);
        numbers.iter().enumerate().for_each(|(at, number)| sums.add(at, *number));
        sums
    }

    fn add(&mut self, at: usize, number: i128) {
        let mut node = at + 1;
        while node < self.0.len() {
            self.0[node] += number;
            node += node & node.wrapping_neg();
        }
    }

    /// The sum of what stands before a position.
    fn before(&self, at: usize) -> i128 {
        let (mut node, mut sum) = (at, 0);
        while node > 0 {
            sum += self.0[node];
            node &= node - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::Rng;
    use crate::passes::cost::expected;

    #[test]
    fn as_many_rules_as_pay_are_placed() {
        let mut rng = Rng::new(29);
        for case in 0..300 {
            let n = 1 + rng.below(12);
            let steps: Vec<Step> = (0..n).map(|_| (rng.below(9) as u64, 1 + rng.below(5) as u64)).collect();
            let mut front: Vec<usize> = (0..n).collect();
            (1..n).for_each(|i| front.swap(i, rng.below(i + 1)));
            let cost = |pays: usize| {
                let rest = (0..n).filter(|rule| !front[..pays].contains(rule));
                let order: Vec<usize> = front[..pays].iter().copied().chain(rest).collect();
                expected(order.iter().map(|rule| &steps[*rule]))
            };
            let least = (0..=n).map(cost).min().unwrap();
            let have = expected(place(&front, &steps).iter().map(|rule| &steps[*rule]));
            assert_eq!(have, least, "case {case}");
        }
    }
}
