//! The addresses of a packet, and no more: what a replay needs to know before
//! it asks an engine.
//!
//! This is deliberately laxer than the engines' parsers: a packet whose headers
//! contradict themselves further on still belongs to the endpoints whose
//! addresses it carries, and is dropped there, under their names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What [`addresses`] found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Source and destination of an IPv4 or IPv6 packet.
    Ip(IpAddr, IpAddr),
    /// Neither IPv4 nor IPv6: ARP, LLDP, ….
    NotIp,
    /// The frame ends before its addresses do.
    TooShort,
    /// The EtherType says IP, the packet's version says otherwise.
    Malformed,
}

/// Reads the addresses of an Ethernet frame, behind any number of VLAN tags.
pub fn addresses(frame: &[u8]) -> Addresses {
    let mut at = 12;
    loop {
        let Some(ethertype) = frame.get(at..at + 2) else {
            return Addresses::TooShort;
        };
        match [ethertype[0], ethertype[1]] {
            [0x81, 0x00] | [0x88, 0xa8] => at += 4,
            [0x08, 0x00] => return ipv4(&frame[at + 2..]),
            [0x86, 0xdd] => return ipv6(&frame[at + 2..]),
            _ => return Addresses::NotIp,
        }
    }
}

fn ipv4(packet: &[u8]) -> Addresses {
    let Some(header) = packet.first_chunk::<20>() else {
        return Addresses::TooShort;
    };
    if header[0] >> 4 != 4 {
        return Addresses::Malformed;
    }
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into();
    Addresses::Ip(address(12), address(16))
}

fn ipv6(packet: &[u8]) -> Addresses {
    let Some(header) = packet.first_chunk::<40>() else {
        return Addresses::TooShort;
    };
    if header[0] >> 4 != 6 {
        return Addresses::Malformed;
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        Ipv6Addr::from(octets).into()
    };
    Addresses::Ip(address(8), address(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> Vec<u8> {
        let mut p = vec![0x45; 20];
        p[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        p
    }

    fn behind(link: &[u8], packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], link, packet].concat()
    }

    #[test]
    fn addresses_are_found_behind_tags() {
        let want = Addresses::Ip([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for link in [&[8, 0][..], &[0x81, 0, 0, 5, 8, 0], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 5, 8, 0]] {
            assert_eq!(addresses(&behind(link, &v4())), want, "{link:x?}");
        }
    }

    #[test]
    fn ipv6_addresses() {
        let mut p = vec![0x60; 40];
        p[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        p[24..40].copy_from_slice(&[0xfd; 16]);
        let want = Addresses::Ip(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::from([0xfd; 16]).into());
        assert_eq!(addresses(&behind(&[0x86, 0xdd], &p)), want);
    }

    #[test]
    fn what_has_no_addresses() {
        let cases = [
            (vec![], Addresses::TooShort),
            (vec![0; 13], Addresses::TooShort),
            (behind(&[8, 6], &[]), Addresses::NotIp),
            (behind(&[0x81, 0, 0, 1], &[]), Addresses::TooShort),
            (behind(&[8, 0], &v4()[..19]), Addresses::TooShort),
            (behind(&[8, 0], &[0x65; 20]), Addresses::Malformed),
            (behind(&[0x86, 0xdd], &[0x45; 40]), Addresses::Malformed),
        ];
        for (frame, want) in cases {
            assert_eq!(addresses(&frame), want, "{frame:x?}");
        }
    }
}
