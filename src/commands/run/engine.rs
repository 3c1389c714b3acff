//! The engines by name.

use clap::ValueEnum;
use polc_compiler::ir::evaluate;
#[cfg(target_os = "linux")]
use polc_runtime::kernel::KernelEngine;
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
    pub ns: u64,
    /// The policy program alone, ns per run.
    pub ns_policy: u64,
}

/// An engine, as far as the command cares.
pub enum AnyEngine {
    /// One that only evaluates.
    Plain(Box<dyn Engine>),
    /// The kernel, which measures as well.
    #[cfg(target_os = "linux")]
    Kernel(Box<KernelEngine>),
}

impl AnyEngine {
    /// Makes the engine for all places of a plan.
    pub fn new(engine: EngineArg, plan: &Plan, stateless: bool) -> Result<Self, EngineError> {
        Ok(match engine {
            EngineArg::Reference => Self::Plain(Box::new(reference(plan, stateless))),
            EngineArg::Interpreter => Self::Plain(Box::new(vm(plan, stateless, VmEngine::Interpreter)?)),
            EngineArg::Cranelift => Self::Plain(Box::new(vm(plan, stateless, VmEngine::Cranelift)?)),
            EngineArg::Kernel => kernel(plan, stateless)?,
        })
    }

    /// Measures one evaluation; only the kernel does.
    pub fn time(
        &mut self,
        at: Attachment,
        packet: Packet<'_>,
        runs: u32,
    ) -> Result<Option<Timing>, EngineError> {
        match self {
            Self::Plain(_) => Ok(None),
            #[cfg(target_os = "linux")]
            Self::Kernel(engine) => {
                let (ns, ns_policy) = engine.measure(at, packet, runs)?;
                Ok(Some(Timing { ns, ns_policy }))
            }
        }
    }
}

impl Engine for AnyEngine {
    fn evaluate(&mut self, at: Attachment, packet: Packet<'_>) -> Result<Evaluation, EngineError> {
        match self {
            Self::Plain(engine) => engine.evaluate(at, packet),
            #[cfg(target_os = "linux")]
            Self::Kernel(engine) => engine.evaluate(at, packet),
        }
    }
}

#[cfg(target_os = "linux")]
fn kernel(plan: &Plan, stateless: bool) -> Result<AnyEngine, EngineError> {
    let engine = KernelEngine::new(polc_runtime::ENTRY_OBJECT, &plan.specs(), stateless)?;
    Ok(AnyEngine::Kernel(Box::new(engine)))
}

#[cfg(not(target_os = "linux"))]
fn kernel(_: &Plan, _: bool) -> Result<AnyEngine, EngineError> {
    Err(EngineError::Unavailable { engine: "kernel", reason: "it needs Linux".into() })
}

fn vm(plan: &Plan, stateless: bool, engine: VmEngine) -> Result<Vm, EngineError> {
    Vm::new(
        polc_runtime::ENTRY_OBJECT,
        &plan.specs(),
        VmOptions { engine, stateless, ..VmOptions::default() },
    )
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
    Reference::new(
        plan.attachments().map(attachment).collect(),
        ReferenceOptions { stateless, ..ReferenceOptions::default() },
    )
}
