#include <errno.h>
#include <stdlib.h>

#include "arch/x86_64/cpu.h"
#include "vmm/machine/machine_internal.h"

#define CPUID_ENTRIES_MAX 256

static int get_supported_cpuid(struct kvm *kvm, struct kvm_cpuid2 **out, struct error *err)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	int result;

	if (!cpuid)
		return error_errno(err, ENOMEM, "read the host's CPUID");
	cpuid->nent = CPUID_ENTRIES_MAX;
	result = kvm_ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (result < 0) {
		free(cpuid);
		return error_errno(err, -result, "read the host's CPUID (KVM_GET_SUPPORTED_CPUID)");
	}
	*out = cpuid;
	return 0;
}

static int set_cpuid(struct machine *machine, const struct kvm_cpuid2 *supported, unsigned index)
{
	bool tsc_deadline = kvm_extension(machine->kvm.fd, KVM_CAP_TSC_DEADLINE_TIMER);
	struct kvm_cpuid2 *cpuid;
	int result;

	result = cpu_setup_cpuid(supported, index, machine->cpus, tsc_deadline, &cpuid);
	if (result)
		return result;
	result = kvm_ioctl(vcpus_fd(machine->vcpus, index), KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return result < 0 ? result : 0;
}

static int set_msrs(int fd)
{
	struct kvm_msrs *msrs;
	int wanted, result;

	result = cpu_initial_msrs(&msrs);
	if (result)
		return result;
	wanted = (int)msrs->nmsrs;
	result = kvm_ioctl(fd, KVM_SET_MSRS, msrs);
	free(msrs);
	if (result < 0)
		return result;
	return result == wanted ? 0 : -EINVAL; /* stops at the first one it does not take */
}

static int set_fpu(int fd)
{
	struct kvm_fpu fpu;
	int result;

	cpu_initial_fpu(&fpu);
	result = kvm_ioctl(fd, KVM_SET_FPU, &fpu);
	return result < 0 ? result : 0;
}

static int set_lapic(int fd)
{
	struct kvm_lapic_state lapic;
	int result = kvm_ioctl(fd, KVM_GET_LAPIC, &lapic);

	if (result < 0)
		return result;
	cpu_initial_lapic(&lapic);
	result = kvm_ioctl(fd, KVM_SET_LAPIC, &lapic);
	return result < 0 ? result : 0;
}

static int setup_vcpu(struct machine *machine, const struct kvm_cpuid2 *supported, unsigned index,
		      struct error *err)
{
	int fd = vcpus_fd(machine->vcpus, index);
	int result;

	result = set_cpuid(machine, supported, index);
	if (result)
		return error_errno(err, -result, "set the CPUID of vCPU %u", index);
	result = set_msrs(fd);
	if (result)
		return error_errno(err, -result, "set the MSRs of vCPU %u", index);
	result = set_fpu(fd);
	if (result)
		return error_errno(err, -result, "set the FPU of vCPU %u", index);
	result = set_lapic(fd);
	if (result)
		return error_errno(err, -result, "set the local APIC of vCPU %u", index);
	return 0;
}

static int setup_vcpus(struct machine *machine, struct error *err)
{
	struct kvm_cpuid2 *supported = NULL;
	int result = get_supported_cpuid(&machine->kvm, &supported, err);

	for (unsigned i = 0; !result && i < machine->cpus; i++)
		result = setup_vcpu(machine, supported, i, err);
	free(supported);
	return result;
}

static int add_memory(struct machine *machine, struct error *err)
{
	uint8_t *view = guest_memory_guest_view(machine->memory);
	size_t count = guest_memory_region_count(machine->memory);

	for (size_t i = 0; i < count; i++) {
		const struct guest_memory_region *region = guest_memory_region(machine->memory, i);
		int result = kvm_add_memory(&machine->kvm, region->base, region->size,
					    view + region->offset, err);

		if (result)
			return result;
	}
	return 0;
}

static int create_vcpus(struct machine *machine, struct error *err)
{
	struct vcpus *vcpus;
	int result = vcpus_create(&machine->kvm, machine->cpus, &machine->vcpu_env, &vcpus, err);

	if (result)
		return result;
	pthread_mutex_lock(&machine->lock);
	machine->vcpus = vcpus;
	pthread_mutex_unlock(&machine->lock);
	return 0;
}

int machine_vm_create(struct machine *machine, struct error *err)
{
	int result;

	result = kvm_create_vm(&machine->kvm, err);
	if (result)
		return result;
	result = kvm_create_irqchip(&machine->kvm, err);
	if (!result)
		result = add_memory(machine, err);
	if (!result)
		result = machine_devices_wire(machine, err);
	if (!result)
		result = create_vcpus(machine, err);
	if (!result)
		result = setup_vcpus(machine, err);
	if (result)
		machine_vm_destroy(machine);
	return result;
}

void machine_vm_destroy(struct machine *machine)
{
	struct vcpus *vcpus;

	pthread_mutex_lock(&machine->lock);
	vcpus = machine->vcpus;
	machine->vcpus = NULL;
	pthread_mutex_unlock(&machine->lock);
	vcpus_destroy(vcpus);
	kvm_destroy_vm(&machine->kvm);
}

static int set_entry_state(struct machine *machine, struct error *err)
{
	int fd = vcpus_fd(machine->vcpus, 0);
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int result;

	result = kvm_ioctl(fd, KVM_GET_SREGS, &sregs);
	if (result < 0)
		return error_errno(err, -result, "read the registers of vCPU 0");
	cpu_initial_state(&machine->entry, &regs, &sregs);
	result = kvm_ioctl(fd, KVM_SET_SREGS, &sregs);
	if (result < 0)
		return error_errno(err, -result, "set the control registers of vCPU 0");
	result = kvm_ioctl(fd, KVM_SET_REGS, &regs);
	if (result < 0)
		return error_errno(err, -result, "set the registers of vCPU 0");
	return 0;
}

int machine_load(struct machine *machine, struct error *err)
{
	struct platform platform = {
		.cpus = machine->cpus,
		.memory = machine->memory,
		.cmdline = boot_image_cmdline(machine->image),
		.virtio_slots = machine_virtio_slots(machine),
	};
	int result = boot_image_load(machine->image, &platform, &machine->entry, err);

	if (result)
		return result;
	return set_entry_state(machine, err);
}
