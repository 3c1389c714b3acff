//! `polc attach`: compile an endpoint's policy and enforce it at an interface.

use std::path::Path;

use clap::ValueEnum;
use polc_compiler::image::source_lines;
use polc_runtime::kernel::{AttachRequest, Dataplane, Hook, support};

use super::EndpointArg;
use super::bpffs::{BpfFs, Wait};
use crate::enforced::Enforced;
use crate::exit::{Exit, Failure};
use crate::inputs::Inputs;
use crate::output as streams;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Interface to attach to: of a workload, the host's end of its link
    #[arg(short, long, value_name = "IFACE")]
    interface: String,

    /// Endpoint whose policy is enforced: a pod, or a host endpoint by its name alone
    #[arg(short, long, value_name = "NS/NAME")]
    endpoint: EndpointArg,

    /// How programs are attached
    #[arg(long, default_value = "auto")]
    hook: HookArg,

    /// Treat the interface as the endpoint's own: ingress is what comes in through it.
    /// Host endpoints are always treated so
    #[arg(long)]
    host: bool,

    /// Ask the new policy again about connections that the old one allowed; without
    /// this they go on
    #[arg(long)]
    recheck_established: bool,

    /// Mount a bpffs where none is
    #[arg(long)]
    mount_bpffs: bool,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    bpffs: BpfFs,
}

/// `--hook`.
#[derive(ValueEnum, Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum HookArg {
    /// What is there already, else tcx where the kernel has it (6.6), else clsact
    Auto,
    /// tcx links
    Tcx,
    /// Filters of the clsact qdisc
    Clsact,
}

impl HookArg {
    /// The hook, if one is asked for.
    pub(super) fn hook(self) -> Option<Hook> {
        match self {
            Self::Auto => None,
            Self::Tcx => Some(Hook::Tcx),
            Self::Clsact => Some(Hook::Clsact),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let loaded = args.inputs.load()?;
    let enforced = Enforced::compile(&loaded.cluster, &args.endpoint)?;
    let lines = source_lines(&loaded.sources);
    start(&args.bpffs.path, args.mount_bpffs)?;
    let mut plane = Dataplane::open(&args.bpffs.path, args.wait.duration())?;
    let request = enforced.request(&args.interface, &lines);
    let outcome = plane.attach(&AttachRequest {
        host: args.host || request.host,
        hook: args.hook.hook(),
        recheck: args.recheck_established,
        ..request
    });
    if outcome.is_err() {
        // The reason is the error that is there already.
        let _ = plane.close();
    }
    let report = outcome?;
    let what = match (report.replaced, report.changed) {
        (false, _) => "attached",
        (true, true) => "policy replaced",
        (true, false) => "policy unchanged",
    };
    streams::log(
        "INFO",
        &format!("{}: {what} ({}, {})", args.interface, args.endpoint, report.hook.as_str()),
    );
    Ok(Exit::Ok)
}

/// Says in the words that operators look for whether policy can be enforced here.
pub(super) fn start(bpffs: &Path, mount: bool) -> Result<(), Failure> {
    let support =
        support::check(bpffs, mount).inspect_err(|_| streams::log("ERROR", support::NOT_SUPPORTED))?;
    streams::log("INFO", support::ENABLED);
    if !support.jit {
        streams::warning("programs are interpreted: set net.core.bpf_jit_enable to 1");
    }
    Ok(())
}
