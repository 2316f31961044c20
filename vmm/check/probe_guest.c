#include "vmm/check/probe_guest.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/check/probe_guest_layout.h"

#define CPUID_ENTRIES_MAX 256
#define CPUID_1_ECX_XSAVE (1u << 26)

/* Intel SDM volume 3A, sections 2.5, 4.5 and 3.4.5. */
#define CR0_PE          (1ull << 0)
#define CR0_MP          (1ull << 1)
#define CR0_ET          (1ull << 4)
#define CR0_NE          (1ull << 5)
#define CR0_PG          (1ull << 31)
#define CR4_PAE         (1ull << 5)
#define CR4_OSFXSR      (1ull << 9)
#define CR4_OSXMMEXCPT  (1ull << 10)
#define CR4_OSXSAVE     (1ull << 18)
#define EFER_LME        (1ull << 8)
#define EFER_LMA        (1ull << 10)
#define PAGE_TABLE      0x7  /* present, writable, for ring 3 too */
#define PAGE_2M         0x87 /* and a large page */
#define GDT_CODE64      0x00af9b000000ffffull
#define GDT_DATA        0x00cf93000000ffffull
#define GDT_USER_DATA   0x00cff3000000ffffull
#define GDT_USER_CODE64 0x00affb000000ffffull
#define GDT_ENTRIES     5
#define RPL_MASK        3u
#define IDT_GATE_TYPE   0x8e00 /* present, ring 0, interrupt gate */
#define VECTOR_BP       3
#define XCR0_X87_SSE    3
#define RFLAGS_RESERVED 2
#define MXCSR_OFFSET    24
#define MXCSR_DEFAULT   0x1f80

#define TIMEOUT_SECONDS 3

extern const uint8_t probe_guest_code[], probe_guest_code_end[];
extern const uint8_t probe_guest_cmpxchg16b[], probe_guest_xrstor[], probe_guest_fxrstor[];
extern const uint8_t probe_guest_int3[], probe_guest_iretq[], probe_guest_lretq[];
extern const uint8_t probe_guest_iretq_user[];
extern const uint8_t probe_guest_loop[], probe_guest_pass[];

struct guest {
	struct kvm *kvm;
	uint8_t *memory;
	int vcpu_fd;
	struct kvm_run *run;
	const struct kvm_cpuid2 *cpuid;
	bool has_xsave;
};

static uint64_t code_address(const uint8_t *label)
{
	return PROBE_CODE + (uint64_t)(label - probe_guest_code);
}

static void put64(struct guest *guest, uint64_t address, uint64_t value)
{
	memcpy(guest->memory + address, &value, sizeof(value));
}

static void fill_memory(struct guest *guest)
{
	uint64_t handler = code_address(probe_guest_pass);
	uint32_t mxcsr = MXCSR_DEFAULT;

	memset(guest->memory, 0, PROBE_MEMORY);
	put64(guest, PROBE_PML4, PROBE_PDPT | PAGE_TABLE);
	put64(guest, PROBE_PDPT, PROBE_PD | PAGE_TABLE);
	put64(guest, PROBE_PD, PAGE_2M);
	put64(guest, PROBE_GDT + PROBE_CODE_SELECTOR, GDT_CODE64);
	put64(guest, PROBE_GDT + PROBE_DATA_SELECTOR, GDT_DATA);
	put64(guest, PROBE_GDT + (PROBE_USER_DATA_SELECTOR & ~RPL_MASK), GDT_USER_DATA);
	put64(guest, PROBE_GDT + (PROBE_USER_CODE_SELECTOR & ~RPL_MASK), GDT_USER_CODE64);
	put64(guest, PROBE_IDT + VECTOR_BP * 16,
	      (handler & 0xffff) | (uint64_t)PROBE_CODE_SELECTOR << 16 |
		      (uint64_t)IDT_GATE_TYPE << 32 | (handler >> 16 & 0xffff) << 48);
	memcpy(guest->memory + PROBE_DATA + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	memcpy(guest->memory + PROBE_CODE, probe_guest_code,
	       /* cppcheck-suppress comparePointers; two labels in one section of one file */
	       (size_t)(probe_guest_code_end - probe_guest_code));
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = code,
		.db = !code,
		.g = 1,
	};
}

static int set_special_registers(struct guest *guest)
{
	struct kvm_segment data = segment(PROBE_DATA_SELECTOR, 3, false);
	struct kvm_sregs sregs;
	int result = kvm_ioctl(guest->vcpu_fd, KVM_GET_SREGS, &sregs);

	if (result < 0)
		return result;
	sregs.cs = segment(PROBE_CODE_SELECTOR, 11, true);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt = (struct kvm_dtable){.base = PROBE_GDT, .limit = GDT_ENTRIES * 8 - 1};
	sregs.idt = (struct kvm_dtable){.base = PROBE_IDT, .limit = 256 * 16 - 1};
	sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG;
	sregs.cr3 = PROBE_PML4;
	sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | (guest->has_xsave ? CR4_OSXSAVE : 0);
	sregs.efer = EFER_LME | EFER_LMA;
	return kvm_ioctl(guest->vcpu_fd, KVM_SET_SREGS, &sregs);
}

static int set_state(struct guest *guest, const uint8_t *entry)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = XCR0_X87_SSE}}};
	struct kvm_regs regs = {
		.rip = code_address(entry),
		.rsp = PROBE_STACK,
		.rflags = RFLAGS_RESERVED,
	};
	int result;

	result = kvm_ioctl(guest->vcpu_fd, KVM_SET_CPUID2, (void *)(uintptr_t)guest->cpuid);
	if (result >= 0)
		result = set_special_registers(guest);
	if (result >= 0 && guest->has_xsave)
		result = kvm_ioctl(guest->vcpu_fd, KVM_SET_XCRS, &xcrs);
	if (result >= 0)
		result = kvm_ioctl(guest->vcpu_fd, KVM_SET_REGS, &regs);
	return result;
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* Bounds how long a KVM_RUN lasts, by a signal that repeats: one that comes too early is made up.
 */
static void set_alarm(bool on)
{
	struct sigaction action = {.sa_handler = on ? on_alarm : SIG_DFL};
	struct itimerval timer = {
		.it_value = {.tv_sec = on ? TIMEOUT_SECONDS : 0},
		.it_interval = {.tv_sec = on ? 1 : 0},
	};

	if (on)
		sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	if (!on)
		sigaction(SIGALRM, &action, NULL);
}

/* Runs until the guest says how it went. True: it passed. */
static bool run_to_verdict(struct guest *guest, char *detail, size_t size)
{
	const struct kvm_run *run = guest->run;
	int errnum;

	set_alarm(true);
	do
		errnum = ioctl(guest->vcpu_fd, KVM_RUN, NULL) < 0 ? errno : 0;
	while (errnum == EAGAIN);
	set_alarm(false);
	if (errnum) {
		snprintf(detail, size, "%s", errnum == EINTR ? "it never ends" : strerror(errnum));
		return false;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (run->io.port == PROBE_PORT &&
		    *((const uint8_t *)run + run->io.data_offset) == PROBE_PASS)
			return true;
		snprintf(detail, size, "wrong result");
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(detail, size, "KVM cannot emulate it (internal error %u)",
			 run->internal.suberror);
		return false;
	case KVM_EXIT_SHUTDOWN:
		snprintf(detail, size, "it raises an exception");
		return false;
	default:
		snprintf(detail, size, "unexpected exit %u", run->exit_reason);
		return false;
	}
}

/* A VM of its own for each probe: what broke in one must not show in the next. */
static int run_probe(struct guest *guest, const uint8_t *entry, bool *ok, char *detail, size_t size,
		     uint64_t *ns, struct error *err)
{
	int result;

	result = kvm_create_vm(guest->kvm, err);
	if (result)
		return result;
	fill_memory(guest);
	result = kvm_add_memory(guest->kvm, 0, PROBE_MEMORY, guest->memory, err);
	if (result)
		goto destroy_vm;
	result = kvm_create_vcpu(guest->kvm, 0, &guest->vcpu_fd, &guest->run, err);
	if (result)
		goto destroy_vm;
	result = set_state(guest, entry);
	if (result < 0) {
		error_errno(err, -result, "set the registers of the probe guest");
		goto destroy_vcpu;
	}
	*ns = clock_monotonic_ns();
	*ok = run_to_verdict(guest, detail, size);
	*ns = clock_monotonic_ns() - *ns;
	result = 0;

destroy_vcpu:
	kvm_destroy_vcpu(guest->kvm, guest->vcpu_fd, guest->run);
destroy_vm:
	kvm_destroy_vm(guest->kvm);
	return result;
}

static int run_instruction(struct guest *guest, const char *name, const uint8_t *entry,
			   struct probe_guest_report *report, struct error *err)
{
	struct probe_guest_result *result = &report->results[report->count++];
	uint64_t ns;

	result->name = name;
	return run_probe(guest, entry, &result->ok, result->detail, sizeof(result->detail), &ns,
			 err);
}

static int measure_speed(struct guest *guest, struct probe_guest_report *report, struct error *err)
{
	char detail[128];
	uint64_t ns;
	bool ok;
	int result = run_probe(guest, probe_guest_loop, &ok, detail, sizeof(detail), &ns, err);

	if (!result && ok && ns)
		report->ring0_mips = 2.0 * PROBE_LOOP_COUNT * 1000.0 / (double)ns;
	return result;
}

static int run_all(struct guest *guest, struct probe_guest_report *report, struct error *err)
{
	const struct {
		const char *name;
		const uint8_t *entry;
	} instructions[] = {
		{"cmpxchg16b", probe_guest_cmpxchg16b},
		/* the one that a kernel on this CPU would use */
		{guest->has_xsave ? "xrstor" : "fxrstor",
		 guest->has_xsave ? probe_guest_xrstor : probe_guest_fxrstor},
		{"int3", probe_guest_int3},
		{"iretq", probe_guest_iretq},
		{"iretq_user", probe_guest_iretq_user},
		{"lretq", probe_guest_lretq},
	};

	report->all_ok = true;
	for (size_t i = 0; i < ARRAY_SIZE(instructions); i++) {
		int result = run_instruction(guest, instructions[i].name, instructions[i].entry,
					     report, err);

		if (result) {
			report->all_ok = false;
			return result;
		}
		report->all_ok &= report->results[i].ok;
	}
	return measure_speed(guest, report, err);
}

static bool cpuid_has_xsave(const struct kvm_cpuid2 *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			return cpuid->entries[i].ecx & CPUID_1_ECX_XSAVE;
	return false;
}

int probe_guest_run(struct kvm *kvm, struct probe_guest_report *report, struct error *err)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	struct guest guest = {.kvm = kvm, .cpuid = cpuid};
	int result;

	*report = (struct probe_guest_report){0};
	if (!cpuid)
		return error_errno(err, ENOMEM, "create the probe guest");
	cpuid->nent = CPUID_ENTRIES_MAX;
	result = kvm_ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (result < 0) {
		error_errno(err, -result, "read the host's CPUID");
		goto free_cpuid;
	}
	guest.has_xsave = cpuid_has_xsave(cpuid) && kvm_extension(kvm->fd, KVM_CAP_XCRS);
	guest.memory = mmap(NULL, PROBE_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	if (guest.memory == MAP_FAILED) {
		result = error_errno(err, errno, "create the probe guest's memory");
		goto free_cpuid;
	}
	result = run_all(&guest, report, err);
	munmap(guest.memory, PROBE_MEMORY);

free_cpuid:
	free(cpuid);
	return result;
}
