/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors: one that quotes a packet of a live connection belongs to it.
 *
 * The quote is whatever the sender of the error says, so nothing is believed but
 * that it names a connection: it has to be from whom the error is sent to, as
 * the packet's return demands, and nothing is learnt from it. A quote that ends
 * inside a header, is no first fragment, or has more than four extension headers
 * names none; policy then decides about the error.
 */
#ifndef POLC_QUOTE_H
#define POLC_QUOTE_H

#include "conntrack.h"

enum {
	MAX_QUOTED_EXTENSIONS = 4,
	/* What an error quotes of a transport header at least (RFC 792). */
	QUOTED_TRANSPORT = 8,
};

/* `size` bytes of the quote, inside the IP packet and inside the bytes that are there. */
INLINE __u8 *quoted(const struct packet *packet, const struct polc_state *st, __u32 offset, __u32 size)
{
	return offset + size <= st->end ? header(packet, offset, size) : NULL;
}

INLINE int is_same_address(const __u8 *left, const __u8 *right, __u32 words)
{
	__u32 difference = 0;

	for (__u32 i = 0; i < words; i++)
		difference |= ((const __u32 *)left)[i] ^ ((const __u32 *)right)[i];
	return !difference;
}

/* Fills in protocol and addresses; gives the offset of the transport header, or 0. */
INLINE __u32 quote_ipv4(const struct packet *packet, struct polc_state *st, struct polc_conntrack_key *key, int egress)
{
	__u8 *p = quoted(packet, st, st->quote, IPV4_LEN);
	__u32 len;

	if (!p || p[0] >> 4 != 4 || (be16(p + 6) & 0x1fff) || !is_same_address(p + 12, st->dst, 1))
		return 0;
	len = (p[0] & 15) * 4;
	if (len < IPV4_LEN)
		return 0;
	key->protocol = p[9];
	copy_address(egress ? key->local : key->remote, p + 12, 1);
	copy_address(egress ? key->remote : key->local, p + 16, 1);
	return forget(st, st->quote + len);
}

INLINE __u32 quote_ipv6(const struct packet *packet, struct polc_state *st, struct polc_conntrack_key *key, int egress)
{
	__u8 *p = quoted(packet, st, st->quote, IPV6_LEN);
	__u32 offset = st->quote + IPV6_LEN;
	__u8 protocol;

	if (!p || p[0] >> 4 != 6 || !is_same_address(p + 8, st->dst, 4))
		return 0;
	protocol = p[6];
	copy_address(egress ? key->local : key->remote, p + 8, 4);
	copy_address(egress ? key->remote : key->local, p + 24, 4);
	for (int i = 0; i < MAX_QUOTED_EXTENSIONS && is_extension(protocol); i++) {
		p = quoted(packet, st, offset, 8);
		if (!p || (protocol == IPPROTO_FRAGMENT && (be16(p + 2) & 0xfff8)))
			return 0;
		offset = forget(st, offset + extension_len(protocol, p[1]));
		protocol = p[0];
	}
	key->protocol = protocol;
	return is_extension(protocol) ? 0 : offset;
}

/* Fills in what the quoted transport header says; 0 if it names no connection. */
INLINE int quote_transport(const struct packet *packet, const struct polc_state *st, struct polc_conntrack_key *key,
			   __u32 offset, int egress)
{
	int icmp = key->protocol == (st->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	__u8 *p;

	if (!icmp && key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP && key->protocol != IPPROTO_SCTP)
		return 1;
	p = quoted(packet, st, offset, QUOTED_TRANSPORT);
	if (!p)
		return 0;
	if (!icmp) {
		key->local_port = be16(egress ? p : p + 2);
		key->remote_port = be16(egress ? p + 2 : p);
		return 1;
	}
	if (!is_request_type(st->family, p[0]) && !is_reply_type(st->family, p[0]))
		return 0;
	key->local_port = be16(p + 4);
	key->echo = egress == is_request_type(st->family, p[0]) ? ECHO_BY_LOCAL : ECHO_BY_REMOTE;
	return 1;
}

/* Whether an ICMP error belongs to a live connection that policy still stands by. */
INLINE int quote_passes(const struct packet *packet, struct polc_state *st, int recheck)
{
	/* The quoted packet went the other way. */
	int egress = !(st->flags & POLC_FLAG_EGRESS);
	const struct polc_conntrack_value *entry;
	struct polc_conntrack_key key = {};
	__u32 offset;

	key.endpoint = st->endpoint;
	key.family = st->family;
	offset = st->family == 4 ? quote_ipv4(packet, st, &key, egress) : quote_ipv6(packet, st, &key, egress);
	if (!offset || !quote_transport(packet, st, &key, offset, egress))
		return 0;
	entry = conntrack_find(st, &key);
	return entry && !(recheck && is_stale(st, entry));
}

#endif
