/* What a vCPU thread does when KVM_RUN returns. No state: everything is in kvm_run. */
#ifndef EBB_VMM_MACHINE_VCPU_EXIT_H
#define EBB_VMM_MACHINE_VCPU_EXIT_H

#include "vmm/machine/vcpu.h"

/* Serves the exit that @run describes, by device access or by telling @env. */
void vcpu_handle_exit(const struct vcpu_env *env, unsigned index, int fd, struct kvm_run *run);

/* KVM_RUN itself failed with @errnum (not EINTR or EAGAIN): tells env->crash. */
void vcpu_handle_error(const struct vcpu_env *env, unsigned index, int fd, int errnum);

#endif
