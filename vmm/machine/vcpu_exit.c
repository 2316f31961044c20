#include "vmm/machine/vcpu_exit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/log.h"

#define CRASH_REASON_MAX 1024

struct text {
	char *buffer;
	size_t size;
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *fmt, ...)
{
	va_list args;
	int added;

	va_start(args, fmt);
	added = vsnprintf(text->buffer + text->length, text->size - text->length, fmt, args);
	va_end(args);
	if (added > 0)
		text->length += (size_t)added;
	if (text->length >= text->size)
		text->length = text->size - 1;
}

static void append_registers(struct text *text, int fd)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	if (kvm_ioctl(fd, KVM_GET_REGS, &regs) < 0 || kvm_ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		return;
	append(text,
	       " at rip=%#llx rsp=%#llx rflags=%#llx cs=%#x cr0=%#llx cr2=%#llx cr3=%#llx "
	       "cr4=%#llx efer=%#llx",
	       regs.rip, regs.rsp, regs.rflags, sregs.cs.selector, sregs.cr0, sregs.cr2, sregs.cr3,
	       sregs.cr4, sregs.efer);
}

/* The instruction at @rip, as far as its first page goes; 0 if it cannot be read. */
static size_t read_instruction(const struct vcpu_env *env, int fd, uint64_t rip, uint8_t *bytes,
			       size_t max)
{
	struct kvm_translation where = {.linear_address = rip};
	size_t length = GUEST_PAGE_SIZE - rip % GUEST_PAGE_SIZE;

	if (length > max)
		length = max;
	if (kvm_ioctl(fd, KVM_TRANSLATE, &where) < 0 || !where.valid)
		return 0;
	return guest_memory_read(env->memory, where.physical_address, bytes, length) ? 0 : length;
}

static void append_instruction(struct text *text, const struct vcpu_env *env, int fd,
			       const struct kvm_run *run)
{
	uint8_t bytes[sizeof(run->emulation_failure.insn_bytes)];
	size_t count = 0;
	struct kvm_regs regs;

	/* KVM's copy, if this kernel gives one: ndata covers flags and bytes then. */
	if (run->emulation_failure.ndata >= 3 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		count = run->emulation_failure.insn_size;
		if (count > sizeof(bytes))
			count = sizeof(bytes);
		memcpy(bytes, run->emulation_failure.insn_bytes, count);
	}
	if (!count && kvm_ioctl(fd, KVM_GET_REGS, &regs) >= 0)
		count = read_instruction(env, fd, regs.rip, bytes, sizeof(bytes));
	append(text, ", instruction bytes:");
	for (size_t i = 0; i < count; i++)
		append(text, " %02x", bytes[i]);
	if (!count)
		append(text, " unreadable");
}

static const char *suberror_name(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "it cannot emulate an instruction";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "simultaneous exceptions";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an exit while an event was delivered";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "unexpected exit of the hardware";
	default:
		return "unknown error";
	}
}

static void crash_internal_error(const struct vcpu_env *env, unsigned index, int fd,
				 const struct kvm_run *run)
{
	char buffer[CRASH_REASON_MAX];
	struct text text = {buffer, sizeof(buffer), 0};

	append(&text, "vCPU %u: KVM internal error %u: %s", index, run->internal.suberror,
	       suberror_name(run->internal.suberror));
	append_registers(&text, fd);
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
		append_instruction(&text, env, fd, run);
		append(&text, " (`ebb check` says whether this host's KVM runs stock kernels)");
	} else {
		append(&text, ", data:");
		for (unsigned i = 0; i < run->internal.ndata && i < 16; i++)
			append(&text, " %#llx", run->internal.data[i]);
	}
	env->crash(env->opaque, buffer);
}

__attribute__((format(printf, 4, 5))) static void crash(const struct vcpu_env *env, unsigned index,
							int fd, const char *fmt, ...)
{
	char buffer[CRASH_REASON_MAX];
	struct text text = {buffer, sizeof(buffer), 0};
	char what[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	append(&text, "vCPU %u: %s", index, what);
	append_registers(&text, fd);
	env->crash(env->opaque, buffer);
}

static void handle_io(const struct vcpu_env *env, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	/* A string instruction comes as one exit with @count elements. */
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			bus_write(env->pio, run->io.port, value, size);
		} else {
			value = UINT64_MAX;
			bus_read(env->pio, run->io.port, &value, size);
			memcpy(data, &value, size);
		}
	}
}

/*
 * KVM could not reach RAM itself and asks us to finish the access. No device answers there,
 * whatever the bus says: do it on RAM.
 */
static int access_ram(const struct vcpu_env *env, struct kvm_run *run)
{
	static struct log_ratelimit limit;

	if (log_ratelimit_pass(&limit))
		log_warning("KVM took an access to RAM at %#llx for MMIO; served from RAM",
			    run->mmio.phys_addr);
	if (run->mmio.is_write)
		return guest_memory_write(env->memory, run->mmio.phys_addr, run->mmio.data,
					  run->mmio.len);
	return guest_memory_read(env->memory, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void handle_mmio(const struct vcpu_env *env, unsigned index, int fd, struct kvm_run *run)
{
	uint64_t value = UINT64_MAX;
	unsigned size = run->mmio.len;

	if (size > sizeof(run->mmio.data))
		size = sizeof(run->mmio.data);
	if (guest_memory_contains(env->memory, run->mmio.phys_addr, 1)) {
		if (access_ram(env, run))
			crash(env, index, fd, "access of %u bytes at %#llx crosses the end of RAM",
			      run->mmio.len, run->mmio.phys_addr);
	} else if (run->mmio.is_write) {
		value = 0;
		memcpy(&value, run->mmio.data, size);
		bus_write(env->mmio, run->mmio.phys_addr, value, size);
	} else {
		bus_read(env->mmio, run->mmio.phys_addr, &value, size);
		memcpy(run->mmio.data, &value, size);
	}
}

static void handle_system_event(const struct vcpu_env *env, unsigned index, int fd,
				const struct kvm_run *run)
{
	switch (run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		env->poweroff(env->opaque);
		break;
	case KVM_SYSTEM_EVENT_RESET:
		env->reset(env->opaque);
		break;
	default:
		crash(env, index, fd, "the guest reports a crash (system event %u)",
		      run->system_event.type);
	}
}

void vcpu_handle_exit(const struct vcpu_env *env, unsigned index, int fd, struct kvm_run *run)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(env, run);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(env, index, fd, run);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT: /* the in-kernel local APIC waits by itself; nothing to do if not */
	case KVM_EXIT_SET_TPR:
		break;
	case KVM_EXIT_SHUTDOWN:
		crash(env, index, fd, "triple fault");
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		handle_system_event(env, index, fd, run);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		crash_internal_error(env, index, fd, run);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		crash(env, index, fd, "the CPU refuses the guest's state (reason %#llx, CPU %u)",
		      run->fail_entry.hardware_entry_failure_reason, run->fail_entry.cpu);
		break;
	default:
		crash(env, index, fd, "exit %u that ebb does not know (%#llx)", run->exit_reason,
		      run->hw.hardware_exit_reason);
	}
}

void vcpu_handle_error(const struct vcpu_env *env, unsigned index, int fd, int errnum)
{
	if (errnum == EFAULT)
		crash(env, index, fd,
		      "the host cannot provide a page of guest memory (out of "
		      "memory, or userfaultfd gone)");
	else
		crash(env, index, fd, "KVM_RUN: %s", strerror(errnum));
}
