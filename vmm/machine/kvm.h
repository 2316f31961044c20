/*
 * KVM by raw ioctls: one function per thing that the machine asks of the kernel.
 *
 * A struct kvm is one VM: the descriptor of /dev/kvm, that of the VM, and the size of a vCPU's
 * kvm_run. It owns both descriptors and nothing else; the vCPUs' descriptors belong to
 * vmm/machine/vcpu.h. Set up by one thread; afterwards the calls are as thread-safe as the
 * kernel's. Functions return 0 or -errno; @err says what a user can do about it.
 */
#ifndef EBB_VMM_MACHINE_KVM_H
#define EBB_VMM_MACHINE_KVM_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

#define KVM_DEVICE_PATH "/dev/kvm"

struct kvm {
	int fd;    /* /dev/kvm */
	int vm_fd; /* -1: no VM yet */
	size_t run_size;
	unsigned memslots; /* how many are in use */
};

/* An extension of KVM that ebb needs. */
struct kvm_capability {
	unsigned number;
	const char *name; /* as in linux/kvm.h */
	const char *use;
};

extern const struct kvm_capability kvm_capabilities[];
extern const size_t kvm_capability_count;

/* ioctl(2) that goes on after EINTR. Returns its result, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *argument);

/* Opens /dev/kvm: *fd. Says how to load the module or get the right to it. */
int kvm_open(int *fd, struct error *err);

/* 0, or -ENOTSUP if the API version is not the one of linux/kvm.h. */
int kvm_check_api(int fd, struct error *err);

/* The value of an extension: 0 if the kernel lacks it. */
int kvm_extension(int fd, unsigned number);

/* Opens /dev/kvm, checks API and extensions. There is no VM yet. */
int kvm_create(struct kvm *kvm, struct error *err);

/* Closes what is open. Legal after any failure of kvm_create(), and twice. */
void kvm_destroy(struct kvm *kvm);

/* Creates a bare VM: no memory, no interrupt controllers. */
int kvm_create_vm(struct kvm *kvm, struct error *err);

/* Closes the VM. Its vCPUs' descriptors must have been closed and unmapped for it to go away. */
void kvm_destroy_vm(struct kvm *kvm);

/*
 * Gives the VM PICs, IOAPIC, local APICs and the PIT, and KVM the pages it needs for itself
 * (arch/x86_64/platform.h). Before the first vCPU.
 */
int kvm_create_irqchip(struct kvm *kvm, struct error *err);

/* [gpa, gpa + size) of the guest is the memory at @host. Page-aligned. */
int kvm_add_memory(struct kvm *kvm, uint64_t gpa, uint64_t size, void *host, struct error *err);

/* A write to @event_fd pulses the guest's interrupt line @gsi (edge-triggered). */
int kvm_add_irqfd(struct kvm *kvm, int event_fd, unsigned gsi, struct error *err);

/* A 4-byte write of @value to @address signals @event_fd without an exit to user space. */
int kvm_add_ioeventfd(struct kvm *kvm, int event_fd, uint64_t address, uint32_t value,
		      struct error *err);

/* Creates vCPU @id and maps its kvm_run. The caller owns both; kvm_destroy_vcpu() undoes it. */
int kvm_create_vcpu(struct kvm *kvm, unsigned id, int *fd, struct kvm_run **run, struct error *err);
void kvm_destroy_vcpu(const struct kvm *kvm, int fd, struct kvm_run *run);

#endif
