//! Look-ups by the emitted code's steps, in the bytes of an image's first maps.

use std::net::IpAddr;

use super::AddressLayout;
use super::buckets::{self, LINE_WORDS, OVERFLOW};
use super::layout::Table;
use super::lengths::{self, CLASS_BITS, cut, tag};
use super::trie;
use crate::image::MapSpec;

/// The class that an address finds.
pub(crate) fn look_up(layout: &AddressLayout, maps: &[MapSpec], address: IpAddr) -> u32 {
    let reader = Reader { layout, maps };
    let class = match address {
        IpAddr::V4(a) => {
            let key = [u32::from(a).swap_bytes(), 0, 0, 0];
            let host = layout.hosts4.and_then(|s| reader.lines(Table::Hosts4, &s, &key, 32, |v| v != 0));
            let net =
                || layout.nets4.map_or(0, |s| trie::look_up(s, a.into(), |at| reader.word(Table::Nets4, at)));
            host.unwrap_or_else(net)
        }
        IpAddr::V6(a) => {
            let key = lengths::key(a.into());
            let host = layout.hosts6.and_then(|s| reader.lines(Table::Hosts6, &s, &key, 128, |v| v != 0));
            host.unwrap_or_else(|| reader.lengths(a.into()))
        }
    };
    assert!(class < layout.classes);
    class
}

struct Reader<'a> {
    layout: &'a AddressLayout,
    maps: &'a [MapSpec],
}

impl Reader<'_> {
    fn word(&self, table: Table, at: usize) -> u32 {
        let map = &self.maps[self.layout.map(table).unwrap() as usize];
        let bytes = map.dense.get(at * 4..at * 4 + 4);
        bytes.map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap()))
    }

    fn lines(
        &self,
        table: Table,
        shape: &buckets::Shape,
        key: &buckets::Key,
        length: u8,
        is: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        for which in 0..2 {
            let line = shape.line(key, which, length);
            for slot in 0..shape.keys.slots() {
                let at = shape.key_word(line, slot);
                if (0..shape.keys.words()).all(|i| self.word(table, at + i) == key[i]) {
                    let value = self.word(table, shape.value_word(line, slot));
                    if is(value) {
                        return Some(value);
                    }
                }
            }
            if which == 0 && self.word(table, line as usize * LINE_WORDS + OVERFLOW) == 0 {
                return None;
            }
        }
        None
    }

    fn lengths(&self, address: u128) -> u32 {
        let Some(nets) = &self.layout.nets6 else { return 0 };
        let (mut from, mut to, mut best) = (0, nets.lengths.len(), 0);
        while from < to {
            let mid = lengths::middle(from, to);
            let length = nets.lengths[mid];
            let key = lengths::key(cut(address, length));
            match self.lines(Table::Nets6, &nets.buckets, &key, length, |v| v >> CLASS_BITS == tag(length)) {
                Some(value) => (best, from) = (value & ((1 << CLASS_BITS) - 1), mid + 1),
                None => to = mid,
            }
        }
        best
    }
}
