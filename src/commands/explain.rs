//! `polc explain`: why one packet is allowed or denied.

mod evaluate;
mod json;
mod packet;
mod subject;
mod text;

use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use polc_compiler::ir::Verdict;

use super::{DirectionArg, EndpointArg};
use crate::exit::{Exit, Failure};
use crate::inputs::Inputs;
use crate::output as streams;

use evaluate::Section;
use packet::PacketSpec;
use subject::Subject;

/// Arguments of `polc explain`.
#[derive(clap::Args, Debug)]
#[command(after_help = GRAMMAR)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// The packet in words, as a connection's first; see below
    #[arg(long, value_name = "PACKET", required_unless_present = "pcap", conflicts_with_all = ["pcap", "index"])]
    packet: Option<PacketSpec>,

    /// Capture that holds the packet: pcap or pcapng
    #[arg(long, value_name = "FILE", requires = "index")]
    pcap: Option<PathBuf>,

    /// Number of the packet in the capture, from 0
    #[arg(long, value_name = "N", requires = "pcap")]
    index: Option<u64>,

    /// Only at this pod (or host endpoint); may be repeated
    #[arg(long, value_name = "NS/NAME")]
    endpoint: Vec<EndpointArg>,

    /// Only in this direction
    #[arg(long)]
    direction: Option<DirectionArg>,

    /// Take a capture's packet as a connection's first, whatever came before it
    /// (a --packet always is)
    #[arg(long)]
    stateless: bool,

    /// Form of the output
    #[arg(short, long, default_value = "text")]
    output: Format,

    /// Leave the instructions out (text)
    #[arg(short, long)]
    quiet: bool,
}

const GRAMMAR: &str = "\
PACKET is `PROTO SRC[:PORT] > DST[:PORT] [type N [code N]]`. PROTO is tcp, udp, sctp, icmp, icmpv6 or a \
number; SRC and DST are addresses ([fd00::1]:80 with a port) or pods as NAMESPACE/NAME:

  polc explain cluster.yaml policy.yaml --packet 'tcp shop/web-0 > 10.1.0.2:443'
  polc explain cluster.yaml policy.yaml --packet 'icmp 10.0.0.1 > shop/web-0 type 8 code 0'
  polc explain cluster.yaml policy.yaml --pcap traffic.pcap --index 12";

/// `-o`.
#[derive(ValueEnum, Copy, Clone, Debug, PartialEq, Eq)]
enum Format {
    /// For people
    Text,
    /// One object
    Json,
}

/// Everything that is said about one packet.
struct Report {
    subject: Subject,
    stateless: bool,
    sections: Vec<Section>,
}

impl Report {
    /// Every endpoint that was asked must allow the packet.
    fn verdict(&self) -> Verdict {
        let denies =
            self.subject.is_unreadable() || self.sections.iter().any(|s| s.record.verdict == Verdict::Deny);
        if denies { Verdict::Deny } else { Verdict::Allow }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let loaded = args.inputs.load()?;
    let cluster = &loaded.cluster;
    let subject = match (&args.packet, &args.pcap, args.index) {
        (Some(spec), ..) => Subject::of_spec(spec, cluster)?,
        (None, Some(path), Some(index)) => Subject::of_capture(path, index)?,
        _ => return Err(Failure::usage("give --packet, or --pcap with --index")),
    };
    let stateless = args.stateless || args.packet.is_some();
    let history = args.pcap.as_deref().filter(|_| !stateless);
    let wanted = evaluate::Wanted {
        endpoints: crate::programs::endpoints(cluster, &args.endpoint)?,
        directions: DirectionArg::directions(args.direction),
    };
    let sections = evaluate::sections(cluster, &subject, &wanted, history, stateless)?;
    let report = Report { subject, stateless, sections };
    let mut out = streams::stdout();
    match args.output {
        Format::Text => text::write(&mut out, cluster, &report, !args.quiet)?,
        Format::Json => json::write(&mut out, &report)?,
    }
    out.flush()?;
    Ok(Exit::Ok)
}
