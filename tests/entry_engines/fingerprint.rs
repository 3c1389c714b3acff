//! A policy that speaks about every fact: its decision is a hash of the packet
//! state that the entry program handed over, its verdict a part of that hash.
//! Engines that agree on it agree on every header field.

use std::net::IpAddr;

use polc_compiler::abi::{self, Field};
use polc_compiler::bpf::{AluOp, Assembler, Cond, Helper, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::{PolicyImage, Program};
use polc_compiler::ir::{Action, Decision, DecisionData, DecisionKind, Direction, Flow, Outcome, Verdict};

/// Decisions, as a mask of the hash.
const DECISIONS: i32 = 0xfff;
/// Bits of the hash of which one must be set for the packet to pass.
const ALLOW: i32 = 0x30;
/// Bit of the hash with which an untracked policy is silent.
const SILENT: i32 = 0x40;
/// The decision with which it says so.
pub const PASS_DECISION: u32 = DECISIONS as u32 + 1;
/// The facts lie in the first words of the state; the last of these is the flags.
const WORDS: i16 = abi::STATE_FLAGS.offset / 4 + 1;
const FACT_FLAGS: u32 = abi::FLAG_PORTS | abi::FLAG_ICMP;

/// What the policy says, computed from the flow. Policies of different salts have
/// nothing in common.
pub fn outcome(salt: u16, flow: &Flow) -> Outcome {
    let hash = hash(salt, flow);
    let verdict = if hash & ALLOW as u32 != 0 { Verdict::Allow } else { Verdict::Deny };
    Outcome { verdict, decision: Decision::from_u32(hash & DECISIONS as u32), logged: Vec::new() }
}

/// What an untracked policy says, where it is not silent.
pub fn untracked(salt: u16, flow: &Flow) -> Option<Outcome> {
    (hash(salt, flow) & SILENT as u32 == 0).then(|| outcome(salt, flow))
}

fn hash(salt: u16, flow: &Flow) -> u32 {
    words(flow).iter().fold(salt.into(), |hash: u32, word| hash.wrapping_mul(31).wrapping_add(*word))
}

/// The words of the packet state that hold these facts.
fn words(flow: &Flow) -> Vec<u32> {
    let mut words = Vec::new();
    for address in [flow.src, flow.dst] {
        let (prefix, octets) = match address {
            IpAddr::V4(v4) => (32, [&v4.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(v6) => (128, v6.octets().to_vec()),
        };
        words.push(prefix);
        words.extend(octets.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
    }
    let (sport, dport) = flow.ports.unwrap_or_default();
    let ports = [sport.to_ne_bytes(), dport.to_ne_bytes()].concat();
    let (icmp_type, code) = flow.icmp.unwrap_or_default();
    let family = if flow.src.is_ipv4() { 4 } else { 6 };
    words.push(u32::from_ne_bytes([ports[0], ports[1], ports[2], ports[3]]));
    words.push(u32::from_ne_bytes([family, flow.protocol, icmp_type, code]));
    let flag = |present: bool, flag| if present { flag } else { 0 };
    words.push(flag(flow.ports.is_some(), abi::FLAG_PORTS) | flag(flow.icmp.is_some(), abi::FLAG_ICMP));
    words
}

/// The same untracked policy as a program.
pub fn untracked_image(direction: Direction, salt: u16) -> PolicyImage {
    image_of(direction, program(salt, true))
}

/// The same policy as a program.
pub fn image(direction: Direction, salt: u16) -> PolicyImage {
    image_of(direction, program(salt, false))
}

fn image_of(direction: Direction, program: Program) -> PolicyImage {
    let decision = DecisionData {
        kind: DecisionKind::Rule,
        api: String::new(),
        object: String::new(),
        namespace: None,
        name: "fingerprint".into(),
        tier: None,
        rule: None,
        action: Action::Allow,
        at: None,
    };
    PolicyImage {
        name: "fingerprint".into(),
        direction,
        programs: vec![program],
        maps: Vec::new(),
        decisions: vec![decision; PASS_DECISION as usize + 1],
        files: Vec::new(),
        hits: Vec::new(),
        considered: Vec::new(),
    }
}

const CONTEXT: Reg = Reg::R6;
const STATE: Reg = Reg::R7;
const HASH: Reg = Reg::R8;

fn program(salt: u16, untracked: bool) -> Program {
    let mut a = Assembler::new();
    let (found, denied) = (a.new_label(), a.new_label());
    a.push(Insn::mov(CONTEXT, Reg::R1));
    a.push(Insn::store(Size::B4, Reg::R10, -4, 0));
    a.push(Insn::mov(Reg::R2, Reg::R10));
    a.push(Insn::alu(AluOp::Add, Reg::R2, -4));
    a.load_map(Reg::R1, MapRef::Shared(abi::STATE_MAP));
    a.call(Helper::MAP_LOOKUP_ELEM);
    a.jump_if(Width::W64, Cond::Ne, Reg::R0, 0, found);
    fail(&mut a);
    a.bind(found).unwrap();
    a.push(Insn::mov(STATE, Reg::R0));
    a.push(Insn::mov(HASH, i32::from(salt)));
    for word in 0..WORDS {
        a.push(Insn::load(Size::B4, Reg::R1, STATE, word * 4));
        if word + 1 == WORDS {
            a.push(w32(AluOp::And, Reg::R1, FACT_FLAGS as i32));
        }
        a.push(w32(AluOp::Mul, HASH, 31));
        a.push(Insn::Alu { width: Width::W32, op: AluOp::Add, dst: HASH, src: Reg::R1.into() });
    }
    a.push(Insn::mov(Reg::R1, HASH));
    a.push(w32(AluOp::And, Reg::R1, DECISIONS));
    a.push(Insn::store(Size::B4, STATE, abi::STATE_DECISION.offset, Reg::R1));
    set(&mut a, abi::STATE_REASON, abi::REASON_POLICY);
    if untracked {
        let speaks = a.new_label();
        a.push(Insn::mov(Reg::R1, HASH));
        a.push(w32(AluOp::And, Reg::R1, SILENT));
        a.jump_if(Width::W32, Cond::Eq, Reg::R1, 0, speaks);
        set(&mut a, abi::STATE_DECISION, PASS_DECISION);
        end(&mut a, abi::VERDICT_ALLOW, abi::SLOT_ALLOWED);
        a.bind(speaks).unwrap();
    }
    a.push(w32(AluOp::And, HASH, ALLOW));
    a.jump_if(Width::W32, Cond::Eq, HASH, 0, denied);
    end(&mut a, abi::VERDICT_ALLOW, abi::SLOT_ALLOWED);
    a.bind(denied).unwrap();
    end(&mut a, abi::VERDICT_DENY, abi::SLOT_DENIED);
    Program { name: "fingerprint".into(), code: a.finish().unwrap(), notes: Vec::new(), labels: Vec::new() }
}

fn w32(op: AluOp, dst: Reg, imm: i32) -> Insn {
    Insn::Alu { width: Width::W32, op, dst, src: imm.into() }
}

fn set(a: &mut Assembler, field: Field, value: u32) {
    a.push(Insn::store(Size::B4, STATE, field.offset, value as i32));
}

/// Ends the packet in the program of a slot.
fn end(a: &mut Assembler, verdict: u32, slot: u32) {
    set(a, abi::STATE_VERDICT, verdict);
    a.push(Insn::mov(Reg::R1, CONTEXT));
    a.load_map(Reg::R2, MapRef::Shared(abi::PROGS_MAP));
    a.push(Insn::mov(Reg::R3, slot as i32));
    a.call(Helper::TAIL_CALL);
    fail(a);
}

/// Drops the packet where something is missing that must be there.
fn fail(a: &mut Assembler) {
    a.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
    a.push(Insn::Exit);
}
