//! Policies as large as polc takes them, as programs: what the VM and the kernel
//! decide is what the reference evaluator says. The kernel's part is skipped, with the
//! reason printed, where that engine is not available; with POLC_REQUIRE_KERNEL=1 that
//! is a failure.

#[path = "../../benches/dispatch/oracle.rs"]
mod oracle;
#[path = "../../benches/dispatch/shapes.rs"]
#[expect(dead_code, reason = "other users need the rest")]
mod shapes;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::image::{DIRECT_BYTES, MapSpec, PolicyImage};
use polc_compiler::ir::{Flow, Outcome};
use polc_runtime::kernel::{KernelEngine, support};
use polc_runtime::packet::build;
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, EngineError, Packet};

use oracle::Oracle;
use shapes::{Shape, workload};

const ENTRY: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");
const RULES: usize = 100_000;
/// Packets that are decided: the reference takes milliseconds for each.
const FLOWS: usize = 60;

/// A policy with packets and what the reference says of each.
struct Case {
    image: PolicyImage,
    flows: Vec<(Flow, Outcome)>,
}

impl Case {
    fn new(shape: Shape, rules: usize) -> Self {
        Self::with(shape, rules, &CompileOptions::default())
    }

    fn with(shape: Shape, rules: usize, options: &CompileOptions) -> Self {
        let work = workload(shape, rules);
        let mut oracle = Oracle::new(&work.ir);
        let edges = work.candidates.iter().map(|(_, flow)| flow).step_by(15);
        let flows = work.spread.iter().take(FLOWS).chain(edges).map(|flow| (*flow, oracle.evaluate(flow)));
        let flows = flows.collect();
        let image = compile(work.ir, options).unwrap();
        Self { image, flows }
    }

    fn spec(&self) -> [AttachmentSpec<'_>; 1] {
        [AttachmentSpec { endpoint: 1, direction: self.image.direction, image: &self.image }]
    }

    fn check(&self, engine: &mut impl Engine) {
        let mut decided = std::collections::BTreeSet::new();
        for (flow, want) in &self.flows {
            let frame = build::frame(flow).unwrap();
            let packet = Packet { data: &frame, wire_len: frame.len() as u32, now: 1_000_000_000 };
            let got = engine.evaluate(Attachment(0), packet).unwrap();
            let want = (want.verdict, Some(want.decision.as_u32()));
            assert_eq!((got.verdict, got.decision), want, "{flow:?}");
            decided.insert(got.decision);
        }
        assert!(decided.len() > FLOWS / 4, "too few rules were met to mean anything");
    }

    fn check_vm(&self) {
        for engine in [VmEngine::Interpreter, VmEngine::Cranelift] {
            let options = VmOptions { engine, stateless: true, ..VmOptions::default() };
            self.check(&mut Vm::new(ENTRY, &self.spec(), options).unwrap());
        }
    }

    fn check_kernel(&self) {
        match KernelEngine::new(ENTRY, &self.spec(), true) {
            Ok(mut engine) => self.check(&mut engine),
            Err(EngineError::Unavailable { engine, reason }) => {
                let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
                assert!(!required, "{engine}: {reason}");
                eprintln!("skipped: {engine} engine is not available: {reason}");
            }
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_hundred_thousand_mixed_rules_run() {
    let case = Case::new(Shape::Mix, RULES);
    case.check_vm();
    case.check_kernel();
}

/// Tables above 4 MiB, addressed directly where this kernel takes that.
#[test]
fn tables_as_large_as_the_kernel_lets_programs_address_run() {
    let mut options = CompileOptions::default();
    options.limits.max_direct_bytes = support::max_direct_bytes();
    let case = Case::with(Shape::SelectorPort, RULES, &options);
    let is_large = |map: &MapSpec| map.direct && map.capacity_bytes() > DIRECT_BYTES;
    assert_eq!(case.image.maps.iter().any(is_large), support::max_direct_bytes() > DIRECT_BYTES);
    case.check_vm();
    case.check_kernel();
}

#[test]
fn a_hundred_thousand_rules_about_both_sides_run() {
    let case = Case::new(Shape::BothSides, RULES);
    case.check_vm();
    case.check_kernel();
}
