//! The entry programs against the reference engine: the C parser and tracking,
//! run by the VM, must decide thousands of drawn packets, a third of them
//! damaged, as the Rust code does that was written from the same rules.
//!
//! `POLC_CASES` sets the number of packets per engine, `POLC_SEED` where they
//! begin; a failure prints both, and the packet.

use polc_compiler::abi::config::{SETTING_RECHECK, Settings};
use polc_compiler::ir::Direction;
use polc_runtime::reference::{Reference, ReferenceAttachment, ReferenceOptions};
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, Evaluation, Packet};

mod failsafes;
mod fingerprint;
mod full_table;
mod log;
mod packets;

const ENTRY: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");

/// Two endpoints, two directions each.
const ATTACHMENTS: [(u32, Direction); 4] =
    [(7, Direction::Ingress), (7, Direction::Egress), (8, Direction::Ingress), (8, Direction::Egress)];

/// How the engines run.
#[derive(Copy, Clone, Debug, Default)]
struct Mode {
    stateless: bool,
    /// Connections of replaced policies are decided anew.
    recheck: bool,
    /// A policy is replaced before each packet of this number.
    replace_every: Option<usize>,
    /// The first endpoint is a host with [`failsafes::PORTS`].
    host: bool,
    /// It has untracked policy in both directions.
    untracked: bool,
}

const MODES: [Mode; 6] = [
    Mode { stateless: false, recheck: false, replace_every: None, host: false, untracked: false },
    Mode { stateless: true, recheck: false, replace_every: None, host: true, untracked: false },
    Mode { stateless: false, recheck: false, replace_every: Some(97), host: false, untracked: false },
    Mode { stateless: false, recheck: true, replace_every: Some(31), host: false, untracked: false },
    Mode { stateless: false, recheck: true, replace_every: Some(53), host: true, untracked: false },
    Mode { stateless: false, recheck: true, replace_every: Some(71), host: true, untracked: true },
];

/// What tells untracked policy from the others.
const UNTRACKED_SALT: u16 = 0x7abc;

fn reference(mode: Mode) -> Reference {
    let attachment = |(endpoint, direction)| ReferenceAttachment {
        endpoint,
        direction,
        policy: Box::new(|flow| fingerprint::outcome(0, flow)),
    };
    let options = ReferenceOptions { stateless: mode.stateless, recheck: mode.recheck };
    let mut reference = Reference::new(ATTACHMENTS.map(attachment).into(), options);
    if mode.host {
        reference.open_failsafes(ATTACHMENTS[0].0, &failsafes::ports());
    }
    if mode.untracked {
        for at in [Attachment(0), Attachment(1)] {
            reference.set_untracked(at, Box::new(|flow| fingerprint::untracked(UNTRACKED_SALT, flow)));
        }
    }
    reference
}

fn vm(engine: VmEngine, mode: Mode) -> Vm {
    let images = [Direction::Ingress, Direction::Egress].map(|direction| fingerprint::image(direction, 0));
    let spec = |(endpoint, direction)| AttachmentSpec {
        endpoint,
        direction,
        image: &images[usize::from(direction == Direction::Egress)],
    };
    let options = VmOptions { engine, stateless: mode.stateless, ..VmOptions::default() };
    let mut vm = Vm::new(ENTRY, &ATTACHMENTS.map(spec), options).unwrap();
    let flags = if mode.recheck { SETTING_RECHECK } else { 0 };
    vm.set_settings(&Settings { flags, ..Settings::default() });
    if mode.host {
        vm.open_failsafes(&failsafes::ports()).unwrap();
        vm.set_host(Attachment(0)).unwrap();
        vm.set_host(Attachment(1)).unwrap();
    }
    if mode.untracked {
        for at in [0, 1] {
            let image = fingerprint::untracked_image(ATTACHMENTS[at].1, UNTRACKED_SALT);
            vm.set_untracked(Attachment(at as u32), &image, fingerprint::PASS_DECISION).unwrap();
        }
    }
    vm
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs drawn packets through the reference and, where there is one, a VM, whose
/// verdicts must be the same.
fn run(
    vm: Option<VmEngine>,
    mode: Mode,
    (seed, count): (u64, usize),
    mut each: impl FnMut(&packets::Drawn, Evaluation),
) {
    let mut reference = reference(mode);
    let mut vm = vm.map(|engine| self::vm(engine, mode));
    for (i, drawn) in packets::draw(seed, count, ATTACHMENTS.len()).iter().enumerate() {
        let at = Attachment(drawn.attachment);
        if mode.replace_every.is_some_and(|every| i % every == every - 1) {
            let salt = i as u16 & 0x7fff;
            let of = Attachment((i % ATTACHMENTS.len()) as u32);
            reference.replace_policy(of, Box::new(move |flow| fingerprint::outcome(salt, flow)));
            if let Some(vm) = &mut vm {
                vm.update_image(of, &fingerprint::image(ATTACHMENTS[of.0 as usize].1, salt)).unwrap();
            }
        }
        let packet = Packet { data: &drawn.data, wire_len: drawn.wire_len, now: drawn.now };
        let want = reference.evaluate(at, packet).unwrap();
        if let Some(vm) = &mut vm {
            let have = vm.evaluate(at, packet).unwrap();
            assert_eq!(
                have, want,
                "POLC_SEED={seed} {mode:?} packet {i} at {:?}: {:02x?}",
                ATTACHMENTS[drawn.attachment as usize], drawn.data
            );
        }
        each(drawn, want);
    }
}

fn compare(engine: VmEngine) {
    let cases = (number("POLC_SEED", 1), number("POLC_CASES", 20_000) as usize);
    for mode in MODES {
        run(Some(engine), mode, cases, |_, _| {});
    }
}

#[test]
fn interpreter_agrees_with_the_reference() {
    compare(VmEngine::Interpreter);
}

#[test]
fn cranelift_agrees_with_the_reference() {
    compare(VmEngine::Cranelift);
}

/// Drawn packets that never reach a reason would compare nothing.
#[test]
fn drawn_packets_meet_every_reason() {
    use polc_compiler::abi;
    use polc_compiler::ir::Verdict;

    let mut met = std::collections::BTreeMap::new();
    let mut errors = [0, 0];
    run(None, MODES[0], (1, 20_000), |drawn, found| {
        *met.entry((found.reason, found.verdict)).or_insert(0) += 1;
        let of = |protocol: usize, icmp_type: usize, types: &[u8]| {
            let byte = |at: usize| drawn.data.get(at).copied().unwrap_or(255);
            let is_error = [1, 58].contains(&byte(protocol)) && types.contains(&byte(icmp_type));
            u32::from(is_error && found.reason == abi::REASON_CONNTRACK)
        };
        errors[0] += of(23, 34, &[3, 11, 12]);
        errors[1] += of(20, 54, &[1, 2, 3, 4]);
    });
    run(None, MODES[4], (1, 20_000), |_, found| {
        if found.reason == abi::REASON_FAILSAFE {
            *met.entry((found.reason, found.verdict)).or_insert(0) += 1;
        }
    });
    for (reason, verdict, least) in [
        (abi::REASON_POLICY, Verdict::Allow, 5000),
        (abi::REASON_POLICY, Verdict::Deny, 1000),
        (abi::REASON_CONNTRACK, Verdict::Allow, 1000),
        (abi::REASON_CONNTRACK, Verdict::Deny, 5),
        (abi::REASON_FAILSAFE, Verdict::Allow, 500),
        (abi::REASON_NOT_IP, Verdict::Allow, 100),
        (abi::REASON_MALFORMED, Verdict::Deny, 1000),
        (abi::REASON_TOO_SHORT, Verdict::Deny, 500),
        (abi::REASON_UNSUPPORTED, Verdict::Deny, 100),
        (abi::REASON_NEIGHBOUR_DISCOVERY, Verdict::Allow, 100),
    ] {
        let times = met.get(&(reason, verdict)).copied().unwrap_or(0);
        assert!(times >= least, "reason {reason} {verdict:?} met {times} times; all: {met:?}");
    }
    assert!(errors.iter().all(|n| *n >= 100), "{errors:?} ICMP errors of a connection");
}

#[test]
fn drawn_packets_meet_untracked_policy() {
    let found = |untracked: bool| {
        let mut all = Vec::new();
        run(None, Mode { untracked, ..MODES[4] }, (1, 20_000), |_, found| all.push(found));
        all
    };
    let differ = found(true).iter().zip(found(false)).filter(|(with, without)| **with != *without).count();
    assert!(differ > 1000, "{differ} packets");
}

/// With policies that change, keeping and deciding anew must differ.
#[test]
fn drawn_packets_meet_stale_connections() {
    let tracked = |mode: Mode| {
        let mut tracked = 0;
        run(None, mode, (1, 20_000), |_, found| {
            tracked += u32::from(found.reason == polc_compiler::abi::REASON_CONNTRACK);
        });
        tracked
    };
    let keep = tracked(Mode { replace_every: Some(31), ..Mode::default() });
    let anew = tracked(Mode { replace_every: Some(31), recheck: true, ..Mode::default() });
    assert!(anew > 500 && keep > anew + 500, "{keep} kept, {anew} decided anew");
}
