//! Failsafe ports: open whatever policy says, for whom they are open.

use std::net::IpAddr;

use polc_compiler::abi;
use polc_compiler::abi::failsafe::Port;
use polc_compiler::ir::{Direction, Flow, Verdict};
use polc_runtime::packet::build;
use polc_runtime::vm::{Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine, Evaluation, Packet};

use super::{ENTRY, fingerprint};

type Ports = Vec<(Port, Vec<Option<ipnet::IpNet>>)>;

/// Among the ports and addresses that are drawn.
pub fn ports() -> Ports {
    let port = |egress, protocol, port, nets: &[&str]| {
        let nets = nets.iter().map(|net| (!net.is_empty()).then(|| net.parse().unwrap())).collect();
        (Port { egress, protocol, port }, nets)
    };
    vec![
        port(false, 6, 80, &[""]),
        port(true, 6, 1024, &["10.0.0.2/32", "fd00::/127", "192.0.2.0/24"]),
        port(false, 17, 1024, &["fd00::2/128"]),
        port(true, 132, 80, &["10.0.0.0/8"]),
    ]
}

fn flow(protocol: u8, src: &str, dst: &str, sport: u16, dport: u16) -> Flow {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    Flow { src: address(src), dst: address(dst), protocol, ports: Some((sport, dport)), icmp: None }
}

fn evaluate(vm: &mut Vm, at: u32, flow: &Flow) -> Evaluation {
    let frame = build::frame(flow).unwrap();
    let packet = Packet { data: &frame, wire_len: frame.len() as u32, now: 1_000_000_000 };
    vm.evaluate(Attachment(at), packet).unwrap()
}

/// Both directions of a host without any policy program, and of a pod likewise.
fn without_policy() -> Vm {
    let images = [Direction::Ingress, Direction::Egress].map(|d| fingerprint::image(d, 0));
    let spec = |endpoint, i: usize| AttachmentSpec {
        endpoint,
        direction: [Direction::Ingress, Direction::Egress][i],
        image: &images[i],
    };
    let specs = [spec(1, 0), spec(1, 1), spec(2, 0), spec(2, 1)];
    let mut vm = Vm::new(ENTRY, &specs, VmOptions::default()).unwrap();
    for at in 0..4 {
        vm.remove_image(Attachment(at)).unwrap();
    }
    vm.set_host(Attachment(0)).unwrap();
    vm.set_host(Attachment(1)).unwrap();
    vm.open_failsafes(&ports()).unwrap();
    vm
}

#[test]
fn keep_a_host_reachable_while_no_policy_is_loaded() {
    let mut vm = without_policy();
    let mut is = |at, flow: &Flow, verdict, reason| {
        let found = evaluate(&mut vm, at, flow);
        assert_eq!((found.verdict, found.reason, found.decision), (verdict, reason, None), "{flow:?}");
    };
    let (allow, deny) = (Verdict::Allow, Verdict::Deny);
    let (failsafe, missing) = (abi::REASON_FAILSAFE, abi::REASON_NO_PROGRAM);
    is(1, &flow(6, "10.0.0.1", "10.9.9.9", 80, 999), deny, missing);
    is(0, &flow(6, "10.9.9.9", "10.0.0.1", 999, 80), allow, failsafe);
    is(1, &flow(6, "10.0.0.1", "10.9.9.9", 80, 999), deny, missing);
    is(0, &flow(6, "10.9.9.9", "10.0.0.1", 999, 81), deny, missing);
    is(0, &flow(17, "10.9.9.9", "10.0.0.1", 999, 80), deny, missing);
    // By the far address: the destination of what goes out, the source of what comes in.
    is(1, &flow(6, "10.0.0.1", "10.0.0.2", 999, 1024), allow, failsafe);
    is(1, &flow(6, "10.0.0.1", "192.0.2.7", 999, 1024), allow, failsafe);
    is(1, &flow(6, "10.0.0.1", "10.0.0.3", 999, 1024), deny, missing);
    is(1, &flow(6, "fd00::9", "fd00::1", 999, 1024), allow, failsafe);
    is(0, &flow(17, "fd00::2", "fd00::1", 999, 1024), allow, failsafe);
    is(0, &flow(17, "fd00::3", "fd00::1", 999, 1024), deny, missing);
    // Nobody else's ports.
    is(2, &flow(6, "10.9.9.9", "10.0.0.1", 999, 80), deny, missing);
}

#[test]
fn open_connections_whose_answers_pass() {
    let mut vm = without_policy();
    let asked = flow(17, "fd00::2", "fd00::1", 999, 1024);
    let answer = flow(17, "fd00::1", "fd00::2", 1024, 999);
    assert_eq!(evaluate(&mut vm, 1, &answer).verdict, Verdict::Deny);
    assert_eq!(evaluate(&mut vm, 0, &asked).reason, abi::REASON_FAILSAFE);
    let found = evaluate(&mut vm, 1, &answer);
    assert_eq!((found.verdict, found.reason), (Verdict::Allow, abi::REASON_CONNTRACK));
    assert_eq!(vm.counters()[abi::counter_index(false, abi::REASON_FAILSAFE) as usize], 1);
}
