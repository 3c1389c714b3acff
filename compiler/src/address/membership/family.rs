//! One family's members: which sets hold each prefix.
//!
//! Cost: for a host a look-up per length that has members; for a prefix all members
//! inside it.

use std::collections::{BTreeMap, HashMap};

use super::lists::{EMPTY, List, Lists};
use crate::address::lengths::cut;

/// Addresses, left-aligned in 128 bits, and a length: sorted, a prefix stands
/// before those inside it.
pub(super) type Net = (u128, u8);

/// What is known about a prefix that has members or is a marker.
#[derive(Copy, Clone, Debug)]
pub(super) struct Node {
    /// The sets that list it.
    pub own: List,
    /// The sets that hold its addresses.
    pub all: List,
    /// IPv6 prefixes that need it as a marker.
    pub needed: u32,
}

/// One family's members.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// Length of a host.
    pub host: u8,
    pub nodes: BTreeMap<Net, Node>,
    /// Prefixes with members by length.
    pub lengths: [u32; 129],
    /// Whether a prefix may not change before the next quiet.
    pub moved: bool,
}

/// The markers that a change is the first or the last to need.
#[derive(Default)]
pub(super) struct Markers {
    pub came: Vec<Net>,
    pub gone: Vec<Net>,
}

/// What a change concerns.
pub(super) struct Region {
    /// The sets around the changed prefix.
    pub outer: List,
    /// Prefixes and markers at or inside it, ascending, with the sets that hold them.
    pub nodes: Vec<(Net, List)>,
    /// Whether the changed prefix is listed by a set.
    pub listed: bool,
    /// The changed prefix, if it stands nowhere any more.
    pub gone: Option<Net>,
}

impl Family {
    pub fn new(host: u8) -> Self {
        Self { host, nodes: BTreeMap::new(), lengths: [0; 129], moved: false }
    }

    /// The sets around a prefix.
    pub fn outer(&self, net: Net) -> List {
        let shorter = (0..net.1).rev().filter(|l| self.lengths[usize::from(*l)] > 0);
        let mut listed =
            shorter.filter_map(|l| self.nodes.get(&(cut(net.0, l), l))).filter(|n| n.own != EMPTY);
        listed.next().map_or(EMPTY, |node| node.all)
    }

    /// Counts one more, or one less, prefix that needs these markers.
    pub fn need(&mut self, way: &[Net], more: bool, lists: &mut Lists) -> Markers {
        let mut markers = Markers::default();
        for net in way {
            if more && !self.nodes.contains_key(net) {
                let all = self.outer(*net);
                lists.use_list(EMPTY, false);
                lists.use_list(all, true);
                self.nodes.insert(*net, Node { own: EMPTY, all, needed: 0 });
                markers.came.push(*net);
            }
            let Some(node) = self.nodes.get_mut(net) else { continue };
            node.needed = if more { node.needed + 1 } else { node.needed.saturating_sub(1) };
            if node.needed == 0 && node.own == EMPTY {
                lists.leave(node.all, true);
                lists.leave(node.own, false);
                self.nodes.remove(net);
                markers.gone.push(*net);
            }
        }
        markers
    }

    /// Has a prefix listed by these sets.
    pub fn list(&mut self, net: Net, own: List, lists: &mut Lists) {
        let node = self.nodes.entry(net).or_insert_with(|| {
            lists.use_list(EMPTY, false);
            lists.use_list(EMPTY, true);
            Node { own: EMPTY, all: EMPTY, needed: 0 }
        });
        let count = &mut self.lengths[usize::from(net.1)];
        *count += u32::from(own != EMPTY);
        *count -= u32::from(node.own != EMPTY);
        lists.use_list(own, false);
        lists.leave(node.own, false);
        node.own = own;
    }

    /// Computes anew which sets hold the prefixes at and inside one, and forgets it
    /// if nobody lists or needs it.
    pub fn recompute(&mut self, net: Net, lists: &mut Lists) -> Region {
        let outer = self.outer(net);
        let last = net.0 | !cut(u128::MAX, net.1);
        let mut around: Vec<(Net, List)> = vec![((0, 0), outer)];
        let mut known: HashMap<(List, List), List> = HashMap::new();
        let mut nodes = Vec::new();
        for (at, node) in self.nodes.range_mut(net..=(last, self.host)) {
            let outer = enclosing(&mut around, *at);
            let all = match known.get(&(outer, node.own)) {
                Some(known) => *known,
                None => {
                    let all = lists.union(outer, node.own);
                    known.insert((outer, node.own), all);
                    all
                }
            };
            if all != node.all {
                lists.use_list(all, true);
                lists.leave(node.all, true);
                node.all = all;
            }
            if node.own != EMPTY {
                around.push((*at, all));
            }
            nodes.push((*at, all));
        }
        let node = self.nodes.get(&net).copied();
        let listed = node.is_some_and(|n| n.own != EMPTY);
        let mut gone = None;
        if let Some(node) = node
            && !listed
            && node.needed == 0
        {
            lists.leave(node.all, true);
            lists.leave(node.own, false);
            self.nodes.remove(&net);
            nodes.remove(0);
            gone = Some(net);
        }
        Region { outer, nodes, listed, gone }
    }
}

/// Pops from the stack what does not hold a prefix; the sets of what does.
pub(super) fn enclosing(around: &mut Vec<(Net, List)>, net: Net) -> List {
    while around.last().is_some_and(|((outer, length), _)| cut(net.0, *length) != *outer) {
        around.pop();
    }
    around.last().map_or(EMPTY, |(_, list)| *list)
}
