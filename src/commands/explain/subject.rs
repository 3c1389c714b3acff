//! The packet that is asked about.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use polc_compiler::resolve::Cluster;
use polc_runtime::Packet;
use polc_runtime::packet::{Addresses, Capture, addresses, build};

use super::packet::PacketSpec;
use crate::exit::{Exit, Failure};

/// Time of a packet that was not captured, ns since the epoch.
const NOW: u64 = 1_000_000_000;

/// A packet and where it is from.
pub struct Subject {
    /// The Ethernet frame.
    pub frame: Vec<u8>,
    wire_len: u32,
    time: u64,
    /// Number in the capture; `None` for `--packet`.
    pub number: Option<u64>,
}

impl Subject {
    /// The packet of `--packet`.
    pub fn of_spec(spec: &PacketSpec, cluster: &Cluster) -> Result<Self, Failure> {
        let usage = |e| Failure::usage(format!("--packet: {e}"));
        let flow = spec.flow(cluster).map_err(usage)?;
        let frame = build::frame(&flow).ok_or_else(|| {
            usage(spec.error("this protocol number is an IPv6 extension header, never a packet's protocol"))
        })?;
        let wire_len = frame.len() as u32;
        Ok(Self { frame, wire_len, time: NOW, number: None })
    }

    /// Packet `index` of a capture.
    pub fn of_capture(path: &Path, index: u64) -> Result<Self, Failure> {
        let mut capture = open(path)?;
        let failure = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", path.display()));
        loop {
            match capture.next_packet().map_err(|e| failure(&e))? {
                Some(packet) if packet.number == index => {
                    return Ok(Self {
                        frame: packet.frame.to_vec(),
                        wire_len: packet.wire_len,
                        time: packet.time,
                        number: Some(index),
                    });
                }
                Some(_) => {}
                None => {
                    let packets = capture.packets();
                    return Err(Failure::Message(
                        Exit::Usage,
                        format!("{}: no packet {index}: it has {packets}, counted from 0", path.display()),
                    ));
                }
            }
        }
    }

    /// As engines get it.
    pub fn packet(&self) -> Packet<'_> {
        Packet { data: &self.frame, wire_len: self.wire_len, now: self.time }
    }

    /// Whether the packet ends inside a header or contradicts itself before its
    /// addresses: any endpoint would drop it.
    pub fn is_unreadable(&self) -> bool {
        matches!(addresses(&self.frame), Addresses::TooShort | Addresses::Malformed)
    }

    /// Source and destination, where the packet has them.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match addresses(&self.frame) {
            Addresses::Ip(src, dst) => Some((src, dst)),
            _ => None,
        }
    }
}

/// Opens a capture.
pub fn open(path: &Path) -> Result<Capture<File>, Failure> {
    let failure = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(|e| failure(&e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(failure(&"is a folder, not a capture"));
    }
    Capture::new(file).map_err(|e| failure(&e))
}
