//! Entries of [`super::CONNTRACK_MAP`], and when they are over.
//!
//! An entry belongs to one endpoint and is keyed from its point of view, so that
//! both directions of a connection meet in one. The entry programs take one that
//! is over for none; a loader may delete it. Integers are native-endian,
//! addresses in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Entries of the map.
pub const MAX_ENTRIES: u32 = 131_072;
/// Size of `struct polc_conntrack_key`.
pub const KEY_SIZE: u32 = 44;
/// Size of `struct polc_conntrack_value`.
pub const VALUE_SIZE: u32 = 40;

/// Protocol numbers that have states of their own.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// `last_seen` follows the clock in steps of this many ns, so that packets of one
/// connection on several CPUs seldom write to it.
pub const SEEN_STEP: u64 = SECOND;

macro_rules! timeouts {
    ($( $(#[$doc:meta])* $id:ident = $seconds:literal, $state:ident; )*) => {
        $( $(#[$doc])* pub const $id: u64 = $seconds * SECOND; )*
        /// Every timeout in ns, by its name in C.
        pub const TIMEOUTS: &[(&str, u64)] = &[$((stringify!($id), $id)),*];

        impl State {
            /// Idle time in ns after which an entry in this state is over.
            pub fn timeout(self) -> u64 {
                match self {
                    $( Self::$state => $id, )*
                }
            }
        }
    };
}

timeouts! {
    /// TCP, until somebody answered. Calico: SYN sent.
    TIMEOUT_TCP_SYN_SENT = 20, SynSent;
    /// TCP, until the opener acknowledged the answer. Calico: SYN sent.
    TIMEOUT_TCP_SYN_RECEIVED = 20, SynReceived;
    /// TCP, open in both directions. Calico: established.
    TIMEOUT_TCP_ESTABLISHED = 3600, Established;
    /// TCP, one side sent FIN. Calico: established.
    TIMEOUT_TCP_HALF_CLOSED = 3600, HalfClosed;
    /// TCP, both sides sent FIN. Calico: FINs seen.
    TIMEOUT_TCP_CLOSED = 30, Closed;
    /// TCP, one side sent RST. Calico: RST seen.
    TIMEOUT_TCP_RESET = 40, Reset;
    /// UDP, until somebody answered. Calico: UDP; Linux has 30 s.
    TIMEOUT_UDP_UNREPLIED = 60, UdpUnreplied;
    /// UDP in both directions. Linux: UDP stream; Calico has 60 s.
    TIMEOUT_UDP_ASSURED = 120, UdpAssured;
    /// ICMP and ICMPv6 echo. Calico: ICMP.
    TIMEOUT_ECHO = 5, Echo;
    /// Every other protocol. Calico and Linux: generic.
    TIMEOUT_OTHER = 600, Other;
}

/// What a connection has come to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// TCP: opened, not answered.
    SynSent,
    /// TCP: answered; the opener did not acknowledge yet.
    SynReceived,
    /// TCP: open in both directions.
    Established,
    /// TCP: one side sent FIN.
    HalfClosed,
    /// TCP: both sides sent FIN.
    Closed,
    /// TCP: one side sent RST.
    Reset,
    /// UDP, not answered.
    UdpUnreplied,
    /// UDP in both directions.
    UdpAssured,
    /// ICMP or ICMPv6 echo.
    Echo,
    /// Any other protocol.
    Other,
}

/// Which side of an endpoint's connection sends echo requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Echo {
    /// The endpoint.
    ByLocal,
    /// The other side.
    ByRemote,
}

/// Which connection an entry is about.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Endpoint id.
    pub endpoint: u32,
    /// The endpoint's address.
    pub local: IpAddr,
    /// The other side's address.
    pub remote: IpAddr,
    /// The endpoint's port; for echo, the identifier; else 0.
    pub local_port: u16,
    /// The other side's port, or 0.
    pub remote_port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// Set for ICMP and ICMPv6.
    pub echo: Option<Echo>,
}

impl Key {
    /// Reads a key of the map; `None` if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; KEY_SIZE as usize] = bytes.try_into().ok()?;
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = bytes[at..at + 16].try_into().ok()?;
            match bytes[41] {
                4 => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
                6 => Some(Ipv6Addr::from(octets).into()),
                _ => None,
            }
        };
        let echo = match bytes[42] {
            0 => None,
            1 => Some(Echo::ByLocal),
            2 => Some(Echo::ByRemote),
            _ => return None,
        };
        Some(Self {
            endpoint: u32::from_ne_bytes(bytes[..4].try_into().ok()?),
            local: address(4)?,
            remote: address(20)?,
            local_port: u16::from_ne_bytes([bytes[36], bytes[37]]),
            remote_port: u16::from_ne_bytes([bytes[38], bytes[39]]),
            protocol: bytes[40],
            echo,
        })
    }
}

/// What was seen in one direction.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Leg {
    /// Any packet.
    pub seen: bool,
    /// TCP SYN.
    pub syn: bool,
    /// TCP ACK.
    pub ack: bool,
    /// TCP FIN.
    pub fin: bool,
    /// TCP RST.
    pub rst: bool,
}

/// What an entry says.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// When policy allowed the connection: ns of the kernel's monotonic clock.
    pub created: u64,
    /// When its last packet was seen, up to [`SEEN_STEP`] early.
    pub last_seen: u64,
    /// Generation of the policy that allowed it, see [`super::GENERATIONS_MAP`].
    pub generation: u32,
    /// The endpoint opened it; else the other side.
    pub opened_by_egress: bool,
    /// TCP: the opener acknowledged an answer.
    pub confirmed: bool,
    /// Packets towards the endpoint.
    pub ingress: Leg,
    /// Packets from the endpoint.
    pub egress: Leg,
}

impl Value {
    /// Reads a value of the map; `None` if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; VALUE_SIZE as usize] = bytes.try_into().ok()?;
        let leg = |at: usize| Leg {
            seen: bytes[at] != 0,
            syn: bytes[at + 1] != 0,
            ack: bytes[at + 2] != 0,
            fin: bytes[at + 3] != 0,
            rst: bytes[at + 4] != 0,
        };
        Some(Self {
            created: u64::from_ne_bytes(bytes[..8].try_into().ok()?),
            last_seen: u64::from_ne_bytes(bytes[8..16].try_into().ok()?),
            generation: u32::from_ne_bytes(bytes[16..20].try_into().ok()?),
            opened_by_egress: bytes[20] != 0,
            confirmed: bytes[21] != 0,
            ingress: leg(24),
            egress: leg(32),
        })
    }

    /// The state of a connection of this protocol.
    pub fn state(&self, key: &Key) -> State {
        let opener = if self.opened_by_egress { self.egress } else { self.ingress };
        let answers = if self.opened_by_egress { self.ingress } else { self.egress };
        match key.protocol {
            _ if key.echo.is_some() => State::Echo,
            UDP if answers.seen => State::UdpAssured,
            UDP => State::UdpUnreplied,
            TCP if opener.rst || answers.rst => State::Reset,
            TCP if opener.fin && answers.fin => State::Closed,
            TCP if !self.confirmed && !answers.seen => State::SynSent,
            TCP if !self.confirmed => State::SynReceived,
            TCP if opener.fin || answers.fin => State::HalfClosed,
            TCP => State::Established,
            _ => State::Other,
        }
    }

    /// Whether the entry counts as none at `now`, ns of the kernel's monotonic
    /// clock. Nothing that is newer than `now` is over.
    pub fn is_over(&self, key: &Key, now: u64) -> bool {
        now.saturating_sub(self.last_seen) > self.state(key).timeout()
    }
}
