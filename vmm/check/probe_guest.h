/*
 * A guest of a few instructions, to find out what a host's KVM can run.
 *
 * Where the CPU's virtualization is missing, a KVM may emulate guest kernel code instruction by
 * instruction, and lack some that every stock kernel executes while it boots. Each of those runs
 * here in ring 0 of a 64-bit guest of its own: it works, or it does not. Needs nothing but
 * /dev/kvm.
 */
#ifndef EBB_VMM_CHECK_PROBE_GUEST_H
#define EBB_VMM_CHECK_PROBE_GUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/machine/kvm.h"

#define PROBE_GUEST_RESULTS_MAX 8

struct probe_guest_result {
	const char *name; /* the instruction */
	bool ok;
	char detail[128]; /* how it failed */
};

struct probe_guest_report {
	struct probe_guest_result results[PROBE_GUEST_RESULTS_MAX];
	size_t count;
	bool all_ok;       /* stock kernels run */
	double ring0_mips; /* million simple instructions a second, 0: not measured */
};

/* @kvm has no VM, before and after. 0, or -errno if no guest could be set up at all. */
int probe_guest_run(struct kvm *kvm, struct probe_guest_report *report, struct error *err);

#endif
