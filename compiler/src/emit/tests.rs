//! Emitted code against the reference evaluator, on a small interpreter of
//! [`Insn`] that faults on anything the kernel's verifier would not allow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::abi::*;
use crate::bpf::{AluOp, Cond, Helper, Insn, MapRef, Operand, Reg, Size, Width};
use crate::image::{MapKind, MapSpec};
use crate::ir::generate::{Shape, flows, policy};
use crate::ir::{Flow, Verdict, evaluate};

/// The form that these tests are about; `dispatch` tests tables, and the
/// differential tests run every form's programs.
fn chain() -> EmitOptions {
    EmitOptions { form: Form::Chain, ..EmitOptions::default() }
}

const STATE_AT: u64 = 1 << 32;
const STACK_TOP: u64 = 2 << 32;
const VALUES_AT: u64 = 3 << 32;

/// What the decision fields hold at the end.
#[derive(Debug, PartialEq)]
struct Found {
    verdict: u32,
    reason: u32,
    decision: u32,
    logged: u32,
    log_decision: u32,
}

struct Machine<'a> {
    image: &'a PolicyImage,
    state: Vec<u8>,
    stack: [u8; 512],
    /// Values that look-ups returned, each at its own 4 GiB.
    values: Vec<Vec<u8>>,
    regs: [u64; 11],
    /// Programs that are missing from `polc_sub`.
    missing: bool,
    tail_calls: u32,
}

enum Step {
    Next,
    Jump(i16),
    Program(usize),
    End,
}

fn run(image: &PolicyImage, flow: &Flow) -> Found {
    run_with(image, flow, false)
}

fn run_with(image: &PolicyImage, flow: &Flow, missing: bool) -> Found {
    let mut m = Machine {
        image,
        state: state(flow),
        stack: [0; 512],
        values: Vec::new(),
        regs: [0; 11],
        missing,
        tail_calls: 1,
    };
    let mut program = 0;
    while let Some(next) = m.program(program) {
        program = next;
        m.tail_calls += 1;
    }
    assert!(m.tail_calls < 33, "too many tail calls");
    let word = |f: Field| u32::from_le_bytes(m.state[f.offset as usize..][..4].try_into().unwrap());
    Found {
        verdict: word(STATE_VERDICT),
        reason: word(STATE_REASON),
        decision: word(STATE_DECISION),
        logged: word(STATE_LOGGED),
        log_decision: word(STATE_LOG_DECISION),
    }
}

fn state(flow: &Flow) -> Vec<u8> {
    let mut s = vec![0; STATE_SIZE as usize];
    let mut put = |f: Field, bytes: &[u8]| s[f.offset as usize..][..bytes.len()].copy_from_slice(bytes);
    for (address, prefix, at) in
        [(flow.src, STATE_SRC_PREFIX, STATE_SRC), (flow.dst, STATE_DST_PREFIX, STATE_DST)]
    {
        match address {
            IpAddr::V4(a) => (put(prefix, &[32]), put(at, &a.octets())),
            IpAddr::V6(a) => (put(prefix, &[128]), put(at, &a.octets())),
        };
    }
    put(STATE_FAMILY, &[if flow.src.is_ipv4() { 4 } else { 6 }]);
    put(STATE_PROTOCOL, &[flow.protocol]);
    let mut flags = 0;
    if let Some((src, dst)) = flow.ports {
        flags |= FLAG_PORTS;
        put(STATE_SPORT, &src.to_le_bytes());
        put(STATE_DPORT, &dst.to_le_bytes());
    }
    if let Some((ty, code)) = flow.icmp {
        flags |= FLAG_ICMP;
        put(STATE_ICMP_TYPE, &[ty]);
        put(STATE_ICMP_CODE, &[code]);
    }
    put(STATE_FLAGS, &flags.to_le_bytes());
    put(STATE_DECISION, &NO_DECISION.to_le_bytes());
    put(STATE_LOG_DECISION, &NO_DECISION.to_le_bytes());
    put(STATE_SRC_CLASS, &77u32.to_le_bytes());
    put(STATE_DST_CLASS, &78u32.to_le_bytes());
    s
}

impl Machine<'_> {
    /// Runs a program; the next one if it tail-calls within the image.
    fn program(&mut self, number: usize) -> Option<usize> {
        let by_slot: BTreeMap<u32, Insn> =
            self.image.programs[number].code.iter().map(|(slot, insn)| (slot, *insn)).collect();
        self.regs = [0; 11];
        self.regs[1] = 0xc0;
        self.regs[10] = STACK_TOP;
        let mut at = 0;
        loop {
            let insn = by_slot[&at];
            at += insn.slots();
            match self.step(insn) {
                Step::Next => {}
                Step::Jump(off) => at = at.checked_add_signed(off.into()).unwrap(),
                Step::Program(next) => return Some(next),
                Step::End => {
                    assert_eq!(self.regs[0], u64::from(TC_SHOT), "only drops end here");
                    return None;
                }
            }
        }
    }

    fn step(&mut self, insn: Insn) -> Step {
        match insn {
            Insn::Alu { width, op, dst, src } => {
                let (a, b) = (self.regs[dst as usize], self.value(src));
                let mut r = match op {
                    AluOp::Mov => b,
                    AluOp::Add => a.wrapping_add(b),
                    AluOp::And => a & b,
                    other => panic!("{other:?} is not emitted"),
                };
                if width == Width::W32 {
                    r &= 0xffff_ffff;
                }
                self.regs[dst as usize] = r;
            }
            Insn::Load { size, dst, base, off } => {
                let n = usize::from(size.bytes());
                let mut v = [0; 8];
                v[..n].copy_from_slice(&self.memory(base, off)[..n]);
                self.regs[dst as usize] = u64::from_le_bytes(v);
            }
            Insn::Store { size, base, off, src } => {
                assert_eq!(size, Size::B4);
                let v = self.value(src) as u32;
                self.memory(base, off)[..4].copy_from_slice(&v.to_le_bytes());
            }
            Insn::LoadMap { dst, map } => {
                self.regs[dst as usize] = match map {
                    MapRef::Private(i) => u64::from(i),
                    MapRef::Shared(STATE_MAP) => 1000,
                    MapRef::Shared(PROGS_MAP) => 1001,
                    other => panic!("{other}"),
                };
            }
            Insn::Jump { off } => return Step::Jump(off),
            Insn::JumpIf { width, cond, dst, src, off } => {
                let mask = if width == Width::W32 { 0xffff_ffff } else { u64::MAX };
                let (a, b) = (self.regs[dst as usize] & mask, self.value(src) & mask);
                let holds = match cond {
                    Cond::Eq => a == b,
                    Cond::Ne => a != b,
                    Cond::Gt => a > b,
                    Cond::Lt => a < b,
                    Cond::Set => a & b != 0,
                    other => panic!("{other:?} is not emitted"),
                };
                if holds {
                    return Step::Jump(off);
                }
            }
            Insn::Call(Helper::MAP_LOOKUP_ELEM) => self.look_up(),
            Insn::Call(Helper::TAIL_CALL) => return self.tail_call(),
            Insn::Exit => return Step::End,
            other => panic!("{other} is not emitted"),
        }
        Step::Next
    }

    fn value(&self, src: Operand) -> u64 {
        match src {
            Operand::Reg(reg) => self.regs[reg as usize],
            Operand::Imm(imm) => imm as i64 as u64,
        }
    }

    fn memory(&mut self, base: Reg, off: i16) -> &mut [u8] {
        self.memory_at(self.regs[base as usize].wrapping_add_signed(off.into()))
    }

    fn memory_at(&mut self, address: u64) -> &mut [u8] {
        if (STACK_TOP - 512..STACK_TOP).contains(&address) {
            return &mut self.stack[(address + 512 - STACK_TOP) as usize..];
        }
        let low = (address & 0xffff_ffff) as usize;
        match address - low as u64 {
            STATE_AT => &mut self.state[low..],
            values => &mut self.values[((values - VALUES_AT) >> 32) as usize][low..],
        }
    }

    fn look_up(&mut self) {
        let map = self.regs[1];
        let key_at = self.regs[2];
        self.regs[1..6].fill(0xdead_dead_dead_dead);
        if map == 1000 {
            assert_eq!(self.memory_at(key_at)[..4], [0; 4]);
            self.regs[0] = STATE_AT;
            return;
        }
        let image = self.image;
        let spec = &image.maps[map as usize];
        let key = self.memory_at(key_at)[..spec.key_size as usize].to_vec();
        self.regs[0] = match find(spec, &key) {
            Some(value) => {
                self.values.push(value);
                VALUES_AT + ((self.values.len() as u64 - 1) << 32)
            }
            None => 0,
        };
    }

    fn tail_call(&mut self) -> Step {
        let (ctx, map, index) = (self.regs[1], self.regs[2], self.regs[3]);
        assert_eq!(ctx, 0xc0);
        if map != 1001 {
            assert_eq!(self.image.maps[map as usize].kind, MapKind::ProgArray);
            assert!(index > 0 && (index as usize) < self.image.programs.len());
            return if self.missing { Step::Next } else { Step::Program(index as usize) };
        }
        let verdict = self.state[STATE_VERDICT.offset as usize];
        assert_eq!(u64::from(verdict), index + 1, "slot and verdict agree");
        self.regs[0] = TC_SHOT.into();
        Step::End
    }
}

fn find(spec: &MapSpec, key: &[u8]) -> Option<Vec<u8>> {
    match spec.kind {
        MapKind::Array => {
            let index = u32::from_le_bytes(key.try_into().unwrap());
            let entry = spec.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            (index < spec.max_entries).then(|| entry.unwrap_or(vec![0; spec.value_size as usize]))
        }
        MapKind::LpmTrie => {
            let covers = |(k, _): &&(Vec<u8>, Vec<u8>)| {
                let length = k[0] as usize;
                (0..length).all(|bit| (k[4 + bit / 8] ^ key[4 + bit / 8]) & (0x80 >> (bit % 8)) == 0)
            };
            spec.entries.iter().filter(covers).max_by_key(|(k, _)| k[0]).map(|(_, v)| v.clone())
        }
        other => panic!("look-up in {other:?}"),
    }
}

fn expected(ir: &PolicyIr, flow: &Flow) -> Found {
    let outcome = evaluate(ir, flow);
    Found {
        verdict: if outcome.verdict == Verdict::Allow { VERDICT_ALLOW } else { VERDICT_DENY },
        reason: REASON_POLICY,
        decision: outcome.decision.as_u32(),
        logged: outcome.logged.len() as u32,
        log_decision: outcome.logged.last().map_or(NO_DECISION, |d| d.as_u32()),
    }
}

fn compare(seeds: std::ops::Range<u64>, shape: &Shape, options: &EmitOptions) -> usize {
    let mut most = 0;
    for seed in seeds {
        let ir = policy(seed, shape);
        let image = match emit(&ir, options) {
            Ok(image) => image,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        most = most.max(image.programs.len());
        for program in &image.programs {
            assert!(program.code.slots() <= options.max_slots);
            assert!(program.notes.is_sorted_by_key(|n| n.slot));
        }
        for flow in flows(&ir, seed, 60) {
            assert_eq!(run(&image, &flow), expected(&ir, &flow), "seed {seed}: {flow:?}\n{ir:#?}");
        }
    }
    most
}

#[test]
fn code_agrees_with_the_reference_evaluator() {
    compare(0..400, &Shape::default(), &chain());
    let wide = Shape { sets: 90, nets: 8, rules: 40, ports: 12, ..Shape::default() };
    compare(0..40, &wide, &chain());
}

#[test]
fn split_programs_agree_with_the_reference_evaluator() {
    let tiny = EmitOptions { max_slots: 260, ..chain() };
    let shape = Shape { rules: 20, ..Shape::default() };
    let most = compare(0..200, &shape, &tiny);
    assert!(most > 3, "at most {most} programs");
    let few_branches = EmitOptions { max_branches: 400, ..chain() };
    assert!(compare(200..300, &Shape { rules: 60, ..shape }, &few_branches) > 1);
}

#[test]
fn a_missing_sub_program_drops_and_says_so() {
    let tiny = EmitOptions { max_slots: 260, ..chain() };
    let mut dropped = 0;
    for seed in 0..50 {
        let ir = policy(seed, &Shape { rules: 20, ..Shape::default() });
        let image = emit(&ir, &tiny).unwrap();
        for flow in flows(&ir, seed, 40) {
            let found = run_with(&image, &flow, true);
            if found.reason != REASON_POLICY {
                let want = (VERDICT_DENY, REASON_NO_PROGRAM, NO_DECISION);
                assert_eq!((found.verdict, found.reason, found.decision), want);
                dropped += 1;
            }
        }
    }
    assert!(dropped > 100, "only {dropped} packets met the gap");
}

#[test]
fn a_missing_row_drops_and_says_so() {
    let mut dropped = 0;
    for seed in 0..50 {
        let ir = policy(seed, &Shape::default());
        let mut image = emit(&ir, &chain()).unwrap();
        let Some(rows) = image.maps.iter_mut().find(|m| m.name == "polc_rows") else { continue };
        rows.max_entries = 0;
        for flow in flows(&ir, seed, 5) {
            let found = run(&image, &flow);
            if found.reason != REASON_POLICY {
                assert_eq!((found.verdict, found.reason), (VERDICT_DENY, REASON_NO_TABLE));
                dropped += 1;
            }
        }
    }
    assert!(dropped > 100, "only {dropped} packets met the gap");
}

#[test]
fn limits_are_errors_with_numbers() {
    let shape = Shape { sets: 12, nets: 8, rules: 30, ..Shape::default() };
    let ir = policy(3, &shape);
    let base = chain();
    let small = |max_slots| emit(&ir, &EmitOptions { max_slots, ..base }).unwrap_err();
    assert!(matches!(small(100), EmitError::Budget { given: 100, min: 130, max: 32_767 }));
    assert!(matches!(small(32_768), EmitError::Budget { given: 32_768, .. }));
    assert!(matches!(small(140), EmitError::Plan(_)));
    let few = emit(&ir, &EmitOptions { max_entries: 2, ..base }).unwrap_err();
    assert!(matches!(few, EmitError::TooManyEntries { max: 2, .. }), "{few}");
    let narrow = emit(&ir, &EmitOptions { max_table_bytes: 50, ..base }).unwrap_err();
    assert!(matches!(narrow, EmitError::TableTooLarge { max: 50, .. }), "{narrow}");
    assert!(few.is_limit() && narrow.is_limit());
}

#[test]
fn policies_without_sets_have_no_tables() {
    let ir = policy(1, &Shape { sets: 0, ..Shape::default() });
    let image = emit(&ir, &chain()).unwrap();
    assert!(image.maps.is_empty(), "{:?}", image.maps);
}

#[test]
fn names_fit_the_kernel() {
    let ir = policy(7, &Shape { rules: 40, ..Shape::default() });
    let image = emit(&ir, &EmitOptions { max_slots: 300, ..chain() }).unwrap();
    let names = image.programs.iter().map(|p| &p.name).chain(image.maps.iter().map(|m| &m.name));
    for name in names {
        assert!(name.len() <= 15, "{name}");
    }
}
