//! Longest-prefix match.
//!
//! Keys are a `u32` prefix length in host order and address bytes. Programs look
//! up whole addresses, and rarely change the map: so the prefixes are flattened
//! to disjoint ranges, each with its longest prefix, and a look-up is one binary
//! search. A change marks the ranges stale; the next look-up rebuilds them.
//!
//! Sound: prefixes nest or are disjoint, so walking them by start (longer ones
//! later) with a stack of the open ones visits, in each gap between two bounds,
//! the longest prefix that covers it. A look-up whose key is shorter than the
//! address may only find prefixes up to its length, which the ranges do not
//! know: it searches the list.
//!
//! Cost: O(n log n) per rebuild, log₂(2n) comparisons per look-up; 32 bytes per range.

use super::{MapError, Shape, Update};

pub(in crate::vm) struct LpmMap {
    shape: Shape,
    values: u64,
    /// Sorted by (first address, length).
    prefixes: Vec<Prefix>,
    free: Vec<u32>,
    used: u32,
    /// First address of each range; the last range ends with the address space.
    starts: Vec<u128>,
    /// Value slot of each range, `NONE` where no prefix covers it.
    slots: Vec<u32>,
    stale: bool,
}

const NONE: u32 = u32::MAX;

/// A masked prefix; the address stands in the upper bits, zeros follow.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    first: u128,
    len: u32,
    slot: u32,
}

impl Prefix {
    fn last(self) -> u128 {
        self.first | !mask(self.len)
    }
}

fn mask(len: u32) -> u128 {
    !u128::MAX.checked_shr(len).unwrap_or(0)
}

impl LpmMap {
    pub fn new(shape: Shape, values: u64) -> Self {
        Self {
            shape,
            values,
            prefixes: Vec::new(),
            free: Vec::new(),
            used: 0,
            starts: Vec::new(),
            slots: Vec::new(),
            stale: false,
        }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn lookup(&mut self, key: &[u8]) -> Option<u64> {
        let (address, len) = self.parse(key)?;
        if self.stale {
            self.flatten();
        }
        let slot = if len == self.bits() { self.in_ranges(address) } else { self.in_list(address, len) };
        slot.map(|slot| self.address(slot))
    }

    /// Where the value of a key is to be written; makes the entry if needed.
    pub fn slot(&mut self, key: &[u8], when: Update) -> Result<u64, MapError> {
        let (address, len) = self.parse(key).ok_or(MapError::Invalid)?;
        let first = address & mask(len);
        match (self.position(first, len), when) {
            (Ok(_), Update::NoExist) => Err(MapError::Exists),
            (Err(_), Update::Exist) => Err(MapError::NoEntry),
            (Ok(at), _) => Ok(self.address(self.prefixes[at].slot)),
            (Err(at), _) => {
                let slot = self.take_free()?;
                self.prefixes.insert(at, Prefix { first, len, slot });
                self.stale = true;
                Ok(self.address(slot))
            }
        }
    }

    /// Fills an empty map with distinct keys, sorting once; gives each value's
    /// address, in the keys' order.
    pub fn fill<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u64>, MapError> {
        let mut addresses = Vec::new();
        for key in keys {
            let (address, len) = self.parse(key).ok_or(MapError::Invalid)?;
            let slot = self.take_free()?;
            self.prefixes.push(Prefix { first: address & mask(len), len, slot });
            addresses.push(self.address(slot));
        }
        self.prefixes.sort_unstable();
        self.stale = true;
        match self.prefixes.windows(2).any(|w| (w[0].first, w[0].len) == (w[1].first, w[1].len)) {
            true => Err(MapError::Exists),
            false => Ok(addresses),
        }
    }

    pub fn delete(&mut self, key: &[u8]) -> Result<(), MapError> {
        let (address, len) = self.parse(key).ok_or(MapError::Invalid)?;
        let at = self.position(address & mask(len), len).map_err(|_| MapError::NoEntry)?;
        let gone = self.prefixes.remove(at);
        self.free.push(gone.slot);
        self.stale = true;
        Ok(())
    }

    fn address(&self, slot: u32) -> u64 {
        self.values + self.shape.stride() * u64::from(slot)
    }

    fn take_free(&mut self) -> Result<u32, MapError> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        if self.used == self.shape.max_entries {
            return Err(MapError::Full);
        }
        self.used += 1;
        Ok(self.used - 1)
    }

    /// Address bits of a key.
    fn bits(&self) -> u32 {
        (self.shape.key_size - 4) * 8
    }

    /// The address, in the upper bits, and the prefix length; `None` for a length
    /// above the address's.
    fn parse(&self, key: &[u8]) -> Option<(u128, u32)> {
        let (len, address) = key.split_first_chunk::<4>()?;
        let len = u32::from_ne_bytes(*len);
        let address = match address {
            [a, b, c, d] => u128::from(u32::from_be_bytes([*a, *b, *c, *d])) << 96,
            _ => {
                let mut bytes = [0; 16];
                bytes.get_mut(..address.len())?.copy_from_slice(address);
                u128::from_be_bytes(bytes)
            }
        };
        (len <= self.bits()).then_some((address, len))
    }

    fn position(&self, first: u128, len: u32) -> Result<usize, usize> {
        self.prefixes.binary_search_by(|p| (p.first, p.len).cmp(&(first, len)))
    }

    fn in_ranges(&self, address: u128) -> Option<u32> {
        let at = self.starts.partition_point(|start| *start <= address).checked_sub(1)?;
        self.slots.get(at).copied().filter(|slot| *slot != NONE)
    }

    fn in_list(&self, address: u128, len: u32) -> Option<u32> {
        let covers = |p: &&Prefix| p.len <= len && address & mask(p.len) == p.first;
        self.prefixes.iter().filter(covers).max_by_key(|p| p.len).map(|p| p.slot)
    }

    fn flatten(&mut self) {
        self.starts.clear();
        self.slots.clear();
        let mut open: Vec<Prefix> = Vec::new();
        let prefixes = std::mem::take(&mut self.prefixes);
        for prefix in &prefixes {
            self.close(&mut open, Some(prefix.first));
            self.range(prefix.first, prefix.slot);
            open.push(*prefix);
        }
        self.close(&mut open, None);
        self.prefixes = prefixes;
        self.stale = false;
    }

    /// Ends the open prefixes that end before `until`, innermost first.
    fn close(&mut self, open: &mut Vec<Prefix>, until: Option<u128>) {
        while let Some(inner) = open.pop_if(|p| until.is_none_or(|until| p.last() < until)) {
            if let Some(after) = inner.last().checked_add(1) {
                self.range(after, open.last().map_or(NONE, |outer| outer.slot));
            }
        }
    }

    /// From `start` on `slot` holds; replaces what an equal start said before.
    fn range(&mut self, start: u128, slot: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.slots.pop();
        }
        self.starts.push(start);
        self.slots.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polc_compiler::image::MapKind;
    use proptest::prelude::*;

    fn map(address_bytes: u32) -> LpmMap {
        let shape =
            Shape { kind: MapKind::LpmTrie, key_size: 4 + address_bytes, value_size: 4, max_entries: 64 };
        LpmMap::new(shape, 0)
    }

    fn key(len: u32, address: &[u8]) -> Vec<u8> {
        [&len.to_ne_bytes(), address].concat()
    }

    /// Whether the first `len` bits of two addresses are equal, bit by bit.
    fn covers(len: u32, prefix: &[u8], address: &[u8]) -> bool {
        (0..len as usize).all(|bit| {
            let pick = |bytes: &[u8]| bytes[bit / 8] >> (7 - bit % 8) & 1;
            pick(prefix) == pick(address)
        })
    }

    #[test]
    fn the_whole_address_space_and_its_ends() {
        let mut m = map(4);
        assert_eq!(m.lookup(&key(32, &[1, 2, 3, 4])), None);
        let all = m.slot(&key(0, &[9, 9, 9, 9]), Update::Any).unwrap();
        let top = m.slot(&key(32, &[255; 4]), Update::Any).unwrap();
        let low = m.slot(&key(8, &[0; 4]), Update::Any).unwrap();
        assert_eq!(m.lookup(&key(32, &[255; 4])), Some(top));
        assert_eq!(m.lookup(&key(32, &[255, 255, 255, 254])), Some(all));
        assert_eq!(m.lookup(&key(32, &[0, 255, 255, 255])), Some(low));
        assert_eq!(m.lookup(&key(31, &[255; 4])), Some(all), "a shorter key finds no longer prefix");
        assert_eq!(m.delete(&key(0, &[1, 1, 1, 1])), Ok(()), "addresses are masked");
        assert_eq!(m.lookup(&key(32, &[1, 2, 3, 4])), None);
        assert_eq!(m.slot(&key(33, &[0; 4]), Update::Any), Err(MapError::Invalid));
    }

    #[test]
    fn filling_equals_inserting_one_by_one() {
        let keys = [key(8, &[10, 0, 0, 0]), key(24, &[10, 0, 1, 0]), key(0, &[0; 4])];
        let (mut a, mut b) = (map(4), map(4));
        let filled = a.fill(keys.iter().map(Vec::as_slice)).unwrap();
        for (key, at) in keys.iter().zip(filled) {
            assert_eq!(b.slot(key, Update::Any), Ok(at));
        }
        for probe in [[10, 0, 1, 7], [10, 0, 2, 7], [11, 0, 0, 0]] {
            assert_eq!(a.lookup(&key(32, &probe)), b.lookup(&key(32, &probe)));
        }
        let twice = [key(8, &[10, 0, 0, 0]), key(8, &[10, 1, 1, 1])];
        assert_eq!(map(4).fill(twice.iter().map(Vec::as_slice)), Err(MapError::Exists));
    }

    proptest! {
        #[test]
        fn finds_what_a_search_of_the_list_finds(
            wide in any::<bool>(),
            // Few distinct bytes, so that prefixes nest and touch.
            entries in proptest::collection::vec((0u32..=128, proptest::collection::vec(0u8..3, 16), any::<bool>()), 0..40),
            probes in proptest::collection::vec((0u32..=128, proptest::collection::vec(0u8..4, 16)), 1..40),
        ) {
            let bytes = if wide { 16 } else { 4 };
            let bits = bytes as u32 * 8;
            let mut m = map(bytes as u32);
            let mut list: Vec<(u32, Vec<u8>, u64)> = Vec::new();
            for (len, address, remove) in entries {
                let (len, address) = (len % (bits + 1), &address[..bytes]);
                let same = list.iter().position(|(l, a, _)| *l == len && covers(len, a, address));
                if remove {
                    prop_assert_eq!(m.delete(&key(len, address)).is_ok(), same.is_some());
                    same.map(|at| list.remove(at));
                    continue;
                }
                let slot = m.slot(&key(len, address), Update::Any).unwrap();
                match same {
                    Some(at) => prop_assert_eq!(list[at].2, slot),
                    None => list.push((len, address.to_vec(), slot)),
                }
            }
            for (len, address) in probes {
                let address = &address[..bytes];
                for len in [bits, len % (bits + 1)] {
                    let want = list
                        .iter()
                        .filter(|(l, a, _)| *l <= len && covers(*l, a, address))
                        .max_by_key(|(l, ..)| *l)
                        .map(|(.., slot)| *slot);
                    prop_assert_eq!(m.lookup(&key(len, address)), want);
                }
            }
        }
    }
}
