//! The table of intentions, `examples/*/intent.txt`.
//!
//! One line says what policy decides about packets at one endpoint, taken as a
//! connection's first. The first line that fits a packet speaks. Columns, apart
//! by blanks; `#` starts a comment:
//!
//! | column | content |
//! |---|---|
//! | direction | `ingress` or `egress` |
//! | endpoint | `namespace/pod` |
//! | protocol | `any`, `tcp`, `udp` (with ports), `udp/later` (a later fragment), `icmp/TYPE`, `icmpv6/TYPE` |
//! | source, destination | `ADDRESS`, `ADDRESS:PORT`, `*` or `*:PORT`; IPv6 in brackets |
//! | verdict | `allow` or `deny` |
//! | decided by | `rule:NAMESPACE/NAME:INDEX` (`rule:NAME:INDEX` for global policies), `tier-default:TIER`, `profile:NAME` |
//! | logged by | the Log rule that matches before, as `rule:…`; left out for none |

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::capture::{Fragment, ICMP, ICMPV6, Ip, TCP, UDP};
use crate::model::Place;

/// What decides about a packet, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: String,
    pub decided_by: String,
    /// The Log rule that matched before; empty for none.
    pub logged_by: String,
}

#[derive(Debug)]
struct Side {
    address: Option<IpAddr>,
    port: Option<u16>,
}

#[derive(Debug)]
struct Line {
    text: String,
    at: Place,
    protocol: String,
    src: Side,
    dst: Side,
    decision: Decision,
}

/// The table.
pub struct Intent(Vec<Line>);

impl Side {
    fn parse(text: &str) -> Self {
        let (address, port) = match text.strip_prefix('[') {
            Some(v6) => {
                let (address, rest) = v6.split_once(']').expect("closing bracket");
                (address, rest.strip_prefix(':'))
            }
            None => text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port))),
        };
        let address =
            (address != "*").then(|| address.parse().unwrap_or_else(|_| panic!("address `{text}`")));
        Self { address, port: port.map(|p| p.parse().unwrap_or_else(|_| panic!("port `{text}`"))) }
    }

    fn fits(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.address.is_none_or(|a| a == address) && (self.port.is_none() || self.port == port)
    }
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let line = text.split('#').next().unwrap_or_default();
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (first, logged_by) = columns.split_at(columns.len().min(7));
        let [direction, endpoint, protocol, src, dst, verdict, decided_by] = *first else {
            assert!(columns.is_empty(), "seven columns, or eight: {text}");
            return None;
        };
        assert!(["ingress", "egress"].contains(&direction), "{text}");
        assert!(["allow", "deny"].contains(&verdict), "{text}");
        Some(Self {
            text: text.to_string(),
            at: Place { direction: direction.into(), endpoint: endpoint.into() },
            protocol: protocol.into(),
            src: Side::parse(src),
            dst: Side::parse(dst),
            decision: Decision {
                verdict: verdict.into(),
                decided_by: decided_by.into(),
                logged_by: logged_by.join(" "),
            },
        })
    }

    fn fits(&self, at: &Place, ip: &Ip) -> bool {
        let later = matches!(ip.fragment, Fragment::Later(_));
        let icmp_type = |number: u8| ip.protocol == number && !later;
        let protocol = match self.protocol.split_once('/') {
            None if self.protocol == "any" => true,
            None if self.protocol == "tcp" => ip.protocol == TCP,
            None if self.protocol == "udp" => ip.protocol == UDP && !later,
            Some(("udp", "later")) => ip.protocol == UDP && later,
            Some((name @ ("icmp" | "icmpv6"), number)) => {
                let number: u8 = number.parse().expect("ICMP type");
                icmp_type(if name == "icmp" { ICMP } else { ICMPV6 })
                    && ip.icmp.is_some_and(|i| i.0 == number)
            }
            _ => panic!("protocol: {}", self.text),
        };
        protocol
            && self.at == *at
            && self.src.fits(ip.src, ip.ports.map(|p| p.0))
            && self.dst.fits(ip.dst, ip.ports.map(|p| p.1))
    }
}

impl Intent {
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Line::parse).collect())
    }

    /// The decision about a packet that is a connection's first.
    pub fn decide(&self, at: &Place, ip: &Ip, used: &mut BTreeSet<usize>) -> Decision {
        let found = self.0.iter().position(|line| line.fits(at, ip));
        let index = found.unwrap_or_else(|| panic!("intent.txt says nothing about {at}: {ip:?}"));
        used.insert(index);
        self.0[index].decision.clone()
    }

    /// A line that no packet needs is a mistake in the table or in the scene.
    pub fn assert_all_used(&self, example: &str, used: &BTreeSet<usize>) {
        for (index, line) in self.0.iter().enumerate() {
            assert!(used.contains(&index), "{example}: no packet fits the line\n{}", line.text);
        }
    }
}
