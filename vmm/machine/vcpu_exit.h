/*
 * What a vCPU thread does when KVM_RUN returns: the guest's access to a device is carried out, and
 * what the guest cannot go on from is told to vcpu_env. No state: everything is in kvm_run, where
 * addresses and values are the guest's.
 *
 * Called by the vCPU's own thread, without locks; @fd is its descriptor, @index its number.
 * Nothing is returned: a guest's fault ends or resets the machine through env's callbacks, on
 * another thread.
 */
#ifndef EBB_VMM_MACHINE_VCPU_EXIT_H
#define EBB_VMM_MACHINE_VCPU_EXIT_H

#include "vmm/machine/vcpu.h"

/* Serves the exit that @run describes, by device access or by telling @env. */
void vcpu_handle_exit(const struct vcpu_env *env, unsigned index, int fd, struct kvm_run *run);

/* KVM_RUN itself failed with @errnum (not EINTR or EAGAIN): tells env->crash. */
void vcpu_handle_error(const struct vcpu_env *env, unsigned index, int fd, int errnum);

#endif
