//! The cells of one class: columns that ask for a condition that is not as by default
//! for it, and the items that hold there.
//!
//! Cost: the places of the changed conditions, sorted. Filling whole tables does the
//! same for all classes with less work for each ([`super::super::cells`]).

use super::super::Side;
use super::super::cells::{Uses, cond, merged};
use super::super::column::{Item, Partition};
use super::super::condition::Cond;

/// What it takes to find the cells of a class: where conditions are asked for, and
/// which places of each column hold by default.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    uses: Uses,
    /// Places of each column whose condition holds by default, ascending.
    held: Vec<Vec<u32>>,
    places: Vec<(u32, u32)>,
}

impl Finder {
    /// For the side that columns ask about.
    pub fn new(partition: &Partition, side: Option<Side>) -> Self {
        let truth = partition.conditions.defaults();
        let held = (0..partition.columns.len()).map(|column| {
            let items = (0..).zip(partition.items_of(column));
            let held = items.filter(|(_, item)| truth[cond(item, side).as_u32() as usize]);
            held.map(|(place, _)| place).collect()
        });
        Self { held: held.collect(), uses: Uses::new(partition, side), places: Vec::new() }
    }

    /// Gives `each` every column that asks for one of the changed conditions, with the
    /// items that hold then; stops when it says `false`. Gives the places looked at.
    pub fn columns(
        &mut self,
        partition: &Partition,
        changed: &[Cond],
        mut each: impl FnMut(u32, &mut dyn Iterator<Item = &Item>) -> bool,
    ) -> u64 {
        self.places.clear();
        for cond in changed {
            self.places.extend_from_slice(self.uses.of(*cond));
        }
        self.places.sort_unstable();
        for of_column in self.places.chunk_by(|a, b| a.0 == b.0) {
            let column = of_column[0].0;
            let ids = &partition.columns[column as usize];
            let items = merged(&self.held[column as usize], of_column);
            let mut items = items.map(|place| &partition.items[ids[place as usize] as usize]);
            if !each(column, &mut items) {
                break;
            }
        }
        self.places.len() as u64
    }
}
