//! `polc run`: replays a capture through compiled policy.

pub(super) mod describe;
pub(super) mod engine;
mod hits;
pub(super) mod json;
mod output;
pub(super) mod plan;
mod progress;
mod summary;
mod table;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use polc_compiler::compile::CompileOptions;
use polc_runtime::EngineError;
use polc_runtime::packet::{Capture, CaptureError};
use polc_runtime::replay::{DecidedBy, Record, Tally, replay};

use super::{DirectionArg, EndpointArg};
use crate::exit::{Exit, Failure};
use crate::inputs::Inputs;
use crate::output::{self as streams};

use engine::{AnyEngine, EngineArg};
use hits::Hits;
use output::{Annotated, Output};
use plan::Plan;
use progress::Progress;
use summary::Summary;

/// Arguments of `polc run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Capture to replay: pcap or pcapng, or - for standard input
    #[arg(long, value_name = "FILE")]
    pcap: PathBuf,

    /// Only at this pod or host endpoint; may be repeated
    #[arg(long, value_name = "NS/NAME|HOST")]
    endpoint: Vec<EndpointArg>,

    /// Only in this direction
    #[arg(long)]
    direction: Option<DirectionArg>,

    /// Evaluate every packet as a connection's first
    #[arg(long)]
    stateless: bool,

    /// What evaluates the packets
    #[arg(long, default_value = "interpreter")]
    engine: EngineArg,

    /// Measure each evaluation over at least five times N runs (with --engine kernel)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,

    /// Form of the output
    #[arg(short, long, default_value = "table")]
    output: Format,

    /// Print the summary only
    #[arg(short, long)]
    quiet: bool,

    /// Write the packets to a pcapng file whose packet comments say what decided
    #[arg(long, value_name = "OUT.pcapng")]
    write: Option<PathBuf>,

    /// Write how often each rule was hit, for polc compile --profile
    #[arg(long, value_name = "FILE")]
    profile_out: Option<PathBuf>,
}

/// `-o`.
#[derive(ValueEnum, Copy, Clone, Debug, PartialEq, Eq)]
enum Format {
    /// Aligned columns, then a summary
    Table,
    /// One object per line and evaluation
    Json,
}

/// Why a replay stopped before the capture's end.
enum Stop {
    Capture(CaptureError),
    Engine(EngineError),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    args.check()?;
    let (reader, size) = open(&args.pcap)?;
    let loaded = args.inputs.load()?;
    let directions = DirectionArg::directions(args.direction);
    let plan = Plan::new(&loaded.cluster, &args.endpoint, directions, &CompileOptions::default())?;
    if plan.owners.is_empty() {
        streams::warning("no endpoint with an address in the input: every packet is nobody's");
    }
    let mut engine = AnyEngine::new(args.engine, &plan, args.stateless)?;
    let mut capture = Capture::new(reader).map_err(|e| args.capture_failure(&e))?;
    let mut out = streams::stdout();
    let mut replay = Replay {
        plan: &plan,
        tally: Tally::new(plan.attachments().map(|at| plan.image(at).decisions.len())),
        output: args.output(&plan),
        annotated: args.write.as_deref().map(Annotated::create).transpose()?,
        hits: args.profile_out.as_ref().map(|_| Hits::new(&plan)),
        progress: Progress::new(size, !args.quiet && streams::stdout_is_terminal()),
        records: Vec::new(),
        repeat: args.repeat,
    };
    let stop = replay.all(&mut engine, &mut capture, &mut out)?;
    replay.finish(&mut out)?;
    if let (Some(path), Some(hits)) = (&args.profile_out, &replay.hits) {
        fs::write(path, hits.profile(&plan).to_string())
            .map_err(|e| Failure::write(&path.display().to_string(), &e))?;
    }
    let summary = Summary::new(capture.packets(), &plan, &replay.tally);
    args.summarise(&mut out, &plan, &summary)?;
    out.flush()?;
    let faults = replay.tally.faults;
    match stop {
        Some(Stop::Capture(error)) => Err(args.capture_failure(&error)),
        Some(Stop::Engine(error)) => Err(error.into()),
        None if faults > 0 => Err(Failure::Message(
            Exit::Bug,
            format!("{faults} evaluations ended in a missing program or table; this is a bug in polc"),
        )),
        None => Ok(Exit::Ok),
    }
}

impl Args {
    /// What clap cannot say about combinations.
    fn check(&self) -> Result<(), Failure> {
        if self.repeat.is_some() && self.engine != EngineArg::Kernel {
            return Err(Failure::usage("--repeat needs --engine kernel"));
        }
        let same = |path: &PathBuf| {
            path.canonicalize().ok().is_some_and(|p| self.pcap.canonicalize().ok() == Some(p))
        };
        if self.write.as_ref().is_some_and(same) {
            return Err(Failure::usage("--write would overwrite the capture that is read"));
        }
        if self.profile_out.as_ref().is_some_and(same) {
            return Err(Failure::usage("--profile-out would overwrite the capture that is read"));
        }
        if is_stdin(&self.pcap) && self.inputs.use_stdin() {
            return Err(Failure::usage("standard input cannot be both INPUT and --pcap"));
        }
        Ok(())
    }

    fn output(&self, plan: &Plan) -> Output {
        // Packets of nobody are worth a row, except where some endpoints were asked for.
        let narrowed = !self.endpoint.is_empty() || self.direction.is_some() || plan.owners.is_empty();
        match (self.quiet, self.output) {
            (true, _) => Output::Quiet,
            (false, Format::Table) => {
                let rows = table::Records::new(streams::stdout_color(), self.repeat.is_some());
                Output::Table { rows: Box::new(rows), narrowed }
            }
            (false, Format::Json) => Output::Json,
        }
    }

    /// JSON has one line per evaluation and nothing else, unless only the
    /// summary was asked for.
    fn summarise(&self, out: &mut impl Write, plan: &Plan, summary: &Summary<'_>) -> io::Result<()> {
        match (self.output, self.quiet) {
            (Format::Json, true) => json::write_summary(out, plan, summary),
            (Format::Json, false) => Ok(()),
            (Format::Table, quiet) => {
                if !quiet && summary.packets > 0 {
                    writeln!(out)?;
                }
                table::write_summary(out, summary, streams::stdout_color())
            }
        }
    }

    fn capture_failure(&self, error: &CaptureError) -> Failure {
        Failure::usage(format!("{}: {error}", self.pcap.display()))
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens the capture; tells its size where it is a regular file.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if is_stdin(path) {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let failure = |e: io::Error| Failure::usage(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(failure)?;
    let metadata = file.metadata().map_err(failure)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{}: is a folder, not a capture", path.display())));
    }
    let size = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), size))
}

/// A replay under way.
struct Replay<'a> {
    plan: &'a Plan,
    tally: Tally,
    output: Output,
    annotated: Option<Annotated<BufWriter<File>>>,
    hits: Option<Hits>,
    progress: Progress,
    /// Records of the packet at hand; reused.
    records: Vec<Record>,
    repeat: Option<u32>,
}

impl Replay<'_> {
    /// Replays every packet; says why it stopped early, if it did.
    fn all(
        &mut self,
        engine: &mut AnyEngine,
        capture: &mut Capture<Box<dyn Read>>,
        out: &mut streams::Stdout,
    ) -> Result<Option<Stop>, Failure> {
        loop {
            self.progress.at(capture.packets(), capture.offset());
            let packet = match capture.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(Stop::Capture(error))),
            };
            self.records.clear();
            let (tally, records) = (&mut self.tally, &mut self.records);
            let result = replay(engine, &self.plan.owners, (&packet).into(), |record| {
                tally.add(&record);
                records.push(record);
            });
            for record in &self.records {
                // The kernel does not run what has no Ethernet header.
                let at = record.at.filter(|_| !matches!(record.decided_by, DecidedBy::Malformed(_)));
                let timing = match (self.repeat, at) {
                    (Some(runs), Some(at)) => match engine.time(at, (&packet).into(), runs) {
                        Ok(timing) => timing,
                        Err(error) => return Ok(Some(Stop::Engine(error))),
                    },
                    _ => None,
                };
                self.output.record(out, self.plan, &packet, record, timing)?;
                if let Some(hits) = &mut self.hits {
                    hits.add(self.plan, packet.frame, record);
                }
            }
            if let Some(annotated) = &mut self.annotated {
                annotated.packet(self.plan, &packet, &self.records)?;
            }
            if let Err(error) = result {
                return Ok(Some(Stop::Engine(error)));
            }
        }
    }

    fn finish(&mut self, out: &mut streams::Stdout) -> Result<(), Failure> {
        self.progress.finish();
        self.output.finish(out)?;
        match self.annotated.take() {
            Some(annotated) => annotated.finish(),
            None => Ok(()),
        }
    }
}
