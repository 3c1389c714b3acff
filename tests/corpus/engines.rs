//! Runs every packet of every folder through every engine.

use std::collections::BTreeMap;

use polc_compiler::ir::{self, DecisionData, Direction};
use polc_runtime::kernel::KernelEngine;
use polc_runtime::packet::build;
use polc_runtime::reference::{Reference, ReferenceAttachment, ReferenceOptions};
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, ENTRY_OBJECT, Engine, EngineError, Evaluation};

use crate::case::{Case, Program, action_fits, decided};

/// Runs everything, adds what is wrong, and says how many packets ran where.
pub fn check(cases: &[Case], wrong: &mut Vec<String>) -> String {
    let programs: Vec<&Program> = cases.iter().flat_map(|case| &case.programs).collect();
    let specs: Vec<AttachmentSpec> = (0..)
        .zip(&programs)
        .map(|(endpoint, p)| AttachmentSpec { endpoint, direction: p.direction, image: &p.image })
        .collect();
    let mut run = Run { cases, wrong, ran: BTreeMap::new(), skipped: Vec::new() };
    run.engine("reference", Ok(reference(&programs)), |p, index| {
        p.ir.decisions.values().nth(index as usize).cloned()
    });
    let compiled = |p: &Program, index: u32| p.image.decisions.get(index as usize).cloned();
    for (name, engine) in [("interpreter", VmEngine::Interpreter), ("cranelift", VmEngine::Cranelift)] {
        let vm = Vm::new(ENTRY_OBJECT, &specs, VmOptions { engine, stateless: true });
        run.engine(name, vm, compiled);
    }
    run.engine("kernel", KernelEngine::new(ENTRY_OBJECT, &specs, true), compiled);
    let ran = run.ran.iter().map(|(name, n)| format!("{name} {n} packets"));
    ran.chain(run.skipped).collect::<Vec<_>>().join(", ")
}

fn reference(programs: &[&Program]) -> Reference {
    let attachments = (0..).zip(programs).map(|(endpoint, p)| {
        let ir = p.ir.clone();
        let policy = Box::new(move |flow: &ir::Flow| ir::evaluate(&ir, flow));
        ReferenceAttachment { endpoint, direction: p.direction, policy }
    });
    Reference::new(attachments.collect(), ReferenceOptions { stateless: true })
}

struct Run<'a> {
    cases: &'a [Case],
    wrong: &'a mut Vec<String>,
    ran: BTreeMap<&'static str, usize>,
    skipped: Vec<String>,
}

impl Run<'_> {
    /// Runs one engine; `decision` looks up what its decision numbers mean.
    fn engine<E: Engine>(
        &mut self,
        name: &'static str,
        engine: Result<E, EngineError>,
        decision: impl Fn(&Program, u32) -> Option<DecisionData>,
    ) {
        let mut engine = match engine {
            Ok(engine) => engine,
            Err(error @ EngineError::Unavailable { .. }) if !kernel_is_required() => {
                self.skipped.push(format!("{name} SKIPPED: {error}"));
                return;
            }
            Err(error) => return self.wrong.push(format!("{name}: {error}")),
        };
        let mut first = 0;
        for case in self.cases {
            for (packet, index) in &case.packets {
                let program = &case.programs[*index];
                let at = Attachment(first + *index as u32);
                let got = run(&mut engine, at, packet, program, &decision);
                if got != packet.outcome {
                    let text = &packet.text;
                    self.wrong.push(format!("{}: `{text}`\n    {name} says {got}", case.folder));
                }
                *self.ran.entry(name).or_default() += 1;
            }
            first += case.programs.len() as u32;
        }
    }
}

fn run<E: Engine>(
    engine: &mut E,
    at: Attachment,
    packet: &crate::expect::Packet,
    program: &Program,
    decision: &impl Fn(&Program, u32) -> Option<DecisionData>,
) -> String {
    let Some(frame) = build::frame(&packet.flow) else { return "there is no such packet".into() };
    let data = polc_runtime::Packet { data: &frame, wire_len: frame.len() as u32, now: 1_000_000_000 };
    match engine.evaluate(at, data) {
        Ok(evaluation) => outcome(&evaluation, program.direction, |index| decision(program, index)),
        Err(error) => error.to_string(),
    }
}

/// `VERDICT DECIDER[, logged DECIDER]`.
fn outcome(
    found: &Evaluation,
    direction: Direction,
    decision: impl Fn(u32) -> Option<DecisionData>,
) -> String {
    let verdict = found.verdict.as_str();
    let Some(by) = found.decision.and_then(&decision) else {
        return format!("{verdict}, not decided by policy (reason {})", found.reason);
    };
    let mut text = format!("{verdict} {}", decided(&by, direction));
    if !action_fits(&by, verdict) {
        text += &format!(" (whose action is {})", by.action.as_str());
    }
    match (found.logged, found.log_decision.and_then(decision)) {
        (0, _) => {}
        (1, Some(log)) => text += &format!(", logged {}", decided(&log, direction)),
        (n, Some(log)) => text += &format!(", logged {n} times, last {}", decided(&log, direction)),
        (n, None) => text += &format!(", logged {n} times by nobody"),
    }
    text
}

fn kernel_is_required() -> bool {
    std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1")
}
