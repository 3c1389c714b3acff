//! The items of all columns in one order, and columns that share groups.
//!
//! An *entry* is an item at a place of that order. Nearly every item is one entry;
//! one that columns hold in different orders, or twice, has several, so that the
//! entries of every column ascend.
//!
//! Cost: sorting the items, and a few times the sum of the columns' lengths. What is
//! asked for each width of vectors goes by what a column has and the one before has not:
//! hardly anything, since adjacent columns differ by a rule or two.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::super::column::{Act, Item, Partition};
use super::super::lists::Lists;

/// Where an entry stands: its rule's place in the policy, a number among entries
/// that had to stand behind it, and its item.
type Place = (u32, u32, u32);

/// The columns as lists of entries.
pub(super) struct Order<'a> {
    partition: &'a Partition,
    /// The item of each entry.
    pub items: Vec<u32>,
    /// The entry of each item, where columns do not need another.
    own: Vec<u32>,
    /// The entries of the columns that do.
    moved: FxHashMap<usize, Vec<u32>>,
    /// The entries of each column that the one before it does not have.
    fresh: Lists,
}

impl Order<'_> {
    /// The entries of a column, ascending, without the item that decides if no other does.
    pub fn column(&self, column: usize) -> impl Iterator<Item = u32> {
        let (own, moved) = match self.moved.get(&column) {
            Some(moved) => (&[][..], moved.as_slice()),
            None => (split(self.partition, column).0, &[][..]),
        };
        own.iter().map(|item| self.own[*item as usize]).chain(moved.iter().copied())
    }

    /// The item that decides a column if no other does.
    pub fn last(&self, column: usize) -> Option<&Item> {
        let item = split(self.partition, column).1?;
        Some(&self.partition.items[item as usize])
    }

    /// The entries of adjacent columns, some of them several times.
    pub fn union(&self, columns: &Range<usize>) -> impl Iterator<Item = u32> {
        let fresh = self.fresh.between(columns.start + 1..columns.end);
        self.column(columns.start).chain(fresh.iter().copied())
    }
}

/// Finds an order.
pub(super) fn order(partition: &Partition) -> Order<'_> {
    let columns = 0..partition.columns.len();
    let is_moved = |column: &usize| !is_regular(partition, split(partition, *column).0);
    let moved: Vec<usize> = columns.clone().filter(is_moved).collect();
    let mut places: BTreeSet<Place> = BTreeSet::new();
    for column in &moved {
        each_place(partition, split(partition, *column).0, |place| {
            if place.1 > 0 {
                places.insert(place);
            }
        });
    }
    let mut all: Vec<Place> = (0..).zip(&partition.ranks).map(|(item, rank)| (*rank, 0, item)).collect();
    all.extend(&places);
    all.sort_unstable();
    let mut own = vec![0_u32; partition.items.len()];
    let mut others: BTreeMap<Place, u32> = BTreeMap::new();
    for (entry, place) in (0_u32..).zip(&all) {
        match place.1 {
            0 => own[place.2 as usize] = entry,
            _ => drop(others.insert(*place, entry)),
        }
    }
    let entries = |column: usize| {
        let conditional = split(partition, column).0;
        let mut entries = Vec::with_capacity(conditional.len());
        each_place(partition, conditional, |place| {
            let other = if place.1 > 0 { others.get(&place) } else { None };
            entries.push(*other.unwrap_or(&own[place.2 as usize]));
        });
        (column, entries)
    };
    let moved = moved.into_iter().map(entries).collect();
    let items: Vec<u32> = all.into_iter().map(|(_, _, item)| item).collect();
    // By entry the last column that has it, counted from 2: none is before the first.
    let mut seen = vec![0; items.len()];
    let mut order = Order { partition, items, own, moved, fresh: Lists::default() };
    let mut fresh = Lists::default();
    for column in columns {
        let is_fresh = |entry: &u32| std::mem::replace(&mut seen[*entry as usize], column + 2) != column + 1;
        fresh.push(order.column(column).filter(is_fresh));
    }
    order.fresh = fresh;
    order
}

/// A column's items, the last of them apart if it is sure to decide.
fn split(partition: &Partition, column: usize) -> (&[u32], Option<u32>) {
    let items = &partition.columns[column];
    let decides = |item: &Item| item.is_sure() && matches!(item.act, Act::Decide(_));
    match items.split_last() {
        Some((last, others)) if decides(&partition.items[*last as usize]) => (others, Some(*last)),
        _ => (items, None),
    }
}

/// Whether these items ascend as they are: what nearly all columns do.
fn is_regular(partition: &Partition, items: &[u32]) -> bool {
    let mut before = None;
    items.iter().all(|item| {
        let rank = Some(partition.ranks[*item as usize]);
        std::mem::replace(&mut before, rank) < rank
    })
}

/// Calls with the place of each item, which ascend; those of number 0 are an item's own.
fn each_place(partition: &Partition, items: &[u32], mut call: impl FnMut(Place)) {
    let mut before: Option<(u32, u32)> = None;
    for item in items {
        let own = (partition.ranks[*item as usize], 0);
        let at = match before {
            Some((rank, number)) if (rank, number) >= own => (rank, number + 1),
            _ => own,
        };
        call((at.0, at.1, *item));
        before = Some(at);
    }
}

/// Adjacent columns whose entries share vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub columns: Range<usize>,
    /// Number of entries in the union of its columns.
    pub entries: usize,
}

/// Groups of at most `width` entries each; a longer column has one of its own
/// size, rounded up to a multiple of `width`, which others may share.
pub(super) fn groups(order: &Order<'_>, width: usize) -> Vec<Group> {
    let partition = order.partition;
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = vec![0_u32; order.items.len()];
    let (mut start, mut entries, mut room, mut mark) = (0, 0, 0, 1);
    for column in 0..partition.columns.len() {
        let needed = split(partition, column).0.len().next_multiple_of(width).max(width);
        // All others are in the column before, which is in the group.
        let fresh = &order.fresh[column];
        let new = fresh.iter().filter(|entry| seen[**entry as usize] != mark).count();
        if column > start && (entries + new > room || needed > room) {
            groups.push(Group { columns: start..column, entries });
            (start, entries, mark) = (column, 0, mark + 1);
        }
        let mut take = |entry: u32| {
            let seen = &mut seen[entry as usize];
            entries += usize::from(*seen != mark);
            *seen = mark;
        };
        if column == start {
            room = needed;
            order.column(column).for_each(take);
        } else {
            fresh.iter().copied().for_each(&mut take);
        }
    }
    groups.push(Group { columns: start..partition.columns.len(), entries });
    groups
}
