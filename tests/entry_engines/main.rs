//! The entry programs against the reference engine: the C parser and tracking,
//! run by the VM, must decide thousands of drawn packets, a third of them
//! damaged, as the Rust code does that was written from the same rules.
//!
//! `POLC_CASES` sets the number of packets per engine, `POLC_SEED` where they
//! begin; a failure prints both, and the packet.

use polc_compiler::ir::Direction;
use polc_runtime::reference::{Reference, ReferenceAttachment, ReferenceOptions};
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, Evaluation, Packet};

mod fingerprint;
mod packets;

const ENTRY: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");

/// Two endpoints, two directions each.
const ATTACHMENTS: [(u32, Direction); 4] =
    [(7, Direction::Ingress), (7, Direction::Egress), (8, Direction::Ingress), (8, Direction::Egress)];

fn reference(stateless: bool) -> Reference {
    let attachment = |(endpoint, direction)| ReferenceAttachment {
        endpoint,
        direction,
        policy: Box::new(fingerprint::outcome),
    };
    Reference::new(ATTACHMENTS.map(attachment).into(), ReferenceOptions { stateless })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs drawn packets through both engines.
fn compare(engine: &mut dyn Engine, stateless: bool) {
    let (seed, count) = (number("POLC_SEED", 1), number("POLC_CASES", 20_000));
    let mut reference = reference(stateless);
    for (i, drawn) in packets::draw(seed, count as usize, ATTACHMENTS.len()).iter().enumerate() {
        let at = Attachment(drawn.attachment);
        let packet = Packet { data: &drawn.data, wire_len: drawn.wire_len, now: drawn.now };
        let evaluate = |engine: &mut dyn Engine| -> Evaluation { engine.evaluate(at, packet).unwrap() };
        let (want, have) = (evaluate(&mut reference), evaluate(engine));
        assert_eq!(
            have, want,
            "POLC_SEED={seed} stateless={stateless} packet {i} at {:?}: {:02x?}",
            ATTACHMENTS[drawn.attachment as usize], drawn.data
        );
    }
}

fn compare_vm(engine: VmEngine) {
    let images = [Direction::Ingress, Direction::Egress].map(fingerprint::image);
    let spec = |(endpoint, direction)| AttachmentSpec {
        endpoint,
        direction,
        image: &images[usize::from(direction == Direction::Egress)],
    };
    for stateless in [false, true] {
        let mut vm = Vm::new(ENTRY, &ATTACHMENTS.map(spec), VmOptions { engine, stateless }).unwrap();
        compare(&mut vm, stateless);
    }
}

#[test]
fn interpreter_agrees_with_the_reference() {
    compare_vm(VmEngine::Interpreter);
}

#[test]
fn cranelift_agrees_with_the_reference() {
    compare_vm(VmEngine::Cranelift);
}

/// Drawn packets that never reach a reason would compare nothing.
#[test]
fn drawn_packets_meet_every_reason() {
    use polc_compiler::abi;
    use polc_compiler::ir::Verdict;

    let mut engine = reference(false);
    let mut met = std::collections::BTreeMap::new();
    for drawn in packets::draw(1, 20_000, ATTACHMENTS.len()) {
        let packet = Packet { data: &drawn.data, wire_len: drawn.wire_len, now: drawn.now };
        let found = engine.evaluate(Attachment(drawn.attachment), packet).unwrap();
        *met.entry((found.reason, found.verdict)).or_insert(0) += 1;
    }
    for (reason, verdict, least) in [
        (abi::REASON_POLICY, Verdict::Allow, 5000),
        (abi::REASON_POLICY, Verdict::Deny, 1000),
        (abi::REASON_CONNTRACK, Verdict::Allow, 1000),
        (abi::REASON_CONNTRACK, Verdict::Deny, 5),
        (abi::REASON_NOT_IP, Verdict::Allow, 100),
        (abi::REASON_MALFORMED, Verdict::Deny, 1000),
        (abi::REASON_TOO_SHORT, Verdict::Deny, 500),
        (abi::REASON_UNSUPPORTED, Verdict::Deny, 100),
        (abi::REASON_NEIGHBOUR_DISCOVERY, Verdict::Allow, 100),
    ] {
        let times = met.get(&(reason, verdict)).copied().unwrap_or(0);
        assert!(times >= least, "reason {reason} {verdict:?} met {times} times; all: {met:?}");
    }
}
