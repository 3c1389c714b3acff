//! Packets per second of each engine on a plain TCP capture.
//!
//! `cargo bench --bench replay`. The capture is made in memory: 200,000 packets
//! of 50 connections between a client that is nobody's and a pod, in both
//! directions, 74 to 1,514 bytes, one evaluation each; connections are tracked.
//!
//! Two figures per engine, both on one core: the replay with reading and
//! parsing the capture, as `polc run -q` does it, and the evaluations alone. Each is
//! the best of the rounds, with the spread to the worst; engines take turns
//! within a round, so that a slow moment of the machine hits all of them.
//! POLC_BENCH_PACKETS and POLC_BENCH_ROUNDS change the sizes.

use std::hint::black_box;
use std::time::Instant;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::diag::Sources;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{Direction, Flow, PolicyIr, Verdict, evaluate};
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;
use polc_runtime::packet::{Capture, build};
use polc_runtime::reference::{Reference, ReferenceAttachment, ReferenceOptions};
use polc_runtime::replay::{Owners, Tally, replay};
use polc_runtime::vm::{Vm, VmEngine, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, ENTRY_OBJECT, Engine, EngineError, Packet};

const POD: [u8; 4] = [10, 0, 0, 1];
const CONNECTIONS: u16 = 50;

const INPUT: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{ipBlock: {cidr: 192.0.2.0/24}}]
    ports: [{port: 443}, {port: 8080}]
";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let packets = setting("POLC_BENCH_PACKETS", 200_000);
    let rounds = setting("POLC_BENCH_ROUNDS", 5);
    let file = capture(packets);
    let policy = Policy::new()?;
    let mut engines = engines(&policy);
    println!("{packets} packets, {CONNECTIONS} connections, {} bytes; best of {rounds} rounds\n", file.len());
    println!("{:12} {:>14} {:>9} {:>14} {:>9}", "engine", "replay/s", "ns", "evaluate/s", "ns");
    let mut times = vec![(Vec::new(), Vec::new()); engines.len()];
    let mut reading = Vec::new();
    for _ in 0..rounds {
        reading.push(read(&file)?);
        for (engine, (whole, alone)) in engines.iter_mut().zip(&mut times) {
            whole.push(replay_file(engine.1.as_mut(), &policy, &file)?);
            alone.push(evaluate_only(engine.1.as_mut(), &file)?);
        }
    }
    for ((name, _), (whole, alone)) in engines.iter().zip(&times) {
        println!("{name:12} {} {}", Figure::of(whole, packets), Figure::of(alone, packets));
    }
    println!("{:12} {}", "read only", Figure::of(&reading, packets));
    let spread = times.iter().map(|(whole, _)| whole.iter().cloned().fold(0.0, f64::max) / best(whole) - 1.0);
    println!("\nslowest round against the best: + {:.0} %", 100.0 * spread.fold(0.0, f64::max));
    Ok(())
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default).max(1)
}

/// The pod's compiled policy, both directions.
struct Policy {
    programs: Vec<(PolicyIr, PolicyImage)>,
    owners: Owners,
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl Policy {
    fn new() -> Result<Self, Failure> {
        let mut sources = Sources::default();
        sources.add("bench.yaml", INPUT);
        let (objects, problems) = manifest::read(&sources);
        let (cluster, more) = Cluster::new(&sources, objects);
        if let Some(problem) = problems.iter().chain(&more).next() {
            return Err(problem.message.clone().into());
        }
        let endpoint = cluster.endpoint_by_name("shop", "web").ok_or("no pod")?;
        let mut owners = Owners::default();
        let mut programs = Vec::new();
        for (i, direction) in DIRECTIONS.into_iter().enumerate() {
            let ir = cluster.resolve(endpoint, direction);
            programs.push((ir.clone(), compile(ir, &CompileOptions::default())?));
            owners.add(POD.into(), Attachment(i as u32), direction);
        }
        Ok(Self { programs, owners })
    }

    fn specs(&self) -> Vec<AttachmentSpec<'_>> {
        let spec = |(_, image): &'_ (PolicyIr, PolicyImage)| image.direction;
        let pairs = self.programs.iter().map(|p| (spec(p), &p.1));
        pairs.map(|(direction, image)| AttachmentSpec { endpoint: 0, direction, image }).collect()
    }
}

type Named = (&'static str, Box<dyn Engine>);

/// Every engine that runs here; says why one does not.
fn engines(policy: &Policy) -> Vec<Named> {
    type Made = Result<Box<dyn Engine>, EngineError>;
    let boxed = |vm: Vm| Box::new(vm) as Box<dyn Engine>;
    let vm = |engine| {
        Vm::new(ENTRY_OBJECT, &policy.specs(), VmOptions { engine, stateless: false, ..VmOptions::default() })
            .map(boxed)
    };
    let made: [(&'static str, Made); 4] = [
        ("reference", Ok(Box::new(reference(policy)))),
        ("interpreter", vm(VmEngine::Interpreter)),
        ("cranelift", vm(VmEngine::Cranelift)),
        ("kernel", kernel(policy)),
    ];
    let available = made.into_iter().filter_map(|(name, engine)| match engine {
        Ok(engine) => Some((name, engine)),
        Err(error) => {
            eprintln!("{name}: left out: {error}");
            None
        }
    });
    available.collect()
}

fn reference(policy: &Policy) -> Reference {
    let attachment = |(ir, _): &(PolicyIr, PolicyImage)| {
        let ir = ir.clone();
        let direction = ir.direction;
        ReferenceAttachment { endpoint: 0, direction, policy: Box::new(move |flow| evaluate(&ir, flow)) }
    };
    Reference::new(
        policy.programs.iter().map(attachment).collect(),
        ReferenceOptions { stateless: false, ..ReferenceOptions::default() },
    )
}

#[cfg(target_os = "linux")]
fn kernel(policy: &Policy) -> Result<Box<dyn Engine>, EngineError> {
    let engine = polc_runtime::kernel::KernelEngine::new(ENTRY_OBJECT, &policy.specs(), false)?;
    Ok(Box::new(engine))
}

#[cfg(not(target_os = "linux"))]
fn kernel(_: &Policy) -> Result<Box<dyn Engine>, EngineError> {
    Err(EngineError::Unavailable { engine: "kernel", reason: "it needs Linux".into() })
}

/// A pcap file: every connection sends in turn, request and reply alternate.
fn capture(packets: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let long = |file: &mut Vec<u8>, n: u32| file.extend(n.to_le_bytes());
    [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1].iter().for_each(|n| long(&mut file, *n));
    for i in 0..packets {
        let mut frame = frame((i % usize::from(CONNECTIONS)) as u16, i / usize::from(CONNECTIONS));
        // Payload beyond what the frame builder adds; headers keep its lengths,
        // so this reads as Ethernet padding.
        frame.resize(frame.len() + (i * 97) % 1400, 0);
        let length = frame.len() as u32;
        [1_000_000 + (i / 100_000) as u32, (i % 100_000) as u32 * 10, length, length]
            .iter()
            .for_each(|n| long(&mut file, *n));
        file.extend(frame);
    }
    file
}

/// Turn 0 opens the connection, odd turns are replies.
fn frame(connection: u16, turn: usize) -> Vec<u8> {
    const TCP_FLAGS: usize = 14 + 20 + 13;
    let (client, ports) = ([192, 0, 2, 7].into(), (20_000 + connection, 443));
    let flow = match turn % 2 {
        0 => Flow { src: client, dst: POD.into(), protocol: 6, ports: Some(ports), icmp: None },
        _ => Flow { src: POD.into(), dst: client, protocol: 6, ports: Some((ports.1, ports.0)), icmp: None },
    };
    let mut frame = build::frame(&flow).unwrap_or_default();
    if let Some(flags) = frame.get_mut(TCP_FLAGS) {
        *flags = match turn {
            0 => 0x02,
            1 => 0x12,
            _ => 0x10,
        };
    }
    frame
}

/// Seconds that reading alone takes.
fn read(file: &[u8]) -> Result<f64, Failure> {
    let start = Instant::now();
    let mut capture = Capture::new(file)?;
    while let Some(packet) = capture.next_packet()? {
        black_box(packet.frame);
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds that the whole takes.
fn replay_file(engine: &mut dyn Engine, policy: &Policy, file: &[u8]) -> Result<f64, Failure> {
    let start = Instant::now();
    let mut capture = Capture::new(file)?;
    let mut tally = Tally::new(policy.programs.iter().map(|(_, image)| image.decisions.len()));
    while let Some(packet) = capture.next_packet()? {
        replay(engine, &policy.owners, (&packet).into(), |record| tally.add(&record))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    if tally.evaluations != capture.packets() || tally.denied != 0 {
        return Err(format!("{tally:?}").into());
    }
    Ok(seconds)
}

/// Seconds in `evaluate` alone, the clock's own time left out.
fn evaluate_only(engine: &mut dyn Engine, file: &[u8]) -> Result<f64, Failure> {
    let mut frames = Vec::new();
    let mut capture = Capture::new(file)?;
    while let Some(packet) = capture.next_packet()? {
        let at = Attachment(u32::from(packet.frame[26..30] == POD));
        frames.push((at, packet.frame.to_vec(), packet.time));
    }
    let start = Instant::now();
    for (at, data, now) in &frames {
        let found = engine.evaluate(*at, Packet { data, wire_len: data.len() as u32, now: *now })?;
        if found.verdict != Verdict::Allow {
            return Err(format!("{found:?}").into());
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

fn best(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Packets per second and ns per packet.
struct Figure {
    per_second: f64,
    ns: f64,
}

impl Figure {
    fn of(seconds: &[f64], packets: usize) -> Self {
        let each = best(seconds) / packets as f64;
        Self { per_second: 1.0 / each, ns: each * 1e9 }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>14.0} {:>9.1}", self.per_second, self.ns)
    }
}
