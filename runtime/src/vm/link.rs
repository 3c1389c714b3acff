//! Turns a checked program into one that rbpf runs as the kernel would.
//!
//! - A prologue hands the stack's address to the VM and takes the context's.
//! - `bpf_tail_call` becomes `call; if w0 != 1 skip; exit`: the driver loop runs
//!   the next program.
//! - Instructions that rbpf gets wrong and that have an exact substitute get it:
//!   see [`super::check`]. A 64-bit compare whose operands are known to fit 32
//!   bits becomes a 32-bit one; any other is done half by half in two registers
//!   that are saved below the program's stack use.
//!
//! Sound: substitutes compute the same value in the same register and change no
//! other register; jump targets are whole instructions before and after. Cost:
//! linear, except [`upper_zero`], which is a data-flow fixpoint.

use super::check::{MAX_SLOTS, Refusal};
use super::insn::{MAP_LOOKUP, SRC_REG, Slot, class, jump, op, starts};
use crate::sys::{HELPER_ENTER, VmEngine};

/// Result of the tail-call helper if the call is taken.
pub(super) const TAIL_CALL_TAKEN: u64 = 1;

/// Where the two saved registers go, below r10; the program must stay above.
const SAVE: [i16; 2] = [-512, -504];
const DEEPEST: i32 = -496;

/// Links a program that [`super::check::check`] accepted.
pub(super) fn link(code: &[Slot], engine: VmEngine) -> Result<Vec<u8>, Refusal> {
    let starts = starts(code);
    let narrow = upper_zero(code);
    let mut out = Output::default();
    out.prologue();
    for (at, insn) in code.iter().enumerate() {
        out.place.push(out.slots.len());
        if starts[at] {
            out.translate(at, *insn, engine, narrow[at].unwrap_or(0), || deepest(code))?;
        } else {
            out.slots.push(*insn);
        }
    }
    out.finish()
}

/// The program being made.
#[derive(Default)]
struct Output {
    slots: Vec<Slot>,
    /// New slot of each old one.
    place: Vec<usize>,
    /// Jumps: new slot and the old slot that they go to.
    jumps: Vec<(usize, usize)>,
}

impl Output {
    fn push(&mut self, op: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.slots.push(Slot::new(op, dst, src, off, imm));
    }

    fn prologue(&mut self) {
        self.push(op::MOV64_REG, 1, 10, 0, 0);
        self.push(op::CALL, 0, 0, 0, HELPER_ENTER as i32);
        self.push(op::MOV64_REG, 1, 0, 0, 0);
    }

    fn translate(
        &mut self,
        at: usize,
        insn: Slot,
        engine: VmEngine,
        narrow: u16,
        deepest: impl FnOnce() -> i32,
    ) -> Result<(), Refusal> {
        if insn.is_jump() {
            let target = (at as i64 + 1 + i64::from(insn.off)) as usize;
            return self.translate_jump(at, insn, target, engine, narrow, deepest);
        }
        match insn.op {
            op::NEG64 => {
                self.push(op::XOR64, insn.dst, 0, 0, -1);
                self.push(op::ADD64, insn.dst, 0, 0, 1);
            }
            op::TO_LE if insn.imm == 16 => self.push(op::AND64, insn.dst, 0, 0, 0xffff),
            op::TO_LE if insn.imm == 32 => self.push(op::MOV32_REG, insn.dst, insn.dst, 0, 0),
            op::TO_LE => self.push(op::MOV64_REG, insn.dst, insn.dst, 0, 0),
            _ => self.slots.push(insn),
        }
        if insn.is_tail_call() {
            self.push(jump::NE | class::JMP32, 0, 0, 1, TAIL_CALL_TAKEN as i32);
            self.push(op::EXIT, 0, 0, 0, 0);
        }
        Ok(())
    }

    fn translate_jump(
        &mut self,
        at: usize,
        insn: Slot,
        target: usize,
        engine: VmEngine,
        narrow: u16,
        deepest: impl FnOnce() -> i32,
    ) -> Result<(), Refusal> {
        if !needs_help(insn, engine) {
            self.jump(insn, target);
        } else if let Some(short) = as_32_bit(insn, narrow) {
            self.jump(short, target);
        } else {
            let deepest = deepest();
            if deepest < DEEPEST {
                return Err(Refusal::Stack { slot: at, deepest });
            }
            self.compare_halves(insn, target);
        }
        Ok(())
    }

    fn jump(&mut self, insn: Slot, target: usize) {
        self.jumps.push((self.slots.len(), target));
        self.slots.push(insn);
    }

    /// `if dst op src goto target` on 64 bits, with 32-bit compares only.
    fn compare_halves(&mut self, insn: Slot, target: usize) {
        let (d, register) = (insn.dst, insn.op & SRC_REG != 0);
        let mut free = (0..10).filter(|r| *r != d && !(register && *r == insn.src));
        let (a, b) = (free.next().unwrap_or(0), free.next().unwrap_or(1));
        self.push(op::STORE64, 10, a, SAVE[0], 0);
        self.push(op::MOV64_REG, a, d, 0, 0);
        self.push(op::RSH64, a, 0, 0, 32);
        if register {
            self.push(op::STORE64, 10, b, SAVE[1], 0);
            self.push(op::MOV64_REG, b, insn.src, 0, 0);
            self.push(op::RSH64, b, 0, 0, 32);
        }
        // Compares: (operation, on the upper halves?, jumps to yes?).
        let steps = halves(insn.operation());
        let restore: i16 = if register { 2 } else { 1 };
        for (i, (operation, upper, yes)) in steps.iter().enumerate() {
            let left = (steps.len() - i - 1) as i16;
            // Layout behind the compares: restore, jump over; then restore, jump to target.
            let off = if *yes { left + restore + 1 } else { left };
            let (dst, src) = if *upper { (a, b) } else { (d, insn.src) };
            let constant = if *upper { insn.imm >> 31 } else { insn.imm };
            match register {
                true => self.push(operation | SRC_REG | class::JMP32, dst, src, off, 0),
                false => self.push(operation | class::JMP32, dst, 0, off, constant),
            }
        }
        self.restore(a, b, register);
        self.push(op::JA, 0, 0, restore + 1, 0);
        self.restore(a, b, register);
        self.jump(Slot::new(op::JA, 0, 0, 0, 0), target);
    }

    fn restore(&mut self, a: u8, b: u8, both: bool) {
        self.push(op::LOAD64, a, 10, SAVE[0], 0);
        if both {
            self.push(op::LOAD64, b, 10, SAVE[1], 0);
        }
    }

    fn finish(mut self) -> Result<Vec<u8>, Refusal> {
        if self.slots.len() > MAX_SLOTS {
            return Err(Refusal::TooLong { slots: self.slots.len() });
        }
        for (from, target) in &self.jumps {
            let to = self.place.get(*target).copied().unwrap_or_default();
            let distance = to as i64 - *from as i64 - 1;
            let Ok(off) = i16::try_from(distance) else { return Err(Refusal::JumpTooFar(*target)) };
            self.slots[*from].off = off;
        }
        Ok(self.slots.iter().flat_map(|s| s.to_bytes()).collect())
    }
}

/// Whether the engine compares this wrongly.
fn needs_help(insn: Slot, engine: VmEngine) -> bool {
    let wide = insn.is_conditional() && insn.class() == class::JMP;
    match engine {
        #[cfg(feature = "cranelift")]
        VmEngine::Cranelift => wide,
        VmEngine::Interpreter => {
            let zero_extended =
                matches!(insn.operation(), jump::EQ | jump::NE | jump::GT | jump::GE | jump::LT | jump::LE);
            wide && zero_extended && insn.op & SRC_REG == 0 && insn.imm < 0
        }
    }
}

/// A 64-bit compare as a 32-bit one, if the registers in `narrow` (whose upper
/// halves are 0) allow it: both operands then are below 2³², so signed compares
/// equal unsigned ones.
fn as_32_bit(insn: Slot, narrow: u16) -> Option<Slot> {
    let known = |register: u8| narrow & (1 << register) != 0;
    let source = if insn.op & SRC_REG != 0 { known(insn.src) } else { insn.imm >= 0 };
    if !known(insn.dst) || !source {
        return None;
    }
    let operation = match insn.operation() {
        jump::SGT => jump::GT,
        jump::SGE => jump::GE,
        jump::SLT => jump::LT,
        jump::SLE => jump::LE,
        other => other,
    };
    Some(Slot { op: operation | insn.op & SRC_REG | class::JMP32, ..insn })
}

/// The 32-bit compares that make up a 64-bit one, in order: operation, whether on
/// the upper halves, whether a hit means yes (else no). No hit at all means no.
fn halves(operation: u8) -> &'static [(u8, bool, bool)] {
    use jump::{EQ, GE, GT, LE, LT, NE, SET, SGE, SGT, SLE, SLT};
    match operation {
        EQ => &[(NE, true, false), (EQ, false, true)],
        NE => &[(NE, true, true), (NE, false, true)],
        SET => &[(SET, true, true), (SET, false, true)],
        GT => &[(GT, true, true), (NE, true, false), (GT, false, true)],
        GE => &[(GT, true, true), (NE, true, false), (GE, false, true)],
        LT => &[(LT, true, true), (NE, true, false), (LT, false, true)],
        LE => &[(LT, true, true), (NE, true, false), (LE, false, true)],
        SGT => &[(SGT, true, true), (NE, true, false), (GT, false, true)],
        SGE => &[(SGT, true, true), (NE, true, false), (GE, false, true)],
        SLT => &[(SLT, true, true), (NE, true, false), (LT, false, true)],
        SLE => &[(SLT, true, true), (NE, true, false), (LE, false, true)],
        _ => &[],
    }
}

/// Lowest stack offset that the program may reach, over-approximated: any
/// negative constant that is added to a register may make a stack address.
fn deepest(code: &[Slot]) -> i32 {
    let (mut direct, mut added, mut relative) = (0, 0, 0);
    for (insn, start) in code.iter().zip(starts(code)) {
        let memory = matches!(insn.class(), class::LDX | class::ST | class::STX);
        let base = if insn.class() == class::LDX { insn.src } else { insn.dst };
        match (start, memory) {
            (true, true) if base == 10 => direct = direct.min(i32::from(insn.off)),
            (true, true) => relative = relative.min(i32::from(insn.off)),
            (true, false) if insn.op == op::ADD64 && insn.imm >= -512 => added = added.min(insn.imm),
            _ => {}
        }
    }
    direct.min(added + relative)
}

/// For each slot, the registers whose upper 32 bits are 0 whenever control gets
/// there (bit n is register n); `None` where it never does.
fn upper_zero(code: &[Slot]) -> Vec<Option<u16>> {
    let mut at_entry: Vec<Option<u16>> = vec![None; code.len()];
    // The context lies in the arena.
    let mut work = vec![(0usize, 1u16 << 1)];
    while let Some((at, known)) = work.pop() {
        let Some(insn) = code.get(at).copied() else { continue };
        let merged = at_entry[at].map_or(known, |old| old & known);
        if at_entry[at] == Some(merged) {
            continue;
        }
        at_entry[at] = Some(merged);
        let after = transfer(insn, code.get(at + 1), merged);
        if insn.is_jump() {
            work.push(((at as i64 + 1 + i64::from(insn.off)) as usize, after));
        }
        match insn.op {
            op::JA | op::EXIT => {}
            op::LDDW => work.push((at + 2, after)),
            _ => work.push((at + 1, after)),
        }
    }
    at_entry
}

fn transfer(insn: Slot, next: Option<&Slot>, known: u16) -> u16 {
    let bit = 1 << insn.dst;
    let source = insn.op & SRC_REG != 0;
    let src_known = known & (1 << insn.src) != 0;
    let dst_known = known & bit != 0;
    let zero = match insn.class() {
        class::LD => next.is_some_and(|n| n.imm == 0),
        class::LDX => insn.op != op::LOAD64,
        class::ALU => !(insn.operation() == 0xd0 && insn.imm == 64),
        class::ALU64 => match insn.operation() {
            0xb0 if source => src_known,
            0xb0 => insn.imm >= 0,
            // and: either side's upper half being 0 is enough
            0x50 if source => src_known || dst_known,
            0x50 => insn.imm >= 0 || dst_known,
            // or, xor
            0x40 | 0xa0 if source => src_known && dst_known,
            0x40 | 0xa0 => insn.imm >= 0 && dst_known,
            0x70 => dst_known || (!source && insn.imm >= 32),
            // div, mod: the result is not above the dividend
            0x30 | 0x90 => dst_known,
            _ => false,
        },
        _ if insn.op == op::CALL => {
            // r1 to r5 are lost; a value's address lies in the arena.
            let kept = known & !0x3f;
            return if insn.imm == MAP_LOOKUP { kept | 1 } else { kept };
        }
        _ => return known,
    };
    if zero { known | bit } else { known & !bit }
}
