//! From columns to blocks, slots and records.
//!
//! Cost: for each width that is tried the sum of the columns' lengths; then for each
//! class the blocks, and the bits that its sets change.

use super::super::column::{Act, Item, Partition};
use super::super::condition::{Cond, Postings};
use super::super::outcome::Word;
use super::super::{Limits, Side, Unfit, cost};
use super::order::{self, Group, Order, order};
use super::{Bits, Entry, MAX_TURNS, Record, Step};
use crate::address::AddressClasses;
use crate::ir::{Decision, Verdict};

/// Words of a vector that are tried, ascending.
const WIDTHS: [usize; 4] = [1, 2, 4, 8];
/// Half times the smallest rows that rows may take for a width that costs packets less.
const MOST_ROWS: u64 = 3;
/// Most bytes of one row: the kernel's limit for a value is 4 MiB.
const MAX_ROW: usize = 2 << 20;

/// Fills the tables in.
///
/// # Errors
/// Too large tables, or too many blocks and steps in one column.
pub fn fill(partition: &Partition, classes: &AddressClasses, limits: &Limits) -> Result<Bits, Unfit> {
    let order = order(partition);
    let room = match classes.open {
        true => (classes.len() as u32 + (classes.len() as u32 / 4).max(64)).min(limits.classes),
        false => classes.len() as u32,
    };
    let asks = |cond: &dyn Fn(&Item) -> Cond| partition.items.iter().any(|item| cond(item) != Cond::ALWAYS);
    let sides = [asks(&|item| item.src), asks(&|item| item.dst)];
    let (width, groups) = choose(&order, sides.iter().filter(|used| **used).count(), room as usize);
    let mut filler = Filler {
        partition,
        order: &order,
        truth: partition.conditions.defaults(),
        winds: partition.items.iter().any(|item| !matches!(item.act, Act::Decide(_))),
        sure_slot: None,
        seen: vec![0; order.items.len()],
        places: vec![0; order.items.len()],
        bits: Bits {
            sides,
            width,
            records: vec![Record::new(width); partition.columns.len()],
            entries: Vec::new(),
            has_steps: false,
            turns: 0,
            classes: room,
            rows: Vec::new(),
            base: Vec::new(),
            flips: vec![Vec::new(); partition.conditions.count()],
        },
    };
    for group in &groups {
        filler.group(group);
        filler.check(limits)?;
    }
    let mut bits = filler.bits;
    if bits.base.is_empty() {
        return Ok(bits);
    }
    let mut rows = Vec::with_capacity(bits.base.len() * classes.len());
    let mut postings = Postings::new(&partition.conditions, classes);
    let mut changed = Vec::new();
    for class in classes.classes() {
        postings.changed(&partition.conditions, classes.sets_of(class), &mut changed);
        let start = rows.len();
        rows.extend_from_slice(&bits.base);
        bits.flip(&changed, &mut rows[start..]);
    }
    bits.rows = rows;
    Ok(bits)
}

/// The width that costs a packet least, of those whose rows are not much larger than the
/// smallest ones.
fn choose(order: &Order<'_>, sides: usize, classes: usize) -> (usize, Vec<Group>) {
    let of_width = |width: usize| {
        let groups = order::groups(order, width * 64);
        let blocks = |group: &Group| group.entries.div_ceil(width * 64).max(1);
        let rows = (groups.iter().map(blocks).sum::<usize>() * sides * width * 8 * classes) as u64;
        let turns = groups.iter().map(blocks).max().unwrap_or(1) as u32;
        (rows, cost::vectors(width as u32, sides as u32, turns, rows).cost().total(), width, groups)
    };
    let widths = WIDTHS.map(of_width);
    let least = widths.iter().map(|(rows, ..)| *rows).min().unwrap_or(0);
    let small = widths.into_iter().filter(|(rows, ..)| *rows * 2 <= least * MOST_ROWS);
    let best = small.min_by_key(|(_, total, ..)| *total);
    best.map_or((1, Vec::new()), |(_, _, width, groups)| (width, groups))
}

impl Record {
    fn new(width: usize) -> Self {
        Self { slots: [0; 2], block: 0, default: Word(0), next: 0, first: 0, mask: vec![0; width] }
    }
}

struct Filler<'a> {
    partition: &'a Partition,
    order: &'a Order<'a>,
    truth: Vec<bool>,
    /// Whether there are rules that log or pass.
    winds: bool,
    /// Slot of a vector without conditions, once there is one.
    sure_slot: Option<u32>,
    /// The first column, counted from 1, of the last group that has each entry.
    seen: Vec<usize>,
    /// Place of each entry in the group at hand.
    places: Vec<u32>,
    bits: Bits,
}

impl Filler<'_> {
    fn item(&self, entry: u32) -> &Item {
        &self.partition.items[self.order.items[entry as usize] as usize]
    }

    fn group(&mut self, group: &Group) {
        let order = self.order;
        let mut entries: Vec<u32> = Vec::with_capacity(group.entries);
        for entry in order.union(&group.columns) {
            let seen = &mut self.seen[entry as usize];
            if *seen <= group.columns.start {
                *seen = group.columns.start + 1;
                entries.push(entry);
            }
        }
        entries.sort_unstable();
        for (place, entry) in (0..).zip(&entries) {
            self.places[*entry as usize] = place;
        }
        let per_block = self.bits.width * 64;
        let first_block = (self.bits.entries.len() / per_block) as u32;
        let blocks = entries.len().div_ceil(per_block).max(1);
        let mut slots = Vec::with_capacity(blocks);
        for block in 0..blocks {
            let of_block = &entries[(block * per_block).min(entries.len())..];
            let of_block = &of_block[..of_block.len().min(per_block)];
            let src = self.slot(Side::Src, of_block);
            slots.push([src, self.slot(Side::Dst, of_block)]);
        }
        self.bits.entries.resize((first_block as usize + blocks) * per_block, Entry::default());
        let start = first_block as usize * per_block;
        for (place, entry) in entries.iter().enumerate() {
            let made = self.entry(*entry, place, &entries);
            self.bits.has_steps |= made.step.is_some();
            self.bits.entries[start + place] = made;
        }
        for column in group.columns.clone() {
            self.column(column, first_block, &slots);
        }
    }

    fn entry(&self, entry: u32, place: usize, group: &[u32]) -> Entry {
        let item = self.item(entry);
        let (verdict, step) = match item.act {
            Act::Decide(verdict) => (verdict, None),
            Act::Log => (Verdict::Deny, Some(Step { from: place as u32 + 1, is_log: true })),
            Act::Pass => {
                let behind = group[place..].partition_point(|other| self.item(*other).chain <= item.chain);
                (Verdict::Deny, Some(Step { from: (place + behind) as u32, is_log: false }))
            }
        };
        Entry { word: word(verdict, item.decision), step }
    }

    /// A vector of these items; its bits for a class in no set, and what changes them.
    fn slot(&mut self, side: Side, entries: &[u32]) -> u32 {
        let width = self.bits.width;
        if !self.bits.sides[side as usize] {
            return 0;
        }
        let next = (self.bits.base.len() / width) as u32;
        let is_sure = entries.iter().all(|entry| side.of(self.item(*entry)) == Cond::ALWAYS);
        if is_sure && let Some(slot) = self.sure_slot {
            return slot;
        }
        let start = self.bits.base.len();
        self.bits.base.resize(start + width, if is_sure { u64::MAX } else { 0 });
        if is_sure {
            self.sure_slot = Some(next);
            return next;
        }
        for (place, entry) in entries.iter().enumerate() {
            let cond = side.of(self.item(*entry)).as_u32() as usize;
            let (word, mask) = (start + place / 64, 1_u64 << (place % 64));
            if self.truth[cond] {
                self.bits.base[word] |= mask;
            }
            match self.bits.flips[cond].last_mut() {
                Some((last, bits)) if *last as usize == word => *bits |= mask,
                _ => self.bits.flips[cond].push((word as u32, mask)),
            }
        }
        next
    }

    /// The records of a column, for those blocks that hold one of its items.
    fn column(&mut self, column: usize, first_block: u32, slots: &[[u32; 2]]) {
        let per_block = self.bits.width as u32 * 64;
        let order = self.order;
        let places: Vec<u32> = order.column(column).map(|entry| self.places[entry as usize]).collect();
        let default = match order.last(column) {
            Some(Item { act: Act::Decide(verdict), decision, .. }) => word(*verdict, *decision),
            _ => Word(0),
        };
        let mut at = column;
        let mut is_first = true;
        let mut turns = 1;
        // A power of two: a shift is a tenth of a division.
        let shift = per_block.trailing_zeros();
        for of_block in places.chunk_by(|a, b| a >> shift == b >> shift) {
            let block = of_block[0] >> shift;
            if !is_first {
                let next = self.bits.records.len();
                self.bits.records[at].next = next as u32;
                self.bits.records.push(Record::new(self.bits.width));
                at = next;
                turns += 1;
            }
            is_first = false;
            let record = &mut self.bits.records[at];
            record.first = block * per_block;
            record.block = first_block + block;
            record.slots = slots[block as usize];
            for place in of_block {
                record.mask[(place - record.first) as usize / 64] |= 1 << (place % 64);
            }
            record.default = default;
        }
        self.bits.records[column].default = default;
        self.bits.turns = self.bits.turns.max(turns + self.steps(column));
    }

    /// Rules of a column that a packet may meet without an end: all that log, and
    /// one that passes in each chain.
    fn steps(&self, column: usize) -> u32 {
        let (mut steps, mut passed) = (0, None);
        if !self.winds {
            return steps;
        }
        for item in self.order.column(column).map(|entry| self.item(entry)) {
            match item.act {
                Act::Log => steps += 1,
                Act::Pass if passed != Some(item.chain) => {
                    passed = Some(item.chain);
                    steps += 1;
                }
                Act::Pass | Act::Decide(_) => {}
            }
        }
        steps
    }

    fn check(&self, limits: &Limits) -> Result<(), Unfit> {
        if self.bits.turns > MAX_TURNS {
            return Err(Unfit::Turns { given: self.bits.turns, max: MAX_TURNS });
        }
        let row = self.bits.base.len() * 8;
        if row > MAX_ROW {
            return Err(Unfit::TooLarge { given: row as u64, max: MAX_ROW as u64 });
        }
        match self.bits.bytes() {
            given if given > limits.max_table_bytes => {
                Err(Unfit::TooLarge { given, max: limits.max_table_bytes })
            }
            _ => Ok(()),
        }
    }
}

fn word(verdict: Verdict, decision: Decision) -> Word {
    Word(decision.as_u32() * 2 + u32::from(verdict == Verdict::Allow))
}
