//! The transport headers: ports, ICMP type and code, TCP flags.

use super::quote::{self, Quote};
use super::{Echo, Fault, Window, be16};
use polc_compiler::ir::Flow;

pub(super) const TCP: u8 = 6;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;
const SCTP_LEN: usize = 12;
const ICMP_LEN: usize = 8;

/// What a transport header says.
#[derive(Default)]
pub(super) struct Transport {
    pub(super) ports: Option<(u16, u16)>,
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) tcp_flags: u8,
    pub(super) echo: Option<Echo>,
    pub(super) quote: Option<Quote>,
}

/// The header at `at`. Protocols that policy reads nothing of have none.
pub(super) fn parse(window: Window<'_>, at: usize, protocol: u8, v6: bool) -> Result<Transport, Fault> {
    let mut found = Transport::default();
    match protocol {
        TCP => {
            let header = window.header(at, TCP_LEN)?;
            let len = usize::from(header[12] >> 4) * 4;
            if len < TCP_LEN || at + len > window.end {
                return Err(Fault::Malformed);
            }
            found.ports = Some(ports(header));
            found.tcp_flags = header[13];
        }
        UDP => {
            let header = window.header(at, UDP_LEN)?;
            let len = usize::from(be16(header, 4));
            let jumbogram = v6 && len == 0; // RFC 2675
            if len < UDP_LEN && !jumbogram {
                return Err(Fault::Malformed);
            }
            found.ports = Some(ports(header));
        }
        SCTP => found.ports = Some(ports(window.header(at, SCTP_LEN)?)),
        ICMP if !v6 => found.set_icmp(window.header(at, ICMP_LEN)?, 8, 0),
        ICMPV6 if v6 => found.set_icmp(window.header(at, ICMP_LEN)?, 128, 129),
        _ => {}
    }
    if found.icmp.is_some_and(|(icmp_type, _)| quote::is_error(icmp_type, v6)) {
        found.quote = quote::parse(window, at + ICMP_LEN, v6);
    }
    Ok(found)
}

impl Transport {
    /// Reads an ICMP header; `request` and `reply` are its family's echo types.
    fn set_icmp(&mut self, header: &[u8], request: u8, reply: u8) {
        let icmp_type = header[0];
        self.icmp = Some((icmp_type, header[1]));
        if icmp_type == request || icmp_type == reply {
            self.echo = Some(Echo { request: icmp_type == request, id: be16(header, 4) });
        }
    }
}

fn ports(header: &[u8]) -> (u16, u16) {
    (be16(header, 0), be16(header, 2))
}

/// Messages without which a host has no network: neighbour discovery (RFC 4861,
/// hop limit 255) without router advertisements and redirects, and multicast
/// listener discovery (RFC 2710, hop limit 1). The types are those that Calico's
/// eBPF data plane passes before policy.
pub(super) fn is_neighbour_discovery(flow: &Flow, hop_limit: u8) -> bool {
    if flow.protocol != ICMPV6 {
        return false;
    }
    match flow.icmp {
        Some((133 | 135 | 136, 0)) => hop_limit == 255,
        Some((130..=132, 0)) => hop_limit == 1,
        _ => false,
    }
}
