//! One module per subcommand.

#[cfg(target_os = "linux")]
mod agent;
#[cfg(target_os = "linux")]
mod attach;
#[cfg(target_os = "linux")]
mod bpffs;
mod check;
mod compile;
#[cfg(target_os = "linux")]
mod conntrack;
#[cfg(target_os = "linux")]
mod counters;
#[cfg(target_os = "linux")]
mod detach;
mod explain;
#[cfg(target_os = "linux")]
mod ipsets;
#[cfg(target_os = "linux")]
mod log;
mod manual;
#[cfg(target_os = "linux")]
mod policy;
mod run;
#[cfg(target_os = "linux")]
mod status;

use clap::{Parser, Subcommand, ValueEnum};
use polc_compiler::ir::Direction;

use crate::exit::{Exit, Failure};

/// Network-policy compiler: Kubernetes and Calico policy to eBPF
#[derive(Parser, Debug)]
#[command(name = "polc", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 finding or difference, 2 usage or unreadable input, \
3 invalid policy, 4 limit or verifier refusal, 70 a bug in polc.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Say what is wrong with policy, and what is legal and probably not meant
    Check(check::Args),
    /// Compile policy and print or write the programs
    Compile(compile::Args),
    /// Replay a capture through compiled policy and say what decides each packet
    Run(run::Args),
    /// Say why one packet is allowed or denied, rule by rule
    Explain(Box<explain::Args>),
    /// Enforce an endpoint's policy at an interface (again: replaces it in place)
    #[cfg(target_os = "linux")]
    Attach(attach::Args),
    /// Enforce policy at several interfaces and follow changes of the input, until SIGTERM
    #[cfg(target_os = "linux")]
    Agent(agent::Args),
    /// Take policy off an interface
    #[cfg(target_os = "linux")]
    Detach(detach::Args),
    /// Show what is attached
    #[cfg(target_os = "linux")]
    Status(status::Args),
    /// Packets by what became of them
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Counters(counters::Args),
    /// Address sets of the policies in force
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Ipsets(ipsets::Args),
    /// Tracked connections
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Conntrack(conntrack::Args),
    /// The policy in force at an interface, with hit counters
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Policy(policy::Args),
    /// Follow what is decided about each packet, or switch that on or off
    #[cfg(target_os = "linux")]
    Log(log::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff
    Man,
}

/// Runs the subcommand.
pub fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Explain(args) => explain::run(&args),
        #[cfg(target_os = "linux")]
        Command::Attach(args) => attach::run(&args),
        #[cfg(target_os = "linux")]
        Command::Agent(args) => agent::run(&args),
        #[cfg(target_os = "linux")]
        Command::Detach(args) => detach::run(&args),
        #[cfg(target_os = "linux")]
        Command::Status(args) => status::run(&args),
        #[cfg(target_os = "linux")]
        Command::Counters(args) => counters::run(&args),
        #[cfg(target_os = "linux")]
        Command::Ipsets(args) => ipsets::run(&args),
        #[cfg(target_os = "linux")]
        Command::Conntrack(args) => conntrack::run(&args),
        #[cfg(target_os = "linux")]
        Command::Policy(args) => policy::run(&args),
        #[cfg(target_os = "linux")]
        Command::Log(args) => log::run(&args),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man => manual::man(),
    }
}

/// `--direction`.
#[derive(ValueEnum, Copy, Clone, Debug)]
pub enum DirectionArg {
    /// Packets towards the endpoint
    Ingress,
    /// Packets from the endpoint
    Egress,
}

impl DirectionArg {
    /// The directions that an optional argument leaves, in the order of output.
    pub fn directions(of: Option<Self>) -> &'static [Direction] {
        match of {
            None => &[Direction::Ingress, Direction::Egress],
            Some(Self::Ingress) => &[Direction::Ingress],
            Some(Self::Egress) => &[Direction::Egress],
        }
    }
}

/// `--endpoint`: a pod's namespace and name, or a host endpoint's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointArg {
    /// Namespace; `None` for a host endpoint.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for EndpointArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl std::str::FromStr for EndpointArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: Some(namespace.into()), name: name.into() })
            }
            None if !text.is_empty() => Ok(Self { namespace: None, name: text.into() }),
            _ => Err("expected NAMESPACE/NAME, for example default/web-0, or a host endpoint's NAME".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_definitions_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn endpoints_have_a_name_and_a_namespace_unless_they_are_hosts() {
        for (text, namespace, name) in [("shop/web-0", Some("shop"), "web-0"), ("node-1", None, "node-1")] {
            let want = EndpointArg { namespace: namespace.map(Into::into), name: name.into() };
            assert_eq!(text.parse(), Ok(want));
            assert_eq!(text.parse::<EndpointArg>().map(|arg| arg.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "/web", "shop/", "a/b/c"] {
            assert!(bad.parse::<EndpointArg>().is_err(), "{bad}");
        }
    }
}
