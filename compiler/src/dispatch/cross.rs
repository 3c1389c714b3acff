//! Cross: for rules that look at the addresses of both sides. In each column the
//! classes of a side that the column cannot tell apart share an id; both ids lead
//! to the outcome.
//!
//! ```text
//! column ─▶ record: row of the source side, row of the destination side, base, width
//! row[class] ─▶ id             base + source id × width + destination id ─▶ word
//! ```
//!
//! Rows that are equal exist once, whatever column and side they are for; so do the
//! words of columns that are equal throughout, and source ids whose words are equal
//! are one.
//!
//! Cost: for each column the classes whose sets change one of its conditions, and
//! the product of its ids; bounded by `MAX_WORK`.

use std::collections::HashMap;

use super::column::{Item, Partition};
use super::condition::{Cond, Postings};
use super::outcome::{Outcomes, Word, evaluate};
use super::{Limits, Side, Unfit};
use crate::address::{AddressClasses, Class};

/// Most steps of all columns together.
const MAX_WORK: u64 = 400_000_000;

/// Where a column's ids and words are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Row of the source side.
    pub src: u32,
    /// Row of the destination side.
    pub dst: u32,
    /// First word.
    pub base: u32,
    /// Words per source id.
    pub width: u32,
}

/// The tables of this form.
#[derive(Clone, Debug)]
pub struct Cross {
    /// Whether any column looks at the source's, and the destination's, address.
    pub sides: [bool; 2],
    /// By column.
    pub records: Vec<Record>,
    /// Ids by class; shorter than there is room for classes.
    pub rows: Vec<Vec<u16>>,
    /// Whether every id fits a byte.
    pub short: bool,
    /// Words of all columns.
    pub words: Vec<Word>,
}

/// Fills the tables in.
///
/// # Errors
/// Too much work, or too large tables.
pub fn fill(
    partition: &Partition,
    classes: &AddressClasses,
    outcomes: &mut Outcomes,
    limits: &Limits,
) -> Result<Cross, Unfit> {
    let changed = Changed::new(partition, classes);
    let mut filler = Filler {
        truth: partition.conditions.defaults(),
        changed,
        classes: classes.len(),
        work: 0,
        row_ids: HashMap::new(),
        word_ids: HashMap::new(),
        cross: Cross {
            sides: [false; 2],
            records: Vec::new(),
            rows: Vec::new(),
            short: true,
            words: Vec::new(),
        },
    };
    for column in 0..partition.columns.len() {
        let items: Vec<&Item> = partition.items_of(column).collect();
        filler.column(&items, outcomes)?;
        filler.check(limits)?;
    }
    Ok(filler.cross)
}

/// For each condition the classes in which it has not its default.
struct Changed {
    starts: Vec<u32>,
    classes: Vec<u32>,
}

impl Changed {
    fn new(partition: &Partition, classes: &AddressClasses) -> Self {
        let mut postings = Postings::new(&partition.conditions, classes);
        let mut pairs: Vec<(Cond, u32)> = Vec::new();
        let mut changed = Vec::new();
        for class in classes.classes() {
            postings.changed(&partition.conditions, classes.sets_of(class), &mut changed);
            pairs.extend(changed.iter().map(|cond| (*cond, class.as_u32())));
        }
        pairs.sort_unstable();
        let mut starts = vec![0_u32; partition.conditions.count() + 1];
        for (cond, _) in &pairs {
            starts[cond.as_u32() as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        Self { starts, classes: pairs.into_iter().map(|(_, class)| class).collect() }
    }

    fn of(&self, cond: Cond) -> &[u32] {
        let cond = cond.as_u32() as usize;
        &self.classes[self.starts[cond] as usize..self.starts[cond + 1] as usize]
    }
}

struct Filler {
    truth: Vec<bool>,
    changed: Changed,
    classes: usize,
    work: u64,
    row_ids: HashMap<Vec<u16>, u32>,
    word_ids: HashMap<Vec<Word>, u32>,
    cross: Cross,
}

/// Which of a column's items hold, a bit each.
type Held = Vec<u64>;

impl Filler {
    fn column(&mut self, items: &[&Item], outcomes: &mut Outcomes) -> Result<(), Unfit> {
        let (mut src, src_held) = self.side(items, |item| item.src)?;
        let (dst, dst_held) = self.side(items, |item| item.dst)?;
        self.cross.sides[0] |= src_held.len() > 1;
        self.cross.sides[1] |= dst_held.len() > 1;
        self.work += (src_held.len() * dst_held.len() * src_held[0].len()) as u64;
        if self.work > MAX_WORK {
            return Err(Unfit::Work { max: MAX_WORK });
        }
        let mut words: Vec<Word> = Vec::new();
        let mut known: HashMap<Vec<Word>, u16> = HashMap::new();
        let mut renamed = Vec::with_capacity(src_held.len());
        for a in &src_held {
            let row: Vec<Word> = dst_held.iter().map(|b| word(items, a, b, outcomes)).collect();
            let next = known.len() as u16;
            let id = *known.entry(row).or_insert_with_key(|row| {
                words.extend(row);
                next
            });
            renamed.push(id);
        }
        src.iter_mut().for_each(|id| *id = renamed[usize::from(*id)]);
        let width = dst_held.len() as u32;
        let record = Record { src: self.row(src), dst: self.row(dst), base: self.words(words), width };
        self.cross.records.push(record);
        Ok(())
    }

    /// The id of each class, and what holds for each id. Id 0 is that of classes
    /// that have all their defaults.
    fn side(
        &mut self,
        items: &[&Item],
        cond: impl Fn(&Item) -> Cond,
    ) -> Result<(Vec<u16>, Vec<Held>), Unfit> {
        let mut base: Held = vec![0; items.len().div_ceil(64).max(1)];
        let mut flips: Vec<(u32, u32)> = Vec::new();
        for (place, item) in (0_u32..).zip(items) {
            let cond = cond(item);
            if self.truth[cond.as_u32() as usize] {
                base[place as usize / 64] |= 1 << (place % 64);
            }
            flips.extend(self.changed.of(cond).iter().map(|class| (*class, place)));
        }
        self.work += flips.len() as u64 + self.classes as u64 / 8;
        if self.work > MAX_WORK {
            return Err(Unfit::Work { max: MAX_WORK });
        }
        flips.sort_unstable();
        let mut ids = vec![0_u16; self.classes];
        let mut held = vec![base.clone()];
        let mut known = HashMap::from([(base.clone(), 0_u16)]);
        for of_class in flips.chunk_by(|a, b| a.0 == b.0) {
            let mut holds = base.clone();
            for (_, place) in of_class {
                holds[*place as usize / 64] ^= 1 << (place % 64);
            }
            let next = u16::try_from(held.len()).map_err(|_| Unfit::SideIds { max: 1 << 16 })?;
            let id = *known.entry(holds).or_insert_with_key(|holds| {
                held.push(holds.clone());
                next
            });
            ids[of_class[0].0 as usize] = id;
        }
        Ok((ids, held))
    }

    fn row(&mut self, row: Vec<u16>) -> u32 {
        self.cross.short &= row.iter().all(|id| *id <= 0xff);
        let next = self.cross.rows.len() as u32;
        *self.row_ids.entry(row).or_insert_with_key(|row| {
            self.cross.rows.push(row.clone());
            next
        })
    }

    fn words(&mut self, words: Vec<Word>) -> u32 {
        let base = self.cross.words.len() as u32;
        *self.word_ids.entry(words).or_insert_with_key(|words| {
            self.cross.words.extend(words);
            base
        })
    }

    fn check(&self, limits: &Limits) -> Result<(), Unfit> {
        let (rows, words) = self.cross.bytes(limits.classes, true);
        match rows.max(words) {
            given if given > limits.max_table_bytes => {
                Err(Unfit::TooLarge { given, max: limits.max_table_bytes })
            }
            _ => Ok(()),
        }
    }
}

fn word(items: &[&Item], a: &Held, b: &Held, outcomes: &mut Outcomes) -> Word {
    let places = a.iter().zip(b).enumerate().flat_map(|(at, (a, b))| {
        let mut both = a & b;
        std::iter::from_fn(move || {
            let place = (both != 0).then(|| at * 64 + both.trailing_zeros() as usize);
            both &= both.wrapping_sub(1);
            place
        })
    });
    evaluate(places.map(|place| items[place]), outcomes).unwrap_or(Word(0))
}

impl Cross {
    /// Bytes of all rows with room for this many classes, and of all words.
    pub fn bytes(&self, classes: u32, narrow: bool) -> (u64, u64) {
        let id = if self.short { 1 } else { 2 };
        let rows = self.rows.len() as u64 * (u64::from(classes) * id).next_multiple_of(8);
        (rows, self.words.len() as u64 * if narrow { 2 } else { 4 })
    }

    /// Whether a side's address has to be looked up.
    pub fn uses(&self, side: Side) -> bool {
        self.sides[side as usize]
    }

    /// The word of a column and both classes, by the same steps as a program takes.
    pub fn word(&self, column: u16, src: Class, dst: Class) -> Option<Word> {
        let record = self.records.get(usize::from(column))?;
        let id = |row: u32, class: Class| {
            self.rows.get(row as usize)?.get(class.as_u32() as usize).map(|id| u32::from(*id))
        };
        let src = if self.uses(Side::Src) { id(record.src, src)? } else { 0 };
        let dst = if self.uses(Side::Dst) { id(record.dst, dst)? } else { 0 };
        self.words.get((record.base + src * record.width + dst) as usize).copied()
    }
}
