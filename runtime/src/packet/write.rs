//! Writes packets to a pcapng file, each with its comments, as Wireshark shows
//! them under the packet.
//!
//! Packets are written as they were captured, link header and time included;
//! interfaces keep their link type, snap length and name.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use super::{Captured, Interface};

/// Longest comment in bytes: an option's length has 16 bits, and is padded to four.
const MAX_COMMENT: usize = 0xfffc;
/// `if_tsresol` for nanoseconds.
const NANOSECONDS: u8 = 9;

/// A pcapng file that is being written.
pub struct Writer<W: Write> {
    inner: PcapNgWriter<W>,
    /// Interfaces written so far; the same numbers as in the capture that is read.
    interfaces: u32,
}

/// A packet could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WriteError(#[source] PcapError);

impl<W: Write> Writer<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn new(out: W) -> Result<Self, WriteError> {
        Ok(Self { inner: PcapNgWriter::new(out).map_err(WriteError)?, interfaces: 0 })
    }

    /// Writes a packet with its comments.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&mut self, packet: &Captured<'_>, comments: &[String]) -> Result<(), WriteError> {
        for interface in packet.interfaces.iter().skip(self.interfaces as usize) {
            self.interface(interface)?;
        }
        let options = comments.iter().map(|c| EnhancedPacketOption::Comment(Cow::Borrowed(cut(c)))).collect();
        self.inner
            .write_pcapng_block(EnhancedPacketBlock {
                interface_id: packet.interface,
                timestamp: Duration::from_nanos(packet.time),
                original_len: packet.original_wire_len,
                data: Cow::Borrowed(packet.original),
                options,
            })
            .map(drop)
            .map_err(WriteError)
    }

    /// Hands back what was written to.
    pub fn into_inner(self) -> W {
        self.inner.into_inner()
    }

    fn interface(&mut self, interface: &Interface) -> Result<(), WriteError> {
        let mut options = vec![InterfaceDescriptionOption::IfTsResol(NANOSECONDS)];
        if let Some(name) = &interface.name {
            options.push(InterfaceDescriptionOption::IfName(Cow::Borrowed(cut(name))));
        }
        self.interfaces += 1;
        self.inner
            .write_pcapng_block(InterfaceDescriptionBlock {
                linktype: DataLink::from(u32::from(interface.link.0)),
                snaplen: interface.snap_len,
                options,
            })
            .map(drop)
            .map_err(WriteError)
    }
}

/// The longest prefix that fits into an option.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_COMMENT)]
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::packet::{Capture, LinkType};

    fn write_two() -> Vec<u8> {
        let interfaces = [
            Interface { link: LinkType::ETHERNET, snap_len: 64, name: Some("eth0".into()) },
            Interface { link: LinkType::RAW, snap_len: 0, name: None },
        ];
        let packet = |interface, original: &'static [u8]| Captured {
            interfaces: &interfaces[..=interface as usize],
            number: 0,
            frame: b"not this",
            wire_len: 8,
            time: 1_700_000_000_123_456_789,
            original,
            original_wire_len: 1500,
            interface,
        };
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.write(&packet(0, b"abc"), &["one".into(), "two".into()]).unwrap();
        writer.write(&packet(1, b"\x45"), &[]).unwrap();
        writer.into_inner()
    }

    #[test]
    fn another_reader_sees_packets_and_comments() {
        let file = write_two();
        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let mut seen = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(i) => seen.push(format!("{:?} {}", i.linktype, i.snaplen)),
                Block::EnhancedPacket(p) => {
                    let comments: Vec<_> = p
                        .options
                        .iter()
                        .filter_map(
                            |o| if let EnhancedPacketOption::Comment(c) = o { Some(&**c) } else { None },
                        )
                        .collect();
                    seen.push(format!(
                        "{} {:?} {} {}",
                        p.interface_id,
                        p.data,
                        p.original_len,
                        comments.join("+")
                    ));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, ["ETHERNET 64", "0 [97, 98, 99] 1500 one+two", "RAW 0", "1 [69] 1500 "]);
    }

    #[test]
    fn what_is_written_reads_back() {
        let file = write_two();
        let mut capture = Capture::new(&file[..]).unwrap();
        let first = capture.next_packet().unwrap().unwrap();
        assert_eq!(
            (first.original, first.time, first.original_wire_len),
            (&b"abc"[..], 1_700_000_000_123_456_789, 1500)
        );
        assert_eq!(capture.interfaces()[0].name.as_deref(), Some("eth0"));
        let second = capture.next_packet().unwrap().unwrap();
        assert_eq!((second.original, second.interface), (&b"\x45"[..], 1));
    }

    #[test]
    fn long_comments_are_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(MAX_COMMENT);
        assert_eq!(cut(&long).len(), MAX_COMMENT);
        assert_eq!(cut(&format!("x{long}")).len(), MAX_COMMENT - 1);
    }
}
