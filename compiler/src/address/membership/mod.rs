//! Membership changes on tables that programs are reading.
//!
//! What: [`Membership`] stands beside a loaded image and knows what its address
//! tables hold. Adding or removing a member gives the [`Store`]s that lead there.
//!
//! Why no reader sees a mix: what an address finds hangs, at every moment, on one
//! word, and that word goes from the old class to the new one.
//!
//! - A class's rows are stored before any word names the class.
//! - A member that goes from some sets to others does so in one change: a word that
//!   names the class of neither would deny what both allow.
//! - Prefixes with a place of their own (hosts, IPv6 prefixes and markers) are
//!   stored from long to short, so that until an address's new longest prefix is
//!   there, none that covers it has changed; afterwards what is no longer wanted
//!   goes from short to long.
//! - In the trie every leaf is stored once, with its final class, and a chunk is
//!   complete before the leaf that leads to it.
//! - A new key is stored before its value; a key in use stays where it is.
//! - A look-up that probes several places may find one as it was before a change
//!   and another as it is after the next. So the change of a prefix asks for
//!   quiet ([`Refused::NotQuiet`]) if, since the last one, a host came or another
//!   prefix of the family changed. Changes of hosts never do: they are looked for
//!   first.
//! - Slots, chunks and class ids that were in use are used again only after
//!   [`Membership::quiesce`]: the caller says so when every packet that was being
//!   looked up has been decided (an RCU grace period). A change that may lack what
//!   waits for that asks for quiet too; at most an eighth of the slots waits.
//!
//! What does not fit is refused, with nothing to be stored; but for
//! [`Refused::NotQuiet`], the [`Membership`] is of no more use then: the caller
//! compiles the policy again and swaps image and membership as a whole. Refused are members beyond the tables' room, a first
//! prefix where there were only hosts, and an IPv6 prefix of a new length.
//!
//! Cost: for a host a few look-ups in ordered maps (about a microsecond) and one to
//! seven stores; for a prefix all members inside it.

mod family;
mod leaves;
mod lists;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use self::family::{Family, Markers, Net, Node, Region, enclosing};
use self::leaves::Leaves;
use self::lists::{EMPTY, List, Lists};
use self::slots::Slots;
use super::layout::{AddressLayout, Table};
use super::lengths::{self, CLASS_BITS, cut, tag};
use super::{AddressClasses, AddressTables, Class, SetBit};
use crate::image::Store;
use crate::ir::{AddrSet, PolicyIr, SetKind};

/// What an image has for each class beside the address tables.
pub trait ClassRows {
    /// Appends the stores after which every table is right for addresses of a
    /// class with exactly these sets (ascending). No reader knows the class yet.
    ///
    /// # Errors
    /// The tables have no place for it; they are of no more use then.
    fn fill(&mut self, class: Class, sets: &[SetBit], stores: &mut Vec<Store>) -> Result<(), Refused>;

    /// No reader knows the class any more; its id may be given to other sets.
    fn retire(&mut self, class: Class);
}

/// A change that the loaded tables cannot take.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The policy itself lists the set's members.
    #[error("the members of this set stand in the policy; they change with it")]
    Fixed,
    /// No class id is free.
    #[error("all address classes that the tables have room for are in use")]
    NoClass,
    /// The tables beside have no room for a class.
    #[error("the dispatch tables have no room for another address class")]
    NoRow,
    /// The bucket of a cell is full.
    #[error("the dispatch table has no free place for an outcome of the new address class")]
    NoCell,
    /// No class was like this one in some column.
    #[error("no address had the new combination of sets in one of the columns so far")]
    NoId,
    /// The image has no number for what a packet of the class meets.
    #[error("no packet could meet this combination of rules that log, pass and decide so far")]
    NoOutcome,
    /// Sets that were equal are one in the image, and would not be equal any more.
    #[error("sets that were equal when the policy was compiled are not any more")]
    Merged,
    /// Both lines of an address are full.
    #[error("the address table has no free place for this address")]
    NoSlot,
    /// The trie has no chunk left.
    #[error("the IPv4 prefix table has no room for another chunk")]
    NoChunk,
    /// The image has no table for such a member.
    #[error("the tables were made without a place for prefixes of this family")]
    NoTable,
    /// The look-up code does not search this length.
    #[error("the look-up does not search IPv6 prefixes of length /{0}")]
    NewLength(u8),
    /// Readers of earlier changes must have ended before this one: to be tried again
    /// after [`Membership::quiesce`]. Nothing has changed.
    #[error("the change has to wait for a grace period behind earlier changes")]
    NotQuiet,
    /// An earlier change was refused.
    #[error("an earlier change was refused; the image must be replaced")]
    Stale,
}

/// Class ids that are kept for the change of a prefix, if more only have to become quiet.
const SPARE_CLASSES: usize = 32;

/// Appends stores for one map.
struct Writer<'a> {
    map: u32,
    value_words: u32,
    stores: &'a mut Vec<Store>,
}

impl Writer<'_> {
    fn word(&mut self, at: usize, value: u32) {
        let at = at as u64;
        let size = u64::from(self.value_words);
        let (index, offset) = ((at / size) as u32, (at % size) as u32 * 4);
        self.stores.push(Store { map: self.map, index, offset, value });
    }
}

/// The members of a loaded image's sets, and what its address tables hold.
#[derive(Clone, Debug)]
pub struct Membership {
    layout: AddressLayout,
    first_map: u32,
    /// The bits of sets whose members may change; `None` for fixed ones.
    bits: BTreeMap<AddrSet, Option<SetBit>>,
    v4: Family,
    v6: Family,
    lists: Lists,
    hosts4: Option<Slots>,
    nets4: Option<Leaves>,
    hosts6: Option<Slots>,
    nets6: Option<Slots>,
    stale: bool,
}

impl Membership {
    /// The members of `ir`'s sets in tables built from `classes`, which must be
    /// those of `ir`. `first_map` is the index of the first address map among the
    /// image's maps. Cost: linear in members and tables.
    pub fn new(ir: &PolicyIr, classes: &AddressClasses, tables: &AddressTables, first_map: u32) -> Self {
        let layout = tables.layout.clone();
        let table = |table| layout.map(table).map(|map| tables.words[map as usize].as_slice());
        let bits = classes
            .sets
            .iter()
            .map(|(bit, set)| (*set, (ir.sets[*set].kind == SetKind::Members).then_some(bit)));
        let mut new = Self {
            bits: bits.collect(),
            v4: Family::new(32),
            v6: Family::new(128),
            lists: Lists::new(classes, layout.classes),
            hosts4: layout.hosts4.zip(table(Table::Hosts4)).map(|(s, words)| Slots::new(s, words)),
            nets4: layout.nets4.zip(table(Table::Nets4)).map(|(s, words)| Leaves::new(s, words)),
            hosts6: layout.hosts6.zip(table(Table::Hosts6)).map(|(s, words)| Slots::new(s, words)),
            nets6: layout
                .nets6
                .as_ref()
                .zip(table(Table::Nets6))
                .map(|(n, words)| Slots::new(n.buckets, words)),
            layout: layout.clone(),
            first_map,
            stale: false,
        };
        let mut listed: Vec<(Net, bool, SetBit)> = Vec::new();
        for (bit, set) in &classes.sets {
            listed.extend(
                ir.sets[*set].nets.iter().map(|net| (aligned(*net), matches!(net, IpNet::V4(_)), bit)),
            );
        }
        listed.sort_unstable();
        for v4 in [true, false] {
            let of_family: Vec<(Net, SetBit)> =
                listed.iter().filter(|(_, four, _)| *four == v4).map(|(net, _, bit)| (*net, *bit)).collect();
            new.fill(v4, &of_family);
        }
        new
    }

    /// Takes over what is listed, without a change to the tables.
    fn fill(&mut self, v4: bool, listed: &[(Net, SetBit)]) {
        let lengths = self.layout.nets6.as_ref().map_or(&[][..], |n| &n.lengths);
        let (family, lists) =
            if v4 { (&mut self.v4, &mut self.lists) } else { (&mut self.v6, &mut self.lists) };
        let mut nodes: Vec<(Net, Node)> = Vec::new();
        let mut markers = BTreeMap::new();
        for same in listed.chunk_by(|a, b| a.0 == b.0) {
            let net = same[0].0;
            let sets: Vec<SetBit> = same.iter().map(|(_, bit)| *bit).collect();
            let own = lists.intern(&sets);
            lists.use_list(own, false);
            nodes.push((net, Node { own, all: EMPTY, needed: 0 }));
            family.lengths[usize::from(net.1)] += 1;
            if let Some(at) = (!v4 && net.1 < 128).then(|| lengths.binary_search(&net.1).ok()).flatten() {
                lengths::way(lengths, at).for_each(|l| *markers.entry((cut(net.0, l), l)).or_insert(0) += 1);
            }
        }
        family.nodes = nodes.into_iter().collect();
        for (net, needed) in markers {
            match family.nodes.get_mut(&net) {
                Some(node) => node.needed = needed,
                None => {
                    lists.use_list(EMPTY, false);
                    family.nodes.insert(net, Node { own: EMPTY, all: EMPTY, needed });
                }
            }
        }
        let mut around: Vec<(Net, List)> = Vec::new();
        let mut known = HashMap::new();
        for (net, node) in &mut family.nodes {
            let outer = enclosing(&mut around, *net);
            node.all = *known.entry((outer, node.own)).or_insert_with(|| lists.union(outer, node.own));
            lists.use_list(node.all, true);
            if node.own != EMPTY {
                around.push((*net, node.all));
            }
        }
    }

    /// Adds a member to a set. Appends the stores to be carried out, in order;
    /// none if it is a member already, or no rule uses the set.
    ///
    /// # Errors
    /// See [`Refused`]; nothing is appended then.
    pub fn add(
        &mut self,
        set: AddrSet,
        net: IpNet,
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        self.change(net, &[set], &[], rows, stores)
    }

    /// Removes a member from a set, as [`Self::add`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(
        &mut self,
        set: AddrSet,
        net: IpNet,
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        self.change(net, &[], &[set], rows, stores)
    }

    /// The sets of every class that the tables have, ascending.
    pub fn classes(&self) -> Vec<(Class, Vec<SetBit>)> {
        self.lists.classes()
    }

    /// The layout of the tables.
    pub fn layout(&self) -> &AddressLayout {
        &self.layout
    }

    /// Every packet that was being looked up when the last change was carried out
    /// has been decided: what it may have seen is free again.
    pub fn quiesce(&mut self, rows: &mut dyn ClassRows) {
        for table in [&mut self.hosts4, &mut self.hosts6, &mut self.nets6].into_iter().flatten() {
            table.quiesce();
        }
        if let Some(leaves) = &mut self.nets4 {
            leaves.quiesce();
        }
        (self.v4.moved, self.v6.moved) = (false, false);
        self.lists.quiesce(rows);
    }

    /// Adds a member to some sets and removes it from others, at once: whoever looks
    /// its addresses up finds all of it or nothing. Appends stores as [`Self::add`].
    ///
    /// # Errors
    /// As there.
    pub fn change(
        &mut self,
        net: IpNet,
        add: &[AddrSet],
        remove: &[AddrSet],
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        if self.stale {
            return Err(Refused::Stale);
        }
        let (add, remove) = (self.bits_of(add)?, self.bits_of(remove)?);
        let before = stores.len();
        let done = self.change_bits(net.trunc(), &add, &remove, rows, stores);
        if done.is_err() {
            self.stale = done != Err(Refused::NotQuiet);
            stores.truncate(before);
        }
        done
    }

    /// The bits of those sets that rules use.
    fn bits_of(&self, sets: &[AddrSet]) -> Result<Vec<SetBit>, Refused> {
        let used = sets.iter().filter_map(|set| self.bits.get(set));
        used.map(|bit| bit.ok_or(Refused::Fixed)).collect()
    }

    fn change_bits(
        &mut self,
        net: IpNet,
        add: &[SetBit],
        remove: &[SetBit],
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        let v4 = matches!(net, IpNet::V4(_));
        let net = aligned(net);
        let family = if v4 { &self.v4 } else { &self.v6 };
        let own = family.nodes.get(&net).map_or(EMPTY, |node| node.own);
        let (host, moved) = (family.host, family.moved);
        let sets = self.lists.sets(own);
        let mut wanted: Vec<SetBit> = sets.iter().copied().filter(|bit| !remove.contains(bit)).collect();
        for bit in add {
            if let Err(at) = wanted.binary_search(bit) {
                wanted.insert(at, *bit);
            }
        }
        if wanted == sets {
            return Ok(());
        }
        let is_host = net.1 == host;
        // Without a table of hosts an IPv4 address hangs on one word of the trie.
        let one_place = v4 && self.hosts4.is_none();
        if !is_host && moved && !one_place || self.is_short(v4, net, is_host) {
            return Err(Refused::NotQuiet);
        }
        let family = if v4 { &mut self.v4 } else { &mut self.v6 };
        family.moved |= !is_host || own == EMPTY;
        let wanted = self.lists.intern(&wanted);
        let mut markers = Markers::default();
        if !v4 && net.1 < 128 && (own == EMPTY) != (wanted == EMPTY) {
            let lengths = self.layout.nets6.as_ref().map(|n| n.lengths.as_slice()).ok_or(Refused::NoTable)?;
            let at = lengths.binary_search(&net.1).map_err(|_| Refused::NewLength(net.1))?;
            let way: Vec<Net> = lengths::way(lengths, at).map(|l| (cut(net.0, l), l)).collect();
            markers = family.need(&way, wanted != EMPTY, &mut self.lists);
        }
        family.list(net, wanted, &mut self.lists);
        let region = family.recompute(net, &mut self.lists);
        if v4 {
            self.store4(net, &region, rows, stores)
        } else {
            self.store6(&region, &markers, rows, stores)
        }
    }

    /// Whether a change could want what only has to become quiet to be free again.
    fn is_short(&self, v4: bool, net: Net, is_host: bool) -> bool {
        let hosts = if v4 { &self.hosts4 } else { &self.hosts6 };
        let nets = self.nets6.as_ref().filter(|_| !v4 && !is_host);
        let chunks = self.nets4.as_ref().filter(|_| v4 && (!is_host || hosts.is_none()));
        self.lists.is_short(if is_host { 2 } else { SPARE_CLASSES })
            || hosts.iter().chain(nets).any(Slots::is_short)
            || chunks.is_some_and(|leaves| leaves.is_short(is_host.then_some((net.0 >> 96) as u32)))
    }

    /// Stores what a region's IPv4 prefixes have now.
    fn store4(
        &mut self,
        net: Net,
        region: &Region,
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        let mut classes = Vec::with_capacity(region.nodes.len());
        for (at, list) in &region.nodes {
            classes.push((*at, self.lists.show(*list, rows, stores)?.as_u32()));
        }
        let outer = self.lists.show(region.outer, rows, stores)?.as_u32();
        let mut nets = classes;
        if let Some(slots) = &mut self.hosts4 {
            let (hosts, others): (Vec<_>, Vec<_>) = nets.iter().partition(|((_, length), _)| *length == 32);
            let out = &mut writer(&self.layout, Table::Hosts4, self.first_map, stores);
            for ((address, _), class) in hosts {
                slots.put(&key4(address), 32, class, |v| v != 0, out)?;
            }
            if net.1 == 32 {
                if !region.listed {
                    slots.clear(&key4(net.0), 32, |v| v != 0, out);
                }
                return Ok(());
            }
            nets = others;
        }
        let leaves = self.nets4.as_mut().ok_or(Refused::NoTable)?;
        let out = &mut writer(&self.layout, Table::Nets4, self.first_map, stores);
        for (first, last, class) in segments(net, outer, &nets) {
            leaves.paint(first, last, class, out)?;
        }
        Ok(())
    }

    /// Stores what a region's IPv6 prefixes have now, and the markers that came.
    fn store6(
        &mut self,
        region: &Region,
        markers: &Markers,
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        let lengths = self.layout.nets6.as_ref().map_or(&[][..], |n| &n.lengths);
        let mut wanted: BTreeMap<(u8, u128), u32> = BTreeMap::new();
        for (net, list) in &region.nodes {
            let class = self.lists.show(*list, rows, stores)?.as_u32();
            wanted.insert((net.1, net.0), class);
        }
        for net in &markers.came {
            let Some(node) = self.v6.nodes.get(net) else { continue };
            let class = self.lists.show(node.all, rows, stores)?.as_u32();
            wanted.insert((net.1, net.0), class);
        }
        for ((length, address), class) in wanted.iter().rev() {
            if *length == 128 {
                let slots = self.hosts6.as_mut().ok_or(Refused::NoTable)?;
                let out = &mut writer(&self.layout, Table::Hosts6, self.first_map, stores);
                slots.put(&lengths::key(*address), 128, *class, |v| v != 0, out)?;
            } else {
                let slots = self.nets6.as_mut().ok_or(Refused::NoTable)?;
                if lengths.binary_search(length).is_err() {
                    return Err(Refused::NewLength(*length));
                }
                let out = &mut writer(&self.layout, Table::Nets6, self.first_map, stores);
                let value = lengths::value(*length, *class);
                slots.put(&lengths::key(*address), *length, value, has_tag(*length), out)?;
            }
        }
        let mut gone: Vec<(u8, u128)> =
            markers.gone.iter().map(|(address, length)| (*length, *address)).collect();
        if let Some((address, length)) = region.gone {
            gone.push((length, address));
        }
        gone.sort_unstable();
        for (length, address) in gone {
            let (slots, table) = match length {
                128 => (&mut self.hosts6, Table::Hosts6),
                _ => (&mut self.nets6, Table::Nets6),
            };
            let Some(slots) = slots else { continue };
            let out = &mut writer(&self.layout, table, self.first_map, stores);
            let key = lengths::key(address);
            if length == 128 {
                slots.clear(&key, length, |v| v != 0, out);
            } else {
                slots.clear(&key, length, has_tag(length), out);
            }
        }
        Ok(())
    }
}

/// A prefix with its address left-aligned.
fn aligned(net: IpNet) -> Net {
    match net {
        IpNet::V4(net) => (u128::from(u32::from(net.network())) << 96, net.prefix_len()),
        IpNet::V6(net) => (net.network().into(), net.prefix_len()),
    }
}

/// The key of a left-aligned IPv4 address.
fn key4(address: u128) -> super::buckets::Key {
    [((address >> 96) as u32).swap_bytes(), 0, 0, 0]
}

fn has_tag(length: u8) -> impl Fn(u32) -> bool {
    move |value| value >> CLASS_BITS == tag(length)
}

fn writer<'a>(
    layout: &AddressLayout,
    table: Table,
    first_map: u32,
    stores: &'a mut Vec<Store>,
) -> Writer<'a> {
    let map = first_map + layout.map(table).unwrap_or_default();
    Writer { map, value_words: layout.value_words(table), stores }
}

/// Cuts an IPv4 prefix's addresses into ranges of one class each, ascending: `outer`
/// where none of the prefixes inside (ascending) says otherwise.
fn segments(net: Net, outer: u32, inside: &[(Net, u32)]) -> Vec<(u32, u32, u32)> {
    let range = |(address, length): Net| {
        let first = (address >> 96) as u32;
        (first, first | u32::MAX.checked_shr(length.into()).unwrap_or(0))
    };
    let (first, last) = range(net);
    let mut found: Vec<(u32, u32, u32)> = Vec::new();
    // What is open, with its last address, and from where on nothing is cut yet.
    let mut open: Vec<(u32, u32)> = vec![(last, outer)];
    let mut from = u64::from(first);
    let mut cut = |from: &mut u64, to: u64, class: u32| {
        if *from < to {
            found.push((*from as u32, (to - 1) as u32, class));
            *from = to;
        }
    };
    for (net, class) in inside {
        let (first, last) = range(*net);
        while let [.., _, (end, class)] = open[..]
            && end < first
        {
            cut(&mut from, u64::from(end) + 1, class);
            open.pop();
        }
        if let Some((_, class)) = open.last() {
            cut(&mut from, u64::from(first), *class);
        }
        open.push((last, *class));
    }
    while let Some((end, class)) = open.pop() {
        cut(&mut from, u64::from(end) + 1, class);
    }
    found
}
