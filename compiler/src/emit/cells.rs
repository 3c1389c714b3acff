//! From column and class to the word: the cells form.

use super::builder::Builder;
use super::flat::{COLUMN, OUTCOME, WORD, paged};
use super::flat_maps::{FlatMaps, FormMaps};
use super::glue::Ends;
use crate::bpf::{AluOp, AsmError, Cond, Insn, Reg, Size, Values, Width};
use crate::dispatch::cells::{Cells, Table};

/// Leaves the word in [`WORD`], where the class was; the column is in [`COLUMN`].
pub(super) fn word(b: &mut Builder, cells: &Cells, maps: &FlatMaps, ends: &Ends) -> Result<(), AsmError> {
    match (&cells.table, maps.form) {
        (Table::None, FormMaps::None { defaults }) => {
            b.part(format!("{OUTCOME} of the column"));
            paged(b, &defaults, COLUMN, Size::B4, WORD, ends);
        }
        (Table::Dense { narrow, .. }, FormMaps::Dense { words }) => {
            b.part(format!("{OUTCOME} of the class in the column"));
            b.jump_if_reg(Cond::Ge, COLUMN, cells.defaults.len() as i32, ends.no_table);
            let word = if *narrow { Size::B2 } else { Size::B4 };
            b.load_in(&words, WORD, (COLUMN, word), WORD, ends.no_table);
        }
        (Table::Sparse(comb), FormMaps::Sparse { bases, entries }) => {
            sparse(b, comb.narrow, &bases, &entries, ends)?;
        }
        // The maps are those of the table.
        _ => b.jump(ends.no_table),
    }
    Ok(())
}

/// The word of the entry at the class's base, if that is its own, else the column's
/// default. A branch that nobody foresees half the time costs less than to wait for both.
fn sparse(
    b: &mut Builder,
    narrow: bool,
    bases: &Values,
    entries: &Values,
    ends: &Ends,
) -> Result<(), AsmError> {
    const ENTRY: Reg = Reg::R1;
    const OWNER: Reg = Reg::R2;
    let (size, shift) = if narrow { (Size::B4, 16) } else { (Size::B8, 32) };
    b.part(format!("{OUTCOME} of the class in the column, where it differs from the column's"));
    paged(b, bases, WORD, Size::B4, WORD, ends);
    b.push(Insn::alu(AluOp::Add, WORD, COLUMN));
    paged(b, entries, WORD, size, ENTRY, ends);
    b.push(Insn::alu(AluOp::Sub, WORD, COLUMN));
    b.push(Insn::mov(OWNER, ENTRY));
    b.push(Insn::alu(AluOp::Rsh, OWNER, shift));
    let own = b.label();
    b.assembler().jump_if(Width::W64, Cond::Eq, OWNER, WORD, own);
    b.part(format!("{OUTCOME} of the column, if it does not"));
    paged(b, entries, COLUMN, size, ENTRY, ends);
    b.bind(own)?;
    b.push(match narrow {
        true => Insn::alu(AluOp::And, ENTRY, 0xffff),
        false => Insn::Alu { width: Width::W32, op: AluOp::Mov, dst: ENTRY, src: ENTRY.into() },
    });
    b.push(Insn::mov(WORD, ENTRY));
    Ok(())
}
