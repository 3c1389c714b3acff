//! Reads the recorded captures: classic pcap as tcpdump writes it, and the
//! headers that a verdict may depend on.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use etherparse::{Ipv6ExtensionSlice, NetSlice, SlicedPacket};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

/// A packet's place in its datagram, with the datagram's identification.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    First(u32),
    Later(u32),
}

/// What is known about an IP packet.
#[derive(Clone, Debug)]
pub struct Ip {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub fragment: Fragment,
    /// Of TCP and UDP, except in later fragments.
    pub ports: Option<(u16, u16)>,
    /// Type, code and identifier, except in later fragments.
    pub icmp: Option<(u8, u8, u16)>,
    pub tcp_flags: u8,
    /// The packet that an ICMP error is about.
    pub quote: Option<Box<Ip>>,
}

/// `None` is a frame of another protocol than IP.
#[derive(Clone, Debug)]
pub struct Packet(pub Option<Ip>);

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ip) = &self.0 else { return f.write_str("not IP") };
        match (ip.ports, ip.icmp) {
            (Some((sport, dport)), _) => {
                let (src, dst) = (SocketAddr::new(ip.src, sport), SocketAddr::new(ip.dst, dport));
                write!(f, "protocol {} {src} > {dst}", ip.protocol)
            }
            (_, icmp) => {
                write!(f, "protocol {} {} > {} {icmp:?} {:?}", ip.protocol, ip.src, ip.dst, ip.fragment)
            }
        }
    }
}

/// All packets of a little-endian classic pcap file of Ethernet frames.
pub fn read(path: &Path) -> Vec<Packet> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1), "{}: magic number, link type", path.display());
    let mut packets = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let (captured, wire) = (word(at + 8) as usize, word(at + 12) as usize);
        assert_eq!(captured, wire, "{}: packet {} is cut", path.display(), packets.len());
        packets.push(parse(&bytes[at + 16..at + 16 + captured]));
        at += 16 + captured;
    }
    packets
}

fn parse(frame: &[u8]) -> Packet {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    Packet(match &sliced.net {
        Some(NetSlice::Ipv4(v4)) => {
            let header = v4.header();
            let id = u32::from(header.identification());
            let fragment = fragment(header.fragments_offset().value(), header.more_fragments(), id);
            let addresses = (header.source_addr().into(), header.destination_addr().into());
            Some(transport(addresses, fragment, v4.payload().ip_number.0, v4.payload().payload))
        }
        Some(NetSlice::Ipv6(v6)) => {
            let fragment = v6.extensions().clone().into_iter().find_map(|e| match e {
                Ipv6ExtensionSlice::Fragment(f) => {
                    Some(fragment(f.fragment_offset().value(), f.more_fragments(), f.identification()))
                }
                _ => None,
            });
            let addresses = (v6.header().source_addr().into(), v6.header().destination_addr().into());
            let fragment = fragment.unwrap_or(Fragment::Whole);
            Some(transport(addresses, fragment, v6.payload().ip_number.0, v6.payload().payload))
        }
        _ => None,
    })
}

fn fragment(offset: u16, more: bool, id: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First(id),
        _ => Fragment::Later(id),
    }
}

fn transport((src, dst): (IpAddr, IpAddr), fragment: Fragment, protocol: u8, payload: &[u8]) -> Ip {
    let mut ip = Ip { src, dst, protocol, fragment, ports: None, icmp: None, tcp_flags: 0, quote: None };
    if matches!(fragment, Fragment::Later(_)) {
        return ip;
    }
    let half = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    match protocol {
        TCP | UDP => ip.ports = Some((half(0), half(2))),
        ICMP | ICMPV6 => {
            ip.icmp = Some((payload[0], payload[1], half(4)));
            ip.quote = quote(protocol, payload[0], &payload[8..]).map(Box::new);
        }
        _ => {}
    }
    if protocol == TCP && payload.len() > 13 {
        ip.tcp_flags = payload[13];
    }
    ip
}

/// What an ICMP error quotes; the captures' quotes have no extension headers.
fn quote(protocol: u8, icmp_type: u8, quoted: &[u8]) -> Option<Ip> {
    let v4 = |at: usize| IpAddr::from([quoted[at], quoted[at + 1], quoted[at + 2], quoted[at + 3]]);
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&quoted[at..at + 16]).unwrap());
    match (protocol, icmp_type) {
        (ICMP, 3 | 11 | 12) => {
            let behind = &quoted[usize::from(quoted[0] & 15) * 4..];
            Some(transport((v4(12), v4(16)), Fragment::Whole, quoted[9], behind))
        }
        (ICMPV6, 1..=4) => Some(transport((v6(8), v6(24)), Fragment::Whole, quoted[6], &quoted[40..])),
        _ => None,
    }
}
