//! What runs inside the virtual machine: every example's capture, through the
//! kernel's engine and through the userspace VM, which must say the same.

use std::net::IpAddr;

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
use polc_runtime::vm::{Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Engine};

/// Stands in the report of a machine on which everything agreed.
pub const AGREED: &str = "polc: agreed";

const ENTRY: &[u8] = include_bytes!("../../prebuilt-bpf/polc_entry.o");

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
    let (mut images, mut evaluations) = (0, 0);
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
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    println!("{AGREED} on Linux {}: {images} images, {evaluations} evaluations", release.trim());
}
