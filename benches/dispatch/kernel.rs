//! Programs in the kernel, and what a packet costs in them.
//!
//! Every measured program is entered by a tail call or directly with the packet
//! state in place, and ends in a tail call to a program that returns: what polc's
//! entry and end programs leave of it. The **floor** does the same without a
//! policy. Figures are a program's minimum over many short runs less the floor's
//! minimum over as many runs in between: a run that another process disturbed is
//! never the shortest.
//!
//! Time is taken around the system call, not from the kernel's own figure, which
//! is rounded to whole ns per packet; the call's own cost is in the floor as well.

use std::time::{Duration, Instant};

use polc_compiler::abi::{self, Field};
use polc_compiler::bpf::{AluOp, Assembler, Code, Cond, Helper, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::{F_MMAPABLE, MapKind, MapSpec, PolicyImage, SUB_PROGS_MAP};
use polc_compiler::ir::Flow;
use polc_runtime::sys::CpuPin;
use polc_runtime::sys::bpf::{
    DebugInfo, Map, MapDefinition, MappedArray, Program, ProgramKind, ProgramSource,
};

use crate::shapes::SPREAD;
use crate::{Failure, failed};

/// Slots of the program array, beside those of the two ends.
const SLOT_POLICY: u32 = abi::SLOT_FIRST_POLICY;
const SLOT_FLOOR: u32 = abi::SLOT_FIRST_POLICY + 1;
/// Bytes of a stored state: what the entry program fills of addresses, ports,
/// family, protocol and flags, up to a multiple of 8.
const COPIED: usize = 56;
/// Nanoseconds that one run is to take: shorter than a scheduler's slice.
const RUN: f64 = 400_000.0;
/// A frame that the kernel takes for a test run; policy programs don't look at it.
const FRAME: [u8; 60] = [0; 60];

/// A linear program or polc's: instructions with the maps that they refer to.
pub struct Loadable {
    pub programs: Vec<Code>,
    pub maps: Vec<MapSpec>,
}

impl From<&PolicyImage> for Loadable {
    fn from(image: &PolicyImage) -> Self {
        let programs = image.programs.iter().map(|p| p.code.clone()).collect();
        Self { programs, maps: image.maps.clone() }
    }
}

impl Loadable {
    /// Instructions, as the kernel counts them.
    pub fn slots(&self) -> u32 {
        self.programs.iter().map(Code::slots).sum()
    }

    /// Bytes of the values of all private maps: capacity for arrays, and for the
    /// others what the kernel keeps per entry (key, value, 24 bytes of pointers).
    pub fn map_bytes(&self) -> u64 {
        self.maps.iter().map(MapSpec::capacity_bytes).sum()
    }
}

/// What loading took, and what keeps the programs alive.
pub struct Loaded {
    /// Time of the load system calls of all programs: verify and JIT.
    pub load: Duration,
    /// Time to create and fill the maps.
    pub fill: Duration,
    programs: Vec<Program>,
    _maps: Vec<Map>,
}

/// One measurement, in ns per packet.
#[derive(Copy, Clone, Debug)]
pub struct Cost {
    /// Over the floor.
    pub ns: f64,
    /// What the floor took in the same runs.
    pub floor: f64,
}

/// How long to measure.
#[derive(Copy, Clone, Debug)]
pub struct Effort {
    /// Runs of each program.
    pub runs: u32,
}

/// The shared maps, the ends and the floor.
pub struct Bed {
    state: Map,
    programs: Map,
    states: Map,
    floor: Program,
    /// Drivers of the spread: to the floor, to the policy.
    drivers: [Program; 2],
    _ends: [Program; 2],
    _turn: Map,
    cpu: CpuPin,
}

/// An array map.
pub fn map(name: &str, kind: MapKind, value_size: u32, max_entries: u32) -> Result<Map, Failure> {
    let definition = MapDefinition { kind: kind as u32, key_size: 4, value_size, max_entries, flags: 0 };
    Map::create(name, &definition).map_err(|e| failed(format!("map {name}: {}", e.io_error)))
}

pub fn load(kind: ProgramKind, name: &str, code: &[u8]) -> Result<Program, Failure> {
    let source = ProgramSource { name, kind, code, license: "GPL", debug: DebugInfo::default() };
    Program::load(&source).map_err(|e| {
        let log: Vec<&str> = e.log.trim_end().lines().rev().take(3).collect();
        failed(format!("{}: {}", e.source.io_error, log.into_iter().rev().collect::<Vec<_>>().join(" | ")))
    })
}

/// Times that a program is loaded for the time that it takes.
const LOADS: u32 = 3;

impl Bed {
    pub fn new() -> Result<Self, Failure> {
        let cpu = CpuPin::new().map_err(|e| failed(e.io_error.to_string()))?;
        let state = map(abi::STATE_MAP, MapKind::PerCpuArray, abi::STATE_SIZE, 1)?;
        let programs = map(abi::PROGS_MAP, MapKind::ProgArray, 4, 16)?;
        let states = map("states", MapKind::Array, COPIED as u32, SPREAD as u32)?;
        let turn = map("turn", MapKind::Array, 8, 1)?;
        let sched = |name: &str, code: &Code| {
            let fd = |map: MapRef| match map {
                MapRef::Shared(abi::STATE_MAP) => state.raw_fd(),
                MapRef::Shared(_) => programs.raw_fd(),
                MapRef::Private(0) => states.raw_fd(),
                MapRef::Private(_) | MapRef::Fd(_) => turn.raw_fd(),
            };
            load(ProgramKind::Classifier, name, &code.encode(fd))
        };
        let end = |verdict: u32| Code::new(vec![Insn::mov(Reg::R0, verdict as i32), Insn::Exit]);
        let ends = [sched("allowed", &end(abi::TC_OK)?)?, sched("denied", &end(abi::TC_SHOT)?)?];
        let floor = sched("floor", &floor()?)?;
        let drivers = [sched("to_floor", &driver(SLOT_FLOOR)?)?, sched("to_policy", &driver(SLOT_POLICY)?)?];
        let put =
            |slot, program| programs.set_program(slot, program).map_err(|e| failed(e.io_error.to_string()));
        put(abi::SLOT_ALLOWED, &ends[0])?;
        put(abi::SLOT_DENIED, &ends[1])?;
        put(SLOT_FLOOR, &floor)?;
        Ok(Self { state, programs, states, floor, drivers, _ends: ends, _turn: turn, cpu })
    }

    /// Loads programs with filled maps, and lets the policy's slot lead to them.
    pub fn load(&self, what: &Loadable) -> Result<Loaded, Failure> {
        let start = Instant::now();
        let maps = what.maps.iter().map(filled).collect::<Result<Vec<_>, _>>()?;
        let fill = start.elapsed();
        let mut time = Duration::ZERO;
        let mut programs = Vec::new();
        for code in &what.programs {
            let bytes = code.encode(|reference| match reference {
                MapRef::Shared(abi::STATE_MAP) => self.state.raw_fd(),
                MapRef::Shared(_) => self.programs.raw_fd(),
                MapRef::Private(i) => maps[i as usize].raw_fd(),
                MapRef::Fd(fd) => fd,
            });
            let (mut program, mut least) = (None, Duration::MAX);
            for _ in 0..if what.programs.len() == 1 { LOADS } else { 1 } {
                let start = Instant::now();
                program = Some(load(ProgramKind::Classifier, "policy", &bytes)?);
                least = least.min(start.elapsed());
            }
            programs.extend(program);
            time += least;
        }
        let sub = what.maps.iter().position(|m| m.name == SUB_PROGS_MAP);
        for (slot, program) in (0..).zip(&programs).skip(1) {
            let sub = &maps[sub.ok_or_else(|| failed("several programs and no array for them".into()))?];
            sub.set_program(slot, program).map_err(|e| failed(e.io_error.to_string()))?;
        }
        let first = programs.first().ok_or_else(|| failed("no program".into()))?;
        self.programs.set_program(SLOT_POLICY, first).map_err(|e| failed(e.io_error.to_string()))?;
        Ok(Loaded { load: time, fill, programs, _maps: maps })
    }

    /// Sets the state that a directly run program finds.
    pub fn set(&self, flow: &Flow) -> Result<(), Failure> {
        let state = state(flow);
        let span = self.state.value_span();
        let all: Vec<u8> = state.iter().copied().cycle().take(span).collect();
        self.state.update(&[0; 4], &all).map_err(|e| failed(e.io_error.to_string()))
    }

    /// Runs a loaded policy once on a packet: verdict and decision.
    pub fn decide(&self, policy: &Loaded, flow: &Flow) -> Result<(u32, u32), Failure> {
        self.set(flow)?;
        run(&policy.programs[0], 1)?;
        let values = self.state.lookup(&[0; 4]).map_err(|e| failed(e.io_error.to_string()))?;
        let values = values.ok_or_else(|| failed("no packet state".into()))?;
        let own = &values[self.cpu.cpu() * abi::STATE_SIZE as usize..];
        let field = |f: Field| {
            let at = f.offset as usize;
            u32::from_le_bytes([own[at], own[at + 1], own[at + 2], own[at + 3]])
        };
        Ok((field(abi::STATE_VERDICT), field(abi::STATE_DECISION)))
    }

    /// The cost of one packet, again and again.
    pub fn hot(&self, policy: &Loaded, flow: &Flow, effort: Effort) -> Result<Cost, Failure> {
        self.set(flow)?;
        compare(&self.floor, &policy.programs[0], 16, effort)
    }

    /// Stores the packets that [`Self::spread`] takes turns with.
    pub fn set_spread(&self, flows: &[Flow]) -> Result<(), Failure> {
        let keys: Vec<u8> = (0..flows.len() as u32).flat_map(u32::to_ne_bytes).collect();
        let values: Vec<u8> = flows.iter().flat_map(|f| state(f)[..COPIED].to_vec()).collect();
        self.states.update_batch(&keys, &values).map_err(|e| failed(e.io_error.to_string()))
    }

    /// The cost of a packet of the spread that was set; the first `packets` of it take
    /// turns at least.
    pub fn spread(&self, packets: usize, effort: Effort) -> Result<Cost, Failure> {
        compare(&self.drivers[0], &self.drivers[1], packets, effort)
    }
}

/// Creates a map with its contents.
pub fn filled(spec: &MapSpec) -> Result<Map, Failure> {
    let definition = MapDefinition::from(spec.shape());
    let problem = |e: polc_runtime::sys::SyscallError| failed(format!("map {}: {}", spec.name, e.io_error));
    let map = Map::create(&spec.name, &definition).map_err(problem)?;
    for (key, value) in &spec.entries {
        map.update(key, value).map_err(problem)?;
    }
    if spec.flags & F_MMAPABLE != 0 {
        MappedArray::of_values(&map, spec.value_size)
            .and_then(|mapped| mapped.fill(&spec.dense))
            .map_err(problem)?;
    }
    Ok(map)
}

/// Nanoseconds per repetition of one run, by the clock.
fn run(program: &Program, repeat: u32) -> Result<f64, Failure> {
    let start = Instant::now();
    program.test_run(&FRAME, repeat).map_err(|e| failed(format!("test run: {}", e.io_error)))?;
    Ok(start.elapsed().as_nanos() as f64 / f64::from(repeat))
}

/// The minima of two programs that take turns; `turn` repetitions see every packet.
fn compare(floor: &Program, program: &Program, turn: usize, effort: Effort) -> Result<Cost, Failure> {
    let first = run(program, turn as u32)?;
    let repeat = (RUN / first).clamp(turn as f64, 50_000.0) as u32;
    // A program of microseconds a packet needs no fine figure.
    let share = RUN / (first * f64::from(repeat));
    let runs = (f64::from(effort.runs) * share.min(1.0)).ceil() as u32;
    let mut least = if share < 0.02 { first } else { f64::INFINITY };
    let mut floor_ns = f64::INFINITY;
    for _ in 0..runs {
        floor_ns = floor_ns.min(run(floor, repeat.max(10_000))?);
        if share >= 0.02 {
            least = least.min(run(program, repeat)?);
        }
    }
    Ok(Cost { ns: least - floor_ns, floor: floor_ns })
}

/// The packet state of a flow, as the entry program fills it.
pub fn state(flow: &Flow) -> [u8; abi::STATE_SIZE as usize] {
    let mut bytes = [0; abi::STATE_SIZE as usize];
    let mut put = |field: Field, value: &[u8]| {
        let at = field.offset as usize;
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(a) => (32_u32, a.octets().to_vec()),
        std::net::IpAddr::V6(a) => (128, a.octets().to_vec()),
    };
    let ((length, src), (_, dst)) = (octets(flow.src), octets(flow.dst));
    put(abi::STATE_SRC_PREFIX, &length.to_le_bytes());
    put(abi::STATE_DST_PREFIX, &length.to_le_bytes());
    put(abi::STATE_SRC, &src);
    put(abi::STATE_DST, &dst);
    let mut flags = 0;
    if let Some((sport, dport)) = flow.ports {
        put(abi::STATE_SPORT, &sport.to_le_bytes());
        put(abi::STATE_DPORT, &dport.to_le_bytes());
        flags |= abi::FLAG_PORTS;
    }
    put(abi::STATE_FAMILY, &[if length == 32 { 4 } else { 6 }]);
    put(abi::STATE_PROTOCOL, &[flow.protocol]);
    put(abi::STATE_FLAGS, &flags.to_le_bytes());
    bytes
}

/// `R9 = packet state`, as the prologue of every program.
pub fn look_up_state(a: &mut Assembler) -> Result<(), Failure> {
    a.push(Insn::mov(Reg::R6, Reg::R1));
    look_up_first(a, MapRef::Shared(abi::STATE_MAP))?;
    a.push(Insn::mov(Reg::R9, Reg::R0));
    Ok(())
}

/// `R0 = address of value 0`.
pub fn look_up_first(a: &mut Assembler, map: MapRef) -> Result<(), Failure> {
    a.push(Insn::store(Size::B4, Reg::R10, -4, 0));
    look_up_stacked(a, map)
}

/// `R0 = address of the value whose index is at the stack's top`.
pub fn look_up_stacked(a: &mut Assembler, map: MapRef) -> Result<(), Failure> {
    let found = a.new_label();
    a.push(Insn::mov(Reg::R2, Reg::R10));
    a.push(Insn::alu(AluOp::Add, Reg::R2, -4));
    a.load_map(Reg::R1, map);
    a.call(Helper::MAP_LOOKUP_ELEM);
    a.jump_if(Width::W64, Cond::Ne, Reg::R0, 0, found);
    a.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
    a.push(Insn::Exit);
    a.bind(found)?;
    Ok(())
}

/// A tail call; drops if there is no such program.
pub fn tail_call(a: &mut Assembler, map: MapRef, slot: u32) {
    a.push(Insn::mov(Reg::R1, Reg::R6));
    a.load_map(Reg::R2, map);
    a.push(Insn::mov(Reg::R3, slot as i32));
    a.call(Helper::TAIL_CALL);
    a.push(Insn::mov(Reg::R0, abi::TC_SHOT as i32));
    a.push(Insn::Exit);
}

/// State look-up and constant tail call: what a policy without rules would be.
fn floor() -> Result<Code, Failure> {
    let mut a = Assembler::new();
    look_up_state(&mut a)?;
    a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_VERDICT.offset, abi::VERDICT_ALLOW as i32));
    tail_call(&mut a, MapRef::Shared(abi::PROGS_MAP), abi::SLOT_ALLOWED);
    Ok(a.finish()?)
}

/// Copies the next stored state into the packet state and goes on in a slot.
fn driver(slot: u32) -> Result<Code, Failure> {
    let mut a = Assembler::new();
    look_up_state(&mut a)?;
    look_up_first(&mut a, MapRef::Private(1))?;
    a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, 0));
    a.push(Insn::mov(Reg::R2, Reg::R1));
    a.push(Insn::alu(AluOp::Add, Reg::R2, 1));
    a.push(Insn::store(Size::B8, Reg::R0, 0, Reg::R2));
    a.push(Insn::alu(AluOp::And, Reg::R1, SPREAD as i32 - 1));
    a.push(Insn::store(Size::B4, Reg::R10, -4, Reg::R1));
    look_up_stacked(&mut a, MapRef::Private(0))?;
    for at in (0..COPIED as i16).step_by(8) {
        a.push(Insn::load(Size::B8, Reg::R1, Reg::R0, at));
        a.push(Insn::store(Size::B8, Reg::R9, at, Reg::R1));
    }
    tail_call(&mut a, MapRef::Shared(abi::PROGS_MAP), slot);
    Ok(a.finish()?)
}
