//! What policy costs on a real interface: packets of established and of new flows
//! through a veth pair, beside an empty classifier and nftables with conntrack and
//! the same rules in the same namespaces; the latency of a policy update, and of a
//! pod more or less in the agent.
//!
//! `cargo bench --bench kernel` needs root, iproute2 and nftables. Two network
//! namespaces and a bpffs are made, and gone with it.
//!
//! The packets are UDP datagrams from the node to the pod, sent by one thread and
//! dropped where the pod's interface receives them, so that a packet's time is that
//! of the sender's call: socket, route, the hooks under test, the veth pair. Each
//! figure is the least of the rounds; in a round every contender has its turn.
//! `marginal` is a figure less that of no hook at all.
//!
//! A hook is checked before it is measured: a port that the rules allow gets
//! through, one that they do not allow does not.

mod bed;
mod contender;
mod update;

use std::process::ExitCode;

use bed::Bed;
use contender::Contender;

type Failure = Box<dyn std::error::Error>;

/// Turns of every contender.
const ROUNDS: u32 = 40;
/// Packets of a turn.
const ESTABLISHED: u32 = 10_000;
const NEW: u32 = 3_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let bed = Bed::new()?;
    for rules in [10, 1000] {
        packets(&bed, rules)?;
    }
    update::latency(&bed, &[10, 1000, 10_000])?;
    update::members(&bed)
}

/// ns per packet of each contender.
fn packets(bed: &Bed, rules: u32) -> Result<(), Failure> {
    let all = [Contender::Nothing, Contender::Empty, Contender::Polc, Contender::Nftables];
    let mut least = [[f64::INFINITY; 2]; 4];
    for round in 0..ROUNDS {
        for (contender, least) in all.iter().zip(&mut least) {
            let _hooks = contender.install(bed, rules)?;
            if round == 0 && !matches!(contender, Contender::Nothing | Contender::Empty) {
                bed.check(contender::LAST_PORT, true)?;
                bed.check(contender::DENIED_PORT, false)?;
            }
            let established = bed.established(ESTABLISHED)?;
            let new = bed.new_flows(NEW, contender::FIRST_OPEN)?;
            *least = [least[0].min(established), least[1].min(new)];
        }
    }
    println!("{rules} rules            established, ns   marginal   ratio to empty    new, ns   marginal");
    let (base, empty) = (least[0], least[1]);
    for (contender, [established, new]) in all.iter().zip(least) {
        println!(
            "  {:<22} {established:>10.0} {:>10.0} {:>16.2} {new:>10.0} {:>10.0}",
            contender.name(),
            established - base[0],
            established / empty[0],
            new - base[1],
        );
    }
    Ok(())
}
