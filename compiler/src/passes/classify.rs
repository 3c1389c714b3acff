//! Address classes: the partition of all addresses by the sets they belong to.
//!
//! What: two addresses are in one class exactly if every set that rules use holds
//! both or neither. A packet's address is looked up once per side and gives its
//! class; the class's row of bits answers every set criterion. Facts, not a
//! rewrite: the IR stays as it is.
//!
//! Why sound: the sets that hold an address are those with a prefix that covers
//! it. Along the prefixes that cover an address, from short to long, the union of
//! sets only grows, so the longest one knows them all, and a prefix that adds
//! nothing to the one around it can be left out.
//!
//! Membership is data: bit indices follow from which sets the rules use, never
//! from their members, so that a changed member changes tables and no code. For
//! the same reason a set without members still has its bit. Classes and rows
//! follow from the members.
//!
//! Cost: sorting the n prefixes, then one sweep with a stack; each distinct
//! prefix copies and looks up one row (b bits): O(n log n · b/64) words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cranelift_entity::packed_option::PackedOption;
use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap, entity_impl};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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

/// The partition, as a longest-prefix table per family and a row per class.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressClasses {
    /// The sets that rules in evaluated chains use, ascending: one bit each.
    pub sets: PrimaryMap<SetBit, AddrSet>,
    /// IPv4 prefixes, ascending; an address has the class of the longest one
    /// that covers it, [`Class::NONE`] if there is none.
    pub v4: Vec<(Ipv4Net, Class)>,
    /// IPv6 prefixes, likewise.
    pub v6: Vec<(Ipv6Net, Class)>,
    /// The sets of each class: [`Self::words`] words, bit i of word w is set
    /// number 64 w + i. [`Class::NONE`] is all zero.
    pub rows: PrimaryMap<Class, Box<[u64]>>,
    /// Whether a set's members may change while the tables are in use.
    pub open: bool,
    /// A set's bit, if it has one.
    bits: SecondaryMap<AddrSet, PackedOption<SetBit>>,
}

impl AddressClasses {
    /// Number of classes, [`Class::NONE`] included.
    #[expect(clippy::len_without_is_empty, reason = "there is always the class of no set")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Length of every row in 64-bit words; 0 if no rule uses a set.
    pub fn words(&self) -> usize {
        self.sets.len().div_ceil(64)
    }

    /// The set's bit; `None` if no rule in an evaluated chain uses the set.
    pub fn bit(&self, set: AddrSet) -> Option<SetBit> {
        self.bits.get(set).and_then(|bit| bit.expand())
    }

    /// Whether the addresses of a class are in a set; false for a set without bit.
    pub fn contains(&self, class: Class, set: AddrSet) -> bool {
        self.bit(set).is_some_and(|bit| self.rows[class][bit.word()] & bit.mask() != 0)
    }

    /// The class of an address. Linear; for tests, tools and checks of tables.
    pub fn class_of(&self, address: IpAddr) -> Class {
        fn longest<N>(table: &[(N, Class)], covers: impl Fn(&N) -> Option<u8>) -> Class {
            let covering = table.iter().filter_map(|(net, class)| Some((covers(net)?, *class)));
            covering.max_by_key(|(length, _)| *length).map_or(Class::NONE, |(_, class)| class)
        }
        match address {
            IpAddr::V4(a) => longest(&self.v4, |net| net.contains(&a).then(|| net.prefix_len())),
            IpAddr::V6(a) => longest(&self.v6, |net| net.contains(&a).then(|| net.prefix_len())),
        }
    }
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
    let mut rows = Rows::new(sets.len().div_ceil(64));
    let v4 = sweep(v4, &mut rows, |outer, inner| outer.contains(inner));
    let v6 = sweep(v6, &mut rows, |outer, inner| outer.contains(inner));
    let open = sets.values().any(|set| ir.sets[*set].kind == SetKind::Members);
    AddressClasses { sets, v4, v6, rows: rows.finish(), open, bits }
}

/// Which sets the rules of evaluated chains look at.
pub(super) fn used_sets(ir: &PolicyIr) -> SecondaryMap<AddrSet, bool> {
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
pub(super) fn side_sets(side: &SideMatch) -> impl Iterator<Item = AddrSet> {
    let named = side.ports.iter().flatten().chain(&side.not_ports).filter_map(|port| match port {
        PortMatch::Named { set, .. } => Some(*set),
        PortMatch::Range(..) => None,
    });
    side.in_sets.iter().chain(&side.not_in).copied().chain(named)
}

type Members<N> = Vec<(N, SetBit)>;

/// All members with their set's bit, ascending: a prefix stands before those in it.
fn members(ir: &PolicyIr, sets: &PrimaryMap<SetBit, AddrSet>) -> (Members<Ipv4Net>, Members<Ipv6Net>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (bit, set) in sets {
        for net in &ir.sets[*set].nets {
            match net {
                IpNet::V4(net) => v4.push((*net, bit)),
                IpNet::V6(net) => v6.push((*net, bit)),
            }
        }
    }
    v4.sort_unstable();
    v6.sort_unstable();
    (v4, v6)
}

/// Goes through prefixes in ascending order with the stack of those around the
/// current one, and keeps a prefix if its class is not that of the one around it.
fn sweep<N: Copy + PartialEq>(
    members: Members<N>,
    rows: &mut Rows,
    contains: impl Fn(&N, &N) -> bool,
) -> Vec<(N, Class)> {
    let mut table = Vec::new();
    let mut around: Vec<(N, Class)> = Vec::new();
    for same in members.chunk_by(|a, b| a.0 == b.0) {
        let net = same[0].0;
        while around.last().is_some_and(|(outer, _)| !contains(outer, &net)) {
            around.pop();
        }
        let outer = around.last().map_or(Class::NONE, |(_, class)| *class);
        let class = rows.with(outer, same.iter().map(|(_, bit)| *bit));
        if class != outer {
            table.push((net, class));
            around.push((net, class));
        }
    }
    table
}

/// Distinct rows, numbered in order of appearance.
struct Rows {
    ids: BTreeMap<Box<[u64]>, Class>,
    scratch: Vec<u64>,
    /// A class's row; the same boxes again, since rows are looked up both ways.
    rows: PrimaryMap<Class, Box<[u64]>>,
}

impl Rows {
    fn new(words: usize) -> Self {
        let zero: Box<[u64]> = vec![0; words].into();
        let mut rows = PrimaryMap::new();
        let none = rows.push(zero.clone());
        Self { ids: BTreeMap::from([(zero, none)]), scratch: vec![0; words], rows }
    }

    /// The class whose row is that of `class` plus the bits.
    fn with(&mut self, class: Class, bits: impl Iterator<Item = SetBit>) -> Class {
        self.scratch.copy_from_slice(&self.rows[class]);
        for bit in bits {
            self.scratch[bit.word()] |= bit.mask();
        }
        if let Some(known) = self.ids.get(self.scratch.as_slice()) {
            return *known;
        }
        let row: Box<[u64]> = self.scratch.as_slice().into();
        let class = self.rows.push(row.clone());
        self.ids.insert(row, class);
        class
    }

    fn finish(self) -> PrimaryMap<Class, Box<[u64]>> {
        self.rows
    }
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
            .map(|(net, class)| format!("{net} {:04b}", classes.rows[*class][0]))
            .chain(classes.v6.iter().map(|(net, class)| format!("{net} {:04b}", classes.rows[*class][0])))
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
            assert_eq!(after.rows.len(), 1);
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

    #[test]
    fn hundred_thousand_prefixes_in_ten_thousand_sets() {
        let mut ir = with_sets(&[]);
        for i in 0..10_000_u32 {
            let host = |j: u32| std::net::Ipv4Addr::from(0x0a00_0000 + i * 8 + j * 3);
            let mut nets: Vec<IpNet> = (0..10).map(|j| IpNet::from(IpAddr::from(host(j)))).collect();
            nets.sort();
            let id = ir.sets.push(AddrSetData { kind: SetKind::Members, name: String::new(), nets });
            ir.rules[crate::ir::Rule::from_u32(0)].matches.src.in_sets.push(id);
        }
        let classes = classify(&ir);
        assert_eq!(classes.words(), 157);
        assert!(classes.v4.len() > 50_000, "{}", classes.v4.len());
    }
}
