// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs around every policy program: polc_ingress and polc_egress parse
 * a packet into the packet state and hand it to the policy; the policy ends in
 * polc_allowed or polc_denied. Whatever goes wrong on the way drops the packet.
 *
 * At a host, untracked policy comes before tracking: at XDP for what comes in
 * (xdp.h), here for what goes out; polc_tracked is what polc_egress leaves over
 * then.
 */
#include "failsafe.h"
#include "fragment.h"
#include "log.h"
#include "quote.h"

enum {
	ICMPV6_MLD_QUERY = 130,
	ICMPV6_MLD_DONE = 132,
	ICMPV6_ROUTER_SOLICITATION = 133,
	ICMPV6_NEIGHBOUR_SOLICITATION = 135,
	ICMPV6_NEIGHBOUR_ADVERTISEMENT = 136,
};

/* What is known about a packet before policy is asked; UNDECIDED: policy has to. */
struct finding {
	__u32 verdict;
	__u32 reason;
};
#define UNDECIDED ((struct finding){ 0, POLC_REASON_NONE })
#define ALLOW(why) ((struct finding){ POLC_VERDICT_ALLOW, why })
#define DENY(why) ((struct finding){ POLC_VERDICT_DENY, why })

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

INLINE __u64 packet_time(const struct packet *packet, const struct polc_settings *set)
{
	if (!packet->at_xdp && (polc_config.flags & POLC_CONFIG_REPLAY_CLOCK))
		return (__u64)packet->skb->cb[1] << 32 | packet->skb->cb[0];
	/* Nobody asks for it, and the kernel's clock costs as much as all the rest. */
	if ((packet->at_xdp || (polc_config.flags & POLC_CONFIG_STATELESS)) && !(set->flags & POLC_SETTING_LOG))
		return 0;
	return bpf_ktime_get_ns();
}

INLINE int is_logged(const struct polc_settings *set, __u32 ifindex)
{
	return (set->flags & POLC_SETTING_LOG) && (!set->log_ifindex || set->log_ifindex == ifindex);
}

INLINE void begin(const struct packet *packet, struct polc_state *st, const struct polc_settings *set, __u32 flags)
{
	__builtin_memset(st, 0, sizeof(*st));
	st->flags = flags;
	if (polc_config.flags & POLC_CONFIG_STATELESS)
		st->flags |= POLC_FLAG_STATELESS;
	if (packet->at_xdp) {
		st->ifindex = packet->xdp->ingress_ifindex;
	} else {
		st->ifindex = packet->skb->ifindex;
		st->mark = packet->skb->mark;
	}
	st->endpoint = polc_config.endpoint;
	st->counters = polc_config.counters;
	st->next_slot = polc_config.next_slot;
	st->pass_decision = polc_config.pass_decision;
	st->decision = POLC_NO_DECISION;
	st->log_decision = POLC_NO_DECISION;
	st->now = packet_time(packet, set);
	if (is_logged(set, st->ifindex)) {
		st->flags |= POLC_FLAG_LOG;
		st->spent = bpf_ktime_get_ns();
	}
}

/*
 * Untracked policy at XDP left a word before the packet. Only an interface's own
 * XDP program may speak for it: metadata follows a packet that is forwarded.
 */
INLINE int is_accepted_at_xdp(const struct __sk_buff *skb)
{
	const __u32 *meta = (const __u32 *)(long)skb->data_meta;

	if (!(polc_config.flags & POLC_CONFIG_XDP))
		return 0;
	return (const __u8 *)(meta + 1) <= (const __u8 *)(long)skb->data && *meta == POLC_XDP_ACCEPTED;
}

INLINE int is_marked(const struct polc_state *st, const struct polc_settings *set)
{
	return set->accept_mask && (st->mark & set->accept_mask) == set->accept_mark;
}

/* The verdict of tracking. */
INLINE struct finding track(const struct packet *packet, struct polc_state *st, const struct polc_settings *set)
{
	int recheck = set->flags & POLC_SETTING_RECHECK;
	int passes;

	if (st->flags & POLC_FLAG_STATELESS)
		return UNDECIDED;
	if (st->flags & POLC_FLAG_LATER_FRAGMENT) {
		__u32 verdict = fragment_verdict(st);

		return verdict ? (struct finding){ verdict, POLC_REASON_CONNTRACK } : UNDECIDED;
	}
	passes = st->quote ? quote_passes(packet, st, recheck) : conntrack_passes(st, recheck);
	if (!passes)
		return UNDECIDED;
	fragment_remember(st, POLC_VERDICT_ALLOW);
	return ALLOW(POLC_REASON_CONNTRACK);
}

/* What the headers alone say. */
INLINE struct finding examine(const struct packet *packet, struct polc_state *st)
{
	__u8 hop_limit = 0;
	__u32 reason = parse(packet, st, &hop_limit);

	if (reason == POLC_REASON_NOT_IP)
		return ALLOW(reason);
	if (reason)
		return DENY(reason);
	if (is_neighbour_discovery(st, hop_limit))
		return ALLOW(POLC_REASON_NEIGHBOUR_DISCOVERY);
	return UNDECIDED;
}

/* Records what was decided, and counts it. */
INLINE void conclude(struct polc_state *st, __u32 verdict, __u32 reason)
{
	__u32 row = st->counters, index = reason;
	struct polc_counters_row *counters;

	st->verdict = verdict;
	st->reason = reason;
	if (verdict != POLC_VERDICT_ALLOW)
		index += POLC_COUNTER_REASONS;
	counters = bpf_map_lookup_elem(&polc_counters, &row);
	if (counters && index < POLC_COUNTERS)
		counters->packets[index] += 1;
	if (st->flags & POLC_FLAG_LOG)
		log_decision(st);
}

/* The same, turned into tc's verdict. */
INLINE int finish(struct polc_state *st, __u32 verdict, __u32 reason)
{
	conclude(st, verdict, reason);
	return verdict == POLC_VERDICT_ALLOW ? POLC_TC_OK : POLC_TC_SHOT;
}

/* Tracking learns what was decided about a packet that it had no verdict for. */
INLINE void settle(struct polc_state *st, __u32 verdict)
{
	if (st->flags & POLC_FLAG_REVERSED)
		reverse(st);
	if (st->flags & POLC_FLAG_STATELESS)
		return;
	if (st->flags & POLC_FLAG_RECHECK)
		conntrack_renew(st, verdict);
	else if (verdict == POLC_VERDICT_ALLOW)
		conntrack_open(st);
	fragment_remember(st, verdict);
}

/*
 * Failsafe ports, then policy. The generation is read before policy runs: a
 * change in between makes the connection look older than it is, never newer.
 */
INLINE struct finding decide(struct __sk_buff *skb, struct polc_state *st)
{
	int reversed = st->flags & POLC_FLAG_REVERSED;

	st->generation = generation(reversed ? polc_config.peer_slot : polc_config.policy_slot);
	if ((polc_config.flags & POLC_CONFIG_FAILSAFES) && is_failsafe(st)) {
		settle(st, POLC_VERDICT_ALLOW);
		return ALLOW(POLC_REASON_FAILSAFE);
	}
	/* Two calls, as a constant index makes each cheaper than one with a variable. */
	if (reversed)
		bpf_tail_call(skb, &polc_progs, polc_config.peer_slot);
	else
		bpf_tail_call(skb, &polc_progs, polc_config.policy_slot);
	if (reversed)
		reverse(st);
	return DENY(POLC_REASON_NO_PROGRAM);
}

/*
 * A host's untracked policy on what goes out, before tracking. Failsafe ports and
 * their answers are none of its business: half of a tracked connection must not
 * go untracked.
 */
INLINE struct finding ask_untracked(struct __sk_buff *skb, struct polc_state *st)
{
	if (!(polc_config.flags & POLC_CONFIG_UNTRACKED) || is_failsafe(st) || is_failsafe_reply(st))
		return UNDECIDED;
	st->flags |= POLC_FLAG_UNTRACKED;
	bpf_tail_call(skb, &polc_progs, polc_config.untracked_slot);
	return DENY(POLC_REASON_NO_PROGRAM);
}

INLINE int enter(struct __sk_buff *skb, __u32 direction)
{
	const struct polc_settings *set = settings();
	struct polc_state *st = packet_state();
	struct packet packet = { .skb = skb };
	struct finding found;

	if (!st || !set)
		return POLC_TC_SHOT;
	begin(&packet, st, set, direction);
	if (is_marked(st, set) || (!direction && is_accepted_at_xdp(skb)))
		found = ALLOW(POLC_REASON_ANOTHER_PROGRAM);
	else
		found = examine(&packet, st);
	if (!found.verdict && direction)
		found = ask_untracked(skb, st);
	if (!found.verdict)
		found = track(&packet, st, set);
	if (!found.verdict)
		found = decide(skb, st);
	return finish(st, found.verdict, found.reason);
}

/* What untracked policy left undecided. */
INLINE int go_on(struct __sk_buff *skb)
{
	const struct polc_settings *set = settings();
	struct polc_state *st = packet_state();
	struct packet packet = { .skb = skb };
	struct finding found;

	if (!st || !set)
		return POLC_TC_SHOT;
	found = track(&packet, st, set);
	if (!found.verdict)
		found = decide(skb, st);
	return finish(st, found.verdict, found.reason);
}

/* The end of an untracked policy, of which tracking learns nothing. */
INLINE int leave_untracked(struct __sk_buff *skb, struct polc_state *st, __u32 verdict)
{
	if (verdict != POLC_VERDICT_ALLOW || st->decision != st->pass_decision)
		return finish(st, verdict, st->reason);
	st->flags &= ~POLC_FLAG_UNTRACKED;
	st->decision = POLC_NO_DECISION;
	st->logged = 0;
	st->log_decision = POLC_NO_DECISION;
	bpf_tail_call(skb, &polc_progs, st->next_slot);
	return finish(st, POLC_VERDICT_DENY, POLC_REASON_NO_PROGRAM);
}

/* Where a policy program ends. */
INLINE int leave(struct __sk_buff *skb, __u32 verdict)
{
	struct polc_state *st = packet_state();

	if (!st)
		return POLC_TC_SHOT;
	if (st->flags & POLC_FLAG_UNTRACKED)
		return leave_untracked(skb, st, verdict);
	settle(st, verdict);
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

SEC("classifier") int polc_tracked(struct __sk_buff *skb)
{
	return go_on(skb);
}

SEC("classifier") int polc_allowed(struct __sk_buff *skb)
{
	return leave(skb, POLC_VERDICT_ALLOW);
}

SEC("classifier") int polc_denied(struct __sk_buff *skb)
{
	return leave(skb, POLC_VERDICT_DENY);
}

#include "xdp.h"

char _license[] SEC("license") = "Dual BSD/GPL";
