//! Maps as eBPF programs see them. Values lie in the arena, since programs hold
//! their addresses; everything else (keys, order, indices) lies outside, where
//! programs cannot reach it.

mod array;
mod hash;
mod lpm;
mod ring;

pub(super) use array::ArrayMap;
pub(super) use hash::HashMap;
pub(super) use lpm::LpmMap;
pub(super) use ring::RingBuf;

use polc_compiler::image::MapKind;

use crate::sys::LowArena;

/// What a map operation answers instead of success: a Linux error number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum MapError {
    /// `ENOENT`: no such key.
    NoEntry = 2,
    /// `E2BIG`: the map is full, or the index is beyond the array.
    Full = 7,
    /// `EAGAIN`: no room at the moment.
    Again = 11,
    /// `EEXIST`: the key is there and must not be.
    Exists = 17,
    /// `EINVAL`: not possible with this kind of map, or an unknown flag.
    Invalid = 22,
}

/// When an update applies; `BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Any,
    NoExist,
    Exist,
}

impl Update {
    pub fn from_flags(flags: u64) -> Option<Self> {
        [Self::Any, Self::NoExist, Self::Exist].get(usize::try_from(flags).ok()?).copied()
    }
}

/// A map's shape.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub kind: MapKind,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
}

/// Why a shape cannot be made.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShapeError {
    #[error("key of {given} bytes; this kind of map needs {needed}")]
    Key { given: u32, needed: &'static str },
    #[error("no entries, or values without bytes")]
    Empty,
}

impl Shape {
    /// Distance of values in the arena, as in the kernel.
    pub fn stride(&self) -> u64 {
        u64::from(self.value_size).next_multiple_of(8)
    }

    /// Bytes of arena that the values take.
    pub fn bytes(&self) -> u64 {
        match self.kind {
            MapKind::ProgArray | MapKind::RingBuf => 0,
            _ => self.stride().saturating_mul(u64::from(self.max_entries)),
        }
    }

    pub fn check(&self) -> Result<(), ShapeError> {
        let values = self.kind == MapKind::RingBuf || self.value_size > 0;
        if self.max_entries == 0 || !values {
            return Err(ShapeError::Empty);
        }
        let (fits, needed) = match self.kind {
            MapKind::Array | MapKind::PerCpuArray | MapKind::ProgArray => (self.key_size == 4, "4"),
            MapKind::Hash | MapKind::LruHash => ((1..=512).contains(&self.key_size), "1 to 512"),
            MapKind::RingBuf => (self.key_size == 0, "0"),
            MapKind::LpmTrie => ((5..=20).contains(&self.key_size), "5 to 20"),
        };
        if fits { Ok(()) } else { Err(ShapeError::Key { given: self.key_size, needed }) }
    }
}

/// Any map.
pub(super) enum Map {
    Array(ArrayMap),
    Hash(HashMap),
    Lpm(LpmMap),
    /// Program numbers by index.
    Programs(Vec<Option<u32>>),
    Ring(RingBuf),
}

impl Map {
    /// An empty map whose values begin at `values`, where [`Shape::bytes`] zero
    /// bytes are reserved for it.
    pub fn new(shape: Shape, values: u64) -> Self {
        match shape.kind {
            MapKind::Array | MapKind::PerCpuArray => Self::Array(ArrayMap::new(shape, values)),
            MapKind::Hash => Self::Hash(HashMap::new(shape, values, false)),
            MapKind::LruHash => Self::Hash(HashMap::new(shape, values, true)),
            MapKind::LpmTrie => Self::Lpm(LpmMap::new(shape, values)),
            MapKind::ProgArray => Self::Programs(vec![None; shape.max_entries as usize]),
            MapKind::RingBuf => Self::Ring(RingBuf::new(shape.max_entries)),
        }
    }

    pub fn key_size(&self) -> usize {
        match self {
            Self::Array(_) | Self::Programs(_) => 4,
            Self::Hash(m) => m.shape().key_size as usize,
            Self::Lpm(m) => m.shape().key_size as usize,
            Self::Ring(_) => 0,
        }
    }

    pub fn value_size(&self) -> usize {
        match self {
            Self::Array(m) => m.shape().value_size as usize,
            Self::Hash(m) => m.shape().value_size as usize,
            Self::Lpm(m) => m.shape().value_size as usize,
            Self::Programs(_) => 4,
            Self::Ring(_) => 0,
        }
    }

    /// Address of the value of a key of [`Self::key_size`] bytes.
    pub fn lookup(&mut self, key: &[u8]) -> Option<u64> {
        match self {
            Self::Array(m) => m.lookup(key),
            Self::Hash(m) => m.lookup(key),
            Self::Lpm(m) => m.lookup(key),
            Self::Programs(_) | Self::Ring(_) => None,
        }
    }

    /// Stores a value of [`Self::value_size`] bytes.
    pub fn update(
        &mut self,
        arena: &LowArena,
        key: &[u8],
        value: &[u8],
        when: Update,
    ) -> Result<(), MapError> {
        let at = match self {
            Self::Array(m) => m.slot(key, when)?,
            Self::Hash(m) => m.slot(key, when)?,
            Self::Lpm(m) => m.slot(key, when)?,
            Self::Programs(_) | Self::Ring(_) => return Err(MapError::Invalid),
        };
        if arena.write(at, value) { Ok(()) } else { Err(MapError::Invalid) }
    }

    /// Fills an empty map with distinct keys. Gives the index of the entry that
    /// does not fit and why.
    pub fn fill(
        &mut self,
        arena: &LowArena,
        entries: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), (usize, MapError)> {
        let (keys, values) = (self.key_size(), self.value_size());
        if let Some(bad) = entries.iter().position(|(k, v)| k.len() != keys || v.len() != values) {
            return Err((bad, MapError::Invalid));
        }
        if let Self::Lpm(m) = self {
            let addresses = m.fill(entries.iter().map(|(k, _)| k.as_slice())).map_err(|e| (0, e))?;
            for (i, (at, (_, value))) in addresses.into_iter().zip(entries).enumerate() {
                if !arena.write(at, value) {
                    return Err((i, MapError::Invalid));
                }
            }
            return Ok(());
        }
        for (i, (key, value)) in entries.iter().enumerate() {
            self.update(arena, key, value, Update::Any).map_err(|e| (i, e))?;
        }
        Ok(())
    }

    /// Stores the values of an array from index 0 on; `values` has them without
    /// the padding that they have in the arena.
    pub fn fill_dense(&mut self, arena: &LowArena, values: &[u8]) -> Result<(), MapError> {
        if values.is_empty() {
            return Ok(());
        }
        let Self::Array(map) = self else { return Err(MapError::Invalid) };
        let size = map.shape().value_size as usize;
        if !values.len().is_multiple_of(size) {
            return Err(MapError::Invalid);
        }
        for (index, value) in (0u32..).zip(values.chunks_exact(size)) {
            let at = map.at(index).ok_or(MapError::Full)?;
            if !arena.write(at, value) {
                return Err(MapError::Invalid);
            }
        }
        Ok(())
    }

    pub fn delete(&mut self, key: &[u8]) -> Result<(), MapError> {
        match self {
            Self::Hash(m) => m.delete(key),
            Self::Lpm(m) => m.delete(key),
            Self::Array(_) | Self::Programs(_) | Self::Ring(_) => Err(MapError::Invalid),
        }
    }
}
