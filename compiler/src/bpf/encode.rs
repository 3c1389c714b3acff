//! Instructions to bytes.
//!
//! ```text
//! byte 0      byte 1        bytes 2–3   bytes 4–7
//! ┌─────────┬────────────┬───────────┬──────────────┐
//! │ opcode  │ src4  dst4 │ off  i16  │ imm  i32     │   little endian
//! └─────────┴────────────┴───────────┴──────────────┘
//! opcode, arithmetic and jumps: operation4 · source1 (0 imm, 1 register) · class3
//! opcode, loads and stores:     mode3 · size2 · class3
//! ```
//!
//! Spec: Linux `Documentation/bpf/standardization/instruction-set.rst`.

use super::insn::{AluOp, ByteOrder, Cond, Insn, MapRef, Operand, Size, Width};

/// Classes: the low three bits of the opcode.
pub(super) mod class {
    pub const LDX: u8 = 1;
    pub const ST: u8 = 2;
    pub const STX: u8 = 3;
    pub const ALU: u8 = 4;
    pub const JMP: u8 = 5;
    pub const JMP32: u8 = 6;
    pub const ALU64: u8 = 7;
}

/// Source bit: the second operand is a register.
pub(super) const SRC_REG: u8 = 0x08;
/// Mode of plain loads and stores.
pub(super) const MODE_MEM: u8 = 0x60;
/// Opcode of 64-bit constants and map references.
pub(super) const LDDW: u8 = 0x18;
/// Source field of [`LDDW`] that refers to a map by file descriptor.
pub(super) const PSEUDO_MAP_FD: u8 = 1;
/// Source field of [`LDDW`] that stands for an address in a map's only value.
pub(super) const PSEUDO_MAP_VALUE: u8 = 2;
pub(super) const OP_NEG: u8 = 0x80;
pub(super) const OP_END: u8 = 0xd0;
pub(super) const OP_CALL: u8 = 0x80;
pub(super) const OP_EXIT: u8 = 0x90;

/// Encodes instructions; `resolve` gives the file descriptor to put for a map
/// (0 where a relocation fills it in). [`MapRef::Fd`] stands for itself.
pub fn encode(insns: &[Insn], mut resolve: impl FnMut(MapRef) -> i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(insns.len() * 8);
    for insn in insns {
        encode_one(insn, &mut resolve, &mut out);
    }
    out
}

fn encode_one(insn: &Insn, resolve: &mut impl FnMut(MapRef) -> i32, out: &mut Vec<u8>) {
    match *insn {
        Insn::Alu { width, op, dst, src } => {
            let (bit, reg, imm) = operand(src);
            slot(out, alu_class(width) | alu_op(op) | bit, dst.number(), reg, 0, imm);
        }
        Insn::Neg { width, dst } => slot(out, alu_class(width) | OP_NEG, dst.number(), 0, 0, 0),
        Insn::Swap { order, bits, dst } => {
            let bit = if order == ByteOrder::Big { SRC_REG } else { 0 };
            slot(out, class::ALU | OP_END | bit, dst.number(), 0, 0, bits.bits());
        }
        Insn::Load { size, dst, base, off } => {
            slot(out, class::LDX | MODE_MEM | size_bits(size), dst.number(), base.number(), off, 0);
        }
        Insn::Store { size, base, off, src } => {
            let class = if matches!(src, Operand::Reg(_)) { class::STX } else { class::ST };
            let (_, reg, imm) = operand(src);
            slot(out, class | MODE_MEM | size_bits(size), base.number(), reg, off, imm);
        }
        Insn::LoadImm64 { dst, imm } => {
            slot(out, LDDW, dst.number(), 0, 0, imm as u32 as i32);
            slot(out, 0, 0, 0, 0, (imm >> 32) as u32 as i32);
        }
        Insn::LoadMap { dst, map } => {
            slot(out, LDDW, dst.number(), PSEUDO_MAP_FD, 0, descriptor(map, resolve));
            slot(out, 0, 0, 0, 0, 0);
        }
        Insn::LoadMapValue { dst, map, offset } => {
            slot(out, LDDW, dst.number(), PSEUDO_MAP_VALUE, 0, descriptor(map, resolve));
            slot(out, 0, 0, 0, 0, offset as i32);
        }
        Insn::Jump { off } => slot(out, class::JMP, 0, 0, off, 0),
        Insn::JumpIf { width, cond, dst, src, off } => {
            let (bit, reg, imm) = operand(src);
            slot(out, jump_class(width) | cond_op(cond) | bit, dst.number(), reg, off, imm);
        }
        Insn::Call(helper) => slot(out, class::JMP | OP_CALL, 0, 0, 0, helper.0),
        Insn::Exit => slot(out, class::JMP | OP_EXIT, 0, 0, 0, 0),
    }
}

fn descriptor(map: MapRef, resolve: &mut impl FnMut(MapRef) -> i32) -> i32 {
    if let MapRef::Fd(fd) = map { fd } else { resolve(map) }
}

fn slot(out: &mut Vec<u8>, opcode: u8, dst: u8, src: u8, off: i16, imm: i32) {
    out.extend([opcode, src << 4 | dst]);
    out.extend(off.to_le_bytes());
    out.extend(imm.to_le_bytes());
}

/// Source bit, source register and constant.
fn operand(src: Operand) -> (u8, u8, i32) {
    match src {
        Operand::Reg(reg) => (SRC_REG, reg.number(), 0),
        Operand::Imm(imm) => (0, 0, imm),
    }
}

fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => class::ALU,
        Width::W64 => class::ALU64,
    }
}

fn jump_class(width: Width) -> u8 {
    match width {
        Width::W32 => class::JMP32,
        Width::W64 => class::JMP,
    }
}

fn alu_op(op: AluOp) -> u8 {
    match op {
        AluOp::Add => 0x00,
        AluOp::Sub => 0x10,
        AluOp::Mul => 0x20,
        AluOp::Div => 0x30,
        AluOp::Or => 0x40,
        AluOp::And => 0x50,
        AluOp::Lsh => 0x60,
        AluOp::Rsh => 0x70,
        AluOp::Mod => 0x90,
        AluOp::Xor => 0xa0,
        AluOp::Mov => 0xb0,
        AluOp::Arsh => 0xc0,
    }
}

fn cond_op(cond: Cond) -> u8 {
    match cond {
        Cond::Eq => 0x10,
        Cond::Gt => 0x20,
        Cond::Ge => 0x30,
        Cond::Set => 0x40,
        Cond::Ne => 0x50,
        Cond::SignedGt => 0x60,
        Cond::SignedGe => 0x70,
        Cond::Lt => 0xa0,
        Cond::Le => 0xb0,
        Cond::SignedLt => 0xc0,
        Cond::SignedLe => 0xd0,
    }
}

fn size_bits(size: Size) -> u8 {
    match size {
        Size::B4 => 0x00,
        Size::B2 => 0x08,
        Size::B1 => 0x10,
        Size::B8 => 0x18,
    }
}
