//! Changes of table contents while programs read them.
//!
//! Every change is a list of [`Store`]s to be carried out in order. Each store
//! replaces one aligned word, which no reader sees half written; the order is such
//! that every packet finds what was or what will be.

use super::{MapKind, MapSpec};

/// One aligned 4-byte store to an array map.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// Index into [`super::PolicyImage::maps`].
    pub map: u32,
    /// Index of the value in the map.
    pub index: u32,
    /// Byte offset in the value; a multiple of 4.
    pub offset: u32,
    /// The new word.
    pub value: u32,
}

impl Store {
    /// Where the store goes in the memory that an array with values of this size
    /// is mapped to: values stand a multiple of eight bytes apart.
    pub fn mapped_at(&self, value_size: u32) -> u64 {
        u64::from(self.index) * u64::from(value_size).next_multiple_of(8) + u64::from(self.offset)
    }

    /// Carries the store out on maps that are not loaded. `false`, and nothing
    /// done, if there is no such word, or the map is fixed.
    pub fn apply(&self, maps: &mut [MapSpec]) -> bool {
        let Some(map) = maps.get_mut(self.map as usize) else { return false };
        let fits = map.kind == MapKind::Array
            && !map.fixed
            && self.index < map.max_entries
            && self.offset.is_multiple_of(4)
            && u64::from(self.offset) + 4 <= u64::from(map.value_size);
        if !fits {
            return false;
        }
        let size = map.value_size as usize;
        let end = (self.index as usize + 1) * size;
        if map.dense.len() < end {
            map.dense.resize(end, 0);
        }
        let at = self.index as usize * size + self.offset as usize;
        map.dense[at..at + 4].copy_from_slice(&self.value.to_le_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_reach_their_word_and_no_other() {
        let mut maps = [MapSpec {
            name: "m".into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: 12,
            max_entries: 3,
            flags: 0,
            entries: Vec::new(),
            dense: Vec::new(),
            direct: false,
            fixed: false,
        }];
        let store = Store { map: 0, index: 1, offset: 8, value: 0x0102_0304 };
        assert_eq!(store.mapped_at(12), 24);
        assert!(store.apply(&mut maps));
        assert_eq!(maps[0].dense[..20], [0; 20]);
        assert_eq!(maps[0].dense[20..], [4, 3, 2, 1]);
        for bad in [(1, 0, 0), (0, 3, 0), (0, 0, 12), (0, 0, 2)] {
            assert!(!Store { map: bad.0, index: bad.1, offset: bad.2, value: 1 }.apply(&mut maps), "{bad:?}");
        }
        maps[0].fixed = true;
        assert!(!store.apply(&mut maps));
    }
}
