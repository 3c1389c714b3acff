//! A program that uses polc's libraries as a node's agent would.
//!
//! ```sh
//! cargo run --example agent
//! ```
//!
//! It enforces the policies of `examples/shop` for the pods of one node, in the
//! userspace VM, so that it runs anywhere. Then two things happen in the cluster:
//!
//! 1. A pod starts on another node. Sets gain an address: the agent changes table
//!    contents and loads no instruction.
//! 2. A policy is added. Programs change: the agent loads the new ones and swaps
//!    them in; connections that were allowed go on.
//!
//! What it prints is checked by a test (`examples/agent.txt`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::io::{self, Write};
use std::net::IpAddr;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::diag::{self, Sources};
use polc_compiler::image::{MapSpec, PolicyImage};
use polc_compiler::ir::{DecisionData, Direction, Flow};
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;
use polc_runtime::packet::build;
use polc_runtime::replay::{DecidedBy, Owners, replay};
use polc_runtime::vm::{Vm, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Packet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ENTRY: &[u8] = include_bytes!("../prebuilt-bpf/polc_entry.o");
const CLUSTER: &str = include_str!("shop/cluster.yaml");
const POLICY: &str = include_str!("shop/policy.yaml");

/// The pods of this node; an agent learns them from its container runtime.
const LOCAL: [(&str, &str); 3] = [("shop-web", "web-1"), ("shop-api", "api-1"), ("shop-api", "api-2")];

/// Where the flags of a TCP segment stand behind an Ethernet and an IPv4 header.
const TCP_FLAGS: usize = 14 + 20 + 13;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A web pod that starts on another node.
const NEW_POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: web-2, namespace: shop-web, labels: { app: web } }
spec: { containers: [{ name: web, image: web, ports: [{ name: http, containerPort: 8080 }] }] }
status: { podIPs: [{ ip: 10.30.1.12 }] }
";

/// A policy that lets the pod `debug` reach the api pods on any TCP port.
const NEW_POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: debugging, namespace: shop-api }
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
    - from:
        - namespaceSelector: { matchLabels: { tier: web } }
          podSelector: { matchLabels: { app: debug } }
      ports: [{ protocol: TCP }]
";

/// What is to be enforced at one pod in one direction.
struct Place {
    pod: String,
    /// Both directions of a pod share a number, and with it their connections.
    endpoint: u32,
    direction: Direction,
    /// Index into [`Desired::images`].
    image: usize,
}

/// What is to be enforced on the node: compiled policies, and who uses which.
struct Desired {
    images: Vec<PolicyImage>,
    places: Vec<Place>,
    /// The places that a packet with a pod's address passes.
    owners: Owners,
}

/// Compiles the policies of the node's pods, each distinct one once.
fn desired(documents: &[(&str, &str)]) -> Result<Desired> {
    let mut sources = Sources::default();
    for (name, text) in documents {
        sources.add(*name, *text);
    }
    let (objects, mut findings) = manifest::read(&sources);
    let (cluster, more) = Cluster::new(&sources, objects);
    findings.extend(more);
    if diag::has_errors(&findings) {
        // An agent keeps what it enforced before and says why.
        return Err(diag::render(&sources, &findings, false).into());
    }
    let mut desired = Desired { images: Vec::new(), places: Vec::new(), owners: Owners::default() };
    let mut known = HashMap::new();
    for (number, (namespace, name)) in LOCAL.iter().enumerate() {
        let endpoint = cluster.endpoint_by_name(namespace, name).ok_or("no such pod")?;
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut ir = cluster.resolve(endpoint, direction);
            let pod = std::mem::replace(&mut ir.name, "shared".into());
            // The text is the whole policy: equal texts are equal programs and tables.
            let image = match known.get(&(direction, ir.to_string())) {
                Some(image) => *image,
                None => {
                    known.insert((direction, ir.to_string()), desired.images.len());
                    desired.images.push(compile(ir, &CompileOptions::default())?);
                    desired.images.len() - 1
                }
            };
            let at = Attachment(desired.places.len() as u32);
            for ip in &cluster.endpoints()[endpoint].ips {
                desired.owners.add(*ip, at, direction);
            }
            desired.places.push(Place { pod, endpoint: number as u32, direction, image });
        }
    }
    Ok(desired)
}

/// What separates two images of one place.
#[derive(Debug, PartialEq)]
enum Change {
    /// Nothing.
    None,
    /// The same instructions over other table contents; the number of entries
    /// that are added, changed or removed.
    Tables(usize),
    /// Other instructions or other tables.
    Program,
}

fn change(old: &PolicyImage, new: &PolicyImage) -> Change {
    let code = |image: &PolicyImage| image.programs.iter().map(|p| p.code.clone()).collect::<Vec<_>>();
    let same_tables =
        old.maps.len() == new.maps.len() && old.maps.iter().zip(&new.maps).all(|(o, n)| shape(o) == shape(n));
    if code(old) != code(new) || old.decisions != new.decisions || !same_tables {
        return Change::Program;
    }
    match old.maps.iter().zip(&new.maps).map(|(o, n)| entries_that_differ(o, n)).sum() {
        0 => Change::None,
        entries => Change::Tables(entries),
    }
}

/// A table without its contents. Its capacity may grow with them.
fn shape(map: &MapSpec) -> (&str, u32, u32, u32) {
    (&map.name, map.kind as u32, map.key_size, map.value_size)
}

fn entries_that_differ(old: &MapSpec, new: &MapSpec) -> usize {
    keyed_that_differ(old, new) + values_that_differ(old, new)
}

/// Values of arrays, from the first on; those that are left out are zero.
fn values_that_differ(old: &MapSpec, new: &MapSpec) -> usize {
    let size = old.value_size as usize;
    let values = |map: &MapSpec, len: usize| {
        let mut dense = map.dense.clone();
        dense.resize(len, 0);
        dense
    };
    let len = old.dense.len().max(new.dense.len());
    let (old, new) = (values(old, len), values(new, len));
    old.chunks(size).zip(new.chunks(size)).filter(|(o, n)| o != n).count()
}

fn keyed_that_differ(old: &MapSpec, new: &MapSpec) -> usize {
    let old: BTreeMap<_, _> = old.entries.iter().cloned().collect();
    let new: BTreeMap<_, _> = new.entries.iter().cloned().collect();
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).count()
}

/// The agent: what it wants, and the engine that enforces it.
struct Agent<'a> {
    desired: Desired,
    vm: Vm,
    /// The clock, in ns; each packet takes a millisecond.
    now: u64,
    log: &'a mut dyn Write,
}

impl<'a> Agent<'a> {
    fn start(desired: Desired, log: &'a mut dyn Write) -> Result<Self> {
        let specs: Vec<AttachmentSpec<'_>> = desired
            .places
            .iter()
            .map(|place| AttachmentSpec {
                endpoint: place.endpoint,
                direction: place.direction,
                image: &desired.images[place.image],
            })
            .collect();
        let vm = Vm::new(ENTRY, &specs, VmOptions::default())?;
        writeln!(log, "start: {} places share {} programs", desired.places.len(), desired.images.len())?;
        for place in &desired.places {
            let direction = place.direction.as_str();
            writeln!(log, "  {direction:<7} {:<15} program {}", place.pod, place.image)?;
        }
        Ok(Self { desired, vm, now: 0, log })
    }

    /// Goes over to a new state. The node's pods are the same ones.
    fn update(&mut self, new: Desired) -> Result<()> {
        for (at, (old, new_place)) in self.desired.places.iter().zip(&new.places).enumerate() {
            let image = &new.images[new_place.image];
            let what = match change(&self.desired.images[old.image], image) {
                Change::None => continue,
                Change::Tables(entries) => format!("table entries: {entries}, instructions: none"),
                Change::Program => "another program".into(),
            };
            // The VM has no packet in flight between two calls, so it takes the
            // whole image at once; if it refuses, the old one stays in force.
            self.vm.update_image(Attachment(at as u32), image)?;
            writeln!(self.log, "  {:<7} {:<15} {what}", old.direction.as_str(), old.pod)?;
        }
        self.desired = new;
        Ok(())
    }

    /// Sends a TCP segment with these flags through every place that it passes on
    /// this node.
    fn segment(&mut self, what: &str, flags: u8, src: (&str, u16), dst: (&str, u16)) -> Result<()> {
        let (from, to): (IpAddr, IpAddr) = (src.0.parse()?, dst.0.parse()?);
        let flow = Flow { src: from, dst: to, protocol: 6, ports: Some((src.1, dst.1)), icmp: None };
        let mut frame = build::frame(&flow).ok_or("such a frame cannot be built")?;
        frame[TCP_FLAGS] = flags;
        self.now += 1_000_000;
        let packet = Packet { data: &frame, wire_len: frame.len() as u32, now: self.now };
        let mut records = Vec::new();
        replay(&mut self.vm, &self.desired.owners, packet, |record| records.push(record))?;
        for record in records {
            let Some(Attachment(at)) = record.at else { continue };
            let place = &self.desired.places[at as usize];
            let by = match record.decided_by {
                DecidedBy::Policy(d) => describe(&self.desired.images[place.image].decisions[d as usize]),
                DecidedBy::Conntrack => "connection".into(),
                other => format!("{other:?}"),
            };
            let (verdict, direction) = (record.verdict.as_str(), place.direction.as_str());
            writeln!(self.log, "  {what}: {verdict} at {direction} of {}, by {by}", place.pod)?;
        }
        Ok(())
    }
}

fn describe(decision: &DecisionData) -> String {
    match decision.rule {
        Some(rule) => format!("{} {} rule {rule}", decision.object, decision.name),
        None => format!("{} {}", decision.kind.as_str(), decision.name),
    }
}

/// The whole story; `log` is told what happens.
fn run(log: &mut dyn Write) -> Result<()> {
    let base = [("cluster.yaml", CLUSTER), ("policy.yaml", POLICY)];
    let mut agent = Agent::start(desired(&base)?, log)?;
    let (web_2, debug, api_1) = (("10.30.1.12", 40_000), ("10.30.1.99", 40_001), ("10.30.2.11", 8000));
    agent.segment("web-1 to api-1", SYN, ("10.30.1.11", 40_002), api_1)?;
    agent.segment("web-2, not started, to api-1", SYN, web_2, api_1)?;
    agent.segment("debug to api-1", SYN, debug, api_1)?;

    writeln!(agent.log, "pod shop-web/web-2 starts with 10.30.1.12:")?;
    let with_pod = [base[0], base[1], ("pod.yaml", NEW_POD)];
    agent.update(desired(&with_pod)?)?;
    agent.segment("web-2 to api-1", SYN, web_2, api_1)?;

    writeln!(agent.log, "policy shop-api/debugging is added:")?;
    agent.update(desired(&[with_pod[0], with_pod[1], with_pod[2], ("debugging.yaml", NEW_POLICY)])?)?;
    agent.segment("debug to api-1", SYN, debug, api_1)?;
    agent.segment("api-1 to web-1, an answer", SYN | ACK, api_1, ("10.30.1.11", 40_002))?;
    Ok(())
}

fn main() -> Result<()> {
    run(&mut io::stdout().lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_as_recorded() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/agent.txt");
        let mut log = Vec::new();
        run(&mut log).unwrap();
        let log = String::from_utf8(log).unwrap();
        if std::env::var_os("POLC_BLESS").is_some() {
            std::fs::write(path, &log).unwrap();
        }
        let recorded = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(log, recorded, "POLC_BLESS=1 cargo test --example agent writes {path} again");
    }

    #[test]
    fn a_pod_changes_tables_and_a_policy_changes_programs() {
        let base = [("cluster.yaml", CLUSTER), ("policy.yaml", POLICY)];
        let before = desired(&base).unwrap();
        let pod = desired(&[base[0], base[1], ("pod.yaml", NEW_POD)]).unwrap();
        let policy = desired(&[base[0], base[1], ("debugging.yaml", NEW_POLICY)]).unwrap();
        let changes = |new: &Desired| -> Vec<Change> {
            let pairs = before.places.iter().zip(&new.places);
            pairs.map(|(o, n)| change(&before.images[o.image], &new.images[n.image])).collect()
        };
        // In the order of LOCAL: ingress and egress of web-1, api-1 and api-2.
        let pod = changes(&pod);
        assert!(matches!(pod[2], Change::Tables(1..)), "{pod:?}");
        assert!(!pod.contains(&Change::Program), "{pod:?}");
        let policy = changes(&policy);
        let changed = [false, false, true, false, true, false];
        assert_eq!(policy.iter().map(|c| *c == Change::Program).collect::<Vec<_>>(), changed);
    }
}
