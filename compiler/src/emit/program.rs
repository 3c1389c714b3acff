//! One program: prologue, rules of its pieces, shared ends.

use std::collections::BTreeMap;

use cranelift_entity::EntityRef;

use super::builder::{Builder, SCRATCH};
use super::glue::{self, Ends};
use super::rule::{self, Exits, Side};
use super::sets::SetTests;
use super::{EmitError, EmitOptions, tables, text};
use crate::bpf::{AsmError, Insn, Label, MapRef, Reg};
use crate::image::{Program, Subject};
use crate::ir::{Chain, ChainEnd, PolicyIr};
use crate::passes::{Piece, ProgramPlan, Segment};

/// Emits the program of a segment.
pub(super) fn emit(
    ir: &PolicyIr,
    sets: SetTests<'_>,
    plan: &ProgramPlan,
    segment: Segment,
    options: &EmitOptions,
) -> Result<Program, EmitError> {
    let number = segment.index();
    let name = if number == 0 { "polc_policy".to_string() } else { format!("polc_policy_{number}") };
    let program = Emitter::new(ir, sets, plan, segment, options)
        .emit()
        .and_then(|b| b.finish(name))
        .map_err(|error| EmitError::Assemble { program: number, error })?;
    match program.code.slots() {
        given if given > options.max_slots => {
            Err(EmitError::PlanExceeded { program: number, given, max: options.max_slots })
        }
        _ => Ok(program),
    }
}

struct Emitter<'a> {
    b: Builder,
    ir: &'a PolicyIr,
    sets: SetTests<'a>,
    plan: &'a ProgramPlan,
    segment: Segment,
    options: &'a EmitOptions,
    ends: Ends,
    /// Where each chain goes on: in this program or at a tail call.
    chains: BTreeMap<Chain, Label>,
    /// Tail calls to other segments.
    calls: BTreeMap<Segment, Label>,
}

impl<'a> Emitter<'a> {
    fn new(
        ir: &'a PolicyIr,
        sets: SetTests<'a>,
        plan: &'a ProgramPlan,
        segment: Segment,
        options: &'a EmitOptions,
    ) -> Self {
        let mut b = Builder::default();
        let ends = Ends::new(&mut b, options.count.then(|| sets.hits()));
        Self { b, ir, sets, plan, segment, options, ends, chains: BTreeMap::new(), calls: BTreeMap::new() }
    }

    fn emit(mut self) -> Result<Builder, AsmError> {
        self.prologue()?;
        for piece in &self.plan.segments[self.segment] {
            self.piece(piece)?;
        }
        if let Some(next) = self.next_segment() {
            let label = self.call(next);
            self.b.jump(label);
        }
        self.ends()?;
        Ok(self.b)
    }

    fn next_segment(&self) -> Option<Segment> {
        let next = Segment::new(self.segment.index() + 1);
        self.plan.segments.is_valid(next).then_some(next)
    }

    fn prologue(&mut self) -> Result<(), AsmError> {
        glue::state(&mut self.b, false)?;
        if matches!(self.sets, SetTests::Compares(_)) {
            return Ok(());
        }
        for side in Side::BOTH {
            if self.segment.index() == 0 && self.plan.segments.keys().any(|s| self.uses_sets(s, side)) {
                self.class(side)?;
            }
            if self.uses_sets(self.segment, side) {
                self.row(side);
            }
        }
        Ok(())
    }

    /// Keeps the class of a side's address in the state, for the programs that follow.
    fn class(&mut self, side: Side) -> Result<(), AsmError> {
        glue::class(&mut self.b, side, SCRATCH)?;
        self.b.store_field(side.class_field(), SCRATCH);
        Ok(())
    }

    /// Fetches the row of a side's class.
    fn row(&mut self, side: Side) {
        let b = &mut self.b;
        b.part(format!("sets that hold the {} address", side.as_str()));
        b.look_up(MapRef::Private(tables::ROWS), side.class_field());
        b.jump_if_null(Reg::R0, self.ends.no_table);
        b.push(Insn::mov(side.row(), Reg::R0));
    }

    fn uses_sets(&self, segment: Segment, side: Side) -> bool {
        self.plan.segments[segment].iter().any(|piece| {
            let rules = self.ir.chains[piece.chain].rules.get(piece.rules.clone()).unwrap_or_default();
            rules.iter().any(|rule| side.uses_sets(&self.ir.rules[*rule].matches))
        })
    }

    fn piece(&mut self, piece: &Piece) -> Result<(), AsmError> {
        let ir = self.ir;
        let chain = &ir.chains[piece.chain];
        if self.plan.entry(piece.chain) == Some(self.segment) && piece.rules.start == 0 {
            let start = self.chain(piece.chain);
            self.b.bind(start)?;
        }
        self.b.part(text::chain(chain));
        let (allow, deny) = (self.ends.allow, self.ends.deny);
        let count = self.ends.hits.map(|map| (map, self.ends.no_table));
        for rule in chain.rules.get(piece.rules.clone()).unwrap_or_default() {
            let miss = self.b.named_label(format!("after_{rule}"));
            let pass = match ir.rules[*rule].action {
                crate::ir::Action::Pass => self.after(piece.chain),
                _ => miss,
            };
            rule::emit(&mut self.b, ir, *rule, self.sets, Exits { allow, deny, pass, miss, count })?;
            self.b.bind(miss)?;
        }
        if piece.ends_chain {
            self.chain_end(piece.chain);
        }
        Ok(())
    }

    fn chain_end(&mut self, chain: Chain) {
        let end = self.ir.chains[chain].end;
        let (decision, verb, to) = match end {
            ChainEnd::Allow(decision) => (decision, "allow", self.ends.allow),
            ChainEnd::Deny(decision) => (decision, "deny", self.ends.deny),
            ChainEnd::Pass => {
                let next = self.after(chain);
                self.b.about(Subject::End(chain), text::chain_end(self.ir, chain), None);
                self.b.jump(next);
                return;
            }
        };
        let at = self.ir.decisions[decision].at;
        self.b.about(Subject::End(chain), text::chain_end(self.ir, chain), at);
        rule::decide(&mut self.b, decision, verb, at, to);
    }

    /// Where evaluation goes on after a chain. The last chain never passes in an
    /// IR that verifies; here it would fail closed.
    fn after(&mut self, chain: Chain) -> Label {
        let place = self.ir.order.iter().position(|c| *c == chain);
        match place.and_then(|at| self.ir.order.get(at + 1)) {
            Some(next) => self.chain(*next),
            None => self.ends.no_program,
        }
    }

    /// The start of a chain: in this program, or a tail call.
    fn chain(&mut self, chain: Chain) -> Label {
        match self.plan.entry(chain) {
            Some(segment) if segment == self.segment => {
                let b = &mut self.b;
                *self.chains.entry(chain).or_insert_with(|| b.named_label(chain.to_string()))
            }
            Some(segment) => self.call(segment),
            None => self.ends.no_program,
        }
    }

    fn call(&mut self, segment: Segment) -> Label {
        let b = &mut self.b;
        *self.calls.entry(segment).or_insert_with(|| b.named_label(format!("to_{segment}")))
    }

    fn ends(&mut self) -> Result<(), AsmError> {
        let b = &mut self.b;
        for (segment, label) in &self.calls {
            b.part(format!("go on in {segment}"));
            b.bind(*label)?;
            b.tail_call(
                MapRef::Private(tables::sub_programs(self.sets, self.options)),
                segment.index() as u32,
            );
            b.jump(self.ends.no_program);
        }
        self.ends.emit(b)
    }
}
