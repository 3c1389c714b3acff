//! What is measured: no hook, an empty classifier, polc, nftables.

use std::fmt::Write as _;
use std::time::Duration;

use polc_compiler::compile::CompileOptions;
use polc_compiler::diag::{self, Sources};
use polc_compiler::image::{PolicyImage, no_source_lines};
use polc_compiler::ir::Direction;
use polc_compiler::live::ResolvedPolicy;
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;
use polc_runtime::kernel::{AttachRequest, Dataplane, Hook, Policy};
use polc_runtime::sys::bpf::{AttachPoint, DebugInfo, Link, Program, ProgramKind, ProgramSource};
use polc_runtime::sys::interface_index;

use crate::Failure;
use crate::bed::{Bed, IFACE, nft};

/// Ports that anybody may use; the last rule.
pub const FIRST_OPEN: u16 = 40_000;
pub const LAST_PORT: u16 = 60_000;
/// No rule allows it.
pub const DENIED_PORT: u16 = 9;

#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Contender {
    Nothing,
    Empty,
    Polc,
    Nftables,
}

/// What is installed; gone with it.
#[expect(dead_code, reason = "held for their drop")]
pub enum Installed {
    Nothing,
    Empty([Link; 2]),
    Polc(Box<Attached>),
    Nftables(Table),
}

pub struct Attached(Dataplane);

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.0.detach(IFACE);
    }
}

pub struct Table;

impl Drop for Table {
    fn drop(&mut self) {
        let _ = nft("delete table inet bench");
    }
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no hook",
            Self::Empty => "empty classifier",
            Self::Polc => "polc",
            Self::Nftables => "nftables, conntrack",
        }
    }

    pub fn install(self, bed: &Bed, rules: u32) -> Result<Installed, Failure> {
        Ok(match self {
            Self::Nothing => Installed::Nothing,
            Self::Empty => Installed::Empty(empty()?),
            Self::Polc => {
                let [ingress, egress] = images(&yaml(rules))?;
                let mut plane = Dataplane::open(bed.fs.path(), Duration::ZERO)?;
                plane.attach(&request(&ingress, &egress))?;
                Installed::Polc(Box::new(Attached(plane)))
            }
            Self::Nftables => {
                nft(&ruleset(rules))?;
                Installed::Nftables(Table)
            }
        })
    }
}

/// A program that lets everything through, at both hooks.
fn empty() -> Result<[Link; 2], Failure> {
    let code = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let source = ProgramSource {
        name: "empty",
        kind: ProgramKind::Classifier,
        code: &code,
        license: "Apache-2.0",
        debug: DebugInfo::default(),
    };
    let program = Program::load(&source)?;
    let ifindex = interface_index(IFACE)?;
    let link =
        |at| Link::create(&program, ifindex, at).map_err(|e| format!("{e}; the bench needs tcx (6.6)"));
    Ok([link(AttachPoint::TcxIngress)?, link(AttachPoint::TcxEgress)?])
}

/// Rule `i`: one address, one port.
fn rule(i: u32) -> (String, u32) {
    (format!("10.{}.{}.{}", 100 + i / 65_536, i / 256 % 256, i % 256), 10_000 + i % 20_000)
}

/// `rules` rules for packets towards the pod: CIDR and port, then a range of ports.
pub fn yaml(rules: u32) -> String {
    let mut text = String::from(
        "apiVersion: v1
kind: Pod
metadata: { name: pod, namespace: default, labels: { app: pod } }
status: { podIPs: [{ ip: 10.97.0.2 }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: bench, namespace: default }
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
",
    );
    for i in 1..rules {
        let (address, port) = rule(i);
        let _ = writeln!(
            text,
            "    - {{ from: [{{ ipBlock: {{ cidr: {address}/32 }} }}], ports: [{{ protocol: UDP, port: {port} }}] }}"
        );
    }
    let _ =
        writeln!(text, "    - {{ ports: [{{ protocol: UDP, port: {FIRST_OPEN}, endPort: {LAST_PORT} }}] }}");
    text
}

fn ruleset(rules: u32) -> String {
    let mut text = format!(
        "table inet bench {{
  chain in {{ type filter hook input priority 0; iifname {IFACE} ct state established,related accept; }}
  chain out {{
    type filter hook output priority 0;
    oifname != {IFACE} accept
    ct state established,related accept
"
    );
    for i in 1..rules {
        let (address, port) = rule(i);
        let _ = writeln!(text, "    ip saddr {address} udp dport {port} accept");
    }
    let _ = writeln!(text, "    udp dport {FIRST_OPEN}-{LAST_PORT} accept\n    drop\n  }}\n}}");
    text
}

/// From YAML to both directions' policies.
pub fn resolved(yaml: &str) -> Result<[ResolvedPolicy; 2], Failure> {
    let mut sources = Sources::default();
    sources.add("bench.yaml", yaml);
    let (objects, mut findings) = manifest::read(&sources);
    let (cluster, more) = Cluster::new(&sources, objects);
    findings.extend(more);
    if diag::has_errors(&findings) {
        return Err(diag::render(&sources, &findings, false).into());
    }
    let endpoint = cluster.endpoint_by_name("default", "pod").ok_or("no pod")?;
    let policy =
        |direction| ResolvedPolicy::new(cluster.resolve(endpoint, direction), CompileOptions::default());
    Ok([policy(Direction::Ingress), policy(Direction::Egress)])
}

/// From YAML to both directions' images: what an agent does on a change.
pub fn images(yaml: &str) -> Result<[PolicyImage; 2], Failure> {
    let [ingress, egress] = resolved(yaml)?;
    Ok([ingress.compile()?.0, egress.compile()?.0])
}

pub fn request<'a>(ingress: &'a PolicyImage, egress: &'a PolicyImage) -> AttachRequest<'a> {
    let policy = |image| Policy { image, xdp: false, sets: &[], lines: &no_source_lines };
    let request = AttachRequest::new(IFACE, "default/pod", [ingress, egress].map(policy));
    AttachRequest { hook: Some(Hook::Tcx), ..request }
}
