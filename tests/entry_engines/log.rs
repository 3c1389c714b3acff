//! The decision log: a record for every packet, that says what the evaluation
//! says and what the packet's headers say; and no more records than are paid for.

use polc_compiler::abi::config::{SETTING_LOG, SETTING_RECHECK, Settings};
use polc_compiler::abi::{self, Field};
use polc_compiler::ir::{Direction, Flow, Verdict};
use polc_runtime::packet::parse::{Parsed, parse};
use polc_runtime::vm::{Vm, VmEngine};
use polc_runtime::{Attachment, Engine, Evaluation, Packet};

use super::{ATTACHMENTS, Mode, fingerprint, packets, vm};

fn field(record: &[u8], field: Field) -> u64 {
    let at = field.offset as usize;
    let mut bytes = [0; 8];
    bytes[..field.size.into()].copy_from_slice(&record[at..at + usize::from(field.size)]);
    u64::from_le_bytes(bytes)
}

fn holds(record: &[u8], of: Field, value: impl Into<u64>) {
    assert_eq!(field(record, of), value.into(), "{}", of.name);
}

fn logging(settings: Settings, mode: Mode) -> Vm {
    let mut vm = vm(VmEngine::Interpreter, mode);
    let recheck = if mode.recheck { SETTING_RECHECK } else { 0 };
    vm.set_settings(&Settings { flags: settings.flags | recheck, ..settings });
    vm
}

fn evaluate(vm: &mut Vm, drawn: &packets::Drawn) -> Evaluation {
    let packet = Packet { data: &drawn.data, wire_len: drawn.wire_len, now: drawn.now };
    vm.evaluate(Attachment(drawn.attachment), packet).unwrap()
}

/// What a record says beside the headers.
fn check_decision(record: &[u8], drawn: &packets::Drawn, found: Evaluation) {
    let none = u64::from(abi::NO_DECISION);
    let (endpoint, direction) = ATTACHMENTS[drawn.attachment as usize];
    let verdict = if found.verdict == Verdict::Allow { abi::VERDICT_ALLOW } else { abi::VERDICT_DENY };
    holds(record, abi::STATE_VERDICT, verdict);
    holds(record, abi::STATE_REASON, found.reason);
    holds(record, abi::STATE_DECISION, found.decision.map_or(none, u64::from));
    holds(record, abi::STATE_LOG_DECISION, found.log_decision.map_or(none, u64::from));
    holds(record, abi::STATE_ENDPOINT, endpoint);
    holds(record, abi::STATE_NOW, drawn.now);
    let flags = field(record, abi::STATE_FLAGS) as u32;
    assert_eq!(flags & abi::FLAG_EGRESS != 0, direction == Direction::Egress, "{flags:#x}");
}

fn check_flow(record: &[u8], flow: &Flow) {
    let octets = |field: Field| &record[field.offset as usize..][..16];
    for (address, field) in [(flow.src, abi::STATE_SRC), (flow.dst, abi::STATE_DST)] {
        match address {
            std::net::IpAddr::V4(v4) => assert_eq!(octets(field)[..4], v4.octets()),
            std::net::IpAddr::V6(v6) => assert_eq!(octets(field), v6.octets()),
        }
    }
    let (sport, dport) = flow.ports.unwrap_or_default();
    holds(record, abi::STATE_SPORT, sport);
    holds(record, abi::STATE_DPORT, dport);
    holds(record, abi::STATE_PROTOCOL, flow.protocol);
    holds(record, abi::STATE_ICMP_TYPE, flow.icmp.map_or(0, |(icmp_type, _)| icmp_type));
}

#[test]
fn records_say_what_was_decided_about_which_packet() {
    let settings = Settings { flags: SETTING_LOG, ..Settings::default() };
    let mut vm = logging(settings, Mode { recheck: true, host: true, ..Mode::default() });
    let mut reversed = 0;
    for (i, drawn) in packets::draw(3, 10_000, ATTACHMENTS.len()).iter().enumerate() {
        if i % 41 == 40 {
            let of = Attachment((i % 4) as u32);
            vm.update_image(of, &fingerprint::image(ATTACHMENTS[of.0 as usize].1, i as u16)).unwrap();
        }
        let found = evaluate(&mut vm, drawn);
        let records = vm.take_log();
        assert_eq!(records.len(), 1, "packet {i}");
        assert_eq!(records[0].len(), abi::STATE_SIZE as usize);
        check_decision(&records[0], drawn, found);
        if let Parsed::Ip(headers) = parse(&drawn.data) {
            check_flow(&records[0], &headers.flow);
        }
        reversed += u32::from(field(&records[0], abi::STATE_FLAGS) as u32 & abi::FLAG_REVERSED != 0);
    }
    assert!(reversed > 20, "{reversed} answers were decided anew");
}

#[test]
fn off_or_at_another_interface_nothing_is_written() {
    let elsewhere = Settings { flags: SETTING_LOG, log_ifindex: 3, ..Settings::default() };
    for settings in [Settings::default(), elsewhere] {
        let mut vm = logging(settings, Mode::default());
        for drawn in packets::draw(4, 500, ATTACHMENTS.len()) {
            evaluate(&mut vm, &drawn);
        }
        assert!(vm.take_log().is_empty(), "{settings:?}");
    }
}

#[test]
fn records_are_bounded_by_time() {
    const SECOND: u64 = 1_000_000_000;
    let settings = Settings {
        flags: SETTING_LOG,
        log_interval: 2 * SECOND,
        log_credit: 6 * SECOND,
        ..Settings::default()
    };
    let mut vm = logging(settings, Mode::default());
    let (mut last, mut credit, mut written) = (0_u64, 0_u64, 0);
    for (i, drawn) in packets::draw(5, 5000, ATTACHMENTS.len()).iter().enumerate() {
        evaluate(&mut vm, drawn);
        credit = (credit + drawn.now.saturating_sub(last)).min(6 * SECOND);
        last = last.max(drawn.now);
        let pays = credit >= 2 * SECOND;
        if pays {
            credit -= 2 * SECOND;
        }
        assert_eq!(vm.take_log().len(), usize::from(pays), "packet {i}");
        written += u32::from(pays);
    }
    assert!((100..4900).contains(&written), "{written} records");
}
