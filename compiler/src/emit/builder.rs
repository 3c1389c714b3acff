//! The assembler with what the emitter needs around it: field access, notes,
//! names of labels, and a count of branches that wait for the verifier.

use crate::abi::Field;
use crate::bpf::{
    Access, AluOp, AsmError, Assembler, Cond, Helper, Index, Insn, Label, Layout, MapRef, Operand, Reg, Size,
    Values, Width,
};
use crate::image::{Note, NoteKind, Program, Subject};
use crate::ir::Origin;

/// Scratch register of all tests.
pub(super) const SCRATCH: Reg = Reg::R1;
/// Context, as the program got it, unless it waits on the stack.
const CONTEXT: Reg = Reg::R6;
/// Where it waits there.
const CONTEXT_SLOT: i16 = -40;
/// Packet state.
pub(super) const STATE: Reg = Reg::R9;

/// Collects one program.
#[derive(Default)]
pub(super) struct Builder {
    asm: Assembler,
    notes: Vec<(Label, Note)>,
    names: Vec<(Label, String)>,
    branches: u32,
    context_on_stack: bool,
}

impl Builder {
    /// Instructions from here on are for this part of the program.
    pub fn part(&mut self, text: impl Into<String>) {
        self.note(NoteKind::Part, text.into(), None, None);
    }

    /// Instructions from here on are for this part of the policy.
    pub fn about(&mut self, subject: Subject, text: impl Into<String>, at: Option<Origin>) {
        let kind = match subject {
            Subject::Rule(_) | Subject::End(_) => NoteKind::Rule,
            Subject::Test(_) | Subject::Action => NoteKind::Test,
        };
        self.note(kind, text.into(), at, Some(subject));
    }

    fn note(&mut self, kind: NoteKind, text: String, at: Option<Origin>, subject: Option<Subject>) {
        let here = self.asm.here();
        // The slot is known when the program is linked.
        self.notes.push((here, Note { slot: 0, kind, text, at, subject }));
    }

    /// For code that another module appends.
    pub fn assembler(&mut self) -> &mut Assembler {
        &mut self.asm
    }

    pub fn label(&mut self) -> Label {
        self.asm.new_label()
    }

    /// A label that the listing shows under a name.
    pub fn named_label(&mut self, name: impl Into<String>) -> Label {
        let label = self.asm.new_label();
        self.names.push((label, name.into()));
        label
    }

    pub fn bind(&mut self, label: Label) -> Result<(), AsmError> {
        self.asm.bind(label)
    }

    pub fn push(&mut self, insn: Insn) {
        self.asm.push(insn);
    }

    pub fn jump(&mut self, to: Label) {
        self.asm.jump(to);
    }

    /// A compare of the scratch register's lower half.
    pub fn jump_if(&mut self, cond: Cond, imm: u32, to: Label) {
        self.asm.jump_if(Width::W32, cond, SCRATCH, imm as i32, to);
    }

    /// A compare of a pointer with null.
    pub fn jump_if_null(&mut self, pointer: Reg, to: Label) {
        self.asm.jump_if(Width::W64, Cond::Eq, pointer, 0, to);
    }

    /// As [`Self::jump_if_null`], the other way round.
    pub fn jump_unless_null(&mut self, pointer: Reg, to: Label) {
        self.asm.jump_if(Width::W64, Cond::Ne, pointer, 0, to);
    }

    /// Loads a field of the packet state into the scratch register.
    pub fn load_field(&mut self, field: Field) {
        self.push(Insn::load(size(field), SCRATCH, STATE, field.offset));
    }

    /// Stores to a field of the packet state.
    pub fn store_field(&mut self, field: Field, src: impl Into<Operand>) {
        self.push(Insn::store(size(field), STATE, field.offset, src));
    }

    /// Clears all bits of the scratch register but those of `mask`.
    pub fn mask(&mut self, mask: u32) {
        self.push(Insn::Alu {
            width: Width::W32,
            op: AluOp::And,
            dst: SCRATCH,
            src: Operand::Imm(mask as i32),
        });
    }

    /// Looks up the key at `STATE + field`; the result is in `R0`.
    pub fn look_up(&mut self, map: MapRef, key: Field) {
        self.push(Insn::mov(Reg::R2, STATE));
        if key.offset != 0 {
            self.push(Insn::alu(AluOp::Add, Reg::R2, i32::from(key.offset)));
        }
        self.asm.load_map(Reg::R1, map);
        self.asm.call(Helper::MAP_LOOKUP_ELEM);
    }

    /// Leaves the address of an array's value in `R0`; goes to `missing` beyond its end.
    /// Loses `R1` to `R5` and the four bytes below the frame pointer.
    pub fn point(&mut self, values: &Values, index: impl Into<Index>, missing: Label) {
        self.asm.point(values, index, -4, missing);
    }

    /// Loads the element of those at `R0` that `index` numbers, which is lost.
    pub fn load_element(&mut self, size: Size, index: Reg, to: Reg) {
        let shift = size.bytes().trailing_zeros() as i32;
        if shift > 0 {
            self.push(Insn::alu(AluOp::Lsh, index, shift));
        }
        self.push(Insn::alu(AluOp::Add, Reg::R0, index));
        self.push(Insn::load(size, to, Reg::R0, 0));
    }

    /// Loads the element that `element` numbers of the value that `value` does. Both
    /// registers are lost; the value's number is added last, as it is known last.
    pub fn load_in(
        &mut self,
        values: &Values,
        value: Reg,
        (element, size): (Reg, Size),
        to: Reg,
        missing: Label,
    ) {
        if values.access == Access::LookUp {
            self.point(values, Index::Spent(value), missing);
            return self.load_element(size, element, to);
        }
        self.jump_if_reg(Cond::Ge, value, values.count as i32, missing);
        self.asm.scale(element, size.bytes().into());
        self.asm.scale(value, values.size);
        self.asm.load_map_value(Reg::R0, values.map, 0);
        self.push(Insn::alu(AluOp::Add, Reg::R0, element));
        self.push(Insn::alu(AluOp::Add, Reg::R0, value));
        self.push(Insn::load(size, to, Reg::R0, 0));
    }

    /// Adds one to a counter of this CPU.
    pub fn count(&mut self, map: u32, index: Reg, missing: Label) {
        // A per-CPU array has no address that a program could know.
        let counters = Values { map: MapRef::Private(map), size: 8, count: 0, access: Access::LookUp };
        self.point(&counters, index, missing);
        self.push(Insn::load(Size::B8, Reg::R1, Reg::R0, 0));
        self.push(Insn::alu(AluOp::Add, Reg::R1, 1));
        self.push(Insn::store(Size::B8, Reg::R0, 0, Reg::R1));
    }

    /// A compare of all 64 bits of a register with a constant that is not negative.
    pub fn jump_if_reg(&mut self, cond: Cond, reg: Reg, imm: i32, to: Label) {
        self.asm.jump_if(Width::W64, cond, reg, imm, to);
    }

    /// Keeps the context, which is in `r1`, for tail calls: in `r6`, or in the eight bytes
    /// at `fp-40` where a program needs `r6` for more urgent things.
    pub fn keep_context(&mut self, on_stack: bool) {
        self.context_on_stack = on_stack;
        self.push(match on_stack {
            true => Insn::store(Size::B8, Reg::R10, CONTEXT_SLOT, Reg::R1),
            false => Insn::mov(CONTEXT, Reg::R1),
        });
    }

    /// A tail call with a constant index; goes on if there is no such program.
    pub fn tail_call(&mut self, map: MapRef, index: u32) {
        self.push(match self.context_on_stack {
            true => Insn::load(Size::B8, Reg::R1, Reg::R10, CONTEXT_SLOT),
            false => Insn::mov(Reg::R1, CONTEXT),
        });
        self.asm.load_map(Reg::R2, map);
        self.push(Insn::mov(Reg::R3, index as i32));
        self.asm.call(Helper::TAIL_CALL);
    }

    pub fn load_map_value(&mut self, dst: Reg, map: MapRef, offset: u32) {
        self.asm.load_map_value(dst, map, offset);
    }

    pub fn load_map(&mut self, dst: Reg, map: MapRef) {
        self.asm.load_map(dst, map);
    }

    pub fn call(&mut self, helper: Helper) {
        self.asm.call(helper);
    }

    /// Counts branches that wait until the verifier has seen all later rules.
    pub fn count_branches(&mut self, n: u32) {
        self.branches = self.branches.saturating_add(n);
    }

    pub fn branches(&self) -> u32 {
        self.branches
    }

    /// Slots so far, unreachable code included.
    pub fn slots(&self) -> u32 {
        self.asm.slots()
    }

    /// Links the program.
    pub fn finish(self, name: String) -> Result<Program, AsmError> {
        let (code, layout) = self.asm.finish_with_layout()?;
        let end = code.slots();
        let mut labels: Vec<(u32, String)> =
            self.names.into_iter().filter_map(|(label, name)| Some((layout.slot(label)?, name))).collect();
        labels.retain(|(slot, _)| *slot < end);
        labels.sort_by_key(|(slot, _)| *slot);
        labels.dedup_by_key(|(slot, _)| *slot);
        Ok(Program { name, notes: notes(self.notes, &layout, end), labels, code })
    }
}

/// Notes with their slots, without those whose instructions were all dropped.
fn notes(found: Vec<(Label, Note)>, layout: &Layout, end: u32) -> Vec<Note> {
    let mut kept: Vec<Note> = Vec::with_capacity(found.len());
    // From the end: where the next note of the same kind or a higher one starts.
    let (mut part, mut rule, mut test) = (end, end, end);
    for (label, note) in found.into_iter().rev() {
        let Some(slot) = layout.slot(label) else { continue };
        let (limit, open) = match note.kind {
            NoteKind::Part => (part, &mut part),
            NoteKind::Rule => (rule, &mut rule),
            NoteKind::Test => (test, &mut test),
        };
        if slot >= limit {
            continue;
        }
        *open = slot;
        // A higher note ends the lower ones before it.
        rule = rule.min(part);
        test = test.min(rule);
        kept.push(Note { slot, ..note });
    }
    kept.reverse();
    kept
}

fn size(field: Field) -> Size {
    match field.size {
        1 => Size::B1,
        2 => Size::B2,
        4 => Size::B4,
        _ => Size::B8,
    }
}
