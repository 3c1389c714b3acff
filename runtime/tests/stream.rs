//! Atomic change: policy swaps and membership updates under a stream of packets
//! through a veth pair, of compiled policies and through the agent. Skipped, with the reason printed, without the privileges;
//! with POLC_REQUIRE_KERNEL=1 that is a failure.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use polc_compiler::abi;
use polc_compiler::compile::CompileOptions;
use polc_compiler::image::no_source_lines;
use polc_compiler::ir::{self, AddrSet, Direction};
use polc_compiler::live::{Change, ResolvedPolicy};
use polc_runtime::agent::{Agent, EndpointPolicy, Step};
use polc_runtime::kernel::{Hook, View};
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

/// The sender's address.
const NODE: &str = "10.98.0.1/32";

/// A policy under which the sender may always use a port by one set or another, which
/// it moves between, and another port by a third set, which it is in now and then.
/// `last` is what is said of the last port.
fn gate(last: &str) -> ResolvedPolicy {
    let text = format!(
        r#"
        policy "gate" ingress
        decision0 = rule allow index 0 name "gate"
        decision1 = rule {last} index 1 name "gate"
        decision2 = tier-default deny name "t"
        set0 = members "now and then" {{ }}
        set1 = members "one" {{ {NODE} }}
        set2 = members "another" {{ 10.98.0.77/32 }}
        chain0 "t" {{
          rule0: proto udp; src in set1; dport {ALWAYS} -> allow decision0
          rule1: proto udp; src in set2; dport {ALWAYS} -> allow decision0
          rule2: proto udp; src in set0; dport {MEMBER} -> allow decision0
          rule3: proto udp; dport {POLICY} -> {last} decision1
        }} deny decision2
        order chain0"#
    );
    ResolvedPolicy::new(ir::parse(&text).unwrap(), CompileOptions::default())
}

/// Everything the pod sends passes.
fn open() -> ResolvedPolicy {
    let text = r#"
        policy "open" egress
        decision0 = rule allow index 0 name "open"
        decision1 = tier-default deny name "t"
        chain0 "t" {
          rule0: any -> allow decision0
        } deny decision1
        order chain0"#;
    ResolvedPolicy::new(ir::parse(text).unwrap(), CompileOptions::default())
}

/// The sender goes from one of the two sets to the other, and comes to the third or
/// leaves it: one change.
fn change(is_even: bool) -> Change {
    let [now_and_then, one, another] = [0, 1, 2].map(AddrSet::from_u32);
    let net = NODE.parse().unwrap();
    match is_even {
        true => Change { net, add: vec![now_and_then, another], remove: vec![one] },
        false => Change { net, add: vec![one], remove: vec![now_and_then, another] },
    }
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

fn request<'a>(ingress: &'a ResolvedPolicy, egress: &'a ResolvedPolicy, hook: Hook) -> EndpointPolicy<'a> {
    let policy = EndpointPolicy::new("cali0", "default/pod", [ingress, egress], &no_source_lines);
    // Tracked connections would hide what policy says about each packet.
    EndpointPolicy { hook: Some(hook), flags: abi::CONFIG_STATELESS, ..policy }
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
    let policies = [gate("allow"), gate("deny")];
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
        for swap in 1..=SWAPS {
            let policy = &policies[(swap % 2) as usize];
            let outcomes = agent.apply(&[request(policy, &egress, hook)]).unwrap();
            assert!(matches!(&outcomes[..], [o] if o.error.is_none()), "{outcomes:?}");
            for update in 0..UPDATES / SWAPS {
                agent.change_members("cali0", Direction::Ingress, &[change(update % 2 == 0)]).unwrap();
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
