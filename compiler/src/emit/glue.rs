//! What every program has around its rules or tables: the packet state, and the
//! shared ends where verdicts are made.

use super::builder::{Builder, SCRATCH, STATE};
use super::rule::Side;
use super::tables;
use crate::abi::{
    NO_DECISION, PROGS_MAP, REASON_NO_PROGRAM, REASON_NO_TABLE, REASON_POLICY, SLOT_ALLOWED, SLOT_DENIED,
    STATE_DECISION, STATE_FAMILY, STATE_MAP, STATE_REASON, STATE_VERDICT, TC_SHOT, VERDICT_ALLOW,
    VERDICT_DENY,
};
use crate::bpf::{AluOp, AsmError, Cond, Helper, Insn, Label, MapRef, Reg, Size};

/// Shared ends of a program.
pub(super) struct Ends {
    pub allow: Label,
    pub deny: Label,
    pub no_table: Label,
    pub no_program: Label,
    /// Counters by decision, if verdicts are counted here.
    pub hits: Option<u32>,
}

impl Ends {
    /// Labels that [`Self::emit`] binds.
    pub fn new(b: &mut Builder, hits: Option<u32>) -> Self {
        Self {
            hits,
            allow: b.named_label("allow"),
            deny: b.named_label("deny"),
            no_table: b.named_label("no_table"),
            no_program: b.named_label("no_program"),
        }
    }

    /// Allow, then the three ways to drop; all of these end in the denied program,
    /// and without that one at the tail call's fall-through.
    pub fn emit(&self, b: &mut Builder) -> Result<(), AsmError> {
        b.part("allow");
        b.bind(self.allow)?;
        self.count(b);
        b.store_field(STATE_REASON, REASON_POLICY as i32);
        b.store_field(STATE_VERDICT, VERDICT_ALLOW as i32);
        b.tail_call(MapRef::Shared(PROGS_MAP), SLOT_ALLOWED);
        let drop = b.named_label("drop");
        b.part("a program is missing");
        b.bind(self.no_program)?;
        b.store_field(STATE_DECISION, NO_DECISION as i32);
        b.store_field(STATE_REASON, REASON_NO_PROGRAM as i32);
        b.jump(drop);
        b.part("a table entry is missing");
        b.bind(self.no_table)?;
        b.store_field(STATE_DECISION, NO_DECISION as i32);
        b.store_field(STATE_REASON, REASON_NO_TABLE as i32);
        b.jump(drop);
        b.part("deny");
        b.bind(self.deny)?;
        self.count(b);
        b.store_field(STATE_REASON, REASON_POLICY as i32);
        b.bind(drop)?;
        b.store_field(STATE_VERDICT, VERDICT_DENY as i32);
        b.tail_call(MapRef::Shared(PROGS_MAP), SLOT_DENIED);
        shoot(b);
        Ok(())
    }

    fn count(&self, b: &mut Builder) {
        if let Some(hits) = self.hits {
            b.load_field(STATE_DECISION);
            b.count(hits, SCRATCH, self.no_table);
        }
    }
}

/// Keeps the context, on the stack if `r6` is wanted, and finds the packet state or drops.
pub(super) fn state(b: &mut Builder, wants_r6: bool) -> Result<(), AsmError> {
    b.part("packet state");
    let found = b.named_label("state");
    b.keep_context(wants_r6);
    b.push(Insn::store(Size::B4, Reg::R10, -4, 0));
    b.push(Insn::mov(Reg::R2, Reg::R10));
    b.push(Insn::alu(AluOp::Add, Reg::R2, -4));
    b.load_map(Reg::R1, MapRef::Shared(STATE_MAP));
    b.call(Helper::MAP_LOOKUP_ELEM);
    b.jump_unless_null(Reg::R0, found);
    shoot(b);
    b.bind(found)?;
    b.push(Insn::mov(STATE, Reg::R0));
    Ok(())
}

/// Looks up the class of a side's address; what the table lacks is in class 0.
pub(super) fn class(b: &mut Builder, side: Side, to: Reg) -> Result<(), AsmError> {
    b.part(format!("class of the {} address", side.as_str()));
    let (v6, found, done) = (b.label(), b.label(), b.label());
    b.load_field(STATE_FAMILY);
    b.jump_if(Cond::Eq, 6, v6);
    b.look_up(MapRef::Private(tables::ADDR4), side.key_field());
    b.jump(found);
    b.bind(v6)?;
    b.look_up(MapRef::Private(tables::ADDR6), side.key_field());
    b.bind(found)?;
    b.push(Insn::mov(to, 0));
    b.jump_if_null(Reg::R0, done);
    b.push(Insn::load(Size::B4, to, Reg::R0, 0));
    b.bind(done)
}

/// Drops the packet without a word: what is left when even the state is missing.
fn shoot(b: &mut Builder) {
    b.push(Insn::mov(Reg::R0, TC_SHOT as i32));
    b.push(Insn::Exit);
}
