//! From column and class to the word: the cells form.

use super::builder::Builder;
use super::flat::{COLUMN, OUTCOME, WORD, paged};
use super::flat_maps::{FlatMaps, FormMaps};
use super::glue::Ends;
use crate::bpf::{AluOp, AsmError, Cond, Index, Insn, Reg, Size, Values};
use crate::dispatch::cells::{CLASS_BITS, COLUMN_BITS, Cells, SLOTS, Table};

/// Leaves the word in [`WORD`], where the class was; the column is in [`COLUMN`].
pub(super) fn word(b: &mut Builder, cells: &Cells, maps: &FlatMaps, ends: &Ends) -> Result<(), AsmError> {
    let FormMaps::Cells { defaults, cells: map } = maps.form else { return Ok(()) };
    match (&cells.table, map, defaults) {
        (Table::Dense { narrow, .. }, Some(map), _) => {
            b.part(format!("{OUTCOME} of the class in the column"));
            b.point(&map, WORD, ends.no_table);
            b.jump_if_reg(Cond::Ge, COLUMN, cells.defaults.len() as i32, ends.no_table);
            b.push(Insn::mov(Reg::R1, COLUMN));
            b.load_element(if *narrow { Size::B2 } else { Size::B4 });
            b.push(Insn::mov(WORD, Reg::R1));
            Ok(())
        }
        (Table::Sparse { bits, multiplier, .. }, Some(map), Some(defaults)) => {
            sparse(b, *bits, *multiplier, &map, &defaults, ends)
        }
        (_, _, Some(defaults)) => {
            default(b, &defaults, ends);
            Ok(())
        }
        // There are always defaults where cells are not dense.
        (_, _, None) => {
            b.jump(ends.no_table);
            Ok(())
        }
    }
}

/// Ors the words of all slots that hold the key: at most one does. Without a branch
/// per slot, since which one it is no predictor can know.
fn sparse(
    b: &mut Builder,
    bits: u32,
    multiplier: u64,
    map: &Values,
    defaults: &Values,
    ends: &Ends,
) -> Result<(), AsmError> {
    const KEY: Reg = WORD;
    const FOUND: Reg = Reg::R1;
    const SLOT: Reg = Reg::R3;
    const OTHER: Reg = Reg::R4;
    const NEGATIVE: Reg = Reg::R5;
    let key_bits = (CLASS_BITS + COLUMN_BITS) as i32;
    b.part(format!("{OUTCOME} of the class in the column, where it differs from the column's"));
    b.push(Insn::mov(Reg::R1, COLUMN));
    b.push(Insn::alu(AluOp::Lsh, Reg::R1, CLASS_BITS as i32));
    b.push(Insn::alu(AluOp::Or, KEY, Reg::R1));
    b.push(Insn::LoadImm64 { dst: Reg::R1, imm: multiplier });
    b.push(Insn::alu(AluOp::Mul, Reg::R1, KEY));
    b.push(Insn::alu(AluOp::Rsh, Reg::R1, 64 - bits as i32));
    b.point(map, Index::Reg(Reg::R1, 1 << bits), ends.no_table);
    b.push(Insn::mov(FOUND, 0));
    for slot in 0..SLOTS {
        b.push(Insn::load(Size::B8, SLOT, Reg::R0, slot as i16 * 8));
        b.push(Insn::mov(OTHER, SLOT));
        b.push(Insn::alu(AluOp::Xor, OTHER, KEY));
        b.push(Insn::alu(AluOp::Lsh, OTHER, 64 - key_bits));
        // All ones where the keys differ, else zero.
        b.push(Insn::mov(NEGATIVE, OTHER));
        b.push(Insn::Neg { width: crate::bpf::Width::W64, dst: NEGATIVE });
        b.push(Insn::alu(AluOp::Or, OTHER, NEGATIVE));
        b.push(Insn::alu(AluOp::Arsh, OTHER, 63));
        b.push(Insn::alu(AluOp::Xor, OTHER, -1));
        b.push(Insn::alu(AluOp::And, OTHER, SLOT));
        b.push(Insn::alu(AluOp::Or, FOUND, OTHER));
    }
    b.push(Insn::alu(AluOp::Rsh, FOUND, key_bits));
    let (none, done) = (b.label(), b.label());
    b.jump_if_reg(Cond::Eq, FOUND, 0, none);
    b.push(Insn::mov(WORD, FOUND));
    b.push(Insn::alu(AluOp::Sub, WORD, 1));
    b.jump(done);
    b.bind(none)?;
    default(b, defaults, ends);
    b.bind(done)
}

fn default(b: &mut Builder, defaults: &Values, ends: &Ends) {
    b.part(format!("{OUTCOME} of the column"));
    paged(b, defaults, COLUMN, Size::B4, ends);
    b.push(Insn::mov(WORD, Reg::R1));
}
