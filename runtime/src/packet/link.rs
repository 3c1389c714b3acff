//! Link types and their way to an Ethernet frame.
//!
//! Ethernet frames are used as they are. For every other link type the header
//! is replaced by 14 bytes: zero MAC addresses and an EtherType. Nothing that a
//! policy looks at is invented: addresses, ports and payload are the captured
//! bytes. A packet that ends inside its link header becomes an empty frame,
//! which every engine drops as too short.

use std::fmt;

/// How the bytes of a captured packet begin: a `LINKTYPE_*` number.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

/// Bytes of an Ethernet header without VLAN tags.
const ETHERNET_HEADER: usize = 14;
/// EtherType of IPv4.
const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
const IPV6: u16 = 0x86dd;
/// Reserved EtherType: what is behind it is not IP, whatever it is.
const OTHER: u16 = 0xffff;

/// Where the network packet begins and what it is.
struct Network {
    /// Bytes of the link header.
    header: usize,
    /// EtherType for the header that replaces it.
    ethertype: u16,
}

impl LinkType {
    /// BSD loopback, address family in the byte order of the writing machine.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP as OpenBSD numbers it.
    pub const RAW_OPENBSD: Self = Self(14);
    /// Raw IP as most BSDs number it in memory (`DLT_RAW`).
    pub const RAW_BSD: Self = Self(12);
    /// Raw IPv4 or IPv6.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback, address family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// Whether packets of this link type can be replayed.
    pub fn is_supported(self) -> bool {
        matches!(
            self,
            Self::NULL
                | Self::ETHERNET
                | Self::RAW_BSD
                | Self::RAW_OPENBSD
                | Self::RAW
                | Self::LOOP
                | Self::LINUX_SLL
                | Self::IPV4
                | Self::IPV6
                | Self::LINUX_SLL2
        )
    }

    /// The name behind the number, without `LINKTYPE_`; `None` for a number
    /// that this version does not know.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// Makes an Ethernet frame of a packet. `scratch` is used for link types
    /// other than Ethernet; `swapped` says that the file's byte order is not
    /// this machine's. Returns the frame and its length on the wire.
    pub(super) fn frame<'a>(
        self,
        data: &'a [u8],
        wire_len: u32,
        swapped: bool,
        scratch: &'a mut Vec<u8>,
    ) -> (&'a [u8], u32) {
        if self == Self::ETHERNET {
            return (data, wire_len.max(data.len() as u32));
        }
        scratch.clear();
        let Some(network) = self.network(data, swapped) else {
            return (scratch, 0);
        };
        scratch.extend_from_slice(&[0; ETHERNET_HEADER - 2]);
        scratch.extend_from_slice(&network.ethertype.to_be_bytes());
        scratch.extend_from_slice(&data[network.header..]);
        let wire_len = wire_len.saturating_sub(network.header as u32).saturating_add(ETHERNET_HEADER as u32);
        let captured = scratch.len() as u32;
        (scratch, wire_len.max(captured))
    }

    /// Where the network packet begins; `None` if the link header is cut short.
    fn network(self, data: &[u8], swapped: bool) -> Option<Network> {
        match self {
            Self::IPV4 => Some(Network { header: 0, ethertype: IPV4 }),
            Self::IPV6 => Some(Network { header: 0, ethertype: IPV6 }),
            Self::NULL => {
                let family = u32::from_ne_bytes(*data.first_chunk()?);
                let family = if swapped { family.swap_bytes() } else { family };
                // A family is a small number: a large one was written by a
                // machine of the other byte order than the file's header.
                let family = if family > 0xffff { family.swap_bytes() } else { family };
                Some(Network { header: 4, ethertype: of_address_family(family) })
            }
            Self::LOOP => {
                let family = u32::from_be_bytes(*data.first_chunk()?);
                Some(Network { header: 4, ethertype: of_address_family(family) })
            }
            Self::LINUX_SLL => {
                let header: &[u8; 16] = data.first_chunk()?;
                Some(Network { header: 16, ethertype: u16::from_be_bytes([header[14], header[15]]) })
            }
            Self::LINUX_SLL2 => {
                let header: &[u8; 20] = data.first_chunk()?;
                Some(Network { header: 20, ethertype: u16::from_be_bytes([header[0], header[1]]) })
            }
            _ => {
                // Raw IP: the version nibble. Anything but 6 is handed on as
                // IPv4, which engines refuse as malformed if it is not.
                let ethertype = if data.first()? >> 4 == 6 { IPV6 } else { IPV4 };
                Some(Network { header: 0, ethertype })
            }
        }
    }
}

/// EtherType of an address family; IPv6 has a number per operating system
/// (Linux 10, NetBSD 24, FreeBSD 28, Darwin 30).
fn of_address_family(family: u32) -> u16 {
    match family {
        2 => IPV4,
        10 | 24 | 28 | 30 => IPV6,
        _ => OTHER,
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "number {}", self.0),
        }
    }
}

/// Numbers of the tcpdump.org registry that captures are commonly found with.
const NAMES: &[(u16, &str)] = &[
    (0, "NULL"),
    (1, "ETHERNET"),
    (6, "IEEE802_5"),
    (7, "ARCNET_BSD"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (12, "RAW"),
    (14, "RAW"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (101, "RAW"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (107, "FRELAY"),
    (108, "LOOP"),
    (113, "LINUX_SLL"),
    (117, "PFLOG"),
    (119, "IEEE802_11_PRISM"),
    (122, "IP_OVER_FC"),
    (127, "IEEE802_11_RADIOTAP"),
    (147, "USER0"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (192, "PPI"),
    (195, "IEEE802_15_4_WITHFCS"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (220, "USB_LINUX_MMAPPED"),
    (227, "CAN_SOCKETCAN"),
    (228, "IPV4"),
    (229, "IPV6"),
    (239, "NFLOG"),
    (249, "USBPCAP"),
    (253, "NETLINK"),
    (276, "LINUX_SLL2"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [u8; 2] = [0x45, 0xaa];
    const V6: [u8; 2] = [0x60, 0xbb];

    fn frame(link: LinkType, data: &[u8], swapped: bool) -> (Vec<u8>, u32) {
        let mut scratch = Vec::new();
        let (frame, wire) = link.frame(data, data.len() as u32 + 100, swapped, &mut scratch);
        (frame.to_vec(), wire)
    }

    fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &ethertype.to_be_bytes(), payload].concat()
    }

    #[test]
    fn headers_are_replaced() {
        let host_family = |n: u32| n.to_ne_bytes().to_vec();
        let sll = |proto: u16| [&[0; 14][..], &proto.to_be_bytes()].concat();
        let sll2 = |proto: u16| [&proto.to_be_bytes()[..], &[0; 18]].concat();
        let cases = [
            (LinkType::RAW, vec![], V4, IPV4),
            (LinkType::RAW, vec![], V6, IPV6),
            (LinkType::RAW_BSD, vec![], V6, IPV6),
            (LinkType::RAW_OPENBSD, vec![], V4, IPV4),
            (LinkType::IPV4, vec![], V6, IPV4),
            (LinkType::IPV6, vec![], V4, IPV6),
            (LinkType::NULL, host_family(2), V4, IPV4),
            (LinkType::NULL, host_family(30), V6, IPV6),
            (LinkType::NULL, host_family(2u32.swap_bytes()), V4, IPV4),
            (LinkType::NULL, host_family(7), V4, OTHER),
            (LinkType::LOOP, 24u32.to_be_bytes().to_vec(), V6, IPV6),
            (LinkType::LINUX_SLL, sll(0x86dd), V6, IPV6),
            (LinkType::LINUX_SLL2, sll2(0x0806), V4, 0x0806),
        ];
        for (link, header, payload, ethertype) in cases {
            let (got, wire) = frame(link, &[&header[..], &payload].concat(), false);
            assert_eq!(got, ethernet(ethertype, &payload), "{link}");
            assert_eq!(wire, 14 + 2 + 100, "{link}");
        }
    }

    #[test]
    fn ethernet_is_not_copied() {
        let data = [1, 2, 3];
        let mut scratch = Vec::new();
        let (frame, wire) = LinkType::ETHERNET.frame(&data, 0, false, &mut scratch);
        assert_eq!(frame.as_ptr(), data.as_ptr());
        assert_eq!(wire, 3, "never less than what was captured");
    }

    #[test]
    fn a_swapped_null_header_is_read_in_the_files_order() {
        let data = [&2u32.swap_bytes().to_ne_bytes()[..], &V4].concat();
        assert_eq!(frame(LinkType::NULL, &data, true).0, ethernet(IPV4, &V4));
    }

    #[test]
    fn cut_headers_give_empty_frames() {
        for (link, len) in
            [(LinkType::NULL, 3), (LinkType::LINUX_SLL, 15), (LinkType::LINUX_SLL2, 19), (LinkType::RAW, 0)]
        {
            assert_eq!(frame(link, &vec![0; len], false), (vec![], 0), "{link}");
        }
    }

    #[test]
    fn unsupported_types_have_names_where_known() {
        assert_eq!(LinkType(127).to_string(), "IEEE802_11_RADIOTAP (127)");
        assert_eq!(LinkType(9999).to_string(), "number 9999");
        assert!(!LinkType(127).is_supported());
    }
}
