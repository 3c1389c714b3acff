//! From column and both classes to the word: the cross form.

use super::builder::Builder;
use super::flat::{COLUMN, OUTCOME, SOURCE, WORD, class, paged};
use super::flat_maps::{FlatMaps, FormMaps};
use super::glue::Ends;
use crate::address::AddressLayout;
use crate::bpf::{AluOp, AsmError, Cond, Index, Insn, Reg, Size, Values};
use crate::dispatch::Side;
use crate::dispatch::cross::Cross;

/// Offsets in a column's record.
const SRC: i16 = 0;
const DST: i16 = 4;
const BASE: i16 = 8;
const WIDTH: i16 = 12;

/// Leaves the word in [`WORD`]; the column is in [`COLUMN`], which is lost.
pub(super) fn word(
    b: &mut Builder,
    cross: &Cross,
    is_narrow: bool,
    addresses: &AddressLayout,
    maps: &FlatMaps,
    ends: &Ends,
) -> Result<(), AsmError> {
    let FormMaps::Cross { columns, sides, words } = maps.form else { return Ok(()) };
    b.part("record of the column");
    b.point(&columns, Index::Spent(COLUMN), ends.no_table);
    const RECORD: Reg = COLUMN;
    b.push(Insn::mov(RECORD, Reg::R0));
    let (src, dst) = (cross.uses(Side::Src), cross.uses(Side::Dst));
    if src {
        class(b, addresses, Side::Src, WORD)?;
        id(b, cross, SRC, RECORD, &sides, ends);
        b.push(Insn::load(Size::B4, Reg::R2, RECORD, WIDTH));
        b.push(Insn::alu(AluOp::Mul, Reg::R1, Reg::R2));
    }
    if dst {
        if src {
            b.push(Insn::mov(SOURCE, Reg::R1));
        }
        class(b, addresses, Side::Dst, WORD)?;
        id(b, cross, DST, RECORD, &sides, ends);
        if src {
            b.push(Insn::alu(AluOp::Add, Reg::R1, SOURCE));
        }
    }
    b.push(Insn::load(Size::B4, WORD, RECORD, BASE));
    if src || dst {
        b.push(Insn::alu(AluOp::Add, WORD, Reg::R1));
    }
    b.part(format!("{OUTCOME} of both ids in the column"));
    paged(b, &words, WORD, if is_narrow { Size::B2 } else { Size::B4 }, WORD, ends);
    Ok(())
}

/// Loads the id of the class in [`WORD`] into `r1`.
fn id(b: &mut Builder, cross: &Cross, row: i16, record: Reg, sides: &Values, ends: &Ends) {
    b.part("id of the class in the column");
    b.push(Insn::load(Size::B4, Reg::R1, record, row));
    b.point(sides, Index::Spent(Reg::R1), ends.no_table);
    let size = if cross.short { Size::B1 } else { Size::B2 };
    b.jump_if_reg(Cond::Ge, WORD, (sides.size / u32::from(size.bytes())) as i32, ends.no_table);
    b.load_element(size, WORD, Reg::R1);
}
