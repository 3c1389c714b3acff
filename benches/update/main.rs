//! What a membership change costs while packets are being decided, and that no packet
//! sees a mix.
//!
//! `cargo bench --bench update` needs root. Options after `--`:
//!
//! ```text
//! --quick          a tenth of the time
//! --form NAME      only dense, sparse, cross or bits
//! --members N      only this table size
//! ```
//!
//! A policy is compiled, its maps and program are loaded, and one thread runs the
//! program in the kernel (`BPF_PROG_TEST_RUN`) on packet after packet, each with what
//! is expected of it: whoever is a member before and after every change is allowed at
//! every moment, whoever is none is denied. Meanwhile the other thread changes members
//! through `LiveTables`, stores to the mapped tables, and waits for grace periods where
//! that is asked for. What the tables refuse is compiled, loaded and swapped in. A packet
//! with another verdict than the expected one, or one that met a missing table entry, is
//! *wrong*; a single one ends the bench with exit code 1.
//!
//! Before anything else the check itself is checked: a host that moves by leaving one set
//! and then coming to the other has to be seen as wrong.
//!
//! `ns` is the mean time of a change: what to store, and the stores, without waiting and
//! without swaps. `/s` counts both in.

mod bed;
#[path = "../dispatch/kernel.rs"]
#[expect(dead_code, reason = "the rest measures what a packet costs")]
mod kernel;
mod plan;
mod policy;

/// What `kernel` asks of the other bench.
mod shapes {
    /// Packets that take turns; a power of two.
    pub const SPREAD: usize = 1024;
}

use std::process::ExitCode;
use std::time::{Duration, Instant};

use polc_compiler::address::Refused;
use polc_compiler::emit::Form;
use polc_compiler::live::{Change, ResolvedPolicy};

use bed::Bed;
use plan::Kind;
use policy::World;

type Failure = Box<dyn std::error::Error>;

fn failed(text: String) -> Failure {
    text.into()
}

const FORMS: [(&str, Form); 4] =
    [("dense", Form::Dense), ("sparse", Form::Sparse), ("cross", Form::Cross), ("bits", Form::Bits)];

struct Options {
    forms: Vec<(&'static str, Form)>,
    members: Vec<u32>,
    time: Duration,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { forms: FORMS.to_vec(), members: vec![1_000, 50_000], time: Duration::from_secs(2) };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" => {}
                "--quick" => options.time = Duration::from_millis(200),
                "--form" => {
                    let name = value()?;
                    options.forms.retain(|(n, _)| *n == name);
                    if options.forms.is_empty() {
                        return Err(format!("no form `{name}`"));
                    }
                }
                "--members" => {
                    options.members = vec![value()?.parse().map_err(|e| format!("--members: {e}"))?];
                }
                _ => {
                    return Err(format!(
                        "unknown argument `{arg}`; the options stand at the head of main.rs"
                    ));
                }
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Wrong packets.
fn run(options: &Options) -> Result<u64, Failure> {
    let (mut packets, mut wrong) = (0, 0);
    let control = measure(&World::new(Form::Dense, 1_000), Kind::HostsMove, Steps::Two, options.time)?;
    println!(
        "moves in two steps: {} of {} packets are wrong, as they should be",
        control.wrong, control.packets
    );
    if control.wrong == 0 {
        return Err(failed("the check does not see what it is for".into()));
    }
    println!("form   members  change              ns  stores   grace  swaps        /s     packets  wrong");
    for (name, form) in &options.forms {
        for members in &options.members {
            let world = World::new(*form, *members);
            for kind in Kind::ALL {
                let seen = measure(&world, kind, Steps::One, options.time)?;
                println!("{name:<6} {members:>7}  {:<14} {seen}", kind.name());
                packets += seen.packets;
                wrong += seen.wrong;
            }
        }
    }
    println!("{packets} packets, {wrong} with a verdict of neither the old nor the new members");
    Ok(wrong)
}

/// What was measured.
struct Seen {
    changes: u64,
    stores: u64,
    graces: u64,
    swaps: u64,
    /// Without waiting.
    busy: Duration,
    whole: Duration,
    packets: u64,
    wrong: u64,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changes = self.changes.max(1) as f64;
        write!(
            f,
            "{:>7.0} {:>7.1} {:>7} {:>6} {:>9.0} {:>11} {:>6}",
            self.busy.as_nanos() as f64 / changes,
            self.stores as f64 / changes,
            self.graces,
            self.swaps,
            changes / self.whole.as_secs_f64(),
            self.packets,
            self.wrong
        )
    }
}

/// How a member goes from some sets to others.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Steps {
    One,
    /// It leaves first: what no user of `LiveTables` should do.
    Two,
}

impl Steps {
    fn of(self, change: Change) -> Vec<Change> {
        match self {
            Self::One => vec![change],
            Self::Two => {
                let leave = Change { add: Vec::new(), ..change.clone() };
                vec![leave, Change { remove: Vec::new(), ..change }]
            }
        }
    }
}

/// Changes members for a while, in tables of their own, under packets.
fn measure(world: &World, kind: Kind, steps: Steps, time: Duration) -> Result<Seen, Failure> {
    let (image, mut live) = ResolvedPolicy::new(world.ir.clone(), world.options.clone()).compile()?;
    let bed = Bed::new(&world.packets(kind))?;
    let mut plan = kind.plan();
    let (mut changes, mut stores, mut graces, mut swaps) = (0, 0, 0, 0);
    let mut waited = Duration::ZERO;
    let mut list = Vec::new();
    let (whole, counts) = bed.under_packets(&image, |tables| {
        let start = Instant::now();
        while start.elapsed() < time {
            // The clock is asked now and then.
            for _ in 0..16 {
                for change in steps.of(plan.next_change()) {
                    list.clear();
                    let mut done = live.change(&change, &mut list);
                    if done == Err(Refused::NotQuiet) {
                        let from = Instant::now();
                        polc_runtime::kernel::grace_period()?;
                        waited += from.elapsed();
                        graces += 1;
                        live.quiesce();
                        done = live.change(&change, &mut list);
                    }
                    match done {
                        Ok(()) => tables.carry_out(&list)?,
                        Err(_) => {
                            let from = Instant::now();
                            let ir = world.with(|sets| plan.members(sets));
                            let (image, new) = ResolvedPolicy::new(ir, world.options.clone()).compile()?;
                            tables.swap(&image)?;
                            live = new;
                            waited += from.elapsed();
                            swaps += 1;
                        }
                    }
                    stores += list.len() as u64;
                    changes += 1;
                }
            }
        }
        Ok(start.elapsed())
    })?;
    Ok(Seen {
        changes,
        stores,
        graces,
        swaps,
        busy: whole - waited,
        whole,
        packets: counts[0],
        wrong: counts[1],
    })
}
