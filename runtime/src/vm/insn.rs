//! Instructions as the kernel's wire format has them: what arrives here may be
//! anything that a C compiler emits, also what `polc_compiler::bpf` has no name for.

/// One slot of 8 bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub op: u8,
    pub dst: u8,
    pub src: u8,
    pub off: i16,
    pub imm: i32,
}

/// Instruction classes: the low three bits of the opcode.
pub(super) mod class {
    pub const LD: u8 = 0;
    pub const LDX: u8 = 1;
    pub const ST: u8 = 2;
    pub const STX: u8 = 3;
    pub const ALU: u8 = 4;
    pub const JMP: u8 = 5;
    pub const JMP32: u8 = 6;
    pub const ALU64: u8 = 7;
}

/// Opcodes that are dealt with by name.
pub(super) mod op {
    pub const LDDW: u8 = 0x18;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    pub const JA: u8 = 0x05;
    #[cfg(test)]
    pub const MOV64: u8 = 0xb7;
    pub const MOV64_REG: u8 = 0xbf;
    pub const MOV32_REG: u8 = 0xbc;
    pub const ADD64: u8 = 0x07;
    pub const AND64: u8 = 0x57;
    pub const XOR64: u8 = 0xa7;
    pub const RSH64: u8 = 0x77;
    pub const NEG64: u8 = 0x87;
    pub const TO_LE: u8 = 0xd4;
    pub const LOAD64: u8 = 0x79;
    pub const STORE64: u8 = 0x7b;
}

/// Operations of jump opcodes: the high four bits.
pub(super) mod jump {
    pub const EQ: u8 = 0x10;
    pub const GT: u8 = 0x20;
    pub const GE: u8 = 0x30;
    pub const SET: u8 = 0x40;
    pub const NE: u8 = 0x50;
    pub const SGT: u8 = 0x60;
    pub const SGE: u8 = 0x70;
    pub const LT: u8 = 0xa0;
    pub const LE: u8 = 0xb0;
    pub const SLT: u8 = 0xc0;
    pub const SLE: u8 = 0xd0;
}

/// The second operand is a register.
pub(super) const SRC_REG: u8 = 0x08;

/// Helper number of `bpf_tail_call`.
pub(super) const TAIL_CALL: i32 = 12;
/// Helper number of `bpf_map_lookup_elem`.
pub(super) const MAP_LOOKUP: i32 = 1;

impl Slot {
    pub const fn new(op: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Self { op, dst, src, off, imm }
    }

    pub fn from_bytes(b: [u8; 8]) -> Self {
        Self {
            op: b[0],
            dst: b[1] & 0x0f,
            src: b[1] >> 4,
            off: i16::from_le_bytes([b[2], b[3]]),
            imm: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    pub fn to_bytes(self) -> [u8; 8] {
        let [off0, off1] = self.off.to_le_bytes();
        let [imm0, imm1, imm2, imm3] = self.imm.to_le_bytes();
        [self.op, self.dst | self.src << 4, off0, off1, imm0, imm1, imm2, imm3]
    }

    pub fn class(self) -> u8 {
        self.op & 7
    }

    /// Operation of arithmetic and jumps.
    pub fn operation(self) -> u8 {
        self.op & 0xf0
    }

    /// A jump, conditional or not (no call, no exit).
    pub fn is_jump(self) -> bool {
        matches!(self.class(), class::JMP | class::JMP32) && !matches!(self.operation(), 0x80 | 0x90)
    }

    pub fn is_conditional(self) -> bool {
        self.is_jump() && self.operation() != 0
    }

    pub fn is_tail_call(self) -> bool {
        self.op == op::CALL && self.src == 0 && self.imm == TAIL_CALL
    }
}

/// The slots of a program; `None` if the bytes are not whole slots.
pub(super) fn slots(code: &[u8]) -> Option<Vec<Slot>> {
    let (chunks, rest) = code.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|b| Slot::from_bytes(*b)).collect())
}

/// Slots with whether each begins an instruction (the second half of a 64-bit
/// constant does not).
pub(super) fn starts(code: &[Slot]) -> Vec<bool> {
    let mut starts = vec![true; code.len()];
    let mut at = 0;
    while at < code.len() {
        let wide = code[at].op == op::LDDW;
        if wide && let Some(second) = starts.get_mut(at + 1) {
            *second = false;
        }
        at += 1 + usize::from(wide);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_round_trip() {
        let all = [Slot::new(0x61, 1, 10, -8, 0), Slot::new(op::LDDW, 9, 0, 0, -1), Slot::new(0, 0, 0, 0, 7)];
        let bytes: Vec<u8> = all.iter().flat_map(|s| s.to_bytes()).collect();
        assert_eq!(slots(&bytes).unwrap(), all);
        assert_eq!(slots(&bytes[1..]), None);
        assert_eq!(starts(&all), [true, true, false]);
    }
}
