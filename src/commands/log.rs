//! `polc log`: what is decided about each packet, as it happens.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use polc_compiler::abi;
use polc_compiler::ir::protocol;
use polc_runtime::kernel::{ImageRecord, InterfaceRecord, LogRecord, Place, View};
use polc_runtime::sys::{Termination, interface_name};
use serde::Serialize;

use super::bpffs::{BpfFs, Format};
use super::policy;
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Longest wait for a record before the next look at the time.
const TICK: Duration = Duration::from_millis(100);

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Switch the log on and return
    #[arg(long, conflicts_with = "off")]
    on: bool,

    /// Switch the log off and return
    #[arg(long)]
    off: bool,

    /// Only packets of this interface
    #[arg(short, long = "iface", visible_alias = "interface", value_name = "IFACE")]
    interface: Option<String>,

    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,

    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,

    /// Form of the output: lines, or one JSON object per line
    #[arg(short, long, default_value = "table")]
    output: Format,

    #[command(flatten)]
    bpffs: BpfFs,
}

/// Runs the command: follows the log, which is on as long as it is followed (until
/// SIGINT or SIGTERM, at last), unless it was on before.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let view = args.bpffs.view()?;
    let ifindex = match &args.interface {
        Some(name) => Some(view.record(name).map(|record| record.ifindex)?),
        None => None,
    };
    let nothing = || Failure::usage("nothing is attached: there is no log");
    if args.on || args.off {
        return if view.switch_log(args.on, ifindex)? { Ok(Exit::Ok) } else { Err(nothing()) };
    }
    // Either signal ends the following, not the process: the log is switched off then.
    let termination = Termination::hold().map_err(|e| Failure::usage(e.to_string()))?;
    let before = view.settings()?;
    let mut log = view.log()?.ok_or_else(nothing)?;
    let was_on = before.flags & abi::config::SETTING_LOG != 0;
    if !was_on {
        view.switch_log(true, ifindex)?;
    }
    let stopped = || termination.wait(Duration::ZERO).unwrap_or(true);
    let outcome = follow(args, &view, &mut log, ifindex, stopped);
    if !was_on {
        view.switch_log(false, None)?;
    }
    outcome.map(|()| Exit::Ok)
}

fn follow(
    args: &Args,
    view: &View,
    log: &mut polc_runtime::kernel::Log,
    ifindex: Option<u32>,
    stopped: impl Fn() -> bool,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut out = streams::stdout();
    let mut names = Names::new(view);
    let mut left = args.count.unwrap_or(u64::MAX);
    let over = || args.seconds.is_some_and(|s| start.elapsed() >= Duration::from_secs(s));
    while left > 0 && !over() && !stopped() {
        let mut records = Vec::new();
        log.read(TICK, |record| records.push(record))?;
        for record in records.iter().filter(|r| ifindex.is_none_or(|i| i == r.ifindex)) {
            if left == 0 {
                break;
            }
            left -= 1;
            match args.output {
                Format::Table => writeln!(out, "{}", names.line(record))?,
                Format::Json => {
                    serde_json::to_writer(&mut out, &names.json(record)).map_err(std::io::Error::from)?;
                    writeln!(out)?;
                }
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// From numbers to names; looked up when they first come.
struct Names<'a> {
    view: &'a View,
    images: HashMap<(u32, bool), Option<ImageRecord>>,
}

/// One packet. `docs/schema/log.schema.json` describes it.
#[derive(Serialize)]
struct Line {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    interface: String,
    direction: &'static str,
    verdict: &'static str,
    reason: &'static str,
    protocol: u8,
    src: String,
    dst: String,
    /// Source and destination port; of ICMP, type and code.
    detail: (u16, u16),
    time_ns: u64,
    spent_ns: u64,
    rule: Option<String>,
    at: Option<String>,
    line: Option<String>,
}

impl<'a> Names<'a> {
    fn new(view: &'a View) -> Self {
        Self { view, images: HashMap::new() }
    }

    /// The image whose policy decided.
    fn image(&mut self, record: &LogRecord) -> Option<&ImageRecord> {
        let view = self.view;
        let find = || {
            let all = view.attachments().ok()?;
            let place = all.iter().find_map(|attachment| decider(&attachment.record, record))?;
            view.image(place).ok()
        };
        self.images.entry((record.row, record.untracked)).or_insert_with(find).as_ref()
    }

    fn json(&mut self, record: &LogRecord) -> Line {
        let policy = record.reason == abi::REASON_POLICY;
        let image = if policy { self.image(record) } else { None };
        let decision = image.and_then(|image| {
            let decision = image.decisions.get(record.decision? as usize)?;
            Some((policy::words(decision), policy::at(image, decision), decision.text.clone()))
        });
        let (rule, at, line) = decision.map_or((None, None, None), |(rule, at, line)| (Some(rule), at, line));
        let reason = abi::REASONS.iter().find(|(value, _)| *value == record.reason);
        Line {
            api_version: "polc/v1",
            interface: interface_name(record.ifindex).unwrap_or_else(|| record.ifindex.to_string()),
            direction: if record.egress { "egress" } else { "ingress" },
            verdict: if record.verdict == abi::VERDICT_ALLOW { "allow" } else { "deny" },
            reason: reason.map_or("unknown", |(_, name)| name),
            protocol: record.protocol,
            src: record.src.to_string(),
            dst: record.dst.to_string(),
            detail: record.detail,
            time_ns: record.time,
            spent_ns: record.spent,
            rule,
            at,
            line,
        }
    }

    /// The line that users of Calico's log know, then what they ask for.
    fn line(&mut self, record: &LogRecord) -> String {
        let line = self.json(record);
        // Theirs shows tc's verdict: -1 goes on, 2 is dropped.
        let (result, code) = if line.verdict == "allow" { ("ALLOW", -1) } else { ("DENY", 2) };
        let direction = if record.egress { 'E' } else { 'I' };
        let mut text = format!(
            "{:-<8}-{direction}: Final result={result} ({code}). Program execution time: {}ns  {}",
            line.interface,
            line.spent_ns,
            packet(record)
        );
        match (&line.rule, &line.at) {
            (Some(rule), Some(at)) => text.push_str(&format!("  {rule} ({at})")),
            (Some(rule), None) => text.push_str(&format!("  {rule}")),
            _ => text.push_str(&format!("  {}", line.reason)),
        }
        if let Some(yaml) = &line.line {
            text.push_str(&format!("  {yaml}"));
        }
        text
    }
}

/// The policy of an attachment that has a record's row of counters and decided.
fn decider<'a>(attachment: &'a InterfaceRecord, record: &LogRecord) -> Option<&'a Place> {
    let at_xdp = attachment.untracked_ingress.as_ref().filter(|u| u.counters == record.row);
    let egress = attachment.untracked_egress.as_ref().filter(|_| attachment.egress.slot == record.row);
    if record.untracked {
        at_xdp.map(|u| &u.place).or(egress.map(|u| &u.place))
    } else {
        [&attachment.ingress, &attachment.egress].into_iter().find(|place| place.slot == record.row)
    }
}

fn packet(record: &LogRecord) -> String {
    let (one, two) = record.detail;
    match record.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let name = match record.protocol {
                protocol::TCP => "TCP",
                protocol::UDP => "UDP",
                _ => "SCTP",
            };
            let place = |address, port| std::net::SocketAddr::new(address, port);
            format!("{name} {} -> {}", place(record.src, one), place(record.dst, two))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            format!("ICMP {one}/{two} {} -> {}", record.src, record.dst)
        }
        other => format!("protocol {other} {} -> {}", record.src, record.dst),
    }
}
