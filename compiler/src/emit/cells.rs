//! From column and class to the word: the cells form.

use super::builder::Builder;
use super::flat::{COLUMN, OUTCOME, WORD, paged};
use super::flat_maps::{FlatMaps, FormMaps};
use super::glue::Ends;
use crate::bpf::{AluOp, Cond, Insn, Reg, Size, Values, Width};
use crate::dispatch::cells::{Cells, Table};

/// Leaves the word in [`WORD`], where the class was; the column is in [`COLUMN`].
pub(super) fn word(b: &mut Builder, cells: &Cells, maps: &FlatMaps, ends: &Ends) {
    match (&cells.table, maps.form) {
        (Table::None, FormMaps::None { defaults }) => {
            b.part(format!("{OUTCOME} of the column"));
            paged(b, &defaults, COLUMN, Size::B4, ends);
            b.push(Insn::mov(WORD, Reg::R1));
        }
        (Table::Dense { narrow, .. }, FormMaps::Dense { words }) => {
            b.part(format!("{OUTCOME} of the class in the column"));
            b.point(&words, WORD, ends.no_table);
            b.jump_if_reg(Cond::Ge, COLUMN, cells.defaults.len() as i32, ends.no_table);
            b.push(Insn::mov(Reg::R1, COLUMN));
            b.load_element(if *narrow { Size::B2 } else { Size::B4 });
            b.push(Insn::mov(WORD, Reg::R1));
        }
        (Table::Sparse(comb), FormMaps::Sparse { bases, entries }) => {
            sparse(b, comb.narrow, &bases, &entries, ends);
        }
        // The maps are those of the table.
        _ => b.jump(ends.no_table),
    }
}

/// The word of the entry at the class's base, if that is its own, else the column's
/// default. Both are loaded: which one counts no predictor can know.
fn sparse(b: &mut Builder, narrow: bool, bases: &Values, entries: &Values, ends: &Ends) {
    const ENTRY: Reg = Reg::R1;
    const BASE: Reg = Reg::R2;
    /// Where the own word's place is when it counts, beside the word.
    const OWN: i32 = 40;
    let (size, shift) = if narrow { (Size::B4, 16) } else { (Size::B8, 32) };
    b.part(format!("{OUTCOME} of the class in the column, where it differs from the column's"));
    paged(b, bases, WORD, Size::B4, ends);
    b.push(Insn::mov(WORD, Reg::R1));
    b.push(Insn::alu(AluOp::Add, WORD, COLUMN));
    paged(b, entries, WORD, size, ends);
    b.push(Insn::alu(AluOp::Sub, WORD, COLUMN));
    b.push(Insn::mov(BASE, ENTRY));
    b.push(Insn::alu(AluOp::Rsh, BASE, shift));
    // All ones where the bases are equal, else zero.
    b.push(Insn::alu(AluOp::Xor, WORD, BASE));
    b.push(Insn::alu(AluOp::Sub, WORD, 1));
    b.push(Insn::alu(AluOp::Arsh, WORD, 63));
    word_of(b, narrow);
    b.push(Insn::alu(AluOp::And, ENTRY, WORD));
    b.push(Insn::alu(AluOp::And, WORD, 1));
    b.push(Insn::alu(AluOp::Lsh, WORD, OWN));
    b.push(Insn::alu(AluOp::Or, WORD, ENTRY));
    b.part(format!("{OUTCOME} of the column, if it does not"));
    paged(b, entries, COLUMN, size, ends);
    word_of(b, narrow);
    b.push(Insn::mov(BASE, WORD));
    b.push(Insn::alu(AluOp::Rsh, BASE, OWN));
    b.push(Insn::alu(AluOp::Sub, BASE, 1));
    b.push(Insn::alu(AluOp::And, ENTRY, BASE));
    b.push(Insn::alu(AluOp::Or, WORD, ENTRY));
    b.push(Insn::Alu { width: Width::W32, op: AluOp::Mov, dst: WORD, src: WORD.into() });
}

/// Leaves the word of the entry in `r1` there.
fn word_of(b: &mut Builder, narrow: bool) {
    b.push(match narrow {
        true => Insn::alu(AluOp::And, Reg::R1, 0xffff),
        false => Insn::Alu { width: Width::W32, op: AluOp::Mov, dst: Reg::R1, src: Reg::R1.into() },
    });
}
