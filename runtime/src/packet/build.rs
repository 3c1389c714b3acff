//! Builds the Ethernet frame of a [`Flow`]: the first packet of that connection.
//!
//! For tests and for asking "what if": an engine runs the frame as if it had been
//! captured. A flow of a protocol with ports but without `ports` (or of ICMP
//! without `icmp`) becomes a later fragment, which is how such packets look on
//! the wire.

use std::net::IpAddr;

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};
use polc_compiler::ir::Flow;
use polc_compiler::ir::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// Bytes of payload behind the transport header.
const PAYLOAD: [u8; 16] = *b"polc test packet";
/// Offset of a later fragment in units of eight bytes: that of a second
/// fragment behind an Ethernet MTU of 1,500.
const LATER_FRAGMENT_OFFSET: u16 = 185;

/// Protocol numbers that are extension headers in an IPv6 header chain, so that
/// no IPv6 packet can have them as its protocol.
pub const IPV6_EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

/// The frame of a connection's first packet.
///
/// Returns `None` where no packet has these facts: addresses of two families,
/// or an IPv6 extension header ([`IPV6_EXTENSIONS`]) as the protocol.
pub fn frame(flow: &Flow) -> Option<Vec<u8>> {
    let transport = transport(flow);
    let later = transport.is_none();
    let body = transport.unwrap_or_else(|| PAYLOAD.to_vec());
    let mut frame = Vec::with_capacity(14 + 40 + 8 + body.len());
    frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1]);
    match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let length = u16::try_from(body.len()).ok()?;
            let mut ip =
                Ipv4Header::new(length, 64, IpNumber(flow.protocol), src.octets(), dst.octets()).ok()?;
            if later {
                ip.dont_fragment = false;
                ip.identification = 0x706f;
                ip.fragment_offset = later_offset();
            }
            ip.header_checksum = ip.calc_header_checksum();
            frame.extend_from_slice(&[0x08, 0x00]);
            frame.extend_from_slice(&ip.to_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            if IPV6_EXTENSIONS.contains(&flow.protocol) {
                return None;
            }
            let fragment =
                Ipv6FragmentHeader::new(IpNumber(flow.protocol), later_offset(), false, 0x706f_6c63);
            let extra = if later { 8 } else { 0 };
            let ip = Ipv6Header {
                payload_length: u16::try_from(body.len() + extra).ok()?,
                next_header: if later { IpNumber(44) } else { IpNumber(flow.protocol) },
                hop_limit: 64,
                source: src.octets(),
                destination: dst.octets(),
                ..Default::default()
            };
            frame.extend_from_slice(&[0x86, 0xdd]);
            frame.extend_from_slice(&ip.to_bytes());
            if later {
                frame.extend_from_slice(&fragment.to_bytes());
            }
        }
        _ => return None,
    }
    frame.extend_from_slice(&body);
    Some(frame)
}

fn later_offset() -> IpFragOffset {
    IpFragOffset::try_new(LATER_FRAGMENT_OFFSET).unwrap_or_default()
}

/// The transport header and payload, or `None` for a later fragment.
fn transport(flow: &Flow) -> Option<Vec<u8>> {
    let mut bytes = match flow.protocol {
        TCP => {
            let (sport, dport) = flow.ports?;
            let mut tcp = TcpHeader::new(sport, dport, 1, 64240);
            tcp.syn = true;
            tcp.to_bytes().to_vec()
        }
        UDP => {
            let (sport, dport) = flow.ports?;
            let length = u16::try_from(8 + PAYLOAD.len()).ok()?;
            let udp = UdpHeader { source_port: sport, destination_port: dport, length, checksum: 0 };
            udp.to_bytes().to_vec()
        }
        SCTP => sctp_init(flow.ports?),
        ICMP if flow.src.is_ipv4() => {
            let (icmp_type, code) = flow.icmp?;
            let mut bytes = Icmpv4Header::new(Icmpv4Type::EchoRequest(ECHO)).to_bytes().to_vec();
            (bytes[0], bytes[1]) = (icmp_type, code);
            bytes
        }
        ICMPV6 if flow.src.is_ipv6() => {
            let (icmp_type, code) = flow.icmp?;
            let mut bytes = Icmpv6Header::new(Icmpv6Type::EchoRequest(ECHO)).to_bytes().to_vec();
            (bytes[0], bytes[1]) = (icmp_type, code);
            bytes
        }
        _ => Vec::new(),
    };
    bytes.extend_from_slice(&PAYLOAD);
    Some(bytes)
}

const ECHO: IcmpEchoHeader = IcmpEchoHeader { id: 1, seq: 1 };

/// SCTP common header and an INIT chunk (RFC 9260, sections 3.1 and 3.3.2).
fn sctp_init((sport, dport): (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.extend_from_slice(&sport.to_be_bytes());
    bytes.extend_from_slice(&dport.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]); // verification tag 0 (INIT), checksum not computed
    bytes.extend_from_slice(&[1, 0, 0, 20]);
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(src: &str, dst: &str, protocol: u8) -> Flow {
        Flow {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol,
            ports: matches!(protocol, TCP | UDP | SCTP).then_some((1234, 80)),
            icmp: None,
        }
    }

    #[test]
    fn headers_say_what_the_flow_says() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for protocol in [TCP, UDP] {
                let frame = frame(&flow(src, dst, protocol)).unwrap();
                let packet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
                let transport = packet.transport.unwrap();
                let ports = match transport {
                    etherparse::TransportSlice::Tcp(t) => (t.source_port(), t.destination_port()),
                    etherparse::TransportSlice::Udp(u) => (u.source_port(), u.destination_port()),
                    other => panic!("{other:?}"),
                };
                assert_eq!(ports, (1234, 80));
            }
        }
    }

    #[test]
    fn without_ports_it_is_a_later_fragment() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let f = Flow { ports: None, ..flow(src, dst, TCP) };
            let frame = frame(&f).unwrap();
            let packet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
            assert!(packet.transport.is_none());
            assert!(packet.is_ip_payload_fragmented());
        }
    }

    #[test]
    fn impossible_flows_have_no_frame() {
        assert_eq!(frame(&flow("10.0.0.1", "fd00::2", TCP)), None);
        for protocol in IPV6_EXTENSIONS {
            assert_eq!(frame(&flow("fd00::1", "fd00::2", protocol)), None);
            assert!(frame(&flow("10.0.0.1", "10.0.0.2", protocol)).is_some());
        }
    }
}
