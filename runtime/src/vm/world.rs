//! What programs reach through helpers: maps, the packet, the clock, tail calls.

use std::fmt::Write as _;

use super::link::TAIL_CALL_TAKEN;
use super::maps::{Map, MapError, Update};
use crate::sys::{Helpers, LowArena, Stack};

/// Tail calls that one packet may take, as in the kernel: the next one is not
/// taken, and the program goes on after it.
pub(super) const MAX_TAIL_CALLS: u32 = 33;

/// Map addresses as programs see them: no address of anything, so that a program
/// that follows one faults.
const HANDLE: u64 = 0x706f_6c63_0000_0000;

/// Number of a map in [`World`].
pub(super) type MapId = u32;

pub(super) fn handle(map: MapId) -> u64 {
    HANDLE | u64::from(map)
}

/// The state of a run, and what outlives it.
pub(super) struct World {
    pub arena: LowArena,
    /// Address of the fake `__sk_buff`.
    pub context: u64,
    /// Address of the packet.
    pub packet: u64,
    /// Captured bytes at `packet`.
    pub packet_len: u32,
    /// At XDP: room for metadata before the packet.
    pub meta: Option<u64>,
    /// What the clock says.
    pub now: u64,
    /// `None` where a map was removed; its number is used again.
    pub maps: Vec<Option<Map>>,
    /// The program that the last tail call goes to.
    pub next: Option<u32>,
    pub tail_calls: u32,
    /// A helper was called in a way that the kernel's verifier rules out.
    pub fault: Option<String>,
}

impl World {
    /// Adds a map under a free number.
    pub fn add(&mut self, map: Map) -> MapId {
        match self.maps.iter().position(Option::is_none) {
            Some(free) => {
                self.maps[free] = Some(map);
                free as MapId
            }
            None => {
                self.maps.push(Some(map));
                self.maps.len() as MapId - 1
            }
        }
    }

    /// Address of the values of an array.
    pub fn values(&self, map: MapId) -> Option<u64> {
        match self.maps.get(map as usize)? {
            Some(Map::Array(array)) => array.at(0),
            _ => None,
        }
    }

    pub fn remove(&mut self, map: MapId) {
        if let Some(entry) = self.maps.get_mut(map as usize) {
            *entry = None;
        }
    }

    /// Makes a program array's slot lead to a program. `false` if there is no
    /// such slot.
    pub fn set_program(&mut self, map: MapId, slot: u32, program: Option<u32>) -> bool {
        let Some(Some(Map::Programs(slots))) = self.maps.get_mut(map as usize) else { return false };
        match slots.get_mut(slot as usize) {
            Some(entry) => {
                *entry = program;
                true
            }
            None => false,
        }
    }

    /// Records a fault (the first one counts); programs get 0.
    #[cold]
    fn fault(&mut self, number: u32, what: &str) -> u64 {
        if self.fault.is_none() {
            let mut text = String::new();
            let _ = write!(text, "helper {number}: {what}");
            self.fault = Some(text);
        }
        0
    }

    fn lookup(&mut self, map: u64, key: u64, stack: Stack) -> u64 {
        let Some(map) = find(&mut self.maps, map) else { return self.fault(1, "no such map") };
        let found = stack.with_bytes(&self.arena, key, map.key_size(), |key| map.lookup(key));
        match found {
            Some(value) => value.unwrap_or(0),
            None => self.fault(1, "key outside of stack and maps"),
        }
    }

    fn update(&mut self, [map, key, value, flags, _]: [u64; 5], stack: Stack) -> u64 {
        let Some(map) = find(&mut self.maps, map) else { return self.fault(2, "no such map") };
        let Some(when) = Update::from_flags(flags) else { return errno(MapError::Invalid) };
        let arena = &self.arena;
        let result = stack.with_bytes(arena, value, map.value_size(), |value| {
            // A value may lie in the arena, where it would be written while it is read.
            let value = Copied::new(value);
            stack.with_bytes(arena, key, map.key_size(), |key| map.update(arena, key, value.bytes(), when))
        });
        match result.flatten() {
            Some(Ok(())) => 0,
            Some(Err(e)) => errno(e),
            None => self.fault(2, "key or value outside of stack and maps"),
        }
    }

    fn delete(&mut self, map: u64, key: u64, stack: Stack) -> u64 {
        let Some(map) = find(&mut self.maps, map) else { return self.fault(3, "no such map") };
        match stack.with_bytes(&self.arena, key, map.key_size(), |key| map.delete(key)) {
            Some(Ok(())) => 0,
            Some(Err(e)) => errno(e),
            None => self.fault(3, "key outside of stack and maps"),
        }
    }

    fn tail_call(&mut self, map: u64, index: u64) -> u64 {
        let Some(Map::Programs(slots)) = find(&mut self.maps, map) else {
            return self.fault(12, "not a program array");
        };
        // The kernel takes the lower half, too.
        match slots.get(index as u32 as usize) {
            Some(Some(program)) if self.tail_calls < MAX_TAIL_CALLS => {
                self.next = Some(*program);
                self.tail_calls += 1;
                TAIL_CALL_TAKEN
            }
            _ => errno(MapError::NoEntry),
        }
    }

    fn ring_output(&mut self, [ring, data, len, flags, _]: [u64; 5], stack: Stack) -> u64 {
        let Some(Map::Ring(ring)) = find(&mut self.maps, ring) else {
            return self.fault(130, "not a ring buffer");
        };
        let Ok(len) = usize::try_from(len) else { return errno(MapError::Full) };
        // Which reader is woken up is all that the flags say.
        if flags > 3 {
            return errno(MapError::Invalid);
        }
        match stack.with_bytes(&self.arena, data, len, |record| ring.push(record)) {
            Some(Ok(())) => 0,
            Some(Err(e)) => errno(e),
            None => self.fault(130, "record outside of stack and maps"),
        }
    }

    /// Moves the start of the metadata, which `struct xdp_md` has at offset 8.
    fn adjust_meta(&mut self, delta: i32) -> u64 {
        let Some(room) = self.meta else { return self.fault(54, "not at XDP") };
        let at = self.context + 8;
        let start = self.arena.read_u32(at).map(|meta| i64::from(meta) + i64::from(delta));
        let inside = |start: &i64| {
            let before = self.packet as i64 - start;
            (0..=room as i64).contains(&before) && before % 4 == 0
        };
        match start.filter(inside) {
            Some(start) => {
                self.arena.write_u32(at, start as u32);
                0
            }
            // EACCES or EINVAL, as the kernel says for what is outside.
            None => errno(MapError::Invalid),
        }
    }

    fn load_bytes(&mut self, [_, offset, to, len, _]: [u64; 5], stack: Stack) -> u64 {
        let end = offset.checked_add(len);
        if len == 0 || len > 512 || end.is_none_or(|end| end > u64::from(self.packet_len)) {
            // EFAULT, as the kernel says.
            return (-14i64) as u64;
        }
        let mut buffer = [0; 512];
        let Some(bytes) = buffer.get_mut(..len as usize) else { return 0 };
        if !self.arena.read(self.packet + offset, bytes) || !stack.write(&self.arena, to, bytes) {
            return self.fault(26, "buffer outside of stack and maps");
        }
        0
    }
}

fn find(maps: &mut [Option<Map>], handle: u64) -> Option<&mut Map> {
    let id = handle.checked_sub(HANDLE)?;
    maps.get_mut(usize::try_from(id).ok()?)?.as_mut()
}

fn errno(error: MapError) -> u64 {
    (-(error as i64)) as u64
}

/// A copy of a value, on the stack if it is small.
enum Copied {
    Small([u8; 128], usize),
    Large(Vec<u8>),
}

impl Copied {
    fn new(bytes: &[u8]) -> Self {
        let mut small = [0; 128];
        match small.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(bytes);
                Self::Small(small, bytes.len())
            }
            None => Self::Large(bytes.to_vec()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes, len) => &bytes[..*len],
            Self::Large(bytes) => bytes,
        }
    }
}

impl Helpers for World {
    fn call(&mut self, number: u32, args: [u64; 5], stack: Stack) -> u64 {
        match number {
            1 => self.lookup(args[0], args[1], stack),
            2 => self.update(args, stack),
            3 => self.delete(args[0], args[1], stack),
            5 | 125 => self.now,
            8 => 0,
            12 => self.tail_call(args[1], args[2]),
            26 => self.load_bytes(args, stack),
            // Captured bytes are all in one piece; ENOMEM beyond them.
            39 => match args[1] <= u64::from(self.packet_len) {
                true => 0,
                false => (-12i64) as u64,
            },
            54 => self.adjust_meta(args[1] as i32),
            130 => self.ring_output(args, stack),
            _ => self.fault(number, "no such helper"),
        }
    }

    fn arena(&self) -> &LowArena {
        &self.arena
    }

    fn context(&self) -> u64 {
        self.context
    }
}
