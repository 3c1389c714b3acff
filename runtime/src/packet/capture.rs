//! Streams packets from a pcap or pcapng capture.
//!
//! Both formats in both byte orders: pcap with microseconds or nanoseconds;
//! pcapng with any number of sections and interfaces, their time resolutions
//! and offsets, enhanced, simple and obsolete packet blocks. Other blocks are
//! skipped whatever their size. Sources: draft-ietf-opsawg-pcap and
//! draft-ietf-opsawg-pcapng.
//!
//! A packet is a slice of the read buffer: nothing is allocated per packet, and
//! only packets that are not Ethernet are copied. Memory is bounded by
//! [`MAX_PACKET`], not by the capture. Every error names the byte offset of the
//! record that it is about; what was read before remains valid.

mod pcap;
mod pcapng;
mod window;

use std::io::{self, Read};
use std::ops::Range;

use super::LinkType;
use window::Window;

/// Largest packet that is read, in bytes: what tcpdump and Wireshark take as well.
/// A larger length is taken as a sign that the file is not what it says.
pub const MAX_PACKET: u32 = 256 * 1024;

/// A capture that is being read.
pub struct Capture<R> {
    window: Window<R>,
    format: Format,
    interfaces: Vec<Interface>,
    scratch: Vec<u8>,
    packets: u64,
}

enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

/// An interface that packets were captured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Link type of its packets.
    pub link: LinkType,
    /// Most bytes captured of a packet; 0 means no limit.
    pub snap_len: u32,
    /// Name, where the capture gives one.
    pub name: Option<String>,
}

/// One packet of a capture.
#[derive(Copy, Clone, Debug)]
pub struct Captured<'a> {
    /// Number in the capture, from 0.
    pub number: u64,
    /// The packet as an Ethernet frame, as far as it was captured.
    pub frame: &'a [u8],
    /// Length of the frame on the wire; at least `frame.len()`.
    pub wire_len: u32,
    /// Capture time in ns since the epoch. A simple packet block has none: it
    /// gets the time of the packet before.
    pub time: u64,
    /// The bytes as they stand in the file, link header included.
    pub original: &'a [u8],
    /// Length of `original` on the wire.
    pub original_wire_len: u32,
    /// Number of the interface, counted over all sections of the file.
    pub interface: u32,
    /// Interfaces of the file so far.
    pub interfaces: &'a [Interface],
}

/// A packet's place in the window.
struct Located {
    data: Range<usize>,
    wire_len: u32,
    time: u64,
    interface: u32,
}

/// Why a capture cannot be read (any further).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The first bytes are not those of a capture.
    #[error("not a pcap or pcapng file: {0}")]
    Foreign(String),
    /// The file ends inside a record.
    #[error("offset {offset}: the file ends inside {what} ({have} bytes of {want})")]
    Truncated {
        /// Offset of the record.
        offset: u64,
        /// What kind of record.
        what: &'static str,
        /// Bytes that the record needs.
        want: u64,
        /// Bytes that are there.
        have: u64,
    },
    /// A packet is longer than [`MAX_PACKET`].
    #[error("offset {offset}: a packet of {length} bytes, more than the {MAX_PACKET} that captures have")]
    TooLong {
        /// Offset of the record.
        offset: u64,
        /// The length it claims.
        length: u64,
    },
    /// A record contradicts itself.
    #[error("offset {offset}: {problem}")]
    Corrupt {
        /// Offset of the record.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Packets of this link type cannot be replayed.
    #[error(
        "offset {offset}: link type {link} is not supported (supported: ETHERNET, RAW, IPV4, IPV6, NULL, LOOP, LINUX_SLL, LINUX_SLL2)"
    )]
    LinkType {
        /// Offset of the record.
        offset: u64,
        /// The link type.
        link: LinkType,
    },
    /// The stream could not be read.
    #[error("offset {offset}: {source}")]
    Io {
        /// How far it was read.
        offset: u64,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl<R: Read> Capture<R> {
    /// Reads the file header and tells the format.
    ///
    /// # Errors
    /// The stream is not a capture, or its header is cut or of a link type that
    /// is not supported.
    pub fn new(reader: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(reader);
        let mut interfaces = Vec::new();
        let format = match magic(&mut window)? {
            Magic::Pcapng => Format::Pcapng(pcapng::Section::default()),
            Magic::Pcap { order, nanoseconds } => {
                Format::Pcap(pcap::Header::read(&mut window, order, nanoseconds, &mut interfaces)?)
            }
        };
        Ok(Self { window, format, interfaces, scratch: Vec::new(), packets: 0 })
    }

    /// The next packet, or `None` at the end of the capture.
    ///
    /// # Errors
    /// The capture cannot be read any further. Later calls may try again at
    /// the same place; nothing is skipped silently.
    pub fn next_packet(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        let located = match &mut self.format {
            Format::Pcap(header) => header.advance(&mut self.window)?,
            Format::Pcapng(section) => section.advance(&mut self.window, &mut self.interfaces)?,
        };
        let Some(at) = located else { return Ok(None) };
        let number = self.packets;
        self.packets += 1;
        let original = self.window.taken(at.data);
        let link = self.interfaces[at.interface as usize].link;
        let swapped = self.format.order() != Order::native();
        let (frame, wire_len) = link.frame(original, at.wire_len, swapped, &mut self.scratch);
        Ok(Some(Captured {
            number,
            frame,
            wire_len,
            time: at.time,
            original,
            original_wire_len: at.wire_len,
            interface: at.interface,
            interfaces: &self.interfaces,
        }))
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// Interfaces seen so far, as [`Captured::interface`] numbers them.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }
}

impl Format {
    fn order(&self) -> Order {
        match self {
            Self::Pcap(header) => header.order(),
            Self::Pcapng(section) => section.order(),
        }
    }
}

/// Byte order of a file or section.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    fn native() -> Self {
        if cfg!(target_endian = "big") { Self::Big } else { Self::Little }
    }

    /// The 16-bit number at `at`; the caller has checked the length.
    #[inline]
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = [bytes[at], bytes[at + 1]];
        match self {
            Self::Little => u16::from_le_bytes(raw),
            Self::Big => u16::from_be_bytes(raw),
        }
    }

    /// The 32-bit number at `at`; the caller has checked the length.
    #[inline]
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            Self::Little => u32::from_le_bytes(raw),
            Self::Big => u32::from_be_bytes(raw),
        }
    }
}

enum Magic {
    Pcap { order: Order, nanoseconds: bool },
    Pcapng,
}

/// Tells the format by the first four bytes and leaves them unread.
fn magic<R: Read>(window: &mut Window<R>) -> Result<Magic, CaptureError> {
    if !window.fill(4).map_err(|source| CaptureError::Io { offset: 0, source })? {
        return Err(CaptureError::Foreign(match window.available() {
            0 => "it is empty".into(),
            n => format!("it has only {n} bytes"),
        }));
    }
    let first = &window.unread()[..4];
    for order in [Order::Little, Order::Big] {
        match order.u32(first, 0) {
            0xa1b2_c3d4 => return Ok(Magic::Pcap { order, nanoseconds: false }),
            0xa1b2_3c4d => return Ok(Magic::Pcap { order, nanoseconds: true }),
            pcapng::SECTION_HEADER => return Ok(Magic::Pcapng),
            0xa1b2_cd34 => {
                return Err(CaptureError::Foreign(
                    "it is Kuznetzov's modified pcap; convert it with editcap".into(),
                ));
            }
            _ => {}
        }
    }
    Err(CaptureError::Foreign(describe(first)))
}

/// What a file that is no capture starts with, in words where they are known.
fn describe(first: &[u8]) -> String {
    let hint = match first {
        [0x1f, 0x8b, ..] => "gzip data; decompress it first, for example: zcat FILE | polc run … --pcap -",
        [0x28, 0xb5, 0x2f, 0xfd] => {
            "zstd data; decompress it first, for example: zstdcat FILE | polc run … --pcap -"
        }
        [0xfd, b'7', b'z', b'X'] => {
            "xz data; decompress it first, for example: xzcat FILE | polc run … --pcap -"
        }
        [0x04, 0x22, 0x4d, 0x18] => "lz4 data; decompress it first",
        [b's', b'n', b'o', b'o'] => "a snoop file; convert it with editcap",
        _ => "",
    };
    if hint.is_empty() {
        let hex: Vec<String> = first.iter().map(|b| format!("{b:02x}")).collect();
        format!("it starts with {}", hex.join(" "))
    } else {
        format!("it is {hint}")
    }
}

#[cfg(test)]
mod tests;
