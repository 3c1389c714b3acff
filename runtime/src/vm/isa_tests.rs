//! Every accepted instruction, linked, in both engines, against what the
//! instruction set says; and proof that rbpf alone says otherwise where `check`
//! refuses or `link` replaces.

use super::check::check;
use super::insn::{SRC_REG, Slot, class, jump, op};
use super::link::link;
use crate::sys::{Helpers, LowArena, Machine, Stack, VmEngine};

const ENGINES: [VmEngine; 2] = [VmEngine::Interpreter, VmEngine::Cranelift];
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    31,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];
const CONSTANTS: [i32; 7] = [0, 1, 5, 0x1234_5678, i32::MAX, i32::MIN, -1];

struct Bench {
    arena: LowArena,
}

impl Helpers for Bench {
    fn call(&mut self, _: u32, _: [u64; 5], _: Stack) -> u64 {
        0
    }
    fn arena(&self) -> &LowArena {
        &self.arena
    }
    fn context(&self) -> u64 {
        u64::from(self.arena.base())
    }
}

impl Bench {
    fn new() -> Self {
        Self { arena: LowArena::new(1 << 16).unwrap() }
    }

    fn put(&self, index: u64, value: u64) {
        assert!(self.arena.write(self.context() + index * 8, &value.to_ne_bytes()));
    }

    fn get(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        assert!(self.arena.read(self.context() + index * 8, &mut bytes));
        u64::from_ne_bytes(bytes)
    }
}

fn machine(bench: &Bench, engine: VmEngine, code: &[Slot]) -> Machine {
    check(code).unwrap();
    Machine::new(engine, link(code, engine).unwrap(), &bench.arena).unwrap()
}

/// Slot of [`Bench`] memory where register `r` is found after the run.
const AFTER: i16 = 16;

/// Loads r6 and r7 from the context, marks the other registers, runs `body` and
/// stores all registers. `body`'s jumps may skip one slot behind it, which sets r0.
fn frame(body: Slot) -> Vec<Slot> {
    let mut code = vec![Slot::new(op::MOV64_REG, 9, 1, 0, 0)];
    code.extend((0..6).map(|r| Slot::new(op::MOV64, r, 0, 0, 100 + i32::from(r))));
    code.push(Slot::new(op::MOV64, 8, 0, 0, 108));
    code.push(Slot::new(op::LOAD64, 6, 9, 0, 0));
    code.push(Slot::new(op::LOAD64, 7, 9, 8, 0));
    code.push(body);
    code.push(Slot::new(op::MOV64, 0, 0, 0, 7));
    for r in 0..9 {
        code.push(Slot::new(op::STORE64, 9, r, (AFTER + i16::from(r)) * 8, 0));
    }
    code.push(Slot::new(op::MOV64, 0, 0, 0, 0));
    code.push(Slot::new(op::EXIT, 0, 0, 0, 0));
    code
}

/// Runs `body` with r6 and r7; gives r6 afterwards and whether its jump was taken.
fn run(bench: &mut Bench, machine: &Machine, a: u64, b: u64) -> (u64, bool) {
    bench.put(0, a);
    bench.put(1, b);
    machine.run(bench).unwrap();
    let after = |r: u64| bench.get(AFTER as u64 + r);
    for r in [1, 2, 3, 4, 5, 8] {
        assert_eq!(after(r), 100 + r, "r{r} must keep its value");
    }
    assert_eq!(after(7), b, "the second operand must keep its value");
    let taken = match after(0) {
        7 => false,
        100 => true,
        other => panic!("r0 is {other}"),
    };
    (after(6), taken)
}

/// The instruction set's arithmetic, from its documentation.
fn arithmetic(operation: u8, wide: bool, a: u64, b: u64) -> u64 {
    let (a, b, bits) = if wide { (a, b, 64) } else { (a & 0xffff_ffff, b & 0xffff_ffff, 32) };
    let by = b % bits;
    let result = match operation {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << by,
        0x70 => a >> by,
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 if wide => ((a as i64) >> by) as u64,
        0xc0 => ((a as u32 as i32) >> by) as u32 as u64,
        _ => unreachable!(),
    };
    if wide { result } else { result & 0xffff_ffff }
}

fn condition(operation: u8, wide: bool, a: u64, b: u64) -> bool {
    let (a, b, sa, sb) = if wide {
        (a, b, a as i64, b as i64)
    } else {
        (a & 0xffff_ffff, b & 0xffff_ffff, i64::from(a as i32), i64::from(b as i32))
    };
    match operation {
        jump::EQ => a == b,
        jump::GT => a > b,
        jump::GE => a >= b,
        jump::SET => a & b != 0,
        jump::NE => a != b,
        jump::SGT => sa > sb,
        jump::SGE => sa >= sb,
        jump::LT => a < b,
        jump::LE => a <= b,
        jump::SLT => sa < sb,
        jump::SLE => sa <= sb,
        _ => unreachable!(),
    }
}

const JUMPS: [u8; 11] = [
    jump::EQ,
    jump::GT,
    jump::GE,
    jump::SET,
    jump::NE,
    jump::SGT,
    jump::SGE,
    jump::LT,
    jump::LE,
    jump::SLT,
    jump::SLE,
];

#[test]
fn arithmetic_is_the_kernels() {
    let mut bench = Bench::new();
    for engine in ENGINES {
        for class in [class::ALU, class::ALU64] {
            let wide = class == class::ALU64;
            for operation in (0x00..=0xc0).step_by(0x10) {
                let by_register = Slot::new(operation | SRC_REG | class, 6, 7, 0, 0);
                if check(&frame(by_register)).is_ok() {
                    let machine = machine(&bench, engine, &frame(by_register));
                    for (a, b) in EDGES.iter().flat_map(|a| EDGES.iter().map(move |b| (*a, *b))) {
                        let want = arithmetic(operation, wide, a, b);
                        assert_eq!(
                            run(&mut bench, &machine, a, b),
                            (want, false),
                            "{by_register:?} {a:#x} {b:#x}"
                        );
                    }
                }
                for imm in CONSTANTS {
                    let by_constant = Slot::new(operation | class, 6, 0, 0, imm);
                    if check(&frame(by_constant)).is_err() {
                        continue;
                    }
                    let machine = machine(&bench, engine, &frame(by_constant));
                    for a in EDGES {
                        let want = arithmetic(operation, wide, a, imm as i64 as u64);
                        assert_eq!(run(&mut bench, &machine, a, 9), (want, false), "{by_constant:?} {a:#x}");
                    }
                }
            }
        }
    }
}

#[test]
fn byte_swaps_are_the_kernels() {
    let mut bench = Bench::new();
    let a = 0x1122_3344_5566_7788;
    let cases = [
        (0xdc, 16, 0x8877),
        (0xdc, 32, 0x8877_6655),
        (0xdc, 64, 0x8877_6655_4433_2211),
        (0xd4, 16, 0x7788),
        (0xd4, 32, 0x5566_7788),
        (0xd4, 64, a),
    ];
    for (engine, (op, bits, want)) in ENGINES.into_iter().flat_map(|e| cases.map(|c| (e, c))) {
        let machine = machine(&bench, engine, &frame(Slot::new(op, 6, 0, 0, bits)));
        assert_eq!(run(&mut bench, &machine, a, 0), (want, false), "{engine:?} {op:#x} {bits}");
    }
}

#[test]
fn compares_are_the_kernels() {
    let mut bench = Bench::new();
    for engine in ENGINES {
        for (class, operation) in [class::JMP, class::JMP32].into_iter().flat_map(|c| JUMPS.map(|j| (c, j))) {
            let wide = class == class::JMP;
            let by_register = Slot::new(operation | SRC_REG | class, 6, 7, 1, 0);
            let registers = machine(&bench, engine, &frame(by_register));
            for (a, b) in EDGES.iter().flat_map(|a| EDGES.iter().map(move |b| (*a, *b))) {
                let want = condition(operation, wide, a, b);
                assert_eq!(
                    run(&mut bench, &registers, a, b),
                    (a, want),
                    "{engine:?} {by_register:?} {a:#x} {b:#x}"
                );
            }
            for imm in CONSTANTS {
                let by_constant = Slot::new(operation | class, 6, 0, 1, imm);
                let constant = machine(&bench, engine, &frame(by_constant));
                for a in EDGES {
                    let want = condition(operation, wide, a, imm as i64 as u64);
                    assert_eq!(
                        run(&mut bench, &constant, a, 9),
                        (a, want),
                        "{engine:?} {by_constant:?} {a:#x}"
                    );
                }
            }
        }
    }
}

/// Compares of registers whose upper halves the linker knows to be 0 become
/// 32-bit ones: signed compares must not change their meaning.
#[test]
fn narrowed_compares_are_the_kernels() {
    let mut bench = Bench::new();
    for operation in JUMPS {
        let mut code = frame(Slot::new(operation | SRC_REG | class::JMP, 6, 7, 1, 0));
        for load in code.iter_mut().filter(|s| s.op == op::LOAD64) {
            load.op = 0x61;
        }
        let linked = link(&code, VmEngine::Cranelift).unwrap();
        assert_eq!(linked.len() / 8, code.len() + 3, "nothing but the prologue is added");
        let machine = machine(&bench, VmEngine::Cranelift, &code);
        let narrow = EDGES.into_iter().filter(|e| *e <= 0xffff_ffff);
        for (a, b) in narrow.clone().flat_map(|a| narrow.clone().map(move |b| (a, b))) {
            assert_eq!(
                run(&mut bench, &machine, a, b),
                (a, condition(operation, true, a, b)),
                "{a:#x} {b:#x}"
            );
        }
    }
}

#[test]
fn a_full_stack_leaves_no_room_for_wide_compares() {
    let mut code = frame(Slot::new(jump::GT | SRC_REG | class::JMP, 6, 7, 1, 0));
    code.insert(0, Slot::new(op::STORE64, 10, 1, -512, 0));
    assert!(link(&code, VmEngine::Interpreter).is_ok(), "the interpreter needs no help with it");
    let refusal = link(&code, VmEngine::Cranelift).unwrap_err().to_string();
    assert!(refusal.contains("r10-512"), "{refusal}");
}

#[test]
fn memory_outside_is_a_fault() {
    let mut bench = Bench::new();
    let end = i64::from(bench.arena.base()) + bench.arena.size() as i64;
    for (offset, fault) in [(-16, false), (-8, true), (0, true), (4096, true)] {
        // The last seven bytes and what follows cannot be reached.
        let at = end + offset + 1;
        let code = [
            Slot::new(op::LDDW, 2, 0, 0, at as u32 as i32),
            Slot::new(0, 0, 0, 0, (at >> 32) as i32),
            Slot::new(op::LOAD64, 0, 2, 0, 0),
            Slot::new(op::EXIT, 0, 0, 0, 0),
        ];
        let machine = machine(&bench, VmEngine::Interpreter, &code);
        assert_eq!(machine.run(&mut bench).is_err(), fault, "{offset}");
    }
}

/// rbpf as it is, without `check` and `link`: value of r0, or its refusal.
fn bare(engine: VmEngine, code: &[Slot]) -> Option<u64> {
    let bytes: Vec<u8> = code.iter().flat_map(|s| s.to_bytes()).collect();
    let mut vm = rbpf::EbpfVmMbuff::new(Some(&bytes)).ok()?;
    match engine {
        VmEngine::Interpreter => vm.execute_program(&[], &[]).ok(),
        VmEngine::Cranelift => {
            vm.cranelift_compile().ok()?;
            vm.execute_program_cranelift(&mut [], &mut []).ok()
        }
    }
}

#[test]
fn rbpf_alone_differs_where_it_is_not_trusted() {
    use VmEngine::{Cranelift, Interpreter};
    let exit = Slot::new(op::EXIT, 0, 0, 0, 0);
    let set = |r: u8, v: u64| {
        [Slot::new(op::LDDW, r, 0, 0, v as u32 as i32), Slot::new(0, 0, 0, 0, (v >> 32) as u32 as i32)]
    };
    // Registers r0 and r1, an instruction that works on r0, and what the kernel gives.
    let cases = [
        ("movsx8", Interpreter, 0, 0x80, Slot::new(0xbf, 0, 1, 8, 0), (-128i64) as u64),
        ("movsx8", Cranelift, 0, 0x80, Slot::new(0xbf, 0, 1, 8, 0), (-128i64) as u64),
        ("sdiv64", Interpreter, (-8i64) as u64, 2, Slot::new(0x3f, 0, 1, 1, 0), (-4i64) as u64),
        ("mod32 by 0", Interpreter, 0x1_0000_0005, 0, Slot::new(0x9c, 0, 1, 0, 0), 5),
        ("le16", Cranelift, 0x1_2345, 0, Slot::new(op::TO_LE, 0, 0, 0, 16), 0x2345),
        ("bswap32", Interpreter, 0x1122_3344, 0, Slot::new(0xd7, 0, 0, 0, 32), 0x4433_2211),
    ];
    for (name, engine, r0, r1, insn, kernel) in cases {
        let code: Vec<Slot> = [&set(0, r0)[..], &set(1, r1), &[insn, exit]].concat();
        assert_ne!(bare(engine, &code), Some(kernel), "{name}: rbpf has learned it");
    }
    // Jumps: r0 becomes 1 if taken.
    let jumps = [
        ("jeq -1", Interpreter, u64::MAX, Slot::new(jump::EQ | class::JMP, 1, 0, 1, -1), true),
        ("jgt -1", Interpreter, 0xffff_ffff, Slot::new(jump::LT | class::JMP, 1, 0, 1, -1), true),
        ("jne 0", Cranelift, 1 << 32, Slot::new(jump::NE | class::JMP, 1, 0, 1, 0), true),
    ];
    for (name, engine, r1, insn, taken) in jumps {
        let (one, zero) = (Slot::new(op::MOV64, 0, 0, 0, 1), Slot::new(op::MOV64, 0, 0, 0, 0));
        let code: Vec<Slot> = [&[one], &set(1, r1)[..], &[insn, zero, exit]].concat();
        assert_ne!(bare(engine, &code), Some(u64::from(taken)), "{name}: rbpf has learned it");
    }
}
