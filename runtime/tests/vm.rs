//! The VM on the entry object that polc ships and on images built by hand.

mod engines;

use engines::*;
use polc_compiler::abi;
use polc_compiler::bpf::{AluOp, Helper, Insn, MapRef, Reg, Size};
use polc_compiler::image::{MapKind, MapSpec, PolicyImage};
use polc_compiler::ir::{Direction, Verdict};
use polc_runtime::vm::{MAX_PACKET, Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, EngineError, Packet};

const SECOND: u64 = 1_000_000_000;
const CLIENT: [u8; 4] = [10, 0, 0, 1];
const POD: [u8; 4] = [10, 0, 1, 1];

fn ingress(image: &PolicyImage) -> AttachmentSpec<'_> {
    AttachmentSpec { endpoint: 1, direction: Direction::Ingress, image }
}

fn egress(image: &PolicyImage) -> AttachmentSpec<'_> {
    AttachmentSpec { endpoint: 1, direction: Direction::Egress, image }
}

/// Runs `test` once per engine.
fn each(specs: &[AttachmentSpec<'_>], stateless: bool, test: impl Fn(&mut Vm)) {
    for engine in [VmEngine::Interpreter, VmEngine::Cranelift] {
        let mut vm = Vm::new(ENTRY, specs, VmOptions { engine, stateless, ..VmOptions::default() }).unwrap();
        test(&mut vm);
    }
}

#[test]
fn policy_decides_by_port() {
    let image = allow_port(443);
    each(&[ingress(&image)], true, |vm| {
        for (port, want) in [(443, policy(Verdict::Allow, 0)), (80, policy(Verdict::Deny, 1))] {
            let frame = tcp(CLIENT, POD, 5000, port, SYN);
            assert_eq!(vm.evaluate(Attachment(0), at(&frame, 1)).unwrap(), want, "{port}");
        }
        let counters = vm.counters();
        let count = |deny| counters[abi::counter_index(deny, abi::REASON_POLICY) as usize];
        assert_eq!((count(false), count(true)), (1, 1));
        assert_eq!(counters.iter().sum::<u64>(), 2);
    });
}

#[test]
fn connections_are_tracked_by_the_replay_clock() {
    let (inward, outward) = (allow_port(443), allow_port(53));
    let specs = [ingress(&inward), egress(&outward)];
    let syn = tcp(CLIENT, POD, 5000, 443, SYN);
    let reply = tcp(POD, CLIENT, 443, 5000, SYN_ACK);
    let ack = tcp(CLIENT, POD, 5000, 443, ACK);
    each(&specs, false, |vm| {
        let tracked = other(Verdict::Allow, abi::REASON_CONNTRACK);
        let mut now = 1_700_000_000 * SECOND;
        assert_eq!(vm.evaluate(Attachment(1), at(&reply, now)).unwrap(), policy(Verdict::Deny, 1), "unknown");
        assert_eq!(vm.evaluate(Attachment(0), at(&syn, now)).unwrap(), policy(Verdict::Allow, 0));
        now += SECOND;
        assert_eq!(vm.evaluate(Attachment(1), at(&reply, now)).unwrap(), tracked);
        assert_eq!(vm.evaluate(Attachment(0), at(&ack, now)).unwrap(), tracked);
        // Confirmed now: an hour of silence is too long, less is not.
        now += 3599 * SECOND;
        assert_eq!(vm.evaluate(Attachment(1), at(&reply, now)).unwrap(), tracked);
        now += 3601 * SECOND;
        assert_eq!(vm.evaluate(Attachment(1), at(&reply, now)).unwrap(), policy(Verdict::Deny, 1));
        vm.set_stateless(true);
        assert_eq!(vm.evaluate(Attachment(0), at(&ack, now)).unwrap(), policy(Verdict::Allow, 0));
        vm.set_stateless(false);
    });
}

#[test]
fn prefixes_and_programs_in_sequence() {
    let image = allow_sources(&[([10, 0, 0, 0], 8, 1), ([10, 0, 0, 0], 24, 2), ([10, 0, 0, 1], 32, 3)]);
    each(&[ingress(&image)], true, |vm| {
        for (src, want) in [
            ([10, 9, 9, 9], policy(Verdict::Allow, 1)),
            ([10, 0, 0, 2], policy(Verdict::Allow, 2)),
            ([10, 0, 0, 1], policy(Verdict::Allow, 3)),
            ([11, 0, 0, 1], policy(Verdict::Deny, 99)),
        ] {
            let frame = tcp(src, POD, 5000, 80, SYN);
            assert_eq!(vm.evaluate(Attachment(0), at(&frame, 0)).unwrap(), want, "{src:?}");
        }
    });
}

#[test]
fn thirty_three_tail_calls_and_no_more() {
    // Entry to chain1 is one, the last program to `polc_allowed` is another.
    for (depth, allowed) in [(32, true), (33, false), (40, false)] {
        let image = chain(depth);
        each(&[ingress(&image)], true, |vm| {
            let frame = tcp(CLIENT, POD, 1, 2, SYN);
            let got = vm.evaluate(Attachment(0), at(&frame, 0));
            match allowed {
                true => assert_eq!(got.unwrap(), policy(Verdict::Allow, depth)),
                // The program that could not go on returns "drop" after it wrote
                // a verdict; that contradicts itself if it wrote "allow".
                false => assert!(!got.is_ok_and(|e| e.verdict == Verdict::Allow), "{depth}"),
            }
        });
    }
}

#[test]
fn a_missing_program_drops() {
    let mut body = Body::new();
    body.tail_call(MapRef::Shared(abi::PROGS_MAP), 4000);
    body.decide(Verdict::Deny, 5);
    let image = image(vec![body.program("nowhere")], Vec::new());
    each(&[ingress(&image)], true, |vm| {
        let frame = tcp(CLIENT, POD, 1, 2, SYN);
        assert_eq!(vm.evaluate(Attachment(0), at(&frame, 0)).unwrap(), policy(Verdict::Deny, 5));
    });
}

#[test]
fn what_is_no_packet_is_no_fault() {
    let image = allow_port(443);
    let frame = tcp(CLIENT, POD, 5000, 443, SYN);
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    each(&[ingress(&image)], false, |vm| {
        for len in 0..=frame.len() {
            let packet = Packet { data: &frame[..len], wire_len: frame.len() as u32, now: 0 };
            let got = vm.evaluate(Attachment(0), packet).unwrap();
            let want = match len {
                0..54 => other(Verdict::Deny, abi::REASON_TOO_SHORT),
                _ => policy(Verdict::Allow, 0),
            };
            assert_eq!(got, want, "{len}");
        }
        let not_ip = other(Verdict::Allow, abi::REASON_NOT_IP);
        assert_eq!(vm.evaluate(Attachment(0), at(&arp, 0)).unwrap(), not_ip);
        let mut huge = frame.clone();
        huge.resize(MAX_PACKET * 3, 7);
        assert_eq!(vm.evaluate(Attachment(0), at(&huge, 0)).unwrap(), policy(Verdict::Allow, 0));
        let unknown = vm.evaluate(Attachment(1), at(&frame, 0));
        assert!(matches!(unknown, Err(EngineError::Refused { .. })));
    });
}

#[test]
fn images_are_replaced_between_packets() {
    let (a, b) = (allow_port(443), allow_port(80));
    let web = tcp(CLIENT, POD, 5000, 80, SYN);
    each(&[ingress(&a), ingress(&a)], true, |vm| {
        assert_eq!(vm.evaluate(Attachment(0), at(&web, 0)).unwrap(), policy(Verdict::Deny, 1));
        vm.update_image(Attachment(0), &b).unwrap();
        assert_eq!(vm.evaluate(Attachment(0), at(&web, 0)).unwrap(), policy(Verdict::Allow, 0));
        assert_eq!(
            vm.evaluate(Attachment(1), at(&web, 0)).unwrap(),
            policy(Verdict::Deny, 1),
            "it shared the old one"
        );
        // A refused image leaves the old one in force; many updates leak nothing.
        let bad = image(Vec::new(), Vec::new());
        assert!(vm.update_image(Attachment(0), &bad).is_err());
        assert_eq!(vm.evaluate(Attachment(0), at(&web, 0)).unwrap(), policy(Verdict::Allow, 0));
        let mut large = allow_port(80);
        large.maps.push(array("table", 8 << 20, vec![(vec![1, 0, 0, 0], vec![1; 8])]));
        for _ in 0..100 {
            vm.update_image(Attachment(1), &large).unwrap();
        }
        assert_eq!(vm.evaluate(Attachment(1), at(&web, 0)).unwrap(), policy(Verdict::Allow, 0));
        assert!(vm.update_image(Attachment(7), &b).is_err());
    });
}

fn array(name: &str, max_entries: u32, entries: Vec<(Vec<u8>, Vec<u8>)>) -> MapSpec {
    let kind = MapKind::Array;
    MapSpec {
        name: name.into(),
        kind,
        key_size: 4,
        value_size: 8,
        max_entries: max_entries / 8,
        flags: 0,
        entries,
        dense: Vec::new(),
        direct: false,
        fixed: false,
    }
}

#[test]
fn maps_that_cannot_be_are_refused_with_numbers() {
    let entry = |key: Vec<u8>| array("t", 64, vec![(key, vec![0; 8])]);
    let mut no_entries = array("t", 64, Vec::new());
    no_entries.max_entries = 0;
    let mut wide = array("t", 64, Vec::new());
    wide.key_size = 8;
    let cases = [
        (entry(vec![9, 0, 0, 0]), "entry 0"),
        (entry(vec![9, 0, 0]), "entry 0"),
        (no_entries, "no entries"),
        (wide, "8 bytes"),
    ];
    let dense = |bytes: usize| MapSpec { dense: vec![1; bytes], ..array("t", 64, Vec::new()) };
    let cases = cases.into_iter().chain([(dense(12), "dense"), (dense(72), "dense")]);
    for (map, text) in cases {
        let mut image = allow_port(1);
        image.maps.push(map);
        let refusal = Vm::new(ENTRY, &[ingress(&image)], VmOptions::default()).err().unwrap().to_string();
        assert!(refusal.contains(text) && refusal.contains("`t`"), "{refusal}");
    }
    let mut image = allow_port(1);
    image.maps.push(array("huge", u32::MAX, Vec::new()));
    image.maps.push(array("huge2", u32::MAX, Vec::new()));
    let refusal = Vm::new(ENTRY, &[ingress(&image)], VmOptions::default()).err().unwrap().to_string();
    assert!(refusal.contains("below 4 GiB"), "{refusal}");
}

#[test]
fn a_bad_pointer_to_a_helper_is_a_fault() {
    for (address, text) in [(0x1000, "key outside"), (u64::MAX - 1, "key outside")] {
        let mut body = Body::new();
        body.asm.push(Insn::LoadImm64 { dst: Reg::R2, imm: address });
        body.asm.load_map(Reg::R1, MapRef::Shared(abi::STATE_MAP));
        body.asm.call(Helper::MAP_LOOKUP_ELEM);
        body.decide(Verdict::Allow, 0);
        let image = image(vec![body.program("bad_key")], Vec::new());
        each(&[ingress(&image)], true, |vm| {
            let frame = tcp(CLIENT, POD, 1, 2, SYN);
            let fault = vm.evaluate(Attachment(0), at(&frame, 0)).unwrap_err().to_string();
            assert!(fault.contains("bad_key") && fault.contains(text), "{fault}");
        });
    }
}

#[test]
fn a_read_outside_of_all_memory_is_a_fault() {
    let mut body = Body::new();
    body.asm.push(Insn::LoadImm64 { dst: Reg::R2, imm: 0xdead_0000_0000 });
    body.asm.push(Insn::load(Size::B8, Reg::R0, Reg::R2, 0));
    body.decide(Verdict::Allow, 0);
    let image = image(vec![body.program("wild")], Vec::new());
    let mut vm = Vm::new(ENTRY, &[ingress(&image)], VmOptions::default()).unwrap();
    let frame = tcp(CLIENT, POD, 1, 2, SYN);
    let fault = vm.evaluate(Attachment(0), at(&frame, 0)).unwrap_err();
    assert!(matches!(&fault, EngineError::Fault { program, .. } if program == "wild"), "{fault}");
}

#[test]
fn refusals_name_program_and_slot() {
    let mut body = Body::new();
    body.asm.push(Insn::alu(AluOp::Lsh, Reg::R7, 64));
    body.asm.call(Helper(6));
    body.decide(Verdict::Allow, 0);
    let image = image(vec![body.program("shifty")], Vec::new());
    let refusal = Vm::new(ENTRY, &[ingress(&image)], VmOptions::default()).err().unwrap();
    let EngineError::Refused { program, reason } = &refusal else { panic!("{refusal}") };
    assert_eq!(program, "shifty");
    assert_eq!(reason, "slot 11: shift by 64 bits");
}

#[test]
fn foreign_objects_are_refused() {
    for object in [&b""[..], b"\x7fELF", &ENTRY[..ENTRY.len() / 2]] {
        assert!(matches!(Vm::new(object, &[], VmOptions::default()), Err(EngineError::Refused { .. })));
    }
    // Another ABI version: the configuration is the only 16 bytes that begin like this.
    let mut other = ENTRY.to_vec();
    let mark = [[0xff; 4], [0; 4], [0; 4], abi::ABI_VERSION.to_le_bytes()].concat();
    let place = other.windows(16).position(|w| w == mark).unwrap();
    other[place + 12] += 1;
    let refusal = Vm::new(&other, &[], VmOptions::default()).err().unwrap().to_string();
    assert!(refusal.contains(&format!("ABI version {}", abi::ABI_VERSION + 1)), "{refusal}");
}

/// Run with `--ignored --nocapture`, in release.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let image = allow_port(443);
    let ack = tcp(CLIENT, POD, 5000, 443, ACK);
    for engine in [VmEngine::Interpreter, VmEngine::Cranelift] {
        let mut vm = Vm::new(
            ENTRY,
            &[ingress(&image)],
            VmOptions { engine, stateless: false, ..VmOptions::default() },
        )
        .unwrap();
        vm.evaluate(Attachment(0), at(&tcp(CLIENT, POD, 5000, 443, SYN), 0)).unwrap();
        let start = std::time::Instant::now();
        const N: u32 = 1_000_000;
        for i in 0..N {
            vm.evaluate(Attachment(0), at(&ack, u64::from(i))).unwrap();
        }
        let took = start.elapsed();
        println!(
            "{engine:?}: {:.2} M/s, {} ns",
            N as f64 / took.as_secs_f64() / 1e6,
            took.as_nanos() / u128::from(N)
        );
    }
}
