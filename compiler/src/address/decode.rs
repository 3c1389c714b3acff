//! Who is in the tables: from the bytes of loaded maps back to prefixes.

use std::net::{Ipv4Addr, Ipv6Addr};

use cranelift_entity::EntityRef;
use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net};

use super::Class;
use super::buckets::{self, LINE_WORDS};
use super::layout::{AddressLayout, Table};
use super::lengths::{CLASS_BITS, cut};
use super::trie::{HOME_BITS, Leaf, Shape};

/// Bytes that are not those of tables of this layout.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not one content for each map.
    #[error("{given} map contents for the {needed} maps of the layout")]
    Maps {
        /// Contents given.
        given: usize,
        /// [`AddressLayout::map_count`].
        needed: u32,
    },
    /// A map's content is shorter or longer than the map.
    #[error("{given} bytes for map {map}, which has {needed}")]
    Size {
        /// The map's name.
        map: &'static str,
        /// Bytes given.
        given: usize,
        /// The map's size.
        needed: u64,
    },
    /// A leaf leads out of the table, two lead to one place, or a class is none.
    #[error("map {map} holds words that address tables never have")]
    Corrupt {
        /// The map's name, or that of the family's other map.
        map: &'static str,
    },
}

impl AddressLayout {
    /// The prefixes in tables of this layout and their classes, IPv4 before IPv6,
    /// each family ascending with a prefix before those inside it: an address has
    /// the class of the longest one that covers it, and [`Class::NONE`] without
    /// one. IPv4 prefixes that the trie holds come as the fewest disjoint ones that
    /// say the same. `maps` holds the bytes of each address map, in their order.
    ///
    /// # Errors
    /// See [`DecodeError`]. Tables that change meanwhile may give one.
    pub fn decode(&self, maps: &[&[u8]]) -> Result<Vec<(IpNet, Class)>, DecodeError> {
        if maps.len() != self.map_count() as usize {
            return Err(DecodeError::Maps { given: maps.len(), needed: self.map_count() });
        }
        let mut v4: Vec<(Ipv4Net, u32)> = Vec::new();
        let mut v6: Vec<(u128, u8, u32)> = Vec::new();
        if let (Some(shape), Some(words)) = (&self.hosts4, self.words(Table::Hosts4, maps)?) {
            let all = in_use(shape, &words);
            v4.extend(all.map(|(key, class)| (Ipv4Net::from(Ipv4Addr::from(key[0].swap_bytes())), class)));
        }
        if let (Some(shape), Some(words)) = (self.nets4, self.words(Table::Nets4, maps)?) {
            v4.extend(prefixes4(shape, &words)?);
        }
        if let (Some(shape), Some(words)) = (&self.hosts6, self.words(Table::Hosts6, maps)?) {
            v6.extend(in_use(shape, &words).map(|(key, class)| (address6(&key), 128, class)));
        }
        if let (Some(nets), Some(words)) = (&self.nets6, self.words(Table::Nets6, maps)?) {
            let entries = in_use(&nets.buckets, &words).map(|(key, value)| {
                let length = (value >> CLASS_BITS).saturating_sub(1).min(128) as u8;
                (cut(address6(&key), length), length, value & ((1 << CLASS_BITS) - 1))
            });
            v6.extend(entries);
        }
        let known = |class: u32| class < self.classes;
        if !v4.iter().all(|(_, class)| known(*class)) {
            return Err(DecodeError::Corrupt { map: Table::Hosts4.name() });
        }
        if !v6.iter().all(|(_, _, class)| known(*class)) {
            return Err(DecodeError::Corrupt { map: Table::Hosts6.name() });
        }
        v4.sort_unstable();
        v6.sort_unstable();
        let mut all: Vec<(IpNet, Class)> =
            v4.into_iter().map(|(net, class)| (net.into(), Class::new(class as usize))).collect();
        all.extend(without_markers(v6));
        Ok(all)
    }

    fn words(&self, table: Table, maps: &[&[u8]]) -> Result<Option<Vec<u32>>, DecodeError> {
        let Some((map, size)) = self.map(table).zip(self.map_words(table)) else { return Ok(None) };
        let bytes = maps[map as usize];
        if bytes.len() as u64 != size * 4 {
            return Err(DecodeError::Size { map: table.name(), given: bytes.len(), needed: size * 4 });
        }
        Ok(Some(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
    }
}

/// Keys with a value, and the values.
fn in_use(shape: &buckets::Shape, words: &[u32]) -> impl Iterator<Item = (buckets::Key, u32)> {
    let lines = 0..shape.lines.min((words.len() / LINE_WORDS) as u32);
    let slots = lines.flat_map(|line| (0..shape.keys.slots()).map(move |slot| (line, slot)));
    let used = slots.map(|(line, slot)| (shape.key(words, line, slot), words[shape.value_word(line, slot)]));
    used.filter(|(_, value)| *value != 0)
}

/// The address of a key's words as they lie in memory.
fn address6(key: &buckets::Key) -> u128 {
    key.iter().fold(0, |address, word| (address << 32) | u128::from(word.swap_bytes()))
}

/// Addresses from the first to the last, and their class.
type Range = (u32, u32, u32);

/// Leaves of one class next to each other, as prefixes.
fn prefixes4(shape: Shape, words: &[u32]) -> Result<Vec<(Ipv4Net, u32)>, DecodeError> {
    let mut seen = vec![false; words.len() / shape.strides.chunk()];
    seen.iter_mut().take(shape.least() as usize).for_each(|seen| *seen = true);
    let strides = shape.strides;
    let all = (0, strides.root(), 0, strides.root_bits());
    let mut ranges = ranges(shape, words, all, &mut seen)?;
    for (low, chunk) in shape.homes() {
        let bits = HOME_BITS + strides.chunk_bits();
        let inside = self::ranges(shape, words, (chunk, chunk + strides.chunk(), low, bits), &mut seen)?;
        ranges = around(ranges, low, low | ((1 << HOME_BITS) - 1), inside);
    }
    let named = ranges.into_iter().filter(|(_, _, class)| *class != 0);
    let nets = named.flat_map(|(first, last, class)| {
        Ipv4Subnets::new(first.into(), last.into(), 0).map(move |net| (net, class))
    });
    Ok(nets.collect())
}

/// The ranges, with others in place of what they say from `low` to `high`.
fn around(ranges: Vec<Range>, low: u32, high: u32, inside: Vec<Range>) -> Vec<Range> {
    let before = ranges.iter().filter(|(first, ..)| *first < low);
    let before = before.map(|(first, last, class)| (*first, (*last).min(low - 1), *class));
    let after = ranges.iter().filter(|(_, last, _)| *last > high);
    let after = after.map(|(first, last, class)| ((*first).max(high + 1), *last, *class));
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len() + inside.len());
    before.chain(inside).chain(after).for_each(|range| join(&mut joined, range));
    joined
}

/// Appends a range, or makes the last one longer.
fn join(ranges: &mut Vec<Range>, (first, last, class): Range) {
    match ranges.last_mut() {
        Some((_, end, before)) if *before == class && u64::from(*end) + 1 == u64::from(first) => *end = last,
        _ => ranges.push((first, last, class)),
    }
}

/// What words say: those from the first number to the second, which begin with an address
/// and tell so many bits apart, and those that they lead to.
fn ranges(
    shape: Shape,
    words: &[u32],
    all: (usize, usize, u32, u8),
    seen: &mut [bool],
) -> Result<Vec<Range>, DecodeError> {
    let corrupt = DecodeError::Corrupt { map: Table::Nets4.name() };
    let size = shape.strides.chunk();
    let mut ranges = Vec::new();
    // Words still to be read, the next ones last.
    let mut todo = vec![all];
    while let Some((from, to, address, bits)) = todo.pop() {
        let shift = 32 - u32::from(bits);
        for at in from..to {
            let first = address.wrapping_add(((at - from) as u32).checked_shl(shift).unwrap_or(0));
            let chunk = match Leaf::of(*words.get(at).ok_or(corrupt)?) {
                Leaf::Class(class) => {
                    join(&mut ranges, (first, first | ((1_u32 << shift) - 1), class));
                    continue;
                }
                Leaf::Chunk(chunk) => chunk,
            };
            match seen.get_mut(chunk / size) {
                Some(seen) if !*seen && bits < 32 && chunk % size == 0 => *seen = true,
                _ => return Err(corrupt),
            }
            if at + 1 < to {
                let next = address.wrapping_add(((at + 1 - from) as u32).checked_shl(shift).unwrap_or(0));
                todo.push((at + 1, to, next, bits));
            }
            todo.push((chunk, chunk + size, first, bits + shape.strides.chunk_bits()));
            break;
        }
    }
    Ok(ranges)
}

/// Prefixes without those that say what the one around them says: markers do.
fn without_markers(prefixes: Vec<(u128, u8, u32)>) -> Vec<(IpNet, Class)> {
    let mut around: Vec<(u128, u8, u32)> = Vec::new();
    let mut kept = Vec::new();
    for (address, length, class) in prefixes {
        while around.last().is_some_and(|(outer, short, _)| cut(address, *short) != *outer) {
            around.pop();
        }
        let outer = around.last().map_or(0, |(_, _, class)| *class);
        if class == outer {
            continue;
        }
        around.push((address, length, class));
        if let Ok(net) = Ipv6Net::new(Ipv6Addr::from(address), length) {
            kept.push((net.into(), Class::new(class as usize)));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{AddressLimits, AddressTables, classify};
    use crate::ir::generate::{Shape, flows, policy};

    fn contents(tables: &AddressTables) -> Vec<Vec<u8>> {
        let full = |spec: crate::image::MapSpec| {
            let mut bytes = spec.dense;
            bytes.resize(spec.max_entries as usize * spec.value_size as usize, 0);
            bytes
        };
        tables.maps().into_iter().map(full).collect()
    }

    #[test]
    fn decoded_prefixes_have_the_classes_of_the_sets() {
        let mut named = 0;
        for seed in 0..120 {
            let ir = policy(seed, &Shape { sets: 8, nets: 9, ..Shape::default() });
            let classes = classify(&ir);
            let tables = AddressTables::build(&classes, &AddressLimits::default()).unwrap();
            let bytes = contents(&tables);
            let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            let found = tables.layout().decode(&bytes).unwrap();
            for flow in flows(&ir, seed, 60) {
                for address in [flow.src, flow.dst] {
                    let covering = found.iter().filter(|(net, _)| net.contains(&address));
                    let class =
                        covering.max_by_key(|(net, _)| net.prefix_len()).map_or(Class::NONE, |(_, c)| *c);
                    assert_eq!(class, classes.class_of(address), "seed {seed}: {address} in {found:?}");
                    named += usize::from(class != Class::NONE);
                }
            }
        }
        assert!(named > 1_000, "{named}");
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let (mut corrupt, mut maps) = (0, 0);
        for seed in 0..40 {
            let ir = policy(seed, &Shape { sets: 8, nets: 9, ..Shape::default() });
            let tables = AddressTables::build(&classify(&ir), &AddressLimits::default()).unwrap();
            let layout = tables.layout();
            assert!(matches!(layout.decode(&[&[][..]; 7]), Err(DecodeError::Maps { given: 7, .. })));
            let bytes = contents(&tables);
            let short: Vec<&[u8]> = bytes.iter().map(|b| &b[..b.len() - 4]).collect();
            if !short.is_empty() {
                assert!(matches!(layout.decode(&short), Err(DecodeError::Size { .. })));
                maps += 1;
            }
            let noise: Vec<Vec<u8>> = bytes.iter().map(|b| vec![0xff; b.len()]).collect();
            let noise: Vec<&[u8]> = noise.iter().map(Vec::as_slice).collect();
            corrupt += usize::from(matches!(layout.decode(&noise), Err(DecodeError::Corrupt { .. })));
        }
        assert!(corrupt > 5 && maps > 20, "{corrupt} {maps}");
    }
}
