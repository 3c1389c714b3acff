//! One instruction: what the kernel's documentation of the instruction set
//! (`Documentation/bpf/standardization/instruction-set.rst`) says it does.

use polc_compiler::bpf::{AluOp, ByteOrder, Cond, Helper, Insn, Operand, Reg, Size, SwapBits, Width};

use super::super::world::World;
use crate::sys::{Helpers, Stack};

/// Where control goes after an instruction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To the next instruction.
    Goes,
    /// This many slots further than the next slot.
    Jumps(i16),
    /// Out of the program: an exit, or a tail call that is taken.
    Ends,
}

/// Registers of a running program.
pub(super) struct Frame {
    regs: [u64; 11],
}

impl Frame {
    /// A program that starts: context in r1, end of the stack in r10.
    pub fn new(context: u64, stack_end: u64) -> Self {
        let mut regs = [0; 11];
        regs[1] = context;
        regs[10] = stack_end;
        Self { regs }
    }

    /// r0.
    pub fn result(&self) -> u64 {
        self.regs[0]
    }

    fn get(&self, reg: Reg) -> u64 {
        self.regs[usize::from(reg.number())]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[usize::from(reg.number())] = value;
    }

    fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => i64::from(imm) as u64,
        }
    }

    /// Runs one instruction; map references must have been resolved.
    pub fn step(&mut self, insn: &Insn, world: &mut World) -> Result<Next, String> {
        match *insn {
            Insn::Alu { width, op, dst, src } => {
                let value = alu(width, op, self.get(dst), self.operand(src));
                self.set(dst, value);
            }
            Insn::Neg { width, dst } => {
                let value = alu(width, AluOp::Sub, 0, self.get(dst));
                self.set(dst, value);
            }
            Insn::Swap { order, bits, dst } => {
                let value = swap(order, bits, self.get(dst));
                self.set(dst, value);
            }
            Insn::Load { size, dst, base, off } => {
                let value = load(world, self.address(base, off), size)?;
                self.set(dst, value);
            }
            Insn::Store { size, base, off, src } => {
                store(world, self.address(base, off), size, self.operand(src))?;
            }
            Insn::LoadImm64 { dst, imm } => self.set(dst, imm),
            Insn::LoadMap { map, .. } | Insn::LoadMapValue { map, .. } => {
                return Err(format!("unresolved map {map:?}"));
            }
            Insn::Jump { off } => return Ok(Next::Jumps(off)),
            Insn::JumpIf { width, cond, dst, src, off } => {
                if holds(width, cond, self.get(dst), self.operand(src)) {
                    return Ok(Next::Jumps(off));
                }
            }
            Insn::Call(helper) => return self.call(helper, world),
            Insn::Exit => return Ok(Next::Ends),
        }
        Ok(Next::Goes)
    }

    fn address(&self, base: Reg, off: i16) -> u64 {
        self.get(base).wrapping_add_signed(i64::from(off))
    }

    /// Arguments are lost, as the verifier lets nobody read them again.
    fn call(&mut self, helper: Helper, world: &mut World) -> Result<Next, String> {
        let number = u32::try_from(helper.0).map_err(|_| format!("helper {}", helper.0))?;
        let args = [self.regs[1], self.regs[2], self.regs[3], self.regs[4], self.regs[5]];
        self.regs[0] = world.call(number, args, Stack::NONE);
        self.regs[1..=5].fill(0);
        // A fault of the helper ends the run; the caller reports it.
        Ok(if world.next.is_some() || world.fault.is_some() { Next::Ends } else { Next::Goes })
    }
}

/// Shifts count modulo the width; a division by zero gives 0, a remainder leaves
/// the dividend.
fn alu(width: Width, op: AluOp, a: u64, b: u64) -> u64 {
    match width {
        Width::W64 => match op {
            AluOp::Add => a.wrapping_add(b),
            AluOp::Sub => a.wrapping_sub(b),
            AluOp::Mul => a.wrapping_mul(b),
            AluOp::Div => a.checked_div(b).unwrap_or(0),
            AluOp::Or => a | b,
            AluOp::And => a & b,
            AluOp::Lsh => a.wrapping_shl(b as u32),
            AluOp::Rsh => a.wrapping_shr(b as u32),
            AluOp::Mod => a.checked_rem(b).unwrap_or(a),
            AluOp::Xor => a ^ b,
            AluOp::Mov => b,
            AluOp::Arsh => (a as i64).wrapping_shr(b as u32) as u64,
        },
        Width::W32 => u64::from(alu32(op, a as u32, b as u32)),
    }
}

fn alu32(op: AluOp, a: u32, b: u32) -> u32 {
    match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Lsh => a.wrapping_shl(b),
        AluOp::Rsh => a.wrapping_shr(b),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::Xor => a ^ b,
        AluOp::Mov => b,
        AluOp::Arsh => (a as i32).wrapping_shr(b) as u32,
    }
}

fn swap(order: ByteOrder, bits: SwapBits, value: u64) -> u64 {
    match (bits, order) {
        (SwapBits::B16, ByteOrder::Big) => u64::from((value as u16).to_be()),
        (SwapBits::B16, ByteOrder::Little) => u64::from((value as u16).to_le()),
        (SwapBits::B32, ByteOrder::Big) => u64::from((value as u32).to_be()),
        (SwapBits::B32, ByteOrder::Little) => u64::from((value as u32).to_le()),
        (SwapBits::B64, ByteOrder::Big) => value.to_be(),
        (SwapBits::B64, ByteOrder::Little) => value.to_le(),
    }
}

fn holds(width: Width, cond: Cond, a: u64, b: u64) -> bool {
    // Sign extension keeps the order of 32-bit values, signed and unsigned.
    let (a, b) = match width {
        Width::W64 => (a, b),
        Width::W32 => (i64::from(a as i32) as u64, i64::from(b as i32) as u64),
    };
    let (signed_a, signed_b) = (a as i64, b as i64);
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Set => a & b != 0,
        Cond::SignedGt => signed_a > signed_b,
        Cond::SignedGe => signed_a >= signed_b,
        Cond::SignedLt => signed_a < signed_b,
        Cond::SignedLe => signed_a <= signed_b,
    }
}

fn load(world: &World, address: u64, size: Size) -> Result<u64, String> {
    let mut bytes = [0; 8];
    let wanted = bytes.get_mut(..usize::from(size.bytes())).unwrap_or_default();
    if !world.arena.read(address, wanted) {
        return Err(format!("reads {} bytes at {address:#x}, outside of its memory", size.bytes()));
    }
    let [a, b, c, d, ..] = bytes;
    Ok(match size {
        Size::B1 => u64::from(a),
        Size::B2 => u64::from(u16::from_ne_bytes([a, b])),
        Size::B4 => u64::from(u32::from_ne_bytes([a, b, c, d])),
        Size::B8 => u64::from_ne_bytes(bytes),
    })
}

fn store(world: &World, address: u64, size: Size, value: u64) -> Result<(), String> {
    let written = match size {
        Size::B1 => world.arena.write(address, &(value as u8).to_ne_bytes()),
        Size::B2 => world.arena.write(address, &(value as u16).to_ne_bytes()),
        Size::B4 => world.arena.write(address, &(value as u32).to_ne_bytes()),
        Size::B8 => world.arena.write(address, &value.to_ne_bytes()),
    };
    if written {
        return Ok(());
    }
    Err(format!("writes {} bytes at {address:#x}, outside of its memory", size.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_as_the_instruction_set_has_it() {
        use AluOp::*;
        use Width::*;
        let cases = [
            (W64, Add, u64::MAX, 2, 1),
            (W32, Add, 0xffff_ffff, 2, 1),
            (W32, Mov, 7, u64::MAX, 0xffff_ffff),
            (W64, Div, 7, 0, 0),
            (W64, Mod, 7, 0, 7),
            (W32, Mod, 0x1_0000_0007, 0, 7),
            (W64, Lsh, 1, 65, 2),
            (W32, Lsh, 1, 33, 2),
            (W64, Arsh, u64::MAX << 4, 2, u64::MAX << 2),
            (W32, Arsh, 0x8000_0000, 31, 0xffff_ffff),
            (W64, Rsh, u64::MAX, 63, 1),
            (W64, And, 0xff, u64::MAX << 4, 0xf0),
            (W64, Sub, 0, 1, u64::MAX),
            (W64, Xor, 5, 1, 4),
            (W64, Or, 4, 1, 5),
            (W32, Mul, 0x1_0000, 0x1_0000, 0),
            (W32, Div, 9, 2, 4),
        ];
        for (width, op, a, b, want) in cases {
            assert_eq!(alu(width, op, a, b), want, "{width:?} {op:?} {a:#x} {b:#x}");
        }
    }

    #[test]
    fn compares_at_both_widths() {
        use Cond::*;
        use Width::*;
        let minus = i64::from(-1i32) as u64;
        let cases = [
            (W64, Eq, 0xffff_ffff, minus, false),
            (W32, Eq, 0xffff_ffff, minus, true),
            (W32, Gt, minus, 1, true),
            (W32, SignedGt, minus, 1, false),
            (W32, SignedLt, 0x8000_0000, 0, true),
            (W64, SignedLt, 0x8000_0000, 0, false),
            (W32, Lt, 0x1_0000_0000, 1, true),
            (W64, Lt, 0x1_0000_0000, 1, false),
            (W64, Set, 6, 2, true),
            (W64, Set, 4, 2, false),
            (W32, Set, 0x1_0000_0000, 0x1_0000_0000, false),
            (W64, Ge, 2, 2, true),
            (W64, Le, 3, 2, false),
            (W64, Ne, 3, 2, true),
            (W64, SignedGe, 2, minus, true),
            (W64, SignedLe, minus, 2, true),
        ];
        for (width, cond, a, b, want) in cases {
            assert_eq!(holds(width, cond, a, b), want, "{width:?} {cond:?} {a:#x} {b:#x}");
        }
    }

    #[test]
    fn swaps_keep_the_low_bits() {
        assert_eq!(swap(ByteOrder::Big, SwapBits::B16, 0xaa_1234), u64::from(0x1234u16.to_be()));
        assert_eq!(swap(ByteOrder::Little, SwapBits::B32, 0x1_0000_0002), u64::from(2u32.to_le()));
        assert_eq!(swap(ByteOrder::Big, SwapBits::B64, 1), 1u64.to_be());
    }
}
