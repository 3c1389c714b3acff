//! Arrays; a per-CPU array is one with a single CPU.

use super::{MapError, Shape, Update};

pub(in crate::vm) struct ArrayMap {
    shape: Shape,
    values: u64,
}

impl ArrayMap {
    pub fn new(shape: Shape, values: u64) -> Self {
        Self { shape, values }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn lookup(&self, key: &[u8]) -> Option<u64> {
        let index = u32::from_ne_bytes(key.try_into().ok()?);
        self.at(index)
    }

    /// Address of a value by index.
    pub fn at(&self, index: u32) -> Option<u64> {
        (index < self.shape.max_entries).then(|| self.values + self.shape.stride() * u64::from(index))
    }

    /// Where the value of a key is to be written.
    pub fn slot(&self, key: &[u8], when: Update) -> Result<u64, MapError> {
        match when {
            Update::NoExist => Err(MapError::Exists),
            _ => self.lookup(key).ok_or(MapError::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polc_compiler::image::MapKind;

    #[test]
    fn values_stand_eight_bytes_apart_at_least() {
        let shape = Shape { kind: MapKind::Array, key_size: 4, value_size: 12, max_entries: 3 };
        let map = ArrayMap::new(shape, 0x1000);
        assert_eq!(map.lookup(&2u32.to_ne_bytes()), Some(0x1000 + 32));
        assert_eq!(map.lookup(&3u32.to_ne_bytes()), None);
        assert_eq!(map.slot(&3u32.to_ne_bytes(), Update::Any), Err(MapError::Full));
        assert_eq!(map.slot(&0u32.to_ne_bytes(), Update::NoExist), Err(MapError::Exists));
    }
}
