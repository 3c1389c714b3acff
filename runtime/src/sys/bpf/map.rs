//! Maps: create, read, write.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{Command, address, address_mut, bpf, bpf_fd, fd_by_id, invalid, object_info, object_name};
use crate::sys::{SyscallError, possible_cpus};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// Kinds with one value per CPU: hash, array, LRU hash.
const PER_CPU: [u32; 3] = [5, 6, 10];

/// What a map is made of; sizes in bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MapDefinition {
    /// Number of `enum bpf_map_type`.
    pub kind: u32,
    /// Size of a key.
    pub key_size: u32,
    /// Size of a value (of one CPU's value).
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// A key and its value.
pub type MapEntry = (Vec<u8>, Vec<u8>);

/// A map in the kernel; it lives as long as a descriptor, pin or program has it.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    id: u32,
    definition: MapDefinition,
    /// Bytes of a look-up's result: all CPUs' values, each filled up to 8.
    span: usize,
}

impl Map {
    /// Makes a map. The name is cut to 15 bytes.
    ///
    /// # Errors
    /// What the kernel says: `EPERM`, `E2BIG` and `EINVAL` for sizes, `ENOMEM`.
    pub fn create(name: &str, definition: &MapDefinition) -> Result<Self, SyscallError> {
        #[repr(C)]
        struct Attribute {
            definition: [u32; 5],
            inner_map_fd: u32,
            numa_node: u32,
            name: [u8; 16],
            ifindex: u32,
        }
        let d = *definition;
        let mut attribute = Attribute {
            definition: [d.kind, d.key_size, d.value_size, d.max_entries, d.flags],
            inner_map_fd: 0,
            numa_node: 0,
            name: object_name(name),
            ifindex: 0,
        };
        // SAFETY: numbers and a name, no pointer.
        Self::of(unsafe { bpf_fd("bpf_map_create", Command::MapCreate, &mut attribute) }?)
    }

    /// The map with an id.
    ///
    /// # Errors
    /// `ENOENT`, `EPERM`.
    pub fn by_id(id: u32) -> Result<Self, SyscallError> {
        Self::of(fd_by_id("bpf_map_get_fd_by_id", Command::MapFdById, id)?)
    }

    /// The map behind a descriptor.
    ///
    /// # Errors
    /// `EINVAL` if it is no map's.
    pub fn of(fd: OwnedFd) -> Result<Self, SyscallError> {
        // type, id, key size, value size, max entries, flags; then a name.
        let mut info = [0u32; 6];
        if super::pinned_kind(fd.as_fd())? != Some(super::PinnedKind::Map) {
            return Err(invalid("bpf_map_info"));
        }
        // SAFETY: the head of `struct bpf_map_info`: six numbers.
        unsafe { object_info(fd.as_raw_fd(), &mut info) }?;
        let [kind, id, key_size, value_size, max_entries, flags] = info;
        let definition = MapDefinition { kind, key_size, value_size, max_entries, flags };
        let values = if PER_CPU.contains(&kind) { possible_cpus()? } else { 1 };
        let each = if values > 1 || PER_CPU.contains(&kind) {
            (value_size as usize).next_multiple_of(8)
        } else {
            value_size as usize
        };
        Ok(Self { fd, id, definition, span: each * values })
    }

    /// The kernel's number for it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it is made of, as the kernel tells.
    pub fn definition(&self) -> MapDefinition {
        self.definition
    }

    /// Whether its memory can be mapped.
    pub fn is_mappable(&self) -> bool {
        self.definition.flags & MMAPABLE != 0
    }

    /// The number that programs refer to it by while they are loaded.
    pub fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Bytes that a look-up gives: of per-CPU kinds the values of all possible
    /// CPUs, each filled up to a multiple of 8.
    pub fn value_span(&self) -> usize {
        self.span
    }

    /// The value of a key, or `None`. A program array gives a program's id.
    ///
    /// # Errors
    /// `EINVAL` for a key of another size; else what the kernel says.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SyscallError> {
        const NAME: &str = "bpf_map_lookup_elem";
        self.check(NAME, key, None)?;
        let mut value = vec![0u8; self.span];
        let mut attribute = self.element(key, address_mut(&mut value), 0);
        // SAFETY: `key` has the map's key size, `value` is writable for what the
        // kernel copies out: `span`.
        match unsafe { bpf(NAME, Command::MapLookup, &mut attribute) } {
            Ok(_) => Ok(Some(value)),
            Err(e) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Stores a value; of per-CPU kinds that of all CPUs ([`Self::value_span`]).
    ///
    /// # Errors
    /// `EINVAL` for other sizes, `E2BIG` where the map is full or has no such
    /// index; else what the kernel says.
    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<(), SyscallError> {
        const NAME: &str = "bpf_map_update_elem";
        self.check(NAME, key, Some(value))?;
        let mut attribute = self.element(key, address(value), 0);
        // SAFETY: `key` and `value` are as long as the kernel reads.
        unsafe { bpf(NAME, Command::MapUpdate, &mut attribute) }.map(drop)
    }

    /// Lets a slot of a program array lead to a program.
    ///
    /// # Errors
    /// As for [`Self::update`]; `EINVAL` for a program of another kind than the array's.
    pub fn set_program(&self, slot: u32, program: &super::Program) -> Result<(), SyscallError> {
        self.update(&slot.to_le_bytes(), &program.as_fd().as_raw_fd().to_le_bytes())
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// `EINVAL` for a key of another size, or an array; else what the kernel says.
    pub fn delete(&self, key: &[u8]) -> Result<bool, SyscallError> {
        const NAME: &str = "bpf_map_delete_elem";
        self.check(NAME, key, None)?;
        let mut attribute = self.element(key, 0, 0);
        // SAFETY: `key` has the map's key size.
        match unsafe { bpf(NAME, Command::MapDelete, &mut attribute) } {
            Ok(_) => Ok(true),
            Err(e) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The key after `key`, in the kernel's order; the first one after `None`.
    ///
    /// # Errors
    /// `EINVAL` for a key of another size; else what the kernel says.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, SyscallError> {
        const NAME: &str = "bpf_map_get_next_key";
        if let Some(key) = key {
            self.check(NAME, key, None)?;
        }
        let mut next = vec![0u8; self.definition.key_size as usize];
        let mut attribute = self.element(key.unwrap_or(&[]), address_mut(&mut next), 0);
        if key.is_none() {
            attribute.key = 0;
        }
        // SAFETY: `key` (or null, for which the kernel gives the first) and `next`
        // have the map's key size.
        match unsafe { bpf(NAME, Command::MapNextKey, &mut attribute) } {
            Ok(_) => Ok(Some(next)),
            Err(e) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All entries of a hash in batches of one system call, until the end or `most`
    /// entries. Entries that come or go meanwhile may be left out; an entry may
    /// come twice only if it was moved.
    ///
    /// # Errors
    /// What the kernel says: batches exist for hashes and arrays.
    pub fn entries(&self, most: usize) -> Result<Vec<MapEntry>, SyscallError> {
        const NAME: &str = "bpf_map_lookup_batch";
        let (key_size, span) = (self.definition.key_size as usize, self.span);
        let (mut token, mut next) = (vec![0u8; key_size.max(4)], vec![0u8; key_size.max(4)]);
        let mut room = 1024usize;
        let mut first = true;
        let mut found = Vec::new();
        loop {
            let (mut keys, mut values) = (vec![0u8; key_size * room], vec![0u8; span * room]);
            let mut attribute = Batch {
                in_batch: if first { 0 } else { address(&token) },
                out_batch: address_mut(&mut next),
                keys: address_mut(&mut keys),
                values: address_mut(&mut values),
                count: room as u32,
                map_fd: self.raw_fd() as u32,
                elem_flags: 0,
                flags: 0,
            };
            // SAFETY: tokens have a key's size (a hash uses four bytes of them);
            // `keys` and `values` have room for `count` entries.
            let outcome = unsafe { bpf(NAME, Command::MapLookupBatch, &mut attribute) };
            let code = outcome.as_ref().err().and_then(|e| e.io_error.raw_os_error());
            if code == Some(libc::ENOSPC) && room < 1 << 22 {
                // One bucket of the hash has more entries than there was room for.
                room *= 4;
                continue;
            }
            if !matches!(code, None | Some(libc::ENOENT)) {
                outcome?;
            }
            let count = (attribute.count as usize).min(room);
            let pairs = keys.chunks_exact(key_size).zip(values.chunks_exact(span)).take(count);
            found.extend(pairs.map(|(k, v)| (k.to_vec(), v.to_vec())));
            if code.is_some() || found.len() >= most || count == 0 {
                return Ok(found);
            }
            std::mem::swap(&mut token, &mut next);
            first = false;
        }
    }

    /// Stores many entries with one system call: `keys` and `values` one behind
    /// the other, in order.
    ///
    /// # Errors
    /// `EINVAL` if the lengths do not fit each other; else what the kernel says:
    /// entries before the one that failed are stored.
    pub fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), SyscallError> {
        const NAME: &str = "bpf_map_update_batch";
        let count = keys.len() / (self.definition.key_size as usize).max(1);
        let fits = keys.len() == count * self.definition.key_size as usize
            && values.len() == count * self.span
            && u32::try_from(count).is_ok();
        if !fits {
            return Err(invalid(NAME));
        }
        if count == 0 {
            return Ok(());
        }
        let mut attribute = Batch {
            in_batch: 0,
            out_batch: 0,
            keys: address(keys),
            values: address(values),
            count: count as u32,
            map_fd: self.raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: both buffers hold `count` entries of the map's sizes.
        unsafe { bpf(NAME, Command::MapUpdateBatch, &mut attribute) }.map(drop)
    }

    /// Bytes of memory that the kernel holds for it, as it accounts for them.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn memory(&self) -> Result<u64, SyscallError> {
        let path = format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd());
        let text = std::fs::read_to_string(path)
            .map_err(|io_error| SyscallError { call: "read of /proc/self/fdinfo", io_error })?;
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        Ok(line.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
    }

    /// Refuses every further write through a system call.
    ///
    /// # Errors
    /// `EBUSY` while its memory is mapped for writing; else what the kernel says.
    pub fn freeze(&self) -> Result<(), SyscallError> {
        let mut attribute = self.raw_fd() as u32;
        // SAFETY: one number.
        unsafe { bpf("bpf_map_freeze", Command::MapFreeze, &mut attribute) }.map(drop)
    }

    fn check(&self, name: &'static str, key: &[u8], value: Option<&[u8]>) -> Result<(), SyscallError> {
        let fits = key.len() == self.definition.key_size as usize
            && value.is_none_or(|value| value.len() == self.span);
        if fits { Ok(()) } else { Err(invalid(name)) }
    }

    fn element(&self, key: &[u8], value: u64, flags: u64) -> Element {
        Element { map_fd: self.raw_fd() as u32, padding: 0, key: address(key), value, flags }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The part of `union bpf_attr` for one element.
#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for batches.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}
