//! `--packet`: a connection's first packet in words.
//!
//! ```text
//! PROTO SRC[:PORT] > DST[:PORT] [type N [code N]]
//! tcp 10.0.0.1:1234 > shop/web-0:80        icmp shop/web-0 > 10.1.0.2 type 8 code 0
//! udp [fd00::1]:53 > [fd00::2]:5353        47 10.0.0.1 > 10.0.0.2
//! ```
//!
//! An address or a pod (`NAMESPACE/NAME`) on either side; a pod stands for its
//! address of the other side's IP version, and between two pods for IPv4 where
//! both have it.

use std::net::IpAddr;
use std::ops::Range;

use polc_compiler::ir::Flow;
use polc_compiler::ir::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};
use polc_compiler::resolve::Cluster;

/// Source port where none is written: one that no service listens on.
const SOURCE_PORT: u16 = 32768;

/// What `--packet` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSpec {
    text: String,
    protocol: (u8, Range<usize>),
    src: Side,
    dst: Side,
    /// Type and code as written.
    icmp: Option<(u8, u8, Range<usize>)>,
}

/// One side of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    host: Host,
    port: Option<(u16, Range<usize>)>,
    at: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Pod(String),
}

/// What is wrong with a `--packet`, and where: shown with a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    text: String,
    at: Range<usize>,
    message: String,
}

impl std::fmt::Display for SpecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chars = |range: Range<usize>| self.text.get(range).map_or(0, |part| part.chars().count());
        let (before, under) = (chars(0..self.at.start), chars(self.at.clone()).max(1));
        write!(f, "{}\n  {}\n  {:before$}{}", self.message, self.text, "", "^".repeat(under))
    }
}

impl std::error::Error for SpecError {}

impl std::str::FromStr for PacketSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        // A line break would put the caret nowhere.
        let text = text.replace(char::is_whitespace, " ");
        let parsed = parse(&text);
        parsed.map_err(|(at, message)| SpecError { text: text.clone(), at, message })
    }
}

type Error = (Range<usize>, String);

/// Words of a text, each with its place.
fn words(text: &str, from: usize) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    for word in text.split(' ') {
        if !word.is_empty() {
            found.push((word, from + at..from + at + word.len()));
        }
        at += word.len() + 1;
    }
    found
}

fn parse(text: &str) -> Result<PacketSpec, Error> {
    let end = text.len()..text.len();
    let arrow = text.find('>').ok_or((end.clone(), "expected `>` and the destination".to_owned()))?;
    let left = words(text.get(..arrow).unwrap_or_default(), 0);
    let right = words(text.get(arrow + 1..).unwrap_or_default(), arrow + 1);
    let (protocol, src) = match left.as_slice() {
        [] => return Err((arrow..arrow, "expected a protocol, for example `tcp`".into())),
        [_] => return Err((arrow..arrow, "expected a protocol and a source before `>`".into())),
        [protocol, src] => (protocol, src),
        [_, _, more, ..] => return Err((more.1.clone(), "expected `>` after the source".into())),
    };
    let (dst, rest) = right.split_first().ok_or((end.clone(), "expected a destination after `>`".into()))?;
    let spec = PacketSpec {
        text: text.to_owned(),
        protocol: (parse_protocol(protocol)?, protocol.1.clone()),
        src: parse_side(src)?,
        dst: parse_side(dst)?,
        icmp: parse_icmp(rest, end)?,
    };
    spec.check()?;
    Ok(spec)
}

fn parse_protocol((word, at): &(&str, Range<usize>)) -> Result<u8, Error> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "tcp" => TCP,
        "udp" => UDP,
        "sctp" => SCTP,
        "icmp" => ICMP,
        "icmpv6" => ICMPV6,
        number => number.parse().map_err(|_| {
            (
                at.clone(),
                format!("`{word}` is none of tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255"),
            )
        })?,
    })
}

fn parse_side((word, at): &(&str, Range<usize>)) -> Result<Side, Error> {
    let host = |text: &str, len: usize| {
        let here = at.start..at.start + len.max(1);
        if let Some((namespace, name)) = text.split_once('/') {
            let fits = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
            return match fits {
                true => Ok(Host::Pod(text.to_owned())),
                false => Err((here, format!("`{text}` is no pod: expected NAMESPACE/NAME"))),
            };
        }
        text.parse()
            .map(Host::Address)
            .map_err(|_| (here, format!("`{text}` is neither an address nor a pod (NAMESPACE/NAME)")))
    };
    let port = |text: &str| {
        let here = at.end - text.len()..at.end;
        let bad = |_| (here.clone(), format!("port `{text}` is not a number from 0 to 65535"));
        text.parse::<u16>().map(|port| Some((port, here.clone()))).map_err(bad)
    };
    if let Some(inner) = word.strip_prefix('[') {
        let Some((address, rest)) = inner.split_once(']') else {
            return Err((at.clone(), "expected `]` after the IPv6 address".into()));
        };
        let port = match rest.strip_prefix(':') {
            Some(text) => port(text)?,
            None if rest.is_empty() => None,
            None => return Err((at.end - rest.len()..at.end, "expected `:` and a port after `]`".into())),
        };
        return Ok(Side { host: host(address, address.len() + 2)?, port, at: at.clone() });
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(Side { host: Host::Address(address), port: None, at: at.clone() });
    }
    match word.rsplit_once(':') {
        Some((name, number)) if !name.contains(':') => {
            Ok(Side { host: host(name, name.len())?, port: port(number)?, at: at.clone() })
        }
        Some(_) => Err((at.clone(), format!("`{word}` is no address; write [ADDRESS]:PORT for IPv6"))),
        None => Ok(Side { host: host(word, word.len())?, port: None, at: at.clone() }),
    }
}

/// `type N [code N]`.
fn parse_icmp(
    rest: &[(&str, Range<usize>)],
    end: Range<usize>,
) -> Result<Option<(u8, u8, Range<usize>)>, Error> {
    let number = |word: Option<&(&str, Range<usize>)>, what: &str| {
        let expected = format!("expected a number from 0 to 255 after `{what}`");
        let (text, at) = word.ok_or((end.clone(), expected.clone()))?;
        text.parse::<u8>().map_err(|_| (at.clone(), expected))
    };
    let [first, ..] = rest else { return Ok(None) };
    if first.0 != "type" {
        return Err((first.1.clone(), format!("expected `type` or nothing instead of `{}`", first.0)));
    }
    let icmp_type = number(rest.get(1), "type")?;
    let code = match rest.get(2) {
        None => 0,
        Some(("code", _)) => number(rest.get(3), "code")?,
        Some((word, at)) => {
            return Err((at.clone(), format!("expected `code` or nothing instead of `{word}`")));
        }
    };
    if let Some((word, at)) = rest.get(4) {
        return Err((at.clone(), format!("nothing can follow the code, not `{word}`")));
    }
    Ok(Some((icmp_type, code, first.1.clone())))
}

impl PacketSpec {
    /// What can be said about the parts taken together without a cluster.
    fn check(&self) -> Result<(), Error> {
        let (protocol, at) = &self.protocol;
        let has_ports = matches!(*protocol, TCP | UDP | SCTP);
        if has_ports && self.dst.port.is_none() {
            let message = "the destination needs a port: DST:PORT ([DST]:PORT for IPv6)";
            return Err((self.dst.at.clone(), message.into()));
        }
        let port = self.src.port.as_ref().or(self.dst.port.as_ref());
        if let (false, Some((_, at))) = (has_ports, port) {
            return Err((at.clone(), "only tcp, udp and sctp have ports".into()));
        }
        if let (false, Some((_, _, at))) = (matches!(*protocol, ICMP | ICMPV6), &self.icmp) {
            return Err((at.clone(), "only icmp and icmpv6 have a type".into()));
        }
        if let (Host::Address(src), Host::Address(dst)) = (&self.src.host, &self.dst.host) {
            if src.is_ipv4() != dst.is_ipv4() {
                return Err((self.dst.at.clone(), "source and destination are of two IP versions".into()));
            }
            family_fits(*protocol, src.is_ipv4()).map_err(|message| (at.clone(), message))?;
        }
        Ok(())
    }

    /// The packet, with the addresses that pods have in `cluster`.
    ///
    /// # Errors
    /// No such pod, or none of its addresses fits.
    pub fn flow(&self, cluster: &Cluster) -> Result<Flow, SpecError> {
        let error = |at: &Range<usize>, message: String| SpecError {
            text: self.text.clone(),
            at: at.clone(),
            message,
        };
        let candidates = |side: &Side| match &side.host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Pod(path) => match cluster.endpoint_by_path(path) {
                None => Err(error(&side.at, format!("no endpoint {path} in the input"))),
                Some(endpoint) => match cluster.endpoints()[endpoint].ips.as_slice() {
                    [] => Err(error(&side.at, format!("{path} has no address"))),
                    ips => Ok(ips.to_vec()),
                },
            },
        };
        let (protocol, at) = &self.protocol;
        let (srcs, dsts) = (candidates(&self.src)?, candidates(&self.dst)?);
        let families = [true, false].into_iter().filter(|v4| family_fits(*protocol, *v4).is_ok());
        let mut pairs = families.filter_map(|v4| {
            let of = |list: &[IpAddr]| list.iter().find(|ip| ip.is_ipv4() == v4).copied();
            Some((of(&srcs)?, of(&dsts)?))
        });
        let Some((src, dst)) = pairs.next() else {
            let message = "source and destination have no addresses of one IP version that the protocol has";
            return Err(error(&self.dst.at, message.into()));
        };
        family_fits(*protocol, src.is_ipv4()).map_err(|message| error(at, message))?;
        let port = |side: &Side, default| side.port.as_ref().map_or(default, |(port, _)| *port);
        let echo = if *protocol == ICMP { 8 } else { 128 };
        let written = self.icmp.as_ref().map(|(icmp_type, code, _)| (*icmp_type, *code));
        Ok(Flow {
            src,
            dst,
            protocol: *protocol,
            ports: matches!(*protocol, TCP | UDP | SCTP)
                .then(|| (port(&self.src, SOURCE_PORT), port(&self.dst, 0))),
            icmp: matches!(*protocol, ICMP | ICMPV6).then(|| written.unwrap_or((echo, 0))),
        })
    }

    /// What is wrong with the packet as a whole.
    pub fn error(&self, message: impl Into<String>) -> SpecError {
        SpecError { text: self.text.clone(), at: 0..self.text.len(), message: message.into() }
    }
}

/// ICMP is IPv4's, ICMPv6 IPv6's.
fn family_fits(protocol: u8, v4: bool) -> Result<(), String> {
    match (protocol, v4) {
        (ICMP, false) => Err("icmp is IPv4's; over IPv6 it is icmpv6".into()),
        (ICMPV6, true) => Err("icmpv6 is IPv6's; over IPv4 it is icmp".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use polc_compiler::diag::Sources;
    use polc_compiler::manifest;

    use super::*;

    const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: both, namespace: shop }
spec: { containers: [{ name: c, image: i }] }
status: { podIPs: [{ ip: fd00::1 }, { ip: 10.0.0.1 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: six, namespace: shop }
spec: { containers: [{ name: c, image: i }] }
status: { podIPs: [{ ip: fd00::2 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: none, namespace: shop }
spec: { containers: [{ name: c, image: i }] }
";

    fn cluster() -> Cluster {
        let mut sources = Sources::default();
        sources.add("pods.yaml", PODS);
        let (objects, diagnostics) = manifest::read(&sources);
        assert!(!polc_compiler::diag::has_errors(&diagnostics));
        Cluster::new(&sources, objects).0
    }

    fn flow(text: &str) -> Result<Flow, SpecError> {
        text.parse::<PacketSpec>()?.flow(&cluster())
    }

    #[test]
    fn packets_as_people_write_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            ("tcp 10.0.0.1:1234 > 10.1.0.2:80", "10.0.0.1", "10.1.0.2", 6, Some((1234, 80)), None),
            ("TCP 10.0.0.1 > 10.1.0.2:80", "10.0.0.1", "10.1.0.2", 6, Some((32768, 80)), None),
            ("udp [fd00::1]:1>[fd00::2]:65535", "fd00::1", "fd00::2", 17, Some((1, 65535)), None),
            ("sctp fd00::9 > [fd00::2]:0", "fd00::9", "fd00::2", 132, Some((32768, 0)), None),
            ("icmp 10.0.0.1 > 10.1.0.2", "10.0.0.1", "10.1.0.2", 1, None, Some((8, 0))),
            ("icmp 10.0.0.1 > 10.1.0.2 type 3 code 4", "10.0.0.1", "10.1.0.2", 1, None, Some((3, 4))),
            ("icmpv6 fd00::1 > fd00::2 type 1", "fd00::1", "fd00::2", 58, None, Some((1, 0))),
            ("47 10.0.0.1 > 10.1.0.2", "10.0.0.1", "10.1.0.2", 47, None, None),
            ("tcp shop/both > 10.1.0.2:80", "10.0.0.1", "10.1.0.2", 6, Some((32768, 80)), None),
            ("tcp fd00::9 > shop/both:80", "fd00::9", "fd00::1", 6, Some((32768, 80)), None),
            ("tcp shop/both:7 > shop/six:80", "fd00::1", "fd00::2", 6, Some((7, 80)), None),
            ("icmpv6 shop/both > shop/both", "fd00::1", "fd00::1", 58, None, Some((128, 0))),
        ];
        for (text, src, dst, protocol, ports, icmp) in cases {
            let want = Flow { src: ip(src), dst: ip(dst), protocol, ports, icmp };
            assert_eq!(flow(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_part() {
        let cases = [
            ("", "expected `>`", ""),
            ("> 10.0.0.1", "expected a protocol", "> 10.0.0.1"),
            ("tcp > 10.0.0.1:80", "a source before", "> 10.0.0.1:80"),
            ("tcp 10.0.0.1:80", "expected `>`", ""),
            ("tcp 10.0.0.1 10.0.0.2 > 10.0.0.3:1", "expected `>` after", "10.0.0.2 > 10.0.0.3:1"),
            ("tcp 10.0.0.1 >", "a destination", ""),
            ("tpc 10.0.0.1 > 10.0.0.2:80", "`tpc` is none of", "tpc 10.0.0.1 > 10.0.0.2:80"),
            ("256 10.0.0.1 > 10.0.0.2", "`256` is none of", "256 10.0.0.1 > 10.0.0.2"),
            ("tcp 10.0.0.256 > 10.0.0.2:80", "neither an address", "10.0.0.256 > 10.0.0.2:80"),
            ("tcp 10.0.0.1:x > 10.0.0.2:80", "port `x`", "x > 10.0.0.2:80"),
            ("tcp 10.0.0.1 > 10.0.0.2:65536", "port `65536`", "65536"),
            ("tcp 10.0.0.1 > 10.0.0.2", "needs a port", "10.0.0.2"),
            ("icmp 10.0.0.1 > 10.0.0.2:80", "only tcp, udp", "80"),
            ("tcp 10.0.0.1 > 10.0.0.2:80 type 8", "only icmp", "type 8"),
            ("icmp 10.0.0.1 > 10.0.0.2 code 8", "expected `type`", "code 8"),
            ("icmp 10.0.0.1 > 10.0.0.2 type 300", "after `type`", "300"),
            ("icmp 10.0.0.1 > 10.0.0.2 type 8 kode 0", "expected `code`", "kode 0"),
            ("icmp 10.0.0.1 > 10.0.0.2 type 8 code", "after `code`", ""),
            ("icmp 10.0.0.1 > 10.0.0.2 type 8 code 0 x", "nothing can follow", "x"),
            ("tcp [fd00::1 > [fd00::2]:80", "expected `]`", "[fd00::1 > [fd00::2]:80"),
            ("tcp [fd00::1]x > [fd00::2]:80", "expected `:`", "x > [fd00::2]:80"),
            ("tcp fd00::1 > 10.0.0.2:80", "two IP versions", "10.0.0.2:80"),
            ("icmp fd00::1 > fd00::2", "icmpv6", "icmp fd00::1 > fd00::2"),
            ("tcp shop/ > 10.0.0.2:80", "NAMESPACE/NAME", "shop/ > 10.0.0.2:80"),
            ("tcp shop/nobody > 10.0.0.2:80", "no endpoint shop/nobody", "shop/nobody > 10.0.0.2:80"),
            ("tcp shop/none > 10.0.0.2:80", "has no address", "shop/none > 10.0.0.2:80"),
            ("tcp shop/six > 10.0.0.2:80", "of one IP version", "10.0.0.2:80"),
        ];
        for (text, message, from) in cases {
            let error = flow(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(&error.text[error.at.start..], from, "{text}: {error}");
        }
    }

    #[test]
    fn the_caret_stands_under_the_part() {
        let error = flow("tcp 10.0.0.1:99999 > 10.0.0.2:80").unwrap_err();
        let want = "port `99999` is not a number from 0 to 65535\n  \
                    tcp 10.0.0.1:99999 > 10.0.0.2:80\n               ^^^^^";
        assert_eq!(error.to_string(), want);
        assert!(flow("tcp é > 10.0.0.2:80").unwrap_err().to_string().ends_with("\n      ^"));
    }
}
