//! Assembler: instructions and labels in, [`Code`] out.
//!
//! Labels are indices. [`Assembler::finish`] drops what cannot be reached (the
//! kernel refuses it) and jumps to the very next instruction, then resolves the
//! rest. Both are sound: neither kind of instruction has an effect. Cost: linear
//! in instructions and labels.

use std::fmt;

use super::code::{Code, CodeError};
use super::insn::{Cond, Helper, Insn, MapRef, Operand, Reg, Width};

/// A place in the code, bound before or after it is jumped to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u32);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label{}", self.0)
    }
}

/// The pieces do not form a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsmError {
    /// A jump goes to a label that was never bound.
    #[error("{0} is jumped to and never bound")]
    UnboundLabel(Label),
    /// A label was bound a second time.
    #[error("{0} is bound twice")]
    BoundTwice(Label),
    /// A jump's offset does not fit 16 bits.
    #[error("jump at slot {at} spans {distance} slots; an offset holds -32768 to 32767")]
    JumpTooFar {
        /// Slot of the jump.
        at: u32,
        /// Offset needed, in slots.
        distance: i64,
    },
    /// The result is no program.
    #[error(transparent)]
    Code(#[from] CodeError),
}

/// Collects instructions and labels.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    insns: Vec<(Insn, Option<Label>)>,
    /// Index of the instruction that each label stands before.
    labels: Vec<Option<usize>>,
}

/// Where labels ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Option<u32>>,
}

impl Layout {
    /// Slot of the first kept instruction at or after the label (the code's
    /// length if there is none); `None` for a label that was not bound.
    pub fn slot(&self, label: Label) -> Option<u32> {
        self.slots.get(label.0 as usize).copied().flatten()
    }
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label to be bound later.
    pub fn new_label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() as u32 - 1)
    }

    /// A label bound here. It may mark a place that nothing jumps to.
    pub fn here(&mut self) -> Label {
        self.labels.push(Some(self.insns.len()));
        Label(self.labels.len() as u32 - 1)
    }

    /// Binds a label before the next instruction.
    ///
    /// # Errors
    /// The label is bound already.
    pub fn bind(&mut self, label: Label) -> Result<(), AsmError> {
        let here = self.insns.len();
        match self.labels.get_mut(label.0 as usize) {
            Some(place @ None) => *place = Some(here),
            Some(Some(_)) => return Err(AsmError::BoundTwice(label)),
            None => return Err(AsmError::UnboundLabel(label)),
        }
        Ok(())
    }

    /// Appends an instruction. A jump among them keeps its own offset, which is
    /// wrong as soon as code is dropped: use [`Self::jump`] and [`Self::jump_if`].
    pub fn push(&mut self, insn: Insn) {
        self.insns.push((insn, None));
    }

    /// Appends a jump.
    pub fn jump(&mut self, to: Label) {
        self.insns.push((Insn::Jump { off: 0 }, Some(to)));
    }

    /// Appends a conditional jump.
    pub fn jump_if(&mut self, width: Width, cond: Cond, dst: Reg, src: impl Into<Operand>, to: Label) {
        let jump = Insn::JumpIf { width, cond, dst, src: src.into(), off: 0 };
        self.insns.push((jump, Some(to)));
    }

    /// Appends a map reference.
    pub fn load_map(&mut self, dst: Reg, map: MapRef) {
        self.push(Insn::LoadMap { dst, map });
    }

    /// Appends the address of a map's only value.
    pub fn load_map_value(&mut self, dst: Reg, map: MapRef, offset: u32) {
        self.push(Insn::LoadMapValue { dst, map, offset });
    }

    /// Appends a helper call.
    pub fn call(&mut self, helper: Helper) {
        self.push(Insn::Call(helper));
    }

    /// Slots collected so far, before anything is dropped.
    pub fn slots(&self) -> u32 {
        self.insns.iter().map(|(i, _)| i.slots()).sum()
    }

    /// Links the program.
    ///
    /// # Errors
    /// See [`AsmError`].
    pub fn finish(self) -> Result<Code, AsmError> {
        Ok(self.finish_with_layout()?.0)
    }

    /// Links the program and tells where each label ended up.
    ///
    /// # Errors
    /// See [`AsmError`].
    pub fn finish_with_layout(self) -> Result<(Code, Layout), AsmError> {
        let targets = self.targets()?;
        let mut keep = reachable(&self.insns, &targets);
        drop_jumps_to_next(&self.insns, &targets, &mut keep);
        let slots = place(&self.insns, &keep);
        let layout = Layout { slots: self.labels.iter().map(|l| l.map(|i| slots[i])).collect() };
        let mut out = Vec::with_capacity(self.insns.len());
        for (i, (insn, _)) in self.insns.iter().enumerate().filter(|(i, _)| keep[*i]) {
            out.push(match targets[i] {
                None => *insn,
                Some(to) => link(*insn, slots[i], slots[to])?,
            });
        }
        Ok((Code::new(out)?, layout))
    }

    /// For each instruction the index that it jumps to.
    fn targets(&self) -> Result<Vec<Option<usize>>, AsmError> {
        let target = |label: Label| {
            let place = self.labels.get(label.0 as usize).copied().flatten();
            place.ok_or(AsmError::UnboundLabel(label))
        };
        self.insns.iter().map(|(_, label)| label.map(target).transpose()).collect()
    }
}

/// What control reaches from the first instruction.
fn reachable(insns: &[(Insn, Option<Label>)], targets: &[Option<usize>]) -> Vec<bool> {
    let mut seen = vec![false; insns.len()];
    let mut work = vec![0];
    while let Some(mut i) = work.pop() {
        while i < insns.len() && !seen[i] {
            seen[i] = true;
            work.extend(targets[i]);
            if insns[i].0.ends_block() {
                break;
            }
            i += 1;
        }
    }
    seen
}

/// From the end, so that a chain of such jumps goes in one turn.
fn drop_jumps_to_next(insns: &[(Insn, Option<Label>)], targets: &[Option<usize>], keep: &mut [bool]) {
    // For each index the first kept one at or after it.
    let mut next_kept = vec![insns.len(); insns.len() + 1];
    for i in (0..insns.len()).rev() {
        let next = next_kept[i + 1];
        let falls_there = targets[i].is_some_and(|to| to > i && next_kept[to] == next);
        if falls_there && next < insns.len() && matches!(insns[i].0, Insn::Jump { .. }) {
            keep[i] = false;
        }
        next_kept[i] = if keep[i] { i } else { next };
    }
}

/// Slot of each index, and of the end.
fn place(insns: &[(Insn, Option<Label>)], keep: &[bool]) -> Vec<u32> {
    let mut slots = Vec::with_capacity(insns.len() + 1);
    let mut at = 0;
    for ((insn, _), keep) in insns.iter().zip(keep) {
        slots.push(at);
        at += if *keep { insn.slots() } else { 0 };
    }
    slots.push(at);
    slots
}

fn link(insn: Insn, at: u32, to: u32) -> Result<Insn, AsmError> {
    let distance = i64::from(to) - i64::from(at) - 1;
    let off = i16::try_from(distance).map_err(|_| AsmError::JumpTooFar { at, distance })?;
    Ok(insn.with_jump_offset(off))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::Reg::*;

    fn text(code: &Code) -> String {
        code.insns().iter().map(|i| i.to_string()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn offsets_count_slots_from_the_next_one() {
        let mut a = Assembler::new();
        let (out, back) = (a.new_label(), a.here());
        a.jump_if(Width::W32, Cond::Ne, R1, 6, out);
        a.load_map(R1, MapRef::Private(0));
        a.jump_if(Width::W64, Cond::Gt, R1, R2, back);
        a.bind(out).unwrap();
        a.push(Insn::Exit);
        let (code, layout) = a.finish_with_layout().unwrap();
        assert_eq!(text(&code), "if w1 != 0x6 goto +3; r1 = map[private 0]; if r1 > r2 goto -4; exit");
        assert_eq!((layout.slot(back), layout.slot(out)), (Some(0), Some(4)));
    }

    #[test]
    fn unreachable_code_and_empty_jumps_are_dropped() {
        let mut a = Assembler::new();
        let (next, mark) = (a.new_label(), a.new_label());
        a.jump(next);
        a.push(Insn::mov(R0, 1));
        a.bind(mark).unwrap();
        a.push(Insn::Exit);
        a.bind(next).unwrap();
        a.push(Insn::mov(R0, 2));
        a.push(Insn::Exit);
        a.push(Insn::mov(R0, 3));
        let (code, layout) = a.finish_with_layout().unwrap();
        assert_eq!(text(&code), "r0 = 2; exit");
        assert_eq!(layout.slot(mark), Some(0), "marks move to the next kept instruction");
    }

    #[test]
    fn a_label_at_the_end_is_an_open_end() {
        let mut a = Assembler::new();
        let end = a.new_label();
        a.jump(end);
        a.push(Insn::Exit);
        a.bind(end).unwrap();
        assert!(matches!(a.finish(), Err(AsmError::Code(_))));
    }

    #[test]
    fn misuse_of_labels_is_told() {
        let mut a = Assembler::new();
        let label = a.new_label();
        a.jump(label);
        assert_eq!(a.clone().finish(), Err(AsmError::UnboundLabel(label)));
        a.bind(label).unwrap();
        assert_eq!(a.bind(label), Err(AsmError::BoundTwice(label)));
        let foreign = Label(77);
        assert_eq!(a.bind(foreign), Err(AsmError::UnboundLabel(foreign)));
    }

    #[test]
    fn far_jumps_are_an_error_not_a_truncation() {
        for (filler, ok) in [(32767, true), (32768, false)] {
            let mut a = Assembler::new();
            let end = a.new_label();
            a.jump_if(Width::W32, Cond::Eq, R1, 0, end);
            (0..filler).for_each(|_| a.push(Insn::mov(R0, 0)));
            a.bind(end).unwrap();
            a.push(Insn::Exit);
            let want = if ok { Ok(32769) } else { Err(AsmError::JumpTooFar { at: 0, distance: 32768 }) };
            assert_eq!(a.finish().map(|c| c.slots()), want);
        }
    }
}
