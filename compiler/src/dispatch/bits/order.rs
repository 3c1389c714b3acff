//! The items of all columns in one order, and columns that share groups.
//!
//! An *entry* is an item at a place of that order. Nearly every item is one entry;
//! one that columns hold in different orders, or twice, has several, so that the
//! entries of every column ascend.
//!
//! Cost: sorting the items, and the sum of the columns' lengths for each width of
//! vectors that is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::column::{Act, Item, Partition};

/// Where an entry stands: its rule's place in the policy, a number among entries
/// that had to stand behind it, and its item.
type Place = (u32, u32, u32);

/// The columns as lists of entries.
pub(super) struct Order {
    /// The item of each entry.
    pub items: Vec<u32>,
    /// The entries of each column, ascending, without the item that decides if no
    /// other does.
    pub columns: Vec<Vec<u32>>,
    /// That item, by column.
    pub last: Vec<Option<u32>>,
}

/// Finds an order.
pub(super) fn order(partition: &Partition) -> Order {
    let mut places: BTreeSet<Place> = BTreeSet::new();
    let mut last = Vec::with_capacity(partition.columns.len());
    for column in 0..partition.columns.len() {
        let (conditional, sure) = split(partition, column);
        last.push(sure);
        each_place(partition, conditional, |place, is_regular| {
            if !is_regular {
                places.insert(place);
            }
        });
    }
    let mut all: Vec<Place> = (0..).zip(&partition.ranks).map(|(item, rank)| (*rank, 0, item)).collect();
    all.extend(&places);
    all.sort_unstable();
    let mut regular = vec![0_u32; partition.items.len()];
    let mut moved: BTreeMap<Place, u32> = BTreeMap::new();
    for (entry, place) in (0_u32..).zip(&all) {
        match place.1 {
            0 => regular[place.2 as usize] = entry,
            _ => drop(moved.insert(*place, entry)),
        }
    }
    let columns = (0..partition.columns.len()).map(|column| {
        let (conditional, _) = split(partition, column);
        let mut entries = Vec::with_capacity(conditional.len());
        each_place(partition, conditional, |place, is_regular| {
            let moved = if is_regular { None } else { moved.get(&place) };
            entries.push(*moved.unwrap_or(&regular[place.2 as usize]));
        });
        entries
    });
    let columns = columns.collect();
    Order { items: all.into_iter().map(|(_, _, item)| item).collect(), columns, last }
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

/// Calls with the place of each item, which ascend, and whether it is the item's own.
fn each_place(partition: &Partition, items: &[u32], mut call: impl FnMut(Place, bool)) {
    let mut before: Option<(u32, u32)> = None;
    for item in items {
        let own = (partition.ranks[*item as usize], 0);
        let at = match before {
            Some((rank, number)) if (rank, number) >= own => (rank, number + 1),
            _ => own,
        };
        call((at.0, at.1, *item), at == own);
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
pub(super) fn groups(order: &Order, width: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = vec![0_u32; order.items.len()];
    let (mut start, mut entries, mut room, mut mark) = (0, 0, 0, 1);
    for (column, list) in order.columns.iter().enumerate() {
        let needed = list.len().next_multiple_of(width).max(width);
        let new = list.iter().filter(|entry| seen[**entry as usize] != mark).count();
        if column > start && (entries + new > room || needed > room) {
            groups.push(Group { columns: start..column, entries });
            (start, entries, mark) = (column, 0, mark + 1);
        }
        if column == start {
            room = needed;
        }
        for entry in list {
            let seen = &mut seen[*entry as usize];
            entries += usize::from(*seen != mark);
            *seen = mark;
        }
    }
    groups.push(Group { columns: start..order.columns.len(), entries });
    groups
}
