//! Lists of sets with the class ids that they have in the tables.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::super::class_sets::union;
use super::super::classify::{AddressClasses, Class, SetBit};
use super::{ClassRows, Refused};
use crate::image::Store;
use cranelift_entity::EntityRef;

/// A list of sets.
pub(super) type List = u32;
/// The list without sets; its class is [`Class::NONE`].
pub(super) const EMPTY: List = 0;

/// Hashing with fixed keys: nothing here depends on a run.
type Hashing = BuildHasherDefault<DefaultHasher>;

#[derive(Clone, Debug)]
struct Data {
    /// Ascending.
    sets: Box<[SetBit]>,
    /// Users of the list, [`Self::shown`] included.
    users: u32,
    /// Users whose addresses find the list's class in the tables.
    shown: u32,
    /// The class that the tables have for it.
    class: Option<Class>,
}

/// Distinct lists, with counts of who uses them.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    all: Vec<Data>,
    free: Vec<List>,
    known: HashMap<Box<[SetBit]>, List, Hashing>,
    /// Class ids that no reader knows; the lowest ones last.
    free_classes: Vec<Class>,
    /// Lists whose class was shown and is not any more.
    retired: Vec<List>,
}

impl Lists {
    /// The classes that tables were built with.
    pub fn new(classes: &AddressClasses, capacity: u32) -> Self {
        let mut new = Self {
            all: Vec::new(),
            free: Vec::new(),
            known: HashMap::default(),
            free_classes: (classes.len()..capacity as usize).rev().map(Class::new).collect(),
            retired: Vec::new(),
        };
        for class in classes.classes() {
            let list = new.intern(classes.sets_of(class));
            new.all[list as usize].class = Some(class);
            // Until the first users are counted.
            new.retired.push(list);
        }
        // The empty list is for ever.
        new.use_list(EMPTY, true);
        new
    }

    pub fn sets(&self, list: List) -> &[SetBit] {
        &self.all[list as usize].sets
    }

    /// The classes that the tables have, ascending, with their sets.
    pub fn classes(&self) -> Vec<(Class, Vec<SetBit>)> {
        let known = self.all.iter().filter_map(|data| Some((data.class?, data.sets.to_vec())));
        let mut classes: Vec<_> = known.collect();
        classes.sort_unstable_by_key(|(class, _)| *class);
        classes
    }

    /// The list of these sets, ascending; it lives as long as it has users.
    pub fn intern(&mut self, sets: &[SetBit]) -> List {
        if let Some(list) = self.known.get(sets) {
            return *list;
        }
        let data = Data { sets: sets.into(), users: 0, shown: 0, class: None };
        let list = match self.free.pop() {
            Some(free) => {
                self.all[free as usize] = data;
                free
            }
            None => {
                self.all.push(data);
                self.all.len() as List - 1
            }
        };
        self.known.insert(sets.into(), list);
        list
    }

    /// The list of the sets of both.
    pub fn union(&mut self, a: List, b: List) -> List {
        if b == EMPTY || a == b {
            return a;
        }
        let union = union(self.sets(a), self.sets(b));
        self.intern(&union)
    }

    /// One user more.
    pub fn use_list(&mut self, list: List, shown: bool) {
        let data = &mut self.all[list as usize];
        data.users += 1;
        data.shown += u32::from(shown);
    }

    /// One user less.
    pub fn leave(&mut self, list: List, shown: bool) {
        let data = &mut self.all[list as usize];
        data.users -= 1;
        data.shown -= u32::from(shown);
        if data.shown == 0 && data.class.is_some() {
            self.retired.push(list);
        } else if data.users == 0 {
            self.drop_list(list);
        }
    }

    fn drop_list(&mut self, list: List) {
        let sets = std::mem::take(&mut self.all[list as usize].sets);
        self.known.remove(&sets);
        self.free.push(list);
    }

    /// The class of a list that is about to be shown; a new class's rows are
    /// stored first.
    pub fn show(
        &mut self,
        list: List,
        rows: &mut dyn ClassRows,
        stores: &mut Vec<Store>,
    ) -> Result<Class, Refused> {
        if let Some(class) = self.all[list as usize].class {
            return Ok(class);
        }
        let class = self.free_classes.pop().ok_or(Refused::NoClass)?;
        rows.fill(class, &self.all[list as usize].sets, stores)?;
        self.all[list as usize].class = Some(class);
        Ok(class)
    }

    /// Whether fewer than this many class ids are free, and quiet would free some.
    pub fn is_short(&self, least: usize) -> bool {
        self.free_classes.len() < least && !self.retired.is_empty()
    }

    /// No reader knows a retired class any more.
    pub fn quiesce(&mut self, rows: &mut dyn ClassRows) {
        let mut retired = std::mem::take(&mut self.retired);
        retired.sort_unstable();
        retired.dedup();
        for list in retired.into_iter().rev() {
            let data = &mut self.all[list as usize];
            if data.shown > 0 {
                continue;
            }
            if let Some(class) = data.class.take() {
                rows.retire(class);
                self.free_classes.push(class);
            }
            if data.users == 0 {
                self.drop_list(list);
            }
        }
    }
}
