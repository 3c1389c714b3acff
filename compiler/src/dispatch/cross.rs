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
//! Cost: for each column the classes, those whose sets change one of its conditions once
//! for each, and the product of its ids; bounded by `MAX_WORK`.

use rustc_hash::FxHashMap;

use super::column::{Act, Item, Partition};
use super::condition::{Cond, Postings};
use super::outcome::{Outcomes, Word, evaluate};
use super::{Limits, Side, Unfit};
use crate::address::{AddressClasses, Class};

/// Most steps of all columns together: about a third of a second.
const MAX_WORK: u64 = 80_000_000;

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
        row_ids: FxHashMap::default(),
        word_ids: FxHashMap::default(),
        cross: Cross {
            sides: [false; 2],
            records: Vec::new(),
            rows: Vec::new(),
            short: true,
            words: Vec::new(),
        },
    };
    filler.estimate(partition)?;
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
    row_ids: FxHashMap<(Vec<u16>, Vec<Cond>), u32>,
    word_ids: FxHashMap<Vec<Word>, u32>,
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
    // Of each class how many items change, then where its places in `flips` end.
    let mut ends = vec![0_u32; classes];
    let mut work = classes as u64 / 8;
    for (place, item) in items.iter().enumerate() {
        let cond = cond(item);
        if truth[cond.as_u32() as usize] {
            base[place / 64] |= 1 << (place % 64);
        }
        let changed = changed.of(cond);
        work += changed.len() as u64;
        changed.iter().for_each(|class| ends[*class as usize] += 1);
    }
    if work > MAX_WORK {
        return Err(Unfit::Work { max: MAX_WORK });
    }
    let mut flips = vec![0_u32; accumulate(&mut ends)];
    for (place, item) in (0_u32..).zip(items) {
        for class in changed.of(cond(item)) {
            let end = &mut ends[*class as usize];
            flips[*end as usize] = place;
            *end += 1;
        }
    }
    let mut of_class = vec![0_u16; classes];
    let mut held = vec![base.clone()];
    let mut known: FxHashMap<Held, u16> = FxHashMap::from_iter([(base.clone(), 0)]);
    let (mut holds, mut start) = (base.clone(), 0);
    for (id, end) in of_class.iter_mut().zip(ends) {
        let of_one = &flips[start as usize..end as usize];
        start = end;
        if of_one.is_empty() {
            continue;
        }
        holds.copy_from_slice(&base);
        of_one.iter().for_each(|place| holds[*place as usize / 64] ^= 1 << (place % 64));
        *id = match known.get(&holds) {
            Some(known) => *known,
            None => {
                let next = u16::try_from(held.len()).map_err(|_| Unfit::SideIds { max: 1 << 16 })?;
                held.push(holds.clone());
                known.insert(holds.clone(), next);
                next
            }
        };
    }
    Ok(SideIds { of_class, held, work })
}

impl Filler {
    /// Refuses what is far from possible, as a few columns tell, before it has cost much.
    fn estimate(&self, partition: &Partition) -> Result<(), Unfit> {
        const SAMPLES: usize = 16;
        const FAR: u64 = 4;
        let columns = partition.columns.len();
        let mut work = 0;
        for column in (0..columns).step_by(columns.div_ceil(SAMPLES).max(1)) {
            let items: Vec<&Item> = partition.items_of(column).collect();
            let (src, dst) = (self.side(&items, Side::Src)?.held, self.side(&items, Side::Dst)?.held);
            work += (src.len() * dst.len() * src[0].len()) as u64;
        }
        match work / SAMPLES as u64 * columns as u64 {
            work if work > FAR * MAX_WORK => Err(Unfit::Work { max: MAX_WORK }),
            _ => Ok(()),
        }
    }

    fn side(&self, items: &[&Item], which: Side) -> Result<SideIds, Unfit> {
        side(items, |item| which.of(item), &self.truth, &self.changed, self.classes)
    }

    fn column(&mut self, items: &[&Item], outcomes: &mut Outcomes) -> Result<(), Unfit> {
        let (src, dst) = (self.side(items, Side::Src)?, self.side(items, Side::Dst)?);
        self.work += src.work + dst.work;
        let (mut src, src_held, dst, dst_held) = (src.of_class, src.held, dst.of_class, dst.held);
        let conds = [Side::Src, Side::Dst].map(|side| self.conditions(items, side));
        for (side, held) in [&src_held, &dst_held].into_iter().enumerate() {
            self.cross.sides[side] |= held.len() > 1 || !conds[side].is_empty();
        }
        self.work += (src_held.len() * dst_held.len() * src_held[0].len()) as u64;
        if self.work > MAX_WORK {
            return Err(Unfit::Work { max: MAX_WORK });
        }
        let is_plain = items.iter().all(|item| matches!(item.act, Act::Decide(_)));
        let mut words: Vec<Word> = Vec::new();
        let mut known: FxHashMap<Vec<Word>, u16> = FxHashMap::default();
        let mut renamed = Vec::with_capacity(src_held.len());
        let mut row: Vec<Word> = Vec::with_capacity(dst_held.len());
        for a in &src_held {
            row.clear();
            row.extend(dst_held.iter().map(|b| match is_plain {
                true => first_word(items, a, b, outcomes),
                false => word(items, a, b, outcomes),
            }));
            let next = known.len() as u16;
            let id = match known.get(&row) {
                Some(id) => *id,
                None => {
                    words.extend(&row);
                    known.insert(row.clone(), next);
                    next
                }
            };
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

/// Counts into places where each begins; how many there are.
fn accumulate(counts: &mut [u32]) -> usize {
    let mut total = 0;
    for count in counts {
        total += std::mem::replace(count, total);
    }
    total as usize
}

/// As [`word`], where every item decides.
fn first_word(items: &[&Item], a: &Held, b: &Held, outcomes: &mut Outcomes) -> Word {
    let first = a.iter().zip(b).enumerate().find_map(|(at, (a, b))| {
        let both = a & b;
        (both != 0).then(|| at * 64 + both.trailing_zeros() as usize)
    });
    evaluate(first.map(|place| items[place]), outcomes).unwrap_or(Word(0))
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
