#include "vmm/machine/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/platform.h"
#include "vmm/base/checked.h"

const struct kvm_capability kvm_capabilities[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory from a memfd"},
	{KVM_CAP_SYNC_MMU, "KVM_CAP_SYNC_MMU", "taking guest memory away while the guest runs"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupt controllers in the kernel"},
	{KVM_CAP_PIT2, "KVM_CAP_PIT2", "interval timer in the kernel"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "placing KVM's own pages"},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "placing KVM's own pages"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "telling guests what their CPUs can do"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "device interrupts"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "virtqueue notifications"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping vCPUs without a race"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "starting several vCPUs"},
};
const size_t kvm_capability_count = ARRAY_SIZE(kvm_capabilities);

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
	int result;

	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : result;
}

int kvm_open(int *fd, struct error *err)
{
	int opened = open(KVM_DEVICE_PATH, O_RDWR | O_CLOEXEC);

	if (opened >= 0) {
		*fd = opened;
		return 0;
	}
	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return error_say(err, errno,
				 "%s does not exist or has no driver: load KVM by `sudo modprobe "
				 "kvm_intel` or `sudo modprobe kvm_amd` (virtualization must be "
				 "enabled in the firmware, or nested by the VM that this host is)",
				 KVM_DEVICE_PATH);
	case EACCES:
	case EPERM:
		return error_say(err, errno,
				 "no right to open %s: join its group by `sudo usermod -aG kvm "
				 "$USER` and log in again",
				 KVM_DEVICE_PATH);
	default:
		return error_errno(err, errno, "open %s", KVM_DEVICE_PATH);
	}
}

int kvm_check_api(int fd, struct error *err)
{
	int version = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);

	if (version == KVM_API_VERSION)
		return 0;
	return error_say(err, ENOTSUP,
			 "%s speaks API version %d, ebb needs %d: use a kernel of "
			 "2.6.22 or later",
			 KVM_DEVICE_PATH, version, KVM_API_VERSION);
}

/* KVM's ioctls take small integers in the place of a pointer. */
static void *ioctl_number(unsigned long number)
{
	return (void *)number;
}

int kvm_extension(int fd, unsigned number)
{
	int value = kvm_ioctl(fd, KVM_CHECK_EXTENSION, ioctl_number(number));

	return value < 0 ? 0 : value;
}

static int check_capabilities(int fd, struct error *err)
{
	for (size_t i = 0; i < kvm_capability_count; i++)
		if (!kvm_extension(fd, kvm_capabilities[i].number))
			return error_say(err, ENOTSUP,
					 "%s lacks %s (%s): use a newer kernel; `ebb check` says "
					 "what else is missing",
					 KVM_DEVICE_PATH, kvm_capabilities[i].name,
					 kvm_capabilities[i].use);
	return 0;
}

int kvm_create(struct kvm *kvm, struct error *err)
{
	int result;

	*kvm = (struct kvm){.fd = -1, .vm_fd = -1};
	result = kvm_open(&kvm->fd, err);
	if (result)
		return result;
	result = kvm_check_api(kvm->fd, err);
	if (result)
		goto close_kvm;
	result = check_capabilities(kvm->fd, err);
	if (result)
		goto close_kvm;
	result = kvm_ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (result < (int)sizeof(struct kvm_run)) {
		result = error_say(err, ENOTSUP, "%s: vCPU state area of %d bytes is too small",
				   KVM_DEVICE_PATH, result);
		goto close_kvm;
	}
	kvm->run_size = (size_t)result;
	return 0;

close_kvm:
	kvm_destroy(kvm);
	return result;
}

void kvm_destroy(struct kvm *kvm)
{
	kvm_destroy_vm(kvm);
	if (kvm->fd >= 0)
		close(kvm->fd);
	kvm->fd = -1;
}

int kvm_create_vm(struct kvm *kvm, struct error *err)
{
	int result = kvm_ioctl(kvm->fd, KVM_CREATE_VM, NULL);

	if (result == -EBUSY)
		return error_say(err, EBUSY,
				 "create a VM: the CPU's virtualization is in use by another "
				 "hypervisor (VirtualBox, VMware?): stop that one first");
	if (result < 0)
		return error_errno(err, -result, "create a VM (KVM_CREATE_VM)");
	kvm->vm_fd = result;
	kvm->memslots = 0;
	return 0;
}

void kvm_destroy_vm(struct kvm *kvm)
{
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	kvm->vm_fd = -1;
}

int kvm_create_irqchip(struct kvm *kvm, struct error *err)
{
	uint64_t identity_map = PLATFORM_IDENTITY_MAP;
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int result;

	result = kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (result < 0)
		return error_errno(err, -result, "place KVM's identity map page");
	result = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, ioctl_number(PLATFORM_TSS));
	if (result < 0)
		return error_errno(err, -result, "place KVM's TSS pages");
	result = kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
	if (result < 0)
		return error_errno(err, -result, "create interrupt controllers");
	result = kvm_ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit);
	if (result < 0)
		return error_errno(err, -result, "create the interval timer");
	return 0;
}

int kvm_add_memory(struct kvm *kvm, uint64_t gpa, uint64_t size, void *host, struct error *err)
{
	struct kvm_userspace_memory_region slot = {
		.slot = kvm->memslots,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};
	int result = kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);

	if (result < 0)
		return error_errno(err, -result, "give the VM %llu MiB of memory at %#llx",
				   (unsigned long long)(size >> 20), (unsigned long long)gpa);
	kvm->memslots++;
	return 0;
}

int kvm_add_irqfd(struct kvm *kvm, int event_fd, unsigned gsi, struct error *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)event_fd, .gsi = gsi};
	int result = kvm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd);

	if (result < 0)
		return error_errno(err, -result, "wire interrupt %u (KVM_IRQFD)", gsi);
	return 0;
}

int kvm_add_ioeventfd(struct kvm *kvm, int event_fd, uint64_t address, uint32_t value,
		      struct error *err)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = value,
		.addr = address,
		.len = sizeof(value),
		.fd = event_fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int result = kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd);

	if (result < 0)
		return error_errno(err, -result,
				   "wire queue notifications at %#llx (KVM_IOEVENTFD)",
				   (unsigned long long)address);
	return 0;
}

int kvm_create_vcpu(struct kvm *kvm, unsigned id, int *fd, struct kvm_run **run, struct error *err)
{
	int result = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, ioctl_number(id));
	void *mapped;

	if (result == -EINVAL || result == -E2BIG)
		return error_say(err, -result,
				 "create vCPU %u: this host's KVM allows %d in a VM: use a smaller "
				 "--cpus",
				 id, kvm_extension(kvm->fd, KVM_CAP_MAX_VCPUS));
	if (result < 0)
		return error_errno(err, -result, "create vCPU %u", id);
	mapped = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, result, 0);
	if (mapped == MAP_FAILED) {
		int errnum = errno;

		close(result);
		return error_errno(err, errnum, "map the state of vCPU %u", id);
	}
	*fd = result;
	*run = mapped;
	return 0;
}

void kvm_destroy_vcpu(const struct kvm *kvm, int fd, struct kvm_run *run)
{
	munmap(run, kvm->run_size);
	close(fd);
}
