//! `polc conntrack dump|sweep`: tracked connections.

use std::io::Write;

use polc_compiler::abi::conntrack::{Key, Leg, State};
use polc_runtime::kernel::Connection;
use serde::Serialize;

use super::bpffs::{BpfFs, Format};
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Arguments.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Print every tracked connection
    Dump {
        /// Form of the output
        #[arg(short, long, default_value = "table")]
        output: Format,

        #[command(flatten)]
        bpffs: BpfFs,
    },
    /// Delete the connections whose time is over. They count as none already; the
    /// memory is given back
    Sweep {
        #[command(flatten)]
        bpffs: BpfFs,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut out = streams::stdout();
    match args {
        Args::Sweep { bpffs } => writeln!(out, "deleted {}", bpffs.view()?.sweep()?)?,
        Args::Dump { output, bpffs } => {
            let mut found = bpffs.view()?.connections()?;
            found.live.sort_by_key(|c| (c.key.endpoint, c.value.created, order(&c.key)));
            match output {
                Format::Table => {
                    for connection in &found.live {
                        writeln!(out, "{}", line(connection, found.now))?;
                    }
                }
                Format::Json => {
                    let document = Document {
                        api_version: "polc/v1",
                        kind: "Connections",
                        over: found.over,
                        connections: found.live.iter().map(|c| Entry::new(c, found.now)).collect(),
                    };
                    serde_json::to_writer_pretty(&mut out, &document).map_err(std::io::Error::from)?;
                    writeln!(out)?;
                }
            }
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

/// What tells two keys of one endpoint apart.
fn order(key: &Key) -> (std::net::IpAddr, u16, std::net::IpAddr, u16, u8) {
    (key.local, key.local_port, key.remote, key.remote_port, key.protocol)
}

/// As Calico's tool prints it: A is the opener.
fn line(connection: &Connection, now: u64) -> String {
    let (key, value) = (&connection.key, &connection.value);
    let (a, b) = sides(connection);
    let (a2b, b2a) = legs(connection);
    format!(
        "ConntrackKey{{proto={} {a} <-> {b}}} -> Entry{{Type:0, Created:{}, LastSeen:{}, Flags:{}, \
         A2B:{} B2A:{}}} Age: {} Active ago {} {}",
        key.protocol,
        value.created,
        value.last_seen,
        if value.opened_by_egress { "<egress>" } else { "<ingress>" },
        leg(a2b, true),
        leg(b2a, false),
        span(now.saturating_sub(value.created)),
        span(now.saturating_sub(value.last_seen)),
        state(value.state(key)),
    )
}

/// Opener and answerer.
fn sides(connection: &Connection) -> (String, String) {
    let key = &connection.key;
    let local = place(key.local, key.local_port);
    let remote = place(key.remote, key.remote_port);
    if connection.value.opened_by_egress { (local, remote) } else { (remote, local) }
}

/// What was seen from the opener, and towards it.
fn legs(connection: &Connection) -> (Leg, Leg) {
    let value = &connection.value;
    if value.opened_by_egress { (value.egress, value.ingress) } else { (value.ingress, value.egress) }
}

fn place(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn leg(leg: Leg, opener: bool) -> String {
    format!(
        "{{SynSeen:{} AckSeen:{} FinSeen:{} RstSeen:{} Opener:{opener}}}",
        leg.syn, leg.ack, leg.fin, leg.rst
    )
}

/// Nanoseconds as Go prints a duration that was rounded to ten milliseconds.
fn span(ns: u64) -> String {
    let hundredths = ns / 10_000_000;
    let (minutes, rest) = (hundredths / 6000, hundredths % 6000);
    let seconds = format!("{}.{:02}", rest / 100, rest % 100);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::HalfClosed => "HALF-CLOSED",
        State::Closed => "CLOSED",
        State::Reset => "RESET",
        State::UdpUnreplied => "UNREPLIED",
        State::UdpAssured => "ASSURED",
        State::Echo => "ECHO",
        State::Other => "OTHER",
    }
}

/// `docs/schema/conntrack.schema.json` describes it.
#[derive(Serialize)]
struct Document {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    over: usize,
    connections: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    endpoint: u32,
    protocol: u8,
    opened_by: &'static str,
    local: String,
    local_port: u16,
    remote: String,
    remote_port: u16,
    state: &'static str,
    age_ns: u64,
    idle_ns: u64,
    timeout_ns: u64,
    generation: u32,
}

impl Entry {
    fn new(connection: &Connection, now: u64) -> Self {
        let (key, value) = (&connection.key, &connection.value);
        let is = value.state(key);
        Self {
            endpoint: key.endpoint,
            protocol: key.protocol,
            opened_by: if value.opened_by_egress { "egress" } else { "ingress" },
            local: key.local.to_string(),
            local_port: key.local_port,
            remote: key.remote.to_string(),
            remote_port: key.remote_port,
            state: state(is),
            age_ns: now.saturating_sub(value.created),
            idle_ns: now.saturating_sub(value.last_seen),
            timeout_ns: is.timeout(),
            generation: value.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let cases = [
            (15_220_000_000, "15.22s"),
            (0, "0s"),
            (900_000_000, "0.9s"),
            (61_000_000_000, "1m1s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (ns, want) in cases {
            assert_eq!(span(ns), want);
        }
    }
}
