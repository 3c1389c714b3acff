//! Captured packets: reading pcap and pcapng files, writing pcapng with
//! comments, header parsing, and frames built from flows.
//!
//! [`Capture`] streams packets from anything that can be read, without copying
//! Ethernet frames; packets of other link types get an Ethernet header in front
//! (see [`LinkType`]), because the entry programs are tc programs and see
//! Ethernet only.

pub mod build;
mod capture;
mod link;
pub mod parse;
mod peek;
mod write;

pub use capture::{Capture, CaptureError, Captured, Interface, MAX_PACKET};
pub use link::LinkType;
pub use peek::{Addresses, addresses};
pub use write::{WriteError, Writer};
