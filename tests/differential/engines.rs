//! The engines that a case runs through, and what they must agree on.

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::emit::Form;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{self, DecisionData, Flow, PolicyIr, Verdict};
use polc_compiler::passes::{OptOptions, optimize};
use polc_runtime::kernel::KernelEngine;
use polc_runtime::packet::build;
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, EngineError, Packet};

const ENTRY_OBJECT: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");

/// One policy with the packets to run and what each must give.
pub struct Case {
    seed: u64,
    ir: PolicyIr,
    optimised: PolicyIr,
    image: PolicyImage,
    packets: Vec<(Flow, Vec<u8>, Expected)>,
}

/// What every engine must find: decisions are compared by what they name, since
/// passes may number them anew.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    verdict: Verdict,
    decision: DecisionData,
    logged: usize,
    last_log: Option<DecisionData>,
}

impl Case {
    /// Compiles a policy and evaluates its packets with the reference evaluator. `None` if a
    /// form is forced that has no room for it.
    pub fn new(seed: u64, ir: PolicyIr, flows: Vec<Flow>, options: &CompileOptions) -> Option<Self> {
        ir::verify(&ir).unwrap_or_else(|e| panic!("seed {seed}: drawn policy is invalid: {e}"));
        let mut optimised = ir.clone();
        let opt = OptOptions { level: options.level, verify: true, ..OptOptions::default() };
        optimize(&mut optimised, &opt).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{ir}"));
        let image = match compile(ir.clone(), options) {
            Err(e) if e.is_limit() && options.limits.form != Form::Auto => {
                println!("seed {seed}: {e}");
                return None;
            }
            image => image.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{ir}")),
        };
        let packets = flows
            .into_iter()
            .filter_map(|flow| {
                let frame = build::frame(&flow)?;
                let expected = evaluate(&ir, &flow);
                Some((flow, frame, expected))
            })
            .collect();
        Some(Self { seed, ir, optimised, image, packets })
    }
}

fn evaluate(ir: &PolicyIr, flow: &Flow) -> Expected {
    let outcome = ir::evaluate(ir, flow);
    Expected {
        verdict: outcome.verdict,
        decision: ir.decisions[outcome.decision].clone(),
        logged: outcome.logged.len(),
        last_log: outcome.logged.last().map(|d| ir.decisions[*d].clone()),
    }
}

/// Counts what ran and what could not.
#[derive(Default)]
pub struct Engines {
    ran: std::collections::BTreeMap<&'static str, usize>,
    skipped: std::collections::BTreeMap<&'static str, String>,
}

impl Engines {
    /// Runs every packet of every case through every engine; returns the number
    /// of packets. Panics at the first disagreement, naming seed and packet.
    pub fn check(&mut self, cases: &[Case]) -> usize {
        for case in cases {
            for (flow, _, want) in &case.packets {
                agree("optimised IR", case, flow, want, &evaluate(&case.optimised, flow));
            }
        }
        let specs: Vec<AttachmentSpec> = (0..)
            .zip(cases)
            .map(|(endpoint, c)| AttachmentSpec { endpoint, direction: c.ir.direction, image: &c.image })
            .collect();
        for engine in [VmEngine::Interpreter, VmEngine::Cranelift] {
            let name = if engine == VmEngine::Interpreter { "interpreter" } else { "cranelift" };
            let options = VmOptions { engine, stateless: true, ..VmOptions::default() };
            self.run(name, Vm::new(ENTRY_OBJECT, &specs, options), cases);
        }
        self.run("kernel", KernelEngine::new(ENTRY_OBJECT, &specs, true), cases);
        cases.iter().map(|c| c.packets.len()).sum()
    }

    fn run<E: Engine>(&mut self, name: &'static str, engine: Result<E, EngineError>, cases: &[Case]) {
        let mut engine = match engine {
            Ok(engine) => engine,
            Err(error @ EngineError::Unavailable { .. }) if !kernel_is_required() => {
                self.skipped.insert(name, error.to_string());
                return;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        for (at, case) in (0..).map(Attachment).zip(cases) {
            for (flow, frame, want) in &case.packets {
                let packet = Packet { data: frame, wire_len: frame.len() as u32, now: 1_000_000_000 };
                let got = engine
                    .evaluate(at, packet)
                    .unwrap_or_else(|e| panic!("{name}, seed {}: {flow:?}: {e}\n{}", case.seed, case.ir));
                let decision = |index: u32| case.image.decisions[index as usize].clone();
                let Some(decided) = got.decision else {
                    panic!(
                        "{name}, seed {}: {flow:?} was not decided by policy: {got:?}\n{}",
                        case.seed, case.ir
                    )
                };
                let got = Expected {
                    verdict: got.verdict,
                    decision: decision(decided),
                    logged: got.logged as usize,
                    last_log: got.log_decision.map(decision),
                };
                agree(name, case, flow, want, &got);
                *self.ran.entry(name).or_default() += 1;
            }
        }
    }

    /// Packets per engine, and which engines could not run.
    pub fn summary(&self) -> String {
        let ran = self.ran.iter().map(|(name, n)| format!("{name} {n}"));
        let skipped = self.skipped.iter().map(|(name, why)| format!("{name} SKIPPED: {why}"));
        ran.chain(skipped).collect::<Vec<_>>().join(", ")
    }
}

fn kernel_is_required() -> bool {
    std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1")
}

fn agree(name: &str, case: &Case, flow: &Flow, want: &Expected, got: &Expected) {
    assert!(
        want == got,
        "{name} disagrees with the reference; repeat with POLC_SEED={} POLC_CASES=1\n\
         packet: {flow:?}\nreference: {want:?}\n{name}: {got:?}\n{}",
        case.seed,
        case.ir
    );
}
