/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Generated from compiler/src/abi.rs; do not edit. */
#ifndef POLC_ABI_H
#define POLC_ABI_H

#define POLC_ABI_VERSION 0x1u
#define POLC_PROGS_ENTRIES 0x1000u
#define POLC_SLOT_ALLOWED 0x0u
#define POLC_SLOT_DENIED 0x1u
#define POLC_SLOT_FIRST_POLICY 0x2u
#define POLC_FLAG_PORTS 0x1u
#define POLC_FLAG_ICMP 0x2u
#define POLC_FLAG_FIRST_FRAGMENT 0x4u
#define POLC_FLAG_LATER_FRAGMENT 0x8u
#define POLC_FLAG_EGRESS 0x10u
#define POLC_FLAG_STATELESS 0x20u
#define POLC_VERDICT_ALLOW 0x1u
#define POLC_VERDICT_DENY 0x2u
#define POLC_NO_DECISION 0xffffffffu
#define POLC_COUNTER_REASONS 0x10u
#define POLC_COUNTERS_ENTRIES 0x40u
#define POLC_CONFIG_STATELESS 0x1u
#define POLC_CONFIG_REPLAY_CLOCK 0x2u
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
};
_Static_assert(sizeof(struct polc_state) == 112, "state size");

struct polc_config {
	__u32 policy_slot;
	__u32 endpoint;
	__u32 flags;
	__u32 abi_version;
};
_Static_assert(sizeof(struct polc_config) == 16, "config size");

#endif
