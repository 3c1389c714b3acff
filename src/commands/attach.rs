//! `polc attach`: compile an endpoint's policy and enforce it at an interface.

use clap::ValueEnum;
use polc_compiler::abi::failsafe::Port;
use polc_compiler::compile::CompileOptions;
use polc_compiler::emit::EmitOptions;
use polc_compiler::image::{OpenExit, for_xdp, source_lines};
use polc_compiler::ir::{Direction, PolicyIr};
use polc_compiler::resolve::{Cluster, Endpoint, EndpointKind};
use polc_runtime::kernel::{AttachRequest, Dataplane, Failsafe, Hook, Policy, SetRecord, Untracked, support};

use super::bpffs::{BpfFs, Wait};
use super::{DirectionArg, EndpointArg};
use crate::exit::{Exit, Failure};
use crate::inputs::Inputs;
use crate::output as streams;
use crate::programs::{self, Programs};

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
enum HookArg {
    /// What is there already, else tcx where the kernel has it (6.6), else clsact
    Auto,
    /// tcx links
    Tcx,
    /// Filters of the clsact qdisc
    Clsact,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let loaded = args.inputs.load()?;
    let endpoint = programs::endpoints(&loaded.cluster, std::slice::from_ref(&args.endpoint))?[0];
    let data = &loaded.cluster.endpoints()[endpoint];
    let limits = EmitOptions { count: true, ..EmitOptions::default() };
    let options = CompileOptions { limits, ..CompileOptions::default() };
    let mut programs = Programs::new(&options);
    for direction in DirectionArg::directions(None) {
        programs.endpoint(&loaded.cluster, endpoint, *direction)?;
    }
    let mut untracked = [None, None];
    for (direction, found) in DirectionArg::directions(None).iter().zip(&mut untracked) {
        if let Some((ir, pass)) = loaded.cluster.resolve_untracked(endpoint, *direction) {
            *found = Some((programs.add(ir, Vec::new())?, pass.as_u32()));
        }
    }
    let programs = programs.into_list();
    let sets: Vec<_> = programs.iter().map(|p| sets(&p.ir)).collect();
    let lines = source_lines(&loaded.sources);
    let policy = |direction: Direction| {
        let index = usize::from(direction == Direction::Egress);
        Policy { image: &programs[index].image, xdp: false, sets: &sets[index], lines: &lines }
    };
    let at_xdp = match untracked[0] {
        Some((index, _)) => Some(for_xdp(&programs[index].image).map_err(|e| bug(&e))?),
        None => None,
    };
    let untracked_policy = |direction: Direction| {
        let egress = direction == Direction::Egress;
        let (index, pass_decision) = untracked[usize::from(egress)]?;
        let image = at_xdp.as_ref().filter(|_| !egress).unwrap_or(&programs[index].image);
        let policy = Policy { image, xdp: !egress, sets: &sets[index], lines: &lines };
        Some(Untracked { policy: Some(policy), pass_decision })
    };

    let support = support::check(&args.bpffs.path, args.mount_bpffs)
        .inspect_err(|_| streams::log("ERROR", support::NOT_SUPPORTED))?;
    streams::log("INFO", support::ENABLED);
    if !support.jit {
        streams::warning("programs are interpreted: set net.core.bpf_jit_enable to 1");
    }
    let mut plane = Dataplane::open(&args.bpffs.path, args.wait.duration())?;
    let report = plane.attach(&AttachRequest {
        interface: &args.interface,
        endpoint: &args.endpoint.to_string(),
        host: args.host || data.kind == EndpointKind::Host,
        hook: match args.hook {
            HookArg::Auto => None,
            HookArg::Tcx => Some(Hook::Tcx),
            HookArg::Clsact => Some(Hook::Clsact),
        },
        flags: 0,
        recheck: args.recheck_established,
        failsafes: &failsafes(&loaded.cluster, endpoint),
        ingress: Some(policy(Direction::Ingress)),
        egress: Some(policy(Direction::Egress)),
        untracked_ingress: untracked_policy(Direction::Ingress),
        untracked_egress: untracked_policy(Direction::Egress),
    })?;
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

fn bug(error: &OpenExit) -> Failure {
    Failure::Message(Exit::Bug, format!("untracked policy at XDP: {error}"))
}

/// The failsafe ports of a host endpoint.
fn failsafes(cluster: &Cluster, endpoint: Endpoint) -> Vec<Failsafe> {
    let of = |direction: &Direction| {
        let egress = *direction == Direction::Egress;
        let ports = cluster.failsafe_ports(endpoint, *direction);
        ports
            .into_iter()
            .map(move |(protocol, port, net)| Failsafe { port: Port { egress, protocol, port }, net })
    };
    DirectionArg::directions(None).iter().flat_map(of).collect()
}

/// The sets of a policy, for `polc ipsets dump`.
fn sets(ir: &PolicyIr) -> Vec<SetRecord> {
    let set = |set: &polc_compiler::ir::AddrSetData| SetRecord {
        name: set.name.clone(),
        members: set.nets.iter().map(ToString::to_string).collect(),
    };
    ir.sets.values().map(set).collect()
}
