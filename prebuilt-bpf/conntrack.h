/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connection tracking: packets of a connection whose first packet policy
 * allowed pass in both directions. README.md states the rules.
 *
 * An entry belongs to one endpoint and is keyed from its point of view (local,
 * remote), so both of its directions find the same one. One that is too old
 * counts as none; a loader sweeps, and the map's LRU order reuses the memory
 * where it does not. Each fact has a byte of its own, so that two CPUs that
 * handle the two directions cannot undo each other's stores.
 */
#ifndef POLC_CONNTRACK_H
#define POLC_CONNTRACK_H

#include "parse.h"

#define SECONDS 1000000000ull

enum {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16,

	/* Who sent the echo request. */
	ECHO_NONE = 0,
	ECHO_BY_LOCAL = 1,
	ECHO_BY_REMOTE = 2,
};

struct polc_conntrack_key {
	__u32 endpoint;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port; /* echo: the identifier */
	__u16 remote_port;
	__u8 protocol;
	__u8 family;
	__u8 echo;
	__u8 zero;
};

_Static_assert(sizeof(struct polc_conntrack_key) == POLC_CONNTRACK_KEY_SIZE, "conntrack key size");

/* What was seen in one direction. */
struct polc_conntrack_leg {
	__u8 seen;
	__u8 syn;
	__u8 ack;
	__u8 fin;
	__u8 rst;
	__u8 zero[3];
};

struct polc_conntrack_value {
	__u64 created;
	__u64 last_seen;
	__u32 generation;
	__u8 opened_by_egress;
	__u8 confirmed; /* TCP: the opener acknowledged an answer */
	__u8 zero[2];
	struct polc_conntrack_leg ingress;
	struct polc_conntrack_leg egress;
};
_Static_assert(sizeof(struct polc_conntrack_value) == POLC_CONNTRACK_VALUE_SIZE, "conntrack value size");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, POLC_CONNTRACK_ENTRIES);
	__type(key, struct polc_conntrack_key);
	__type(value, struct polc_conntrack_value);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_conntrack SEC(".maps");

/* Nothing that is newer than `now`, as clocks of two CPUs may have it, is too old. */
INLINE int is_expired(__u64 then, __u64 now, __u64 timeout)
{
	return now > then && now - then > timeout;
}

INLINE int is_request_type(__u8 family, __u8 type)
{
	return type == (family == 4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST);
}

INLINE int is_reply_type(__u8 family, __u8 type)
{
	return type == (family == 4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY);
}

INLINE int is_echo_request(const struct polc_state *st)
{
	return is_request_type(st->family, st->icmp_type);
}

/* Whether an entry may speak for this packet: of ICMP, echo alone has connections. */
INLINE int is_tracked(const struct polc_state *st)
{
	if (st->flags & POLC_FLAG_LATER_FRAGMENT)
		return 0;
	return !(st->flags & POLC_FLAG_ICMP) || is_echo_request(st) || is_reply_type(st->family, st->icmp_type);
}

/* A TCP connection's very first packet. It is policy's, whatever is known about its addresses. */
INLINE int is_tcp_opening(const struct polc_state *st)
{
	return st->protocol == IPPROTO_TCP && (st->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

INLINE void conntrack_key(const struct polc_state *st, struct polc_conntrack_key *key)
{
	int egress = !!(st->flags & POLC_FLAG_EGRESS);

	__builtin_memset(key, 0, sizeof(*key));
	key->endpoint = st->endpoint;
	copy_address(key->local, egress ? st->src : st->dst, 4);
	copy_address(key->remote, egress ? st->dst : st->src, 4);
	key->protocol = st->protocol;
	key->family = st->family;
	if (st->flags & POLC_FLAG_ICMP) {
		key->local_port = st->icmp_id;
		key->echo = egress == is_echo_request(st) ? ECHO_BY_LOCAL : ECHO_BY_REMOTE;
	} else {
		key->local_port = egress ? st->sport : st->dport;
		key->remote_port = egress ? st->dport : st->sport;
	}
}

INLINE __u64 conntrack_timeout(const struct polc_conntrack_key *key, const struct polc_conntrack_value *entry)
{
	const struct polc_conntrack_leg *answers = entry->opened_by_egress ? &entry->ingress : &entry->egress;

	if (key->echo)
		return POLC_TIMEOUT_ECHO;
	if (key->protocol == IPPROTO_UDP)
		return answers->seen ? POLC_TIMEOUT_UDP_ASSURED : POLC_TIMEOUT_UDP_UNREPLIED;
	if (key->protocol != IPPROTO_TCP)
		return POLC_TIMEOUT_OTHER;
	if (entry->ingress.rst || entry->egress.rst)
		return POLC_TIMEOUT_TCP_RESET;
	if (entry->ingress.fin && entry->egress.fin)
		return POLC_TIMEOUT_TCP_CLOSED;
	if (!entry->confirmed)
		return answers->seen ? POLC_TIMEOUT_TCP_SYN_RECEIVED : POLC_TIMEOUT_TCP_SYN_SENT;
	if (entry->ingress.fin || entry->egress.fin)
		return POLC_TIMEOUT_TCP_HALF_CLOSED;
	return POLC_TIMEOUT_TCP_ESTABLISHED;
}

/* The entry of a connection that is not over. */
INLINE struct polc_conntrack_value *conntrack_find(const struct polc_state *st, const struct polc_conntrack_key *key)
{
	struct polc_conntrack_value *entry = bpf_map_lookup_elem(&polc_conntrack, key);

	if (!entry || is_expired(entry->last_seen, st->now, conntrack_timeout(key, entry)))
		return NULL;
	return entry;
}

INLINE __u32 generation(__u32 slot)
{
	__u32 *found = bpf_map_lookup_elem(&polc_generations, &slot);

	return found ? *found : 0;
}

/* Allowed by an older policy than the one that is in force for its opener's direction. */
INLINE int is_stale(const struct polc_state *st, const struct polc_conntrack_value *entry)
{
	int egress = !!(st->flags & POLC_FLAG_EGRESS);

	if (egress == entry->opened_by_egress)
		return entry->generation != generation(polc_config.policy_slot);
	return entry->generation != generation(polc_config.peer_slot);
}

/*
 * What a packet of the connection tells about it. Nothing is written that stands
 * there already: most packets of an established connection leave its cache lines
 * alone.
 */
INLINE void conntrack_see(const struct polc_state *st, struct polc_conntrack_value *entry)
{
	int egress = !!(st->flags & POLC_FLAG_EGRESS);
	struct polc_conntrack_leg *leg = egress ? &entry->egress : &entry->ingress;

	if (st->now > entry->last_seen && st->now - entry->last_seen >= POLC_CONNTRACK_SEEN_STEP)
		entry->last_seen = st->now;
	if (!leg->seen)
		leg->seen = 1;
	if (!st->tcp_flags)
		return;
	if ((st->tcp_flags & TCP_SYN) && !leg->syn)
		leg->syn = 1;
	if ((st->tcp_flags & TCP_FIN) && !leg->fin)
		leg->fin = 1;
	if ((st->tcp_flags & TCP_RST) && !leg->rst)
		leg->rst = 1;
	if (!(st->tcp_flags & TCP_ACK))
		return;
	if (!leg->ack)
		leg->ack = 1;
	if (!entry->confirmed && egress == entry->opened_by_egress &&
	    (egress ? &entry->ingress : &entry->egress)->seen)
		entry->confirmed = 1;
}

INLINE void swap_words(void *left, void *right, __u32 words)
{
	__u32 *a = left, *b = right;

	for (__u32 i = 0; i < words; i++) {
		__u32 kept = a[i];

		a[i] = b[i];
		b[i] = kept;
	}
}

/*
 * Turns an answer into what it answers, as far as policy looks at it, or back:
 * policy is asked about a connection's first packet, whichever packet is there.
 */
INLINE void reverse(struct polc_state *st)
{
	__u16 port = st->sport;

	/* Both prefix lengths are the family's. */
	swap_words(st->src, st->dst, 4);
	st->sport = st->dport;
	st->dport = port;
	st->flags ^= POLC_FLAG_EGRESS;
	if (!(st->flags & POLC_FLAG_ICMP))
		return;
	if (st->family == 4)
		st->icmp_type = is_echo_request(st) ? ICMP_ECHO_REPLY : ICMP_ECHO_REQUEST;
	else
		st->icmp_type = is_echo_request(st) ? ICMPV6_ECHO_REPLY : ICMPV6_ECHO_REQUEST;
}

/*
 * Whether the packet belongs to a live connection; the entry learns from it. If
 * the entry is stale and `recheck` is set, policy has to decide: the state says so.
 */
INLINE int conntrack_passes(struct polc_state *st, int recheck)
{
	struct polc_conntrack_value *entry;
	struct polc_conntrack_key key;

	if (!is_tracked(st) || is_tcp_opening(st))
		return 0;
	conntrack_key(st, &key);
	entry = conntrack_find(st, &key);
	if (!entry)
		return 0;
	if (recheck && is_stale(st, entry)) {
		st->flags |= POLC_FLAG_RECHECK;
		if (!!(st->flags & POLC_FLAG_EGRESS) != entry->opened_by_egress) {
			st->flags |= POLC_FLAG_REVERSED;
			reverse(st);
		}
		return 0;
	}
	conntrack_see(st, entry);
	return 1;
}

/* Enters the connection whose first packet was just allowed. */
INLINE void conntrack_open(const struct polc_state *st)
{
	struct polc_conntrack_value entry = {};
	struct polc_conntrack_key key;

	if (!is_tracked(st) || ((st->flags & POLC_FLAG_ICMP) && !is_echo_request(st)))
		return;
	conntrack_key(st, &key);
	entry.created = st->now;
	entry.last_seen = st->now;
	entry.generation = st->generation;
	entry.opened_by_egress = !!(st->flags & POLC_FLAG_EGRESS);
	conntrack_see(st, &entry);
	bpf_map_update_elem(&polc_conntrack, &key, &entry, 0);
}

/*
 * Policy decided anew about a connection that an older one allowed. Of one that is
 * denied the entry stays as it is, for its time: it says who opened it. Without it
 * the answerer's next packet would be a first one, and its own direction's policy
 * could let the connection begin again.
 */
INLINE void conntrack_renew(const struct polc_state *st, __u32 verdict)
{
	struct polc_conntrack_value *entry;
	struct polc_conntrack_key key;

	if (verdict != POLC_VERDICT_ALLOW)
		return;
	conntrack_key(st, &key);
	entry = bpf_map_lookup_elem(&polc_conntrack, &key);
	if (!entry)
		return;
	entry->generation = st->generation;
	conntrack_see(st, entry);
}

#endif
