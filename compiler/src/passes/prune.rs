//! Prune: removes rules that decide nothing and log nothing.
//!
//! What: a rule goes if its match can hold for no packet, if an earlier rule of
//! its chain that ends the chain's evaluation (Allow, Deny or Pass) matches every
//! packet that it matches, or if its chain is never reached. Chains that no
//! packet reaches leave the order. Then everything that nothing refers to any
//! more (rules, chains, sets) is dropped and the rest is renumbered.
//!
//! Why sound: no packet meets such a rule. A rule that does what the chain's end
//! would do as well stays: it is another decision, and decisions are output. Log
//! rules never cover anything, as evaluation goes on after them. Decisions and
//! files keep their ids, for reports about rules that are gone.
//!
//! Cost: each rule against the earlier rules of its chain that [`super::overlap`]
//! names, at most [`MAX_PAIRS`] pairs per chain; later rules are compared with equal
//! matches only, in O(log n).

use std::collections::BTreeMap;

use cranelift_entity::packed_option::PackedOption;
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap};

use super::facts;
use super::normalise::never;
use super::overlap::Overlaps;
use crate::address::used_sets;
use crate::ir::{Action, AddrSet, Chain, ChainData, ChainEnd, Match, PolicyIr, PortMatch, Rule, SideMatch};

/// Pairs of rules that one chain's search for covered rules looks at: 10,000 rules
/// of which each may overlap all others and none is covered, or many more that
/// ports or addresses keep apart.
pub const MAX_PAIRS: usize = 50_000_000;

/// What the pass removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rules that match no packet, by their ids before the pass.
    pub never: Vec<Rule>,
    /// Rules that an earlier one covers, with that one; ids before the pass.
    pub covered: Vec<(Rule, Rule)>,
    /// Rules in chains that no packet reaches.
    pub unreached: usize,
    /// Sets that no rule uses.
    pub sets: usize,
}

impl Pruned {
    /// Rules removed from chains.
    pub fn rules(&self) -> usize {
        self.never.len() + self.covered.len() + self.unreached
    }
}

/// Removes what no packet meets, and renumbers rules, chains and sets. Finds most
/// after [`super::normalise`]. `ir` must have passed [`crate::ir::verify`].
pub fn prune(ir: &mut PolicyIr) -> Pruned {
    let mut pruned = Pruned::default();
    for i in 0..ir.order.len() {
        prune_chain(ir, ir.order[i], &mut pruned);
    }
    let reached = ir.order.iter().position(|chain| !goes_on(ir, *chain)).map_or(ir.order.len(), |at| at + 1);
    for chain in ir.order.drain(reached..) {
        pruned.unreached += ir.chains[chain].rules.len();
    }
    close_last_chain(ir);
    pruned.sets = ir.sets.len();
    compact(ir);
    pruned.sets -= ir.sets.len();
    pruned
}

/// Whether evaluation can go from this chain to the next one.
fn goes_on(ir: &PolicyIr, chain: Chain) -> bool {
    let data = &ir.chains[chain];
    data.rules.iter().any(|rule| ir.rules[*rule].action == Action::Pass)
        || (data.end == ChainEnd::Pass && closing_rule(ir, chain).is_none())
}

/// The chain's last rule as an end, if it decides every packet.
fn closing_rule(ir: &PolicyIr, chain: Chain) -> Option<ChainEnd> {
    let rule = &ir.rules[*ir.chains[chain].rules.last()?];
    match rule.action {
        _ if rule.matches != Match::default() => None,
        Action::Allow => Some(ChainEnd::Allow(rule.decision)),
        Action::Deny => Some(ChainEnd::Deny(rule.decision)),
        Action::Pass | Action::Log => None,
    }
}

/// A last chain must not pass on, even if no packet gets to its end: it ends as
/// the rule that decides every packet does.
fn close_last_chain(ir: &mut PolicyIr) {
    let Some(last) = ir.order.last().copied() else { return };
    if ir.chains[last].end == ChainEnd::Pass
        && let Some(end) = closing_rule(ir, last)
    {
        ir.chains[last].end = end;
    }
}

fn prune_chain(ir: &mut PolicyIr, chain: Chain, pruned: &mut Pruned) {
    let never = never();
    let rules = &ir.chains[chain].rules;
    let overlaps = Overlaps::new(ir, rules);
    let mut kept: Vec<Rule> = Vec::new();
    // By position: whether the rule stayed and ends the chain's evaluation.
    let mut terminal = vec![false; rules.len()];
    let mut seen: BTreeMap<&Match, Rule> = BTreeMap::new();
    let mut pairs = 0;
    for (at, rule) in rules.iter().enumerate() {
        let data = &ir.rules[*rule];
        if matches_nothing(&data.matches, &never) {
            pruned.never.push(*rule);
            continue;
        }
        let cover = if pairs <= MAX_PAIRS {
            let earlier = overlaps.earlier(at);
            pairs += earlier.len();
            let terminals = earlier.iter().rev().filter(|by| terminal[**by as usize]);
            let mut terminals = terminals.map(|by| rules[*by as usize]);
            terminals.find(|by| facts::implies(ir, &data.matches, &ir.rules[*by].matches))
        } else {
            seen.get(&data.matches).copied()
        };
        if let Some(by) = cover {
            pruned.covered.push((*rule, by));
            continue;
        }
        kept.push(*rule);
        if data.action != Action::Log {
            terminal[at] = true;
            seen.entry(&data.matches).or_insert(*rule);
        }
    }
    ir.chains[chain].rules = kept;
}

/// Whether the match is the normal form of one that never holds, or has an empty
/// port list or contradicts itself.
fn matches_nothing(m: &Match, never: &Match) -> bool {
    let empty = |side: &SideMatch| side.ports.as_ref().is_some_and(Vec::is_empty);
    m == never || empty(&m.src) || empty(&m.dst) || (m.protocol.is_some() && m.protocol == m.not_protocol)
}

/// Drops rules, chains and sets that evaluation cannot meet; renumbers the rest
/// in their order of creation.
fn compact(ir: &mut PolicyIr) {
    let mut evaluated = SecondaryMap::with_capacity(ir.chains.len());
    let mut placed = SecondaryMap::with_capacity(ir.rules.len());
    for chain in &ir.order {
        evaluated[*chain] = true;
        for rule in &ir.chains[*chain].rules {
            placed[*rule] = true;
        }
    }
    let used = used_sets(ir);
    let sets = retain(&mut ir.sets, |set| used[set]);
    let rules = retain(&mut ir.rules, |rule| placed[rule]);
    let chains = retain(&mut ir.chains, |chain| evaluated[chain]);
    for (_, rule) in ir.rules.iter_mut() {
        rename_sets(&mut rule.matches.src, &sets);
        rename_sets(&mut rule.matches.dst, &sets);
    }
    for (_, ChainData { rules: list, .. }) in ir.chains.iter_mut() {
        *list = list.iter().filter_map(|rule| rules[*rule].expand()).collect();
    }
    ir.order = ir.order.iter().filter_map(|chain| chains[*chain].expand()).collect();
}

/// Old ids to new ones; `None` for what is gone.
type Renumbered<K> = SecondaryMap<K, PackedOption<K>>;

fn retain<K, T>(map: &mut PrimaryMap<K, T>, keep: impl Fn(K) -> bool) -> Renumbered<K>
where
    K: EntityRef + cranelift_entity::packed_option::ReservedValue,
{
    let mut ids = SecondaryMap::with_capacity(map.len());
    let mut kept = PrimaryMap::new();
    for (id, item) in std::mem::take(map) {
        if keep(id) {
            ids[id] = PackedOption::from(kept.push(item));
        }
    }
    *map = kept;
    ids
}

fn rename_sets(side: &mut SideMatch, ids: &Renumbered<AddrSet>) {
    let rename = |set: &mut AddrSet| {
        if let Some(new) = ids[*set].expand() {
            *set = new;
        }
    };
    side.in_sets.iter_mut().chain(&mut side.not_in).for_each(rename);
    for port in side.ports.iter_mut().flatten().chain(&mut side.not_ports) {
        if let PortMatch::Named { set, .. } = port {
            rename(set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, policy};
    use crate::passes::normalise;
    use crate::passes::testing::differential;

    #[test]
    fn pruning_keeps_every_outcome() {
        let shape = Shape { rules: 14, ..Shape::default() };
        let alone = differential(&shape, 700, |ir| prune(ir).rules());
        let after_normalise = differential(&shape, 700, |ir| {
            normalise(ir);
            prune(ir).rules()
        });
        assert!(alone > 1_000 && after_normalise > alone, "{alone} {after_normalise}");
    }

    #[test]
    fn nothing_unused_stays() {
        for seed in 0..300 {
            let mut ir = policy(seed, &Shape::default());
            prune(&mut ir);
            assert_eq!(ir.order.len(), ir.chains.len(), "seed {seed}");
            assert_eq!(
                ir.rules.len(),
                ir.chains.values().map(|c| c.rules.len()).sum::<usize>(),
                "seed {seed}"
            );
            assert!(used_sets(&ir).values().all(|used| *used), "seed {seed}");
        }
    }
}
