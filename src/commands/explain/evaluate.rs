//! Runs the packet and checks the run.
//!
//! Three engines see the same packets in the same order: the tracer on programs
//! of level 0, in which every rule has its instructions in the user's order; the
//! VM on the programs that `polc run` uses; the reference engine. What they find
//! about the packet must be the same, and the tracer's instructions must tell
//! the walk that the reference evaluator takes. Otherwise nothing is explained:
//! that is a bug of polc.

use std::path::Path;

use polc_compiler::compile::CompileOptions;
use polc_compiler::explain::{Explanation, Ran, explain};
use polc_compiler::ir::{DecisionData, Direction, Verdict};
use polc_compiler::resolve::{Cluster, Endpoint};
use polc_runtime::packet::parse::{Parsed, parse};
use polc_runtime::replay::{DecidedBy, Record, replay};
use polc_runtime::vm::{Trace, Tracer, VmOptions};
use polc_runtime::{Attachment, ENTRY_OBJECT, Engine, Evaluation};

use super::subject::{Subject, open};
use crate::commands::run::describe;
use crate::commands::run::engine::{AnyEngine, EngineArg};
use crate::commands::run::json::{Decider, decider, other};
use crate::commands::run::plan::{Place, Plan};
use crate::exit::{Exit, Failure};

/// Where the user wants the packet to be looked at.
pub struct Wanted {
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Directions.
    pub directions: &'static [Direction],
}

/// What one endpoint says about the packet in one direction.
pub struct Section {
    /// Where.
    pub place: Place,
    /// What was found there.
    pub record: Record,
    /// What decided, in words.
    pub decided_by: String,
    /// What decided, where that is policy.
    pub decision: Option<DecisionData>,
    /// File and line of what decided.
    pub at: Option<(String, u32, u32)>,
    /// The walk; `None` where something decided before policy.
    pub explanation: Option<Explanation>,
}

impl Section {
    /// What decided, for JSON.
    pub fn decider(&self) -> Decider<'_> {
        match &self.decision {
            Some(data) => decider(self.place.direction, data),
            None => other(self.record.decided_by),
        }
    }
}

/// Evaluates the packet at every endpoint that owns one of its addresses and is
/// wanted: egress at the source's, then ingress at the destination's.
pub fn sections(
    cluster: &Cluster,
    subject: &Subject,
    wanted: &Wanted,
    history: Option<&Path>,
    stateless: bool,
) -> Result<Vec<Section>, Failure> {
    let Some((src, dst)) = subject.addresses() else { return Ok(Vec::new()) };
    let mut endpoints: Vec<Endpoint> =
        cluster.owners(src).iter().chain(cluster.owners(dst)).copied().collect();
    endpoints.retain(|endpoint| wanted.endpoints.contains(endpoint));
    endpoints.sort_unstable();
    endpoints.dedup();
    if endpoints.is_empty() {
        return Ok(Vec::new());
    }
    // Both directions: a tracked connection is the endpoint's, whoever opened it.
    let both = [Direction::Ingress, Direction::Egress];
    let plain = CompileOptions { level: 0, ..CompileOptions::default() };
    let traced = Plan::of(cluster, &endpoints, &both, &plain)?;
    let usual = Plan::of(cluster, &endpoints, &both, &CompileOptions::default())?;
    let mut engines = Engines::new(&traced, &usual, stateless)?;
    if let (Some(path), Some(number)) = (history, subject.number) {
        engines.replay(path, number)?;
    }
    let egress = traced.owners.at(src, Direction::Egress);
    let ingress = traced.owners.at(dst, Direction::Ingress);
    let mut sections = Vec::new();
    for at in egress.iter().chain(ingress).copied() {
        let trace = engines.trace(at, subject)?;
        if wanted.directions.contains(&traced.place(at).direction) {
            sections.push(section(cluster, &traced, at, subject, &trace)?);
        }
    }
    Ok(sections)
}

/// The engines, and the plans that they were made for.
struct Engines<'a> {
    traced: &'a Plan,
    usual: &'a Plan,
    tracer: Tracer<'a>,
    vm: AnyEngine,
    reference: AnyEngine,
}

impl<'a> Engines<'a> {
    fn new(traced: &'a Plan, usual: &'a Plan, stateless: bool) -> Result<Self, Failure> {
        let options = VmOptions { stateless, ..VmOptions::default() };
        Ok(Self {
            traced,
            usual,
            tracer: Tracer::new(ENTRY_OBJECT, &traced.specs(), options)?,
            vm: AnyEngine::new(EngineArg::Interpreter, usual, stateless)?,
            reference: AnyEngine::new(EngineArg::Reference, traced, stateless)?,
        })
    }

    /// Shows all engines the packets before number `end` of a capture.
    fn replay(&mut self, path: &Path, end: u64) -> Result<(), Failure> {
        let mut capture = open(path)?;
        let engines: &mut [&mut dyn Engine] = &mut [&mut self.tracer, &mut self.vm, &mut self.reference];
        loop {
            let packet =
                capture.next_packet().map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
            let Some(packet) = packet.filter(|packet| packet.number < end) else { return Ok(()) };
            for engine in engines.iter_mut() {
                replay(*engine, &self.traced.owners, (&packet).into(), |_| {})?;
            }
        }
    }

    /// Runs the packet through all engines; an error if they do not agree.
    fn trace(&mut self, at: Attachment, subject: &Subject) -> Result<Trace, Failure> {
        let packet = subject.packet();
        let trace = self.tracer.trace(at, packet)?;
        let reference = self.reference.evaluate(at, packet)?;
        let usual = self.vm.evaluate(at, packet)?;
        if trace.evaluation != reference {
            return Err(bug(format!(
                "the traced program and the reference evaluator differ: {:?}, {reference:?}",
                trace.evaluation
            )));
        }
        let traced = named(self.traced, at, &trace.evaluation);
        let optimised = named(self.usual, at, &usual);
        if traced != optimised {
            return Err(bug(format!(
                "the optimised program decides otherwise: {traced:?} at level 0, {optimised:?} at the default level"
            )));
        }
        Ok(trace)
    }
}

/// An evaluation with its decisions by what they are: passes number them anew.
fn named<'a>(
    plan: &'a Plan,
    at: Attachment,
    found: &Evaluation,
) -> (Verdict, u32, Option<&'a DecisionData>, u32, Option<&'a DecisionData>) {
    let data = |index: Option<u32>| index.and_then(|index| plan.decision(at, index));
    (found.verdict, found.reason, data(found.decision), found.logged, data(found.log_decision))
}

fn section(
    cluster: &Cluster,
    plan: &Plan,
    at: Attachment,
    subject: &Subject,
    trace: &Trace,
) -> Result<Section, Failure> {
    let place = plan.place(at);
    let record = Record::of(at, &trace.evaluation);
    let decision = match record.decided_by {
        DecidedBy::Policy(index) => plan.decision(at, index),
        _ => None,
    };
    let image = plan.image(at);
    let origin = decision.and_then(|data| data.at);
    let file = origin.and_then(|at| image.files.get(at.file.as_u32() as usize));
    Ok(Section {
        place: Place { name: place.name.clone(), ..*place },
        record,
        decided_by: describe::decided_by(plan, &record),
        decision: decision.cloned(),
        at: origin.zip(file).map(|(at, file)| (file.clone(), at.line, at.column)),
        explanation: explanation(cluster, plan, at, subject, trace)?,
    })
}

/// The walk, where policy decided.
fn explanation(
    cluster: &Cluster,
    plan: &Plan,
    at: Attachment,
    subject: &Subject,
    trace: &Trace,
) -> Result<Option<Explanation>, Failure> {
    let (Some(decision), Parsed::Ip(headers)) = (trace.evaluation.decision, parse(&subject.frame)) else {
        return Ok(None);
    };
    let place = plan.place(at);
    let program = &plan.programs[place.program];
    let ran = Ran {
        verdict: trace.evaluation.verdict,
        decision,
        logged: trace.evaluation.logged,
        last_log: trace.evaluation.log_decision,
        steps: trace.steps.iter().map(|step| (step.program, step.slot)).collect(),
    };
    let endpoint = Endpoint::from_u32(place.endpoint);
    explain(cluster, endpoint, &program.ir, &program.image, &headers.flow, &ran)
        .map(Some)
        .map_err(|e| bug(e.to_string()))
}

fn bug(what: String) -> Failure {
    Failure::Message(Exit::Bug, format!("{what}; this is a bug in polc"))
}
