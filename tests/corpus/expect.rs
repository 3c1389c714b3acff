//! `expect.txt`: one expectation a line; the README of the corpus shows the form.

use std::net::IpAddr;

use polc_compiler::diag::Severity;
use polc_compiler::ir::{Direction, Flow};
use polc_compiler::resolve::{Cluster, Endpoint};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Source port where none is written.
const ANY_PORT: u16 = 40_000;

/// One line.
#[derive(Debug)]
pub enum Expectation {
    /// A packet and what must come of it.
    Packet(Packet),
    /// A finding.
    Finding(Finding),
    /// Connections are tracked.
    Tracked,
}

/// A packet at an endpoint.
#[derive(Debug)]
pub struct Packet {
    /// The line as written.
    pub text: String,
    /// Where policy is asked.
    pub endpoint: Endpoint,
    /// For which direction.
    pub direction: Direction,
    /// The packet.
    pub flow: Flow,
    /// Verdict and who decided, and what was logged: `allow tier default`.
    pub outcome: String,
}

/// A diagnostic that must be there, or must not.
#[derive(Debug)]
pub struct Finding {
    /// The line as written.
    pub text: String,
    /// Whether it must be there.
    pub present: bool,
    /// How grave it is.
    pub severity: Severity,
    /// Its code.
    pub code: String,
    /// Line of `policy.yaml` or `cluster.yaml`: `policy.yaml:5`.
    pub at: Option<String>,
}

/// Reads a line; `None` for an empty one or a comment.
pub fn parse(line: &str, cluster: &Cluster) -> Result<Option<Expectation>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line == "tracked" {
        return Ok(Some(Expectation::Tracked));
    }
    if let Some(finding) = finding(line) {
        return Ok(Some(Expectation::Finding(finding)));
    }
    packet(line, cluster).map(|packet| Some(Expectation::Packet(packet)))
}

/// `[no] (note|warning|error) CODE [file:line]`.
fn finding(line: &str) -> Option<Finding> {
    let mut words = line.split_whitespace().peekable();
    let present = words.next_if_eq(&"no").is_none();
    let severity = match words.next()? {
        "note" => Severity::Note,
        "warning" => Severity::Warning,
        "error" => Severity::Error,
        _ => return None,
    };
    let code = words.next()?.to_owned();
    Some(Finding { text: line.into(), present, severity, code, at: words.next().map(Into::into) })
}

/// `PROTOCOL SOURCE > DESTINATION [WORDS] DIRECTION: OUTCOME`.
fn packet(line: &str, cluster: &Cluster) -> Result<Packet, String> {
    let (packet, outcome) = line.split_once(": ").ok_or("`: ` and the outcome are missing")?;
    let words: Vec<&str> = packet.split_whitespace().collect();
    let [protocol, src, ">", dst, rest @ ..] = words.as_slice() else {
        return Err("write PROTOCOL SOURCE > DESTINATION".into());
    };
    let protocol = protocol_number(protocol)?;
    let (src, sport) = side(src, cluster)?;
    let (dst, dport) = side(dst, cluster)?;
    let has_ports = matches!(protocol, TCP | UDP | SCTP);
    let has_icmp = protocol == if src.is_ipv4() { ICMP } else { ICMPV6 };
    let mut flow = Flow {
        src,
        dst,
        protocol,
        ports: has_ports.then_some((sport.unwrap_or(ANY_PORT), dport.unwrap_or(0))),
        icmp: has_icmp.then_some(if src.is_ipv4() { (8, 0) } else { (128, 0) }),
    };
    let (mut direction, mut endpoint) = (None, None);
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let mut next = || rest.next().copied().ok_or(format!("`{word}` needs a value"));
        match (*word, &mut flow.icmp) {
            ("fragment", _) => (flow.ports, flow.icmp) = (None, None),
            ("type", Some(icmp)) => icmp.0 = number(next()?)?,
            ("code", Some(icmp)) => icmp.1 = number(next()?)?,
            ("at", _) => endpoint = Some(next()?),
            ("ingress", _) => direction = Some(Direction::Ingress),
            ("egress", _) => direction = Some(Direction::Egress),
            _ => return Err(format!("`{word}` has no meaning here")),
        }
    }
    if flow.ports.is_some() && dport.is_none() {
        return Err("the destination needs a port".into());
    }
    let direction = direction.ok_or("`ingress` or `egress` is missing")?;
    let local = if direction == Direction::Ingress { dst } else { src };
    let endpoint = match endpoint {
        Some(name) => named(name, cluster)?,
        None => *cluster.owners(local).first().ok_or(format!("no endpoint has the address {local}"))?,
    };
    Ok(Packet { text: line.into(), endpoint, direction, flow, outcome: outcome.trim().into() })
}

fn protocol_number(word: &str) -> Result<u8, String> {
    match word {
        "tcp" => Ok(TCP),
        "udp" => Ok(UDP),
        "sctp" => Ok(SCTP),
        "icmp" => Ok(ICMP),
        "icmp6" => Ok(ICMPV6),
        other => number(other),
    }
}

fn number(word: &str) -> Result<u8, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number up to 255"))
}

/// `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80`, or `shop/web`, which is
/// the endpoint's first address.
fn side(text: &str, cluster: &Cluster) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let port = port.map(|p| p.parse().map_err(|_| format!("`{text}`: not a port"))).transpose()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Ok((address, port));
    }
    let endpoint = named(host, cluster)?;
    let address = cluster.endpoints()[endpoint].ips.first().ok_or(format!("`{host}` has no address"))?;
    Ok((*address, port))
}

fn named(name: &str, cluster: &Cluster) -> Result<Endpoint, String> {
    cluster.endpoint_by_path(name).ok_or(format!("no endpoint is called `{name}`"))
}
