/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Failsafe ports: what a host lets through whatever policy says, so that a
 * mistake in policy, or a missing program, cuts nobody off.
 */
#ifndef POLC_FAILSAFE_H
#define POLC_FAILSAFE_H

#include "parse.h"

struct polc_failsafe_key {
	__u16 port;
	__u8 protocol;
	__u8 egress;
};
_Static_assert(sizeof(struct polc_failsafe_key) == POLC_FAILSAFE_KEY_SIZE, "failsafe key size");

struct polc_failsafe_net {
	__u32 family; /* 0: any address */
	__u32 address[4];
	__u32 mask[4];
};

struct polc_failsafe_value {
	__u32 nets;
	__u32 zero;
	struct polc_failsafe_net net[POLC_FAILSAFE_NETS];
};
_Static_assert(sizeof(struct polc_failsafe_value) == POLC_FAILSAFE_VALUE_SIZE, "failsafe value size");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, POLC_FAILSAFE_PORTS);
	__type(key, struct polc_failsafe_key);
	__type(value, struct polc_failsafe_value);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_failsafes SEC(".maps");

INLINE int is_in_net(const struct polc_failsafe_net *net, const struct polc_state *st, const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;
	__u32 difference = 0;

	if (net->family && net->family != st->family)
		return 0;
	for (int i = 0; i < 4; i++)
		difference |= (words[i] ^ net->address[i]) & net->mask[i];
	return !difference;
}

/* Whether a port is open for the far side's address. */
INLINE int is_open(const struct polc_state *st, int egress, __u16 port, const __u8 *far)
{
	struct polc_failsafe_key key = { .port = port, .protocol = st->protocol, .egress = egress };
	const struct polc_failsafe_value *value = bpf_map_lookup_elem(&polc_failsafes, &key);

	if (!value)
		return 0;
	for (__u32 i = 0; i < POLC_FAILSAFE_NETS; i++) {
		if (i >= value->nets)
			return 0;
		if (is_in_net(&value->net[i], st, far))
			return 1;
	}
	return 0;
}

/* A packet towards a failsafe port. */
INLINE int is_failsafe(const struct polc_state *st)
{
	int egress = !!(st->flags & POLC_FLAG_EGRESS);

	if (!(st->flags & POLC_FLAG_PORTS))
		return 0;
	return is_open(st, egress, st->dport, egress ? st->dst : st->src);
}

/* A packet that may answer one towards a failsafe port of the other direction. */
INLINE int is_failsafe_reply(const struct polc_state *st)
{
	int egress = !!(st->flags & POLC_FLAG_EGRESS);

	if (!(st->flags & POLC_FLAG_PORTS))
		return 0;
	return is_open(st, !egress, st->sport, egress ? st->dst : st->src);
}

#endif
