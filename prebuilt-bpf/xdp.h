/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A host's untracked policy on what comes in, at XDP: before the kernel spends
 * anything on a packet. The policy is the same code as at tc, with another
 * program array and other return codes (compiler/src/image/xdp.rs), and ends in
 * polc_xdp_allowed or polc_xdp_denied. What it has nothing to say about passes on
 * to tc; what it allows passes there, too, for the word that it finds.
 */

INLINE int finish_xdp(struct polc_state *st, __u32 verdict, __u32 reason)
{
	conclude(st, verdict, reason);
	return verdict == POLC_VERDICT_ALLOW ? POLC_XDP_PASS : POLC_XDP_DROP;
}

/* Leaves the word for tc. Where the driver has no room for it, normal policy decides. */
INLINE void accept_at_xdp(struct xdp_md *xdp)
{
	__u32 *meta;

	if (bpf_xdp_adjust_meta(xdp, -(int)sizeof(*meta)))
		return;
	meta = (__u32 *)(long)xdp->data_meta;
	if ((__u8 *)(meta + 1) <= (__u8 *)(long)xdp->data)
		*meta = POLC_XDP_ACCEPTED;
}

SEC("xdp") int polc_xdp(struct xdp_md *xdp)
{
	const struct polc_settings *set = settings();
	struct polc_state *st = packet_state();
	struct packet packet = { .at_xdp = 1, .xdp = xdp };
	struct finding found;

	if (!st || !set)
		return POLC_XDP_DROP;
	begin(&packet, st, set, POLC_FLAG_XDP | POLC_FLAG_UNTRACKED);
	found = examine(&packet, st);
	if (!found.verdict && is_failsafe(st))
		found = ALLOW(POLC_REASON_FAILSAFE);
	if (!found.verdict && is_failsafe_reply(st))
		found = ALLOW(POLC_REASON_PASSED_ON);
	if (!found.verdict) {
		bpf_tail_call(xdp, &polc_xdp_progs, polc_config.policy_slot);
		found = DENY(POLC_REASON_NO_PROGRAM);
	}
	return finish_xdp(st, found.verdict, found.reason);
}

SEC("xdp") int polc_xdp_allowed(struct xdp_md *xdp)
{
	struct polc_state *st = packet_state();

	if (!st)
		return POLC_XDP_DROP;
	if (st->decision == st->pass_decision)
		return finish_xdp(st, POLC_VERDICT_ALLOW, POLC_REASON_PASSED_ON);
	accept_at_xdp(xdp);
	return finish_xdp(st, POLC_VERDICT_ALLOW, st->reason);
}

SEC("xdp") int polc_xdp_denied(struct xdp_md *xdp)
{
	struct polc_state *st = packet_state();

	(void)xdp;
	if (!st)
		return POLC_XDP_DROP;
	return finish_xdp(st, POLC_VERDICT_DENY, st->reason);
}
