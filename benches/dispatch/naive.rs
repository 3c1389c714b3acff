//! A linear program as Calico builds it: the baseline that every rule adds to.
//!
//! Rule after rule, first match decides. Per rule: protocol, CIDRs as masked
//! compares, one look-up of the composite key (set, address, port, protocol) for
//! each IP set in one trie that all sets share, then ports; the first criterion that
//! does not hold jumps to the next rule. What does not fit one program goes on in the
//! next by tail call. Rules of each IP version form programs of their own.

use std::net::IpAddr;

use polc_compiler::abi;
use polc_compiler::bpf::{
    AluOp, Assembler, Code, Cond, Helper, Insn, Label, MapRef, Operand, Reg, Size, Width,
};
use polc_compiler::image::{F_NO_PREALLOC, MapKind, MapSpec, SUB_PROGS_MAP};
use polc_compiler::ir::{
    Action, AddrSet, ChainEnd, Decision, Family, PolicyIr, PortMatch, RuleData, SetKind, SideMatch,
};

use crate::kernel::{Loadable, look_up_state, tail_call};
use crate::{Failure, failed};

/// Slots after which a program ends: jump offsets hold 32,767.
const MOST: u32 = 30_000;
/// Tail calls that the kernel follows.
const MOST_PROGRAMS: usize = 33;

/// Private maps.
const SETS4: u32 = 0;
const SETS6: u32 = 1;
const SUB: u32 = 2;

/// The programs, or why there can be none.
pub fn emit(ir: &PolicyIr) -> Result<Loadable, Failure> {
    let mut families: Vec<Family> = Vec::new();
    for (family, v6) in [(Family::V4, false), (Family::V6, true)] {
        if ir.sets.values().flat_map(|s| &s.nets).any(|n| n.addr().is_ipv6() == v6) {
            families.push(family);
        }
    }
    if families.is_empty() {
        families.push(Family::V4);
    }
    let mut programs = Vec::new();
    if let [first, second] = families[..] {
        // Which program a packet of either version starts in is known at the end.
        programs.push(Vec::new());
        programs.extend(linear(ir, first, 1)?);
        let start = programs.len();
        programs.extend(linear(ir, second, start)?);
        programs[0] = vec![by_family(start as u32)?];
    } else {
        programs.extend(linear(ir, families[0], 0)?);
    }
    let programs: Vec<Code> = programs.into_iter().flatten().collect();
    if programs.len() > MOST_PROGRAMS {
        return Err(failed(format!("{} programs; the kernel follows 33 tail calls", programs.len())));
    }
    let sub = MapSpec {
        name: SUB_PROGS_MAP.into(),
        kind: MapKind::ProgArray,
        key_size: 4,
        value_size: 4,
        max_entries: MOST_PROGRAMS as u32 + 1,
        flags: 0,
        entries: Vec::new(),
        dense: Vec::new(),
        direct: false,
        fixed: false,
    };
    Ok(Loadable { programs, maps: vec![sets(ir, Family::V4), sets(ir, Family::V6), sub] })
}

/// Bytes of an address.
fn width(family: Family) -> usize {
    if family == Family::V4 { 4 } else { 16 }
}

/// The trie of all selectors' members: prefix length, set, address, port, protocol.
fn sets(ir: &PolicyIr, family: Family) -> MapSpec {
    let mut entries = Vec::new();
    for (id, set) in ir.sets.iter().filter(|(_, set)| set.kind == SetKind::Members) {
        for net in &set.nets {
            let address = match net.network() {
                IpAddr::V4(a) => a.octets().to_vec(),
                IpAddr::V6(a) => a.octets().to_vec(),
            };
            if address.len() != width(family) {
                continue;
            }
            let mut key = (64 + u32::from(net.prefix_len())).to_le_bytes().to_vec();
            key.extend(set_id(id).to_be_bytes());
            key.extend(address);
            key.extend([0; 4]);
            entries.push((key, vec![0; 4]));
        }
    }
    MapSpec {
        name: if family == Family::V4 { "naive_sets4" } else { "naive_sets6" }.into(),
        kind: MapKind::LpmTrie,
        key_size: 16 + width(family) as u32,
        value_size: 4,
        max_entries: entries.len().max(1) as u32,
        flags: F_NO_PREALLOC,
        entries,
        dense: Vec::new(),
        direct: false,
        fixed: false,
    }
}

/// Set ids are hashes of selectors: spread over 64 bits.
fn set_id(set: AddrSet) -> u64 {
    (u64::from(set.as_u32()) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn by_family(second: u32) -> Result<Code, Failure> {
    let mut a = Assembler::new();
    look_up_state(&mut a)?;
    let v6 = a.new_label();
    a.push(Insn::load(Size::B1, Reg::R1, Reg::R9, abi::STATE_FAMILY.offset));
    a.jump_if(Width::W32, Cond::Eq, Reg::R1, 6, v6);
    tail_call(&mut a, MapRef::Private(SUB), 1);
    a.bind(v6)?;
    tail_call(&mut a, MapRef::Private(SUB), second);
    Ok(a.finish()?)
}

/// The programs of one IP version; the first one's number is `start`.
fn linear(ir: &PolicyIr, family: Family, start: usize) -> Result<Vec<Vec<Code>>, Failure> {
    let mut done = Vec::new();
    let mut open = Linear::new(ir, family)?;
    let chain = &ir.chains[ir.order[0]];
    for rule in &chain.rules {
        if open.a.slots() > MOST - 400 {
            let next = (start + done.len() + 1) as u32;
            done.push(vec![open.finish(End::GoOn(next))?]);
            if done.len() > MOST_PROGRAMS {
                return Err(failed(format!(
                    "more than {MOST_PROGRAMS} programs; the kernel follows 33 tail calls"
                )));
            }
            open = Linear::new(ir, family)?;
        }
        open.rule(&ir.rules[*rule])?;
        if open.a.slots() > 32_000 {
            return Err(failed("one rule is longer than a jump reaches".into()));
        }
    }
    let end = match chain.end {
        ChainEnd::Allow(decision) => End::Decide(decision, true),
        ChainEnd::Deny(decision) => End::Decide(decision, false),
        ChainEnd::Pass => return Err(failed("the baseline has one chain".into())),
    };
    done.push(vec![open.finish(end)?]);
    Ok(done)
}

enum End {
    GoOn(u32),
    Decide(Decision, bool),
}

struct Linear<'a> {
    a: Assembler,
    ir: &'a PolicyIr,
    family: Family,
    allow: Label,
    deny: Label,
}

#[derive(Copy, Clone)]
struct Fields {
    address: i16,
    port: i16,
}

const SRC: Fields = Fields { address: abi::STATE_SRC.offset, port: abi::STATE_SPORT.offset };
const DST: Fields = Fields { address: abi::STATE_DST.offset, port: abi::STATE_DPORT.offset };

impl<'a> Linear<'a> {
    fn new(ir: &'a PolicyIr, family: Family) -> Result<Self, Failure> {
        let mut a = Assembler::new();
        look_up_state(&mut a)?;
        let (allow, deny) = (a.new_label(), a.new_label());
        Ok(Self { a, ir, family, allow, deny })
    }

    fn finish(mut self, end: End) -> Result<Code, Failure> {
        match end {
            End::GoOn(program) => tail_call(&mut self.a, MapRef::Private(SUB), program),
            End::Decide(decision, allow) => self.decide(decision, allow),
        }
        for (label, slot, verdict) in [
            (self.allow, abi::SLOT_ALLOWED, abi::VERDICT_ALLOW),
            (self.deny, abi::SLOT_DENIED, abi::VERDICT_DENY),
        ] {
            self.a.bind(label)?;
            self.a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_VERDICT.offset, verdict as i32));
            tail_call(&mut self.a, MapRef::Shared(abi::PROGS_MAP), slot);
        }
        Ok(self.a.finish()?)
    }

    fn rule(&mut self, rule: &RuleData) -> Result<(), Failure> {
        let m = &rule.matches;
        let next = self.a.new_label();
        if let Some(protocol) = m.protocol {
            self.a.push(Insn::load(Size::B1, Reg::R1, Reg::R9, abi::STATE_PROTOCOL.offset));
            self.a.jump_if(Width::W32, Cond::Ne, Reg::R1, i32::from(protocol), next);
        }
        for (side, fields) in [(&m.src, SRC), (&m.dst, DST)] {
            self.addresses(side, fields, next)?;
        }
        for (side, fields) in [(&m.src, SRC), (&m.dst, DST)] {
            if let Some(ports) = &side.ports {
                self.ports(ports, fields, next)?;
            }
        }
        self.decide(rule.decision, rule.action == Action::Allow);
        self.a.bind(next)?;
        Ok(())
    }

    fn decide(&mut self, decision: Decision, allow: bool) {
        self.a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_DECISION.offset, decision.as_u32() as i32));
        self.a.jump(if allow { self.allow } else { self.deny });
    }

    fn addresses(&mut self, side: &SideMatch, fields: Fields, next: Label) -> Result<(), Failure> {
        for set in &side.in_sets {
            match self.ir.sets[*set].kind {
                SetKind::Members => {
                    self.set(*set, fields);
                    self.a.jump_if(Width::W64, Cond::Eq, Reg::R0, 0, next);
                }
                SetKind::Nets => self.networks(*set, fields, next)?,
            }
        }
        for set in &side.not_in {
            if self.ir.sets[*set].kind == SetKind::Nets {
                return Err(failed("the baseline negates selectors only".into()));
            }
            self.set(*set, fields);
            self.a.jump_if(Width::W64, Cond::Ne, Reg::R0, 0, next);
        }
        Ok(())
    }

    /// Builds the key on the stack, as for every set of every rule, and looks it up.
    fn set(&mut self, set: AddrSet, fields: Fields) {
        let a = &mut self.a;
        let width = width(self.family) as i16;
        let size = 16 + width;
        let key = -8 - (size + 7) / 8 * 8;
        a.push(Insn::store(Size::B4, Reg::R10, key, 64 + 8 * i32::from(width) + 32));
        // The id lies four bytes behind an eight-byte boundary.
        let id = set_id(set).swap_bytes();
        a.push(Insn::store(Size::B4, Reg::R10, key + 4, id as i32));
        a.push(Insn::store(Size::B4, Reg::R10, key + 8, (id >> 32) as i32));
        for at in (0..width).step_by(4) {
            a.push(Insn::load(Size::B4, Reg::R1, Reg::R9, fields.address + at));
            a.push(Insn::store(Size::B4, Reg::R10, key + 12 + at, Reg::R1));
        }
        a.push(Insn::load(Size::B2, Reg::R1, Reg::R9, fields.port));
        a.push(Insn::store(Size::B2, Reg::R10, key + 12 + width, Reg::R1));
        a.push(Insn::load(Size::B1, Reg::R1, Reg::R9, abi::STATE_PROTOCOL.offset));
        a.push(Insn::store(Size::B2, Reg::R10, key + 14 + width, Reg::R1));
        a.push(Insn::mov(Reg::R2, Reg::R10));
        a.push(Insn::alu(AluOp::Add, Reg::R2, i32::from(key)));
        a.load_map(Reg::R1, MapRef::Private(if self.family == Family::V4 { SETS4 } else { SETS6 }));
        a.call(Helper::MAP_LOOKUP_ELEM);
    }

    fn networks(&mut self, set: AddrSet, fields: Fields, next: Label) -> Result<(), Failure> {
        let held = self.a.new_label();
        let nets: Vec<_> = self.ir.sets[set]
            .nets
            .iter()
            .filter(|n| n.addr().is_ipv6() == (self.family == Family::V6))
            .collect();
        for net in &nets {
            let words: Vec<u32> = match net.network() {
                IpAddr::V4(address) => vec![u32::from(address)],
                IpAddr::V6(address) => {
                    (0..4).map(|i| (u128::from(address) >> (96 - 32 * i)) as u32).collect()
                }
            };
            let other = self.a.new_label();
            for (at, word) in words.iter().enumerate() {
                let bits = u32::from(net.prefix_len()).saturating_sub(32 * at as u32).min(32);
                if bits == 0 {
                    break;
                }
                self.word(fields.address + 4 * at as i16, bits, *word, other);
            }
            self.a.jump(held);
            self.a.bind(other)?;
        }
        self.a.jump(next);
        self.a.bind(held)?;
        Ok(())
    }

    /// Goes on if the first `bits` bits of a word in network order are `word`'s.
    fn word(&mut self, at: i16, bits: u32, word: u32, other: Label) {
        let a = &mut self.a;
        let mask = u32::MAX << (32 - bits);
        a.push(Insn::load(Size::B4, Reg::R1, Reg::R9, at));
        if bits < 32 {
            let src = Operand::Imm(mask.swap_bytes() as i32);
            a.push(Insn::Alu { width: Width::W32, op: AluOp::And, dst: Reg::R1, src });
        }
        a.jump_if(Width::W32, Cond::Ne, Reg::R1, (word & mask).swap_bytes() as i32, other);
    }

    fn ports(&mut self, ports: &[PortMatch], fields: Fields, next: Label) -> Result<(), Failure> {
        let held = self.a.new_label();
        self.a.push(Insn::load(Size::B2, Reg::R1, Reg::R9, fields.port));
        for port in ports {
            let PortMatch::Range(first, last) = *port else {
                return Err(failed("the baseline has no named ports".into()));
            };
            if first == last {
                self.a.jump_if(Width::W32, Cond::Eq, Reg::R1, i32::from(first), held);
                continue;
            }
            let other = self.a.new_label();
            self.a.jump_if(Width::W32, Cond::Lt, Reg::R1, i32::from(first), other);
            self.a.jump_if(Width::W32, Cond::Le, Reg::R1, i32::from(last), held);
            self.a.bind(other)?;
        }
        self.a.jump(next);
        self.a.bind(held)?;
        Ok(())
    }
}
