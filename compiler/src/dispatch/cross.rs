//! Cross: for rules that look at the addresses of both sides. In each column the
//! classes of a side that the column cannot tell apart share an id; both ids lead
//! to the outcome.
//!
//! ```text
//! column ─▶ record: row of the source side, row of the destination side, base, width
//! row[class] ─▶ id             base + source id × width + destination id ─▶ word
//! ```
//!
//! Rows that are equal exist once, whatever column and side they are for; where classes
//! may come, only of sides that ask for the same conditions. So do the words of columns
//! that are equal throughout, and source ids whose words are equal are one.
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
        is_open: classes.open,
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
pub(super) struct Changed {
    starts: Vec<u32>,
    classes: Vec<u32>,
}

impl Changed {
    pub(super) fn new(partition: &Partition, classes: &AddressClasses) -> Self {
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
    /// Whether classes may come.
    is_open: bool,
    work: u64,
    row_ids: HashMap<(Vec<u16>, Vec<Cond>), u32>,
    word_ids: HashMap<Vec<Word>, u32>,
    cross: Cross,
}

/// Which of a column's items hold, a bit each.
pub(super) type Held = Vec<u64>;

/// The ids of one side of a column.
pub(super) struct SideIds {
    /// By class; id 0 is that of classes that have all their defaults.
    pub of_class: Vec<u16>,
    /// What holds for each id.
    pub held: Vec<Held>,
    /// Conditions that had to be looked at, summed over classes.
    pub work: u64,
}

/// Gives each class its id on one side of a column.
pub(super) fn side(
    items: &[&Item],
    cond: impl Fn(&Item) -> Cond,
    truth: &[bool],
    changed: &Changed,
    classes: usize,
) -> Result<SideIds, Unfit> {
    let mut base: Held = vec![0; items.len().div_ceil(64).max(1)];
    let mut flips: Vec<(u32, u32)> = Vec::new();
    for (place, item) in (0_u32..).zip(items) {
        let cond = cond(item);
        if truth[cond.as_u32() as usize] {
            base[place as usize / 64] |= 1 << (place % 64);
        }
        flips.extend(changed.of(cond).iter().map(|class| (*class, place)));
    }
    let work = flips.len() as u64 + classes as u64 / 8;
    flips.sort_unstable();
    let mut of_class = vec![0_u16; classes];
    let mut held = vec![base.clone()];
    let mut known = HashMap::from([(base.clone(), 0_u16)]);
    for of_one in flips.chunk_by(|a, b| a.0 == b.0) {
        let mut holds = base.clone();
        for (_, place) in of_one {
            holds[*place as usize / 64] ^= 1 << (place % 64);
        }
        let next = u16::try_from(held.len()).map_err(|_| Unfit::SideIds { max: 1 << 16 })?;
        let id = *known.entry(holds).or_insert_with_key(|holds| {
            held.push(holds.clone());
            next
        });
        of_class[of_one[0].0 as usize] = id;
    }
    Ok(SideIds { of_class, held, work })
}

impl Filler {
    fn column(&mut self, items: &[&Item], outcomes: &mut Outcomes) -> Result<(), Unfit> {
        let one = |which: Side| side(items, |item| which.of(item), &self.truth, &self.changed, self.classes);
        let src = one(Side::Src)?;
        self.work += src.work;
        let dst = one(Side::Dst)?;
        self.work += dst.work;
        let (mut src, src_held, dst, dst_held) = (src.of_class, src.held, dst.of_class, dst.held);
        let conds = [Side::Src, Side::Dst].map(|side| self.conditions(items, side));
        for (side, held) in [&src_held, &dst_held].into_iter().enumerate() {
            self.cross.sides[side] |= held.len() > 1 || !conds[side].is_empty();
        }
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
        let [src_conds, dst_conds] = conds;
        let (src, dst) = (self.row(src, src_conds), self.row(dst, dst_conds));
        let record = Record { src, dst, base: self.words(words), width };
        self.cross.records.push(record);
        Ok(())
    }

    /// What a side of a column asks, where classes may come: equal rows of columns that
    /// ask something else need not stay equal, and a side that is asked about matters
    /// though no class differs on it yet.
    fn conditions(&self, items: &[&Item], side: Side) -> Vec<Cond> {
        if !self.is_open {
            return Vec::new();
        }
        let mut conds: Vec<Cond> =
            items.iter().map(|item| side.of(item)).filter(|cond| *cond != Cond::ALWAYS).collect();
        conds.sort_unstable();
        conds.dedup();
        conds
    }

    fn row(&mut self, row: Vec<u16>, conds: Vec<Cond>) -> u32 {
        self.cross.short &= row.iter().all(|id| *id <= 0xff);
        let next = self.cross.rows.len() as u32;
        *self.row_ids.entry((row, conds)).or_insert_with_key(|(row, _)| {
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
