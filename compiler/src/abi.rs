//! The contract between the precompiled entry programs, the generated policy
//! programs and the loaders: packet state, maps, program-array slots.
//!
//! This module is the one source. `prebuilt-bpf/polc_abi.h` is generated from it
//! ([`header::c_header`]); a test compares the checked-in header.
//!
//! The packet state is the single value of a per-CPU array. Entry programs fill
//! it, policy programs read it and write only the decision fields. `src` and
//! `dst` are laid out as LPM-trie keys (prefix length, then the address in
//! network order), so a policy program passes a pointer into the state as the
//! key and builds nothing on its stack.
//!
//! A record of the decision log is the packet state as its packet left it.

pub mod config;
pub mod conntrack;
pub mod failsafe;
pub mod header;

pub use config::{
    CONFIG_FAILSAFES, CONFIG_REPLAY_CLOCK, CONFIG_SIZE, CONFIG_STATELESS, CONFIG_UNTRACKED, CONFIG_XDP,
    NO_SLOT,
};

/// Version of everything in this module. A pinned map or object of another
/// version is refused.
pub const ABI_VERSION: u32 = 2;

/// Name of the per-CPU array that holds the packet state (one entry, key `u32` 0).
pub const STATE_MAP: &str = "polc_state";
/// Name of the program array that entry and policy programs tail-call through.
pub const PROGS_MAP: &str = "polc_progs";
/// Name of the program array of untracked policies at XDP; slots 0 and 1 as in [`PROGS_MAP`].
pub const XDP_PROGS_MAP: &str = "polc_xdp_progs";
/// Name of the per-CPU array of packet counters: one row for each attachment
/// ([`config::Config::counters`]), a row is [`COUNTERS`] `u64` by [`counter_index`].
/// Who gives a row to another attachment sets it to zero first.
pub const COUNTERS_MAP: &str = "polc_counters";
/// Name of the array of policy generations: a `u32` for each slot of
/// [`PROGS_MAP`]. A loader adds one *after* a slot leads to a changed policy; a
/// connection remembers the generation that it was allowed under.
pub const GENERATIONS_MAP: &str = "polc_generations";
/// Name of the one-value array of what is switched at run time ([`config::Settings`]).
pub const SETTINGS_MAP: &str = "polc_settings";
/// Name of the hash of failsafe ports ([`failsafe`]).
pub const FAILSAFES_MAP: &str = "polc_failsafes";
/// Name of the ring buffer of decision records, [`STATE_SIZE`] bytes each.
pub const LOG_MAP: &str = "polc_log";
/// Name of the per-CPU array (one entry) that bounds the log: four `u64`: time of
/// the last record, credit in ns, records written, records dropped.
pub const LOG_RATE_MAP: &str = "polc_log_rate";
/// Name of the LRU hash of tracked connections.
pub const CONNTRACK_MAP: &str = "polc_conntrack";
/// Name of the LRU hash of first fragments' verdicts.
pub const FRAGMENTS_MAP: &str = "polc_fragments";
/// Name of the constant configuration symbol in the entry object (`struct polc_config`).
pub const CONFIG_SYMBOL: &str = "polc_config";

/// Entries of [`PROGS_MAP`].
pub const PROGS_ENTRIES: u32 = 4096;
/// Slot of the program that ends an allowed packet.
pub const SLOT_ALLOWED: u32 = 0;
/// Slot of the program that ends a denied packet.
pub const SLOT_DENIED: u32 = 1;
/// First slot that policies may use; each endpoint and direction has one.
pub const SLOT_FIRST_POLICY: u32 = 2;

/// Entry program for packets towards an endpoint.
pub const PROG_INGRESS: &str = "polc_ingress";
/// Entry program for packets from an endpoint.
pub const PROG_EGRESS: &str = "polc_egress";
/// What [`PROG_EGRESS`] leaves over where untracked policy comes first: loaded
/// with the same configuration, in [`config::Config::next_slot`].
pub const PROG_TRACKED: &str = "polc_tracked";
/// Program in [`SLOT_ALLOWED`].
pub const PROG_ALLOWED: &str = "polc_allowed";
/// Program in [`SLOT_DENIED`].
pub const PROG_DENIED: &str = "polc_denied";
/// ELF section of the programs at tc.
pub const PROG_SECTION: &str = "classifier";
/// Entry program at XDP: failsafe ports, then untracked policy.
pub const PROG_XDP: &str = "polc_xdp";
/// Program in [`SLOT_ALLOWED`] of [`XDP_PROGS_MAP`].
pub const PROG_XDP_ALLOWED: &str = "polc_xdp_allowed";
/// Program in [`SLOT_DENIED`] of [`XDP_PROGS_MAP`].
pub const PROG_XDP_DENIED: &str = "polc_xdp_denied";
/// ELF section of the programs at XDP.
pub const XDP_SECTION: &str = "xdp";

/// A field of the packet state: its name, byte offset, size of one element in
/// bytes and number of elements.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// C name.
    pub name: &'static str,
    /// Byte offset in the state.
    pub offset: i16,
    /// Size of one element: 1, 2, 4 or 8.
    pub size: u8,
    /// Elements; 1 for a scalar.
    pub count: u8,
}

macro_rules! state_fields {
    ($( $(#[$doc:meta])* $id:ident = $name:literal, $offset:literal, $size:literal x $count:literal; )*) => {
        $( $(#[$doc])* pub const $id: Field = Field { name: $name, offset: $offset, size: $size, count: $count }; )*
        /// All fields of the packet state, by offset, without gaps.
        pub const STATE_FIELDS: &[Field] = &[$($id),*];
    };
}

state_fields! {
    /// Prefix length of the source key: 32 or 128.
    STATE_SRC_PREFIX = "src_prefix", 0, 4 x 1;
    /// Source address, network order; IPv4 uses the first four bytes, the rest is 0.
    STATE_SRC = "src", 4, 1 x 16;
    /// Prefix length of the destination key: 32 or 128.
    STATE_DST_PREFIX = "dst_prefix", 20, 4 x 1;
    /// Destination address, as the source address.
    STATE_DST = "dst", 24, 1 x 16;
    /// Source port, host order; 0 without [`FLAG_PORTS`].
    STATE_SPORT = "sport", 40, 2 x 1;
    /// Destination port, host order; 0 without [`FLAG_PORTS`].
    STATE_DPORT = "dport", 42, 2 x 1;
    /// 4 or 6.
    STATE_FAMILY = "family", 44, 1 x 1;
    /// Protocol number (IPv6: of the last header of the chain).
    STATE_PROTOCOL = "protocol", 45, 1 x 1;
    /// ICMP type; 0 without [`FLAG_ICMP`].
    STATE_ICMP_TYPE = "icmp_type", 46, 1 x 1;
    /// ICMP code; 0 without [`FLAG_ICMP`].
    STATE_ICMP_CODE = "icmp_code", 47, 1 x 1;
    /// `FLAG_*`.
    STATE_FLAGS = "flags", 48, 4 x 1;
    /// Interface index.
    STATE_IFINDEX = "ifindex", 52, 4 x 1;
    /// Packet mark.
    STATE_MARK = "mark", 56, 4 x 1;
    /// Endpoint id of the attachment.
    STATE_ENDPOINT = "endpoint", 60, 4 x 1;
    /// 0 undecided, [`VERDICT_ALLOW`], [`VERDICT_DENY`]. Written by who decides.
    STATE_VERDICT = "verdict", 64, 4 x 1;
    /// `REASON_*`. Written by who decides.
    STATE_REASON = "reason", 68, 4 x 1;
    /// Index of the image's decision; [`NO_DECISION`] where policy did not decide.
    STATE_DECISION = "decision", 72, 4 x 1;
    /// Number of Log rules that matched.
    STATE_LOGGED = "logged", 76, 4 x 1;
    /// Decision of the last Log rule that matched.
    STATE_LOG_DECISION = "log_decision", 80, 4 x 1;
    /// Address class of the source, for a policy that spans several programs.
    STATE_SRC_CLASS = "src_class", 84, 4 x 1;
    /// Address class of the destination, likewise.
    STATE_DST_CLASS = "dst_class", 88, 4 x 1;
    /// TCP flags byte (FIN 1, SYN 2, RST 4, PSH 8, ACK 16); 0 for other protocols.
    STATE_TCP_FLAGS = "tcp_flags", 92, 4 x 1;
    /// Time of the packet in ns: `bpf_ktime_get_ns`, or the replay clock.
    STATE_NOW = "now", 96, 8 x 1;
    /// Fragment identification (IPv4: 16 bits); 0 for whole packets.
    STATE_FRAGMENT_ID = "fragment_id", 104, 4 x 1;
    /// ICMP echo identifier, host order; 0 for anything else.
    STATE_ICMP_ID = "icmp_id", 108, 4 x 1;
    /// With [`FLAG_LOG`]: when the program began, kernel's clock; in a record of
    /// the log, the ns from there to the verdict. Else 0.
    STATE_SPENT = "spent", 112, 8 x 1;
    /// The attachment's row in [`COUNTERS_MAP`].
    STATE_COUNTERS = "counters", 120, 4 x 1;
    /// Generation of the policy that decides.
    STATE_GENERATION = "generation", 124, 4 x 1;
    /// Slot where a packet goes on that untracked policy left undecided.
    STATE_NEXT_SLOT = "next_slot", 128, 4 x 1;
    /// Decision that says so.
    STATE_PASS_DECISION = "pass_decision", 132, 4 x 1;
    /// Offset in the frame of the header that an ICMP error quotes; 0 if none.
    STATE_QUOTE = "quote", 136, 4 x 1;
    /// Offset in the frame where the IP packet ends.
    STATE_END = "end", 140, 4 x 1;
}

/// Size of the packet state in bytes.
pub const STATE_SIZE: u32 = 144;

/// The packet has ports: TCP, UDP or SCTP with a readable header.
pub const FLAG_PORTS: u32 = 1;
/// The packet has an ICMP (IPv4) or ICMPv6 (IPv6) type and code.
pub const FLAG_ICMP: u32 = 2;
/// First fragment of a datagram: its transport header is present.
pub const FLAG_FIRST_FRAGMENT: u32 = 4;
/// Later fragment: no transport header; neither [`FLAG_PORTS`] nor [`FLAG_ICMP`].
pub const FLAG_LATER_FRAGMENT: u32 = 8;
/// The packet leaves the endpoint (egress policy); else it goes towards it.
pub const FLAG_EGRESS: u32 = 16;
/// Connection and fragment tracking are off: each packet is a connection's first.
pub const FLAG_STATELESS: u32 = 32;
/// The packet is at XDP, where it has no connection and no mark.
pub const FLAG_XDP: u32 = 64;
/// The decision is to be logged.
pub const FLAG_LOG: u32 = 128;
/// Policy decides anew about a connection that an older policy allowed.
pub const FLAG_RECHECK: u32 = 256;
/// With [`FLAG_RECHECK`], the packet answers those that policy decides about:
/// while policy runs, addresses, ports and direction are theirs, and the decision
/// is of the policy of the endpoint's other direction. A record of the log has
/// the packet's own addresses, ports and direction.
pub const FLAG_REVERSED: u32 = 512;
/// Untracked policy decides.
pub const FLAG_UNTRACKED: u32 = 1024;

/// Value of the state's verdict field for a packet that passes.
pub const VERDICT_ALLOW: u32 = 1;
/// Value of the state's verdict field for a packet that is dropped.
pub const VERDICT_DENY: u32 = 2;

/// Value of the state's decision fields where no policy decision applies.
pub const NO_DECISION: u32 = u32::MAX;

macro_rules! reasons {
    ($( $(#[$doc:meta])* $id:ident = $value:literal, $name:literal; )*) => {
        $( $(#[$doc])* pub const $id: u32 = $value; )*
        /// Every reason with the name that output uses, in the order of their values.
        pub const REASONS: &[(u32, &str)] = &[$(($id, $name)),*];
    };
}

reasons! {
    /// Nobody decided yet.
    REASON_NONE = 0, "none";
    /// A policy program decided; the decision field says which.
    REASON_POLICY = 1, "policy";
    /// The packet belongs to a tracked connection, or follows its first fragment.
    REASON_CONNTRACK = 2, "conntrack";
    /// A failsafe port.
    REASON_FAILSAFE = 3, "failsafe";
    /// Not IPv4 or IPv6 (ARP, …): passed on, policy does not speak about it.
    REASON_NOT_IP = 4, "not-ip";
    /// Headers that contradict themselves.
    REASON_MALFORMED = 5, "malformed";
    /// The packet ends inside a header.
    REASON_TOO_SHORT = 6, "too-short";
    /// A header chain that the entry program does not follow (too long).
    REASON_UNSUPPORTED = 7, "unsupported";
    /// The policy's slot in the program array is empty.
    REASON_NO_PROGRAM = 8, "no-program";
    /// A table of the policy has no entry where it must have one.
    REASON_NO_TABLE = 9, "no-table";
    /// IPv6 neighbour discovery or multicast listener messages, without which an
    /// endpoint has no network at all; `prebuilt-bpf/README.md` lists the types.
    REASON_NEIGHBOUR_DISCOVERY = 10, "neighbour-discovery";
    /// Another program accepted the packet before: untracked policy at XDP, or
    /// whoever sets the mark of [`config::Settings::accept_mark`].
    REASON_ANOTHER_PROGRAM = 11, "another-program";
    /// Untracked policy at XDP has nothing to say: the packet goes on to tc.
    REASON_PASSED_ON = 12, "passed-on";
}

/// Reasons a counter row has room for, for each verdict.
pub const COUNTER_REASONS: u32 = 16;
/// Counters in a row of [`COUNTERS_MAP`].
pub const COUNTERS: u32 = 2 * COUNTER_REASONS;
/// Rows of [`COUNTERS_MAP`], 256 bytes for each CPU.
pub const COUNTER_ROWS: u32 = 4096;

/// Index in a row of [`COUNTERS_MAP`]: packets with this verdict and reason. The
/// sum of a row is the number of packets.
pub const fn counter_index(deny: bool, reason: u32) -> u32 {
    deny as u32 * COUNTER_REASONS + reason
}

/// Bytes of [`LOG_MAP`]: a power of two, whole pages; some 1,700 records.
pub const LOG_BYTES: u32 = 1 << 18;

/// What XDP leaves before a packet that untracked policy allowed, for the entry
/// program at tc: four bytes of metadata.
pub const XDP_ACCEPTED: u32 = 0x706f_6c63;

/// tc's verdict for a packet that goes on (`TC_ACT_UNSPEC` would leave it to the
/// next program): `TC_ACT_OK`.
pub const TC_OK: u32 = 0;
/// tc's verdict for a dropped packet: `TC_ACT_SHOT`.
pub const TC_SHOT: u32 = 2;
/// XDP's verdict for a packet that is dropped: `XDP_DROP`.
pub const XDP_DROP: u32 = 1;
/// XDP's verdict for a packet that goes on: `XDP_PASS`. The same number as
/// [`TC_SHOT`]: a program made for one hook opens everything at the other.
pub const XDP_PASS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_has_no_gaps_and_natural_alignment() {
        let mut next = 0;
        for f in STATE_FIELDS {
            assert_eq!(f.offset, next, "{}", f.name);
            assert_eq!(f.offset % i16::from(f.size), 0, "{}", f.name);
            next += i16::from(f.size) * i16::from(f.count);
        }
        assert_eq!(next as u32, STATE_SIZE);
    }

    #[test]
    fn counters_have_room_for_every_reason() {
        for (i, (value, _)) in REASONS.iter().enumerate() {
            assert_eq!(i as u32, *value);
            assert!(counter_index(true, *value) < COUNTERS);
        }
    }
}
