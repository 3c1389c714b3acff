//! How long a change takes.

use std::time::{Duration, Instant};

use polc_compiler::image::{F_MMAPABLE, MapKind, Store};
use polc_compiler::ir::Direction;
use polc_runtime::agent::Agent;
use polc_runtime::kernel::Dataplane;

use crate::Failure;
use crate::bed::{Bed, IFACE};
use crate::contender::{images, request, yaml};

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

/// Stores to a table of the policy in force, through the agent.
pub fn members(bed: &Bed) -> Result<(), Failure> {
    let [ingress, egress] = images(&yaml(1000))?;
    let tables = ingress.maps.iter().enumerate();
    let mut tables = tables.filter(|(_, m)| m.kind == MapKind::Array && m.flags & F_MMAPABLE != 0);
    let (index, table) = tables.next().ok_or("the policy has no table")?;
    // The word that stands there already: the policy stays what it is.
    let value = table.dense.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    let store = Store { map: index as u32, index: 0, offset: 0, value };
    let mut agent = Agent::start(bed.fs.path(), Duration::ZERO)?;
    agent.apply(&[request(&ingress, &egress)])?;
    for batch in [1usize, 1000] {
        let stores = vec![store; batch];
        agent.store(IFACE, Direction::Ingress, &stores)?;
        let (start, mut done) = (Instant::now(), 0u64);
        while start.elapsed() < Duration::from_secs(1) {
            agent.store(IFACE, Direction::Ingress, &stores)?;
            done += batch as u64;
        }
        let rate = done as f64 / start.elapsed().as_secs_f64();
        println!("table stores, {batch:>4} at a time: {rate:>12.0} per second");
    }
    agent.apply(&[])?;
    Ok(())
}

/// Milliseconds.
fn median(all: &mut [Duration]) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1e3
}
