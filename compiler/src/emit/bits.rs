//! From column and both classes to the word: the bits form.
//!
//! ```text
//! record of the column, row of each class
//! block:  vectors and mask ANDed, word by word; the first that is not 0: found
//!         none: the column's next block, or its default
//! found:  m & −m × de Bruijn → bit → entry of the block → word
//! ```
//!
//! With rules that log or pass the ANDed words wait on the stack: a block's entry
//! then says with which bit to go on, the bits before it are cleared, and the words
//! are looked at again.
//!
//! The verifier follows every turn; a count of them on the stack, which it knows as a
//! constant, tells it that they end.

use super::builder::{Builder, SCRATCH};
use super::flat::{COLUMN, OUTCOME, SOURCE, WORD, class};
use super::flat_maps::{FlatMaps, FormMaps, Maps};
use super::glue::Ends;
use crate::abi::{STATE_LOG_DECISION, STATE_LOGGED};
use crate::address::AddressLayout;
use crate::bpf::{AluOp, AsmError, Cond, Index, Insn, Label, Reg, Size, Values, Width};
use crate::dispatch::Side;
use crate::dispatch::bits::{Bits, DE_BRUIJN, Entry, Record};
use crate::image::put_words;

/// Offsets in a record.
const SLOTS: [i16; 2] = [0, 4];
const BLOCK: i16 = 8;
const DEFAULT: i16 = 12;
const NEXT: i16 = 16;
const FIRST: i16 = 20;
const MASK: i16 = 24;

/// Offsets from the frame pointer. Turns that are left.
const TURNS: i16 = -24;
/// Place of the entry that was found.
const FOUND: i16 = -28;
/// First item that still counts.
const FROM: i16 = -32;
/// The first ANDed word; the others are below. (The context may wait at -40.)
const WORDS: i16 = -48;

/// Appends the maps.
pub(super) fn maps(maps: &mut Maps, bits: &Bits, is_narrow: bool) -> FormMaps {
    let size = record_size(bits.width);
    let mut records = Vec::with_capacity(bits.records.len() * size);
    for record in &bits.records {
        push_record(&mut records, record, bits.width);
        records.resize(records.len().next_multiple_of(size), 0);
    }
    let records = maps.fixed("polc_records", size as u32, records);
    let rows = (bits.row_words() > 0).then(|| {
        let mut rows = Vec::new();
        put_words(&mut rows, bits.rows.iter().map(|word| word.to_le_bytes()));
        maps.array("polc_rows", bits.row_words() as u32 * 8, bits.classes, rows)
    });
    let size = entry_size(bits, is_narrow);
    let mut entries = Vec::with_capacity(bits.entries.len() * usize::from(size.bytes()));
    for entry in bits.entries.chunks_exact(64).flat_map(by_hash) {
        match size {
            Size::B2 => entries.extend_from_slice(&(entry.word.0 as u16).to_le_bytes()),
            Size::B8 => {
                entries.extend_from_slice(&entry.word.0.to_le_bytes());
                entries.extend_from_slice(&step(&entry).to_le_bytes());
            }
            _ => entries.extend_from_slice(&entry.word.0.to_le_bytes()),
        }
    }
    let blocks = maps.fixed("polc_blocks", bits.width as u32 * 64 * u32::from(size.bytes()), entries);
    FormMaps::Bits { records, rows, blocks }
}

/// The entries of a word's bits in the order in which [`isolate`] numbers them.
fn by_hash(entries: &[Entry]) -> [Entry; 64] {
    let mut sorted = [Entry::default(); 64];
    for (bit, entry) in entries.iter().enumerate() {
        sorted[(DE_BRUIJN.wrapping_mul(1 << bit) >> 58) as usize] = *entry;
    }
    sorted
}

/// A power of two up to a cache line.
fn record_size(width: usize) -> usize {
    let size = MASK as usize + width * 8;
    if size <= 64 { size.next_power_of_two() } else { size.next_multiple_of(32) }
}

fn push_record(out: &mut Vec<u8>, record: &Record, width: usize) {
    let slots = record.slots.map(|slot| slot * width as u32 * 8);
    let fields = [slots[0], slots[1], record.block, record.default.0, record.next, record.first];
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
    record.mask.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// 0 for what decides; else twice the bit to go on with, plus one for a log.
fn step(entry: &Entry) -> u32 {
    entry.step.map_or(0, |step| step.from * 2 + u32::from(step.is_log))
}

fn entry_size(bits: &Bits, is_narrow: bool) -> Size {
    match (bits.has_steps, is_narrow) {
        (true, _) => Size::B8,
        (false, true) => Size::B2,
        (false, false) => Size::B4,
    }
}

/// Labels of the walk.
struct Walk {
    /// The record's number is in [`COLUMN`].
    block: Label,
    /// The words wait on the stack: those before [`FROM`] are to be cleared.
    trim: Label,
    /// They are to be looked at.
    scan: Label,
    /// The word that is not 0 is in `r1`; if there are several, 64 times its number in `r4`.
    found: Label,
    default: Label,
    done: Label,
}

/// Leaves the word in [`WORD`]; the column is in [`COLUMN`], which is lost.
pub(super) fn word(
    b: &mut Builder,
    bits: &Bits,
    is_narrow: bool,
    addresses: &AddressLayout,
    maps: &FlatMaps,
    ends: &Ends,
) -> Result<(), AsmError> {
    let walk = Walk {
        block: b.named_label("block"),
        trim: b.label(),
        scan: b.label(),
        found: b.named_label("found"),
        default: b.named_label("default"),
        done: b.label(),
    };
    let FormMaps::Bits { records, rows, blocks } = maps.form else { return Ok(()) };
    if let Some(values) = rows {
        class_rows(b, bits, &values, addresses, ends)?;
    }
    if bits.turns > 1 {
        b.push(Insn::mov(Reg::R1, bits.turns as i32));
        b.push(Insn::store(Size::B8, Reg::R10, TURNS, Reg::R1));
    }
    if bits.has_steps {
        b.push(Insn::store(Size::B4, Reg::R10, FROM, 0));
    }
    b.bind(walk.block)?;
    b.part(format!("{OUTCOME}: items of the column that both classes meet"));
    b.point(&records, Index::Spent(COLUMN), ends.no_table);
    b.push(Insn::mov(COLUMN, Reg::R0));
    block(b, bits, &walk, ends)?;
    let is_chained = bits.records.iter().any(|record| record.next > 0);
    if is_chained {
        b.part("next block of the column");
        b.push(Insn::load(Size::B4, Reg::R1, COLUMN, NEXT));
        b.jump_if_reg(Cond::Eq, Reg::R1, 0, walk.default);
        b.push(Insn::mov(COLUMN, Reg::R1));
        turn(b, ends);
        b.jump(walk.block);
    }
    b.part(format!("{OUTCOME} of the column"));
    b.bind(walk.default)?;
    b.push(Insn::load(Size::B4, WORD, COLUMN, DEFAULT));
    b.jump(walk.done);
    b.bind(walk.found)?;
    b.part(format!("{OUTCOME} of the first item"));
    isolate(b, bits.width);
    match bits.has_steps {
        true => entry_with_step(b, bits, &blocks, maps.hits, &walk, ends)?,
        false => entry(b, &blocks, entry_size(bits, is_narrow), ends),
    }
    b.bind(walk.done)
}

/// Leaves the row of the side that matters in [`WORD`]; if both do, that of the source in
/// [`SOURCE`].
fn class_rows(
    b: &mut Builder,
    bits: &Bits,
    values: &Values,
    addresses: &AddressLayout,
    ends: &Ends,
) -> Result<(), AsmError> {
    let (src, dst) = (bits.uses(Side::Src), bits.uses(Side::Dst));
    let source = if dst { SOURCE } else { WORD };
    if src {
        class(b, addresses, Side::Src, source)?;
    }
    if dst {
        class(b, addresses, Side::Dst, WORD)?;
    }
    b.part(if src && dst { "rows of both classes" } else { "row of the class" });
    for (_, class) in [(src, source), (dst, WORD)].into_iter().filter(|(used, _)| *used) {
        b.point(values, Index::Spent(class), ends.no_table);
        b.push(Insn::mov(class, Reg::R0));
    }
    Ok(())
}

/// ANDs the words of a block; falls through if none is left.
fn block(b: &mut Builder, bits: &Bits, walk: &Walk, ends: &Ends) -> Result<(), AsmError> {
    const LEFT: Reg = Reg::R1;
    const SRC: Reg = Reg::R2;
    const DST: Reg = Reg::R3;
    const OTHER: Reg = Reg::R5;
    let (src, dst) = (bits.uses(Side::Src), bits.uses(Side::Dst));
    let last = (bits.row_words() - bits.width.min(bits.row_words())) as i32 * 8;
    // By side the register that a vector's place is relative to, and its offset.
    let mut vectors = Vec::with_capacity(2);
    for (side, to) in [(Side::Src, SRC), (Side::Dst, DST)] {
        if !bits.uses(side) {
            continue;
        }
        let row = if src && dst && side == Side::Src { SOURCE } else { WORD };
        if let Some(offset) = only_slot(bits, side) {
            vectors.push((row, offset));
            continue;
        }
        b.push(Insn::load(Size::B4, OTHER, COLUMN, SLOTS[side as usize]));
        b.jump_if_reg(Cond::Gt, OTHER, last, ends.no_table);
        b.push(Insn::mov(to, row));
        b.push(Insn::alu(AluOp::Add, to, OTHER));
        vectors.push((to, 0));
    }
    for word in 0..bits.width as i16 {
        b.push(Insn::load(Size::B8, LEFT, COLUMN, MASK + word * 8));
        for (row, offset) in &vectors {
            b.push(Insn::load(Size::B8, OTHER, *row, offset + word * 8));
            b.push(Insn::alu(AluOp::And, LEFT, OTHER));
        }
        if bits.has_steps {
            b.push(Insn::store(Size::B8, Reg::R10, WORDS - word * 8, LEFT));
        } else {
            found_unless_zero(b, bits.width, word, walk);
        }
    }
    if bits.has_steps {
        trim(b, bits.width, walk)?;
        b.bind(walk.scan)?;
        for word in 0..bits.width as i16 {
            b.push(Insn::load(Size::B8, LEFT, Reg::R10, WORDS - word * 8));
            found_unless_zero(b, bits.width, word, walk);
        }
    }
    Ok(())
}

/// Where the vector of a side is in a row if it is at one place for all columns: then
/// nothing has to be known of the column to load it.
fn only_slot(bits: &Bits, side: Side) -> Option<i16> {
    let mut slots = bits.records.iter().map(|record| record.slots[side as usize]);
    let first = slots.next()?;
    let end = (first as usize + 1) * bits.width * 8;
    slots.all(|slot| slot == first).then_some(())?;
    i16::try_from(end).ok().map(|_| (first as usize * bits.width * 8) as i16)
}

fn found_unless_zero(b: &mut Builder, width: usize, word: i16, walk: &Walk) {
    if width > 1 {
        b.push(Insn::mov(Reg::R4, i32::from(word) * 64));
    }
    b.jump_if_reg(Cond::Ne, Reg::R1, 0, walk.found);
}

/// Clears the bits before [`FROM`].
fn trim(b: &mut Builder, width: usize, walk: &Walk) -> Result<(), AsmError> {
    const BEFORE: Reg = Reg::R3;
    b.bind(walk.trim)?;
    b.part("only items behind what passed or logged");
    b.push(Insn::load(Size::B4, BEFORE, Reg::R10, FROM));
    b.push(Insn::load(Size::B4, Reg::R2, COLUMN, FIRST));
    b.push(Insn::alu(AluOp::Sub, BEFORE, Reg::R2));
    for word in 0..width as i16 {
        let whole = b.label();
        b.jump_if_reg(Cond::SignedLe, BEFORE, i32::from(word) * 64, walk.scan);
        b.jump_if_reg(Cond::SignedGe, BEFORE, i32::from(word) * 64 + 64, whole);
        b.push(Insn::mov(Reg::R2, BEFORE));
        b.push(Insn::alu(AluOp::And, Reg::R2, 63));
        b.push(Insn::mov(Reg::R4, -1));
        b.push(Insn::alu(AluOp::Lsh, Reg::R4, Reg::R2));
        b.push(Insn::load(Size::B8, Reg::R1, Reg::R10, WORDS - word * 8));
        b.push(Insn::alu(AluOp::And, Reg::R1, Reg::R4));
        b.push(Insn::store(Size::B8, Reg::R10, WORDS - word * 8, Reg::R1));
        b.jump(walk.scan);
        b.bind(whole)?;
        b.push(Insn::store(Size::B8, Reg::R10, WORDS - word * 8, 0));
    }
    Ok(())
}

/// Leaves in `r1` where the entry of the lowest bit of `r1` stands in its block.
fn isolate(b: &mut Builder, width: usize) {
    b.push(Insn::mov(Reg::R2, Reg::R1));
    b.push(Insn::Neg { width: Width::W64, dst: Reg::R2 });
    b.push(Insn::alu(AluOp::And, Reg::R1, Reg::R2));
    b.push(Insn::LoadImm64 { dst: Reg::R2, imm: DE_BRUIJN });
    b.push(Insn::alu(AluOp::Mul, Reg::R1, Reg::R2));
    b.push(Insn::alu(AluOp::Rsh, Reg::R1, 58));
    if width > 1 {
        b.push(Insn::alu(AluOp::Add, Reg::R1, Reg::R4));
    }
}

/// Leaves the word of the bit in `r1`.
fn entry(b: &mut Builder, blocks: &Values, size: Size, ends: &Ends) {
    b.push(Insn::mov(WORD, Reg::R1));
    b.push(Insn::load(Size::B4, Reg::R1, COLUMN, BLOCK));
    b.point(blocks, Index::Spent(Reg::R1), ends.no_table);
    b.load_element(size, WORD, WORD);
}

/// As [`entry`]; for a rule that logs or passes counts it and goes on.
fn entry_with_step(
    b: &mut Builder,
    bits: &Bits,
    blocks: &Values,
    hits: Option<u32>,
    walk: &Walk,
    ends: &Ends,
) -> Result<(), AsmError> {
    const STEP: Reg = Reg::R2;
    b.push(Insn::store(Size::B4, Reg::R10, FOUND, Reg::R1));
    b.push(Insn::load(Size::B4, Reg::R1, COLUMN, BLOCK));
    b.point(blocks, Reg::R1, ends.no_table);
    b.push(Insn::load(Size::B4, Reg::R1, Reg::R10, FOUND));
    b.push(Insn::alu(AluOp::And, Reg::R1, bits.width as i32 * 64 - 1));
    b.push(Insn::alu(AluOp::Lsh, Reg::R1, 3));
    b.push(Insn::alu(AluOp::Add, Reg::R0, Reg::R1));
    b.push(Insn::load(Size::B4, SCRATCH, Reg::R0, 0));
    b.push(Insn::load(Size::B4, STEP, Reg::R0, 4));
    let (decided, count) = (b.label(), b.label());
    b.jump_if_reg(Cond::Eq, STEP, 0, decided);
    b.part("a rule that logs or passes");
    b.push(Insn::mov(Reg::R3, STEP));
    b.push(Insn::alu(AluOp::Rsh, Reg::R3, 1));
    b.push(Insn::store(Size::B4, Reg::R10, FROM, Reg::R3));
    b.push(Insn::alu(AluOp::Rsh, SCRATCH, 1));
    b.push(Insn::alu(AluOp::And, STEP, 1));
    b.jump_if_reg(Cond::Eq, STEP, 0, count);
    b.store_field(STATE_LOG_DECISION, SCRATCH);
    b.push(Insn::load(Size::B4, STEP, super::builder::STATE, STATE_LOGGED.offset));
    b.push(Insn::alu(AluOp::Add, STEP, 1));
    b.store_field(STATE_LOGGED, STEP);
    b.bind(count)?;
    if let Some(hits) = hits {
        b.count(hits, SCRATCH, ends.no_table);
    }
    turn(b, ends);
    b.jump(walk.trim);
    b.bind(decided)?;
    b.push(Insn::mov(WORD, SCRATCH));
    Ok(())
}

/// One turn less is left; there is always one.
fn turn(b: &mut Builder, ends: &Ends) {
    b.push(Insn::load(Size::B8, Reg::R4, Reg::R10, TURNS));
    b.push(Insn::alu(AluOp::Sub, Reg::R4, 1));
    b.jump_if_reg(Cond::Eq, Reg::R4, 0, ends.no_table);
    b.push(Insn::store(Size::B8, Reg::R10, TURNS, Reg::R4));
}
