//! Private maps: what they are, what they hold at first, and how a loader makes them.
//!
//! Arrays up to [`DIRECT_BYTES`], or more for kernels that take more, are *direct*: their
//! values are loaded as one value of the kernel's map, so that programs know its address
//! ([`crate::bpf::Access::Direct`]). Everything else here, and every
//! [`super::Store`], still counts single values.

use crate::bpf::{Access, MapRef, Values};

/// What kind of map it is. The numbers are the kernel's `enum bpf_map_type`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    ProgArray = 3,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_RINGBUF`: no keys, no values, as many bytes as its capacity.
    RingBuf = 27,
}

/// `BPF_F_NO_PREALLOC`, required for LPM tries.
pub const F_NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`: an array that a loader maps into its memory, to fill it and
/// to change single values without a system call.
pub const F_MMAPABLE: u32 = 1 << 10;

impl MapKind {
    /// The name that bpftool uses: `lpm_trie`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Array => "array",
            Self::ProgArray => "prog_array",
            Self::PerCpuArray => "percpu_array",
            Self::LruHash => "lru_hash",
            Self::LpmTrie => "lpm_trie",
            Self::RingBuf => "ringbuf",
        }
    }
}

/// Most bytes of an array that is addressed directly unless more is asked for: what Linux
/// 5.10 takes as one value.
pub const DIRECT_BYTES: u64 = 4 << 20;
/// Most bytes in any case. The verifier follows offsets up to 2^29.
pub const MAX_DIRECT_BYTES: u64 = 64 << 20;

/// A private map: its definition and what it must hold before the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// C identifier, at most 15 bytes.
    pub name: String,
    /// Kind.
    pub kind: MapKind,
    /// Key size in bytes.
    pub key_size: u32,
    /// Value size in bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Contents as (key, value), keys ascending; arrays leave out zero values.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Contents of an array by index: value i is the bytes from `i * value_size`
    /// on, without padding; values beyond its end are zero. Instead of `entries`
    /// in tables with many values; at most `max_entries * value_size` bytes and a
    /// multiple of `value_size`. Empty in maps of any other kind.
    pub dense: Vec<u8>,
    /// Whether all values are loaded as one ([`Self::shape`]). Only arrays with
    /// `dense` contents whose values are a multiple of eight bytes long.
    pub direct: bool,
    /// Whether it holds for good what it holds at first: no program writes to it, and no
    /// [`super::Store`] of [`crate::live::LiveTables`] goes there. Loaders may thus let images
    /// whose maps are equal in everything have one map.
    pub fixed: bool,
}

/// A map as it is created in the kernel.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapShape {
    /// Kind.
    pub kind: MapKind,
    /// Key size in bytes.
    pub key_size: u32,
    /// Value size in bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// Appends words, each as its bytes in a map. Copied into room that is there, which is done
/// many words at a time; appending word by word is not.
pub(crate) fn put_words<const N: usize>(bytes: &mut Vec<u8>, words: impl ExactSizeIterator<Item = [u8; N]>) {
    let start = bytes.len();
    bytes.resize(start + words.len() * N, 0);
    bytes[start..].chunks_exact_mut(N).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
}

impl MapSpec {
    /// An array of `count` values of `size` bytes, a multiple of eight, that begins with
    /// `dense` (filled up to a whole value); direct up to `max_direct` bytes. Not fixed.
    pub fn array(name: &str, size: u32, count: u32, mut dense: Vec<u8>, max_direct: u64) -> Self {
        let values = dense.len().div_ceil(size.max(1) as usize);
        dense.resize(values * size as usize, 0);
        let max_entries = count.max(values as u32).max(1);
        let bytes = u64::from(size) * u64::from(max_entries);
        Self {
            name: name.into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: size,
            max_entries,
            flags: F_MMAPABLE,
            entries: Vec::new(),
            dense,
            direct: bytes <= max_direct.min(MAX_DIRECT_BYTES) && size.is_multiple_of(8),
            fixed: false,
        }
    }

    /// The map as it is created.
    pub fn shape(&self) -> MapShape {
        let (value_size, max_entries) = match self.direct {
            true => (self.value_size * self.max_entries, 1),
            false => (self.value_size, self.max_entries),
        };
        MapShape { kind: self.kind, key_size: self.key_size, value_size, max_entries, flags: self.flags }
    }

    /// The values as code refers to them, of an array that is private map `index`.
    pub fn values(&self, index: u32) -> Values {
        Values {
            map: MapRef::Private(index),
            size: self.value_size,
            count: self.max_entries,
            access: if self.direct { Access::Direct } else { Access::LookUp },
        }
    }

    /// Bytes of the values that there is room for; of a map that is no array, of the
    /// entries that it holds at first, as the kernel keeps them.
    pub fn capacity_bytes(&self) -> u64 {
        match self.kind {
            MapKind::Array | MapKind::PerCpuArray => {
                u64::from(self.value_size.next_multiple_of(8)) * u64::from(self.max_entries)
            }
            MapKind::ProgArray => 8 * u64::from(self.max_entries),
            _ => u64::from(self.key_size + self.value_size + 24) * self.entries.len() as u64,
        }
    }

    /// Bytes of keys and values that the map holds at first.
    pub fn content_bytes(&self) -> u64 {
        let entries = self.entries.len() as u64 * (u64::from(self.key_size) + u64::from(self.value_size));
        entries + self.dense.len() as u64
    }

    /// Entries that the map holds at first; of [`Self::dense`] every value counts.
    pub fn held_entries(&self) -> usize {
        self.entries.len() + self.dense.len() / self.value_size.max(1) as usize
    }
}
