/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What every entry program needs: integer types, the kernel helpers in
 * use, the packet context and the maps.
 *
 * No header of the build machine is included, so that the object depends on
 * the compiler and on this folder alone (BTF would otherwise record whatever
 * struct __sk_buff the installed kernel headers have).
 */
#ifndef POLC_H
#define POLC_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#include "polc_abi.h"

#define NULL ((void *)0)
#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) value *name
/* Keeps the compiler from using what it knows about a value: a test behind it stays in the code. */
#define OPAQUE(value) __asm__ volatile("" : "+r"(value))

/* The kernel's numbers: include/uapi/linux/{bpf,pkt_cls}.h. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_F_NO_PREALLOC = 1,
	LIBBPF_PIN_BY_NAME = 1,
};

/* The head of the kernel's packet context; fields after data_meta are not used. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
};
_Static_assert(__builtin_offsetof(struct __sk_buff, data_meta) == 140, "context");

/* The same at XDP. */
struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_tail_call)(void *ctx, void *map, __u32 index) = (void *)12;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, __u32 len) = (void *)39;
static long (*const bpf_xdp_adjust_meta)(struct xdp_md *xdp, int delta) = (void *)54;
static long (*const bpf_ringbuf_output)(void *ringbuf, void *data, __u64 size, __u64 flags) = (void *)130;

/*
 * A loader sets this per attachment, before the object is loaded. As it stands
 * here it names no slot at all: every packet that policy should decide is
 * dropped.
 */
const volatile struct polc_config polc_config = {
	.policy_slot = POLC_NO_SLOT,
	.abi_version = POLC_ABI_VERSION,
	.peer_slot = POLC_NO_SLOT,
	.untracked_slot = POLC_NO_SLOT,
	.next_slot = POLC_NO_SLOT,
	.pass_decision = POLC_NO_DECISION,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct polc_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, POLC_PROGS_ENTRIES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_progs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, POLC_PROGS_ENTRIES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_xdp_progs SEC(".maps");

/* A row for each attachment: packets by verdict and reason. */
struct polc_counters_row {
	__u64 packets[POLC_COUNTERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, POLC_COUNTER_ROWS);
	__type(key, __u32);
	__type(value, struct polc_counters_row);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct polc_settings);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLC_PROGS_ENTRIES);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_generations SEC(".maps");

INLINE struct polc_state *packet_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&polc_state, &zero);
}

INLINE const struct polc_settings *settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&polc_settings, &zero);
}

#endif
