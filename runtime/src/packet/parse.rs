//! Header parsing in Rust: the outcome of the entry programs' parser
//! (`prebuilt-bpf/parse.h`), found without its code.
//!
//! `prebuilt-bpf/README.md` states the rules. Two bounds hold for every header:
//! outside what the IP header says the packet has, the headers contradict each
//! other ([`Fault::Malformed`]); outside the captured bytes, the packet ends
//! inside a header ([`Fault::TooShort`]).
//!
//! Written for being obviously right, not for speed: the reference engine uses
//! it. (The owner of a packet with bad headers is found by
//! [`super::addresses`].) One pass over the headers, no allocation, no panic on
//! any input.

use std::net::{IpAddr, Ipv6Addr};

use polc_compiler::abi;
use polc_compiler::ir::Flow;

mod ip;
mod quote;
mod transport;

#[cfg(test)]
mod tests;

pub use quote::Quote;

const ETHERNET_LEN: usize = 14;
const VLAN_LEN: usize = 4;
const MAX_VLAN_TAGS: usize = 2;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_QINQ: u16 = 0x88a8;

/// What the headers of a frame say.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IP packet that policy can speak about.
    Ip(Headers),
    /// Another EtherType: nothing for policy.
    NotIp,
    /// A packet to be dropped, and what is wrong with it.
    Bad(Fault),
}

/// What is wrong with a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends inside a header.
    TooShort,
    /// Its headers contradict themselves.
    Malformed,
    /// Its header chain is longer than polc follows.
    Unsupported,
}

impl Fault {
    /// The reason that the entry programs report: one of [`abi::REASONS`].
    pub fn reason(self) -> u32 {
        match self {
            Self::TooShort => abi::REASON_TOO_SHORT,
            Self::Malformed => abi::REASON_MALFORMED,
            Self::Unsupported => abi::REASON_UNSUPPORTED,
        }
    }
}

/// The headers of an IP packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// What policy may look at.
    pub flow: Flow,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// TCP flags byte (FIN 1, SYN 2, RST 4, PSH 8, ACK 16); 0 for other protocols.
    pub tcp_flags: u8,
    /// What an ICMP or ICMPv6 echo message says.
    pub echo: Option<Echo>,
    /// What an ICMP or ICMPv6 error says about the packet that it is about.
    pub quote: Option<Quote>,
    /// A neighbour discovery or multicast listener message that passes before policy.
    pub neighbour_discovery: bool,
}

/// A packet's place in its datagram.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not a fragment; an IPv6 atomic fragment (RFC 6946) is none either.
    Whole,
    /// The first one, with its transport header.
    First {
        /// Identification; 16 bits for IPv4.
        id: u32,
    },
    /// One of the others, without transport header.
    Later {
        /// Identification; 16 bits for IPv4.
        id: u32,
    },
}

/// An echo message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// A request; else a reply.
    pub request: bool,
    /// Identifier.
    pub id: u16,
}

/// Parses an Ethernet frame as far as it was captured. Its length on the wire
/// does not matter: what was not captured is missing.
pub fn parse(data: &[u8]) -> Parsed {
    let headers = match network_layer(data) {
        Ok(None) => return Parsed::NotIp,
        Ok(Some((Network::V4, at))) => ip::parse_v4(data, at),
        Ok(Some((Network::V6, at))) => ip::parse_v6(data, at),
        Err(fault) => Err(fault),
    };
    match headers {
        Ok(headers) => Parsed::Ip(headers),
        Err(fault) => Parsed::Bad(fault),
    }
}

/// Which IP header follows.
enum Network {
    V4,
    V6,
}

/// Which network layer the frame has, and where it begins; `None` if not IP.
fn network_layer(data: &[u8]) -> Result<Option<(Network, usize)>, Fault> {
    let mut at = ETHERNET_LEN;
    let mut tags = 0;
    loop {
        let ethertype = match data.get(at - 2..at) {
            Some(bytes) => be16(bytes, 0),
            None => return Err(Fault::TooShort),
        };
        match ethertype {
            ETHERTYPE_VLAN | ETHERTYPE_QINQ if tags == MAX_VLAN_TAGS => return Err(Fault::Unsupported),
            ETHERTYPE_VLAN | ETHERTYPE_QINQ => {
                tags += 1;
                at += VLAN_LEN;
            }
            ETHERTYPE_IPV4 => return Ok(Some((Network::V4, at))),
            ETHERTYPE_IPV6 => return Ok(Some((Network::V6, at))),
            _ => return Ok(None),
        }
    }
}

/// The bytes of a frame, and where the IP packet in it ends.
#[derive(Copy, Clone)]
struct Window<'a> {
    data: &'a [u8],
    end: usize,
}

impl<'a> Window<'a> {
    /// `len` bytes at `at`.
    fn header(&self, at: usize, len: usize) -> Result<&'a [u8], Fault> {
        let behind = at + len;
        if behind > self.end {
            return Err(Fault::Malformed);
        }
        self.data.get(at..behind).ok_or(Fault::TooShort)
    }
}

/// The big-endian number at `at`; 0 where there is none, which callers exclude.
fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

/// Likewise, 32 bits.
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

/// The IPv6 address at `at`; `::` where there is none, which callers exclude.
fn address_v6(bytes: &[u8], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    if let Some(found) = bytes.get(at..at + 16) {
        octets.copy_from_slice(found);
    }
    IpAddr::V6(Ipv6Addr::from(octets))
}
