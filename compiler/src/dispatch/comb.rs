//! Sparse rows laid over each other: each class has a row of the cells that differ from
//! their columns' defaults, and rows are shifted until no two cells meet.
//!
//! ```text
//! bases[class] ─▶ base     entries[base + column]: (base, word)    a cell of the row
//!                          another base: entries[column]           the column's default
//! ```
//!
//! The first entries are the defaults, as the row with base 0, which classes without
//! cells have as well. Classes with equal cells share a base, and no two rows have the
//! same one, so that an entry's base says whose it is. Free entries have base 0.
//!
//! Why it can change under readers: the cells of a class that no reader knows yet go
//! into free entries, under a base that no reader compares with; then the class gets
//! that base.
//!
//! Cost: two dependent look-ups, a third for a default. Building goes through rows by
//! falling length; each is tried at `TRIES` places from that of the one before on, and
//! goes to the end if none fits.

use rustc_hash::FxHashMap;

use super::outcome::Word;

/// Places that are tried for a row before it goes to the end.
const TRIES: usize = 4_000;
/// Entries that there is room for beyond those in use: an eighth of these, at least and
/// at most so many.
const ROOM: std::ops::RangeInclusive<usize> = 512..=65_536;

/// A row: column and word of each of its cells, ascending.
pub type Row = Vec<(u32, Word)>;

/// An entry.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Base of the row that it belongs to.
    pub base: u32,
    /// The cell's word.
    pub word: Word,
}

/// Rows laid over each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comb {
    /// By class; those that come later have base 0 until they get another.
    pub bases: Vec<u32>,
    /// As many as there is room for.
    pub entries: Vec<Entry>,
    /// Whether base and word of every entry, those that may come included, fit 16 bits
    /// each.
    pub narrow: bool,
}

/// Lays out the rows of all classes over the defaults of all columns; `narrow` says
/// whether words fit 16 bits.
pub fn comb(defaults: &[Word], rows: &[Row], narrow: bool) -> Comb {
    let mut order: Vec<usize> = (0..rows.len()).filter(|row| !rows[*row].is_empty()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(rows[*row].len()));
    let mut layer = Layer::new(defaults);
    let mut bases = vec![0; rows.len()];
    let mut known: FxHashMap<&Row, u32> = FxHashMap::default();
    for row in order {
        bases[row] = *known.entry(&rows[row]).or_insert_with_key(|row| layer.place(row));
    }
    let used = layer.entries.len();
    let capacity = used + (used / 8).clamp(*ROOM.start(), *ROOM.end()) + defaults.len();
    layer.entries.resize(capacity, Entry::default());
    Comb { bases, entries: layer.entries, narrow: narrow && capacity <= 1 << 16 }
}

impl Comb {
    /// The word of a column and class, by the same steps as a program takes; `None`
    /// where one would find no entry.
    pub fn word(&self, column: u16, class: u32) -> Option<Word> {
        let base = *self.bases.get(class as usize)?;
        let entry = self.entries.get(base as usize + usize::from(column))?;
        if entry.base == base {
            return Some(entry.word);
        }
        self.entries.get(usize::from(column)).map(|entry| entry.word)
    }
}

/// Entries while rows come in.
struct Layer {
    columns: usize,
    entries: Vec<Entry>,
    /// Which entries are taken, and which numbers are a row's base.
    taken: Vec<bool>,
    bases: Vec<bool>,
    /// Length of the last row, and where it was placed: the next one is tried from there on.
    length: usize,
    next: usize,
}

impl Layer {
    fn new(defaults: &[Word]) -> Self {
        let entries: Vec<Entry> = defaults.iter().map(|word| Entry { base: 0, word: *word }).collect();
        let columns = entries.len();
        Self { columns, entries, taken: vec![true; columns], bases: vec![true], length: 0, next: columns }
    }

    /// Gives a row its base.
    fn place(&mut self, row: &Row) -> u32 {
        let first = row.first().map_or(0, |(column, _)| *column as usize);
        let end = self.entries.len();
        // Long rows seldom find gaps: only where entries are new there is room.
        // Rows of another length may fit where those before did not.
        if row.len() != self.length {
            (self.length, self.next) = (row.len(), self.columns);
        }
        let place = (self.next..end).take(TRIES).find(|at| self.fits(row, *at, first));
        self.next = place.unwrap_or(end);
        let base = place.map(|at| at - first);
        // Behind all entries every base that is not 0 and nobody's will do.
        let base = base.unwrap_or_else(|| {
            (end.saturating_sub(first).max(1)..).find(|base| !self.is_base(*base)).unwrap_or(end)
        });
        for (column, word) in row {
            let at = base + *column as usize;
            if at >= self.entries.len() {
                self.entries.resize(at + 1, Entry::default());
                self.taken.resize(at + 1, false);
            }
            self.taken[at] = true;
            self.entries[at] = Entry { base: base as u32, word: *word };
        }
        if base >= self.bases.len() {
            self.bases.resize(base + 1, false);
        }
        self.bases[base] = true;
        base as u32
    }

    /// Whether the row's first cell can stand at an entry, and the others behind it.
    fn fits(&self, row: &Row, at: usize, first: usize) -> bool {
        let Some(base) = at.checked_sub(first).filter(|base| *base > 0) else { return false };
        let is_free = |(column, _): &(u32, Word)| {
            let at = base + *column as usize;
            at >= self.columns && !self.taken.get(at).is_some_and(|taken| *taken)
        };
        !self.is_base(base) && row.iter().all(is_free)
    }

    fn is_base(&self, base: usize) -> bool {
        self.bases.get(base).is_some_and(|is| *is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::Rng;

    #[test]
    fn every_cell_is_found_and_every_default() {
        let mut rng = Rng::new(7);
        for columns in [1_u32, 2, 60, 700] {
            for density in [1, 5, 40, 100] {
                let defaults: Vec<Word> = (0..columns).map(|c| Word(c % 7)).collect();
                let mut rows: Vec<Row> = Vec::new();
                for class in 0..300 {
                    let cell = |column: u32, rng: &mut Rng| {
                        rng.chance(density).then(|| (column, Word(100 + (class + column) % 9)))
                    };
                    rows.push((0..columns).filter_map(|column| cell(column, &mut rng)).collect());
                }
                let comb = comb(&defaults, &rows, true);
                for (class, row) in rows.iter().enumerate() {
                    for column in 0..columns {
                        let cell = row.iter().find(|(c, _)| *c == column).map(|(_, word)| *word);
                        let want = cell.unwrap_or(defaults[column as usize]);
                        assert_eq!(comb.word(column as u16, class as u32), Some(want), "{class} {column}");
                    }
                }
                let cells: usize = rows.iter().map(Vec::len).sum();
                let most = 5 * cells + 4 * columns as usize + 1_000;
                assert!(comb.entries.len() < most, "{columns} {density}: {cells} {}", comb.entries.len());
            }
        }
    }

    #[test]
    fn equal_rows_are_one() {
        let row = vec![(1, Word(9)), (2, Word(8))];
        let comb = comb(&[Word(0); 4], &[row.clone(), Vec::new(), row, vec![(1, Word(9))]], true);
        assert_eq!(comb.bases[0], comb.bases[2]);
        assert_eq!(comb.bases[1], 0);
        assert_ne!(comb.bases[0], comb.bases[3]);
    }
}
