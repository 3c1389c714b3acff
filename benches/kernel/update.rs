//! How long a change takes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use polc_compiler::image::no_source_lines;
use polc_compiler::live::ResolvedPolicy;
use polc_runtime::agent::{Agent, EndpointPolicy, Outcome, Step};
use polc_runtime::kernel::{Dataplane, Hook};

use crate::Failure;
use crate::bed::{Bed, IFACE};
use crate::contender::{images, request, resolved, yaml};

/// Changes that the median is of.
const CHANGES: usize = 7;

/// From changed YAML to enforced: read, resolve, compile, load, slot stored.
pub fn latency(bed: &Bed, sizes: &[u32]) -> Result<(), Failure> {
    println!("update latency, ms        whole   read and compile   load and swap");
    for rules in sizes {
        let mut plane = Dataplane::open(bed.fs.path(), Duration::ZERO)?;
        let (mut whole, mut loads) = (Vec::new(), Vec::new());
        for change in 0..=CHANGES {
            // Another port in the last rule: every change is a new program.
            let text = yaml(*rules).replace("60000", &format!("{}", 60_000 - change));
            let start = Instant::now();
            let [ingress, egress] = images(&text)?;
            let compiled = Instant::now();
            plane.attach(&request(&ingress, &egress))?;
            // The first one attaches; the others replace.
            if change > 0 {
                whole.push(start.elapsed());
                loads.push(compiled.elapsed());
            }
        }
        let (whole, load) = (median(&mut whole), median(&mut loads));
        println!("  {rules:>6} rules      {whole:>12.2} {:>18.2} {load:>15.2}", whole - load);
        plane.detach(IFACE)?;
    }
    Ok(())
}

/// A pod for the policy's clients more or less: from YAML to stores in the tables of
/// the policy in force, and the part of the agent alone.
pub fn members(bed: &Bed) -> Result<(), Failure> {
    println!("a pod more or less, ms     whole   read and resolve   agent");
    for pods in [100, 1_000, 10_000] {
        let mut agent = Agent::start(bed.fs.path(), Duration::ZERO)?;
        let (mut whole, mut carried) = (Vec::new(), Vec::new());
        for change in 0..=CHANGES {
            let text = clients(pods + change as u32 % 2);
            let start = Instant::now();
            let [ingress, egress] = resolved(&text)?;
            let known = Instant::now();
            let outcomes = agent.apply(&[endpoint(&ingress, &egress)])?;
            // The first one attaches.
            if change > 0 {
                whole.push(start.elapsed());
                carried.push(known.elapsed());
                if !matches!(&outcomes[..], [Outcome { step: Step::Members(_), error: None }]) {
                    return Err(format!("not a change of members: {outcomes:?}").into());
                }
            }
        }
        let (whole, carried) = (median(&mut whole), median(&mut carried));
        println!("  {pods:>6} pods         {whole:>12.2} {:>18.2} {carried:>7.2}", whole - carried);
        agent.apply(&[])?;
    }
    Ok(())
}

/// A policy for the pod that its clients may reach one port.
fn clients(pods: u32) -> String {
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
  podSelector: { matchLabels: { app: pod } }
  policyTypes: [Ingress]
  ingress:
    - { from: [{ podSelector: { matchLabels: { app: client } } }], ports: [{ protocol: UDP, port: 10000 }] }
",
    );
    for pod in 0..pods {
        let _ = writeln!(
            text,
            "---
apiVersion: v1
kind: Pod
metadata: {{ name: client-{pod}, namespace: default, labels: {{ app: client }} }}
status: {{ podIPs: [{{ ip: 10.100.{}.{} }}] }}",
            pod / 256,
            pod % 256
        );
    }
    text
}

fn endpoint<'a>(ingress: &'a ResolvedPolicy, egress: &'a ResolvedPolicy) -> EndpointPolicy<'a> {
    let policy = EndpointPolicy::new(IFACE, "default/pod", [ingress, egress], &no_source_lines);
    EndpointPolicy { hook: Some(Hook::Tcx), ..policy }
}

/// Milliseconds.
fn median(all: &mut [Duration]) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1e3
}
