//! Buckets of sparse cells as they are in memory, and the stores that change them.
//!
//! A slot is eight bytes, which a program loads at once and a store writes half of:
//!
//! ```text
//! high word: word + 1, 26 bits │ column, upper 6     low word: column, lower 10 │ class 22
//! ```
//!
//! Why no reader takes half a slot for its own: a slot whose high word is 0 says
//! nothing to anybody, since programs OR what the slots of their key say, and 0 means
//! no cell. A slot is written low word first, while its high word is 0, and is taken
//! away high word first. Whatever a reader finds between these stores is 0, the old
//! slot or the new one; and of the old class there is no reader any more, of the new
//! one none yet: a slot with a class is given away only after
//! [`super::LiveRows`] was told that the class is retired.
//!
//! Cost: a bucket's slots for each cell. Cells of retired classes stay until their
//! slot or their class is used again.

use std::collections::{BTreeMap, BTreeSet};

use super::super::cells::{SLOTS, bucket, key, slot};
use super::super::outcome::Word;
use crate::address::{Class, Refused};
use crate::image::Store;

/// The buckets, and whose slots they are.
#[derive(Clone, Debug)]
pub(super) struct LiveSlots {
    slots: Vec<u64>,
    bits: u32,
    multiplier: u64,
    /// Places of each class's slots.
    of_class: BTreeMap<Class, Vec<usize>>,
    /// Classes that no reader knows, and that still have slots.
    retired: BTreeSet<Class>,
}

impl LiveSlots {
    pub fn new(slots: Vec<u64>, bits: u32, multiplier: u64) -> Self {
        let mut of_class: BTreeMap<Class, Vec<usize>> = BTreeMap::new();
        for (at, slot) in slots.iter().enumerate().filter(|(_, slot)| **slot != 0) {
            of_class.entry(owner(*slot)).or_default().push(at);
        }
        Self { slots, bits, multiplier, of_class, retired: BTreeSet::new() }
    }

    /// Gives a class these cells and no others.
    pub fn put(
        &mut self,
        class: Class,
        cells: &[(u32, Word)],
        map: u32,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        self.retired.remove(&class);
        for at in self.of_class.remove(&class).unwrap_or_default() {
            self.store(at, 0, map, stores);
        }
        let mut places = Vec::with_capacity(cells.len());
        for (column, word) in cells {
            let key = key(class, *column);
            let first = bucket(key, self.bits, self.multiplier);
            let free = (first..first + SLOTS).find(|at| self.is_free(*at)).ok_or(Refused::NoCell)?;
            if self.slots[free] != 0 {
                let owner = owner(self.slots[free]);
                if let Some(places) = self.of_class.get_mut(&owner) {
                    places.retain(|at| *at != free);
                }
            }
            self.store(free, slot(key, *word), map, stores);
            places.push(free);
        }
        if !places.is_empty() {
            self.of_class.insert(class, places);
        }
        Ok(())
    }

    pub fn retire(&mut self, class: Class) {
        if self.of_class.contains_key(&class) {
            self.retired.insert(class);
        }
    }

    fn is_free(&self, at: usize) -> bool {
        self.slots[at] == 0 || self.retired.contains(&owner(self.slots[at]))
    }

    fn store(&mut self, at: usize, slot: u64, map: u32, stores: &mut Vec<Store>) {
        let (index, offset) = ((at / SLOTS) as u32, (at % SLOTS) as u32 * 8);
        let mut put =
            |half: u32, value: u32| stores.push(Store { map, index, offset: offset + half * 4, value });
        let old = self.slots[at];
        if old >> 32 != 0 {
            put(1, 0);
        }
        if old as u32 != slot as u32 {
            put(0, slot as u32);
        }
        if slot >> 32 != 0 {
            put(1, (slot >> 32) as u32);
        }
        self.slots[at] = slot;
    }
}

/// The class that a slot is of.
fn owner(slot: u64) -> Class {
    Class::from_u32(slot as u32 & ((1 << super::super::cells::CLASS_BITS) - 1))
}
