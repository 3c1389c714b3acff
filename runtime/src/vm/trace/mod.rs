//! Which instructions of a policy a packet ran through.
//!
//! [`Tracer`] is the VM with one difference: a policy's programs are not handed
//! to rbpf but stepped through here, instruction by instruction, on the same
//! memory, maps and helpers. The entry program before them and the program that
//! ends the packet run as always. So a trace is no model of a run: its verdict,
//! decision and log records come from the packet state that this run left.
//!
//! Why sound: `step` knows every [`polc_compiler::bpf::Insn`], and stops with a
//! fault at anything that the kernel's verifier would not let a program do
//! (memory outside of the VM's, a step outside of the program, no end). Tests
//! hold it against rbpf on drawn policies.
//!
//! Cost: some 20 ns per instruction and one record of eight bytes; for one packet
//! that is asked about, not for a replay.

mod step;

use polc_compiler::bpf::{Insn, MapRef};
use polc_compiler::image::{PolicyImage, Program};
use polc_compiler::ir::Direction;

use self::step::{Frame, Next};
use super::region::Region;
use super::world::handle;
use super::{Vm, VmOptions};
use crate::{Attachment, AttachmentSpec, Engine, EngineError, Evaluation, Packet};

/// Bytes of stack that a program has, as in the kernel.
const STACK_BYTES: u64 = 512;
/// Instructions that one packet may run; a generated program jumps forward only,
/// so that it runs each of its instructions once at most.
const MAX_STEPS: usize = 4 << 20;

/// An instruction that ran.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// Index into [`PolicyImage::programs`].
    pub program: u32,
    /// First slot of the instruction.
    pub slot: u32,
}

/// One packet's way through the policy of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What the run found.
    pub evaluation: Evaluation,
    /// The policy's instructions in the order in which they ran; empty where
    /// something decided before policy.
    pub steps: Vec<Step>,
}

/// A [`Vm`] that can tell which instructions of a policy ran: it steps through the
/// policy's programs itself, on the VM's memory, maps and helpers.
pub struct Tracer<'a> {
    vm: Vm,
    images: Vec<&'a PolicyImage>,
    stack: Region,
}

impl<'a> Tracer<'a> {
    /// Loads the entry object and the images, as [`Vm::new`] does.
    ///
    /// # Errors
    /// As [`Vm::new`].
    pub fn new(entry: &[u8], specs: &[AttachmentSpec<'a>], options: VmOptions) -> Result<Self, EngineError> {
        let mut vm = Vm::new(entry, specs, options)?;
        let stack = vm
            .pages
            .take(STACK_BYTES)
            .ok_or_else(|| super::image::no_room(STACK_BYTES, vm.pages.largest()))?;
        Ok(Self { vm, images: specs.iter().map(|s| s.image).collect(), stack })
    }

    /// Evaluates one packet and says which of the policy's instructions ran.
    /// State carries over to the next packet, as in [`Engine::evaluate`].
    ///
    /// # Errors
    /// A fault of a program or of this engine, never a verdict.
    pub fn trace(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Trace, EngineError> {
        self.vm.select(at)?;
        self.vm.place(packet);
        let first = match self.vm.attachments[at.0 as usize].direction {
            Direction::Ingress => self.vm.entry[0],
            Direction::Egress => self.vm.entry[1],
        };
        let mut steps = Vec::new();
        self.vm.world.tail_calls = 0;
        let mut program = first;
        loop {
            self.vm.world.next = None;
            let result = match self.policy_program(at, program) {
                Some(index) => self.step_through(at, index, &mut steps)?,
                None => self.vm.programs.run(program, &mut self.vm.world)?,
            };
            if let Some(reason) = self.vm.world.fault.take() {
                return Err(EngineError::Fault { program: self.vm.programs.name(program), reason });
            }
            match self.vm.world.next {
                Some(next) => program = next,
                None => {
                    let evaluation = self.vm.evaluation(result as u32, first)?;
                    return Ok(Trace { evaluation, steps });
                }
            }
        }
    }

    /// The index in the attachment's image of a program that is the policy's.
    fn policy_program(&self, at: Attachment, program: u32) -> Option<usize> {
        let image = self.vm.attachments.get(at.0 as usize)?.image;
        let loaded = self.vm.images.get(image)?.as_ref()?;
        loaded.programs.iter().position(|p| *p == program)
    }

    /// Runs one program to its exit or to a tail call that is taken; gives r0.
    fn step_through(
        &mut self,
        at: Attachment,
        index: usize,
        steps: &mut Vec<Step>,
    ) -> Result<u64, EngineError> {
        let program = self.images.get(at.0 as usize).and_then(|image| image.programs.get(index));
        let Some(program) = program else {
            return Err(fault("policy", format!("program {index} is not in the image")));
        };
        let insns = self.resolved(at, program)?;
        let vm = &mut self.vm;
        vm.world.arena.clear_pages(self.stack.at, self.stack.len as usize);
        let mut frame = Frame::new(vm.world.context, self.stack.at + STACK_BYTES);
        let mut slot = 0;
        loop {
            let insn = insns.get(slot as usize).copied().flatten();
            let insn = insn.ok_or_else(|| fault(&program.name, format!("no instruction at slot {slot}")))?;
            if steps.len() >= MAX_STEPS {
                return Err(fault(&program.name, format!("more than {MAX_STEPS} instructions ran")));
            }
            steps.push(Step { program: index as u32, slot });
            match frame.step(&insn, &mut vm.world) {
                Ok(Next::Goes) => slot += insn.slots(),
                Ok(Next::Jumps(off)) => slot = slot.wrapping_add_signed(i32::from(off)).wrapping_add(1),
                Ok(Next::Ends) => return Ok(frame.result()),
                Err(reason) => return Err(fault(&program.name, format!("slot {slot}: {reason}"))),
            }
        }
    }

    /// A program's instructions by slot, maps as the handles that helpers take.
    fn resolved(&self, at: Attachment, program: &Program) -> Result<Vec<Option<Insn>>, EngineError> {
        let vm = &self.vm;
        let image = vm.attachments.get(at.0 as usize).and_then(|a| vm.images.get(a.image)?.as_ref());
        let mut by_slot = vec![None; program.code.slots() as usize];
        for (slot, insn) in program.code.iter() {
            let resolved = match *insn {
                Insn::LoadMap { dst, map } | Insn::LoadMapValue { dst, map, .. } => {
                    let id = match map {
                        MapRef::Private(index) => {
                            image.and_then(|image| image.maps.get(index as usize).copied())
                        }
                        MapRef::Shared(name) => {
                            vm.shared.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
                        }
                        MapRef::Fd(_) => None,
                    };
                    let missing = || fault(&program.name, format!("slot {slot}: no such map {map:?}"));
                    let id = id.ok_or_else(missing)?;
                    let imm = match *insn {
                        Insn::LoadMapValue { offset, .. } => {
                            vm.world.values(id).ok_or_else(missing)? + u64::from(offset)
                        }
                        _ => handle(id),
                    };
                    Insn::LoadImm64 { dst, imm }
                }
                other => other,
            };
            by_slot[slot as usize] = Some(resolved);
        }
        Ok(by_slot)
    }
}

impl Engine for Tracer<'_> {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        self.vm.evaluate(at, packet)
    }
}

fn fault(program: &str, reason: String) -> EngineError {
    EngineError::Fault { program: program.to_owned(), reason }
}
