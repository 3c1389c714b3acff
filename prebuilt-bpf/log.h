/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The decision log: where it is on, a record for each packet, which is the
 * packet state as the packet left it. Off, it costs one load and a branch.
 */
#ifndef POLC_LOG_H
#define POLC_LOG_H

#include "polc.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, POLC_LOG_BYTES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_log SEC(".maps");

/* A bucket of nanoseconds: time fills it, records empty it. */
struct polc_log_rate {
	__u64 last;
	__u64 credit;
	__u64 written;
	__u64 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct polc_log_rate);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} polc_log_rate SEC(".maps");

/* Whether this CPU may write a record at `now`; it is paid for. */
INLINE int may_log(struct polc_log_rate *rate, const struct polc_settings *set, __u64 now)
{
	__u64 credit = rate->credit;

	if (now > rate->last) {
		credit += now - rate->last;
		rate->last = now;
	}
	if (credit > set->log_credit)
		credit = set->log_credit;
	if (credit < set->log_interval) {
		rate->credit = credit;
		return 0;
	}
	rate->credit = credit - set->log_interval;
	return 1;
}

/*
 * The clock of the bucket is the packet's, as everything else that depends on
 * time: a replay logs the same records every time.
 */
INLINE void log_decision(struct polc_state *st)
{
	const struct polc_settings *set = settings();
	struct polc_log_rate *rate;
	__u32 zero = 0;

	rate = bpf_map_lookup_elem(&polc_log_rate, &zero);
	if (!set || !rate)
		return;
	st->spent = bpf_ktime_get_ns() - st->spent;
	if (may_log(rate, set, st->now) && !bpf_ringbuf_output(&polc_log, st, sizeof(*st), 0))
		rate->written += 1;
	else
		rate->dropped += 1;
}

#endif
