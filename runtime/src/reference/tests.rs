//! Tracking, packet by packet: what endpoint 10.0.0.1 sends (`Egress`) to
//! 10.0.0.2 and gets from it (`Ingress`).

use super::*;
use Direction::{Egress, Ingress};
use polc_compiler::ir::Decision;

const SECOND: u64 = 1_000_000_000;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// An IPv4 frame in this direction; `fragment` is the header's offset field.
fn frame(direction: Direction, protocol: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[8, 0, 0x45, 0]);
    frame.extend_from_slice(&(20 + body.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 9]);
    frame.extend_from_slice(&fragment.to_be_bytes());
    frame.extend_from_slice(&[64, protocol, 0, 0]);
    let (src, dst) = if direction == Egress { (1, 2) } else { (2, 1) };
    frame.extend_from_slice(&[10, 0, 0, src, 10, 0, 0, dst]);
    frame.extend_from_slice(body);
    frame
}

/// Transport header between the endpoint's port 4,000 and the other's port 80.
fn ports(direction: Direction) -> Vec<u8> {
    let (local, remote) = ([0x0f, 0xa0], [0, 80]);
    if direction == Egress { [local, remote].concat() } else { [remote, local].concat() }
}

fn tcp(direction: Direction, flags: u8) -> Vec<u8> {
    let mut header = ports(direction);
    header.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    frame(direction, 6, 0, &header)
}

fn udp(direction: Direction, fragment: u16) -> Vec<u8> {
    frame(direction, 17, fragment, &[ports(direction), vec![0, 8, 0, 0]].concat())
}

fn sctp(direction: Direction) -> Vec<u8> {
    frame(direction, 132, 0, &[ports(direction), vec![0; 8]].concat())
}

fn icmp(direction: Direction, icmp_type: u8, id: u8) -> Vec<u8> {
    frame(direction, 1, 0, &[icmp_type, 0, 0, 0, 0, id, 0, 1])
}

fn later(direction: Direction) -> Vec<u8> {
    frame(direction, 17, 100, &[0; 8])
}

/// What must decide: policy or tracking.
#[derive(Copy, Clone, Debug, PartialEq)]
enum By {
    Policy,
    Tracking,
}
use By::{Policy, Tracking as Tracked};

fn fixed(verdict: Verdict) -> Box<dyn Fn(&Flow) -> Outcome> {
    Box::new(move |_| Outcome { verdict, decision: Decision::from_u32(7), logged: vec![] })
}

/// An endpoint that may send and may get nothing, in both attachments of one engine.
fn only_egress(stateless: bool) -> Reference {
    let at = |direction, verdict| ReferenceAttachment { endpoint: 3, direction, policy: fixed(verdict) };
    Reference::new(
        vec![at(Egress, Verdict::Allow), at(Ingress, Verdict::Deny)],
        ReferenceOptions { stateless, ..ReferenceOptions::default() },
    )
}

fn evaluate(engine: &mut Reference, direction: Direction, data: &[u8], now: u64) -> Evaluation {
    let at = Attachment(u32::from(direction == Ingress));
    engine.evaluate(at, Packet { data, wire_len: data.len() as u32, now }).unwrap()
}

type Step = (u64, Direction, Vec<u8>, By, Verdict);

/// Runs packets through one engine; times are seconds.
fn check(what: &str, steps: &[Step]) {
    let mut engine = only_egress(false);
    for (i, (seconds, direction, data, by, verdict)) in steps.iter().enumerate() {
        let found = evaluate(&mut engine, *direction, data, 1000 * SECOND + seconds * SECOND);
        let reason = if *by == Policy { abi::REASON_POLICY } else { abi::REASON_CONNTRACK };
        assert_eq!((found.verdict, found.reason), (*verdict, reason), "{what}, step {i}");
        assert_eq!(found.decision, (*by == Policy).then_some(7), "{what}, step {i}");
    }
}

fn sent(seconds: u64, data: Vec<u8>, by: By) -> Step {
    (seconds, Egress, data, by, Verdict::Allow)
}

fn got(seconds: u64, data: Vec<u8>, by: By) -> Step {
    (seconds, Ingress, data, by, if by == Policy { Verdict::Deny } else { Verdict::Allow })
}

/// The three packets that open a connection, in second 0.
fn handshake() -> Vec<Step> {
    vec![
        sent(0, tcp(Egress, SYN), Policy),
        got(0, tcp(Ingress, SYN | ACK), Tracked),
        sent(0, tcp(Egress, ACK), Tracked),
    ]
}

#[test]
fn tcp_times_out_by_state() {
    let data = |direction| tcp(direction, ACK);
    check("established", &[handshake(), vec![got(3600, data(Ingress), Tracked)]].concat());
    check("established, idle", &[handshake(), vec![got(3601, data(Ingress), Policy)]].concat());
    check("half open", &[sent(0, tcp(Egress, SYN), Policy), got(21, tcp(Ingress, SYN | ACK), Policy)]);
    let fins = [sent(1, tcp(Egress, FIN | ACK), Tracked), got(1, tcp(Ingress, FIN | ACK), Tracked)];
    check("closed", &[&handshake()[..], &fins, &[sent(31, data(Egress), Tracked)]].concat());
    check("closed, idle", &[&handshake()[..], &fins, &[got(32, data(Ingress), Policy)]].concat());
    let half = [sent(1, tcp(Egress, FIN | ACK), Tracked), got(1000, data(Ingress), Tracked)];
    check("half closed", &[&handshake()[..], &half].concat());
    let reset = [got(1, tcp(Ingress, RST), Tracked)];
    check("reset", &[&handshake()[..], &reset, &[got(41, data(Ingress), Tracked)]].concat());
    check("reset, idle", &[&handshake()[..], &reset, &[got(42, data(Ingress), Policy)]].concat());
}

#[test]
fn tcp_syn_is_always_policys() {
    let again = vec![
        sent(5, tcp(Egress, SYN), Policy),
        got(5, tcp(Ingress, SYN), Policy),
        got(5, tcp(Ingress, SYN | ACK), Tracked),
    ];
    check("second SYN", &[handshake(), again].concat());
    check("mid-stream", &[got(0, tcp(Ingress, ACK), Policy), sent(0, tcp(Egress, ACK), Policy)]);
}

#[test]
fn other_protocols_time_out() {
    let raw = |direction| frame(direction, 47, 0, &[]);
    check("udp", &[sent(0, udp(Egress, 0), Policy), got(60, udp(Ingress, 0), Tracked)]);
    let answered = [sent(0, udp(Egress, 0), Policy), got(1, udp(Ingress, 0), Tracked)];
    check("udp, answered", &[&answered[..], &[got(121, udp(Ingress, 0), Tracked)]].concat());
    check("udp, answered, idle", &[&answered[..], &[got(122, udp(Ingress, 0), Policy)]].concat());
    check("udp, idle", &[sent(0, udp(Egress, 0), Policy), got(61, udp(Ingress, 0), Policy)]);
    check("sctp", &[sent(0, sctp(Egress), Policy), got(600, sctp(Ingress), Tracked)]);
    check("sctp, idle", &[sent(0, sctp(Egress), Policy), got(601, sctp(Ingress), Policy)]);
    check("gre", &[sent(0, raw(Egress), Policy), got(600, raw(Ingress), Tracked)]);
    check("denied opens nothing", &[got(0, udp(Ingress, 0), Policy), got(1, udp(Ingress, 0), Policy)]);
}

#[test]
fn clock_that_goes_back_expires_nothing() {
    let mut engine = only_egress(false);
    evaluate(&mut engine, Egress, &udp(Egress, 0), 10 * SECOND);
    let found = evaluate(&mut engine, Ingress, &udp(Ingress, 0), SECOND);
    assert_eq!(found.reason, abi::REASON_CONNTRACK);
}

#[test]
fn echo_is_answered_and_not_asked_back() {
    let asked = sent(0, icmp(Egress, 8, 1), Policy);
    check(
        "reply",
        &[asked.clone(), got(5, icmp(Ingress, 0, 1), Tracked), sent(9, icmp(Egress, 8, 1), Tracked)],
    );
    check("late reply", &[asked.clone(), got(6, icmp(Ingress, 0, 1), Policy)]);
    check("another id", &[asked.clone(), got(0, icmp(Ingress, 0, 2), Policy)]);
    check("asked back", &[asked.clone(), got(0, icmp(Ingress, 8, 1), Policy)]);
    check("reply opens nothing", &[sent(0, icmp(Egress, 0, 1), Policy), got(0, icmp(Ingress, 8, 1), Policy)]);
    check("error", &[asked, got(0, icmp(Ingress, 3, 1), Policy)]);
}

/// An ICMP error that quotes a packet, which went in the other direction.
fn error(direction: Direction, icmp_type: u8, about: &[u8]) -> Vec<u8> {
    frame(direction, 1, 0, &[&[icmp_type, 1, 0, 0, 0, 0, 0, 0], &about[14..]].concat())
}

#[test]
fn errors_belong_to_the_connection_that_they_quote() {
    let asked = sent(0, udp(Egress, 0), Policy);
    for icmp_type in [3, 11, 12] {
        check("error", &[asked.clone(), got(1, error(Ingress, icmp_type, &udp(Egress, 0)), Tracked)]);
    }
    for icmp_type in [4, 5] {
        check("no error", &[asked.clone(), got(1, error(Ingress, icmp_type, &udp(Egress, 0)), Policy)]);
    }
    let answer = got(1, udp(Ingress, 0), Tracked);
    check("about an answer", &[asked.clone(), answer, sent(1, error(Egress, 3, &udp(Ingress, 0)), Tracked)]);
    check("about nothing known", &[got(1, error(Ingress, 3, &udp(Egress, 0)), Policy)]);
    check(
        "about a ping",
        &[
            sent(0, icmp(Egress, 8, 1), Policy),
            got(1, error(Ingress, 11, &icmp(Egress, 8, 1)), Tracked),
            got(1, error(Ingress, 11, &icmp(Egress, 8, 2)), Policy),
            got(1, error(Ingress, 11, &icmp(Egress, 0, 1)), Policy),
        ],
    );
    check("about the wrong direction", &[asked.clone(), got(1, error(Ingress, 3, &udp(Ingress, 0)), Policy)]);
    check("about a later fragment", &[asked.clone(), got(1, error(Ingress, 3, &later(Egress)), Policy)]);
    let cut = |len: usize| error(Ingress, 3, &udp(Egress, 0)[..14 + len]);
    check("quote of 28 bytes", &[asked.clone(), got(1, cut(28), Tracked)]);
    for len in 0..28 {
        check("cut quote", &[asked.clone(), got(1, cut(len), Policy)]);
    }
}

#[test]
fn errors_neither_open_nor_refresh_connections() {
    let about = udp(Egress, 0);
    check(
        "opens nothing",
        &[
            sent(0, error(Egress, 3, &udp(Ingress, 0)), Policy),
            got(1, udp(Ingress, 0), Policy),
            got(1, error(Ingress, 3, &udp(Egress, 0)), Policy),
        ],
    );
    check(
        "refreshes nothing",
        &[
            sent(0, udp(Egress, 0), Policy),
            got(60, error(Ingress, 3, &about), Tracked),
            got(61, udp(Ingress, 0), Policy),
        ],
    );
    check(
        "is no answer",
        &[
            sent(0, udp(Egress, 0), Policy),
            got(1, error(Ingress, 3, &about), Tracked),
            got(61, udp(Ingress, 0), Policy),
        ],
    );
}

/// Policies of both directions replaced after a connection is open.
fn replaced(recheck: bool, egress: Verdict, ingress: Verdict) -> Reference {
    let mut engine = only_egress(false);
    engine.options.recheck = recheck;
    evaluate(&mut engine, Egress, &udp(Egress, 0), SECOND);
    engine.replace_policy(Attachment(0), fixed(egress));
    engine.replace_policy(Attachment(1), fixed(ingress));
    engine
}

fn reason(engine: &mut Reference, direction: Direction, data: &[u8]) -> (Verdict, u32) {
    let found = evaluate(engine, direction, data, 2 * SECOND);
    (found.verdict, found.reason)
}

#[test]
fn connections_outlive_their_policy_unless_it_is_asked_again() {
    let kept = (Verdict::Allow, abi::REASON_CONNTRACK);
    let mut engine = replaced(false, Verdict::Deny, Verdict::Deny);
    assert_eq!(reason(&mut engine, Egress, &udp(Egress, 0)), kept);
    let mut engine = replaced(true, Verdict::Allow, Verdict::Deny);
    assert_eq!(reason(&mut engine, Egress, &udp(Egress, 0)), (Verdict::Allow, abi::REASON_POLICY));
    assert_eq!(reason(&mut engine, Egress, &udp(Egress, 0)), kept, "asked once");
    assert_eq!(reason(&mut engine, Ingress, &udp(Ingress, 0)), kept, "and for both directions");
    let mut engine = replaced(true, Verdict::Deny, Verdict::Allow);
    assert_eq!(reason(&mut engine, Egress, &udp(Egress, 0)), (Verdict::Deny, abi::REASON_POLICY));
    let answer = reason(&mut engine, Ingress, &udp(Ingress, 0));
    assert_eq!(answer, (Verdict::Deny, abi::REASON_POLICY), "an answer opens nothing");
    engine.replace_policy(Attachment(0), fixed(Verdict::Allow));
    assert_eq!(reason(&mut engine, Ingress, &udp(Ingress, 0)), (Verdict::Allow, abi::REASON_POLICY));
    assert_eq!(reason(&mut engine, Ingress, &udp(Ingress, 0)), kept, "allowed again");
}

#[test]
fn a_denied_connection_is_known_until_its_time_is_over() {
    let mut engine = replaced(true, Verdict::Deny, Verdict::Allow);
    let at = |engine: &mut Reference, seconds: u64, direction| {
        let found = evaluate(engine, direction, &udp(direction, 0), seconds * SECOND);
        assert_eq!(found.reason, abi::REASON_POLICY);
        found.verdict
    };
    // Sent at 1 s and unanswered: 60 s, which what is denied does not lengthen.
    for seconds in [2, 30, 61] {
        assert_eq!(at(&mut engine, seconds, Egress), Verdict::Deny);
        assert_eq!(at(&mut engine, seconds, Ingress), Verdict::Deny);
    }
    assert_eq!(at(&mut engine, 62, Ingress), Verdict::Allow);
}

#[test]
fn answers_ask_the_policy_of_what_they_answer() {
    let mut engine = replaced(true, Verdict::Allow, Verdict::Deny);
    assert_eq!(reason(&mut engine, Ingress, &udp(Ingress, 0)), (Verdict::Allow, abi::REASON_POLICY));
    assert_eq!(reason(&mut engine, Ingress, &udp(Ingress, 0)), (Verdict::Allow, abi::REASON_CONNTRACK));
    let mut engine = replaced(true, Verdict::Deny, Verdict::Allow);
    assert_eq!(reason(&mut engine, Ingress, &udp(Ingress, 0)), (Verdict::Deny, abi::REASON_POLICY));
    let error = error(Ingress, 3, &udp(Egress, 0));
    let mut engine = replaced(true, Verdict::Allow, Verdict::Deny);
    assert_eq!(
        reason(&mut engine, Ingress, &error),
        (Verdict::Deny, abi::REASON_POLICY),
        "no part of it yet"
    );
}

#[test]
fn later_fragments_follow_the_first() {
    let first = |direction| udp(direction, 0x2000);
    check("allowed", &[sent(0, first(Egress), Policy), sent(30, later(Egress), Tracked)]);
    check("too late", &[sent(0, first(Egress), Policy), sent(31, later(Egress), Policy)]);
    check("unknown", &[got(0, later(Ingress), Policy)]);
    let denied = (1, Ingress, later(Ingress), Tracked, Verdict::Deny);
    check("denied", &[got(0, first(Ingress), Policy), denied]);
    let reply =
        [sent(0, udp(Egress, 0), Policy), got(1, first(Ingress), Tracked), got(1, later(Ingress), Tracked)];
    check("of a tracked connection", &reply);
    check("opens nothing", &[sent(0, later(Egress), Policy), got(0, later(Ingress), Policy)]);
}

#[test]
fn endpoints_do_not_share_connections() {
    let at =
        |endpoint, direction, verdict| ReferenceAttachment { endpoint, direction, policy: fixed(verdict) };
    let mut engine = Reference::new(
        vec![at(1, Egress, Verdict::Allow), at(2, Ingress, Verdict::Deny)],
        ReferenceOptions::default(),
    );
    evaluate(&mut engine, Egress, &udp(Egress, 0), SECOND);
    assert_eq!(evaluate(&mut engine, Ingress, &udp(Ingress, 0), SECOND).reason, abi::REASON_POLICY);
}

#[test]
fn stateless_tracks_nothing() {
    let mut engine = only_egress(true);
    for data in [udp(Egress, 0x2000), later(Egress), tcp(Egress, ACK), tcp(Egress, ACK)] {
        assert_eq!(evaluate(&mut engine, Egress, &data, SECOND).reason, abi::REASON_POLICY);
    }
    assert_eq!(evaluate(&mut engine, Ingress, &udp(Ingress, 0), SECOND).verdict, Verdict::Deny);
}

#[test]
fn what_policy_does_not_see() {
    let mut engine = only_egress(false);
    let mut arp = udp(Ingress, 0);
    arp[13] = 6;
    let mut bad = udp(Egress, 0);
    bad[14] = 0x44;
    let cut = &udp(Egress, 0)[..30];
    for (direction, data, verdict, reason) in [
        (Ingress, &arp[..], Verdict::Allow, abi::REASON_NOT_IP),
        (Egress, &bad, Verdict::Deny, abi::REASON_MALFORMED),
        (Egress, cut, Verdict::Deny, abi::REASON_TOO_SHORT),
    ] {
        let found = evaluate(&mut engine, direction, data, SECOND);
        assert_eq!((found.verdict, found.reason, found.decision), (verdict, reason, None));
    }
    let nowhere = engine.evaluate(Attachment(2), Packet { data: &arp, wire_len: 60, now: 0 });
    assert!(matches!(nowhere, Err(EngineError::Fault { .. })));
}
