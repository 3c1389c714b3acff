//! The classic pcap format: a 24-byte header, then records of 16 bytes and data.

use std::io::Read;

use super::window::Window;
use super::{CaptureError, Interface, Located, MAX_PACKET, Order};
use crate::packet::LinkType;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// What the file header says.
pub(super) struct Header {
    order: Order,
    /// Nanoseconds per unit of a record's fraction of a second.
    unit: u64,
}

impl Header {
    pub(super) fn read<R: Read>(
        window: &mut Window<R>,
        order: Order,
        nanoseconds: bool,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Self, CaptureError> {
        need(window, FILE_HEADER, "the file header")?;
        let header = &window.unread()[..FILE_HEADER];
        let major = order.u16(header, 4);
        if major != 2 {
            let problem = format!("pcap version {major}.{}, expected 2.4", order.u16(header, 6));
            return Err(CaptureError::Corrupt { offset: 4, problem });
        }
        let snap_len = order.u32(header, 16);
        // The upper half holds the length of the frame check sequence.
        let link = LinkType(order.u32(header, 20) as u16);
        if !link.is_supported() {
            return Err(CaptureError::LinkType { offset: 20, link });
        }
        interfaces.push(Interface { link, snap_len, name: None });
        window.take(FILE_HEADER);
        Ok(Self { order, unit: if nanoseconds { 1 } else { 1000 } })
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    pub(super) fn advance<R: Read>(&self, window: &mut Window<R>) -> Result<Option<Located>, CaptureError> {
        let offset = window.offset();
        if !window.fill(RECORD_HEADER).map_err(|source| CaptureError::Io { offset, source })?
            && window.available() == 0
        {
            return Ok(None);
        }
        need(window, RECORD_HEADER, "a packet's header")?;
        let header = &window.unread()[..RECORD_HEADER];
        let seconds = u64::from(self.order.u32(header, 0));
        let fraction = u64::from(self.order.u32(header, 4));
        let length = self.order.u32(header, 8);
        let wire_len = self.order.u32(header, 12).max(length);
        if length > MAX_PACKET {
            return Err(CaptureError::TooLong { offset, length: length.into() });
        }
        need(window, RECORD_HEADER + length as usize, "a packet")?;
        window.take(RECORD_HEADER);
        let data = window.take(length as usize);
        let time = seconds * 1_000_000_000 + fraction * self.unit;
        Ok(Some(Located { data, wire_len, time, interface: 0 }))
    }
}

/// Makes `n` bytes available or says what they were wanted for.
pub(super) fn need<R: Read>(
    window: &mut Window<R>,
    n: usize,
    what: &'static str,
) -> Result<(), CaptureError> {
    let offset = window.offset();
    if window.fill(n).map_err(|source| CaptureError::Io { offset, source })? {
        return Ok(());
    }
    Err(CaptureError::Truncated { offset, what, want: n as u64, have: window.available() as u64 })
}
