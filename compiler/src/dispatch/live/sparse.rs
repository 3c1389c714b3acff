//! Sparse rows as they are in memory, and the stores that change them.
//!
//! An entry is a word and the base of the row that it belongs to: two stores, or one
//! where both are short. A program takes an entry for its row's own if the bases are
//! equal.
//!
//! Why no reader takes a cell that is not its own: the entries of a new row get a base
//! that no class has that a reader knows, so that whatever a reader finds there is
//! another's, as it was. Entries of a row that no class has any more keep their base;
//! before that base, or such an entry, is used again, they are emptied: then no
//! reader knows the base, since a row's last class was retired.
//!
//! Cost: for a new row a search for a base among the entries; a row that there is
//! already takes the class's store alone.

use rustc_hash::FxHashMap;

use super::super::comb::{Comb, Entry, Row};
use super::super::ports::PAGE;
use crate::address::{Class, Refused};
use crate::image::Store;

/// A row and the classes that have it.
#[derive(Clone, Debug)]
struct Placed {
    cells: Row,
    classes: u32,
}

/// The entries, and whose they are.
#[derive(Clone, Debug)]
pub(super) struct LiveComb {
    columns: usize,
    entries: Vec<Entry>,
    narrow: bool,
    /// By class, all that there is room for.
    bases: Vec<u32>,
    /// By base.
    placed: FxHashMap<u32, Placed>,
    by_row: FxHashMap<Row, u32>,
    /// Bases of rows that no class has any more.
    left: Vec<u32>,
    /// Where the last row was placed.
    next: usize,
}

impl LiveComb {
    pub fn new(comb: &Comb, columns: usize, capacity: u32) -> Self {
        let mut bases = comb.bases.clone();
        bases.resize(bases.len().max(capacity as usize), 0);
        let mut placed: FxHashMap<u32, Placed> = FxHashMap::default();
        for (at, entry) in comb.entries.iter().enumerate().filter(|(_, entry)| entry.base != 0) {
            let row = placed.entry(entry.base).or_insert(Placed { cells: Row::new(), classes: 0 });
            row.cells.push(((at - entry.base as usize) as u32, entry.word));
        }
        for base in &comb.bases {
            if let Some(row) = placed.get_mut(base) {
                row.classes += 1;
            }
        }
        let by_row = placed.iter().map(|(base, row)| (row.cells.clone(), *base)).collect();
        let (entries, narrow) = (comb.entries.clone(), comb.narrow);
        Self { columns, entries, narrow, bases, placed, by_row, left: Vec::new(), next: columns }
    }

    /// Gives a class this row, in map `map` of bases and in the one behind it.
    pub fn put(&mut self, class: Class, row: Row, map: u32, stores: &mut Vec<Store>) -> Result<(), Refused> {
        let at = class.as_u32() as usize;
        let old = *self.bases.get(at).ok_or(Refused::NoRow)?;
        // What the id's last class had, if nobody said that it was retired.
        self.leave(old);
        let base = match (row.is_empty(), self.by_row.get(&row)) {
            (true, _) => 0,
            (false, Some(base)) => *base,
            (false, None) => {
                self.empty(map + 1, stores);
                let base = self.find(&row).ok_or(Refused::NoCell)?;
                for (column, word) in &row {
                    let entry = Entry { base, word: *word };
                    self.store(base as usize + *column as usize, entry, map + 1, stores);
                }
                self.by_row.insert(row.clone(), base);
                self.placed.insert(base, Placed { cells: row, classes: 0 });
                base
            }
        };
        if let Some(row) = self.placed.get_mut(&base) {
            row.classes += 1;
            self.left.retain(|left| *left != base);
        }
        self.bases[at] = base;
        if base != old {
            let (index, offset) = (class.as_u32() / PAGE as u32, class.as_u32() % PAGE as u32 * 4);
            stores.push(Store { map, index, offset, value: base });
        }
        Ok(())
    }

    /// No reader knows the class any more. Its base stays in memory until the id is used
    /// again, which is before any reader knows it.
    pub fn retire(&mut self, class: Class) {
        let Some(base) = self.bases.get(class.as_u32() as usize).copied() else { return };
        self.leave(base);
        // Not again when the id gets another row.
        self.bases[class.as_u32() as usize] = GONE;
    }

    fn leave(&mut self, base: u32) {
        if let Some(row) = self.placed.get_mut(&base) {
            row.classes = row.classes.saturating_sub(1);
            if row.classes == 0 {
                self.left.push(base);
            }
        }
    }

    /// Empties the entries of rows that no class has.
    fn empty(&mut self, map: u32, stores: &mut Vec<Store>) {
        for base in std::mem::take(&mut self.left) {
            let Some(row) = self.placed.remove(&base) else { continue };
            for (column, _) in &row.cells {
                self.store(base as usize + *column as usize, Entry::default(), map, stores);
            }
            self.by_row.remove(&row.cells);
        }
    }

    /// A base at which the row's entries are free, and which no row has.
    fn find(&mut self, row: &Row) -> Option<u32> {
        let most = self.entries.len().checked_sub(self.columns)?;
        let first = row.first().map_or(0, |(column, _)| *column as usize);
        let places = (self.next..self.entries.len()).chain(self.columns..self.next);
        let fits = |at: &usize| {
            let Some(base) = at.checked_sub(first).filter(|base| (1..=most).contains(base)) else {
                return false;
            };
            let is_free = |(column, _): &(u32, _)| {
                let at = base + *column as usize;
                at >= self.columns && self.entries[at].base == 0
            };
            !self.placed.contains_key(&(base as u32)) && row.iter().all(is_free)
        };
        let place = { places }.find(fits)?;
        self.next = place;
        u32::try_from(place - first).ok()
    }

    /// The word first: until the base is there the entry is nobody's. An entry that goes
    /// loses its base first.
    fn store(&mut self, at: usize, entry: Entry, map: u32, stores: &mut Vec<Store>) {
        self.entries[at] = entry;
        let size = if self.narrow { 4 } else { 8 };
        let (index, offset) = ((at / PAGE) as u32, (at % PAGE) as u32 * size);
        let mut put = |half: u32, value: u32| {
            stores.push(Store { map, index, offset: offset + half * 4, value });
        };
        match (self.narrow, entry.base) {
            (true, base) => put(0, base << 16 | entry.word.0),
            (false, 0) => {
                put(1, 0);
                put(0, 0);
            }
            (false, base) => {
                put(0, entry.word.0);
                put(1, base);
            }
        }
    }
}

/// A base that no row has.
const GONE: u32 = u32::MAX;
