/*
 * What a vCPU is made of before its first instruction: CPUID, registers, MSRs, FPU, local APIC.
 *
 * Every function fills in structs of <linux/kvm.h> and calls no ioctl. Only vCPU 0 needs
 * cpu_initial_state(); the others wait for INIT and SIPI from the guest. Stateless.
 */
#ifndef EBB_ARCH_CPU_H
#define EBB_ARCH_CPU_H

#include <linux/kvm.h>
#include <stdbool.h>

#include "arch/x86_64/boot.h"

/*
 * The CPUID of vCPU @index of @count, made from what KVM_GET_SUPPORTED_CPUID reported: APIC id,
 * topology (one socket of @count cores), hypervisor bit. KVM's own leaves stay as they are, with
 * kvmclock and asynchronous page faults. @tsc_deadline: KVM_CAP_TSC_DEADLINE_TIMER is there.
 * 0 with *guest for KVM_SET_CPUID2 (free() it), -ENOMEM, -EINVAL (@index, @count).
 */
int cpu_setup_cpuid(const struct kvm_cpuid2 *supported, unsigned index, unsigned count,
		    bool tsc_deadline, struct kvm_cpuid2 **guest);

/*
 * Registers of vCPU 0 at @entry. @sregs comes from KVM_GET_SREGS: what is not set here (APIC base,
 * interrupt bitmap) stays.
 */
void cpu_initial_state(const struct boot_entry *entry, struct kvm_regs *regs,
		       struct kvm_sregs *sregs);

/* For KVM_SET_MSRS on every vCPU (free() it): all memory write-back, fast strings on. 0, -ENOMEM.
 */
int cpu_initial_msrs(struct kvm_msrs **msrs);

/* The FPU after FNINIT, MXCSR's default. For KVM_SET_FPU on every vCPU. */
void cpu_initial_fpu(struct kvm_fpu *fpu);

/* @lapic comes from KVM_GET_LAPIC; sets LINT0 = ExtINT and LINT1 = NMI, as firmware does. */
void cpu_initial_lapic(struct kvm_lapic_state *lapic);

#endif
