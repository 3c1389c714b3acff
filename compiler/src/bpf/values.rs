//! The values of an array map, and the code that points to one of them.
//!
//! ```text
//! direct    r0 = value[map] + index × size                         six instructions
//! look-up   key on the stack, call bpf_map_lookup_elem (inlined)   some fifteen
//! ```
//!
//! Direct: all values are one value of the loaded map, so that its address is a
//! constant of the program. The kernel takes that for arrays of one value; Linux 5.10
//! takes no value above 4 MiB, so larger arrays are looked into.
//!
//! Why sound: unless it is known to be below the count, the index is compared with it
//! before it is used, which is also what the verifier wants to see.

use super::asm::{Assembler, Label};
use super::insn::{AluOp, Cond, Helper, Insn, MapRef, Operand, Reg, Size, Width};

/// How code reaches a value.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// At a constant address plus an offset.
    Direct,
    /// By `bpf_map_lookup_elem`.
    LookUp,
}

/// An array map's values.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Values {
    /// The map.
    pub map: MapRef,
    /// Bytes of a value.
    pub size: u32,
    /// Number of values.
    pub count: u32,
    /// How they are reached.
    pub access: Access,
}

/// Which value.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Index {
    /// The first.
    First,
    /// The one that a register numbers; what the verifier knows it to be below.
    Reg(Reg, u64),
    /// Likewise, by a register that is not needed any more: a copy less.
    Spent(Reg),
}

impl From<Reg> for Index {
    /// A register of which nothing is known.
    fn from(reg: Reg) -> Self {
        Self::Reg(reg, u64::MAX)
    }
}

impl Assembler {
    /// Leaves the address of a value in `R0`, or goes to `missing` if there is none.
    /// Loses `R1` to `R5`, and the four bytes at `R10 + key`; the index may be in any
    /// register but `R0` and is kept from `R6` on.
    pub fn point(&mut self, values: &Values, index: impl Into<Index>, key: i16, missing: Label) {
        let index = index.into();
        match (values.access, index) {
            (Access::Direct, Index::First) => self.load_map_value(Reg::R0, values.map, 0),
            (Access::Direct, Index::Reg(reg, _) | Index::Spent(reg)) => {
                let below = if let Index::Reg(_, below) = index { below } else { u64::MAX };
                // A count beyond what the compare holds is more than any index.
                if let Ok(count) = i32::try_from(values.count)
                    && below > u64::from(values.count)
                {
                    self.jump_if(Width::W64, Cond::Ge, reg, count, missing);
                }
                let scaled = if matches!(index, Index::Spent(_)) { reg } else { Reg::R1 };
                if scaled != reg {
                    self.push(Insn::mov(scaled, reg));
                }
                self.scale(scaled, values.size);
                self.load_map_value(Reg::R0, values.map, 0);
                self.push(Insn::alu(AluOp::Add, Reg::R0, scaled));
            }
            (Access::LookUp, index) => {
                let index = match index {
                    Index::First => Operand::Imm(0),
                    Index::Reg(reg, _) | Index::Spent(reg) => Operand::Reg(reg),
                };
                self.push(Insn::store(Size::B4, Reg::R10, key, index));
                self.push(Insn::mov(Reg::R2, Reg::R10));
                self.push(Insn::alu(AluOp::Add, Reg::R2, i32::from(key)));
                self.load_map(Reg::R1, values.map);
                self.call(Helper::MAP_LOOKUP_ELEM);
                self.jump_if(Width::W64, Cond::Eq, Reg::R0, 0, missing);
            }
        }
    }

    /// Multiplies by a constant.
    pub fn scale(&mut self, reg: Reg, by: u32) {
        match by {
            1 => {}
            by if by.is_power_of_two() => {
                self.push(Insn::alu(AluOp::Lsh, reg, by.trailing_zeros() as i32));
            }
            by => self.push(Insn::alu(AluOp::Mul, reg, by as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: Values, index: impl Into<Index>) -> String {
        let mut a = Assembler::new();
        let missing = a.new_label();
        a.point(&values, index, -4, missing);
        a.bind(missing).unwrap();
        a.push(Insn::Exit);
        let code = a.finish().unwrap();
        code.insns().iter().map(|i| i.to_string()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn both_ways_check_the_index() {
        let direct = Values { map: MapRef::Private(1), size: 64, count: 5, access: Access::Direct };
        assert_eq!(
            text(direct, Reg::R7),
            "if r7 >= 0x5 goto +5; r1 = r7; r1 <<= 6; r0 = value[private 1]; r0 += r1; exit"
        );
        assert_eq!(
            text(Values { size: 24, ..direct }, Reg::R1),
            "if r1 >= 0x5 goto +4; r1 *= 24; r0 = value[private 1]; r0 += r1; exit"
        );
        let known = Index::Reg(Reg::R1, 5);
        assert_eq!(text(direct, known), "r1 <<= 6; r0 = value[private 1]; r0 += r1; exit");
        assert_eq!(text(direct, Index::First), "r0 = value[private 1]; exit");
        assert_eq!(
            text(direct, Index::Spent(Reg::R7)),
            "if r7 >= 0x5 goto +4; r7 <<= 6; r0 = value[private 1]; r0 += r7; exit"
        );
        assert_eq!(
            text(Values { access: Access::LookUp, ..direct }, Reg::R7),
            "*(u32 *)(r10 - 4) = r7; r2 = r10; r2 += -4; r1 = map[private 1]; call bpf_map_lookup_elem#1; \
             if r0 == 0x0 goto +0; exit"
        );
    }
}
