//! Protocol numbers, as IANA assigns them, and what policy knows about them.

use super::Family;

/// ICMP (of IPv4).
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// SCTP.
pub const SCTP: u8 = 132;
/// UDP-Lite.
pub const UDPLITE: u8 = 136;

/// The protocols that the textual form names, in ascending order.
const NAMES: [(u8, &str); 6] =
    [(ICMP, "icmp"), (TCP, "tcp"), (UDP, "udp"), (ICMPV6, "icmpv6"), (SCTP, "sctp"), (UDPLITE, "udplite")];

/// The name of a protocol in lower case, if it has one here.
pub fn name(protocol: u8) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == protocol).map(|(_, name)| *name)
}

/// The protocol of a lower-case name.
pub fn by_name(name: &str) -> Option<u8> {
    NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// Whether packets of a protocol can have ports that policy sees.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// The ICMP of a family.
pub fn icmp_of(family: Family) -> u8 {
    match family {
        Family::V4 => ICMP,
        Family::V6 => ICMPV6,
    }
}

/// The family whose ICMP a protocol is.
pub fn icmp_family(protocol: u8) -> Option<Family> {
    match protocol {
        ICMP => Some(Family::V4),
        ICMPV6 => Some(Family::V6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_there_and_back() {
        for number in 0..=u8::MAX {
            if let Some(name) = name(number) {
                assert_eq!(by_name(name), Some(number), "{name}");
            }
        }
        assert_eq!((name(SCTP), name(47), by_name("TCP")), (Some("sctp"), None, None));
    }

    #[test]
    fn icmp_and_ports_exclude_each_other() {
        for family in [Family::V4, Family::V6] {
            assert_eq!(icmp_family(icmp_of(family)), Some(family));
        }
        for number in 0..=u8::MAX {
            assert!(!(has_ports(number) && icmp_family(number).is_some()), "{number}");
        }
        assert!(has_ports(TCP) && has_ports(UDP) && has_ports(SCTP) && !has_ports(UDPLITE));
    }
}
