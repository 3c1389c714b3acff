//! Refuses, before anything runs, what rbpf 0.4.1 would run differently from the
//! kernel and [`super::link`] cannot replace by something that it runs right.
//!
//! | refused | rbpf 0.4.1 |
//! |---|---|
//! | sign-extending moves and loads, signed division | reads them as the plain instruction (`off` ignored), or has none |
//! | `bswap`, `gotol`, `callx`, atomics | has none, or an error only when reached |
//! | packet loads (`LD_ABS`, `LD_IND`) | host byte order, no length check of its own |
//! | calls between programs | cranelift takes them for helper calls |
//! | 32-bit remainder by a register | keeps the upper half when the divisor is 0 |
//! | shifts by the width or more, division by constant 0 | defined there, refused by the kernel |
//! | more than 32,767 slots | the interpreter computes jump targets in 16 bits |
//!
//! Replaced by the linker instead: 64-bit compares with negative constants (the
//! interpreter zero-extends them), all 64-bit compares (cranelift compares 32
//! bits), `le16`/`le32` (cranelift does not truncate), 64-bit negation (overflows
//! in debug builds).
//!
//! Cost: linear in the program.

use super::insn::{Slot, class, op, starts};
use crate::sys::HELPERS;

/// Most slots that rbpf's interpreter can address.
pub(super) const MAX_SLOTS: usize = i16::MAX as usize;

/// Why a program is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("slot {0}: sign-extending move")]
    SignExtendingMove(usize),
    #[error("slot {0}: sign-extending load")]
    SignExtendingLoad(usize),
    #[error("slot {0}: signed division or remainder")]
    SignedDivision(usize),
    #[error("slot {0}: unconditional byte swap")]
    ByteSwap(usize),
    #[error("slot {0}: long jump (`gotol`)")]
    LongJump(usize),
    #[error("slot {0}: atomic operation")]
    Atomic(usize),
    #[error("slot {0}: packet load (`LD_ABS` or `LD_IND`)")]
    PacketLoad(usize),
    #[error("slot {0}: call of another program, of the kernel or through a register")]
    ForeignCall(usize),
    #[error("slot {slot}: helper {number} is not among those that the VM has")]
    Helper { slot: usize, number: i32 },
    #[error("slot {0}: 32-bit remainder by a register")]
    Remainder32(usize),
    #[error("slot {slot}: shift by {by} bits")]
    Shift { slot: usize, by: i32 },
    #[error("slot {0}: division by constant 0")]
    DivisionByZero(usize),
    #[error("slot {slot}: opcode {op:#04x} is unknown")]
    Opcode { slot: usize, op: u8 },
    #[error("slot {0}: register that does not exist, or a write to r10")]
    Register(usize),
    #[error("slot {slot}: 64-bit constant of kind {kind}, or without its second half")]
    WideConstant { slot: usize, kind: u8 },
    #[error("slot {0}: jump to a place where no instruction starts")]
    JumpTarget(usize),
    #[error("control runs past the last slot")]
    OpenEnd,
    #[error("{slots} slots; the VM runs at most {MAX_SLOTS}")]
    TooLong { slots: usize },
    #[error("slot {slot}: stack use down to r10{deepest} leaves no room for a 64-bit compare")]
    Stack { slot: usize, deepest: i32 },
    #[error("slot {0}: jump spans more than 32,767 slots once linked")]
    JumpTooFar(usize),
}

/// Checks a whole program whose map references are resolved.
pub(super) fn check(code: &[Slot]) -> Result<(), Refusal> {
    if code.len() > MAX_SLOTS {
        return Err(Refusal::TooLong { slots: code.len() });
    }
    let starts = starts(code);
    for (slot, insn) in code.iter().enumerate().filter(|(slot, _)| starts[*slot]) {
        check_one(slot, *insn, code.get(slot + 1))?;
        if insn.is_jump() {
            let to = slot as i64 + 1 + i64::from(insn.off);
            if !usize::try_from(to).ok().and_then(|to| starts.get(to)).is_some_and(|s| *s) {
                return Err(Refusal::JumpTarget(slot));
            }
        }
    }
    match (code.last(), starts.last()) {
        (Some(Slot { op: op::EXIT | op::JA, .. }), Some(true)) => Ok(()),
        _ => Err(Refusal::OpenEnd),
    }
}

fn check_one(slot: usize, insn: Slot, next: Option<&Slot>) -> Result<(), Refusal> {
    match insn.class() {
        class::LD => check_constant(slot, insn, next)?,
        class::LDX => check_load(slot, insn)?,
        class::ST | class::STX => check_store(slot, insn)?,
        class::ALU | class::ALU64 => check_arithmetic(slot, insn)?,
        _ => check_jump(slot, insn)?,
    }
    let stores = matches!(insn.class(), class::ST | class::STX);
    let jumps = matches!(insn.class(), class::JMP | class::JMP32);
    if insn.src > 10 || insn.dst > 10 || (insn.dst == 10 && !stores && !jumps) {
        return Err(Refusal::Register(slot));
    }
    Ok(())
}

fn check_constant(slot: usize, insn: Slot, next: Option<&Slot>) -> Result<(), Refusal> {
    match insn.op {
        op::LDDW
            if insn.src == 0
                && insn.off == 0
                && next.is_some_and(|n| (n.op, n.dst, n.src, n.off) == (0, 0, 0, 0)) =>
        {
            Ok(())
        }
        op::LDDW => Err(Refusal::WideConstant { slot, kind: insn.src }),
        _ => Err(Refusal::PacketLoad(slot)),
    }
}

fn check_load(slot: usize, insn: Slot) -> Result<(), Refusal> {
    match insn.op & 0xe0 {
        0x60 => Ok(()),
        0x80 => Err(Refusal::SignExtendingLoad(slot)),
        _ => Err(Refusal::Opcode { slot, op: insn.op }),
    }
}

fn check_store(slot: usize, insn: Slot) -> Result<(), Refusal> {
    match insn.op & 0xe0 {
        0x60 => Ok(()),
        0xc0 => Err(Refusal::Atomic(slot)),
        _ => Err(Refusal::Opcode { slot, op: insn.op }),
    }
}

fn check_arithmetic(slot: usize, insn: Slot) -> Result<(), Refusal> {
    let wide = insn.class() == class::ALU64;
    let register = insn.op & 0x08 != 0;
    match insn.operation() {
        0xb0 if insn.off != 0 => Err(Refusal::SignExtendingMove(slot)),
        0x30 | 0x90 if insn.off != 0 => Err(Refusal::SignedDivision(slot)),
        0x30 | 0x90 if !register && insn.imm == 0 => Err(Refusal::DivisionByZero(slot)),
        0x90 if register && !wide => Err(Refusal::Remainder32(slot)),
        0x60 | 0x70 | 0xc0 if !register && !(0..if wide { 64 } else { 32 }).contains(&insn.imm) => {
            Err(Refusal::Shift { slot, by: insn.imm })
        }
        0xd0 if wide => Err(Refusal::ByteSwap(slot)),
        0xd0 if !matches!(insn.imm, 16 | 32 | 64) => Err(Refusal::Opcode { slot, op: insn.op }),
        0x80 if register => Err(Refusal::Opcode { slot, op: insn.op }),
        0xe0 | 0xf0 => Err(Refusal::Opcode { slot, op: insn.op }),
        _ if insn.off != 0 => Err(Refusal::Opcode { slot, op: insn.op }),
        _ => Ok(()),
    }
}

fn check_jump(slot: usize, insn: Slot) -> Result<(), Refusal> {
    match insn.op {
        op::JA | op::EXIT => Ok(()),
        0x06 => Err(Refusal::LongJump(slot)),
        op::CALL if insn.src == 0 => match HELPERS.iter().any(|(n, ..)| i64::from(*n) == i64::from(insn.imm))
        {
            true => Ok(()),
            false => Err(Refusal::Helper { slot, number: insn.imm }),
        },
        op::CALL | 0x8d => Err(Refusal::ForeignCall(slot)),
        _ if matches!(insn.operation(), 0x10..=0x70 | 0xa0..=0xd0) => Ok(()),
        _ => Err(Refusal::Opcode { slot, op: insn.op }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Slot = Slot::new(op::EXIT, 0, 0, 0, 0);

    /// The instruction between a harmless one and an exit.
    fn verdict(insn: Slot) -> Result<(), Refusal> {
        check(&[Slot::new(op::MOV64, 0, 0, 0, 0), insn, EXIT])
    }

    #[test]
    fn each_refusal_names_its_slot() {
        let cases = [
            (Slot::new(0xbf, 0, 1, 8, 0), Refusal::SignExtendingMove(1)),
            (Slot::new(0xbc, 0, 1, 16, 0), Refusal::SignExtendingMove(1)),
            (Slot::new(0x91, 0, 10, -8, 0), Refusal::SignExtendingLoad(1)),
            (Slot::new(0x37, 0, 0, 1, 2), Refusal::SignedDivision(1)),
            (Slot::new(0x9f, 0, 1, 1, 0), Refusal::SignedDivision(1)),
            (Slot::new(0xd7, 0, 0, 0, 32), Refusal::ByteSwap(1)),
            (Slot::new(0x06, 0, 0, 0, 1), Refusal::LongJump(1)),
            (Slot::new(0xdb, 10, 1, -8, 0), Refusal::Atomic(1)),
            (Slot::new(0xc3, 10, 1, -8, 1), Refusal::Atomic(1)),
            (Slot::new(0x28, 0, 0, 0, 2), Refusal::PacketLoad(1)),
            (Slot::new(0x50, 0, 1, 0, 2), Refusal::PacketLoad(1)),
            (Slot::new(op::CALL, 0, 1, 0, 0), Refusal::ForeignCall(1)),
            (Slot::new(op::CALL, 0, 2, 0, 0), Refusal::ForeignCall(1)),
            (Slot::new(0x8d, 1, 0, 0, 0), Refusal::ForeignCall(1)),
            (Slot::new(op::CALL, 0, 0, 0, 6), Refusal::Helper { slot: 1, number: 6 }),
            (Slot::new(op::CALL, 0, 0, 0, 0x706f_6c63), Refusal::Helper { slot: 1, number: 0x706f_6c63 }),
            (Slot::new(0x9c, 0, 1, 0, 0), Refusal::Remainder32(1)),
            (Slot::new(0x67, 0, 0, 0, 64), Refusal::Shift { slot: 1, by: 64 }),
            (Slot::new(0x64, 0, 0, 0, 32), Refusal::Shift { slot: 1, by: 32 }),
            (Slot::new(0x37, 0, 0, 0, 0), Refusal::DivisionByZero(1)),
            (Slot::new(0xe7, 0, 0, 0, 0), Refusal::Opcode { slot: 1, op: 0xe7 }),
            (Slot::new(0x07, 10, 0, 0, 1), Refusal::Register(1)),
            (Slot::new(0x0f, 0, 11, 0, 0), Refusal::Register(1)),
            (Slot::new(0x61, 10, 1, 0, 0), Refusal::Register(1)),
            (Slot::new(op::LDDW, 0, 1, 0, 0), Refusal::WideConstant { slot: 1, kind: 1 }),
            (Slot::new(op::JA, 0, 0, 1, 0), Refusal::JumpTarget(1)),
            (Slot::new(op::JA, 0, 0, -3, 0), Refusal::JumpTarget(1)),
        ];
        for (insn, want) in cases {
            assert_eq!(verdict(insn), Err(want), "{insn:?}");
            if !matches!(want, Refusal::WideConstant { .. }) {
                assert!(want.to_string().starts_with("slot 1: "), "{want}");
            }
        }
    }

    #[test]
    fn jumps_into_a_constant_and_open_ends_are_refused() {
        let wide = [Slot::new(op::LDDW, 0, 0, 0, 1), Slot::new(0, 0, 0, 0, 0)];
        assert_eq!(
            check(&[Slot::new(op::JA, 0, 0, 1, 0), wide[0], wide[1], EXIT]),
            Err(Refusal::JumpTarget(0))
        );
        assert_eq!(check(&wide), Err(Refusal::OpenEnd));
        assert_eq!(check(&[]), Err(Refusal::OpenEnd));
        assert_eq!(check(&[EXIT, wide[0]]), Err(Refusal::WideConstant { slot: 1, kind: 0 }));
        assert_eq!(check(&vec![EXIT; 32_768]), Err(Refusal::TooLong { slots: 32_768 }));
        assert_eq!(check(&vec![EXIT; 32_767]), Ok(()));
    }

    #[test]
    fn no_opcode_passes_unlooked_at() {
        // What instruction set v3 has, less what is refused above.
        let mut accepted = 0;
        for code in 0..=u8::MAX {
            let insn = Slot::new(code, 1, 1, 0, 16);
            accepted += usize::from(verdict(insn).is_ok());
        }
        // 12 loads and stores, 2 x (12 operations x 2 + neg) - mod32 reg + le/be,
        // 2 x 11 x 2 compares, ja, exit. Calls of helper 16 are refused.
        assert_eq!(accepted, 12 + (2 * 25 - 1 + 2) + 44 + 2);
    }
}
