//! What the tests work out for themselves: owners of addresses, connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::capture::{ACK, Fragment, ICMP, ICMPV6, Ip, Packet, SYN, TCP, UDP};
use crate::intent::{Decision, Intent};

/// An endpoint and a direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub direction: String,
    pub endpoint: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.endpoint)
    }
}

/// Addresses of the pods in a cluster.yaml, read line by line: the examples are
/// laid out alike.
pub fn pods(cluster: &str) -> BTreeMap<IpAddr, String> {
    let mut pods = BTreeMap::new();
    for document in cluster.split("\n---\n").filter(|d| d.contains("\nkind: Pod\n")) {
        let value =
            |key: &str| document.lines().find_map(|l| l.strip_prefix(key)).expect("pod field").to_string();
        let endpoint = format!("{}/{}", value("  namespace: "), value("  name: "));
        for ip in document.lines().filter_map(|l| l.trim().strip_prefix("- ip: ")) {
            pods.insert(ip.parse().expect("pod address"), endpoint.clone());
        }
    }
    pods
}

/// Where a packet is evaluated: as egress where it starts, then as ingress.
pub fn places(packet: &Packet, pods: &BTreeMap<IpAddr, String>) -> Vec<Place> {
    let Some(ip) = &packet.0 else { return Vec::new() };
    [("egress", ip.src), ("ingress", ip.dst)]
        .into_iter()
        .filter_map(|(direction, address)| {
            let endpoint = pods.get(&address)?.clone();
            Some(Place { direction: direction.into(), endpoint })
        })
        .collect()
}

type Peer = (IpAddr, u16);

/// A connection at an endpoint. Its ends in an order that both directions share;
/// an echo's are requester and responder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    endpoint: String,
    protocol: u8,
    ends: (Peer, Peer),
}

/// A datagram in fragments, in one direction.
type Datagram = (Place, IpAddr, IpAddr, u32);

/// Which packets follow an earlier one. The captures are too short for anything
/// to expire.
pub struct Tracker {
    stateless: bool,
    connections: BTreeSet<Connection>,
    datagrams: BTreeMap<Datagram, String>,
}

impl Tracker {
    pub fn new(stateless: bool) -> Self {
        Self { stateless, connections: BTreeSet::new(), datagrams: BTreeMap::new() }
    }

    /// What is to come out for a packet; `None` for neighbour discovery.
    pub fn expect(
        &mut self,
        at: &Place,
        packet: &Packet,
        intent: &Intent,
        used: &mut BTreeSet<usize>,
    ) -> Option<Decision> {
        let ip = packet.0.as_ref()?;
        if is_neighbour_discovery(ip) {
            return None;
        }
        // Asked in any case, so that the table has a line for each packet.
        let policy = intent.decide(at, ip, used);
        if self.stateless {
            return Some(policy);
        }
        let tracked = |verdict: &str| Decision {
            verdict: verdict.into(),
            decided_by: "conntrack".into(),
            logged_by: String::new(),
        };
        if let Fragment::Later(id) = ip.fragment
            && let Some(verdict) = self.datagrams.get(&(at.clone(), ip.src, ip.dst, id))
        {
            return Some(tracked(verdict));
        }
        let quoted = ip.quote.as_ref().and_then(|quoted| connection(at, quoted));
        if quoted.is_some_and(|connection| self.connections.contains(&connection)) {
            return Some(tracked("allow"));
        }
        let connection = connection(at, ip);
        let opens_tcp = ip.protocol == TCP && ip.tcp_flags & (SYN | ACK) == SYN;
        let known = connection.as_ref().is_some_and(|c| !opens_tcp && self.connections.contains(c));
        let decision = if known { tracked("allow") } else { policy };
        if decision.verdict == "allow" && !is_echo_reply(ip) {
            self.connections.extend(connection);
        }
        if let Fragment::First(id) = ip.fragment {
            self.datagrams.insert((at.clone(), ip.src, ip.dst, id), decision.verdict.clone());
        }
        Some(decision)
    }
}

fn is_echo_request(ip: &Ip) -> bool {
    matches!((ip.protocol, ip.icmp), (ICMP, Some((8, ..))) | (ICMPV6, Some((128, ..))))
}

fn is_echo_reply(ip: &Ip) -> bool {
    matches!((ip.protocol, ip.icmp), (ICMP, Some((0, ..))) | (ICMPV6, Some((129, ..))))
}

fn is_neighbour_discovery(ip: &Ip) -> bool {
    matches!((ip.protocol, ip.icmp), (ICMPV6, Some((133..=137, ..))))
}

/// The connection that a packet may open or belong to; ICMP errors have none of their own.
fn connection(at: &Place, ip: &Ip) -> Option<Connection> {
    let ends = match (ip.ports, ip.icmp) {
        (Some((sport, dport)), _) => {
            let (a, b) = ((ip.src, sport), (ip.dst, dport));
            if a < b { (a, b) } else { (b, a) }
        }
        (_, Some((.., id))) if is_echo_request(ip) => ((ip.src, id), (ip.dst, id)),
        (_, Some((.., id))) if is_echo_reply(ip) => ((ip.dst, id), (ip.src, id)),
        _ => return None,
    };
    Some(Connection { endpoint: at.endpoint.clone(), protocol: ip.protocol, ends })
}

/// Which kinds of packet the captures hold.
#[derive(Default)]
pub struct Variety(BTreeSet<&'static str>);

impl Variety {
    const ALL: [&str; 14] = [
        "FIN",
        "ICMP echo",
        "ICMP error",
        "ICMPv6 echo",
        "ICMPv6 error",
        "IPv4 TCP",
        "IPv4 UDP",
        "IPv4 fragment",
        "IPv6 TCP",
        "IPv6 UDP",
        "IPv6 fragment",
        "RST",
        "neighbour discovery",
        "not IP",
    ];

    pub fn note(&mut self, packet: &Packet) {
        let Some(ip) = &packet.0 else {
            self.0.insert("not IP");
            return;
        };
        let v4 = ip.src.is_ipv4();
        let pick = |four, six| if v4 { four } else { six };
        if ip.fragment != Fragment::Whole {
            self.0.insert(pick("IPv4 fragment", "IPv6 fragment"));
        }
        self.0.insert(match ip.protocol {
            TCP => pick("IPv4 TCP", "IPv6 TCP"),
            UDP => pick("IPv4 UDP", "IPv6 UDP"),
            _ if is_neighbour_discovery(ip) => "neighbour discovery",
            _ if is_echo_request(ip) || is_echo_reply(ip) => pick("ICMP echo", "ICMPv6 echo"),
            _ => pick("ICMP error", "ICMPv6 error"),
        });
        for (flag, name) in [(1, "FIN"), (4, "RST")] {
            if ip.tcp_flags & flag != 0 {
                self.0.insert(name);
            }
        }
    }

    /// What no capture holds.
    pub fn missing(&self) -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|kind| !self.0.contains(kind)).collect()
    }
}
