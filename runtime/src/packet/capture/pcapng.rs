//! The pcapng format: blocks of a type, a length, a body and the length again.

use std::io::Read;

use super::pcap::need;
use super::window::Window;
use super::{CaptureError, Interface, Located, MAX_PACKET, Order};
use crate::packet::LinkType;

/// Block type of a section header; reads the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type and length in front of a block's body.
const HEAD: usize = 8;
/// Length behind a block's body.
const TAIL: usize = 4;
/// Largest block that is held in memory: a packet and its options.
const MAX_BLOCK: u32 = MAX_PACKET + 256 * 1024;

const OPTION_END: u16 = 0;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
const OPTION_IF_TSOFFSET: u16 = 14;

/// The section that is being read.
#[derive(Default)]
pub(super) struct Section {
    order: Order,
    /// Clocks of the section's interfaces.
    clocks: Vec<Clock>,
    /// Number of the section's first interface in the file.
    first_interface: u32,
    /// Time of the last packet that had one.
    last: u64,
}

/// What the block before the cursor is.
struct Block {
    kind: u32,
    length: u32,
    offset: u64,
}

impl Section {
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Reads blocks up to and including the next packet.
    pub(super) fn advance<R: Read>(
        &mut self,
        window: &mut Window<R>,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Option<Located>, CaptureError> {
        while let Some(block) = self.head(window)? {
            match block.kind {
                SECTION_HEADER => {
                    self.clocks.clear();
                    self.first_interface = interfaces.len() as u32;
                    skip(window, &block)?;
                }
                INTERFACE => self.interface(window, &block, interfaces)?,
                ENHANCED_PACKET | OBSOLETE_PACKET | SIMPLE_PACKET => {
                    return self.packet(window, &block, interfaces).map(Some);
                }
                _ => skip(window, &block)?,
            }
        }
        Ok(None)
    }

    /// Looks at the next block's type and length; `None` at the end of the file.
    fn head<R: Read>(&mut self, window: &mut Window<R>) -> Result<Option<Block>, CaptureError> {
        let offset = window.offset();
        if !window.fill(HEAD).map_err(|source| CaptureError::Io { offset, source })?
            && window.available() == 0
        {
            return Ok(None);
        }
        need(window, HEAD, "a block's header")?;
        let kind = self.order.u32(window.unread(), 0);
        if kind == SECTION_HEADER {
            need(window, HEAD + 8, "a section header")?;
            self.order = section_order(window.unread()).ok_or_else(|| CaptureError::Corrupt {
                offset,
                problem: "a section header without a byte-order magic".into(),
            })?;
            let major = self.order.u16(window.unread(), 12);
            if major != 1 {
                let problem = format!("pcapng version {major}, expected 1");
                return Err(CaptureError::Corrupt { offset, problem });
            }
        }
        let length = self.order.u32(window.unread(), 4);
        let least = (HEAD + TAIL) as u32 + least_body(kind);
        if length < least || !length.is_multiple_of(4) {
            let problem =
                format!("block type {kind:#x} with length {length}; expected a multiple of 4 from {least}");
            return Err(CaptureError::Corrupt { offset, problem });
        }
        Ok(Some(Block { kind, length, offset }))
    }

    fn interface<R: Read>(
        &mut self,
        window: &mut Window<R>,
        block: &Block,
        interfaces: &mut Vec<Interface>,
    ) -> Result<(), CaptureError> {
        let order = self.order;
        let body = self.body(window, block)?;
        let link = LinkType(order.u16(body, 0));
        let snap_len = order.u32(body, 4);
        let mut clock = Clock::default();
        let mut name = None;
        for (code, value) in options(order, &body[8..]) {
            match (code, value) {
                (OPTION_IF_NAME, text) => name = Some(String::from_utf8_lossy(text).into_owned()),
                (OPTION_IF_TSRESOL, [resolution, ..]) => clock.resolution = Resolution::new(*resolution),
                (OPTION_IF_TSOFFSET, [_, _, _, _, _, _, _, _]) => {
                    let halves = (order.u32(value, 0), order.u32(value, 4));
                    let (low, high) = if order == Order::Little { halves } else { (halves.1, halves.0) };
                    clock.offset = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
        }
        interfaces.push(Interface { link, snap_len, name });
        self.clocks.push(clock);
        window.take(block.length as usize);
        Ok(())
    }

    fn packet<R: Read>(
        &mut self,
        window: &mut Window<R>,
        block: &Block,
        interfaces: &[Interface],
    ) -> Result<Located, CaptureError> {
        let order = self.order;
        let body = self.body(window, block)?;
        let fields = match block.kind {
            ENHANCED_PACKET => Fields::timed(order, body, order.u32(body, 0)),
            OBSOLETE_PACKET => Fields::timed(order, body, u32::from(order.u16(body, 0))),
            _ => Fields::simple(order, body),
        };
        let Some(clock) = self.clocks.get(fields.interface as usize) else {
            let problem = format!(
                "packet of interface {}, but the section has {}",
                fields.interface,
                self.clocks.len()
            );
            return Err(CaptureError::Corrupt { offset: block.offset, problem });
        };
        let interface = self.first_interface + fields.interface;
        let Interface { link, snap_len, .. } = interfaces[interface as usize];
        if !link.is_supported() {
            return Err(CaptureError::LinkType { offset: block.offset, link });
        }
        let room = body.len() - fields.header;
        let length = match fields.captured {
            Some(length) => length,
            None if snap_len == 0 => fields.wire_len,
            None => fields.wire_len.min(snap_len),
        };
        if length > MAX_PACKET {
            return Err(CaptureError::TooLong { offset: block.offset, length: length.into() });
        }
        if length as usize > room {
            let problem = format!("packet of {length} bytes in a block with room for {room}");
            return Err(CaptureError::Corrupt { offset: block.offset, problem });
        }
        self.last = fields.timestamp.map_or(self.last, |t| clock.nanoseconds(t));
        let start = window.take(block.length as usize).start + HEAD + fields.header;
        let data = start..start + length as usize;
        Ok(Located { data, wire_len: fields.wire_len.max(length), time: self.last, interface })
    }

    /// The block's body, with the whole block available and its tail checked.
    fn body<'w, R: Read>(&self, window: &'w mut Window<R>, block: &Block) -> Result<&'w [u8], CaptureError> {
        if block.length > MAX_BLOCK {
            return Err(CaptureError::TooLong { offset: block.offset, length: block.length.into() });
        }
        let length = block.length as usize;
        need(window, length, "a block")?;
        let bytes = &window.unread()[..length];
        let tail = self.order.u32(bytes, length - TAIL);
        if tail != block.length {
            let problem =
                format!("a block that gives its length as {length} at the start and {tail} at the end");
            return Err(CaptureError::Corrupt { offset: block.offset, problem });
        }
        Ok(&bytes[HEAD..length - TAIL])
    }
}

/// The fixed fields of a packet block.
struct Fields {
    interface: u32,
    /// In the interface's units; `None` where the block has none.
    timestamp: Option<u64>,
    captured: Option<u32>,
    wire_len: u32,
    /// Bytes of the body in front of the packet.
    header: usize,
}

impl Fields {
    /// An enhanced or obsolete packet block: they differ in the first word only.
    fn timed(order: Order, body: &[u8], interface: u32) -> Self {
        let timestamp = u64::from(order.u32(body, 4)) << 32 | u64::from(order.u32(body, 8));
        Self {
            interface,
            timestamp: Some(timestamp),
            captured: Some(order.u32(body, 12)),
            wire_len: order.u32(body, 16),
            header: 20,
        }
    }

    fn simple(order: Order, body: &[u8]) -> Self {
        Self { interface: 0, timestamp: None, captured: None, wire_len: order.u32(body, 0), header: 4 }
    }
}

/// Bytes that a block's body has at least.
fn least_body(kind: u32) -> u32 {
    match kind {
        SECTION_HEADER => 16,
        INTERFACE => 8,
        ENHANCED_PACKET | OBSOLETE_PACKET => 20,
        SIMPLE_PACKET => 4,
        _ => 0,
    }
}

fn section_order(bytes: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big].into_iter().find(|order| order.u32(bytes, HEAD) == BYTE_ORDER_MAGIC)
}

fn skip<R: Read>(window: &mut Window<R>, block: &Block) -> Result<(), CaptureError> {
    let want = u64::from(block.length);
    if window.skip(want).map_err(|source| CaptureError::Io { offset: block.offset, source })? {
        return Ok(());
    }
    let have = window.offset() - block.offset;
    Err(CaptureError::Truncated { offset: block.offset, what: "a block", want, have })
}

/// The options in `bytes`, up to the end marker or the first that is cut.
fn options(order: Order, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let (code, length) = (order.u16(head, 0), usize::from(order.u16(head, 2)));
        if code == OPTION_END {
            return None;
        }
        let value = bytes.get(4..4 + length)?;
        bytes = bytes.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    })
}

/// How an interface's timestamps count.
#[derive(Default)]
struct Clock {
    resolution: Resolution,
    /// Seconds to add.
    offset: i64,
}

/// Units per second.
enum Resolution {
    /// A power of ten.
    Decimal(u8),
    /// A power of two.
    Binary(u8),
}

impl Default for Resolution {
    fn default() -> Self {
        Self::Decimal(6)
    }
}

impl Resolution {
    fn new(option: u8) -> Self {
        if option & 0x80 == 0 { Self::Decimal(option) } else { Self::Binary(option & 0x7f) }
    }
}

impl Clock {
    /// Nanoseconds since the epoch; what lies outside 64 bits is clamped.
    fn nanoseconds(&self, timestamp: u64) -> u64 {
        let ns = match self.resolution {
            Resolution::Decimal(digits @ ..=9) => u128::from(timestamp) * 10u128.pow(u32::from(9 - digits)),
            Resolution::Decimal(digits) => {
                10u128.checked_pow(u32::from(digits - 9)).map_or(0, |unit| u128::from(timestamp) / unit)
            }
            Resolution::Binary(bits) => (u128::from(timestamp) * 1_000_000_000) >> bits,
        };
        let shifted = ns.cast_signed() + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}
