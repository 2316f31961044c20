/*
 * The vCPUs of one VM: a thread each, which runs the guest and serves its exits.
 *
 * All of them share one wish, set by vcpus_release(), vcpus_hold() and vcpus_stop(), and each looks
 * at it before every KVM_RUN:
 *
 *   HOLD ◄────► RUN        a held thread sleeps, its guest stands still (after a PIO or MMIO exit KVM
 *     │          │         completes the instruction at the next KVM_RUN only)
 *     └──► QUIT ◄─┘        the threads end
 *
 * A kick makes a running vCPU look: the wish is stored first, then immediate_exit, then a signal is
 * sent. A vCPU clears immediate_exit before it reads the wish. So a kick that comes before KVM_RUN
 * makes it return at once, one that comes during KVM_RUN interrupts it, and none is lost.
 *
 * A vCPU may sleep in KVM_RUN until the fault monitor has brought a page, and some kernels do not
 * let a signal end that. After vcpus_abandon() has said that pages may not come any more, whoever
 * waits for vCPUs waits for VCPUS_PATIENCE_NS at most.
 *
 * The object owns the vCPUs' descriptors, kvm_run areas and threads; a lock of its own guards the
 * wish. Nothing touches guest RAM with that lock held.
 */
#ifndef EBB_VMM_MACHINE_VCPU_H
#define EBB_VMM_MACHINE_VCPU_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/bus.h"
#include "memory/guest_memory.h"
#include "vmm/base/error.h"
#include "vmm/machine/kvm.h"

#define VCPUS_PATIENCE_NS 1000000000ull

struct vcpus;

/*
 * What the vCPUs act upon. The callbacks come from vCPU threads, without locks; they may call
 * vcpus_hold(), but nothing that waits for vCPUs.
 */
struct vcpu_env {
	const struct bus *pio;
	const struct bus *mmio;
	const struct guest_memory *memory;
	void *opaque;
	void (*first_run)(void *opaque); /* right before vCPU 0's first instruction */
	void (*reset)(void *opaque);     /* the guest asked KVM for a reset or a power-off */
	void (*poweroff)(void *opaque);
	void (*crash)(void *opaque, const char *reason); /* the guest cannot go on */
};

/* Creates @count vCPUs of @kvm in state HOLD, without threads. Both pointers are borrowed. */
int vcpus_create(struct kvm *kvm, unsigned count, const struct vcpu_env *env, struct vcpus **out,
		 struct error *err);

/*
 * Ends the threads and waits for them: true. False if the vCPUs are abandoned and a thread is still
 * asleep in guest memory.
 */
bool vcpus_stop(struct vcpus *vcpus);

/* Closes the vCPUs; their threads have ended, or were never started. NULL is legal. */
void vcpus_destroy(struct vcpus *vcpus);

/* For setting registers while the vCPU does not run. */
int vcpus_fd(const struct vcpus *vcpus, unsigned index);

/* Starts the threads; they hold. Once. */
int vcpus_start(struct vcpus *vcpus, struct error *err);

/* Lets the vCPUs run. */
void vcpus_release(struct vcpus *vcpus);

/* Stops them at the next instruction boundary. Does not wait: any thread, a vCPU's own included. */
void vcpus_hold(struct vcpus *vcpus);

/* After vcpus_hold(): sleeps until no vCPU runs. False: abandoned, and one still sleeps. */
bool vcpus_wait_held(struct vcpus *vcpus);

/* Guest memory cannot be provided: bounds all waiting, until the next release. Any thread. */
void vcpus_abandon(struct vcpus *vcpus);

/* CPU time that the threads have used so far. */
uint64_t vcpus_cpu_time_ns(struct vcpus *vcpus);

#endif
