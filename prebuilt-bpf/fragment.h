/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments: a first fragment has the ports and is decided like a whole packet;
 * the ones after it follow that verdict. One whose first fragment is not known
 * is decided as a packet without ports.
 */
#ifndef POLC_FRAGMENT_H
#define POLC_FRAGMENT_H

#include "conntrack.h"

/* How long a receiver waits for the rest of a datagram: Linux' ipfrag_time. */
#define TIMEOUT_FRAGMENTS (30 * SECONDS)

struct polc_fragment_key {
	__u32 endpoint;
	__u8 src[16];
	__u8 dst[16];
	__u32 id;
	__u8 egress;
	__u8 family;
	__u8 protocol; /* IPv4 only: RFC 8200 identifies a datagram without it */
	__u8 zero;
};

struct polc_fragment_value {
	__u64 time;
	__u32 verdict;
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct polc_fragment_key);
	__type(value, struct polc_fragment_value);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_fragments SEC(".maps");

INLINE void fragment_key(const struct polc_state *st, struct polc_fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->endpoint = st->endpoint;
	copy_address(key->src, st->src, 4);
	copy_address(key->dst, st->dst, 4);
	key->id = st->fragment_id;
	key->egress = !!(st->flags & POLC_FLAG_EGRESS);
	key->family = st->family;
	key->protocol = st->family == 4 ? st->protocol : 0;
}

/* The verdict that a later fragment inherits; 0 if its first fragment is not known. */
INLINE __u32 fragment_verdict(const struct polc_state *st)
{
	struct polc_fragment_value *first;
	struct polc_fragment_key key;

	fragment_key(st, &key);
	first = bpf_map_lookup_elem(&polc_fragments, &key);
	if (!first || is_expired(first->time, st->now, TIMEOUT_FRAGMENTS))
		return 0;
	return first->verdict;
}

/* Keeps a first fragment's verdict for those that follow. */
INLINE void fragment_remember(const struct polc_state *st, __u32 verdict)
{
	struct polc_fragment_value first = { .time = st->now, .verdict = verdict };
	struct polc_fragment_key key;

	if (!(st->flags & POLC_FLAG_FIRST_FRAGMENT))
		return;
	fragment_key(st, &key);
	bpf_map_update_elem(&polc_fragments, &key, &first, 0);
}

#endif
