//! What runs inside the virtual machine: every example's capture, through the
//! kernel's engine and through the userspace VM, which must say the same; and `polc`
//! enforcing policy between two network namespaces, with all that it is loaded and
//! attached by.

use std::net::IpAddr;
use std::time::Instant;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::diag::{self, Sources};
use polc_compiler::emit::Form;
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::Direction;
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;
use polc_runtime::kernel::KernelEngine;
use polc_runtime::packet::Capture;
use polc_runtime::replay::{Owners, Record, replay};
use polc_runtime::sys::bpf::{ObjectKind, object_ids};
use polc_runtime::vm::{Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine};

use crate::policies::{from_pod, tcp_ports, untracked};
use crate::traffic::{Servers, connect, echoes, soon, tcp};
use crate::world::{HOST_IFACE, IFACE, NODE_V4, POD_V4, POD_V6, World, attach, text};

/// Stands in the report of a machine on which everything was verified and agreed.
pub const AGREED: &str = "polc: agreed";

/// Stands in the report of a machine on which policy was enforced.
pub const ENFORCED: &str = "polc: enforced";

pub const ENTRY: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");

macro_rules! example {
    ($name:literal) => {
        Example {
            name: $name,
            cluster: include_str!(concat!("../../examples/", $name, "/cluster.yaml")),
            policy: include_str!(concat!("../../examples/", $name, "/policy.yaml")),
            traffic: include_bytes!(concat!("../../examples/", $name, "/traffic.pcap")),
        }
    };
}

struct Example {
    name: &'static str,
    cluster: &'static str,
    policy: &'static str,
    traffic: &'static [u8],
}

const EXAMPLES: [Example; 4] =
    [example!("ip-allow-set"), example!("default-deny-dns"), example!("shop"), example!("dual-stack")];

/// An example's policies, compiled for all pods.
struct Compiled {
    images: Vec<PolicyImage>,
    owners: Owners,
}

impl Compiled {
    fn new(example: &Example, form: Form) -> Self {
        let mut sources = Sources::default();
        sources.add("cluster.yaml", example.cluster);
        sources.add("policy.yaml", example.policy);
        let (objects, mut findings) = manifest::read(&sources);
        let (cluster, more) = Cluster::new(&sources, objects);
        findings.extend(more);
        assert!(!diag::has_errors(&findings), "{}", diag::render(&sources, &findings, false));
        let mut options = CompileOptions::default();
        options.limits.form = form;
        let mut compiled = Self { images: Vec::new(), owners: Owners::default() };
        for (endpoint, data) in cluster.endpoints() {
            for direction in [Direction::Ingress, Direction::Egress] {
                compiled.own(&data.ips, direction);
                let ir = cluster.resolve(endpoint, direction);
                compiled.images.push(compile(ir, &options).unwrap());
            }
        }
        compiled
    }

    fn own(&mut self, addresses: &[IpAddr], direction: Direction) {
        let at = Attachment(self.images.len() as u32);
        addresses.iter().for_each(|ip| self.owners.add(*ip, at, direction));
    }

    /// Both directions of an endpoint follow each other.
    fn specs(&self) -> Vec<AttachmentSpec<'_>> {
        let images = self.images.iter().enumerate();
        images
            .map(|(i, image)| AttachmentSpec { endpoint: i as u32 / 2, direction: image.direction, image })
            .collect()
    }

    fn run(&self, engine: &mut dyn Engine, traffic: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        let mut capture = Capture::new(traffic).unwrap();
        while let Some(captured) = capture.next_packet().unwrap() {
            replay(engine, &self.owners, (&captured).into(), |record| records.push(record)).unwrap();
        }
        records
    }
}

#[test]
#[ignore = "runs in the virtual machines that the other tests boot"]
fn examples() {
    let start = Instant::now();
    let (mut images, mut evaluations) = (crate::golden::verify(ENTRY).unwrap(), 0);
    for example in EXAMPLES {
        // Emulated loading is slow; the stateless way needs no capture of its own, and
        // one policy with everything in it suffices for the other forms.
        let modes: &[(bool, Form)] = match example.name {
            "dual-stack" => {
                &[(false, Form::Auto), (true, Form::Auto), (false, Form::Bits), (false, Form::Cross)]
            }
            _ => &[(false, Form::Auto)],
        };
        for &(stateless, form) in modes {
            let compiled = Compiled::new(&example, form);
            let specs = compiled.specs();
            let mut vm = Vm::new(ENTRY, &specs, VmOptions { stateless, ..VmOptions::default() }).unwrap();
            let mut kernel = KernelEngine::new(ENTRY, &specs, stateless).unwrap();
            kernel.verify_entry().unwrap();
            let want = compiled.run(&mut vm, example.traffic);
            let got = compiled.run(&mut kernel, example.traffic);
            assert!(want.len() > 100, "{}: {} records", example.name, want.len());
            for (number, (want, got)) in want.iter().zip(&got).enumerate() {
                let name = example.name;
                assert_eq!(want, got, "{name}, stateless {stateless}, {form:?}, record {number}");
            }
            assert_eq!(want.len(), got.len(), "{}", example.name);
            evaluations += got.len();
            images += compiled.images.len();
        }
    }
    let seconds = start.elapsed().as_secs();
    println!("{AGREED} on Linux {}: {images} images, {evaluations} evaluations, {seconds} s", release());
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()
}

/// tcx links came with 6.6.
fn best_hook() -> &'static str {
    let release = release();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version >= (6, 6) { "tcx" } else { "clsact" }
}

/// All that the kernel holds of BPF: nobody else uses it here.
fn objects() -> [Vec<u32>; 3] {
    [ObjectKind::Program, ObjectKind::Map, ObjectKind::Link].map(|kind| object_ids(kind).unwrap())
}

/// Waits until these ports of the pod take connections; others must not then.
fn only(world: &World, what: &str, open: &[u16], closed: &[u16]) {
    for host in [POD_V4, &format!("[{POD_V6}]")] {
        let at = |port: &u16| format!("{host}:{port}");
        soon(what, || open.iter().all(|port| tcp(world, &at(port))));
        assert!(!closed.iter().any(|port| tcp(world, &at(port))), "{what}: {host}");
    }
}

#[test]
#[ignore = "runs in the virtual machines that the other tests boot"]
fn enforcement() {
    let start = Instant::now();
    let mut hooks = pod("auto");
    assert_eq!(hooks, [best_hook(); 2]);
    if best_hook() == "tcx" {
        hooks.extend(pod("clsact"));
    } else {
        tcx_is_refused();
    }
    hooks.extend(host());
    hooks.sort();
    hooks.dedup();
    println!("{ENFORCED} on Linux {}: {}, {} s", release(), hooks.join(", "), start.elapsed().as_secs());
}

/// A pod's policy, attached, replaced under a connection, and detached: the hooks.
fn pod(hook: &str) -> Vec<String> {
    let world = World::new().unwrap();
    let _servers = Servers::new(&world, &[80, 81], &[]);
    only(&world, "no policy", &[80, 81], &[]);
    let before = objects();
    world.attach(&world.policy("old.yaml", &tcp_ports(&[80])), &["--hook", hook]);
    only(&world, "the first policy", &[80], &[81]);
    let mut stream = connect(&world, &format!("{POD_V4}:80")).unwrap();
    assert!(echoes(&mut stream));
    let hooks = enforced(&world);
    world.attach(&world.policy("new.yaml", &tcp_ports(&[81])), &["--hook", hook]);
    assert!(echoes(&mut stream), "the connection goes on");
    only(&world, "the second policy", &[81], &[80]);
    // Of these the second one finds a table that the first one made.
    for (client, open) in [(NODE_V4, true), ("10.99.0.77", false)] {
        let policy = world.policy("from.yaml", &from_pod(("pod", POD_V4), client, &[80]));
        world.attach(&policy, &["--hook", hook]);
        soon("a policy with tables", || tcp(&world, &format!("{POD_V4}:80")) == open);
    }
    world.ok(&["detach", "--interface", IFACE]);
    only(&world, "detached", &[80, 81], &[]);
    assert_eq!(world.pins(), [""; 0]);
    soon("nothing is left", || objects() == before);
    hooks
}

/// Where there is no tcx, asking for it says so and changes nothing.
fn tcx_is_refused() {
    let world = World::new().unwrap();
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let refused = world.polc(&[&attach(&policy)[..], &["--hook", "tcx"]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("  - tcx links (6.6; this is "), "{}", text(&refused));
    assert_eq!(world.pins(), [""; 0]);
}

/// A host's untracked policy, at XDP and before tracking: the hooks.
fn host() -> Vec<String> {
    let world = World::of_host().unwrap();
    let _servers = Servers::new(&world, &[22, 80, 81, 90, 91], &[]);
    only(&world, "no policy", &[81], &[]);
    let before = objects();
    let policy = world.policy("host.yaml", &untracked(80, 81, 0));
    world.ok(&["attach", &policy, "--interface", HOST_IFACE, "--endpoint", "host"]);
    only(&world, "untracked policy", &[22, 80, 90], &[81, 91]);
    let connections = world.ok(&["conntrack", "dump"]);
    assert!(connections.contains(":90}") && !connections.contains(":80}"), "{connections}");
    let hooks = enforced(&world);
    world.ok(&["detach", "--interface", HOST_IFACE]);
    soon("nothing is left", || objects() == before);
    hooks
}

/// The hooks of an attachment that is enforced as recorded.
fn enforced(world: &World) -> Vec<String> {
    let status: serde_json::Value = serde_json::from_str(&world.ok(&["status", "-o", "json"])).unwrap();
    let all = status["interfaces"][0]["directions"].as_array().unwrap();
    assert!(all.iter().all(|d| d["state"] == "enforced"), "{status:#}");
    all.iter().map(|d| d["hook"].as_str().unwrap().to_owned()).collect()
}
