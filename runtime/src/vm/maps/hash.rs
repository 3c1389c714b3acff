//! Hash maps of fixed capacity, with or without eviction of the least recently
//! used entry.
//!
//! Buckets hold chains of slot numbers; a slot is a key outside the arena and a
//! value inside. The kernel evicts approximately and per CPU; here eviction is
//! exact, so a replay gives the same result every time. For the same reason the
//! hash has no seed.
//!
//! Cost: one hash, one or two cache lines per look-up; nothing is allocated
//! after creation, and memory is committed by use.

use super::{MapError, Shape, Update};

pub(in crate::vm) struct HashMap {
    shape: Shape,
    values: u64,
    lru: bool,
    mask: usize,
    /// First slot of each bucket's chain. Slots count from 1; 0 is none, so that
    /// fresh memory needs no initialisation.
    heads: Vec<u32>,
    /// Next slot in the bucket's chain, or in the list of free slots.
    next: Vec<u32>,
    keys: Vec<u8>,
    /// Neighbours in order of use; only kept for `lru`.
    newer: Vec<u32>,
    older: Vec<u32>,
    newest: u32,
    oldest: u32,
    free: u32,
    /// Slots ever used: above it all are fresh.
    used: u32,
}

impl HashMap {
    pub fn new(shape: Shape, values: u64, lru: bool) -> Self {
        let slots = shape.max_entries as usize + 1;
        let buckets = (shape.max_entries as usize).next_power_of_two();
        let order = if lru { slots } else { 0 };
        Self {
            shape,
            values,
            lru,
            mask: buckets - 1,
            heads: vec![0; buckets],
            next: vec![0; slots],
            keys: vec![0; slots * shape.key_size as usize],
            newer: vec![0; order],
            older: vec![0; order],
            newest: 0,
            oldest: 0,
            free: 0,
            used: 0,
        }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn lookup(&mut self, key: &[u8]) -> Option<u64> {
        let slot = self.find(self.bucket(key), key)?;
        self.touch(slot);
        Some(self.address(slot))
    }

    /// Where the value of a key is to be written; makes the entry if needed.
    pub fn slot(&mut self, key: &[u8], when: Update) -> Result<u64, MapError> {
        let bucket = self.bucket(key);
        match (self.find(bucket, key), when) {
            (Some(_), Update::NoExist) => Err(MapError::Exists),
            (None, Update::Exist) => Err(MapError::NoEntry),
            (Some(slot), _) => {
                self.touch(slot);
                Ok(self.address(slot))
            }
            (None, _) => {
                let slot = self.take_free()?;
                self.key_mut(slot).copy_from_slice(key);
                self.next[slot as usize] = self.heads[bucket];
                self.heads[bucket] = slot;
                self.link_newest(slot);
                Ok(self.address(slot))
            }
        }
    }

    pub fn delete(&mut self, key: &[u8]) -> Result<(), MapError> {
        let slot = self.find(self.bucket(key), key).ok_or(MapError::NoEntry)?;
        self.remove(slot);
        Ok(())
    }

    fn address(&self, slot: u32) -> u64 {
        self.values + self.shape.stride() * u64::from(slot - 1)
    }

    fn key(&self, slot: u32) -> &[u8] {
        let size = self.shape.key_size as usize;
        &self.keys[slot as usize * size..][..size]
    }

    fn key_mut(&mut self, slot: u32) -> &mut [u8] {
        let size = self.shape.key_size as usize;
        &mut self.keys[slot as usize * size..][..size]
    }

    fn bucket(&self, key: &[u8]) -> usize {
        hash(key) as usize & self.mask
    }

    fn find(&self, bucket: usize, key: &[u8]) -> Option<u32> {
        let mut slot = self.heads[bucket];
        while slot != 0 {
            if self.key(slot) == key {
                return Some(slot);
            }
            slot = self.next[slot as usize];
        }
        None
    }

    /// An unused slot, made by eviction if need be.
    fn take_free(&mut self) -> Result<u32, MapError> {
        if self.free == 0 && self.used == self.shape.max_entries {
            if !self.lru {
                return Err(MapError::Full);
            }
            self.remove(self.oldest);
        }
        if self.free != 0 {
            let slot = self.free;
            self.free = self.next[slot as usize];
            return Ok(slot);
        }
        self.used += 1;
        Ok(self.used)
    }

    /// Takes a used slot out of its chain and frees it.
    fn remove(&mut self, slot: u32) {
        let bucket = self.bucket(self.key(slot));
        let after = self.next[slot as usize];
        let mut at = self.heads[bucket];
        if at == slot {
            self.heads[bucket] = after;
        } else {
            while self.next[at as usize] != slot {
                at = self.next[at as usize];
            }
            self.next[at as usize] = after;
        }
        self.unlink(slot);
        self.next[slot as usize] = self.free;
        self.free = slot;
    }

    fn touch(&mut self, slot: u32) {
        if self.lru && self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    fn link_newest(&mut self, slot: u32) {
        if !self.lru {
            return;
        }
        self.newer[slot as usize] = 0;
        self.older[slot as usize] = self.newest;
        match self.newest {
            0 => self.oldest = slot,
            former => self.newer[former as usize] = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        if !self.lru {
            return;
        }
        let (newer, older) = (self.newer[slot as usize], self.older[slot as usize]);
        match newer {
            0 => self.newest = older,
            n => self.older[n as usize] = older,
        }
        match older {
            0 => self.oldest = newer,
            o => self.newer[o as usize] = newer,
        }
    }
}

/// Multiply-and-fold over 8-byte words: a few ns for a connection's key.
fn hash(key: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |h: u64, word: u64| {
        let product = u128::from(h ^ word).wrapping_mul(u128::from(K));
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = key.as_chunks::<8>();
    let mut h = (key.len() as u64).wrapping_add(K);
    for word in words {
        h = fold(h.rotate_left(23), u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(h.rotate_left(23), u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use polc_compiler::image::MapKind;
    use proptest::prelude::*;

    fn map(max_entries: u32, lru: bool) -> HashMap {
        let shape = Shape { kind: MapKind::Hash, key_size: 3, value_size: 5, max_entries };
        HashMap::new(shape, 0x10_0000, lru)
    }

    #[test]
    fn flags_and_capacity() {
        let mut m = map(2, false);
        assert_eq!(m.slot(b"aaa", Update::Exist), Err(MapError::NoEntry));
        let a = m.slot(b"aaa", Update::NoExist).unwrap();
        assert_eq!(m.slot(b"aaa", Update::NoExist), Err(MapError::Exists));
        let b = m.slot(b"bbb", Update::Any).unwrap();
        assert_eq!(a.abs_diff(b), 8);
        assert_eq!(m.slot(b"ccc", Update::Any), Err(MapError::Full));
        assert_eq!(m.delete(b"aaa"), Ok(()));
        assert_eq!(m.delete(b"aaa"), Err(MapError::NoEntry));
        assert_eq!(m.slot(b"ccc", Update::Any), Ok(a), "the freed slot is used again");
        assert_eq!((m.lookup(b"bbb"), m.lookup(b"aaa")), (Some(b), None));
    }

    #[test]
    fn eviction_takes_the_least_recently_used() {
        let mut m = map(3, true);
        for key in [b"aaa", b"bbb", b"ccc"] {
            m.slot(key, Update::Any).unwrap();
        }
        assert!(m.lookup(b"aaa").is_some());
        m.slot(b"bbb", Update::Any).unwrap();
        m.slot(b"ddd", Update::Any).unwrap();
        let there: Vec<bool> =
            [b"aaa", b"bbb", b"ccc", b"ddd"].iter().map(|k| m.lookup(*k).is_some()).collect();
        assert_eq!(there, [true, true, false, true]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Look(u8),
        Put(u8),
        Remove(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0u8..12;
        let step = prop_oneof![
            key.clone().prop_map(Step::Look),
            key.clone().prop_map(Step::Put),
            key.prop_map(Step::Remove)
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a list in order of use, last used last.
        #[test]
        fn behaves_as_a_list_in_order_of_use(steps in steps(), capacity in 1u32..8) {
            let mut m = map(capacity, true);
            let mut list: Vec<[u8; 3]> = Vec::new();
            for step in steps {
                let (Step::Look(k) | Step::Put(k) | Step::Remove(k)) = step;
                let key = [k, 7, k];
                let found = list.iter().position(|x| *x == key);
                match step {
                    Step::Look(_) => prop_assert_eq!(m.lookup(&key).is_some(), found.is_some()),
                    Step::Put(_) => prop_assert!(m.slot(&key, Update::Any).is_ok()),
                    Step::Remove(_) => prop_assert_eq!(m.delete(&key).is_ok(), found.is_some()),
                }
                if let Some(at) = found {
                    list.remove(at);
                }
                if matches!(step, Step::Put(_)) || (matches!(step, Step::Look(_)) && found.is_some()) {
                    if list.len() == capacity as usize {
                        list.remove(0);
                    }
                    list.push(key);
                }
            }
            let mut addresses = std::collections::BTreeSet::new();
            for key in &list {
                addresses.insert(m.lookup(key));
            }
            prop_assert!(!addresses.contains(&None));
            prop_assert_eq!(addresses.len(), list.len(), "no two entries share a value");
        }
    }
}
