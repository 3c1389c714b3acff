//! Rows of ids as they are in memory, and the stores that give a class its ids.
//!
//! What: in each column a class has, on each side, the id of those classes for which
//! the same of the column's conditions hold. A class for which others hold than for
//! any class that the tables were built with has no id, and is refused.
//!
//! Why sound: equal truth of a column's conditions means the same items of it, and
//! thus the words that the id leads to. An id is one or two bytes of a store's word;
//! the others keep their value.
//!
//! Cost: for a class the columns that its sets change; at most one store for each row.

use std::collections::{BTreeMap, HashMap};

use super::super::Side;
use super::super::column::Partition;
use super::super::condition::Cond;
use super::super::cross::{Changed, Cross, Held, side};
use crate::address::{AddressClasses, Class, Refused};
use crate::image::Store;

/// One side of one column.
#[derive(Clone, Debug)]
struct Ids {
    row: u32,
    /// What holds for a class in no set.
    base: Held,
    known: HashMap<Held, u16>,
}

/// The rows of ids.
#[derive(Clone, Debug)]
pub(super) struct LiveIds {
    /// Bytes of all rows, one behind the other.
    rows: Vec<u8>,
    row_size: usize,
    id_size: usize,
    capacity: u32,
    /// By column, then side.
    columns: Vec<[Option<Ids>; 2]>,
    /// For each condition where it stands: column, side, place.
    uses: Vec<Vec<(u32, Side, u32)>>,
}

impl LiveIds {
    pub fn new(partition: &Partition, classes: &AddressClasses, cross: &Cross, capacity: u32) -> Self {
        let changed = Changed::new(partition, classes);
        let truth = partition.conditions.defaults();
        let mut uses = vec![Vec::new(); partition.conditions.count()];
        let mut columns = Vec::with_capacity(partition.columns.len());
        for column in 0..partition.columns.len() {
            let items: Vec<_> = partition.items_of(column).collect();
            let record = cross.records[column];
            let of_side = [(Side::Src, record.src), (Side::Dst, record.dst)].map(|(which, row)| {
                let ids = side(&items, |item| which.of(item), &truth, &changed, classes.len()).ok()?;
                // Ids of one column may have been joined since: the row says which.
                let last = |raw: u16| {
                    let class = ids.of_class.iter().position(|id| *id == raw)?;
                    cross.rows[row as usize].get(class).copied()
                };
                let known =
                    (0_u16..).zip(&ids.held).filter_map(|(raw, held)| Some((held.clone(), last(raw)?)));
                for (place, item) in (0_u32..).zip(&items) {
                    let cond = which.of(item);
                    if cond != Cond::ALWAYS {
                        uses[cond.as_u32() as usize].push((column as u32, which, place));
                    }
                }
                Some(Ids { row, base: ids.held[0].clone(), known: known.collect() })
            });
            columns.push(of_side);
        }
        let id_size = if cross.short { 1 } else { 2 };
        let row_size = (capacity as usize * id_size).next_multiple_of(8);
        let mut rows = vec![0; cross.rows.len() * row_size];
        for (row, bytes) in cross.rows.iter().zip(rows.chunks_exact_mut(row_size)) {
            for (class, id) in row.iter().enumerate() {
                bytes[class * id_size..(class + 1) * id_size].copy_from_slice(&id.to_le_bytes()[..id_size]);
            }
        }
        Self { rows, row_size, id_size, capacity, columns, uses }
    }

    /// Gives a class for which these conditions have changed its ids in all rows.
    pub fn put(
        &mut self,
        class: Class,
        changed: &[Cond],
        map: u32,
        stores: &mut Vec<Store>,
    ) -> Result<(), Refused> {
        if class.as_u32() >= self.capacity {
            return Err(Refused::NoRow);
        }
        let uses = changed.iter().flat_map(|cond| &self.uses[cond.as_u32() as usize]);
        let mut flips: Vec<(u32, Side, u32)> = uses.copied().collect();
        flips.sort_unstable();
        // Rows without an entry have id 0: all conditions as they are by default.
        let mut wanted: BTreeMap<u32, u16> = BTreeMap::new();
        for of_side in flips.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (column, which, _) = of_side[0];
            let ids = self.columns[column as usize][which as usize].as_ref().ok_or(Refused::NoId)?;
            let mut held = ids.base.clone();
            of_side.iter().for_each(|(_, _, place)| held[*place as usize / 64] ^= 1 << (place % 64));
            let id = *ids.known.get(&held).ok_or(Refused::NoId)?;
            // Rows are shared by columns that ask the same.
            if *wanted.entry(ids.row).or_insert(id) != id {
                return Err(Refused::NoId);
            }
        }
        let at = class.as_u32() as usize * self.id_size;
        for row in 0..(self.rows.len() / self.row_size) as u32 {
            let id = wanted.get(&row).copied().unwrap_or(0).to_le_bytes();
            let start = row as usize * self.row_size;
            let bytes = &mut self.rows[start..start + self.row_size];
            if bytes[at..at + self.id_size] == id[..self.id_size] {
                continue;
            }
            bytes[at..at + self.id_size].copy_from_slice(&id[..self.id_size]);
            let word = at / 4 * 4;
            let value =
                bytes[word..word + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            stores.push(Store { map, index: row, offset: word as u32, value });
        }
        Ok(())
    }
}
