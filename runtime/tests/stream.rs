//! Atomic change: policy swaps and membership updates under a stream of packets
//! through a veth pair. Skipped, with the reason printed, without the privileges;
//! with POLC_REQUIRE_KERNEL=1 that is a failure.
#![cfg(target_os = "linux")]

mod engines;

use std::fs::File;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engines::{Body, image};
use polc_compiler::abi;
use polc_compiler::bpf::{AluOp, Cond, Helper, Insn, MapRef, Reg, Size, Width};
use polc_compiler::image::{F_MMAPABLE, MapKind, MapSpec, PolicyImage, Store, no_source_lines};
use polc_compiler::ir::{Direction, Verdict};
use polc_runtime::agent::{Agent, Step};
use polc_runtime::kernel::{AttachRequest, Hook, Policy, View};
use polc_runtime::sys::{PrivateBpfFs, enter_network_namespace};

const SWAPS: u32 = 1000;
const UPDATES: u32 = 100_000;
/// Packets per second that the stream must have.
const RATE: f64 = 100_000.0;

/// The ports: what is always allowed, never, by membership, and by the policy.
const ALWAYS: u16 = 5000;
const NEVER: u16 = 5001;
const MEMBER: u16 = 5002;
const POLICY: u16 = 5003;

/// Allows the destination ports whose entry (port modulo 8) in a table is 1.
/// `decision` is in the code: policies that differ in it are other programs.
fn gate(allowed: [u32; 4], decision: u32) -> PolicyImage {
    let mut body = Body::new();
    let deny = body.asm.new_label();
    body.load(Reg::R1, abi::STATE_DPORT);
    body.asm.push(Insn::alu(AluOp::And, Reg::R1, 7));
    body.asm.push(Insn::store(Size::B4, Reg::R10, -4, Reg::R1));
    body.asm.push(Insn::mov(Reg::R2, Reg::R10));
    body.asm.push(Insn::alu(AluOp::Add, Reg::R2, -4));
    body.asm.load_map(Reg::R1, MapRef::Private(0));
    body.asm.call(Helper::MAP_LOOKUP_ELEM);
    body.asm.jump_if(Width::W64, Cond::Eq, Reg::R0, 0, deny);
    body.asm.push(Insn::load(Size::B4, Reg::R1, Reg::R0, 0));
    body.asm.jump_if(Width::W32, Cond::Ne, Reg::R1, 1, deny);
    body.decide(Verdict::Allow, decision);
    body.asm.bind(deny).unwrap();
    body.decide(Verdict::Deny, decision + 1);
    let table = MapSpec {
        name: "gate".into(),
        kind: MapKind::Array,
        key_size: 4,
        value_size: 4,
        max_entries: 8,
        flags: F_MMAPABLE,
        entries: Vec::new(),
        dense: allowed.iter().flat_map(|v| v.to_le_bytes()).collect(),
        direct: false,
    };
    image(vec![body.program("gate")], vec![table])
}

/// Everything the pod sends passes.
fn open() -> PolicyImage {
    let mut body = Body::new();
    body.decide(Verdict::Allow, 0);
    let mut open = image(vec![body.program("open")], Vec::new());
    open.direction = Direction::Egress;
    open
}

struct Namespaces(String);

impl Namespaces {
    fn new() -> Self {
        let new = Self(format!("polc-stream-{}", std::process::id()));
        let (node, pod) = (new.node(), new.pod());
        for line in [
            format!("netns add {node}"),
            format!("netns add {pod}"),
            format!("-n {node} link add cali0 type veth peer name eth0 netns {pod}"),
            format!("-n {node} addr add 10.98.0.1/24 dev cali0"),
            format!("-n {pod} addr add 10.98.0.2/24 dev eth0"),
            format!("-n {pod} link set lo up"),
            format!("-n {pod} link set eth0 up"),
            format!("-n {node} link set cali0 up"),
        ] {
            let output = Command::new("ip").args(line.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {line}: {output:?}");
        }
        new
    }

    fn node(&self) -> String {
        format!("{}-node", self.0)
    }

    fn pod(&self) -> String {
        format!("{}-pod", self.0)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for ns in [self.node(), self.pod()] {
            let _ = Command::new("ip").args(["netns", "del", &ns]).output();
        }
    }
}

fn enter(namespace: &str) {
    enter_network_namespace(&File::open(format!("/run/netns/{namespace}")).unwrap()).unwrap();
}

/// Receives nothing until the end: what came is what waits and what found no room.
struct Sink {
    socket: UdpSocket,
    port: u16,
}

impl Sink {
    fn new(port: u16) -> Self {
        let socket = UdpSocket::bind(("10.98.0.2", port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, port }
    }

    /// Datagrams that reached the socket. In the pod's namespace.
    fn arrived(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
        let local = format!(":{:04X}", self.port);
        let row = text.lines().find(|l| l.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&local)));
        let dropped: u64 = row.unwrap().split_whitespace().last().unwrap().parse().unwrap();
        let mut waiting = 0;
        while self.socket.recv(&mut [0; 64]).is_ok() {
            waiting += 1;
        }
        dropped + waiting
    }
}

/// Sends to all ports in turn until told to stop; counts what was sent to each.
fn send(stop: &AtomicBool, sent: &[AtomicU64; 4]) {
    let ports = [ALWAYS, NEVER, MEMBER, POLICY];
    let sockets = ports.map(|port| {
        let socket = UdpSocket::bind("10.98.0.1:0").unwrap();
        socket.connect(("10.98.0.2", port)).unwrap();
        socket
    });
    while !stop.load(Ordering::Relaxed) {
        for (socket, sent) in sockets.iter().zip(sent) {
            // ECONNREFUSED tells of an earlier datagram; ENOBUFS of none at all.
            match socket.send(b"polc") {
                Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
                Err(e) => assert_ne!(e.kind(), std::io::ErrorKind::ConnectionRefused, "{e}"),
            }
        }
    }
}

fn request<'a>(ingress: &'a PolicyImage, egress: &'a PolicyImage, hook: Hook) -> AttachRequest<'a> {
    let policy = |image| Policy { image, xdp: false, sets: &[], lines: &no_source_lines };
    AttachRequest {
        interface: "cali0",
        endpoint: "default/pod",
        host: false,
        hook: Some(hook),
        // Tracked connections would hide what policy says about each packet.
        flags: abi::CONFIG_STATELESS,
        recheck: false,
        failsafes: &[],
        ingress: policy(ingress),
        egress: policy(egress),
        untracked_ingress: None,
        untracked_egress: None,
    }
}

fn swap_under_load(hook: Hook) {
    let Ok(fs) = PrivateBpfFs::new() else {
        let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
        assert!(!required, "no bpffs");
        return eprintln!("skipped: no bpffs");
    };
    let namespaces = Namespaces::new();
    enter(&namespaces.pod());
    let sinks = [ALWAYS, NEVER, MEMBER, POLICY].map(Sink::new);
    enter(&namespaces.node());
    // Both allow the first, none the second; the third is changed in place.
    let policies = [gate([1, 0, 1, 1], 0), gate([1, 0, 1, 0], 2)];
    let egress = open();
    let mut agent = Agent::start(fs.path(), Duration::ZERO).unwrap();
    let outcomes = agent.apply(&[request(&policies[0], &egress, hook)]).unwrap();
    assert!(matches!(&outcomes[..], [o] if o.step == Step::Attach("cali0".into()) && o.error.is_none()));

    let (stop, sent) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 4]);
    let elapsed = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                enter(&namespaces.node());
                send(&stop, &sent);
            });
        }
        let start = Instant::now();
        let mut member = 1;
        for swap in 1..=SWAPS {
            let policy = &policies[(swap % 2) as usize];
            let outcomes = agent.apply(&[request(policy, &egress, hook)]).unwrap();
            assert!(matches!(&outcomes[..], [o] if o.error.is_none()), "{outcomes:?}");
            for _ in 0..UPDATES / SWAPS {
                member = 1 - member;
                let store = Store { map: 0, index: u32::from(MEMBER % 8), offset: 0, value: member };
                agent.store("cali0", Direction::Ingress, &[store]).unwrap();
            }
        }
        // At least as many packets as make a stream of it.
        while sent.iter().map(|s| s.load(Ordering::Relaxed)).sum::<u64>() < 1_000_000 {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        start.elapsed()
    });
    let sent = sent.each_ref().map(|s| s.load(Ordering::Relaxed));
    let rate = sent.iter().sum::<u64>() as f64 / elapsed.as_secs_f64();
    println!(
        "{hook:?}: {SWAPS} swaps and {UPDATES} updates in {elapsed:.1?} under {rate:.0} packets/s: sent {sent:?}"
    );
    let view = View::new(fs.path()).unwrap();
    let record = view.record("cali0").unwrap();
    let counters = view.counters(record.ingress.slot).unwrap();
    enter(&namespaces.pod());
    let arrived = sinks.each_ref().map(Sink::arrived);
    println!("arrived {arrived:?}");
    assert_eq!(arrived[0], sent[0], "what both policies allow arrives");
    assert_eq!(arrived[1], 0, "what neither allows does not");
    assert!(arrived[2] < sent[2] && arrived[3] < sent[3], "changes were seen: {arrived:?} of {sent:?}");
    assert!(arrived[2] > 0 && arrived[3] > 0);
    let allowed = counters.get(false, abi::REASON_POLICY);
    let denied = counters.get(true, abi::REASON_POLICY);
    assert!(counters.total() >= allowed + denied);
    for reason in [abi::REASON_NO_PROGRAM, abi::REASON_NO_TABLE] {
        assert_eq!(counters.get(true, reason), 0, "no packet met a hole");
    }
    // The namespaces' own packets are few, and counted too.
    assert!(allowed >= arrived.iter().sum() && allowed + denied >= sent.iter().sum());
    assert!(rate >= RATE, "{rate:.0} packets/s");
    enter(&namespaces.node());
    let outcomes = agent.apply(&[]).unwrap();
    assert!(matches!(&outcomes[..], [o] if o.step == Step::Detach("cali0".into()) && o.error.is_none()));
}

/// One after the other: each needs the machine for itself.
#[test]
fn no_packet_is_lost_or_let_through_by_a_change() {
    for hook in [Hook::Tcx, Hook::Clsact] {
        std::thread::scope(|scope| scope.spawn(|| swap_under_load(hook)).join().unwrap());
    }
}
