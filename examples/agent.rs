//! A program that uses polc's libraries as a node's agent would.
//!
//! ```sh
//! cargo run --example agent
//! ```
//!
//! It enforces the policies of `examples/shop` for the pods of one node, in the
//! userspace VM, so that it runs anywhere. Then two things happen in the cluster:
//!
//! 1. A pod starts on another node. Sets gain an address: the agent asks the tables in
//!    force for the words that say so, and stores them; it compiles and loads nothing.
//! 2. A policy is added. What the tables are asked for is more than members: the agent
//!    compiles, loads the new programs and swaps them in; connections that were allowed
//!    go on.
//!
//! What it prints is checked by a test (`examples/agent.txt`).

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write};
use std::net::IpAddr;

use polc_compiler::compile::CompileOptions;
use polc_compiler::diag::{self, Sources};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{DecisionData, Direction, Flow};
use polc_compiler::live::{LiveTables, ResolvedPolicy};
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
    /// Index into [`Desired::policies`].
    policy: usize,
}

/// What is to be enforced on the node: resolved policies, and who uses which.
struct Desired {
    policies: Vec<ResolvedPolicy>,
    places: Vec<Place>,
    /// The places that a packet with a pod's address passes.
    owners: Owners,
}

/// Resolves the policies of the node's pods, each distinct one once.
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
    let mut desired = Desired { policies: Vec::new(), places: Vec::new(), owners: Owners::default() };
    let mut known = HashMap::new();
    for (number, (namespace, name)) in LOCAL.iter().enumerate() {
        let endpoint = cluster.endpoint_by_name(namespace, name).ok_or("no such pod")?;
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut ir = cluster.resolve(endpoint, direction);
            let pod = std::mem::replace(&mut ir.name, "shared".into());
            // The text is the whole policy: equal texts are equal programs and tables.
            let policy = match known.get(&(direction, ir.to_string())) {
                Some(policy) => *policy,
                None => {
                    known.insert((direction, ir.to_string()), desired.policies.len());
                    desired.policies.push(ResolvedPolicy::new(ir, CompileOptions::default()));
                    desired.policies.len() - 1
                }
            };
            let at = Attachment(desired.places.len() as u32);
            for ip in &cluster.endpoints()[endpoint].ips {
                desired.owners.add(*ip, at, direction);
            }
            desired.places.push(Place { pod, endpoint: number as u32, direction, policy });
        }
    }
    Ok(desired)
}

/// What separates a policy in force from another.
#[derive(Debug, PartialEq)]
enum Change {
    /// Nothing.
    None,
    /// Other members: the number of words that were stored in tables.
    Members(usize),
    /// Another policy, which was compiled.
    Program,
}

/// A policy in force: its image as the tables are now, and what changes them.
struct InForce {
    image: PolicyImage,
    tables: LiveTables,
}

impl InForce {
    fn new(policy: &ResolvedPolicy) -> Result<Self> {
        let (image, tables) = policy.compile()?;
        Ok(Self { image, tables })
    }

    /// Goes over to another policy, by a change of members if that is enough.
    fn follow(&mut self, policy: &ResolvedPolicy) -> Result<Change> {
        let Ok(changes) = self.tables.changes_to(policy) else {
            *self = Self::new(policy)?;
            return Ok(Change::Program);
        };
        let mut stores = Vec::new();
        for change in &changes {
            // No packet is being decided here: everything is quiet between two changes.
            self.tables.quiesce();
            if self.tables.change(change, &mut stores).is_err() {
                *self = Self::new(policy)?;
                return Ok(Change::Program);
            }
        }
        for store in &stores {
            // In a kernel this is one word in mapped memory (`LiveImage::store`).
            if !store.apply(&mut self.image.maps) {
                return Err(format!("no such word: {store:?}").into());
            }
        }
        Ok(if stores.is_empty() { Change::None } else { Change::Members(stores.len()) })
    }
}

/// The agent: what it enforces, and the engine that does.
struct Agent<'a> {
    desired: Desired,
    /// The policy of each place.
    places: Vec<InForce>,
    vm: Vm,
    /// The clock, in ns; each packet takes a millisecond.
    now: u64,
    log: &'a mut dyn Write,
}

impl<'a> Agent<'a> {
    fn start(desired: Desired, log: &'a mut dyn Write) -> Result<Self> {
        let of = |place: &Place| InForce::new(&desired.policies[place.policy]);
        let places = desired.places.iter().map(of).collect::<Result<Vec<_>>>()?;
        let specs: Vec<AttachmentSpec<'_>> = desired
            .places
            .iter()
            .zip(&places)
            .map(|(place, in_force)| AttachmentSpec {
                endpoint: place.endpoint,
                direction: place.direction,
                image: &in_force.image,
            })
            .collect();
        let vm = Vm::new(ENTRY, &specs, VmOptions::default())?;
        writeln!(log, "start: {} places share {} programs", desired.places.len(), desired.policies.len())?;
        for place in &desired.places {
            let direction = place.direction.as_str();
            writeln!(log, "  {direction:<7} {:<15} program {}", place.pod, place.policy)?;
        }
        Ok(Self { desired, places, vm, now: 0, log })
    }

    /// Goes over to a new state. The node's pods are the same ones.
    fn update(&mut self, new: Desired) -> Result<()> {
        for (at, (place, in_force)) in new.places.iter().zip(&mut self.places).enumerate() {
            let what = match in_force.follow(&new.policies[place.policy])? {
                Change::None => continue,
                Change::Members(words) => format!("words stored: {words}, instructions: none"),
                Change::Program => "another program".into(),
            };
            // The VM has no packet in flight between two calls, so it takes the
            // whole image at once; if it refuses, the old one stays in force.
            self.vm.update_image(Attachment(at as u32), &in_force.image)?;
            writeln!(self.log, "  {:<7} {:<15} {what}", place.direction.as_str(), place.pod)?;
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
                DecidedBy::Policy(d) => describe(&self.places[at as usize].image.decisions[d as usize]),
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
            let follow = |(old, place): (&Place, &Place)| {
                let mut in_force = InForce::new(&before.policies[old.policy]).unwrap();
                in_force.follow(&new.policies[place.policy]).unwrap()
            };
            pairs.map(follow).collect()
        };
        // In the order of LOCAL: ingress and egress of web-1, api-1 and api-2.
        let pod = changes(&pod);
        assert!(matches!(pod[2], Change::Members(1..)), "{pod:?}");
        assert!(!pod.contains(&Change::Program), "{pod:?}");
        let policy = changes(&policy);
        let changed = [false, false, true, false, true, false];
        assert_eq!(policy.iter().map(|c| *c == Change::Program).collect::<Vec<_>>(), changed);
    }
}
