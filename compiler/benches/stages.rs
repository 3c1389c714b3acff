//! Time of each stage from IR to image: `cargo bench -p polc-compiler --bench stages`.
//!
//! For each shape of policy (those of the dispatch bench) the whole compile, and its
//! parts on their own: the verifier, the passes, address classes and their tables,
//! the partition into columns, the look-up of columns, and the tables of each form
//! that fits. What the whole takes beyond its parts goes into maps and instructions.
//! Best of a few rounds, in processor time. Fails if a whole compile takes longer than [`bound`] says.
//!
//! ```text
//! --rules N[,…]        only these sizes; default 1,000 and 10,000
//! --shape NAME[,…]     only these shapes
//! --whole              without the parts
//! ```

#[path = "../../benches/dispatch/shapes.rs"]
#[expect(dead_code, reason = "the packets are for other benches")]
mod shapes;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use polc_compiler::address::{AddressClasses, AddressLimits, AddressTables, classify};
use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::dispatch::column::{self, Partition};
use polc_compiler::dispatch::outcome::Outcomes;
use polc_compiler::dispatch::{Choice, Limits, Unfit, bits, cells, cross, ports};
use polc_compiler::ir::{PolicyIr, verify};
use polc_compiler::passes::{normalise, prune, reorder};

use shapes::{Shape, workload};

/// Rounds of what takes less than [`LONG`].
const ROUNDS: u32 = 5;
const LONG: Duration = Duration::from_secs(1);

/// Most that compiling may take, for the sizes that have a target.
fn bound(shape: Shape, rules: usize) -> Option<Duration> {
    let crowded = matches!(shape, Shape::Overlap | Shape::OverlapBoth | Shape::BothOverlapPort);
    let milliseconds = match (shape, rules) {
        (_, 10_000) if crowded => 100,
        (_, 10_000) => 30,
        (_, 100_000) if !crowded && shape != Shape::BothSides => 2_000,
        _ => return None,
    };
    Some(Duration::from_millis(milliseconds))
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    println!("ms; (name): the form does not fit");
    let mut met = true;
    for rules in &options.rules {
        for shape in &options.shapes {
            met &= measure(*shape, *rules, options.parts);
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Options {
    rules: Vec<usize>,
    shapes: Vec<Shape>,
    parts: bool,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self { rules: vec![1_000, 10_000], shapes: Shape::ALL.to_vec(), parts: true };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--rules" => {
                    let number = |n: &str| n.parse().map_err(|_| format!("{n} is not a number"));
                    options.rules = value()?.split(',').map(number).collect::<Result<_, _>>()?;
                }
                "--shape" => {
                    let named = |name: &str| {
                        let found = Shape::ALL.into_iter().find(|shape| shape.name() == name);
                        found.ok_or(format!("no shape {name}"))
                    };
                    options.shapes = value()?.split(',').map(named).collect::<Result<_, _>>()?;
                }
                "--whole" => options.parts = false,
                // What cargo passes.
                "--bench" => {}
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        Ok(options)
    }
}

/// One line of the table; whether its bound is met.
fn measure(shape: Shape, rules: usize, with_parts: bool) -> bool {
    let ir = workload(shape, rules).ir;
    let mut line = Line(format!("{:>16} {rules:>6}:", shape.name()));
    let (whole, image) = best(|| ir.clone(), |ir| compile(ir, &CompileOptions::default()));
    line.add("whole", whole);
    match &image {
        Ok(image) => {
            let bytes: usize = image.maps.iter().map(|map| map.dense.len()).sum();
            line.word(format!("{} slots {} KiB |", image.programs[0].code.slots(), bytes >> 10));
        }
        Err(error) => line.word(format!("{error} |")),
    }
    if with_parts {
        parts(&mut line, &ir);
    }
    let met = bound(shape, rules).is_none_or(|bound| whole <= bound);
    println!("{}{}", line.0, if met { "" } else { "  TOO SLOW" });
    met
}

fn parts(line: &mut Line, ir: &PolicyIr) {
    line.add("verify", best(|| (), |()| verify(ir)).0);
    let (time, normal) = changed(ir, normalise);
    line.add("normalise", time);
    let (time, pruned) = changed(&normal, prune);
    line.add("prune", time);
    line.add("reorder", changed(&pruned, |ir| reorder(ir, None)).0);
    let (time, classes) = best(|| (), |()| classify(&normal));
    line.add("classify", time);
    let (time, addresses) = best(|| (), |()| AddressTables::build(&classes, &AddressLimits::default()));
    line.add("addresses", time);
    let (time, partition) = best(|| (), |()| column::partition(&normal, usize::from(u16::MAX)));
    line.add("partition", time);
    match (partition, addresses) {
        (Ok(partition), Ok(addresses)) => {
            line.add("ports", best(|| (), |()| ports::lay_out(&partition)).0);
            let classes_max = addresses.layout().class_capacity();
            let limits =
                Limits { classes: classes_max, max_table_bytes: AddressLimits::default().max_table_bytes };
            forms(line, &normal, &partition, &classes, &limits);
            line.word(format!("| {} columns {} classes", partition.columns.len(), classes.len()));
        }
        (partition, addresses) => {
            partition.err().into_iter().for_each(|unfit| line.word(unfit));
            addresses.err().into_iter().for_each(|error| line.word(error));
        }
    }
}

fn forms(line: &mut Line, ir: &PolicyIr, partition: &Partition, classes: &AddressClasses, limits: &Limits) {
    let outcomes = || Outcomes::new(ir);
    line.form(
        "cells",
        best(outcomes, |mut o| cells::fill(partition, classes, &mut o, Choice::Cells, limits)),
    );
    line.form("bits", best(|| (), |()| bits::fill(partition, classes, limits)));
    line.form("cross", best(outcomes, |mut o| cross::fill(partition, classes, &mut o, limits)));
}

struct Line(String);

impl Line {
    fn word(&mut self, word: impl Display) {
        self.0.push_str(&format!(" {word}"));
    }

    fn add(&mut self, name: &str, time: Duration) {
        self.word(format!("{name} {:.1}", time.as_secs_f64() * 1e3));
    }

    fn form<T>(&mut self, name: &str, (time, done): (Duration, Result<T, Unfit>)) {
        match done {
            Ok(_) => self.add(name, time),
            Err(_) => self.add(&format!("({name})"), time),
        }
    }
}

/// Time of a rewrite, and its result.
fn changed<R>(ir: &PolicyIr, rewrite: impl Fn(&mut PolicyIr) -> R) -> (Duration, PolicyIr) {
    best(
        || ir.clone(),
        |mut ir| {
            rewrite(&mut ir);
            ir
        },
    )
}

/// Time that this thread ran, which on a machine with other work says more than the
/// time that passed; that one where the kernel does not tell.
fn now() -> Duration {
    // What it tells is right when the scheduler has just looked.
    std::thread::yield_now();
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|text| text.split(' ').next()?.parse().ok());
    ran.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// The least time of a few rounds, without what makes the input, and the last result.
fn best<I, T>(input: impl Fn() -> I, work: impl Fn(I) -> T) -> (Duration, T) {
    let mut least = Duration::MAX;
    let mut round = 0;
    loop {
        let given = input();
        let start = now();
        let done = work(given);
        least = least.min(now() - start);
        round += 1;
        if round >= ROUNDS || least > LONG {
            return (least, done);
        }
    }
}
