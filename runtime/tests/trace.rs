//! The tracer against the virtual machine, on drawn policies and by hand.

mod engines;

use engines::*;
use polc_compiler::bpf::{AluOp, Insn, Reg};
use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::emit::{EmitOptions, Form};
use polc_compiler::ir::generate::{Shape, flows, policy};
use polc_compiler::ir::{self, Direction, Verdict};
use polc_runtime::packet::build;
use polc_runtime::vm::{Step, Tracer, Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, EngineError};

const STATELESS: VmOptions =
    VmOptions { engine: polc_runtime::vm::VmEngine::Interpreter, stateless: true, conntrack_entries: None };

#[test]
fn a_trace_is_the_run_that_the_machine_makes() {
    let small = EmitOptions { form: Form::Chain, max_slots: 220, ..EmitOptions::default() };
    let (mut packets, mut several) = (0, 0);
    for seed in 0..120 {
        let shape = Shape { rules: 12, ..Shape::default() };
        let ir = policy(seed, &shape);
        for (level, limits) in [(0, EmitOptions::default()), (2, EmitOptions::default()), (0, small)] {
            let options = CompileOptions { level, limits, ..CompileOptions::default() };
            let Ok(image) = compile(ir.clone(), &options) else { continue };
            let specs = [AttachmentSpec { endpoint: 1, direction: ir.direction, image: &image }];
            let mut vm = Vm::new(ENTRY, &specs, STATELESS).unwrap();
            let mut tracer = Tracer::new(ENTRY, &specs, STATELESS).unwrap();
            for flow in flows(&ir, seed, 12) {
                let Some(frame) = build::frame(&flow) else { continue };
                let want = vm.evaluate(Attachment(0), at(&frame, 1)).unwrap();
                let trace = tracer.trace(Attachment(0), at(&frame, 1)).unwrap();
                assert_eq!(trace.evaluation, want, "seed {seed} level {level} {flow:?}");
                let reference = ir::evaluate(&ir, &flow);
                assert_eq!(trace.evaluation.verdict, reference.verdict, "seed {seed} {flow:?}");
                assert_eq!(trace.steps.first(), Some(&Step { program: 0, slot: 0 }));
                for step in &trace.steps {
                    assert!(step.slot < image.programs[step.program as usize].code.slots());
                }
                packets += 1;
                several += usize::from(trace.steps.iter().any(|s| s.program > 0));
            }
        }
    }
    assert!(packets > 3_000 && several > 100, "{packets} {several}");
}

#[test]
fn what_is_decided_before_policy_runs_none_of_it() {
    let (inward, outward) = (allow_port(443), allow_port(53));
    let specs = [
        AttachmentSpec { endpoint: 1, direction: Direction::Ingress, image: &inward },
        AttachmentSpec { endpoint: 1, direction: Direction::Egress, image: &outward },
    ];
    let mut tracer = Tracer::new(ENTRY, &specs, VmOptions::default()).unwrap();
    let syn = tcp([10, 0, 0, 1], [10, 0, 1, 1], 5000, 443, SYN);
    let reply = tcp([10, 0, 1, 1], [10, 0, 0, 1], 443, 5000, SYN_ACK);
    assert_eq!(tracer.evaluate(Attachment(0), at(&syn, 1)).unwrap().verdict, Verdict::Allow);
    let trace = tracer.trace(Attachment(1), at(&reply, 2)).unwrap();
    assert_eq!(trace.evaluation, other(Verdict::Allow, polc_compiler::abi::REASON_CONNTRACK));
    assert_eq!(trace.steps, []);
    let first = tracer.trace(Attachment(1), at(&syn, 2)).unwrap();
    assert!(!first.steps.is_empty());
}

#[test]
fn a_program_that_leaves_its_memory_is_a_fault() {
    let mut body = Body::new();
    body.asm.push(Insn::mov(Reg::R1, 0));
    body.asm.push(Insn::alu(AluOp::Add, Reg::R1, 8));
    body.asm.push(Insn::store(polc_compiler::bpf::Size::B4, Reg::R1, 0, 1));
    body.decide(Verdict::Allow, 0);
    let image = image(vec![body.program("wild")], Vec::new());
    let specs = [AttachmentSpec { endpoint: 1, direction: Direction::Ingress, image: &image }];
    let mut tracer = Tracer::new(ENTRY, &specs, STATELESS).unwrap();
    let frame = tcp([10, 0, 0, 1], [10, 0, 1, 1], 1, 2, SYN);
    let error = tracer.trace(Attachment(0), at(&frame, 0)).unwrap_err();
    assert!(matches!(error, EngineError::Fault { .. }), "{error}");
    assert!(error.to_string().contains("writes 4 bytes at 0x8"), "{error}");
}
