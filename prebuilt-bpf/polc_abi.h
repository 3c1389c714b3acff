/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Generated from compiler/src/abi.rs; do not edit. */
#ifndef POLC_ABI_H
#define POLC_ABI_H

#define POLC_ABI_VERSION 0x2u
#define POLC_PROGS_ENTRIES 0x1000u
#define POLC_SLOT_ALLOWED 0x0u
#define POLC_SLOT_DENIED 0x1u
#define POLC_SLOT_FIRST_POLICY 0x2u
#define POLC_NO_SLOT 0xffffffffu
#define POLC_FLAG_PORTS 0x1u
#define POLC_FLAG_ICMP 0x2u
#define POLC_FLAG_FIRST_FRAGMENT 0x4u
#define POLC_FLAG_LATER_FRAGMENT 0x8u
#define POLC_FLAG_EGRESS 0x10u
#define POLC_FLAG_STATELESS 0x20u
#define POLC_FLAG_XDP 0x40u
#define POLC_FLAG_LOG 0x80u
#define POLC_FLAG_RECHECK 0x100u
#define POLC_FLAG_REVERSED 0x200u
#define POLC_FLAG_UNTRACKED 0x400u
#define POLC_VERDICT_ALLOW 0x1u
#define POLC_VERDICT_DENY 0x2u
#define POLC_NO_DECISION 0xffffffffu
#define POLC_COUNTER_REASONS 0x10u
#define POLC_COUNTERS 0x20u
#define POLC_COUNTER_ROWS 0x1000u
#define POLC_LOG_BYTES 0x40000u
#define POLC_XDP_ACCEPTED 0x706f6c63u
#define POLC_TC_OK 0x0u
#define POLC_TC_SHOT 0x2u
#define POLC_XDP_DROP 0x1u
#define POLC_XDP_PASS 0x2u
#define POLC_CONFIG_STATELESS 0x1u
#define POLC_CONFIG_REPLAY_CLOCK 0x2u
#define POLC_CONFIG_FAILSAFES 0x4u
#define POLC_CONFIG_UNTRACKED 0x8u
#define POLC_CONFIG_XDP 0x10u
#define POLC_SETTING_RECHECK 0x1u
#define POLC_SETTING_LOG 0x2u
#define POLC_FAILSAFE_PORTS 0x400u
#define POLC_FAILSAFE_NETS 0x8u
#define POLC_FAILSAFE_KEY_SIZE 0x4u
#define POLC_FAILSAFE_VALUE_SIZE 0x128u
#define POLC_CONNTRACK_ENTRIES 0x20000u
#define POLC_CONNTRACK_KEY_SIZE 0x2cu
#define POLC_CONNTRACK_VALUE_SIZE 0x28u
#define POLC_STATE_SIZE 0x90u
#define POLC_REASON_NONE 0u
#define POLC_REASON_POLICY 1u
#define POLC_REASON_CONNTRACK 2u
#define POLC_REASON_FAILSAFE 3u
#define POLC_REASON_NOT_IP 4u
#define POLC_REASON_MALFORMED 5u
#define POLC_REASON_TOO_SHORT 6u
#define POLC_REASON_UNSUPPORTED 7u
#define POLC_REASON_NO_PROGRAM 8u
#define POLC_REASON_NO_TABLE 9u
#define POLC_REASON_NEIGHBOUR_DISCOVERY 10u
#define POLC_REASON_ANOTHER_PROGRAM 11u
#define POLC_REASON_PASSED_ON 12u
#define POLC_TIMEOUT_TCP_SYN_SENT 20000000000ull
#define POLC_TIMEOUT_TCP_SYN_RECEIVED 20000000000ull
#define POLC_TIMEOUT_TCP_ESTABLISHED 3600000000000ull
#define POLC_TIMEOUT_TCP_HALF_CLOSED 3600000000000ull
#define POLC_TIMEOUT_TCP_CLOSED 30000000000ull
#define POLC_TIMEOUT_TCP_RESET 40000000000ull
#define POLC_TIMEOUT_UDP_UNREPLIED 60000000000ull
#define POLC_TIMEOUT_UDP_ASSURED 120000000000ull
#define POLC_TIMEOUT_ECHO 5000000000ull
#define POLC_TIMEOUT_OTHER 600000000000ull
#define POLC_CONNTRACK_SEEN_STEP 1000000000ull

struct polc_state {
	__u32 src_prefix;
	__u8 src[16];
	__u32 dst_prefix;
	__u8 dst[16];
	__u16 sport;
	__u16 dport;
	__u8 family;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u32 flags;
	__u32 ifindex;
	__u32 mark;
	__u32 endpoint;
	__u32 verdict;
	__u32 reason;
	__u32 decision;
	__u32 logged;
	__u32 log_decision;
	__u32 src_class;
	__u32 dst_class;
	__u32 tcp_flags;
	__u64 now;
	__u32 fragment_id;
	__u32 icmp_id;
	__u64 spent;
	__u32 counters;
	__u32 generation;
	__u32 next_slot;
	__u32 pass_decision;
	__u32 quote;
	__u32 end;
};
_Static_assert(sizeof(struct polc_state) == 144, "state size");

struct polc_config {
	__u32 policy_slot;
	__u32 endpoint;
	__u32 flags;
	__u32 abi_version;
	__u32 peer_slot;
	__u32 counters;
	__u32 untracked_slot;
	__u32 next_slot;
	__u32 pass_decision;
};
_Static_assert(sizeof(struct polc_config) == 36, "config size");

struct polc_settings {
	__u32 flags;
	__u32 log_ifindex;
	__u32 accept_mark;
	__u32 accept_mask;
	__u64 log_interval;
	__u64 log_credit;
};
_Static_assert(sizeof(struct polc_settings) == 32, "settings size");

#endif
