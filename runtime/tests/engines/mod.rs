//! Images and packets that are built by hand, for tests that run programs.
#![allow(dead_code, reason = "each test file uses its part")]

use polc_compiler::abi;
use polc_compiler::bpf::{AluOp, Assembler, Cond, Helper, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::{F_MMAPABLE, F_NO_PREALLOC, MapKind, MapSpec, PolicyImage, Program};
use polc_compiler::ir::{Direction, Verdict};
use polc_runtime::{Evaluation, Packet};

/// The object that polc ships.
pub const ENTRY: &[u8] = include_bytes!("../../../prebuilt-bpf/polc_entry.o");

/// Fills in one program after another.
pub struct Body {
    pub asm: Assembler,
}

impl Body {
    /// Keeps the context in r6, takes the packet state into r7.
    pub fn new() -> Self {
        let mut asm = Assembler::new();
        asm.push(Insn::mov(Reg::R6, Reg::R1));
        asm.push(Insn::store(Size::B4, Reg::R10, -4, 0));
        asm.push(Insn::mov(Reg::R2, Reg::R10));
        asm.push(Insn::alu(AluOp::Add, Reg::R2, -4));
        asm.load_map(Reg::R1, MapRef::Shared(abi::STATE_MAP));
        asm.call(Helper::MAP_LOOKUP_ELEM);
        let found = asm.new_label();
        asm.jump_if(Width::W64, Cond::Ne, Reg::R0, 0, found);
        asm.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
        asm.push(Insn::Exit);
        asm.bind(found).unwrap();
        asm.push(Insn::mov(Reg::R7, Reg::R0));
        Self { asm }
    }

    pub fn load(&mut self, to: Reg, field: abi::Field) {
        let size = match field.size {
            1 => Size::B1,
            2 => Size::B2,
            4 => Size::B4,
            _ => Size::B8,
        };
        self.asm.push(Insn::load(size, to, Reg::R7, field.offset));
    }

    pub fn store(&mut self, field: abi::Field, value: u32) {
        self.asm.push(Insn::store(Size::B4, Reg::R7, field.offset, value as i32));
    }

    pub fn tail_call(&mut self, map: MapRef, slot: u32) {
        self.asm.push(Insn::mov(Reg::R1, Reg::R6));
        self.asm.load_map(Reg::R2, map);
        self.asm.push(Insn::mov(Reg::R3, slot as i32));
        self.asm.call(Helper::TAIL_CALL);
    }

    /// Decides; drops the packet if the tail call falls through.
    pub fn decide(&mut self, verdict: Verdict, decision: u32) {
        let (value, slot) = match verdict {
            Verdict::Allow => (abi::VERDICT_ALLOW, abi::SLOT_ALLOWED),
            Verdict::Deny => (abi::VERDICT_DENY, abi::SLOT_DENIED),
        };
        self.store(abi::STATE_VERDICT, value);
        self.store(abi::STATE_REASON, abi::REASON_POLICY);
        self.store(abi::STATE_DECISION, decision);
        self.tail_call(MapRef::Shared(abi::PROGS_MAP), slot);
        self.asm.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
        self.asm.push(Insn::Exit);
    }

    pub fn program(self, name: &str) -> Program {
        Program { name: name.into(), code: self.asm.finish().unwrap(), notes: Vec::new(), labels: Vec::new() }
    }
}

pub fn image(programs: Vec<Program>, maps: Vec<MapSpec>) -> PolicyImage {
    PolicyImage {
        name: "test/image".into(),
        direction: Direction::Ingress,
        programs,
        maps,
        decisions: Vec::new(),
        files: Vec::new(),
        hits: Vec::new(),
        considered: Vec::new(),
    }
}

/// Decision 0 allows this destination port, decision 1 denies everything else.
pub fn allow_port(port: u16) -> PolicyImage {
    let mut body = Body::new();
    let deny = body.asm.new_label();
    body.load(Reg::R1, abi::STATE_DPORT);
    body.asm.jump_if(Width::W32, Cond::Ne, Reg::R1, i32::from(port), deny);
    body.decide(Verdict::Allow, 0);
    body.asm.bind(deny).unwrap();
    body.decide(Verdict::Deny, 1);
    image(vec![body.program("allow_port")], Vec::new())
}

/// Allows sources in a set of IPv4 prefixes, whose value is the decision; denies
/// the rest with decision 99. Jumps to a second program for the verdict.
pub fn allow_sources(prefixes: &[([u8; 4], u32, u32)]) -> PolicyImage {
    let mut body = Body::new();
    let deny = body.asm.new_label();
    body.asm.push(Insn::mov(Reg::R2, Reg::R7));
    body.asm.push(Insn::alu(AluOp::Add, Reg::R2, i32::from(abi::STATE_SRC_PREFIX.offset)));
    body.asm.load_map(Reg::R1, MapRef::Private(0));
    body.asm.call(Helper::MAP_LOOKUP_ELEM);
    body.asm.jump_if(Width::W64, Cond::Eq, Reg::R0, 0, deny);
    body.asm.push(Insn::load(Size::B4, Reg::R1, Reg::R0, 0));
    body.asm.push(Insn::store(Size::B4, Reg::R7, abi::STATE_SRC_CLASS.offset, Reg::R1));
    body.tail_call(MapRef::Private(1), 1);
    body.asm.bind(deny).unwrap();
    body.decide(Verdict::Deny, 99);

    let mut second = Body::new();
    second.load(Reg::R1, abi::STATE_SRC_CLASS);
    second.store(abi::STATE_VERDICT, abi::VERDICT_ALLOW);
    second.store(abi::STATE_REASON, abi::REASON_POLICY);
    second.asm.push(Insn::store(Size::B4, Reg::R7, abi::STATE_DECISION.offset, Reg::R1));
    second.tail_call(MapRef::Shared(abi::PROGS_MAP), abi::SLOT_ALLOWED);
    second.asm.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
    second.asm.push(Insn::Exit);

    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = prefixes
        .iter()
        .map(|(address, len, decision)| {
            ([&len.to_ne_bytes()[..], address].concat(), decision.to_ne_bytes().to_vec())
        })
        .collect();
    entries.sort();
    let set = MapSpec {
        name: "set0".into(),
        kind: MapKind::LpmTrie,
        key_size: 8,
        value_size: 4,
        max_entries: prefixes.len().max(1) as u32,
        flags: F_NO_PREALLOC,
        entries,
        dense: Vec::new(),
        direct: false,
        fixed: false,
    };
    image(vec![body.program("sources"), second.program("sources_end")], vec![set, sub_programs(2)])
}

/// Takes the decision of a destination port below 4 from an array with dense
/// contents; denies the rest with decision 99.
pub fn by_dense_array() -> PolicyImage {
    let mut body = Body::new();
    let deny = body.asm.new_label();
    body.load(Reg::R1, abi::STATE_DPORT);
    body.asm.push(Insn::store(Size::B4, Reg::R10, -4, Reg::R1));
    body.asm.push(Insn::mov(Reg::R2, Reg::R10));
    body.asm.push(Insn::alu(AluOp::Add, Reg::R2, -4));
    body.asm.load_map(Reg::R1, MapRef::Private(0));
    body.asm.call(Helper::MAP_LOOKUP_ELEM);
    body.asm.jump_if(Width::W64, Cond::Eq, Reg::R0, 0, deny);
    body.asm.push(Insn::load(Size::B4, Reg::R1, Reg::R0, 0));
    body.asm.push(Insn::store(Size::B4, Reg::R7, abi::STATE_DECISION.offset, Reg::R1));
    body.store(abi::STATE_VERDICT, abi::VERDICT_ALLOW);
    body.store(abi::STATE_REASON, abi::REASON_POLICY);
    body.tail_call(MapRef::Shared(abi::PROGS_MAP), abi::SLOT_ALLOWED);
    body.asm.bind(deny).unwrap();
    body.decide(Verdict::Deny, 99);
    let values = MapSpec {
        name: "values".into(),
        kind: MapKind::Array,
        key_size: 4,
        value_size: 4,
        max_entries: 4,
        flags: F_MMAPABLE,
        entries: Vec::new(),
        dense: [7u32, 8, 9].iter().flat_map(|value| value.to_le_bytes()).collect(),
        direct: false,
        fixed: false,
    };
    image(vec![body.program("dense")], vec![values])
}

pub fn sub_programs(count: u32) -> MapSpec {
    MapSpec {
        name: polc_compiler::image::SUB_PROGS_MAP.into(),
        kind: MapKind::ProgArray,
        key_size: 4,
        value_size: 4,
        max_entries: count,
        flags: 0,
        entries: Vec::new(),
        dense: Vec::new(),
        direct: false,
        fixed: false,
    }
}

/// `depth` programs, each tail-calls the next; the last one allows.
pub fn chain(depth: u32) -> PolicyImage {
    let mut programs = Vec::new();
    for i in 1..=depth {
        let mut body = Body::new();
        if i < depth {
            body.tail_call(MapRef::Private(0), i);
            body.decide(Verdict::Deny, i);
        } else {
            body.decide(Verdict::Allow, i);
        }
        programs.push(body.program(&format!("chain{i}")));
    }
    image(programs, vec![sub_programs(depth)])
}

/// Flags of a TCP header.
pub const SYN: u8 = 2;
pub const SYN_ACK: u8 = 18;
pub const ACK: u8 = 16;

/// An Ethernet frame with IPv4 and TCP.
pub fn tcp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut tcp =
        [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 8], &[0x50, flags, 0, 0, 0, 0, 0, 0]].concat();
    tcp.extend([0; 6]);
    ipv4(6, src, dst, &tcp)
}

pub fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let total = 20 + payload.len() as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(total.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    frame.extend(payload);
    frame
}

pub fn at(data: &[u8], now: u64) -> Packet<'_> {
    Packet { data, wire_len: data.len() as u32, now }
}

pub fn policy(verdict: Verdict, decision: u32) -> Evaluation {
    Evaluation {
        verdict,
        reason: abi::REASON_POLICY,
        decision: Some(decision),
        logged: 0,
        log_decision: None,
    }
}

pub fn other(verdict: Verdict, reason: u32) -> Evaluation {
    Evaluation { verdict, reason, decision: None, logged: 0, log_decision: None }
}
