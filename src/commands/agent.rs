//! `polc agent`: enforce policy at several interfaces, and follow changes of the input.
//!
//! One loop, a turn each `--poll`: when an input changed, everything is read and
//! resolved again; when that or the interfaces changed, or something failed a while
//! ago, what differs is applied: members by stores to tables in force, the rest as new
//! programs; at intervals connections that are over are swept, and policy that somebody
//! else took off is put back.
//! Input that cannot be enforced leaves what is in force, and so does the agent's end.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;
use std::time::{Duration, Instant};

use polc_compiler::compile::CompileOptions;
use polc_compiler::diag::Sources;
use polc_compiler::image::source_lines;
use polc_runtime::agent::{Agent, EndpointPolicy, Outcome, Step, Sweeps};
use polc_runtime::sys::{Termination, interface_index};

use super::EndpointArg;
use super::attach::{HookArg, start};
use super::bpffs::{BpfFs, Wait};
use crate::enforced::{Followed, Resolved, options};
use crate::exit::{Exit, Failure};
use crate::inputs::{Inputs, Loaded};
use crate::output as streams;

/// How long after a failure the same is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Interface and the endpoint whose policy is enforced there, while the interface
    /// exists; may be repeated. Attachments to other interfaces are removed
    #[arg(long = "at", value_name = "IFACE=NS/NAME", required = true)]
    places: Vec<Place>,

    /// How programs are attached
    #[arg(long, default_value = "auto")]
    hook: HookArg,

    /// Ask each new policy again about connections that the old one allowed; without
    /// this they go on
    #[arg(long)]
    recheck_established: bool,

    /// Milliseconds between two looks at the input and the interfaces
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    poll: u64,

    /// Seconds between two sweeps of connections that are over
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    sweep: u64,

    /// Mount a bpffs where none is
    #[arg(long)]
    mount_bpffs: bool,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    bpffs: BpfFs,
}

/// `--at`.
#[derive(Clone, Debug)]
struct Place {
    interface: String,
    endpoint: EndpointArg,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((interface, endpoint)) if !interface.is_empty() => {
                Ok(Self { interface: interface.into(), endpoint: endpoint.parse()? })
            }
            _ => Err("expected IFACE=NAMESPACE/NAME, for example cali0=shop/web-0".into()),
        }
    }
}

/// What the input says is to be enforced, place by place.
struct Wanted {
    loaded: Loaded,
    followed: Vec<Followed>,
}

impl Wanted {
    fn resolve(args: &Args, options: &CompileOptions, sources: Sources) -> Result<Self, Failure> {
        let loaded = Loaded::new(sources)?;
        let mut resolved = Resolved::new(options.clone());
        let endpoint = |place: &Place| resolved.endpoint(&loaded.cluster, &place.endpoint);
        let followed = args.places.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(Self { loaded, followed })
    }

    /// Has it enforced at the interfaces that are there: whether all of that was done.
    fn apply(&self, args: &Args, agent: &mut Agent, indices: &[Option<u32>]) -> bool {
        let lines = source_lines(&self.loaded.sources);
        let there = args.places.iter().zip(&self.followed).zip(indices).filter(|(_, index)| index.is_some());
        let requests: Vec<EndpointPolicy<'_>> = there
            .map(|((place, followed), _)| EndpointPolicy {
                hook: args.hook.hook(),
                recheck: args.recheck_established,
                ..followed.request(&place.interface, &lines)
            })
            .collect();
        match agent.apply(&requests) {
            Ok(outcomes) => {
                outcomes.iter().for_each(say);
                outcomes.iter().all(|outcome| outcome.error.is_none())
            }
            Err(e) => {
                streams::log("ERROR", &e.to_string());
                false
            }
        }
    }
}

/// Tells the text of one reading from that of another.
fn fingerprint(sources: &Sources) -> u64 {
    let mut hasher = DefaultHasher::new();
    sources.iter().for_each(|(_, file)| (&file.name, &file.text).hash(&mut hasher));
    hasher.finish()
}

fn say(outcome: &Outcome) {
    let interface = outcome.step.interface();
    let (done, failed) = match outcome.step {
        Step::Attach(_) => ("attached", "not attached"),
        Step::Replace(_) => ("policy replaced", "policy not replaced, the old one stays in force"),
        Step::Members(_) => ("members changed", "members not changed, the old ones stay in force"),
        Step::Detach(_) => ("detached", "not detached"),
    };
    match &outcome.error {
        None => streams::log("INFO", &format!("{interface}: {done}")),
        Some(e) => streams::log("ERROR", &format!("{interface}: {failed}: {e}")),
    }
}

/// Whether somebody else took policy off an interface; it is put back as far as it can be
/// without being attached anew.
fn mend(agent: &mut Agent) -> bool {
    match agent.mend() {
        Ok(names) => {
            let said = "policy was taken off by somebody else, and is put back";
            names.iter().for_each(|name| streams::log("WARNING", &format!("{name}: {said}")));
            !names.is_empty()
        }
        Err(e) => {
            streams::log("ERROR", &format!("putting policy back: {e}"));
            false
        }
    }
}

/// Runs the command, until SIGTERM or SIGINT.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.inputs.use_stdin() {
        return Err(Failure::usage("an agent follows files and folders, not standard input"));
    }
    let termination = Termination::hold().map_err(|e| Failure::usage(e.to_string()))?;
    let mut stamps = args.inputs.stamps();
    let sources = args.inputs.read()?;
    let mut read = fingerprint(&sources);
    // Asked for once: what the kernel takes does not change, and policy is not to.
    let options = options();
    let mut wanted = Wanted::resolve(args, &options, sources)?;
    start(&args.bpffs.path, args.mount_bpffs)?;
    let mut agent = Agent::start(&args.bpffs.path, args.wait.duration())?;
    let mut sweeps = Sweeps::new(Duration::from_secs(args.sweep), Instant::now());
    let mut applied: Option<Vec<Option<u32>>> = None;
    let mut retry = None;
    loop {
        let indices = args.places.iter().map(|place| interface_index(&place.interface).ok()).collect();
        if applied.as_ref() != Some(&indices) || retry.is_some_and(|at| Instant::now() >= at) {
            let done = wanted.apply(args, &mut agent, &indices);
            retry = if done { None } else { Some(Instant::now() + RETRY) };
            applied = Some(indices);
        }
        if sweeps.due(Instant::now()) {
            if let Err(e) = agent.sweep() {
                streams::log("ERROR", &format!("sweeping connections: {e}"));
            }
            if mend(&mut agent) {
                applied = None;
                continue;
            }
        }
        if termination.wait(Duration::from_millis(args.poll)).map_err(|e| Failure::usage(e.to_string()))? {
            streams::log("INFO", "stopped; what is in force stays in force");
            agent.close()?;
            return Ok(Exit::Ok);
        }
        let now = args.inputs.stamps();
        if !stamps.differ(&now) {
            continue;
        }
        stamps = now;
        let outcome = args.inputs.read().and_then(|sources| {
            let before = std::mem::replace(&mut read, fingerprint(&sources));
            if before == read { Ok(None) } else { Wanted::resolve(args, &options, sources).map(Some) }
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(new)) => {
                wanted = new;
                applied = None;
            }
            Err(failure) => {
                failure.report();
                streams::log("ERROR", "the input cannot be enforced; what is in force stays in force");
            }
        }
    }
}
