//! The contract between the precompiled entry programs, the generated policy
//! programs and the loaders: packet state, map names, program-array slots.
//!
//! This module is the one source. `prebuilt-bpf/polc_abi.h` is generated from it
//! ([`c_header`]); a test compares the checked-in header.
//!
//! The packet state is the single value of a per-CPU array. Entry programs fill
//! it, policy programs read it and write only the decision fields. `src` and
//! `dst` are laid out as LPM-trie keys (prefix length, then the address in
//! network order), so a policy program passes a pointer into the state as the
//! key and builds nothing on its stack.

use std::fmt::Write as _;

/// Version of everything in this module. A pinned map or object of another
/// version is refused.
pub const ABI_VERSION: u32 = 1;

/// Name of the per-CPU array that holds the packet state (one entry, key `u32` 0).
pub const STATE_MAP: &str = "polc_state";
/// Name of the program array that entry and policy programs tail-call through.
pub const PROGS_MAP: &str = "polc_progs";
/// Name of the per-CPU array of packet counters, index [`counter_index`], value `u64`.
pub const COUNTERS_MAP: &str = "polc_counters";
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
/// Program in [`SLOT_ALLOWED`].
pub const PROG_ALLOWED: &str = "polc_allowed";
/// Program in [`SLOT_DENIED`].
pub const PROG_DENIED: &str = "polc_denied";
/// ELF section of every program.
pub const PROG_SECTION: &str = "classifier";

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
}

/// Size of the packet state in bytes.
pub const STATE_SIZE: u32 = 112;

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
}

/// Reasons a counter row has room for.
pub const COUNTER_REASONS: u32 = 16;
/// Entries of [`COUNTERS_MAP`]: direction × verdict × reason.
pub const COUNTERS_ENTRIES: u32 = 4 * COUNTER_REASONS;

/// Index in [`COUNTERS_MAP`]: `egress` and `deny` select the row, `reason` the column.
pub const fn counter_index(egress: bool, deny: bool, reason: u32) -> u32 {
    (egress as u32 * 2 + deny as u32) * COUNTER_REASONS + reason
}

/// Size of `struct polc_config` in bytes: four `u32`: `policy_slot`, `endpoint`,
/// `flags` ([`CONFIG_STATELESS`], …), `abi_version`.
pub const CONFIG_SIZE: u32 = 16;
/// Leave out connection and fragment tracking.
pub const CONFIG_STATELESS: u32 = 1;
/// Take the time from `cb[0]` (low) and `cb[1]` (high) instead of the kernel's
/// clock, so that a replay has the capture's clock.
pub const CONFIG_REPLAY_CLOCK: u32 = 2;

/// tc's verdict for a packet that goes on (`TC_ACT_UNSPEC` would leave it to the
/// next program): `TC_ACT_OK`.
pub const TC_OK: u32 = 0;
/// tc's verdict for a dropped packet: `TC_ACT_SHOT`.
pub const TC_SHOT: u32 = 2;

/// The C header that the entry programs include: `struct polc_state` and every
/// constant of this module.
pub fn c_header() -> String {
    let mut h = String::from(
        "/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */\n\
         /* Generated from compiler/src/abi.rs; do not edit. */\n\
         #ifndef POLC_ABI_H\n#define POLC_ABI_H\n\n",
    );
    let constants = [
        ("ABI_VERSION", ABI_VERSION),
        ("PROGS_ENTRIES", PROGS_ENTRIES),
        ("SLOT_ALLOWED", SLOT_ALLOWED),
        ("SLOT_DENIED", SLOT_DENIED),
        ("SLOT_FIRST_POLICY", SLOT_FIRST_POLICY),
        ("FLAG_PORTS", FLAG_PORTS),
        ("FLAG_ICMP", FLAG_ICMP),
        ("FLAG_FIRST_FRAGMENT", FLAG_FIRST_FRAGMENT),
        ("FLAG_LATER_FRAGMENT", FLAG_LATER_FRAGMENT),
        ("FLAG_EGRESS", FLAG_EGRESS),
        ("FLAG_STATELESS", FLAG_STATELESS),
        ("VERDICT_ALLOW", VERDICT_ALLOW),
        ("VERDICT_DENY", VERDICT_DENY),
        ("NO_DECISION", NO_DECISION),
        ("COUNTER_REASONS", COUNTER_REASONS),
        ("COUNTERS_ENTRIES", COUNTERS_ENTRIES),
        ("CONFIG_STATELESS", CONFIG_STATELESS),
        ("CONFIG_REPLAY_CLOCK", CONFIG_REPLAY_CLOCK),
    ];
    for (name, value) in constants {
        let _ = writeln!(h, "#define POLC_{name} {value:#x}u");
    }
    for (value, name) in REASONS {
        let name = name.to_uppercase().replace('-', "_");
        let _ = writeln!(h, "#define POLC_REASON_{name} {value}u");
    }
    h.push_str("\nstruct polc_state {\n");
    for f in STATE_FIELDS {
        let ty = match f.size {
            1 => "__u8",
            2 => "__u16",
            4 => "__u32",
            _ => "__u64",
        };
        let dim = if f.count > 1 { format!("[{}]", f.count) } else { String::new() };
        let _ = writeln!(h, "\t{ty} {}{dim};", f.name);
    }
    let _ = writeln!(h, "}};\n_Static_assert(sizeof(struct polc_state) == {STATE_SIZE}, \"state size\");");
    h.push_str(
        "\nstruct polc_config {\n\t__u32 policy_slot;\n\t__u32 endpoint;\n\t__u32 flags;\n\t__u32 abi_version;\n};\n",
    );
    let _ = writeln!(h, "_Static_assert(sizeof(struct polc_config) == {CONFIG_SIZE}, \"config size\");");
    h.push_str("\n#endif\n");
    h
}

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
            assert!(counter_index(true, true, *value) < COUNTERS_ENTRIES);
        }
    }

    #[test]
    fn checked_in_header_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../prebuilt-bpf/polc_abi.h");
        if std::env::var_os("POLC_BLESS").is_some() {
            std::fs::write(path, c_header()).unwrap();
        }
        let have = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(have, c_header(), "run with POLC_BLESS=1 to regenerate {path}");
    }
}
