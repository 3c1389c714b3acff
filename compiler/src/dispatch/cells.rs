//! Cells: one outcome for each column and class, for policies whose rules look at
//! the addresses of one side only.
//!
//! *Dense*: a value per class with a word per column. *Sparse*: a word per column
//! for classes in no set, and buckets of four slots that hold only the cells that
//! differ from it, found by a hash of class and column.
//!
//! ```text
//! slot, 64 bits:  word + 1, 26 bits │ column 16 │ class 22      0: empty
//! bucket:         (column << 22 | class) × multiplier >> (64 − bits)
//! ```
//!
//! Cost: for each class the columns in which one of its sets changes a condition;
//! never rules times classes.

use super::column::{Item, Partition};
use super::condition::{Cond, Postings};
use super::outcome::{Outcomes, Word, evaluate};
use super::{Choice, Limits, Side, Unfit};
use crate::address::{AddressClasses, Class};

/// Bits of a slot's class.
pub const CLASS_BITS: u32 = 22;
/// Bits of a slot's column.
pub const COLUMN_BITS: u32 = 16;
/// Slots of a bucket.
pub const SLOTS: usize = 4;
/// First multiplier of the hash: 2⁶⁴ divided by the golden ratio. The others
/// follow by adding twice its value, which keeps them odd.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Multipliers that are tried before the table grows: at half a cell per bucket
/// one in thirty fills no bucket of 20,000.
const TRIES: u64 = 24;
/// A dense table up to this many bytes is taken whatever a sparse one would need.
const SMALL: u64 = 64 << 10;
/// Else it may take this many times as much as a sparse one, up to [`LARGE`].
const DENSE_FACTOR: u64 = 4;
const LARGE: u64 = 8 << 20;
/// Most changed conditions of columns, summed over classes, that are looked at.
const MAX_CHANGES: u64 = 40_000_000;

/// The tables of this form.
#[derive(Clone, Debug)]
pub struct Cells {
    /// The side whose addresses matter; `None` if none does.
    pub side: Option<Side>,
    /// Words of classes in no set, by column.
    pub defaults: Vec<Word>,
    /// Where the other words are.
    pub table: Table,
}

/// How the words lie.
#[derive(Clone, Debug)]
pub enum Table {
    /// All packets of a column have its default outcome.
    None,
    /// Words by class times columns plus column; the columns of a class are one
    /// value.
    Dense {
        /// Words of all classes there are.
        words: Vec<Word>,
        /// Whether each word fits 16 bits.
        narrow: bool,
    },
    /// Buckets of slots.
    Sparse {
        /// Slots; four make a bucket.
        slots: Vec<u64>,
        /// Buckets are two to the power of this.
        bits: u32,
        /// Multiplier of the hash.
        multiplier: u64,
    },
}

/// A cell that differs from its column's default.
struct Cell {
    class: Class,
    column: u32,
    word: Word,
}

/// Fills the cells in.
///
/// # Errors
/// Rules look at both sides; the cells are too many, or need too large a table.
pub fn fill(
    partition: &Partition,
    classes: &AddressClasses,
    outcomes: &mut Outcomes,
    choice: Choice,
    limits: &Limits,
) -> Result<Cells, Unfit> {
    let side = only_side(partition)?;
    let truth = partition.conditions.defaults();
    let columns = partition.columns.len();
    let mut defaults = Vec::with_capacity(columns);
    for column in 0..columns {
        let items = partition.items_of(column).filter(|item| truth[cond(item, side).as_u32() as usize]);
        defaults.push(evaluate(items, outcomes).unwrap_or(Word(0)));
    }
    if side.is_none() {
        return Ok(Cells { side, defaults, table: Table::None });
    }
    let cells = changed_cells(partition, classes, side, &defaults, outcomes)?;
    let table = lay_out(&cells, &defaults, classes, outcomes, choice, limits)?;
    Ok(Cells { side, defaults, table })
}

/// The side that columns ask about.
fn only_side(partition: &Partition) -> Result<Option<Side>, Unfit> {
    let items = || partition.columns.iter().flatten().map(|id| &partition.items[*id as usize]);
    match (items().any(|item| item.src != Cond::ALWAYS), items().any(|item| item.dst != Cond::ALWAYS)) {
        (true, true) => Err(Unfit::TwoSided),
        (true, false) => Ok(Some(Side::Src)),
        (false, true) => Ok(Some(Side::Dst)),
        (false, false) => Ok(None),
    }
}

fn cond(item: &Item, side: Option<Side>) -> Cond {
    side.unwrap_or(Side::Src).of(item)
}

/// For each condition the columns that have it, with its places there.
#[derive(Clone, Debug)]
struct Uses {
    starts: Vec<u32>,
    places: Vec<(u32, u32)>,
}

impl Uses {
    fn new(partition: &Partition, side: Option<Side>) -> Self {
        let conds = partition.conditions.count();
        let mut starts = vec![0_u32; conds + 1];
        let each = |column: usize| partition.items_of(column).map(|item| cond(item, side).as_u32() as usize);
        for column in 0..partition.columns.len() {
            each(column).for_each(|cond| starts[cond + 1] += 1);
        }
        for i in 0..conds {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut places = vec![(0, 0); starts[conds] as usize];
        for column in 0..partition.columns.len() {
            for (place, cond) in each(column).enumerate() {
                places[next[cond] as usize] = (column as u32, place as u32);
                next[cond] += 1;
            }
        }
        Self { starts, places }
    }

    fn of(&self, cond: Cond) -> &[(u32, u32)] {
        let cond = cond.as_u32() as usize;
        &self.places[self.starts[cond] as usize..self.starts[cond + 1] as usize]
    }
}

/// What it takes to find the cells of a class: where conditions are asked for, and
/// which places of each column hold by default.
#[derive(Clone, Debug)]
pub struct Finder {
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

fn changed_cells(
    partition: &Partition,
    classes: &AddressClasses,
    side: Option<Side>,
    defaults: &[Word],
    outcomes: &mut Outcomes,
) -> Result<Vec<Cell>, Unfit> {
    let mut finder = Finder::new(partition, side);
    let mut postings = Postings::new(&partition.conditions, classes);
    let (mut changed, mut work) = (Vec::new(), 0);
    let mut cells = Vec::new();
    for class in classes.classes() {
        postings.changed(&partition.conditions, classes.sets_of(class), &mut changed);
        work += finder.columns(partition, &changed, |column, items| {
            let word = evaluate(items, outcomes).unwrap_or(Word(0));
            if word != defaults[column as usize] {
                cells.push(Cell { class, column, word });
            }
            true
        });
        if work > MAX_CHANGES {
            return Err(Unfit::Work { max: MAX_CHANGES });
        }
    }
    Ok(cells)
}

/// Places that hold: those by default, without the changed ones among them, and
/// the changed ones that do not hold by default; ascending.
fn merged<'a>(held: &'a [u32], changed: &'a [(u32, u32)]) -> impl Iterator<Item = u32> + 'a {
    let (mut held, mut changed) = (held.iter().peekable(), changed.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            match (held.peek(), changed.peek()) {
                (Some(h), Some((_, c))) if *h == c => {
                    held.next();
                    changed.next();
                }
                (Some(h), Some((_, c))) if *h > c => return changed.next().map(|(_, place)| *place),
                (None, Some(_)) => return changed.next().map(|(_, place)| *place),
                (_, _) => return held.next().copied(),
            }
        }
    })
}

fn lay_out(
    cells: &[Cell],
    defaults: &[Word],
    classes: &AddressClasses,
    outcomes: &Outcomes,
    choice: Choice,
    limits: &Limits,
) -> Result<Table, Unfit> {
    let narrow = outcomes.are_narrow();
    let value = (defaults.len() as u64 * if narrow { 2 } else { 4 }).next_multiple_of(8);
    let dense = value * u64::from(limits.classes);
    // Where classes may come there is room for their cells: the multiplier is chosen for
    // those that are there, so that only air keeps a bucket from being full.
    let room = if classes.open { cells.len() + cells.len().max(defaults.len()) } else { 0 };
    let buckets = ((cells.len() + room) as u64).max(1).next_power_of_two();
    let sparse = buckets * SLOTS as u64 * 8;
    let fits_slot =
        outcomes.count() < 1 << (62 - CLASS_BITS - COLUMN_BITS) && limits.classes <= 1 << CLASS_BITS;
    let small = dense <= SMALL || dense <= LARGE.min(DENSE_FACTOR * sparse);
    if choice == Choice::Dense || !fits_slot || (small && choice != Choice::Sparse) {
        if dense > limits.max_table_bytes {
            return Err(Unfit::TooLarge { given: dense, max: limits.max_table_bytes });
        }
        let mut words = defaults.repeat(classes.len());
        for cell in cells {
            words[cell.class.as_u32() as usize * defaults.len() + cell.column as usize] = cell.word;
        }
        return Ok(Table::Dense { words, narrow });
    }
    let mut bits = buckets.trailing_zeros().max(1);
    loop {
        let bytes = (SLOTS as u64 * 8) << bits;
        if bytes > limits.max_table_bytes {
            return Err(Unfit::TooLarge { given: bytes, max: limits.max_table_bytes });
        }
        for try_number in 0..TRIES {
            let multiplier = MULTIPLIER.wrapping_mul(2 * try_number + 1);
            if let Some(slots) = slots(cells, bits, multiplier) {
                return Ok(Table::Sparse { slots, bits, multiplier });
            }
        }
        bits += 1;
    }
}

/// Buckets of all cells; `None` if one of them overflows.
fn slots(cells: &[Cell], bits: u32, multiplier: u64) -> Option<Vec<u64>> {
    let mut slots = vec![0; SLOTS << bits];
    for cell in cells {
        let key = key(cell.class, cell.column);
        let at = bucket(key, bits, multiplier);
        let free = slots[at..at + SLOTS].iter().position(|slot| *slot == 0)?;
        slots[at + free] = slot(key, cell.word);
    }
    Some(slots)
}

/// Class and column as slots and programs hold them.
pub(super) fn key(class: Class, column: u32) -> u64 {
    u64::from(class.as_u32()) | u64::from(column) << CLASS_BITS
}

/// A slot with a cell.
pub(super) fn slot(key: u64, word: Word) -> u64 {
    key | u64::from(word.0 + 1) << (CLASS_BITS + COLUMN_BITS)
}

/// The first slot of a key's bucket.
pub(super) fn bucket(key: u64, bits: u32, multiplier: u64) -> usize {
    (key.wrapping_mul(multiplier) >> (64 - bits)) as usize * SLOTS
}

/// The value of the cells' map that is a key's bucket.
#[cfg(test)]
pub(crate) fn bucket_index(key: u64, bits: u32, multiplier: u64) -> u32 {
    (bucket(key, bits, multiplier) / SLOTS) as u32
}

impl Cells {
    /// The word of a column and class, by the same steps as a program takes.
    pub fn word(&self, column: u16, class: Class) -> Option<Word> {
        let default = *self.defaults.get(usize::from(column))?;
        match &self.table {
            Table::None => Some(default),
            Table::Dense { words, .. } => {
                let row = class.as_u32() as usize * self.defaults.len();
                words.get(row + usize::from(column)).copied()
            }
            Table::Sparse { slots, bits, multiplier } => {
                let key = key(class, column.into());
                let at = bucket(key, *bits, *multiplier);
                let mask = (1 << (CLASS_BITS + COLUMN_BITS)) - 1;
                // An empty slot has the key of class 0 and says so by its word.
                let same = slots[at..at + SLOTS].iter().filter(|slot| **slot & mask == key);
                let found =
                    same.map(|slot| (slot >> (CLASS_BITS + COLUMN_BITS)) as u32).find(|word| *word > 0);
                Some(found.map_or(default, |word| Word(word - 1)))
            }
        }
    }
}
