//! Classes as lists of sets, each list once.

use std::hash::BuildHasher;

use cranelift_entity::EntityRef;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::classify::{Class, SetBit};

/// Distinct ascending lists of sets, numbered in order of appearance; class 0 is
/// the empty list. Cost of a list: its length, plus one entry in a hash table.
#[derive(Clone, Debug)]
pub(super) struct ClassSets {
    /// All lists, one after the other.
    sets: Vec<SetBit>,
    /// Where each class's list ends.
    ends: Vec<usize>,
    /// The last class with a list of that hash.
    by_hash: FxHashMap<u64, Class>,
    /// The class before one with the same hash; itself if there is none.
    before: Vec<Class>,
}

impl PartialEq for ClassSets {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from these.
        self.sets == other.sets && self.ends == other.ends
    }
}

impl ClassSets {
    /// The class of no set.
    pub fn new() -> Self {
        let mut new =
            Self { sets: Vec::new(), ends: Vec::new(), by_hash: FxHashMap::default(), before: Vec::new() };
        new.intern(&[]);
        new
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The sets of a class, ascending; empty for an id that is no class.
    pub fn sets(&self, class: Class) -> &[SetBit] {
        let Some(end) = self.ends.get(class.index()) else { return &[] };
        let start = class.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.sets[start..*end]
    }

    /// The class whose sets are those of `class` and `more`, which is ascending.
    pub fn with(&mut self, class: Class, more: &[SetBit]) -> Class {
        let union = union(self.sets(class), more);
        self.intern(&union)
    }

    /// The class of an ascending list.
    fn intern(&mut self, sets: &[SetBit]) -> Class {
        let hash = FxBuildHasher.hash_one(sets);
        let new = Class::new(self.ends.len());
        let mut before = new;
        if let Some(last) = self.by_hash.get(&hash) {
            before = *last;
            let mut at = *last;
            loop {
                if self.sets(at) == sets {
                    return at;
                }
                let next = self.before[at.index()];
                if next == at {
                    break;
                }
                at = next;
            }
        }
        self.sets.extend_from_slice(sets);
        self.ends.push(self.sets.len());
        self.before.push(before);
        self.by_hash.insert(hash, new);
        new
    }
}

/// Two ascending lists as one, without duplicates.
pub(super) fn union(a: &[SetBit], b: &[SetBit]) -> Vec<SetBit> {
    let mut all = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        all.push(*x.min(y));
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    all.extend_from_slice(&a[i..]);
    all.extend_from_slice(&b[j..]);
    all
}
