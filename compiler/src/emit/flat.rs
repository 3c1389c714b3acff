//! The program of a flat dispatch: column, classes, outcome, verdict.
//!
//! ```text
//! state → column (r8) → class of each side that matters (r7) → word (r7) → decision, counter, tail call
//! ```
//!
//! Every step is a load at an index that the step before found. What is not in a table
//! (which no packet can find in tables that belong together) drops the packet, counted as
//! such. Code size is independent of the number of rules.

use std::fmt::Write as _;

use cranelift_entity::SecondaryMap;

use super::builder::{Builder, STATE};
use super::flat_maps::FlatMaps;
use super::glue::{self, Ends};
use super::text;
use super::{bits, cells, cross};
use crate::abi::{
    FLAG_ICMP, FLAG_PORTS, Field, STATE_DECISION, STATE_DPORT, STATE_DST, STATE_FAMILY, STATE_FLAGS,
    STATE_ICMP_TYPE, STATE_LOG_DECISION, STATE_LOGGED, STATE_PROTOCOL, STATE_SPORT, STATE_SRC,
};
use crate::address::{AddressLayout, LookUp};
use crate::bpf::{Access, AluOp, AsmError, Cond, Index, Insn, Label, Reg, Size, Values};
use crate::dispatch::cells::Table;
use crate::dispatch::ports::{DIRECTORY, Likely, PAGE};
use crate::dispatch::{Dispatch, Side, Tables};
use crate::image::{Note, NoteKind, Program};
use crate::ir::{Decision, Family, PolicyIr};

/// Register of the column, later of the outcome's number.
pub(super) const COLUMN: Reg = Reg::R8;
/// Register of the class, later of the word.
pub(super) const WORD: Reg = Reg::R7;
/// Where both sides matter, register of what is known of the source meanwhile.
pub(super) const SOURCE: Reg = Reg::R6;

/// What the note of the part that finds the outcome begins with.
pub(super) const OUTCOME: &str = "outcome";

/// Emits the program.
pub(super) fn program(
    ir: &PolicyIr,
    dispatch: &Dispatch,
    addresses: &AddressLayout,
    maps: &FlatMaps,
) -> Result<Program, AsmError> {
    let mut b = Builder::default();
    let ends = Ends::new(&mut b, None);
    glue::state(&mut b, dispatch.uses(Side::Src) && dispatch.uses(Side::Dst))?;
    match &dispatch.tables {
        Tables::Cells(cells) if cells.defaults.len() == 1 && matches!(cells.table, Table::None) => {
            b.part(format!("{OUTCOME} of every packet"));
            b.push(Insn::mov(WORD, cells.defaults[0].0 as i32));
        }
        Tables::Cells(cells) => {
            column(&mut b, dispatch, maps, &ends)?;
            if let Some(side) = cells.side {
                class(&mut b, addresses, side, WORD)?;
            }
            cells::word(&mut b, cells, maps, &ends)?;
        }
        Tables::Cross(cross) => {
            column(&mut b, dispatch, maps, &ends)?;
            cross::word(&mut b, cross, dispatch.outcomes.are_narrow(), addresses, maps, &ends)?;
        }
        Tables::Bits(bits) => {
            column(&mut b, dispatch, maps, &ends)?;
            bits::word(&mut b, bits, dispatch.outcomes.are_narrow(), addresses, maps, &ends)?;
        }
    }
    outcome(&mut b, dispatch, maps, &ends)?;
    let mut program = b.finish("polc_policy".into())?;
    list_rules(&mut program, ir, dispatch);
    Ok(program)
}

/// For every decision that can be met: what it is, where it stands, and in how many
/// columns it is looked at. They stand before the look-up of the outcome, which
/// carries them all out.
fn list_rules(program: &mut Program, ir: &PolicyIr, dispatch: &Dispatch) {
    let columns = &dispatch.partition.columns;
    let total = columns.len();
    let decisions: Vec<Decision> = dispatch.partition.items.iter().map(|item| item.decision).collect();
    // By decision the last column that has it, counted from 1, and how many do.
    let mut seen: SecondaryMap<Decision, (u32, u32)> = SecondaryMap::with_capacity(ir.decisions.len());
    seen.resize(ir.decisions.len());
    for (column, items) in (1..).zip(columns.iter()) {
        for item in items {
            let (last, count) = &mut seen[decisions[*item as usize]];
            *count += u32::from(*last != column);
            *last = column;
        }
    }
    let Some(at) = program.notes.iter().position(|note| note.text.starts_with(OUTCOME)) else { return };
    let slot = program.notes[at].slot;
    let note = |text, at| Note { slot, kind: NoteKind::Rule, text, at, subject: None };
    let mut notes: Vec<Note> = seen
        .iter()
        .filter(|(_, (_, columns))| *columns > 0)
        .map(|(decision, (_, columns))| {
            let data = &ir.decisions[decision];
            // There may be as many as rules.
            let mut text = String::with_capacity(96);
            let _ = write!(text, "{decision}: ");
            text::push_decision(&mut text, data, ir.direction);
            text.extend([" ", data.action.as_str()]);
            if total > 1 {
                let _ = write!(text, ", {columns} of {total} columns");
            }
            note(text, data.at)
        })
        .collect();
    notes.push(note("the table entry names one of these".into(), None));
    program.notes.splice(at + 1..at + 1, notes);
}

/// Leaves the class of a side's address in `to`.
pub(super) fn class(b: &mut Builder, addresses: &AddressLayout, side: Side, to: Reg) -> Result<(), AsmError> {
    let (name, address) = match side {
        Side::Src => ("src", STATE_SRC),
        Side::Dst => ("dst", STATE_DST),
    };
    b.part(format!("class of the {name} address"));
    addresses.emit(b.assembler(), LookUp { state: STATE, address, class: to, first_map: 0 })
}

/// Leaves the column in [`COLUMN`].
fn column(b: &mut Builder, dispatch: &Dispatch, maps: &FlatMaps, ends: &Ends) -> Result<(), AsmError> {
    const FOUND: Reg = WORD;
    b.part("column of protocol and ports");
    if dispatch.partition.columns.len() == 1 && maps.pairs.is_none() {
        b.push(Insn::mov(COLUMN, 0));
        return Ok(());
    }
    let to = if maps.pairs.is_some() { FOUND } else { COLUMN };
    let likely = if maps.ports.access == Access::Direct { dispatch.ports.likely() } else { None };
    axis(b, &maps.ports, likely, 0, &[STATE_DPORT, STATE_ICMP_TYPE], to, ends)?;
    let Some(pairs) = maps.pairs else { return Ok(()) };
    b.part("column with the source port");
    axis(b, &maps.ports, None, DIRECTORY, &[STATE_SPORT], COLUMN, ends)?;
    b.push(Insn::alu(AluOp::Mul, FOUND, dispatch.ports.width as i32));
    b.push(Insn::alu(AluOp::Add, FOUND, COLUMN));
    paged(b, &pairs, FOUND, Size::B2, COLUMN, ends);
    Ok(())
}

/// Three steps from the packet to a number: directory, index, page. For the likely
/// packets the first step is a compare. Loses [`COLUMN`].
fn axis(
    b: &mut Builder,
    pages: &Values,
    likely: Option<Likely>,
    directory: usize,
    fields: &[Field],
    found: Reg,
    ends: &Ends,
) -> Result<(), AsmError> {
    const AXIS: Reg = COLUMN;
    let (other, page) = (b.label(), b.label());
    if let Some(likely) = likely {
        jump_unless(b, likely, other);
        b.load_map_value(Reg::R0, pages.map, u32::from(likely.index) * pages.size);
        b.push(Insn::load(Size::B1, Reg::R1, STATE, STATE_DPORT.offset + 1));
        b.load_element(Size::B2, Reg::R1, Reg::R1);
        // The low byte, from where it lies: nothing has to be cut off the port.
        b.push(Insn::load(Size::B1, AXIS, STATE, STATE_DPORT.offset));
        b.jump(page);
    }
    b.bind(other)?;
    // All but one of the fields are 0.
    for (i, field) in fields.iter().enumerate() {
        let to = if i == 0 { AXIS } else { Reg::R2 };
        b.push(Insn::load(Size::B2, to, STATE, field.offset));
        if i > 0 {
            b.push(Insn::alu(AluOp::Or, AXIS, Reg::R2));
        }
    }
    b.load_field(STATE_FLAGS);
    b.mask(3);
    b.push(Insn::load(Size::B1, Reg::R2, STATE, STATE_FAMILY.offset));
    // 4 or 6: the bit that tells them apart, moved beyond the flags. Sums, since the
    // verifiers of Linux 5.10 and 6.1 take the result of `or` for unbounded.
    b.push(Insn::alu(AluOp::And, Reg::R2, 2));
    b.push(Insn::alu(AluOp::Lsh, Reg::R2, 1));
    b.push(Insn::alu(AluOp::Add, Reg::R1, Reg::R2));
    if directory > 0 {
        b.push(Insn::alu(AluOp::Add, Reg::R1, directory as i32));
    }
    b.point(pages, Index::Reg(Reg::R1, (directory + DIRECTORY) as u64), ends.no_table);
    b.push(Insn::load(Size::B1, Reg::R1, STATE, STATE_PROTOCOL.offset));
    b.load_element(Size::B2, Reg::R1, Reg::R1);
    b.point(pages, Reg::R1, ends.no_table);
    b.push(Insn::mov(Reg::R1, AXIS));
    b.push(Insn::alu(AluOp::Rsh, Reg::R1, 8));
    b.push(Insn::alu(AluOp::And, Reg::R1, 0xff));
    b.load_element(Size::B2, Reg::R1, Reg::R1);
    b.push(Insn::alu(AluOp::And, AXIS, 0xff));
    b.bind(page)?;
    b.load_in(pages, Reg::R1, (AXIS, Size::B2), found, ends.no_table);
    Ok(())
}

/// Goes to `other` with a packet that is none of the likely ones.
fn jump_unless(b: &mut Builder, likely: Likely, other: Label) {
    match likely.family {
        None => {
            b.load_field(STATE_PROTOCOL);
            b.jump_if(Cond::Ne, likely.protocol.into(), other);
        }
        Some(family) => {
            // Both at once: the protocol is the byte behind the family.
            b.push(Insn::load(Size::B2, Reg::R1, STATE, STATE_FAMILY.offset));
            let family = if family == Family::V4 { 4 } else { 6 };
            b.jump_if(Cond::Ne, u16::from_le_bytes([family, likely.protocol]).into(), other);
        }
    }
    b.load_field(STATE_FLAGS);
    b.mask(FLAG_PORTS | FLAG_ICMP);
    b.jump_if(Cond::Ne, FLAG_PORTS, other);
}

/// Loads element `index` of an array whose values hold 256 of them. The index, in one of
/// the registers that calls keep, is lost if the element comes there.
pub(super) fn paged(b: &mut Builder, values: &Values, index: Reg, size: Size, to: Reg, ends: &Ends) {
    let spent = index == to;
    if values.access == Access::Direct {
        // One value behind the other: the element's place needs no page.
        let elements = Values { size: size.bytes().into(), count: values.count * PAGE as u32, ..*values };
        b.point(&elements, if spent { Index::Spent(index) } else { index.into() }, ends.no_table);
        b.push(Insn::load(size, to, Reg::R0, 0));
        return;
    }
    b.push(Insn::mov(Reg::R1, index));
    b.push(Insn::alu(AluOp::Rsh, Reg::R1, 8));
    b.point(values, Reg::R1, ends.no_table);
    b.push(Insn::mov(Reg::R1, index));
    b.push(Insn::alu(AluOp::And, Reg::R1, 0xff));
    b.load_element(size, Reg::R1, to);
}

/// From the word to the verdict.
fn outcome(b: &mut Builder, dispatch: &Dispatch, maps: &FlatMaps, ends: &Ends) -> Result<(), AsmError> {
    const NUMBER: Reg = COLUMN;
    b.part("decision");
    b.push(Insn::mov(NUMBER, WORD));
    b.push(Insn::alu(AluOp::Rsh, NUMBER, 1));
    let stored = b.label();
    if let Some(outcomes) = maps.outcomes {
        let simple = b.named_label("simple");
        b.jump_if_reg(Cond::Lt, NUMBER, dispatch.outcomes.simple() as i32, simple);
        b.part("an outcome with logged or passed rules");
        b.push(Insn::mov(Reg::R1, NUMBER));
        b.push(Insn::alu(AluOp::Sub, Reg::R1, dispatch.outcomes.simple() as i32));
        b.point(&outcomes, Reg::R1, ends.no_table);
        for (at, field) in [(0, STATE_DECISION), (4, STATE_LOGGED), (8, STATE_LOG_DECISION)] {
            b.push(Insn::load(Size::B4, Reg::R1, Reg::R0, at));
            b.store_field(field, Reg::R1);
        }
        b.jump(stored);
        b.bind(simple)?;
        b.part("an outcome of one decision");
    }
    b.store_field(STATE_DECISION, NUMBER);
    b.bind(stored)?;
    if let Some(hits) = maps.hits {
        b.part("counter of the outcome");
        b.count(hits, NUMBER, ends.no_table);
    }
    b.part("verdict");
    b.push(Insn::alu(AluOp::And, WORD, 1));
    b.jump_if_reg(Cond::Eq, WORD, 0, ends.deny);
    ends.emit(b)
}
