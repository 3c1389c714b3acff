//! Tracked connections and fragments, in plain B-trees that forget nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use polc_compiler::ir::{Direction, Verdict};

use super::has_transport;
use crate::packet::parse::{Echo, Fragment, Headers, Quote};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

const TCP: u8 = 6;
const UDP: u8 = 17;

const FRAGMENTS: Duration = Duration::from_secs(30);
const ECHO: Duration = Duration::from_secs(5);
const UDP_UNREPLIED: Duration = Duration::from_secs(60);
const UDP_ASSURED: Duration = Duration::from_secs(120);
const OTHER: Duration = Duration::from_secs(600);
const TCP_HALF_OPEN: Duration = Duration::from_secs(20);
const TCP_ESTABLISHED: Duration = Duration::from_secs(3600);
const TCP_CLOSED: Duration = Duration::from_secs(30);
const TCP_RESET: Duration = Duration::from_secs(40);
/// The last packet's time is known in steps of this.
const SEEN_STEP: Duration = Duration::from_secs(1);

/// Everything that is remembered about earlier packets.
#[derive(Default)]
pub(super) struct Tracking {
    connections: BTreeMap<Peers, Connection>,
    first_fragments: BTreeMap<Datagram, (u64, Verdict)>,
}

/// A connection as its endpoint sees it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Peers {
    endpoint: u32,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
    protocol: u8,
    /// Which direction the echo requests go in, and their identifier.
    echo: Option<(Direction, u16)>,
}

/// A datagram that travels in fragments.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    endpoint: u32,
    direction: Direction,
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    /// IPv4 alone: RFC 8200 identifies a datagram without it.
    protocol: Option<u8>,
}

/// What a connection has shown.
#[derive(Clone)]
struct Connection {
    opener: Direction,
    last_seen: u64,
    answered: bool,
    established: bool,
    reset: bool,
    fin: [bool; 2],
    /// Generation of the policy that allowed it.
    generation: u32,
}

/// What earlier packets say about one.
pub(super) enum Known {
    /// Its verdict.
    Verdict(Verdict),
    /// It belongs to a connection that an older policy allowed, which was opened
    /// in this direction: policy is to decide anew.
    Stale(Direction),
    /// Nothing.
    Nothing,
}

/// The generations of an endpoint's policies, where connections of older ones
/// are to be decided anew.
pub(super) type Recheck<'a> = Option<&'a dyn Fn(Direction) -> u32>;

impl Tracking {
    /// What is known about a packet; a connection that it belongs to learns from it.
    pub(super) fn look(
        &mut self,
        endpoint: u32,
        direction: Direction,
        headers: &Headers,
        now: u64,
        recheck: Recheck<'_>,
    ) -> Known {
        let datagram = datagram(endpoint, direction, headers);
        if !has_transport(headers) {
            let first = datagram.and_then(|datagram| self.first_fragments.get(&datagram));
            return match first {
                Some((then, verdict)) if !is_over(*then, now, FRAGMENTS) => Known::Verdict(*verdict),
                _ => Known::Nothing,
            };
        }
        if headers.flow.protocol == TCP && headers.tcp_flags & (SYN | ACK) == SYN {
            return Known::Nothing;
        }
        let (peers, learns) = match &headers.quote {
            Some(quote) => (quoted_peers(endpoint, direction, headers, quote), false),
            None => (peers(endpoint, direction, headers), true),
        };
        let found = peers.and_then(|peers| Some((peers, self.connections.get_mut(&peers)?)));
        let Some((peers, connection)) = found else { return Known::Nothing };
        if is_over(connection.last_seen, now, connection.timeout(&peers)) {
            return Known::Nothing;
        }
        if recheck.is_some_and(|generation| generation(connection.opener) != connection.generation) {
            return if learns { Known::Stale(connection.opener) } else { Known::Nothing };
        }
        if learns {
            connection.see(direction, headers, now);
        }
        self.remember_fragment(datagram, headers, now, Verdict::Allow);
        Known::Verdict(Verdict::Allow)
    }

    /// Policy decided anew about a packet whose connection is there. One that is denied
    /// is still known by who opened it, until its time is over.
    pub(super) fn renewed(
        &mut self,
        endpoint: u32,
        direction: Direction,
        headers: &Headers,
        now: u64,
        (verdict, generation): (Verdict, u32),
    ) {
        self.remember_fragment(datagram(endpoint, direction, headers), headers, now, verdict);
        let Some(peers) = peers(endpoint, direction, headers) else { return };
        if verdict == Verdict::Deny {
            return;
        }
        if let Some(connection) = self.connections.get_mut(&peers) {
            connection.generation = generation;
            connection.see(direction, headers, now);
        }
    }

    /// Policy decided about a packet that nothing was known about.
    pub(super) fn decided(
        &mut self,
        endpoint: u32,
        direction: Direction,
        headers: &Headers,
        now: u64,
        (verdict, generation): (Verdict, u32),
    ) {
        self.remember_fragment(datagram(endpoint, direction, headers), headers, now, verdict);
        let is_reply = matches!(headers.echo, Some(Echo { request: false, .. }));
        if verdict == Verdict::Deny || is_reply {
            return;
        }
        if let Some(peers) = peers(endpoint, direction, headers) {
            let mut connection = Connection::new(direction, generation, now);
            connection.see(direction, headers, now);
            self.connections.insert(peers, connection);
        }
    }

    fn remember_fragment(
        &mut self,
        datagram: Option<Datagram>,
        headers: &Headers,
        now: u64,
        verdict: Verdict,
    ) {
        if let (Some(datagram), Fragment::First { .. }) = (datagram, headers.fragment) {
            self.first_fragments.insert(datagram, (now, verdict));
        }
    }
}

impl Connection {
    fn new(opener: Direction, generation: u32, now: u64) -> Self {
        Self {
            opener,
            last_seen: now,
            answered: false,
            established: false,
            reset: false,
            fin: [false; 2],
            generation,
        }
    }

    /// Learns from a packet of this connection.
    fn see(&mut self, direction: Direction, headers: &Headers, now: u64) {
        let flags = headers.tcp_flags;
        if Duration::from_nanos(now.saturating_sub(self.last_seen)) >= SEEN_STEP {
            self.last_seen = now;
        }
        if direction == self.opener {
            self.established |= self.answered && flags & ACK != 0;
        } else {
            self.answered = true;
        }
        self.reset |= flags & RST != 0;
        let side = usize::from(direction == Direction::Egress);
        self.fin[side] |= flags & FIN != 0;
    }

    /// How long it may be silent.
    fn timeout(&self, peers: &Peers) -> Duration {
        match peers.protocol {
            _ if peers.echo.is_some() => ECHO,
            UDP if self.answered => UDP_ASSURED,
            UDP => UDP_UNREPLIED,
            TCP if self.reset => TCP_RESET,
            TCP if self.fin == [true; 2] => TCP_CLOSED,
            TCP if self.established => TCP_ESTABLISHED,
            TCP => TCP_HALF_OPEN,
            _ => OTHER,
        }
    }
}

/// Whether more than `timeout` has passed. A clock that went back has passed nothing.
fn is_over(then: u64, now: u64, timeout: Duration) -> bool {
    Duration::from_nanos(now.saturating_sub(then)) > timeout
}

/// The connection that a packet with a transport header belongs to; `None` for
/// what has no connections: later fragments, and ICMP other than echo.
fn peers(endpoint: u32, direction: Direction, headers: &Headers) -> Option<Peers> {
    let flow = &headers.flow;
    if !has_transport(headers) || (flow.icmp.is_some() && headers.echo.is_none()) {
        return None;
    }
    let (sport, dport) = flow.ports.unwrap_or((0, 0));
    let (src, dst) = ((flow.src, sport), (flow.dst, dport));
    let (local, remote) = match direction {
        Direction::Egress => (src, dst),
        Direction::Ingress => (dst, src),
    };
    let echo = headers.echo.map(|echo| (if echo.request { direction } else { opposite(direction) }, echo.id));
    Some(Peers { endpoint, local, remote, protocol: flow.protocol, echo })
}

/// The connection that the packet in an ICMP error belongs to; `None` where the
/// error is not sent back to who sent that packet.
fn quoted_peers(endpoint: u32, direction: Direction, headers: &Headers, quote: &Quote) -> Option<Peers> {
    if quote.src != headers.flow.dst {
        return None;
    }
    let (sport, dport) = quote.ports.unwrap_or((0, 0));
    let (src, dst) = ((quote.src, sport), (quote.dst, dport));
    // What comes in says something about what went out.
    let (local, remote) = match direction {
        Direction::Ingress => (src, dst),
        Direction::Egress => (dst, src),
    };
    let echo = quote.echo.map(|echo| (if echo.request { opposite(direction) } else { direction }, echo.id));
    Some(Peers { endpoint, local, remote, protocol: quote.protocol, echo })
}

pub(super) fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// The datagram that a fragment belongs to; `None` for whole packets.
fn datagram(endpoint: u32, direction: Direction, headers: &Headers) -> Option<Datagram> {
    let (Fragment::First { id } | Fragment::Later { id }) = headers.fragment else {
        return None;
    };
    let flow = &headers.flow;
    let protocol = flow.src.is_ipv4().then_some(flow.protocol);
    Some(Datagram { endpoint, direction, src: flow.src, dst: flow.dst, id, protocol })
}
