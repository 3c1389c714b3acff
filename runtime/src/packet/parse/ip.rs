//! The IP headers, and the chain of IPv6 extension headers.

use std::net::{IpAddr, Ipv4Addr};

use super::transport::{self, Transport};
use super::{Fault, Fragment, Headers, Window, address_v6, be16, be32};
use polc_compiler::ir::Flow;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const MAX_DATAGRAM: usize = 65_535;
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const AUTHENTICATION_MIN_LEN: usize = 12;

/// Addresses in an IPv4 header; `None` if it is of another version.
pub(super) fn addresses_v4(header: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let address = |at| IpAddr::V4(Ipv4Addr::from_bits(be32(header, at)));
    (version(header) == 4).then(|| (address(12), address(16)))
}

/// Addresses in an IPv6 header; `None` if it is of another version.
pub(super) fn addresses_v6(header: &[u8]) -> Option<(IpAddr, IpAddr)> {
    (version(header) == 6).then(|| (address_v6(header, 8), address_v6(header, 24)))
}

fn version(header: &[u8]) -> u8 {
    header.first().map_or(0, |byte| byte >> 4)
}

/// An IPv4 packet that begins at `at` (RFC 791).
pub(super) fn parse_v4(data: &[u8], at: usize) -> Result<Headers, Fault> {
    let header = data.get(at..at + IPV4_LEN).ok_or(Fault::TooShort)?;
    let (src, dst) = addresses_v4(header).ok_or(Fault::Malformed)?;
    let header_len = usize::from(header[0] & 15) * 4;
    let total_len = match usize::from(be16(header, 2)) {
        // BIG TCP: the kernel's own packets above 64 KiB leave the field empty.
        0 if data.len() > MAX_DATAGRAM => data.len() - at,
        len => len,
    };
    if header_len < IPV4_LEN || header_len > total_len {
        return Err(Fault::Malformed);
    }
    let window = Window { data, end: at + total_len };
    window.header(at, header_len)?;
    let protocol = header[9];
    let (offset, more) = (be16(header, 6) & 0x1fff, be16(header, 6) & 0x2000 != 0);
    let id = be16(header, 4).into();
    let fragment = place(protocol, offset, more, id, total_len - header_len)?;
    let flow = Flow { src, dst, protocol, ports: None, icmp: None };
    finish(window, at + header_len, flow, fragment, None)
}

/// An IPv6 packet that begins at `at` (RFC 8200).
pub(super) fn parse_v6(data: &[u8], at: usize) -> Result<Headers, Fault> {
    let header = data.get(at..at + IPV6_LEN).ok_or(Fault::TooShort)?;
    let (src, dst) = addresses_v6(header).ok_or(Fault::Malformed)?;
    let behind = at + IPV6_LEN;
    let end = match be16(header, 4) {
        // Jumbograms (RFC 2675) and BIG TCP packets: no bound but the frame's.
        0 => usize::MAX,
        len => behind + usize::from(len),
    };
    let window = Window { data, end };
    let chain = follow(window, behind, header[6])?;
    let flow = Flow { src, dst, protocol: chain.protocol, ports: None, icmp: None };
    finish(window, chain.at, flow, chain.fragment, Some(header[7]))
}

/// Reads the transport header, unless the fragment has none.
fn finish(
    window: Window<'_>,
    at: usize,
    mut flow: Flow,
    fragment: Fragment,
    hop_limit: Option<u8>,
) -> Result<Headers, Fault> {
    let transport = match fragment {
        Fragment::Later { .. } => Transport::default(),
        _ => transport::parse(window, at, flow.protocol, hop_limit.is_some())?,
    };
    flow.ports = transport.ports;
    flow.icmp = transport.icmp;
    Ok(Headers {
        neighbour_discovery: fragment == Fragment::Whole
            && transport::is_neighbour_discovery(&flow, hop_limit.unwrap_or(0)),
        flow,
        fragment,
        tcp_flags: transport.tcp_flags,
        echo: transport.echo,
        quote: transport.quote,
    })
}

/// What a fragment is. `offset` counts units of eight bytes, `payload` bytes.
fn place(protocol: u8, offset: u16, more: bool, id: u32, payload: usize) -> Result<Fragment, Fault> {
    match (offset, more) {
        (0, false) => Ok(Fragment::Whole),
        (0, true) => Ok(Fragment::First { id }),
        // RFC 3128: it would rewrite the flags of the TCP header before it.
        (1, _) if protocol == transport::TCP => Err(Fault::Malformed),
        _ if payload.saturating_add(usize::from(offset) * 8) > MAX_DATAGRAM => Err(Fault::Malformed),
        _ => Ok(Fragment::Later { id }),
    }
}

/// Where a chain of extension headers led.
struct Chain {
    at: usize,
    protocol: u8,
    fragment: Fragment,
}

pub(super) fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Follows extension headers from `at`, of which the first is a `protocol`.
fn follow(window: Window<'_>, at: usize, protocol: u8) -> Result<Chain, Fault> {
    let mut chain = Chain { at, protocol, fragment: Fragment::Whole };
    let mut fragment_seen = false;
    for position in 0..MAX_EXTENSIONS {
        let extension = chain.protocol;
        if !is_extension(extension) {
            break;
        }
        if extension == HOP_BY_HOP && position > 0 {
            return Err(Fault::Malformed);
        }
        let header = window.header(chain.at, 8)?;
        let len = extension_len(extension, header[1])?;
        window.header(chain.at, len)?;
        chain.at += len;
        chain.protocol = header[0];
        if extension == FRAGMENT {
            if std::mem::replace(&mut fragment_seen, true) {
                return Err(Fault::Malformed);
            }
            let field = be16(header, 2);
            // A jumbogram has no fragments (RFC 2675): without a bound, the payload is too long.
            let payload = window.end.saturating_sub(chain.at);
            chain.fragment = place(chain.protocol, field >> 3, field & 1 != 0, be32(header, 4), payload)?;
            if matches!(chain.fragment, Fragment::Later { .. }) {
                return Ok(chain);
            }
        }
    }
    if is_extension(chain.protocol) { Err(Fault::Unsupported) } else { Ok(chain) }
}

/// Length in bytes of an extension header with this length field.
fn extension_len(extension: u8, field: u8) -> Result<usize, Fault> {
    let field = usize::from(field);
    match extension {
        FRAGMENT => Ok(8),
        // RFC 4302: units of four bytes, less two.
        AUTHENTICATION => {
            let len = (field + 2) * 4;
            if len < AUTHENTICATION_MIN_LEN { Err(Fault::Malformed) } else { Ok(len) }
        }
        _ => Ok((field + 1) * 8),
    }
}
