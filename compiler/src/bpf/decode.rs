//! Bytes to instructions: total, strict, and the inverse of [`super::encode`].
//!
//! Fields that an instruction does not use must be zero, so that accepted bytes
//! encode to themselves again.

use super::encode::{
    LDDW, MODE_MEM, OP_CALL, OP_END, OP_EXIT, OP_NEG, PSEUDO_MAP_FD, PSEUDO_MAP_VALUE, SRC_REG, class,
};
use super::insn::{AluOp, ByteOrder, Cond, Helper, Insn, MapRef, Operand, Reg, Size, SwapBits, Width};

/// Bytes are not a sequence of instructions that [`Insn`] can express.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The length is not a multiple of a slot's 8 bytes.
    #[error("{len} bytes are not a whole number of 8-byte slots")]
    Length {
        /// Length in bytes.
        len: usize,
    },
    /// Second half of a two-slot instruction missing or malformed.
    #[error("slot {slot}: 64-bit constant lacks its second half")]
    HalfConstant {
        /// Slot of the first half.
        slot: usize,
    },
    /// No such opcode in the supported instruction set.
    #[error("slot {slot}: opcode {opcode:#04x} is not supported")]
    Opcode {
        /// Slot.
        slot: usize,
        /// Opcode byte.
        opcode: u8,
    },
    /// A register number above 10.
    #[error("slot {slot}: register r{number} does not exist")]
    Register {
        /// Slot.
        slot: usize,
        /// Number found.
        number: u8,
    },
    /// A field that the instruction does not use is not zero, or selects a
    /// variant outside the supported set.
    #[error("slot {slot}: opcode {opcode:#04x} with an unsupported register, offset or constant field")]
    Field {
        /// Slot.
        slot: usize,
        /// Opcode byte.
        opcode: u8,
    },
}

/// One slot, split into its fields.
#[derive(Copy, Clone)]
struct Slot {
    at: usize,
    opcode: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

/// Decodes whole instructions.
///
/// # Errors
/// The first slot that is no instruction; see [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Insn>, DecodeError> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(DecodeError::Length { len: bytes.len() });
    }
    let mut slots = chunks.iter().enumerate().map(|(at, b)| Slot::new(at, b));
    let mut insns = Vec::with_capacity(chunks.len());
    while let Some(slot) = slots.next() {
        insns.push(if slot.opcode == LDDW { slot.constant(slots.next())? } else { slot.insn()? });
    }
    Ok(insns)
}

impl Slot {
    fn new(at: usize, b: &[u8; 8]) -> Self {
        Self {
            at,
            opcode: b[0],
            dst: b[1] & 0xf,
            src: b[1] >> 4,
            off: i16::from_le_bytes([b[2], b[3]]),
            imm: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    fn constant(self, next: Option<Self>) -> Result<Insn, DecodeError> {
        let high = match next {
            Some(Self { opcode: 0, dst: 0, src: 0, off: 0, imm, .. }) => imm,
            _ => return Err(DecodeError::HalfConstant { slot: self.at }),
        };
        self.require(self.off == 0)?;
        let dst = self.reg(self.dst)?;
        match self.src {
            0 => Ok(Insn::LoadImm64 { dst, imm: u64::from(high as u32) << 32 | u64::from(self.imm as u32) }),
            PSEUDO_MAP_FD => {
                self.require(high == 0)?;
                Ok(Insn::LoadMap { dst, map: MapRef::Fd(self.imm) })
            }
            PSEUDO_MAP_VALUE => {
                Ok(Insn::LoadMapValue { dst, map: MapRef::Fd(self.imm), offset: high as u32 })
            }
            _ => Err(self.bad_field()),
        }
    }

    fn insn(self) -> Result<Insn, DecodeError> {
        match self.opcode & 7 {
            class::ALU => self.alu(Width::W32),
            class::ALU64 => self.alu(Width::W64),
            class::JMP => self.jump(Width::W64),
            class::JMP32 => self.jump(Width::W32),
            class::LDX => self.load(),
            class::ST | class::STX => self.store(),
            _ => Err(self.bad_opcode()),
        }
    }

    fn alu(self, width: Width) -> Result<Insn, DecodeError> {
        self.require(self.off == 0)?;
        let dst = self.reg(self.dst)?;
        let op = match self.opcode & 0xf0 {
            OP_NEG => {
                if self.opcode & SRC_REG != 0 {
                    return Err(self.bad_opcode());
                }
                self.require(self.src == 0 && self.imm == 0)?;
                return Ok(Insn::Neg { width, dst });
            }
            OP_END => return self.swap(width, dst),
            bits => alu_op(bits).ok_or_else(|| self.bad_opcode())?,
        };
        Ok(Insn::Alu { width, op, dst, src: self.operand()? })
    }

    fn swap(self, width: Width, dst: Reg) -> Result<Insn, DecodeError> {
        if width == Width::W64 {
            return Err(self.bad_opcode());
        }
        self.require(self.src == 0)?;
        let order = if self.opcode & SRC_REG == 0 { ByteOrder::Little } else { ByteOrder::Big };
        let bits = match self.imm {
            16 => SwapBits::B16,
            32 => SwapBits::B32,
            64 => SwapBits::B64,
            _ => return Err(self.bad_field()),
        };
        Ok(Insn::Swap { order, bits, dst })
    }

    fn jump(self, width: Width) -> Result<Insn, DecodeError> {
        const JA: u8 = class::JMP;
        const CALL: u8 = class::JMP | OP_CALL;
        const EXIT: u8 = class::JMP | OP_EXIT;
        match self.opcode {
            JA => {
                self.require(self.dst == 0 && self.src == 0 && self.imm == 0)?;
                Ok(Insn::Jump { off: self.off })
            }
            CALL => {
                self.require(self.dst == 0 && self.src == 0 && self.off == 0)?;
                Ok(Insn::Call(Helper(self.imm)))
            }
            EXIT => {
                self.require(self.dst == 0 && self.src == 0 && self.off == 0 && self.imm == 0)?;
                Ok(Insn::Exit)
            }
            opcode => {
                let cond = cond(opcode & 0xf0).ok_or_else(|| self.bad_opcode())?;
                Ok(Insn::JumpIf {
                    width,
                    cond,
                    dst: self.reg(self.dst)?,
                    src: self.operand()?,
                    off: self.off,
                })
            }
        }
    }

    fn load(self) -> Result<Insn, DecodeError> {
        let size = self.size()?;
        self.require(self.imm == 0)?;
        Ok(Insn::Load { size, dst: self.reg(self.dst)?, base: self.reg(self.src)?, off: self.off })
    }

    fn store(self) -> Result<Insn, DecodeError> {
        let size = self.size()?;
        let src = if self.opcode & 7 == class::STX {
            self.require(self.imm == 0)?;
            Operand::Reg(self.reg(self.src)?)
        } else {
            self.require(self.src == 0)?;
            Operand::Imm(self.imm)
        };
        Ok(Insn::Store { size, base: self.reg(self.dst)?, off: self.off, src })
    }

    fn operand(self) -> Result<Operand, DecodeError> {
        if self.opcode & SRC_REG == 0 {
            self.require(self.src == 0)?;
            Ok(Operand::Imm(self.imm))
        } else {
            self.require(self.imm == 0)?;
            Ok(Operand::Reg(self.reg(self.src)?))
        }
    }

    fn size(self) -> Result<Size, DecodeError> {
        if self.opcode & 0xe0 != MODE_MEM {
            return Err(self.bad_opcode());
        }
        Ok(match self.opcode & 0x18 {
            0x00 => Size::B4,
            0x08 => Size::B2,
            0x10 => Size::B1,
            _ => Size::B8,
        })
    }

    fn reg(self, number: u8) -> Result<Reg, DecodeError> {
        Reg::from_number(number).ok_or(DecodeError::Register { slot: self.at, number })
    }

    fn require(self, holds: bool) -> Result<(), DecodeError> {
        if holds { Ok(()) } else { Err(self.bad_field()) }
    }

    fn bad_field(self) -> DecodeError {
        DecodeError::Field { slot: self.at, opcode: self.opcode }
    }

    fn bad_opcode(self) -> DecodeError {
        DecodeError::Opcode { slot: self.at, opcode: self.opcode }
    }
}

fn alu_op(bits: u8) -> Option<AluOp> {
    Some(match bits {
        0x00 => AluOp::Add,
        0x10 => AluOp::Sub,
        0x20 => AluOp::Mul,
        0x30 => AluOp::Div,
        0x40 => AluOp::Or,
        0x50 => AluOp::And,
        0x60 => AluOp::Lsh,
        0x70 => AluOp::Rsh,
        0x90 => AluOp::Mod,
        0xa0 => AluOp::Xor,
        0xb0 => AluOp::Mov,
        0xc0 => AluOp::Arsh,
        _ => return None,
    })
}

fn cond(bits: u8) -> Option<Cond> {
    Some(match bits {
        0x10 => Cond::Eq,
        0x20 => Cond::Gt,
        0x30 => Cond::Ge,
        0x40 => Cond::Set,
        0x50 => Cond::Ne,
        0x60 => Cond::SignedGt,
        0x70 => Cond::SignedGe,
        0xa0 => Cond::Lt,
        0xb0 => Cond::Le,
        0xc0 => Cond::SignedLt,
        0xd0 => Cond::SignedLe,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
