//! A bucket table as it is in memory, and the stores that change it.

use std::collections::BTreeSet;

use super::super::buckets::{Key, LINE_WORDS, OVERFLOW, Shape};
use super::{Refused, Writer};

/// A bucket table and its slots that no new key may take yet.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    shape: Shape,
    words: Vec<u32>,
    /// Freed slots, as indices of their values: readers may still have compared
    /// their keys.
    freed: BTreeSet<usize>,
}

impl Slots {
    pub fn new(shape: Shape, built: &[u32]) -> Self {
        let mut words = built.to_vec();
        words.resize(shape.lines as usize * LINE_WORDS, 0);
        Self { shape, words, freed: BTreeSet::new() }
    }

    /// The index of the value of a key.
    fn find(&self, key: &Key, length: u8, is: impl Fn(u32) -> bool) -> Option<usize> {
        let slots = (0..2).flat_map(|which| {
            let line = self.shape.line(key, which, length);
            (0..self.shape.keys.slots()).map(move |slot| (line, slot))
        });
        let found = slots.filter(|(line, slot)| self.shape.key(&self.words, *line, *slot) == *key);
        found.map(|(line, slot)| self.shape.value_word(line, slot)).find(|at| is(self.words[*at]))
    }

    /// Gives a key a value; `is` tells values of this key from those of others with
    /// the same words.
    pub fn put(
        &mut self,
        key: &Key,
        length: u8,
        value: u32,
        is: impl Fn(u32) -> bool,
        out: &mut Writer<'_>,
    ) -> Result<(), Refused> {
        if let Some(at) = self.find(key, length, is) {
            if self.words[at] != value {
                self.store(at, value, out);
            }
            return Ok(());
        }
        let first = self.shape.line(key, 0, length);
        for line in [first, self.shape.line(key, 1, length)] {
            for slot in 0..self.shape.keys.slots() {
                let at = self.shape.value_word(line, slot);
                // A freed slot with the same key may come back: whoever compared
                // the key compared this one.
                let same = self.shape.key(&self.words, line, slot) == *key;
                if self.words[at] != 0 || (self.freed.contains(&at) && !same) {
                    continue;
                }
                self.freed.remove(&at);
                let key_at = self.shape.key_word(line, slot);
                for (i, word) in key[..self.shape.keys.words()].iter().enumerate() {
                    if self.words[key_at + i] != *word {
                        self.store(key_at + i, *word, out);
                    }
                }
                let overflow = first as usize * LINE_WORDS + OVERFLOW;
                if line != first && self.words[overflow] == 0 {
                    self.store(overflow, 1, out);
                }
                self.store(at, value, out);
                return Ok(());
            }
        }
        Err(Refused::NoSlot)
    }

    /// Takes a key's value away.
    pub fn clear(&mut self, key: &Key, length: u8, is: impl Fn(u32) -> bool, out: &mut Writer<'_>) {
        if let Some(at) = self.find(key, length, is) {
            self.store(at, 0, out);
            self.freed.insert(at);
        }
    }

    /// Whether so many slots wait for quiet that others may not suffice.
    pub fn is_short(&self) -> bool {
        self.freed.len() * 8 > self.shape.lines as usize * self.shape.keys.slots()
    }

    /// No reader is left that compared a freed key.
    pub fn quiesce(&mut self) {
        self.freed.clear();
    }

    fn store(&mut self, at: usize, value: u32, out: &mut Writer<'_>) {
        self.words[at] = value;
        out.word(at, value);
    }
}
