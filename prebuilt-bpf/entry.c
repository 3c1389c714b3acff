// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs around every policy program: polc_ingress and polc_egress parse
 * a packet into the packet state and hand it to the policy; the policy ends in
 * polc_allowed or polc_denied. Whatever goes wrong on the way drops the packet.
 */
#include "fragment.h"

enum {
	ICMPV6_MLD_QUERY = 130,
	ICMPV6_MLD_DONE = 132,
	ICMPV6_ROUTER_SOLICITATION = 133,
	ICMPV6_NEIGHBOUR_SOLICITATION = 135,
	ICMPV6_NEIGHBOUR_ADVERTISEMENT = 136,
};

/*
 * What a host needs to have a network at all. The set of types is the one that
 * Calico's eBPF data plane passes before policy (felix/bpf-gpl/tc.c): router
 * advertisements and redirects are not in it, they could change a neighbour's
 * routes. The hop limits are those without which a receiver ignores the message
 * (RFC 4861, RFC 2710); RFC 6980 forbids fragments.
 */
INLINE int is_neighbour_discovery(const struct polc_state *st, __u8 hop_limit)
{
	__u8 type = st->icmp_type;

	if (st->family != 6 || !(st->flags & POLC_FLAG_ICMP) || st->icmp_code != 0)
		return 0;
	if (st->flags & POLC_FLAG_FIRST_FRAGMENT)
		return 0;
	if (type >= ICMPV6_MLD_QUERY && type <= ICMPV6_MLD_DONE)
		return hop_limit == 1;
	return hop_limit == 255 && (type == ICMPV6_ROUTER_SOLICITATION || type == ICMPV6_NEIGHBOUR_SOLICITATION ||
				    type == ICMPV6_NEIGHBOUR_ADVERTISEMENT);
}

INLINE __u64 packet_time(const struct __sk_buff *skb)
{
	if (polc_config.flags & POLC_CONFIG_REPLAY_CLOCK)
		return (__u64)skb->cb[1] << 32 | skb->cb[0];
	/* Nobody asks for it, and the kernel's clock costs as much as all the rest. */
	if (polc_config.flags & POLC_CONFIG_STATELESS)
		return 0;
	return bpf_ktime_get_ns();
}

INLINE void begin(struct __sk_buff *skb, struct polc_state *st, __u32 direction)
{
	__builtin_memset(st, 0, sizeof(*st));
	st->flags = direction;
	if (polc_config.flags & POLC_CONFIG_STATELESS)
		st->flags |= POLC_FLAG_STATELESS;
	st->ifindex = skb->ifindex;
	st->mark = skb->mark;
	st->endpoint = polc_config.endpoint;
	st->decision = POLC_NO_DECISION;
	st->log_decision = POLC_NO_DECISION;
	st->now = packet_time(skb);
}

/* The verdict of tracking; 0 if policy has to decide. */
INLINE __u32 tracked_verdict(const struct polc_state *st)
{
	if (st->flags & POLC_FLAG_STATELESS)
		return 0;
	if (st->flags & POLC_FLAG_LATER_FRAGMENT)
		return fragment_verdict(st);
	if (!conntrack_passes(st))
		return 0;
	fragment_remember(st, POLC_VERDICT_ALLOW);
	return POLC_VERDICT_ALLOW;
}

INLINE int enter(struct __sk_buff *skb, __u32 direction)
{
	struct polc_state *st = packet_state();
	__u32 reason, verdict;
	__u8 hop_limit = 0;

	if (!st)
		return TC_ACT_SHOT;
	begin(skb, st, direction);
	reason = parse(skb, st, &hop_limit);
	if (reason == POLC_REASON_NOT_IP)
		return finish(st, POLC_VERDICT_ALLOW, reason);
	if (reason)
		return finish(st, POLC_VERDICT_DENY, reason);
	if (is_neighbour_discovery(st, hop_limit))
		return finish(st, POLC_VERDICT_ALLOW, POLC_REASON_NEIGHBOUR_DISCOVERY);
	verdict = tracked_verdict(st);
	if (verdict)
		return finish(st, verdict, POLC_REASON_CONNTRACK);
	bpf_tail_call(skb, &polc_progs, polc_config.policy_slot);
	return finish(st, POLC_VERDICT_DENY, POLC_REASON_NO_PROGRAM);
}

/* Where a policy program ends: tracking learns the verdict, which is counted. */
INLINE int leave(__u32 verdict)
{
	struct polc_state *st = packet_state();

	if (!st)
		return TC_ACT_SHOT;
	if (!(st->flags & POLC_FLAG_STATELESS)) {
		if (verdict == POLC_VERDICT_ALLOW)
			conntrack_open(st);
		fragment_remember(st, verdict);
	}
	return finish(st, verdict, st->reason);
}

SEC("classifier") int polc_ingress(struct __sk_buff *skb)
{
	return enter(skb, 0);
}

SEC("classifier") int polc_egress(struct __sk_buff *skb)
{
	return enter(skb, POLC_FLAG_EGRESS);
}

SEC("classifier") int polc_allowed(struct __sk_buff *skb)
{
	(void)skb;
	return leave(POLC_VERDICT_ALLOW);
}

SEC("classifier") int polc_denied(struct __sk_buff *skb)
{
	(void)skb;
	return leave(POLC_VERDICT_DENY);
}

char _license[] SEC("license") = "Dual BSD/GPL";
