//! [`Code`]: instructions whose jumps are known to land.

use super::encode::encode;
use super::insn::{Insn, MapRef};

/// Linked instructions: jumps resolved, map references symbolic.
///
/// Every jump lands on the first slot of an instruction of the same program,
/// and the last instruction is a jump or an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    insns: Vec<Insn>,
}

/// Instructions do not form a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// A jump leaves the program or lands inside a two-slot instruction.
    #[error("jump at slot {at} goes to slot {to}, where no instruction starts")]
    JumpTarget {
        /// Slot of the jump.
        at: u32,
        /// Slot it goes to.
        to: i64,
    },
    /// There is no instruction, or the last one can be passed.
    #[error("control runs past the end of the program")]
    OpenEnd,
}

impl Code {
    /// Checks instructions and takes them for a program.
    ///
    /// # Errors
    /// A jump that lands nowhere, or an end that is open.
    pub fn new(insns: Vec<Insn>) -> Result<Self, CodeError> {
        if !insns.last().is_some_and(Insn::ends_block) {
            return Err(CodeError::OpenEnd);
        }
        let mut starts = Vec::with_capacity(insns.len());
        for insn in &insns {
            starts.push(true);
            starts.resize(starts.len() + insn.slots() as usize - 1, false);
        }
        let code = Self { insns };
        for (at, insn) in code.iter() {
            let Some(to) = target(at, insn) else { continue };
            if !usize::try_from(to).ok().and_then(|to| starts.get(to)).is_some_and(|s| *s) {
                return Err(CodeError::JumpTarget { at, to });
            }
        }
        Ok(code)
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// Instructions, each with its first slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Insn)> {
        self.insns.iter().scan(0, |slot, insn| {
            let at = *slot;
            *slot += insn.slots();
            Some((at, insn))
        })
    }

    /// Length in slots of 8 bytes: what the kernel counts as instructions.
    pub fn slots(&self) -> u32 {
        self.insns.iter().map(Insn::slots).sum()
    }

    /// Number of conditional jumps: each one may be a pending branch of the verifier.
    pub fn conditional_jumps(&self) -> u32 {
        self.insns.iter().filter(|i| matches!(i, Insn::JumpIf { .. })).count() as u32
    }

    /// Map references, each with its slot.
    pub fn map_refs(&self) -> impl Iterator<Item = (u32, MapRef)> {
        self.iter().filter_map(|(slot, insn)| Some((slot, insn.map()?)))
    }

    /// Slot that the jump at `at` goes to; `None` for anything but a jump.
    pub fn jump_target(at: u32, insn: &Insn) -> Option<u32> {
        target(at, insn).and_then(|to| u32::try_from(to).ok())
    }

    /// The bytes; `resolve` gives the file descriptor of a map (0 where a
    /// relocation fills it in).
    pub fn encode(&self, resolve: impl FnMut(MapRef) -> i32) -> Vec<u8> {
        encode(&self.insns, resolve)
    }
}

fn target(at: u32, insn: &Insn) -> Option<i64> {
    Some(i64::from(at) + 1 + i64::from(insn.jump_offset()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{Reg, Size};

    #[test]
    fn jumps_must_land_on_an_instruction() {
        let lddw = Insn::LoadImm64 { dst: Reg::R0, imm: 1 };
        let cases = [
            (vec![], Err(CodeError::OpenEnd)),
            (vec![Insn::mov(Reg::R0, 0)], Err(CodeError::OpenEnd)),
            (vec![Insn::Jump { off: 1 }, lddw, Insn::Exit], Err(CodeError::JumpTarget { at: 0, to: 2 })),
            (vec![Insn::Jump { off: 5 }], Err(CodeError::JumpTarget { at: 0, to: 6 })),
            (vec![Insn::Jump { off: -2 }], Err(CodeError::JumpTarget { at: 0, to: -1 })),
            (vec![lddw, Insn::Jump { off: 0 }, Insn::Exit], Ok(4)),
        ];
        for (insns, want) in cases {
            assert_eq!(Code::new(insns.clone()).map(|c| c.slots()), want, "{insns:?}");
        }
    }

    #[test]
    fn slots_count_two_for_wide_constants() {
        let map = Insn::LoadMap { dst: Reg::R1, map: MapRef::Private(3) };
        let load = Insn::load(Size::B4, Reg::R0, Reg::R1, 0);
        let code = Code::new(vec![load, map, Insn::Exit]).unwrap();
        assert_eq!(code.iter().map(|(s, _)| s).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(code.map_refs().collect::<Vec<_>>(), [(1, MapRef::Private(3))]);
    }
}
