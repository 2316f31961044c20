/*
 * The state of a VM in Prometheus' text exposition format, version 0.0.4: names and base units
 * (seconds, bytes) by Prometheus' conventions. Pure: what is shown is what is passed in.
 *
 * ebb_memory_bytes{state=…} sums up to ebb_guest_memory_bytes (see memory_states.h). Counters begin
 * with the process, except ebb_vcpu_seconds_total, which a reset of the guest begins anew.
 */
#ifndef EBB_VMM_METRICS_METRICS_TEXT_H
#define EBB_VMM_METRICS_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "swap/swap.h"
#include "vmm/machine/machine.h"
#include "vmm/metrics/metrics_process.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics_input {
	const char *version;
	const char *name; /* the VM's */
	struct machine_status machine;
	uint64_t cpu_ns; /* of the vCPUs */
	struct swap_status swap;
	struct latency_snapshot latency[SWAP_FAULT_KINDS];
	struct metrics_process process;
};

/* 0 with *text (malloc'ed, NUL-terminated) and its *length, or -ENOMEM. */
int metrics_text_write(const struct metrics_input *input, char **text, size_t *length);

#endif
