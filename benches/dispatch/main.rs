//! What a packet costs in a policy program, over the number of rules: polc, a linear
//! program as Calico builds it, and nftables with the best sets an expert would write.
//!
//! `cargo bench --bench dispatch` prints the table and writes docs/dispatch.svg;
//! it needs root, and moves into a network namespace of its own. Options after `--`:
//!
//! ```text
//! --quick              fewer runs, at most 10,000 rules
//! --shape NAME[,…]     only these shapes
//! --rules N[,…]        only these sizes
//! --form NAME          force a dispatch form instead of the cost model's choice
//! --only polc          leave out the peers
//! --primitives         instead what instructions, branches and reads cost
//! --tables             the KiB of each of polc's tables
//! ```
//!
//! Verdict and decision of every measured packet are held against the reference
//! evaluator, for polc and for the linear program; of nftables the number of packets
//! that pass. A difference ends the bench with exit code 1.

mod kernel;
mod naive;
mod nft;
mod options;
mod oracle;
mod plot;
mod primitives;
mod report;
mod shapes;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use polc_compiler::abi;
use polc_compiler::compile::{CompileError, CompileOptions, compile};
use polc_compiler::image::{MapSpec, PolicyImage};
use polc_compiler::ir::{Flow, Outcome, PolicyIr, Verdict};
use polc_runtime::kernel::support;

use kernel::{Bed, Cost, Effort, Loadable, Loaded};
use options::Options;
use oracle::Oracle;
use report::{Row, Side};
use shapes::{Shape, Workload, workload};

type Failure = Box<dyn std::error::Error>;

fn failed(text: String) -> Failure {
    text.into()
}

/// Set in the process that runs in the bench's own network namespace.
const INSIDE: &str = "POLC_BENCH_NAMESPACE";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let done = if std::env::var_os(INSIDE).is_none() { enter() } else { measure(&options) };
    done.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        ExitCode::FAILURE
    })
}

/// Starts this bench again in a new network namespace, which is gone with it.
fn enter() -> Result<ExitCode, Failure> {
    let own = std::env::current_exe()?;
    let status = Command::new("unshare")
        .arg("--net")
        .arg(own)
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .map_err(|e| failed(format!("unshare: {e}; the bench needs util-linux and root")))?;
    Ok(status.code().and_then(|c| u8::try_from(c).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn measure(options: &Options) -> Result<ExitCode, Failure> {
    let bed = Bed::new()?;
    if options.primitives {
        primitives::print(&bed, options.effort)?;
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = match options.peers {
        true => Some(nft::Bed::new(options.effort)?),
        false => None,
    };
    let mut rows = Vec::new();
    report::print_head();
    for shape in &options.shapes {
        for rules in &options.rules {
            let row = row(&bed, baseline.as_ref(), *shape, *rules, options)?;
            println!("{row}");
            rows.push(row);
        }
        println!();
    }
    report::print_floor(&rows);
    if options.plots() {
        plot::write(&rows)?;
    }
    let wrong: usize = rows.iter().map(Row::mismatches).sum();
    println!("{wrong} mismatches with the reference");
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The packets of a workload with what the reference says of each.
struct Expected {
    /// What the first, the last and no rule decides.
    hot: Vec<(Flow, Outcome)>,
    spread: Vec<(Flow, Outcome)>,
}

impl Expected {
    fn new(work: &Workload) -> Self {
        let mut oracle = Oracle::new(&work.ir);
        let spread: Vec<(Flow, Outcome)> = work.spread.iter().map(|f| (*f, oracle.evaluate(f))).collect();
        let mut decided = |(i, flow): &(usize, Flow)| {
            let outcome = oracle.evaluate(flow);
            (work.ir.decisions[outcome.decision].rule == Some(*i as u32)).then_some((*flow, outcome))
        };
        let first = work.candidates.iter().find_map(&mut decided);
        let last = work.candidates.iter().rev().find_map(&mut decided);
        let none = spread.iter().find(|(_, o)| work.ir.decisions[o.decision].rule.is_none()).cloned();
        Self { hot: [first, last, none].into_iter().flatten().collect(), spread }
    }
}

fn row(
    bed: &Bed,
    baseline: Option<&nft::Bed>,
    shape: Shape,
    rules: usize,
    options: &Options,
) -> Result<Row, Failure> {
    let work = workload(shape, rules);
    let expected = Expected::new(&work);
    let flows: Vec<Flow> = expected.spread.iter().map(|(flow, _)| *flow).collect();
    bed.set_spread(&flows)?;
    let mut how = CompileOptions::default();
    how.limits.form = options.form;
    how.limits.max_direct_bytes = support::max_direct_bytes();
    let (build, image) = timed_build(&work.ir, &how);
    if options.tables
        && let Ok(image) = &image
    {
        let kib = |m: &MapSpec| format!("{} {:.1}", m.name, m.capacity_bytes() as f64 / 1024.0);
        println!("  {}", image.maps.iter().map(kib).collect::<Vec<_>>().join(", "));
    }
    let polc = match image {
        Ok(image) => program(bed, &Loadable::from(&image), &expected, options.effort, Some(build)),
        Err(e) => Side::Not(e.to_string()),
    };
    let (linear, nftables) = match baseline {
        None => (Side::Left, Side::Left),
        Some(baseline) => {
            let linear = match naive::emit(&work.ir) {
                Ok(code) => program(bed, &code, &expected, options.effort, None),
                Err(e) => Side::Not(e.to_string()),
            };
            (linear, baseline.measure(shape, &work.ir, &expected, options.effort))
        }
    };
    Ok(Row { shape, rules, polc, linear, nftables })
}

/// Times that a policy is compiled.
const BUILDS: u32 = 3;

/// Compiles a policy, some times; the least time, and the last image.
fn timed_build(ir: &PolicyIr, how: &CompileOptions) -> (Duration, Result<PolicyImage, CompileError>) {
    let build = || {
        let ir = ir.clone();
        let start = Instant::now();
        let image = compile(ir, how);
        (start.elapsed(), image)
    };
    (1..BUILDS).fold(build(), |(least, image), _| {
        // Not beside the next one: the memory of one image is enough.
        drop(image);
        let (time, image) = build();
        (least.min(time), image)
    })
}

/// ns per packet above which a program's spread is of [`FEW`] packets.
const SLOW: f64 = 100_000.0;
const FEW: usize = 256;

/// Times that a program is loaded. Where its code and its tables come to lie makes some
/// programs tens of ns slower, other ones each time.
const PLACES: u32 = 3;

/// Loads, checks and measures a program, some times; the best of them.
fn program(
    bed: &Bed,
    code: &Loadable,
    expected: &Expected,
    effort: Effort,
    build: Option<std::time::Duration>,
) -> Side {
    let mut best = Measured::new(bed, code, expected, effort);
    for _ in 1..PLACES {
        if let Ok(measured) = &mut best
            && measured.hot.ns < SLOW
        {
            match Measured::new(bed, code, expected, effort) {
                Ok(other) => measured.improve(other),
                Err(e) => best = Err(e),
            }
        }
    }
    match best {
        Ok(Measured { hot, spread, load, fill, mismatches }) => {
            let (slots, map_bytes) = (code.slots(), code.map_bytes());
            let size = report::Size { slots, map_bytes, build, load: Some(load), fill };
            Side::Measured { hot: hot.ns, spread: spread.ns, floor: hot.floor, size: Some(size), mismatches }
        }
        Err(e) => Side::Not(e.to_string()),
    }
}

/// A loaded program's figures.
struct Measured {
    hot: Cost,
    spread: Cost,
    load: Duration,
    fill: Duration,
    mismatches: usize,
}

impl Measured {
    fn new(bed: &Bed, code: &Loadable, expected: &Expected, effort: Effort) -> Result<Self, Failure> {
        let loaded = bed.load(code)?;
        let mut hot: Option<Cost> = None;
        for (flow, _) in &expected.hot {
            let cost = bed.hot(&loaded, flow, effort)?;
            hot = hot.into_iter().chain([cost]).max_by(|a, b| a.ns.total_cmp(&b.ns));
        }
        let hot = hot.ok_or_else(|| failed("no packet to measure with".into()))?;
        // A linear program of many rules takes seconds for all packets.
        let packets = if hot.ns > SLOW { FEW } else { expected.spread.len() };
        let mismatches = mismatches(bed, &loaded, expected, packets)?;
        let spread = bed.spread(packets, effort)?;
        Ok(Self { hot, spread, load: loaded.load, fill: loaded.fill, mismatches })
    }

    /// Takes what is better of another measurement.
    fn improve(&mut self, other: Self) {
        let better = |a: Cost, b: Cost| if b.ns < a.ns { b } else { a };
        self.hot = better(self.hot, other.hot);
        self.spread = better(self.spread, other.spread);
        self.load = self.load.min(other.load);
        self.fill = self.fill.min(other.fill);
        self.mismatches += other.mismatches;
    }
}

/// Packets that a program decides otherwise than the reference.
fn mismatches(bed: &Bed, loaded: &Loaded, expected: &Expected, packets: usize) -> Result<usize, Failure> {
    let mut wrong = 0;
    for (flow, outcome) in expected.hot.iter().chain(expected.spread.iter().take(packets)) {
        let (verdict, decision) = bed.decide(loaded, flow)?;
        let want = match outcome.verdict {
            Verdict::Allow => abi::VERDICT_ALLOW,
            Verdict::Deny => abi::VERDICT_DENY,
        };
        if (verdict, decision) != (want, outcome.decision.as_u32()) {
            wrong += 1;
            if wrong <= 3 {
                eprintln!("{flow:?}: verdict {verdict}, decision {decision}; reference {outcome:?}");
            }
        }
    }
    Ok(wrong)
}
