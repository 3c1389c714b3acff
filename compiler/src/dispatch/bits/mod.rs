//! Bits: for rules that look at the addresses of both sides in so many ways that a
//! table of all combinations would be too large. Every class has a bit for each
//! item; a packet ANDs the bits of both its classes with those of its column, and
//! the first bit that is left is the item that decides.
//!
//! ```text
//! column ─▶ record: offsets of both vectors, block, default, next record, mask
//! class  ─▶ row: vectors of all slots          item of bit: block[bit] ─▶ word
//! first bit of (source's vector & destination's vector & mask), else the default
//! ```
//!
//! Adjacent columns share *blocks* of items. A column with more items than a block
//! has a chain of records, one per block. Where rules log or pass, a block's entry
//! says where to go on: behind the rule, or with the first item of the next chain.
//! Each rule then counts by itself, and no outcome stands for several.
//!
//! Why sound: the bits of a block stand in match order of every column that uses it
//! (`order`), and a bit says what the condition says about the class.
//!
//! Cost: for a packet the words of a vector, up to eight, times the blocks of its
//! column; for the tables classes times blocks, whatever the rules. The row of a
//! class is a function of what its sets change: [`Bits::row`].

mod fill;
mod order;

use super::Side;
use super::condition::Cond;
use super::outcome::Word;
use crate::address::Class;
use crate::image::Store;
use crate::ir::Decision;

pub use fill::fill;

/// Most turns that a program may take: what the verifier has to follow.
pub const MAX_TURNS: u32 = 512;
/// Multiplier that gives each power of two six leading bits of its own.
pub const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;

/// What a column does with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Slots of the vectors in a class's row; 0 for a side that is not used.
    pub slots: [u32; 2],
    /// The block.
    pub block: u32,
    /// What decides if no item of any block does.
    pub default: Word,
    /// Record of the column's next block; 0 if there is none.
    pub next: u32,
    /// Items of the group before this block.
    pub first: u32,
    /// The column's items among those of the block.
    pub mask: Vec<u64>,
}

/// What the item of a bit does.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Decision and verdict.
    pub word: Word,
    /// Where the evaluation goes on; `None` if it ends here.
    pub step: Option<Step>,
}

/// How an evaluation goes on behind a rule that does not decide.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// First item of the group that counts from now on.
    pub from: u32,
    /// Whether the rule logs; else it passes.
    pub is_log: bool,
}

/// The tables of this form.
#[derive(Clone, Debug)]
pub struct Bits {
    /// Whether any column looks at the source's, and the destination's, address.
    pub sides: [bool; 2],
    /// Words of a vector: 1, 2, 4 or 8.
    pub width: usize,
    /// By column, then those that others lead to.
    pub records: Vec<Record>,
    /// By block, 64 for each word of a vector.
    pub entries: Vec<Entry>,
    /// Whether there are items that log or pass.
    pub has_steps: bool,
    /// Most blocks and steps that a packet meets.
    pub turns: u32,
    /// Classes that there is room for.
    pub classes: u32,
    /// Rows of all classes there are, each [`Self::row_words`] long.
    pub rows: Vec<u64>,
    /// The row of a class in no set.
    base: Vec<u64>,
    /// By condition the bits of a row that say its truth: word and mask.
    flips: Vec<Vec<(u32, u64)>>,
}

/// What an evaluation met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Decision and verdict.
    pub word: Word,
    /// Log rules that matched, in order.
    pub logged: Vec<Decision>,
    /// Pass rules that matched, in order.
    pub passed: Vec<Decision>,
}

impl Bits {
    /// Words of a class's row; 0 if no address matters.
    pub fn row_words(&self) -> usize {
        self.base.len()
    }

    /// Bytes of the rows of all classes that there is room for.
    pub fn bytes(&self) -> u64 {
        self.base.len() as u64 * 8 * u64::from(self.classes)
    }

    /// Whether a column has items in several blocks, which take a turn each: those of
    /// the first rules are found first.
    pub fn is_ordered(&self) -> bool {
        self.records.iter().any(|record| record.next > 0)
    }

    /// Whether a side's address has to be looked up.
    pub fn uses(&self, side: Side) -> bool {
        self.sides[side as usize]
    }

    /// The row of a class for which these conditions are not what they are by default,
    /// whether there is such a class yet or not.
    pub fn row(&self, changed: &[Cond]) -> Vec<u64> {
        let mut row = self.base.clone();
        self.flip(changed, &mut row);
        row
    }

    fn flip(&self, changed: &[Cond], row: &mut [u64]) {
        for (word, mask) in changed.iter().flat_map(|cond| &self.flips[cond.as_u32() as usize]) {
            row[*word as usize] ^= mask;
        }
    }

    /// Appends the stores after which map `rows`, that of [`Self::rows`], is right for
    /// addresses of a class for which these conditions are not what they are by
    /// default. `false` if there is no room.
    pub fn fill_row(&self, changed: &[Cond], rows: u32, class: Class, stores: &mut Vec<Store>) -> bool {
        if class.as_u32() >= self.classes {
            return false;
        }
        let halves = self.row(changed).into_iter().flat_map(|word| [word as u32, (word >> 32) as u32]);
        let store =
            |(at, value): (u32, u32)| Store { map: rows, index: class.as_u32(), offset: at * 4, value };
        stores.extend((0..).zip(halves).map(store));
        true
    }

    /// What a packet of this column and these classes meets, by the same steps as a
    /// program takes; `None` where one would find no table entry.
    pub fn walk(&self, column: u16, src: Class, dst: Class) -> Option<Walk> {
        let row = |class: Class| {
            let start = class.as_u32() as usize * self.base.len();
            self.rows.get(start..start + self.base.len())
        };
        let (src, dst) = (row(src)?, row(dst)?);
        let mut walk = Walk { word: Word(0), logged: Vec::new(), passed: Vec::new() };
        let (mut at, mut from) = (usize::from(column), 0_u32);
        loop {
            let record = self.records.get(at)?;
            while let Some(bit) = self.first(record, src, dst, from) {
                let entry = self.entries[record.block as usize * self.width * 64 + bit as usize];
                let Some(step) = entry.step else {
                    return Some(Walk { word: entry.word, ..walk });
                };
                let decision = Decision::from_u32(entry.word.0 / 2);
                if step.is_log {
                    walk.logged.push(decision)
                } else {
                    walk.passed.push(decision)
                }
                from = step.from;
            }
            match record.next {
                0 => return Some(Walk { word: record.default, ..walk }),
                next => at = next as usize,
            }
        }
    }

    /// The first bit of a block that is left, from the group's item `from` on.
    fn first(&self, record: &Record, src: &[u64], dst: &[u64], from: u32) -> Option<u32> {
        let vector = |side: Side, row: &[u64], word: usize| match self.uses(side) {
            true => row[record.slots[side as usize] as usize * self.width + word],
            false => u64::MAX,
        };
        (0..self.width).find_map(|word| {
            let bits = vector(Side::Src, src, word) & vector(Side::Dst, dst, word) & record.mask[word];
            let before = from.saturating_sub(record.first + word as u32 * 64);
            let left = if before < 64 { bits & (u64::MAX << before) } else { 0 };
            (left != 0).then(|| word as u32 * 64 + left.trailing_zeros())
        })
    }
}
