//! What an ICMP error says about the packet that it is about: its IP header and
//! the first eight bytes behind it (RFC 792, RFC 4443).
//!
//! The sender of the error made it up or cut it off as it pleased, so a quote
//! that cannot be read is no fault of the packet: there is just none.

use std::net::IpAddr;

use super::{Echo, Window, be16, ip};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Extension headers that are followed in a quote.
const MAX_EXTENSIONS: usize = 4;
/// Bytes of a transport header that an error quotes at least.
const TRANSPORT: usize = 8;

/// The packet that an ICMP error is about, as far as it names a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who sent it.
    pub src: IpAddr,
    /// Whom it was sent to.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source and destination port, for protocols that have ports.
    pub ports: Option<(u16, u16)>,
    /// For an echo message.
    pub echo: Option<Echo>,
}

/// Whether an ICMP message of this type quotes a packet.
pub(super) fn is_error(icmp_type: u8, v6: bool) -> bool {
    if v6 { (1..=4).contains(&icmp_type) } else { [3, 11, 12].contains(&icmp_type) }
}

/// The quote at `at`; `None` if it names no connection: it is of the other
/// family, a later fragment, ICMP other than echo, or ends too early.
pub(super) fn parse(window: Window<'_>, at: usize, v6: bool) -> Option<Quote> {
    let (src, dst, protocol, at) = if v6 { network_v6(window, at)? } else { network_v4(window, at)? };
    let mut quote = Quote { src, dst, protocol, ports: None, echo: None };
    let header = || window.header(at, TRANSPORT).ok();
    match protocol {
        TCP | UDP | SCTP => {
            let header = header()?;
            quote.ports = Some((be16(header, 0), be16(header, 2)));
        }
        ICMP if !v6 => quote.echo = Some(echo(header()?, 8, 0)?),
        ICMPV6 if v6 => quote.echo = Some(echo(header()?, 128, 129)?),
        _ => {}
    }
    Some(quote)
}

fn echo(header: &[u8], request: u8, reply: u8) -> Option<Echo> {
    let icmp_type = header[0];
    let known = icmp_type == request || icmp_type == reply;
    known.then(|| Echo { request: icmp_type == request, id: be16(header, 4) })
}

/// Source, destination, protocol, and where the header behind this one begins.
type Network = (IpAddr, IpAddr, u8, usize);

fn network_v4(window: Window<'_>, at: usize) -> Option<Network> {
    let header = window.header(at, 20).ok()?;
    let (src, dst) = ip::addresses_v4(header)?;
    let len = usize::from(header[0] & 15) * 4;
    let first = be16(header, 6) & 0x1fff == 0;
    (len >= 20 && first).then(|| (src, dst, header[9], at + len))
}

fn network_v6(window: Window<'_>, at: usize) -> Option<Network> {
    let header = window.header(at, 40).ok()?;
    let (src, dst) = ip::addresses_v6(header)?;
    let (mut protocol, mut at) = (header[6], at + 40);
    for _ in 0..MAX_EXTENSIONS {
        let len = |field: u8| match protocol {
            0 | 43 | 60 => Some((usize::from(field) + 1) * 8),
            44 => Some(8),
            51 => Some((usize::from(field) + 2) * 4),
            _ => None,
        };
        let Some(_) = len(0) else { break };
        let extension = window.header(at, 8).ok()?;
        if protocol == 44 && be16(extension, 2) & 0xfff8 != 0 {
            return None;
        }
        at += len(extension[1])?;
        protocol = extension[0];
    }
    (!ip::is_extension(protocol)).then_some((src, dst, protocol, at))
}
