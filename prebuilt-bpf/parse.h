/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Header parsing: from the Ethernet header to the ports, into the packet state.
 *
 * Two bounds hold for every header. It has to lie inside what the IP header
 * says the packet has (else the headers contradict each other: malformed), and
 * inside the bytes that are there (else: too short). Bytes that the IP header
 * announces and nobody reads may be missing, as they are in a capture with a
 * small snap length; bytes behind the IP packet are Ethernet padding and never
 * read.
 */
#ifndef POLC_PARSE_H
#define POLC_PARSE_H

#include "polc.h"

enum {
	ETH_LEN = 14,
	VLAN_LEN = 4,
	MAX_VLAN_TAGS = 2,
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_VLAN = 0x8100,
	ETHERTYPE_IPV6 = 0x86dd,
	ETHERTYPE_QINQ = 0x88a8,

	IPV4_LEN = 20,
	IPV6_LEN = 40,
	/* Extension headers that are followed; RFC 8200 sets no limit, senders use one or two. */
	MAX_EXTENSIONS = 8,
	/* 2 tags, 8 extension headers of 2,048 bytes and a TCP header stay below it. */
	MAX_OFFSET = 0x7fff,
	MAX_DATAGRAM = 65535,
	/* The IP header sets no bound. */
	UNBOUNDED = 0x7fffffff,

	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_AH = 51,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
	IPPROTO_SCTP = 132,

	TCP_LEN = 20,
	UDP_LEN = 8,
	SCTP_LEN = 12,
	ICMP_LEN = 8,
	AH_MIN_LEN = 12,

	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO_REQUEST = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
	ICMPV6_FIRST_ERROR = 1,
	ICMPV6_LAST_ERROR = 4,
	ICMPV6_ECHO_REQUEST = 128,
	ICMPV6_ECHO_REPLY = 129,
};

INLINE __u16 be16(const void *p)
{
	return __builtin_bswap16(*(const __u16 *)p);
}

INLINE __u32 be32(const void *p)
{
	return __builtin_bswap32(*(const __u32 *)p);
}

/* A packet at tc or at XDP; which of both is a constant wherever it is asked. */
struct packet {
	int at_xdp;
	union {
		struct __sk_buff *skb;
		struct xdp_md *xdp;
	};
};

INLINE __u32 packet_len(const struct packet *packet)
{
	__u64 data, end;

	if (!packet->at_xdp)
		return packet->skb->len;
	/* The fields are pointers to the verifier, which it subtracts in 64 bits only. */
	data = packet->xdp->data;
	end = packet->xdp->data_end;
	OPAQUE(data);
	OPAQUE(end);
	end -= data;
	OPAQUE(end);
	return end;
}

INLINE __u8 *linear(const struct packet *packet, __u32 offset, __u32 size)
{
	__u8 *p = (__u8 *)(long)(packet->at_xdp ? packet->xdp->data : packet->skb->data) + offset;
	__u8 *end = (__u8 *)(long)(packet->at_xdp ? packet->xdp->data_end : packet->skb->data_end);

	return p + size <= end ? p : NULL;
}

/*
 * `size` bytes at `offset`, or NULL where the packet ends before. Valid until
 * the next call: making bytes linear moves the packet.
 */
INLINE __u8 *header(const struct packet *packet, __u32 offset, __u32 size)
{
	__u8 *p;

	/* Without the bound, the verifier could not tell that the sum stays inside. */
	OPAQUE(offset);
	if (offset > MAX_OFFSET)
		return NULL;
	p = linear(packet, offset, size);
	if (p || packet->at_xdp)
		return p;
	if (offset + size > packet->skb->len || bpf_skb_pull_data(packet->skb, offset + size))
		return NULL;
	return linear(packet, offset, size);
}

/*
 * The same number, but unknown to the verifier, which would otherwise walk all
 * that follows once per value: nine times as many instructions. What it reads
 * from a map it does not track; src_class is a later program's.
 */
INLINE __u32 forget(struct polc_state *st, __u32 number)
{
	volatile __u32 *scratch = &st->src_class;

	*scratch = number;
	number = *scratch;
	*scratch = 0;
	return number;
}

INLINE void copy_address(__u8 *to, const __u8 *from, __u32 words)
{
	for (__u32 i = 0; i < words; i++)
		((__u32 *)to)[i] = ((const __u32 *)from)[i];
}

INLINE __u32 parse_tcp(const struct packet *packet, struct polc_state *st, __u32 offset, __u32 end)
{
	__u8 *p = header(packet, offset, TCP_LEN);
	__u32 len;

	if (!p)
		return POLC_REASON_TOO_SHORT;
	len = (p[12] >> 4) * 4;
	if (len < TCP_LEN || offset + len > end)
		return POLC_REASON_MALFORMED;
	st->tcp_flags = p[13];
	return POLC_REASON_NONE;
}

/* Messages that quote the packet that they are about. Source quench (RFC 6633) is none. */
INLINE int is_icmp_error(const struct polc_state *st)
{
	__u8 type = st->icmp_type;

	if (st->family == 4)
		return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
	return type >= ICMPV6_FIRST_ERROR && type <= ICMPV6_LAST_ERROR;
}

INLINE void parse_icmp(struct polc_state *st, const __u8 *p, __u32 offset)
{
	__u8 type = p[0];

	st->flags |= POLC_FLAG_ICMP;
	st->icmp_type = type;
	st->icmp_code = p[1];
	if (st->family == 4 ? type == ICMP_ECHO_REQUEST || type == ICMP_ECHO_REPLY
			    : type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY)
		st->icmp_id = be16(p + 4);
	if (is_icmp_error(st))
		st->quote = offset + ICMP_LEN;
}

/* Bytes of the fixed transport header; 0 where policy reads nothing of it. */
INLINE __u32 transport_len(const struct polc_state *st)
{
	switch (st->protocol) {
	case IPPROTO_TCP:
		return TCP_LEN;
	case IPPROTO_UDP:
		return UDP_LEN;
	case IPPROTO_SCTP:
		return SCTP_LEN;
	case IPPROTO_ICMP:
		return st->family == 4 ? ICMP_LEN : 0;
	case IPPROTO_ICMPV6:
		return st->family == 6 ? ICMP_LEN : 0;
	default:
		return 0;
	}
}

/* The transport header of a whole packet or a first fragment; `end` is where the IP packet ends. */
INLINE __u32 parse_transport(const struct packet *packet, struct polc_state *st, __u32 offset, __u32 end)
{
	__u32 len = transport_len(st);
	__u8 *p;

	st->end = end;
	if (offset + len > end)
		return POLC_REASON_MALFORMED;
	if (offset + len > packet_len(packet))
		return POLC_REASON_TOO_SHORT;
	if (!len)
		return POLC_REASON_NONE;
	p = header(packet, offset, 8);
	if (!p)
		return POLC_REASON_TOO_SHORT;
	if (st->protocol == IPPROTO_ICMP || st->protocol == IPPROTO_ICMPV6) {
		parse_icmp(st, p, offset);
		return POLC_REASON_NONE;
	}
	if (st->protocol == IPPROTO_UDP) {
		__u32 udp_len = be16(p + 4);

		/* RFC 2675: a UDP jumbogram's length is 0. */
		if (udp_len < UDP_LEN && !(st->family == 6 && udp_len == 0))
			return POLC_REASON_MALFORMED;
	}
	st->sport = be16(p);
	st->dport = be16(p + 2);
	if (st->protocol == IPPROTO_TCP) {
		__u32 reason = parse_tcp(packet, st, offset, end);

		if (reason)
			return reason;
	}
	st->flags |= POLC_FLAG_PORTS;
	return POLC_REASON_NONE;
}

/*
 * A fragment's place in its datagram, `position` in units of 8 bytes;
 * `payload` is the number of bytes it carries.
 */
INLINE __u32 parse_fragment(struct polc_state *st, __u32 position, __u32 id, __u32 payload)
{
	st->fragment_id = id;
	if (position == 0) {
		st->flags |= POLC_FLAG_FIRST_FRAGMENT;
		return POLC_REASON_NONE;
	}
	/* RFC 3128: a fragment at 8 would rewrite the flags of the TCP header before it. */
	if (position == 1 && st->protocol == IPPROTO_TCP)
		return POLC_REASON_MALFORMED;
	if (position * 8 + payload > MAX_DATAGRAM)
		return POLC_REASON_MALFORMED;
	st->flags |= POLC_FLAG_LATER_FRAGMENT;
	return POLC_REASON_NONE;
}

INLINE __u32 parse_ipv4(const struct packet *packet, struct polc_state *st, __u32 offset)
{
	__u8 *p = header(packet, offset, IPV4_LEN);
	__u32 len, total, fragment, id, reason;

	if (!p)
		return POLC_REASON_TOO_SHORT;
	if (p[0] >> 4 != 4)
		return POLC_REASON_MALFORMED;
	st->family = 4;
	st->src_prefix = 32;
	st->dst_prefix = 32;
	copy_address(st->src, p + 12, 1);
	copy_address(st->dst, p + 16, 1);
	st->protocol = p[9];
	len = (p[0] & 15) * 4;
	total = be16(p + 2);
	fragment = be16(p + 6);
	id = be16(p + 4);
	/* The kernel's BIG TCP packets do not fit in the field and leave 0 there. */
	if (total == 0 && packet_len(packet) > MAX_DATAGRAM)
		total = packet_len(packet) - offset;
	if (len < IPV4_LEN || total < len)
		return POLC_REASON_MALFORMED;
	if (offset + len > packet_len(packet))
		return POLC_REASON_TOO_SHORT;
	if (fragment & 0x3fff) {
		reason = parse_fragment(st, fragment & 0x1fff, id, total - len);
		if (reason || (st->flags & POLC_FLAG_LATER_FRAGMENT))
			return reason;
	}
	return parse_transport(packet, st, offset + len, offset + total);
}

INLINE int is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_AH || protocol == IPPROTO_DSTOPTS;
}

INLINE __u32 extension_len(__u8 protocol, __u8 field)
{
	if (protocol == IPPROTO_FRAGMENT)
		return 8;
	if (protocol == IPPROTO_AH)
		return (field + 2) * 4;
	return (field + 1) * 8;
}

/*
 * One extension header at `*offset`; moves on behind it and leaves the next
 * header's number in the state.
 */
INLINE __u32 parse_extension(const struct packet *packet, struct polc_state *st, __u32 *offset, __u32 end, int *fragmented)
{
	__u8 *p = header(packet, *offset, 8);
	__u8 protocol = st->protocol;
	__u32 len, field, id;

	if (*offset + 8 > end)
		return POLC_REASON_MALFORMED;
	if (!p)
		return POLC_REASON_TOO_SHORT;
	st->protocol = p[0];
	len = extension_len(protocol, p[1]);
	if (protocol == IPPROTO_AH && len < AH_MIN_LEN)
		return POLC_REASON_MALFORMED;
	if (*offset + len > end)
		return POLC_REASON_MALFORMED;
	if (*offset + len > packet_len(packet))
		return POLC_REASON_TOO_SHORT;
	*offset += len;
	if (protocol != IPPROTO_FRAGMENT)
		return POLC_REASON_NONE;
	if (*fragmented)
		return POLC_REASON_MALFORMED;
	*fragmented = 1;
	field = be16(p + 2);
	id = be32(p + 4);
	/* RFC 6946: position 0 and no more fragments is a whole packet. */
	if (!(field & 0xfff9))
		return POLC_REASON_NONE;
	return parse_fragment(st, field >> 3, id, end - *offset);
}

INLINE __u32 parse_ipv6(const struct packet *packet, struct polc_state *st, __u32 offset, __u8 *hop_limit)
{
	__u8 *p = header(packet, offset, IPV6_LEN);
	__u32 end, payload, reason;
	int fragmented = 0;

	if (!p)
		return POLC_REASON_TOO_SHORT;
	if (p[0] >> 4 != 6)
		return POLC_REASON_MALFORMED;
	st->family = 6;
	st->src_prefix = 128;
	st->dst_prefix = 128;
	copy_address(st->src, p + 8, 4);
	copy_address(st->dst, p + 24, 4);
	st->protocol = p[6];
	*hop_limit = p[7];
	payload = be16(p + 4);
	offset += IPV6_LEN;
	/* RFC 2675 jumbograms and the kernel's BIG TCP packets leave 0 there. */
	end = payload ? offset + payload : UNBOUNDED;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (!is_extension(st->protocol))
			break;
		/* RFC 8200, section 4.1: hop-by-hop options stand first or nowhere. */
		if (st->protocol == IPPROTO_HOPOPTS && i > 0)
			return POLC_REASON_MALFORMED;
		reason = parse_extension(packet, st, &offset, end, &fragmented);
		if (reason || (st->flags & POLC_FLAG_LATER_FRAGMENT))
			return reason;
	}
	if (is_extension(st->protocol))
		return POLC_REASON_UNSUPPORTED;
	return parse_transport(packet, st, offset, end);
}

INLINE int is_vlan(__u16 ethertype)
{
	return ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ;
}

/*
 * Fills the packet facts of a state that is zero. POLC_REASON_NONE: an IP
 * packet that the rest of the program may decide about; POLC_REASON_NOT_IP:
 * nothing for policy; anything else: to be dropped for that reason.
 */
INLINE __u32 parse(const struct packet *packet, struct polc_state *st, __u8 *hop_limit)
{
	__u8 *p = header(packet, 0, ETH_LEN);
	__u32 offset = ETH_LEN;
	__u16 ethertype;

	if (!p)
		return POLC_REASON_TOO_SHORT;
	ethertype = be16(p + 12);
	/* The kernel takes the outermost tag out of the packet in most cases; further ones stay. */
	for (int i = 0; i < MAX_VLAN_TAGS && is_vlan(ethertype); i++) {
		p = header(packet, offset, VLAN_LEN);
		if (!p)
			return POLC_REASON_TOO_SHORT;
		ethertype = be16(p + 2);
		offset += VLAN_LEN;
	}
	if (is_vlan(ethertype))
		return POLC_REASON_UNSUPPORTED;
	offset = forget(st, offset);
	if (ethertype == ETHERTYPE_IPV4)
		return parse_ipv4(packet, st, offset);
	if (ethertype == ETHERTYPE_IPV6)
		return parse_ipv6(packet, st, offset, hop_limit);
	return POLC_REASON_NOT_IP;
}

#endif
