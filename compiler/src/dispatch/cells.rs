//! Cells: one outcome for each column and class, for policies whose rules look at
//! the addresses of one side only.
//!
//! *Dense*: a value per class with a word per column. *Sparse*: a word per column for
//! classes in no set, and those cells only that differ from it ([`super::comb`]).
//!
//! Cost: for each class the columns in which one of its sets changes a condition, and
//! the places of that condition there; never rules times classes.

use super::column::{Act, Item, Partition};
use super::comb::{Comb, Row, comb};
use super::condition::{Cond, Postings};
use super::outcome::{Outcomes, Word, evaluate};
use super::{Choice, Limits, Side, Unfit};
use crate::address::{AddressClasses, Class};

/// Bytes of an entry of sparse cells, at most.
const ENTRY: u64 = 8;
/// A dense table up to this many bytes is taken whatever a sparse one would need: it has
/// a look-up less and half of the instructions, and still fits the second cache.
const DENSE: u64 = 3 << 19;
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
    /// Cells that differ from their column's default.
    Sparse(Comb),
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
    // Where a dense table may be taken, there are never too many cells.
    let max = match dense_bytes(columns, outcomes, limits) {
        dense if choice != Choice::Sparse && dense <= limits.max_table_bytes => u64::MAX,
        _ => limits.max_table_bytes,
    };
    let cells = changed_cells(partition, classes, side, &truth, &defaults, outcomes, max)?;
    let table = lay_out(&cells, &defaults, classes, outcomes, choice, limits)?;
    Ok(Cells { side, defaults, table })
}

/// The side that columns ask about.
fn only_side(partition: &Partition) -> Result<Option<Side>, Unfit> {
    let items = || partition.columns.all().iter().map(|id| &partition.items[*id as usize]);
    match (items().any(|item| item.src != Cond::ALWAYS), items().any(|item| item.dst != Cond::ALWAYS)) {
        (true, true) => Err(Unfit::TwoSided),
        (true, false) => Ok(Some(Side::Src)),
        (false, true) => Ok(Some(Side::Dst)),
        (false, false) => Ok(None),
    }
}

pub(super) fn cond(item: &Item, side: Option<Side>) -> Cond {
    side.unwrap_or(Side::Src).of(item)
}

/// For each condition the columns that have it, with its places there.
#[derive(Clone, Debug)]
pub(super) struct Uses {
    starts: Vec<u32>,
    places: Vec<(u32, u32)>,
}

impl Uses {
    pub fn new(partition: &Partition, side: Option<Side>) -> Self {
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

    pub fn of(&self, cond: Cond) -> &[(u32, u32)] {
        let cond = cond.as_u32() as usize;
        &self.places[self.starts[cond] as usize..self.starts[cond + 1] as usize]
    }
}

/// Finds the cells of one class after the other.
struct Search<'a> {
    partition: &'a Partition,
    truth: &'a [bool],
    uses: Uses,
    /// Places of each column whose condition holds by default, ascending.
    held: Vec<Vec<u32>>,
    /// Columns in which a rule logs or passes: more than the first item that holds counts.
    winding: Vec<bool>,
    /// What the class at hand changes, by column.
    changes: Vec<Change>,
    /// Its columns, each once.
    touched: Vec<u32>,
    /// Its changed places in winding columns.
    places: Vec<(u32, u32)>,
    /// Places that hold by default, and not for it.
    lost: Vec<(u32, u32)>,
}

#[derive(Copy, Clone, Default)]
struct Change {
    /// The class that this is about.
    class: u32,
    /// First place that holds for it and not by default; [`NO_PLACE`] if none does.
    gained: u32,
    /// Whether the first place that holds by default does not for it.
    lost_first: bool,
}

const NO_PLACE: u32 = u32::MAX;

impl<'a> Search<'a> {
    fn new(partition: &'a Partition, side: Option<Side>, truth: &'a [bool]) -> Self {
        let columns = partition.columns.len();
        let held = |column: usize| {
            let items = (0..).zip(partition.items_of(column));
            let held = items.filter(|(_, item)| truth[cond(item, side).as_u32() as usize]);
            held.map(|(place, _)| place).collect()
        };
        let winds =
            |column: usize| partition.items_of(column).any(|item| !matches!(item.act, Act::Decide(_)));
        Self {
            partition,
            truth,
            uses: Uses::new(partition, side),
            held: (0..columns).map(held).collect(),
            winding: (0..columns).map(winds).collect(),
            changes: vec![Change { class: u32::MAX, ..Change::default() }; columns],
            touched: Vec::new(),
            places: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Takes a class's changed conditions in; how many uses of them there are.
    fn take(&mut self, class: Class, changed: &[Cond]) -> u64 {
        self.touched.clear();
        self.places.clear();
        self.lost.clear();
        let mut uses = 0;
        for cond in changed {
            let holds = self.truth[cond.as_u32() as usize];
            for (column, place) in self.uses.of(*cond) {
                uses += 1;
                let change = &mut self.changes[*column as usize];
                if change.class != class.as_u32() {
                    *change = Change { class: class.as_u32(), gained: NO_PLACE, lost_first: false };
                    self.touched.push(*column);
                }
                if self.winding[*column as usize] {
                    self.places.push((*column, *place));
                } else if holds {
                    change.lost_first |= self.held[*column as usize].first() == Some(place);
                    self.lost.push((*column, *place));
                } else {
                    change.gained = change.gained.min(*place);
                }
            }
        }
        self.touched.sort_unstable();
        self.places.sort_unstable();
        self.lost.sort_unstable();
        uses
    }

    /// The word of the class in a column that it touches, by ascending columns.
    fn word(&self, column: u32, outcomes: &mut Outcomes) -> Word {
        let items = &self.partition.columns[column as usize];
        let item = |place: u32| &self.partition.items[items[place as usize] as usize];
        let held = &self.held[column as usize];
        if self.winding[column as usize] {
            let start = self.places.partition_point(|(other, _)| *other < column);
            let end = self.places.partition_point(|(other, _)| *other <= column);
            return evaluate(merged(held, &self.places[start..end]).map(item), outcomes).unwrap_or(Word(0));
        }
        let change = self.changes[column as usize];
        let first = match change.lost_first {
            false => held.first(),
            true => held.iter().find(|place| self.lost.binary_search(&(column, **place)).is_err()),
        };
        let first = first.map_or(change.gained, |held| change.gained.min(*held));
        if first == NO_PLACE {
            return Word(0);
        }
        evaluate([item(first)], outcomes).unwrap_or(Word(0))
    }
}

/// All cells, unless their table is sure to take more than `max` bytes.
fn changed_cells(
    partition: &Partition,
    classes: &AddressClasses,
    side: Option<Side>,
    truth: &[bool],
    defaults: &[Word],
    outcomes: &mut Outcomes,
    max: u64,
) -> Result<Vec<Cell>, Unfit> {
    let mut search = Search::new(partition, side, truth);
    let mut postings = Postings::new(&partition.conditions, classes);
    let (mut changed, mut work) = (Vec::new(), 0);
    let mut cells = Vec::new();
    for class in classes.classes() {
        postings.changed(&partition.conditions, classes.sets_of(class), &mut changed);
        work += search.take(class, &changed);
        if work > MAX_CHANGES {
            return Err(Unfit::Work { max: MAX_CHANGES });
        }
        for column in &search.touched {
            let word = search.word(*column, outcomes);
            if word != defaults[*column as usize] {
                cells.push(Cell { class, column: *column, word });
            }
        }
        let given = cells.len() as u64 * ENTRY;
        if given > max {
            return Err(Unfit::TooLarge { given, max });
        }
    }
    Ok(cells)
}

/// Places that hold: those by default, without the changed ones among them, and
/// the changed ones that do not hold by default; ascending.
pub(super) fn merged<'a>(held: &'a [u32], changed: &'a [(u32, u32)]) -> impl Iterator<Item = u32> + 'a {
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
    let dense = dense_bytes(defaults.len(), outcomes, limits);
    let sparse = cells.len() as u64 * ENTRY + u64::from(limits.classes) * 4;
    let too_large = |given| Unfit::TooLarge { given, max: limits.max_table_bytes };
    if choice == Choice::Dense || (dense <= DENSE && choice != Choice::Sparse) {
        if dense > limits.max_table_bytes {
            return Err(too_large(dense));
        }
        let mut words = defaults.repeat(classes.len());
        for cell in cells {
            words[cell.class.as_u32() as usize * defaults.len() + cell.column as usize] = cell.word;
        }
        return Ok(Table::Dense { words, narrow });
    }
    if sparse > limits.max_table_bytes {
        return Err(too_large(sparse));
    }
    let mut rows: Vec<Row> = vec![Row::new(); classes.len()];
    for cell in cells {
        rows[cell.class.as_u32() as usize].push((cell.column, cell.word));
    }
    let comb = comb(defaults, &rows, narrow);
    match comb.entries.len() as u64 * ENTRY {
        bytes if bytes > limits.max_table_bytes => Err(too_large(bytes)),
        _ => Ok(Table::Sparse(comb)),
    }
}

/// Bytes of a dense table with room for all classes.
fn dense_bytes(columns: usize, outcomes: &Outcomes, limits: &Limits) -> u64 {
    let word = if outcomes.are_narrow() { 2 } else { 4 };
    (columns as u64 * word).next_multiple_of(8) * u64::from(limits.classes)
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
            Table::Sparse(comb) => comb.word(column, class.as_u32()),
        }
    }
}
