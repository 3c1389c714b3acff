//! What the steps of a program cost: the constants of `polc_compiler::dispatch::cost`.
//!
//! Each primitive is a program of many equal steps on packets with random addresses; the
//! same program without them is subtracted, and the rest divided by their number.

use std::net::{IpAddr, Ipv4Addr};

use polc_compiler::abi;
use polc_compiler::bpf::{AluOp, AsmError, Assembler, Cond, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::MapSpec;
use polc_compiler::ir::Flow;
use polc_compiler::ir::generate::Rng;

use crate::kernel::{Bed, Effort, Loadable, look_up_state, tail_call};
use crate::shapes::SPREAD;
use crate::{Failure, failed};

/// Steps of a program.
const STEPS: u32 = 64;
/// Sizes of tables that are read at random.
const TABLES: [u32; 8] = [4 << 10, 32 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20];

/// Prints the table.
pub fn print(bed: &Bed, effort: Effort) -> Result<(), Failure> {
    let mut rng = Rng::new(0x5eed);
    let flow = |rng: &mut Rng| Flow {
        src: IpAddr::V4(Ipv4Addr::from(rng.next_u64() as u32)),
        dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        protocol: 6,
        ports: Some((1, 80)),
        icmp: None,
    };
    let flows: Vec<Flow> = (0..SPREAD).map(|_| flow(&mut rng)).collect();
    bed.set_spread(&flows)?;
    let measure = |code: &Loadable| -> Result<f64, Failure> {
        let _loaded = bed.load(code)?;
        Ok(bed.spread(SPREAD, effort)?.ns)
    };
    let base = measure(&program(Vec::new(), |_| Ok(()))?)?;
    let steps = |each: &dyn Fn(&mut Assembler, u32) -> Result<(), AsmError>| -> Result<f64, Failure> {
        let all = |a: &mut Assembler| (0..STEPS).try_for_each(|step| each(a, step));
        Ok((measure(&program(Vec::new(), all)?)? - base) / f64::from(STEPS))
    };
    let insns = steps(&|a, step| {
        a.push(Insn::load(Size::B4, Reg::R1, Reg::R9, (step as i16 % 12) * 4));
        a.push(Insn::alu(AluOp::Add, Reg::R1, 7));
        a.push(Insn::alu(AluOp::Lsh, Reg::R1, 1));
        a.push(Insn::alu(AluOp::Xor, Reg::R7, Reg::R1));
        Ok(())
    })?;
    println!("ten instructions (loads, arithmetic)   {:8.2} ns", insns * 10.0 / 4.0);
    let branch = |shift: Option<u32>| {
        steps(&|a, step| {
            let other = a.new_label();
            // With a shift the bit is another for each packet and step.
            a.push(Insn::mov(Reg::R1, Reg::R8));
            a.push(Insn::alu(AluOp::Rsh, Reg::R1, shift.map_or(63, |s| ((s + step) % 32) as i32)));
            a.push(Insn::alu(AluOp::And, Reg::R1, 1));
            a.jump_if(Width::W64, Cond::Ne, Reg::R1, 0, other);
            a.push(Insn::alu(AluOp::Add, Reg::R7, 3));
            a.bind(other)
        })
    };
    let unforeseen = branch(Some(0))? - branch(None)?;
    println!("a branch that goes either way, twice   {:8.2} ns", unforeseen * 2.0);
    let read = |bytes: u32| -> Result<f64, Failure> {
        let table = MapSpec::array("table", 64, bytes / 64, vec![0; 64], u64::MAX);
        let values = table.values(0);
        let code = program(vec![table], |a| {
            let missing = a.new_label();
            a.push(Insn::mov(Reg::R1, Reg::R8));
            a.push(Insn::alu(AluOp::Mul, Reg::R1, 0x2545_f491));
            a.push(Insn::Alu { width: Width::W32, op: AluOp::Mov, dst: Reg::R1, src: Reg::R1.into() });
            a.push(Insn::alu(AluOp::Mul, Reg::R1, (bytes / 64) as i32));
            a.push(Insn::alu(AluOp::Rsh, Reg::R1, 32));
            a.point(&values, Reg::R1, -8, missing);
            a.push(Insn::load(Size::B4, Reg::R1, Reg::R0, 0));
            // What follows waits for it, as it does for a table's entry.
            a.jump_if(Width::W32, Cond::Ne, Reg::R1, 0, missing);
            a.bind(missing)
        })?;
        Ok(measure(&code)? - base)
    };
    let least = read(TABLES[0])?;
    for bytes in TABLES {
        let name = format!("a read from a table of {} KiB", bytes >> 10);
        println!("{name:38} {:8.2} ns more than from 4 KiB", read(bytes)? - least);
    }
    Ok(())
}

/// A policy program with some steps; the source address is in `r8`.
fn program(
    maps: Vec<MapSpec>,
    steps: impl FnOnce(&mut Assembler) -> Result<(), AsmError>,
) -> Result<Loadable, Failure> {
    let mut a = Assembler::new();
    look_up_state(&mut a)?;
    a.push(Insn::load(Size::B4, Reg::R8, Reg::R9, abi::STATE_SRC.offset));
    a.push(Insn::mov(Reg::R7, 0));
    steps(&mut a).map_err(|e| failed(e.to_string()))?;
    a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_DECISION.offset, Reg::R7));
    a.push(Insn::store(Size::B4, Reg::R9, abi::STATE_VERDICT.offset, abi::VERDICT_ALLOW as i32));
    tail_call(&mut a, MapRef::Shared(abi::PROGS_MAP), abi::SLOT_ALLOWED);
    Ok(Loadable { programs: vec![a.finish()?], maps })
}
