//! The decision log: switched while programs run, read from a ring buffer.
//!
//! A record is the packet state as its packet left it. Each CPU writes at most
//! [`RATE`] records a second, with bursts of as many; what is more is counted as
//! dropped, and packets never wait for a reader.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use polc_compiler::abi::{self, Field, config::Settings};

use super::error::{LoaderError, kernel};
use super::view::View;
use crate::sys::bpf::{Map, RingBuffer};

/// Records that each CPU writes in a second.
pub const RATE: u64 = 1000;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What one packet came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The interface's index.
    pub ifindex: u32,
    /// Row of counters: the slot of the attachment's policy.
    pub row: u32,
    /// Whether the packet leaves the endpoint.
    pub egress: bool,
    /// Whether the decision is of untracked policy.
    pub untracked: bool,
    /// `VERDICT_*`.
    pub verdict: u32,
    /// `REASON_*`.
    pub reason: u32,
    /// Index of the image's decision, where policy decided.
    pub decision: Option<u32>,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source and destination port, or ICMP type and code.
    pub detail: (u16, u16),
    /// When the packet came, ns of the kernel's monotonic clock.
    pub time: u64,
    /// Nanoseconds from there to the verdict.
    pub spent: u64,
}

impl LogRecord {
    /// Reads a record; `None` if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; abi::STATE_SIZE as usize] = bytes.try_into().ok()?;
        let number = |field: Field| {
            let at = field.offset as usize;
            let mut eight = [0; 8];
            eight[..field.size as usize].copy_from_slice(&bytes[at..at + field.size as usize]);
            u64::from_le_bytes(eight)
        };
        let word = |field| number(field) as u32;
        let address = |field: Field| -> IpAddr {
            let octets: [u8; 16] = std::array::from_fn(|i| bytes[field.offset as usize + i]);
            match word(abi::STATE_FAMILY) {
                6 => Ipv6Addr::from(octets).into(),
                _ => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
            }
        };
        let flags = word(abi::STATE_FLAGS);
        let (one, two) = if flags & abi::FLAG_ICMP != 0 {
            (abi::STATE_ICMP_TYPE, abi::STATE_ICMP_CODE)
        } else {
            (abi::STATE_SPORT, abi::STATE_DPORT)
        };
        Some(Self {
            ifindex: word(abi::STATE_IFINDEX),
            row: word(abi::STATE_COUNTERS),
            egress: flags & abi::FLAG_EGRESS != 0,
            untracked: flags & abi::FLAG_UNTRACKED != 0,
            verdict: word(abi::STATE_VERDICT),
            reason: word(abi::STATE_REASON),
            decision: Some(word(abi::STATE_DECISION)).filter(|d| *d != abi::NO_DECISION),
            src: address(abi::STATE_SRC),
            dst: address(abi::STATE_DST),
            protocol: word(abi::STATE_PROTOCOL) as u8,
            detail: (number(one) as u16, number(two) as u16),
            time: number(abi::STATE_NOW),
            spent: number(abi::STATE_SPENT),
        })
    }
}

/// The log, being read.
pub struct Log {
    ring: RingBuffer,
}

impl Log {
    /// Waits up to `wait` for records and gives each to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&mut self, wait: Duration, mut each: impl FnMut(LogRecord)) -> Result<(), LoaderError> {
        let read = self.ring.read(wait, |bytes| {
            if let Some(record) = LogRecord::from_bytes(bytes) {
                each(record);
            }
        });
        read.map(drop).map_err(kernel("reading the log"))
    }
}

impl View {
    /// What is switched at run time; all off while nothing is attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn settings(&self) -> Result<Settings, LoaderError> {
        match self.shared_map(abi::SETTINGS_MAP)? {
            Some(map) => read_settings(&map),
            None => Ok(Settings::default()),
        }
    }

    /// Switches the log on, for one interface (by index) or all of them, or off.
    /// No program is loaded; whether anything is attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn switch_log(&self, on: bool, ifindex: Option<u32>) -> Result<bool, LoaderError> {
        let Some(map) = self.shared_map(abi::SETTINGS_MAP)? else { return Ok(false) };
        let mut settings = read_settings(&map)?;
        settings.flags &= !abi::config::SETTING_LOG;
        if on {
            settings.flags |= abi::config::SETTING_LOG;
            settings.log_ifindex = ifindex.unwrap_or(0);
            settings.log_interval = SECOND / RATE;
            settings.log_credit = SECOND;
        }
        write_settings(&map, &settings).map(|()| true)
    }

    /// The log, to be read; `None` while nothing is attached.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn log(&self) -> Result<Option<Log>, LoaderError> {
        let Some(map) = self.shared_map(abi::LOG_MAP)? else { return Ok(None) };
        Ok(Some(Log { ring: RingBuffer::new(map).map_err(kernel("opening the log"))? }))
    }
}

pub(super) fn read_settings(map: &Map) -> Result<Settings, LoaderError> {
    let value = map.lookup(&[0; 4]).map_err(kernel("reading the settings"))?;
    Ok(value.and_then(|value| Settings::from_bytes(&value)).unwrap_or_default())
}

pub(super) fn write_settings(map: &Map, settings: &Settings) -> Result<(), LoaderError> {
    map.update(&[0; 4], &settings.bytes()).map_err(kernel("changing the settings"))
}
