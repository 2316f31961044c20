#include <errno.h>
#include <stdio.h>

#include "vmm/check/check_internal.h"
#include "vmm/check/probe_guest.h"
#include "vmm/machine/kvm.h"

static void add_open_failure(struct check_report *report, int errnum, const struct error *err)
{
	struct check_result *result =
		check_add(report, "kvm", CHECK_NEEDED_TO_RUN, false, "%s", err->text);

	if (errnum == EACCES || errnum == EPERM)
		check_fix(result, "sudo usermod -aG kvm $USER  # then log in again");
	else
		check_fix(result, "sudo modprobe kvm_intel || sudo modprobe kvm_amd");
}

static bool check_capabilities(struct check_report *report, int fd)
{
	bool all = true;

	for (size_t i = 0; i < kvm_capability_count; i++) {
		const struct kvm_capability *capability = &kvm_capabilities[i];
		bool ok = kvm_extension(fd, capability->number);
		struct check_result *result = check_add(
			report, capability->name, CHECK_NEEDED_TO_RUN, ok, "%s", capability->use);

		if (!ok)
			check_fix(result, "sudo apt-get install linux-image-amd64  # and reboot");
		all &= ok;
	}
	return all;
}

static void check_vm(struct check_report *report, struct kvm *kvm)
{
	struct error err;
	int result = kvm_create_vm(kvm, &err);

	if (!result)
		result = kvm_create_irqchip(kvm, &err);
	kvm_destroy_vm(kvm);
	check_add(report, "vm", CHECK_NEEDED_TO_RUN, !result, "%s",
		  result ? err.text : "a VM with interrupt controllers can be created");
}

static void check_instructions(struct check_report *report, struct kvm *kvm)
{
	struct probe_guest_report probe;
	struct error err;
	int result = probe_guest_run(kvm, &probe, &err);

	check_add(report, "probe_guest", CHECK_NEEDED_TO_RUN, !result, "%s",
		  result ? err.text : "a guest of a few instructions runs in 64-bit ring 0");
	for (size_t i = 0; i < probe.count; i++) {
		const struct probe_guest_result *instruction = &probe.results[i];
		char name[40];

		snprintf(name, sizeof(name), "instruction_%s", instruction->name);
		check_add(report, name, CHECK_NEEDED_BY_STOCK_KERNELS, instruction->ok, "%s",
			  instruction->ok ? "works in ring 0" : instruction->detail);
	}
	report->stock_kernels = !result && probe.all_ok;
	report->ring0_mips = probe.ring0_mips;
}

static void check_opened(struct check_report *report, struct kvm *kvm)
{
	struct error err;
	int result = kvm_check_api(kvm->fd, &err);

	check_add(report, "kvm_api", CHECK_NEEDED_TO_RUN, !result, "%s",
		  result ? err.text : "version 12");
	if (result || !check_capabilities(report, kvm->fd))
		return;
	result = kvm_ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (result < (int)sizeof(struct kvm_run))
		return;
	kvm->run_size = (size_t)result;
	check_vm(report, kvm);
	check_instructions(report, kvm);
}

void check_kvm(struct check_report *report)
{
	struct kvm kvm = {.fd = -1, .vm_fd = -1};
	struct error err;
	int result = kvm_open(&kvm.fd, &err);

	if (result) {
		add_open_failure(report, -result, &err);
		return;
	}
	check_add(report, "kvm", CHECK_NEEDED_TO_RUN, true, "%s opens", KVM_DEVICE_PATH);
	check_opened(report, &kvm);
	kvm_destroy(&kvm);
}
