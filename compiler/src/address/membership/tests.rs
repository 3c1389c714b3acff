//! A reader that takes its time, against changes that go on meanwhile.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::address::buckets::{self, LINE_WORDS, OVERFLOW};
use crate::address::{AddressLimits, classify, trie};
use crate::ir::{
    Action, AddrSetData, ChainData, ChainEnd, DecisionData, DecisionKind, Direction, Match, RuleData,
    RuleOrigins, SideMatch,
};

const SETS: usize = 9;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What the sets hold, without any table.
type Model = Vec<BTreeSet<IpNet>>;

fn truth(model: &Model, address: IpAddr) -> u32 {
    let holds =
        |(i, set): (usize, &BTreeSet<IpNet>)| u32::from(set.iter().any(|n| n.contains(&address))) << i;
    model.iter().enumerate().map(holds).sum()
}

/// Tables as programs find them, and the sets of each class as a word of bits.
struct Loaded {
    membership: Membership,
    words: Vec<Vec<u32>>,
    rows: Vec<u32>,
}

/// The map number of the rows.
const ROWS: u32 = 100;

struct Rows;

impl ClassRows for Rows {
    fn fill(&mut self, class: Class, sets: &[SetBit], stores: &mut Vec<Store>) -> Result<(), Refused> {
        let value = sets.iter().map(|bit| 1 << bit.as_u32()).sum();
        stores.push(Store { map: ROWS, index: class.as_u32(), offset: 0, value });
        Ok(())
    }

    fn retire(&mut self, _: Class) {}
}

fn load(model: &Model) -> Loaded {
    let mut ir = PolicyIr::new("test", Direction::Ingress);
    for set in model {
        let nets = set.iter().copied().collect();
        ir.sets.push(AddrSetData { kind: SetKind::Members, name: String::new(), nets });
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
    let rule = RuleData { matches, action: Action::Deny, decision, origins: RuleOrigins::default() };
    let rule = ir.rules.push(rule);
    let end = ChainEnd::Deny(decision);
    ir.order.push(ir.chains.push(ChainData { name: "t".into(), rules: vec![rule], end }));
    let classes = classify(&ir);
    let tables = AddressTables::build(&classes, &AddressLimits::default()).unwrap();
    let layout = tables.layout();
    let sized = |map: u32| {
        let table = Table::ALL.into_iter().find(|t| layout.map(*t) == Some(map)).unwrap();
        let mut words = tables.words[map as usize].clone();
        words.resize(layout.map_words(table).unwrap() as usize, 0);
        words
    };
    let mut rows = vec![0; layout.classes as usize];
    for class in classes.classes() {
        rows[class.as_u32() as usize] = classes.sets_of(class).iter().map(|bit| 1 << bit.as_u32()).sum();
    }
    Loaded {
        membership: Membership::new(&ir, &classes, &tables, 0),
        words: (0..layout.map_count()).map(sized).collect(),
        rows,
    }
}

impl Loaded {
    fn apply(&mut self, store: &Store) {
        if store.map == ROWS {
            self.rows[store.index as usize] = store.value;
            return;
        }
        let table =
            Table::ALL.into_iter().find(|t| self.membership.layout.map(*t) == Some(store.map)).unwrap();
        let at = store.index * self.membership.layout.value_words(table) + store.offset / 4;
        self.words[store.map as usize][at as usize] = store.value;
    }

    /// Looks an address up as the emitted code does. Before each word is read,
    /// `meanwhile` may change the tables.
    fn look_up(&mut self, address: IpAddr, meanwhile: &mut dyn FnMut(&mut Self)) -> u32 {
        let layout = self.membership.layout.clone();
        let class = match address {
            IpAddr::V4(a) => {
                let key = [u32::from(a).swap_bytes(), 0, 0, 0];
                let host =
                    layout.hosts4.map(|s| self.in_lines(Table::Hosts4, &s, &key, 32, |v| v != 0, meanwhile));
                match (host.flatten(), layout.nets4) {
                    (Some(class), _) => class,
                    (None, Some(s)) => {
                        trie::look_up(s, a.into(), |at| self.word(Table::Nets4, at, meanwhile))
                    }
                    (None, None) => 0,
                }
            }
            IpAddr::V6(a) => {
                let key = lengths::key(a.into());
                let host =
                    layout.hosts6.map(|s| self.in_lines(Table::Hosts6, &s, &key, 128, |v| v != 0, meanwhile));
                match (host.flatten(), &layout.nets6) {
                    (Some(class), _) => class,
                    (None, Some(nets)) => self.in_lengths(nets, a.into(), meanwhile),
                    (None, None) => 0,
                }
            }
        };
        assert!(class < layout.classes);
        meanwhile(self);
        self.rows[class as usize]
    }

    fn word(&mut self, table: Table, at: usize, meanwhile: &mut dyn FnMut(&mut Self)) -> u32 {
        meanwhile(self);
        let map = self.membership.layout.map(table).unwrap();
        self.words[map as usize][at]
    }

    fn in_lines(
        &mut self,
        table: Table,
        shape: &buckets::Shape,
        key: &buckets::Key,
        length: u8,
        is: impl Fn(u32) -> bool,
        meanwhile: &mut dyn FnMut(&mut Self),
    ) -> Option<u32> {
        for which in 0..2 {
            let line = shape.line(key, which, length);
            for slot in 0..shape.keys.slots() {
                let at = shape.key_word(line, slot);
                let words = &key[..shape.keys.words()];
                if self.is_key(table, at, words, meanwhile) {
                    let value = self.word(table, shape.value_word(line, slot), meanwhile);
                    if is(value) && self.is_key(table, at, words, meanwhile) {
                        return Some(value);
                    }
                }
            }
            if which == 0 && self.word(table, line as usize * LINE_WORDS + OVERFLOW, meanwhile) == 0 {
                return None;
            }
        }
        None
    }

    fn is_key(&mut self, table: Table, at: usize, key: &[u32], meanwhile: &mut dyn FnMut(&mut Self)) -> bool {
        (at..).zip(key).all(|(at, word)| self.word(table, at, meanwhile) == *word)
    }

    fn in_lengths(
        &mut self,
        nets: &crate::address::layout::Nets6,
        address: u128,
        meanwhile: &mut dyn FnMut(&mut Self),
    ) -> u32 {
        let (mut from, mut to, mut best) = (0, nets.lengths.len(), 0);
        while from < to {
            let mid = lengths::middle(from, to);
            let length = nets.lengths[mid];
            let key = lengths::key(cut(address, length));
            match self.in_lines(Table::Nets6, &nets.buckets, &key, length, has_tag(length), meanwhile) {
                Some(value) => (best, from) = (value & ((1 << CLASS_BITS) - 1), mid + 1),
                None => to = mid,
            }
        }
        best
    }
}

/// What prefixes there are.
#[derive(Copy, Clone, PartialEq)]
enum World {
    /// Of all lengths, close to each other.
    Mixed,
    /// Likewise, nearly all IPv4 ones in one or two networks of 16 bits.
    Homes,
    /// Addresses.
    Hosts,
}

/// A prefix from a small world, so that prefixes meet.
fn prefix(random: &mut Random, world: World) -> IpNet {
    let hosts = world == World::Hosts;
    if random.below(2) == 0 {
        let lengths: &[u8] =
            if hosts { &[32] } else { &[0, 1, 8, 15, 16, 17, 23, 24, 25, 30, 31, 32, 32, 32, 32] };
        let networks: &[u8] = if world == World::Homes { &[0, 0, 0, 0, 0, 0, 1, 1] } else { &[0, 1, 128] };
        let near = Ipv4Addr::new(10, random.one(networks), random.one(&[0, 1, 7, 255]), random.next() as u8);
        // Scattered hosts have a table of their own, those that lie close are in the trie.
        let scattered = Ipv4Addr::from((random.below(300) as u32 + 1).wrapping_mul(0x9e37_79b9));
        let near = if hosts { scattered } else { near };
        let any = Ipv4Addr::from(random.next() as u32);
        // Short prefixes are of no home, and few.
        let at_home = world == World::Homes && random.below(30) > 0;
        let lengths = if at_home { &lengths[5..] } else { lengths };
        let address = if at_home { near } else { random.one(&[near, near, near, any]) };
        let length = random.one(lengths);
        IpNet::new(address.into(), length).unwrap().trunc()
    } else {
        let lengths: &[u8] = if hosts { &[128] } else { &[0, 16, 32, 47, 48, 56, 64, 127, 128, 128, 128] };
        let net = [0xfd00, random.one(&[0, 1]), random.one(&[0, 1, 2]), random.one(&[0, 1])];
        let low = [0, 0, random.one(&[0, 1]), random.below(12) as u16];
        let near = Ipv6Addr::new(net[0], net[1], net[2], net[3], low[0], low[1], low[2], low[3]);
        let address = random.one(&[near, near, near, Ipv6Addr::UNSPECIFIED]);
        IpNet::new(address.into(), random.one(lengths)).unwrap().trunc()
    }
}

/// Addresses at the edges of a prefix and somewhere inside.
fn probes(net: IpNet, random: &mut Random) -> [IpAddr; 4] {
    let inside = prefix(random, World::Mixed).addr();
    match (net, inside) {
        (IpNet::V4(net), inside) => {
            let (a, b) = (u32::from(net.network()), u32::from(net.broadcast()));
            let inside = if let IpAddr::V4(i) = inside { u32::from(i) } else { random.next() as u32 };
            [a, b, b.wrapping_add(1), a | (inside & (b - a))].map(|x| Ipv4Addr::from(x).into())
        }
        (IpNet::V6(net), inside) => {
            let (a, b) = (u128::from(net.network()), u128::from(net.broadcast()));
            let inside = if let IpAddr::V6(i) = inside { u128::from(i) } else { u128::from(random.next()) };
            [a, b, b.wrapping_add(1), a | (inside & (b - a))].map(|x| Ipv6Addr::from(x).into())
        }
    }
}

/// Goes on with a random world; gives changes made and changes refused.
fn walk(
    seed: u64,
    world: World,
    start: u64,
    changes: usize,
    mut each: impl FnMut(&mut Loaded, Event<'_>),
) -> [usize; 2] {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut model: Model = vec![BTreeSet::new(); SETS];
    for _ in 0..start {
        let net = prefix(&mut random, world);
        model[random.below(SETS as u64) as usize].insert(net);
    }
    let mut loaded = load(&model);
    let (mut made, mut refused) = (0, 0);
    for _ in 0..changes {
        let set = random.below(SETS as u64) as usize;
        let add = random.below(2) == 0 || model[set].is_empty();
        let listed = model[set].iter().nth(random.below(model[set].len().max(1) as u64) as usize).copied();
        let net = if add { prefix(&mut random, world) } else { listed.unwrap() };
        let old = model.clone();
        let mut stores = Vec::new();
        let bit = AddrSet::from_u32(set as u32);
        if add {
            model[set].insert(net);
        } else {
            model[set].remove(&net);
        }
        let mut change = |loaded: &mut Loaded| {
            let change = if add { Membership::add } else { Membership::remove };
            change(&mut loaded.membership, bit, net, &mut Rows, &mut stores)
        };
        let mut done = change(&mut loaded);
        if done == Err(Refused::NotQuiet) {
            each(&mut loaded, Event::Quiet);
            loaded.membership.quiesce(&mut Rows);
            done = change(&mut loaded);
        }
        if let Err(error) = done {
            assert!(stores.is_empty() && error != Refused::Stale, "seed {seed}: {error}");
            assert_eq!(loaded.membership.add(bit, net, &mut Rows, &mut stores), Err(Refused::Stale));
            refused += 1;
            loaded = load(&model);
            each(&mut loaded, Event::Reloaded);
            continue;
        }
        made += 1;
        let around = probes(net, &mut random);
        each(&mut loaded, Event::Change(Step { old: &old, new: &model, stores: &stores, around, seed, net }));
        if random.below(3) == 0 {
            each(&mut loaded, Event::Quiet);
            loaded.membership.quiesce(&mut Rows);
        }
    }
    each(&mut loaded, Event::Quiet);
    // The end is what a new build would be.
    let mut fresh = load(&model);
    for net in model.iter().flatten() {
        for address in probes(*net, &mut random) {
            let found = loaded.look_up(address, &mut |_| ());
            assert_eq!(found, truth(&model, address), "seed {seed}: {address}");
            assert_eq!(found, fresh.look_up(address, &mut |_| ()), "seed {seed}: {address}");
        }
    }
    [made, refused]
}

enum Event<'a> {
    Change(Step<'a>),
    /// All readers have ended; what was freed may be used again.
    Quiet,
    /// A change was refused: everything is new.
    Reloaded,
}

struct Step<'a> {
    old: &'a Model,
    new: &'a Model,
    stores: &'a [Store],
    around: [IpAddr; 4],
    seed: u64,
    net: IpNet,
}

fn total(walks: impl Iterator<Item = [usize; 2]>) -> [usize; 2] {
    walks.fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
}

#[test]
fn every_step_shows_old_or_new() {
    let mut steps = 0;
    let sizes = [0, 5, 60, 700];
    let mut at_home = 0;
    let mut one = |seed: u64, world: World| {
        let mut random = Random(seed + 1);
        walk(seed, world, sizes[seed as usize % 4], 120, |loaded, event| {
            let Event::Change(step) = event else { return };
            let others = [(); 2].map(|()| prefix(&mut random, World::Mixed).addr());
            at_home += usize::from(loaded.membership.layout.nets4.is_some_and(|s| s.homes[0].is_some()));
            let addresses: Vec<IpAddr> = step.around.into_iter().chain(others).collect();
            let expected: Vec<[u32; 2]> =
                addresses.iter().map(|a| [truth(step.old, *a), truth(step.new, *a)]).collect();
            // Long lists of stores are those of chunks: look now and then.
            let every = step.stores.len() / 40 + 1;
            for (i, store) in step.stores.iter().enumerate() {
                loaded.apply(store);
                steps += 1;
                if i % every != 0 && i + 5 < step.stores.len() {
                    continue;
                }
                for (address, expected) in addresses.iter().zip(&expected) {
                    let found = loaded.look_up(*address, &mut |_| ());
                    assert!(
                        expected.contains(&found),
                        "seed {}: {} at {store:?}: {address}",
                        step.seed,
                        step.net
                    );
                }
            }
            for (address, [_, new]) in addresses.iter().zip(&expected) {
                let found = loaded.look_up(*address, &mut |_| ());
                assert_eq!(found, *new, "seed {}: {}: {address}", step.seed, step.net);
            }
        })
    };
    let [made, refused] = total((0..60).map(|seed| one(seed, World::Mixed)).collect::<Vec<_>>().into_iter());
    let [homes, homes_refused] =
        total((90..130).map(|seed| one(seed, World::Homes)).collect::<Vec<_>>().into_iter());
    let [hosts, hosts_refused] =
        total((60..90).map(|seed| one(seed, World::Hosts)).collect::<Vec<_>>().into_iter());
    println!("{made} changes, {refused} refused; of hosts {hosts}, {hosts_refused} refused; {steps} stores");
    assert!(made > 4_000 && refused < made / 8 && steps > 20_000, "{made} {refused} {steps}");
    assert!(hosts > 3_000 && hosts_refused < 100, "{hosts} {hosts_refused}");
    assert!(
        homes > 3_000 && homes_refused < homes / 8 && at_home > 1_000,
        "{homes} {homes_refused} {at_home}"
    );
}

/// A look-up that lasts while several changes are carried out finds what was true
/// at some moment between its start and its end.
#[test]
fn slow_readers_find_what_was_true_meanwhile() {
    let mut overlapped = 0;
    for seed in 100..180 {
        let mut random = Random(seed);
        let (mut stores, mut models, mut addresses) = (Vec::new(), Vec::<Model>::new(), Vec::new());
        let world = [World::Hosts, World::Mixed, World::Hosts, World::Homes][seed as usize % 4];
        walk(seed, world, 40 * (seed % 5), 100, |loaded, event| match event {
            Event::Change(step) => {
                if models.is_empty() {
                    models.push(step.old.clone());
                }
                models.push(step.new.clone());
                stores.extend_from_slice(step.stores);
                addresses.extend(step.around);
            }
            Event::Reloaded => {
                stores.clear();
                models.clear();
                addresses.clear();
            }
            Event::Quiet => {
                let mut left = stores.drain(..);
                for address in addresses.drain(..) {
                    let mut busy = 0;
                    let pace = 1 + left.len() as u64 / 4;
                    let found = loaded.look_up(address, &mut |loaded| {
                        for store in left.by_ref().take(random.below(pace + 1) as usize) {
                            loaded.apply(&store);
                            busy += 1;
                        }
                    });
                    overlapped += usize::from(busy > 0);
                    let right = models.iter().any(|model| truth(model, address) == found);
                    let truths: Vec<String> =
                        models.iter().map(|model| format!("{:b}", truth(model, address))).collect();
                    assert!(right, "seed {seed}: {address}: {found:b}, never among {truths:?}");
                }
                left.for_each(|store| loaded.apply(&store));
                models.clear();
            }
        });
    }
    assert!(overlapped > 2_000, "{overlapped}");
}

/// A reader may compare a free slot's key while another one is written to it: half of
/// each makes a third, which nobody listed.
#[test]
fn a_key_that_is_half_written_is_nobodys() {
    let set = AddrSet::from_u32(0);
    let net = |high: u32, low: u32| format!("fd00:{high:x}::{low:x}/128").parse::<IpNet>().unwrap();
    let mut model: Model = vec![BTreeSet::new(); SETS];
    model[0].insert(net(1, 1));
    let mut emptied = load(&model);
    let mut gone = Vec::new();
    emptied.membership.remove(set, net(1, 1), &mut Rows, &mut gone).unwrap();
    gone.iter().for_each(|store| emptied.apply(store));
    emptied.membership.quiesce(&mut Rows);
    let shape = emptied.membership.layout.hosts6.unwrap();
    let line = |net: IpNet| match net {
        IpNet::V6(net) => shape.line(&lengths::key(net.network().into()), 0, 128),
        IpNet::V4(_) => u32::MAX,
    };
    let mut torn = 0;
    for other in 2..20_000 {
        let new = net(other, other);
        for mixed in [net(1, other), net(other, 1)] {
            if [line(new), line(mixed)] != [line(net(1, 1)); 2] {
                continue;
            }
            let mut loaded = emptied.clone_for_test();
            let mut come = Vec::new();
            loaded.membership.add(set, new, &mut Rows, &mut come).unwrap();
            // The reader is stopped at one word, and once more at another.
            for (first, second, count) in
                (0..8).flat_map(|f| (f..8).flat_map(move |s| (0..6).map(move |c| (f, s, c))))
            {
                let mut reader = loaded.clone_for_test();
                let (mut reads, mut left) = (0, come.iter());
                let found = reader.look_up(mixed.addr(), &mut |tables| {
                    let now = if reads == second { usize::MAX } else { count * usize::from(reads == first) };
                    left.by_ref().take(now).for_each(|store| tables.apply(store));
                    reads += 1;
                });
                assert_eq!(found, 0, "{mixed}");
                // Four words, the value, and words again.
                torn += usize::from(reads > 6 && second == 4);
            }
        }
    }
    assert!(torn > 0, "no slot was used again");
}

#[test]
fn what_has_no_room_is_refused() {
    let mut loaded = load(&vec![BTreeSet::new(); SETS]);
    let mut stores = Vec::new();
    let set = AddrSet::from_u32(0);
    let mut add = |loaded: &mut Loaded, net: &str| {
        loaded.membership.add(set, net.parse().unwrap(), &mut Rows, &mut stores)
    };
    assert_eq!(add(&mut loaded, "10.0.0.1/32"), Ok(()));
    assert_eq!(add(&mut loaded, "fd00::1/128"), Ok(()));
    assert_eq!(add(&mut loaded, "fd00::/64"), Err(Refused::NotQuiet));
    loaded.membership.quiesce(&mut Rows);
    assert_eq!(add(&mut loaded.clone_for_test(), "10.0.0.0/8"), Ok(()));
    assert_eq!(add(&mut loaded.clone_for_test(), "fd00::/64"), Err(Refused::NoTable));
    let mut fill = |loaded: &mut Loaded, host: fn(u32) -> String| {
        (0..).find_map(|n| add(loaded, &host(n)).err().map(|full| (n, full))).unwrap()
    };
    let (hosts, full) = fill(&mut loaded.clone_for_test(), |n| format!("fd00:1::{n:x}/128"));
    assert_eq!(full, Refused::NoSlot);
    assert!((32..200).contains(&hosts), "{hosts}");
    let (hosts, full) = fill(&mut loaded, |n| format!("10.1.{n}.7/32"));
    assert_eq!(full, Refused::NoChunk);
    assert!((4..64).contains(&hosts), "{hosts}");
}

impl Loaded {
    fn clone_for_test(&self) -> Self {
        Self { membership: self.membership.clone(), words: self.words.clone(), rows: self.rows.clone() }
    }
}

/// Class ids and slots come back after a grace period: a change that may lack them asks
/// for one, and none is refused for good.
#[test]
fn what_only_has_to_become_quiet_is_waited_for() {
    let mut random = Random(7);
    let sets = |bits: u64, is: u64| -> Vec<AddrSet> {
        (0..SETS as u32).filter(|set| bits >> set & 1 == is).map(AddrSet::from_u32).collect()
    };
    // A few hosts in ever new combinations; or ever new hosts, which go again.
    for new_hosts in [false, true] {
        let mut loaded = load(&vec![BTreeSet::new(); SETS]);
        let mut waits = 0;
        for turn in 0..2_000_u32 {
            let (host, bits) = match new_hosts {
                false => (Ipv4Addr::new(10, 0, 0, random.below(8) as u8), random.below(1 << SETS)),
                true => (Ipv4Addr::from(0x0a01_0000 + turn / 2), u64::from(turn % 2 == 0)),
            };
            let net = IpNet::from(IpAddr::from(host));
            let mut stores = Vec::new();
            let mut change = |loaded: &mut Loaded| {
                loaded.membership.change(net, &sets(bits, 1), &sets(bits, 0), &mut Rows, &mut stores)
            };
            let mut done = change(&mut loaded);
            if done == Err(Refused::NotQuiet) {
                waits += 1;
                loaded.membership.quiesce(&mut Rows);
                done = change(&mut loaded);
            }
            assert_eq!(done, Ok(()), "{turn}");
            stores.iter().for_each(|store| loaded.apply(store));
            assert_eq!(loaded.look_up(host.into(), &mut |_| ()), bits as u32, "{turn}");
        }
        assert!((5..600).contains(&waits), "{new_hosts}: {waits}");
    }
}
