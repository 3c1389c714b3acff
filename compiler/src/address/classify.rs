//! Address classes: the partition of all addresses by the sets they belong to.
//!
//! What: two addresses are in one class exactly if every set that rules use holds
//! both or neither. A packet's address is looked up once per side and gives its
//! class; the sets of the class answer every set criterion. Facts, not a rewrite:
//! the IR stays as it is.
//!
//! Why sound: the sets that hold an address are those with a prefix that covers
//! it. Along the prefixes that cover an address, from short to long, the union of
//! sets only grows, so the longest one knows them all. A prefix that adds nothing
//! to the one around it can be left out; it is kept where members may change, since
//! the one around it may go.
//!
//! Membership is data: bit indices follow from which sets the rules use, never
//! from their members, so that a changed member changes tables and no code. For
//! the same reason a set without members still has its bit. Classes and their sets
//! follow from the members.
//!
//! Cost: sorting the n prefixes, then one sweep with a stack. A prefix whose sets
//! come upon a class as another prefix's did costs one look-up in a hash table of
//! its own sets; the first of its kind writes the new class's list. Classes are
//! lists of sets, so that many sets cost no more than the memberships there are.

use std::net::IpAddr;

use cranelift_entity::packed_option::PackedOption;
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap, entity_impl};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustc_hash::FxHashMap;

use super::class_sets::ClassSets;
use crate::ir::{AddrSet, PolicyIr, PortMatch, SetKind, SideMatch};

/// Addresses that belong to exactly the same sets.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u32);
entity_impl!(Class, "class");

impl Class {
    /// The class of addresses in no set: what a look-up that finds nothing means.
    pub const NONE: Self = Self(0);
}

/// A set's bit in every class's row.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetBit(u32);
entity_impl!(SetBit, "bit");

impl SetBit {
    /// Index of the 64-bit word in a row.
    pub fn word(self) -> usize {
        self.index() / 64
    }

    /// The bit in that word.
    pub fn mask(self) -> u64 {
        1 << (self.index() % 64)
    }
}

/// The partition: a longest-prefix table per family, and the sets of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressClasses {
    /// The sets that rules in evaluated chains use, ascending: one bit each.
    pub sets: PrimaryMap<SetBit, AddrSet>,
    /// IPv4 prefixes, ascending; an address has the class of the longest one
    /// that covers it, [`Class::NONE`] if there is none.
    pub v4: Vec<(Ipv4Net, Class)>,
    /// IPv6 prefixes, likewise.
    pub v6: Vec<(Ipv6Net, Class)>,
    /// Whether a set's members may change while the tables are in use.
    pub open: bool,
    classes: ClassSets,
    /// For each prefix of a table the index of the one around it.
    around4: Vec<u32>,
    around6: Vec<u32>,
    /// A set's bit, if it has one.
    bits: SecondaryMap<AddrSet, PackedOption<SetBit>>,
}

impl AddressClasses {
    /// Number of classes, [`Class::NONE`] included.
    #[expect(clippy::len_without_is_empty, reason = "there is always the class of no set")]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// All classes, ascending.
    pub fn classes(&self) -> impl Iterator<Item = Class> + use<> {
        (0..self.classes.len()).map(Class::new)
    }

    /// The sets that hold a class's addresses, ascending. Empty for an id that is
    /// no class.
    pub fn sets_of(&self, class: Class) -> &[SetBit] {
        self.classes.sets(class)
    }

    /// Length of every row in 64-bit words; 0 if no rule uses a set.
    pub fn words(&self) -> usize {
        self.sets.len().div_ceil(64)
    }

    /// The sets of a class as [`Self::words`] words: bit i of word w is set number
    /// 64 w + i. All zero for [`Class::NONE`].
    pub fn row(&self, class: Class) -> Vec<u64> {
        row(self.words(), self.sets_of(class))
    }

    /// The set's bit; `None` if no rule in an evaluated chain uses the set.
    pub fn bit(&self, set: AddrSet) -> Option<SetBit> {
        self.bits.get(set).and_then(|bit| bit.expand())
    }

    /// Whether the addresses of a class are in a set; false for a set without bit.
    pub fn contains(&self, class: Class, set: AddrSet) -> bool {
        self.bit(set).is_some_and(|bit| self.sets_of(class).binary_search(&bit).is_ok())
    }

    /// The class of an address. Cost: a binary search, then one step for each
    /// prefix that lies around the last one before the address and not around it.
    pub fn class_of(&self, address: IpAddr) -> Class {
        fn longest<N>(
            table: &[(N, Class)],
            around: &[u32],
            after: usize,
            covers: impl Fn(&N) -> bool,
        ) -> Class {
            let mut at = after.checked_sub(1).map_or(OUTERMOST, |last| last as u32);
            while let Some((net, class)) = table.get(at as usize) {
                if covers(net) {
                    return *class;
                }
                at = around[at as usize];
            }
            Class::NONE
        }
        match address {
            IpAddr::V4(a) => {
                let after = self.v4.partition_point(|(net, _)| net.network() <= a);
                longest(&self.v4, &self.around4, after, |net| net.contains(&a))
            }
            IpAddr::V6(a) => {
                let after = self.v6.partition_point(|(net, _)| net.network() <= a);
                longest(&self.v6, &self.around6, after, |net| net.contains(&a))
            }
        }
    }
}

/// Sets as `words` words of bits.
pub(crate) fn row(words: usize, sets: &[SetBit]) -> Vec<u64> {
    let mut row = vec![0; words];
    sets.iter().for_each(|bit| row[bit.word()] |= bit.mask());
    row
}

/// Computes the address classes of all sets that rules in evaluated chains use,
/// on either side and in named ports. `ir` must have passed [`crate::ir::verify`].
pub fn classify(ir: &PolicyIr) -> AddressClasses {
    let mut sets = PrimaryMap::new();
    let mut bits = SecondaryMap::new();
    for (id, used) in used_sets(ir).iter() {
        if *used {
            bits[id] = PackedOption::from(sets.push(id));
        }
    }
    let (v4, v6) = members(ir, &sets);
    let mut classes = ClassSets::new();
    let open = sets.values().any(|set| ir.sets[*set].kind == SetKind::Members);
    // Members are masked, so that their first addresses say all.
    let (v4, around4) = sweep(v4, open, &mut classes, |outer, inner| {
        let differ = u32::from(outer.addr()) ^ u32::from(inner.addr());
        outer.prefix_len() <= inner.prefix_len() && differ.leading_zeros() >= outer.prefix_len().into()
    });
    let (v6, around6) = sweep(v6, open, &mut classes, |outer, inner| {
        let differ = u128::from(outer.addr()) ^ u128::from(inner.addr());
        outer.prefix_len() <= inner.prefix_len() && differ.leading_zeros() >= outer.prefix_len().into()
    });
    AddressClasses { sets, v4, v6, open, classes, around4, around6, bits }
}

/// Which sets the rules of evaluated chains look at.
pub(crate) fn used_sets(ir: &PolicyIr) -> SecondaryMap<AddrSet, bool> {
    let mut used = SecondaryMap::with_capacity(ir.sets.len());
    used.resize(ir.sets.len());
    for rule in ir.order.iter().flat_map(|chain| &ir.chains[*chain].rules) {
        let m = &ir.rules[*rule].matches;
        for set in side_sets(&m.src).chain(side_sets(&m.dst)) {
            used[set] = true;
        }
    }
    used
}

/// Every set that one side's criteria look at, in order of appearance.
pub(crate) fn side_sets(side: &SideMatch) -> impl Iterator<Item = AddrSet> {
    let named = side.ports.iter().flatten().chain(&side.not_ports).filter_map(|port| match port {
        PortMatch::Named { set, .. } => Some(*set),
        PortMatch::Range(..) => None,
    });
    side.in_sets.iter().chain(&side.not_in).copied().chain(named)
}

type Members<N> = Vec<(N, SetBit)>;

/// All members with their set's bit, ascending: a prefix stands before those in it.
fn members(ir: &PolicyIr, sets: &PrimaryMap<SetBit, AddrSet>) -> (Members<Ipv4Net>, Members<Ipv6Net>) {
    let nets = || sets.iter().flat_map(|(bit, set)| ir.sets[*set].nets.iter().map(move |net| (net, bit)));
    let count4 = nets().filter(|(net, _)| matches!(net, IpNet::V4(_))).count();
    let mut v4 = Vec::with_capacity(count4);
    let mut v6 = Vec::with_capacity(nets().count() - count4);
    // Addresses apart from wider prefixes: often each ascend as they come, and the sort
    // then has to merge two runs only.
    for is_host in [true, false] {
        for (net, bit) in nets() {
            match net {
                IpNet::V4(net) if (net.prefix_len() == 32) == is_host => v4.push((*net, bit)),
                IpNet::V6(net) if (net.prefix_len() == 128) == is_host => v6.push((*net, bit)),
                _ => {}
            }
        }
    }
    // As numbers, which takes less than to compare them as they are.
    v4.sort_by_key(|(net, bit)| (u32::from(net.addr()), net.prefix_len(), *bit));
    v6.sort_by_key(|(net, bit)| (u128::from(net.addr()), net.prefix_len(), *bit));
    (v4, v6)
}

/// The prefix around one that has none.
const OUTERMOST: u32 = u32::MAX;

/// Goes through prefixes in ascending order with the stack of those around the
/// current one, and keeps a prefix if its class is not that of the one around it,
/// or all of them. Gives the kept ones, and the index of the one around each.
fn sweep<N: Copy + PartialEq>(
    members: Members<N>,
    all: bool,
    classes: &mut ClassSets,
    contains: impl Fn(&N, &N) -> bool,
) -> (Vec<(N, Class)>, Vec<u32>) {
    let bits: Vec<SetBit> = members.iter().map(|(_, bit)| *bit).collect();
    let mut known: FxHashMap<(Class, &[SetBit]), Class> = FxHashMap::default();
    let mut table: Vec<(N, Class)> = Vec::with_capacity(members.len());
    let mut around: Vec<u32> = Vec::with_capacity(members.len());
    let mut last = OUTERMOST;
    // What came before is likely to come again: a set's members lie close.
    let mut before: ((Class, &[SetBit]), Class) = ((Class::NONE, &[]), Class::NONE);
    let mut from = 0;
    for same in members.chunk_by(|a, b| a.0 == b.0) {
        let (net, bits) = (same[0].0, &bits[from..from + same.len()]);
        from += same.len();
        while let Some((outer, _)) = table.get(last as usize)
            && !contains(outer, &net)
        {
            last = around[last as usize];
        }
        let outer = table.get(last as usize).map_or(Class::NONE, |(_, class)| *class);
        if before.0 != (outer, bits) {
            let class = *known.entry((outer, bits)).or_insert_with(|| classes.with(outer, bits));
            before = ((outer, bits), class);
        }
        let class = before.1;
        if all || class != outer {
            table.push((net, class));
            around.push(last);
            last = table.len() as u32 - 1;
        }
    }
    (table, around)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, flows, policy};
    use crate::ir::{
        Action, AddrSetData, ChainData, ChainEnd, Decision, DecisionData, DecisionKind, Direction, Match,
        RuleData, RuleOrigins, SetKind,
    };

    /// One rule that uses all sets, so that each has its bit.
    fn with_sets(sets: &[&[&str]]) -> PolicyIr {
        let mut ir = PolicyIr::new("test", Direction::Ingress);
        for nets in sets {
            let nets = nets.iter().map(|n| n.parse().unwrap()).collect();
            ir.sets.push(AddrSetData { kind: SetKind::Nets, name: String::new(), nets });
        }
        let decision = ir.decisions.push(DecisionData {
            kind: DecisionKind::TierDefault,
            api: String::new(),
            object: String::new(),
            namespace: None,
            name: String::new(),
            tier: None,
            rule: None,
            action: Action::Deny,
            at: None,
        });
        let in_sets = ir.sets.keys().collect();
        let matches = Match { src: SideMatch { in_sets, ..Default::default() }, ..Default::default() };
        let rule = ir.rules.push(RuleData {
            matches,
            action: Action::Deny,
            decision,
            origins: RuleOrigins::default(),
        });
        let end = ChainEnd::Deny(Decision::from_u32(0));
        ir.order.push(ir.chains.push(ChainData { name: "t".into(), rules: vec![rule], end }));
        ir
    }

    #[test]
    fn classes_of_nested_prefixes() {
        let ir =
            with_sets(&[&["10.0.0.0/8"], &["10.1.0.0/16", "10.2.0.0/16"], &["10.1.0.0/16", "fd00::/8"], &[]]);
        let classes = classify(&ir);
        let table: Vec<String> = classes
            .v4
            .iter()
            .map(|(net, class)| format!("{net} {:04b}", classes.row(*class)[0]))
            .chain(classes.v6.iter().map(|(net, class)| format!("{net} {:04b}", classes.row(*class)[0])))
            .collect();
        assert_eq!(table, ["10.0.0.0/8 0001", "10.1.0.0/16 0111", "10.2.0.0/16 0011", "fd00::/8 0100"]);
        assert_eq!(classes.class_of("11.0.0.1".parse().unwrap()), Class::NONE);
        assert_eq!(classes.words(), 1);
    }

    #[test]
    fn redundant_prefixes_are_dropped() {
        let ir = with_sets(&[&["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32"]]);
        assert_eq!(classify(&ir).v4.len(), 1);
    }

    #[test]
    fn bits_do_not_depend_on_members() {
        for seed in 0..200 {
            let mut ir = policy(seed, &Shape::default());
            let before = classify(&ir);
            for (_, set) in ir.sets.iter_mut() {
                set.nets.clear();
            }
            let after = classify(&ir);
            assert_eq!(before.sets, after.sets, "seed {seed}");
            assert_eq!(after.len(), 1);
        }
    }

    /// A class says of every used set what the set's members say.
    #[test]
    fn classes_agree_with_members() {
        let shape = Shape { sets: 70, nets: 6, rules: 60, ..Shape::default() };
        let mut checked = 0;
        for seed in 0..60 {
            let ir = policy(seed, &shape);
            let classes = classify(&ir);
            for flow in flows(&ir, seed, 60) {
                for address in [flow.src, flow.dst] {
                    let class = classes.class_of(address);
                    for set in classes.sets.values() {
                        let want = ir.sets[*set].nets.iter().any(|net| net.contains(&address));
                        assert_eq!(classes.contains(class, *set), want, "seed {seed} {set} {address}");
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 100_000, "{checked}");
    }

    /// Sets of the given hosts, all used by one rule.
    fn with_hosts(sets: impl Iterator<Item = Vec<u32>>) -> PolicyIr {
        let mut ir = with_sets(&[]);
        for hosts in sets {
            let nets =
                hosts.into_iter().map(|h| IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(h)))).collect();
            let id = ir.sets.push(AddrSetData { kind: SetKind::Members, name: String::new(), nets });
            ir.rules[crate::ir::Rule::from_u32(0)].matches.src.in_sets.push(id);
        }
        ir
    }

    #[test]
    fn hundred_thousand_prefixes_in_ten_thousand_sets() {
        let hosts = |i: u32| (0..10).map(|j| 0x0a00_0000 + i * 8 + j * 3).collect();
        let classes = classify(&with_hosts((0..10_000).map(hosts)));
        assert_eq!(classes.words(), 157);
        assert!(classes.v4.len() > 50_000, "{}", classes.v4.len());
    }

    /// Rows of bits would take 1.25 GB.
    #[test]
    fn hundred_thousand_sets_of_one_host_each() {
        let classes = classify(&with_hosts((0..100_000).map(|i| vec![i * 2])));
        assert_eq!((classes.len(), classes.v4.len()), (100_001, 100_000));
        assert_eq!(classes.sets_of(Class::from_u32(7)), [SetBit::from_u32(6)]);
        assert!(classes.contains(classes.class_of("0.0.0.2".parse().unwrap()), AddrSet::from_u32(1)));
    }

    #[test]
    fn a_million_hosts_and_a_thousand_sets_for_each_of_some() {
        let classes = classify(&with_hosts(std::iter::once((0..1_000_000).collect())));
        assert_eq!((classes.len(), classes.v4.len()), (2, 1_000_000));
        let classes = classify(&with_hosts((0..1_000).map(|_| (0..300).collect())));
        assert_eq!((classes.len(), classes.v4.len()), (2, 300));
        assert_eq!(classes.sets_of(Class::from_u32(1)).len(), 1_000);
    }
}
