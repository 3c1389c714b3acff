//! The same policy at XDP: another program array, another return code.
//!
//! Generated programs read nothing but the packet state, which the entry program
//! fills alike at both hooks, and end in tail calls. Two things differ. A program
//! array holds programs of one type only, so the shared one is replaced. And what
//! returns by itself drops: `TC_SHOT`, which is `XDP_PASS` at XDP.
//!
//! Sound: all that ends a program (`exit`) has to follow a constant `TC_SHOT` in
//! r0, else the image is refused: a return code that is not known to drop could
//! open. A jump to an `exit` past its constant is refused for the same reason.
//! Cost: one walk over the instructions.

use super::PolicyImage;
use crate::abi::{PROGS_MAP, TC_SHOT, XDP_DROP, XDP_PROGS_MAP};
use crate::bpf::{Code, Insn, MapRef, Reg};

/// A program whose return code is not known to drop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("program `{program}` ends at instruction {at} with another return code than the constant {TC_SHOT}")]
pub struct OpenExit {
    /// The program.
    pub program: String,
    /// Index of the `exit`.
    pub at: usize,
}

/// The image that enforces at XDP what `image` enforces at tc.
///
/// # Errors
/// [`OpenExit`].
pub fn for_xdp(image: &PolicyImage) -> Result<PolicyImage, OpenExit> {
    let mut image = image.clone();
    for program in &mut image.programs {
        let open = |at| OpenExit { program: program.name.clone(), at };
        program.code = convert(program.code.insns()).map_err(open)?;
    }
    Ok(image)
}

/// The converted instructions; else the index of the exit that cannot be.
fn convert(insns: &[Insn]) -> Result<Code, usize> {
    let shot = Insn::mov(Reg::R0, TC_SHOT as i32);
    let mut converted = insns.to_vec();
    for (at, insn) in insns.iter().enumerate() {
        match insn {
            Insn::LoadMap { dst, map: MapRef::Shared(PROGS_MAP) } => {
                converted[at] = Insn::LoadMap { dst: *dst, map: MapRef::Shared(XDP_PROGS_MAP) };
            }
            Insn::Exit => {
                let before = at.checked_sub(1).filter(|before| insns[*before] == shot).ok_or(at)?;
                converted[before] = Insn::mov(Reg::R0, XDP_DROP as i32);
            }
            _ => {}
        }
    }
    match jumps_to_exit(insns) {
        Some(at) => Err(at),
        None => Code::new(converted).map_err(|_| insns.len()),
    }
}

/// The exit that a jump goes to directly.
fn jumps_to_exit(insns: &[Insn]) -> Option<usize> {
    let mut slots = Vec::with_capacity(insns.len());
    let mut next = 0_i64;
    for insn in insns {
        slots.push(next);
        next += i64::from(insn.slots());
    }
    insns.iter().zip(&slots).find_map(|(insn, slot)| {
        let target = slot + 1 + i64::from(insn.jump_offset()?);
        let at = slots.binary_search(&target).ok()?;
        (insns[at] == Insn::Exit).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{Assembler, Cond, Width};
    use crate::image::Program;
    use crate::ir::Direction;

    fn image(build: impl FnOnce(&mut Assembler)) -> PolicyImage {
        let mut asm = Assembler::new();
        build(&mut asm);
        let code = asm.finish().unwrap();
        let program = Program { name: "p".into(), code, notes: Vec::new(), labels: Vec::new() };
        PolicyImage {
            name: "i".into(),
            direction: Direction::Ingress,
            programs: vec![program],
            maps: Vec::new(),
            decisions: Vec::new(),
            files: Vec::new(),
            hits: Vec::new(),
            considered: Vec::new(),
        }
    }

    #[test]
    fn a_drop_at_tc_drops_at_xdp() {
        let xdp = for_xdp(&image(|a| {
            a.load_map(Reg::R2, MapRef::Shared(PROGS_MAP));
            a.load_map(Reg::R2, MapRef::Private(0));
            a.push(Insn::mov(Reg::R0, TC_SHOT as i32));
            a.push(Insn::Exit);
        }))
        .unwrap();
        let insns = xdp.programs[0].code.insns();
        assert_eq!(insns[0], Insn::LoadMap { dst: Reg::R2, map: MapRef::Shared(XDP_PROGS_MAP) });
        assert_eq!(insns[1], Insn::LoadMap { dst: Reg::R2, map: MapRef::Private(0) });
        assert_eq!(insns[2], Insn::mov(Reg::R0, XDP_DROP as i32));
    }

    #[test]
    fn what_may_open_is_refused() {
        let refused = |build: fn(&mut Assembler)| for_xdp(&image(build)).unwrap_err().at;
        let other_code = refused(|a| {
            a.push(Insn::mov(Reg::R0, 0));
            a.push(Insn::Exit);
        });
        assert_eq!(other_code, 1);
        let past_the_code = refused(|a| {
            let end = a.new_label();
            a.push(Insn::mov(Reg::R0, 5));
            a.jump_if(Width::W64, Cond::Eq, Reg::R1, 0, end);
            a.push(Insn::mov(Reg::R0, TC_SHOT as i32));
            a.bind(end).unwrap();
            a.push(Insn::Exit);
        });
        assert_eq!(past_the_code, 3);
    }
}
