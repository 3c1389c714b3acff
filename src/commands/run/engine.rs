//! The engines by name.

use clap::ValueEnum;
use polc_compiler::ir::evaluate;
use polc_runtime::reference::{Reference, ReferenceAttachment, ReferenceOptions};
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, Engine, EngineError, Evaluation, Packet};
use serde::Serialize;

use super::plan::Plan;

/// `--engine`.
#[derive(ValueEnum, Copy, Clone, Debug, PartialEq, Eq)]
pub enum EngineArg {
    /// Packet parsing, tracking and policy in plain Rust; no program is run
    Reference,
    /// The programs in the userspace VM, interpreted
    Interpreter,
    /// The programs in the userspace VM, compiled to machine code
    Cranelift,
    /// The programs in the kernel (Linux, root)
    Kernel,
}

/// What one evaluation costs.
#[derive(Copy, Clone, Debug, Serialize)]
pub struct Timing {
    /// Entry to verdict, ns per run.
    pub ns: f64,
    /// The policy program alone, ns per run.
    pub ns_policy: f64,
}

/// An engine, as far as the command cares.
pub struct AnyEngine {
    inner: Box<dyn Engine>,
}

impl AnyEngine {
    /// Makes the engine for all places of a plan.
    pub fn new(engine: EngineArg, plan: &Plan, stateless: bool) -> Result<Self, EngineError> {
        let inner: Box<dyn Engine> = match engine {
            EngineArg::Reference => Box::new(reference(plan, stateless)),
            EngineArg::Interpreter => Box::new(vm(plan, stateless, VmEngine::Interpreter)?),
            EngineArg::Cranelift => Box::new(vm(plan, stateless, VmEngine::Cranelift)?),
            EngineArg::Kernel => {
                return Err(EngineError::Unavailable {
                    engine: "kernel",
                    reason: "it is not part of this build".into(),
                });
            }
        };
        Ok(Self { inner })
    }

    /// Measures one evaluation.
    pub fn time(&mut self, _at: Attachment, _packet: Packet<'_>, _runs: u32) -> Result<Timing, EngineError> {
        Err(EngineError::Unavailable { engine: "kernel", reason: "it is not part of this build".into() })
    }
}

impl Engine for AnyEngine {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        self.inner.evaluate(at, packet)
    }
}

fn vm(plan: &Plan, stateless: bool, engine: VmEngine) -> Result<Vm, EngineError> {
    Vm::new(polc_runtime::ENTRY_OBJECT, &plan.specs(), VmOptions { engine, stateless })
}

/// Policy is the IR before any pass, so that a pass's fault shows as a difference.
fn reference(plan: &Plan, stateless: bool) -> Reference {
    let attachment = |at| {
        let place = plan.place(at);
        let ir = plan.programs[place.program].ir.clone();
        ReferenceAttachment {
            endpoint: place.endpoint,
            direction: place.direction,
            policy: Box::new(move |flow| evaluate(&ir, flow)),
        }
    };
    Reference::new(plan.attachments().map(attachment).collect(), ReferenceOptions { stateless })
}
