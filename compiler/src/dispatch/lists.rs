//! Many lists of numbers in one piece of memory.
//!
//! Columns are as many as 65,535 lists of hundreds of items: an allocation for each, and
//! a second one for the key that tells whether a list is known, take longer than what is
//! done with them.

use std::hash::BuildHasher;
use std::ops::{Index, Range};

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Lists by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    all: Vec<u32>,
    /// Where each list ends in `all`.
    ends: Vec<usize>,
}

impl Lists {
    /// Number of lists.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Every list.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|list| &self[list])
    }

    /// The numbers of all lists, one list after the other.
    pub fn all(&self) -> &[u32] {
        &self.all
    }

    /// The numbers of adjacent lists, one list after the other.
    pub fn between(&self, lists: Range<usize>) -> &[u32] {
        let start = |list: usize| list.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start(lists.start)..start(lists.end)]
    }

    /// Appends a list.
    pub fn push(&mut self, list: impl IntoIterator<Item = u32>) {
        self.all.extend(list);
        self.ends.push(self.all.len());
    }
}

impl Index<usize> for Lists {
    type Output = [u32];

    fn index(&self, list: usize) -> &[u32] {
        self.between(list..list + 1)
    }
}

/// Lists that are all different, found by what is in them.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    pub lists: Lists,
    /// The last list with a hash.
    by_hash: FxHashMap<u64, u32>,
    /// The list before one with the same hash; itself if there is none.
    before: Vec<u32>,
}

impl Distinct {
    /// The number of a list: of the equal one, or the next number, under which it is
    /// appended if that is below `most`.
    pub fn number(&mut self, list: &[u32], most: usize) -> Option<u32> {
        let hash = FxBuildHasher.hash_one(list);
        let new = self.lists.len() as u32;
        let last = self.by_hash.get(&hash).copied();
        let mut next = last;
        while let Some(at) = next {
            if self.lists[at as usize] == *list {
                return Some(at);
            }
            next = Some(self.before[at as usize]).filter(|before| *before != at);
        }
        if new as usize >= most {
            return None;
        }
        self.lists.push(list.iter().copied());
        self.before.push(last.unwrap_or(new));
        self.by_hash.insert(hash, new);
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_one_number() {
        let mut distinct = Distinct::default();
        let lists: [&[u32]; 5] = [&[1, 2], &[], &[1], &[2, 1], &[0]];
        for most in [0, 5] {
            for (number, list) in (0..).zip(lists) {
                assert_eq!(distinct.number(list, most), (most > 0).then_some(number));
            }
        }
        assert_eq!(lists.map(|list| distinct.number(list, 5)), [0, 1, 2, 3, 4].map(Some));
        assert_eq!(distinct.number(&[3], 5), None);
        assert_eq!(distinct.lists.iter().collect::<Vec<_>>(), lists);
        assert_eq!(distinct.lists.all(), [1, 2, 1, 2, 1, 0]);
        assert_eq!(distinct.lists.between(1..4), [1, 2, 1]);
    }

    #[test]
    fn lists_of_one_hash_are_told_apart() {
        let mut distinct = Distinct::default();
        distinct.number(&[7], 9);
        let hash = FxBuildHasher.hash_one([8_u32, 9].as_slice());
        distinct.by_hash.insert(hash, 0);
        assert_eq!(distinct.number(&[8, 9], 9), Some(1));
        assert_eq!((distinct.number(&[8, 9], 9), distinct.number(&[7], 9)), (Some(1), Some(0)));
    }
}
