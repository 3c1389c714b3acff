//! Runs every packet of every folder through every engine.

use std::collections::{BTreeMap, BTreeSet};

use polc_compiler::abi;
use polc_compiler::ir::{self, DecisionData, Direction};
use polc_runtime::kernel::KernelEngine;
use polc_runtime::packet::build;
use polc_runtime::reference::{Reference, ReferenceAttachment, ReferenceOptions};
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, ENTRY_OBJECT, Engine, EngineError, Evaluation};

use crate::case::{Case, Program, action_fits, decided};

/// Runs everything, adds what is wrong, and says how many packets ran where.
pub fn check(cases: &[Case], wrong: &mut Vec<String>) -> String {
    let mut ran = BTreeMap::new();
    for stateless in [true, false] {
        let cases = cases.iter().filter(|case| case.tracked != stateless).collect();
        Run { cases, stateless, wrong, ran: &mut ran }.engines();
    }
    let text = ran.into_iter().map(|(name, found)| match found {
        Ok(packets) => format!("{name} {packets} packets"),
        Err(reason) => format!("{name} SKIPPED: {reason}"),
    });
    text.collect::<Vec<_>>().join(", ")
}

/// One engine of each kind for some folders.
struct Run<'a> {
    cases: Vec<&'a Case>,
    stateless: bool,
    wrong: &'a mut Vec<String>,
    ran: &'a mut BTreeMap<&'static str, Result<usize, String>>,
}

impl Run<'_> {
    fn engines(&mut self) {
        let programs: Vec<(u32, &Program)> = programs(&self.cases);
        let specs: Vec<AttachmentSpec> = programs
            .iter()
            .map(|(endpoint, p)| AttachmentSpec {
                endpoint: *endpoint,
                direction: p.direction,
                image: &p.image,
            })
            .collect();
        let (stateless, resolved) =
            (self.stateless, |p: &Program, index: u32| p.ir.decisions.values().nth(index as usize).cloned());
        self.engine("reference", Ok(reference(&programs, stateless)), resolved);
        let compiled = |p: &Program, index: u32| p.image.decisions.get(index as usize).cloned();
        for (name, engine) in [("interpreter", VmEngine::Interpreter), ("cranelift", VmEngine::Cranelift)] {
            self.engine(
                name,
                Vm::new(ENTRY_OBJECT, &specs, VmOptions { engine, stateless, ..VmOptions::default() }),
                compiled,
            );
        }
        self.engine("kernel", KernelEngine::new(ENTRY_OBJECT, &specs, stateless), compiled);
    }

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
                self.ran.insert(name, Err(error.to_string()));
                return;
            }
            Err(error) => return self.wrong.push(format!("{name}: {error}")),
        };
        let mut first = 0;
        let mut packets = 0;
        for case in &self.cases {
            for (packet, index) in &case.packets {
                let program = &case.programs[*index];
                let at = Attachment(first + *index as u32);
                let got = run(&mut engine, at, packet, program, &decision);
                if got != packet.outcome {
                    let text = &packet.text;
                    self.wrong.push(format!("{}: `{text}`\n    {name} says {got}", case.folder));
                }
                packets += 1;
            }
            first += case.programs.len() as u32;
        }
        if let Ok(ran) = self.ran.entry(name).or_insert(Ok(0)) {
            *ran += packets;
        }
    }
}

/// Every program with its endpoint's id, which both directions of an endpoint of
/// one folder share.
fn programs<'a>(cases: &[&'a Case]) -> Vec<(u32, &'a Program)> {
    let mut programs = Vec::new();
    let mut first = 0;
    for case in cases {
        let endpoints: BTreeSet<u32> = case.programs.iter().map(|p| p.endpoint.as_u32()).collect();
        let id = |p: &Program| first + endpoints.range(..p.endpoint.as_u32()).count() as u32;
        programs.extend(case.programs.iter().map(|p| (id(p), p)));
        first += endpoints.len() as u32;
    }
    programs
}

fn reference(programs: &[(u32, &Program)], stateless: bool) -> Reference {
    let attachments = programs.iter().map(|(endpoint, p)| {
        let ir = p.ir.clone();
        let policy = Box::new(move |flow: &ir::Flow| ir::evaluate(&ir, flow));
        ReferenceAttachment { endpoint: *endpoint, direction: p.direction, policy }
    });
    Reference::new(attachments.collect(), ReferenceOptions { stateless, ..ReferenceOptions::default() })
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
    if found.reason == abi::REASON_CONNTRACK {
        return format!("{verdict} connection");
    }
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
