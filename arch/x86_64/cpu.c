#include "arch/x86_64/cpu.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/boot_layout.h"
#include "vmm/base/checked.h"

/* Control register and EFER bits (Intel SDM volume 3, section 2.5; AMD APM volume 2, section 3.1).
 */
#define CR0_PE   (1ull << 0)
#define CR0_ET   (1ull << 4)
#define CR0_PG   (1ull << 31)
#define CR4_PAE  (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define RFLAGS_RESERVED 2

#define FPU_CONTROL_DEFAULT 0x37f  /* as after FNINIT */
#define MXCSR_DEFAULT       0x1f80 /* SDM volume 1, section 10.2.3 */

#define MSR_SYSENTER_CS    0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_MISC_ENABLE    0x1a0
#define MSR_MTRR_DEF_TYPE  0x2ff
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_CSTAR          0xc0000083
#define MSR_SYSCALL_MASK   0xc0000084
#define MSR_KERNEL_GS_BASE 0xc0000102

#define MISC_ENABLE_FAST_STRING 1
#define MISC_ENABLE_NO_BTS      (1 << 11)
#define MISC_ENABLE_NO_PEBS     (1 << 12)
#define MTRR_ENABLE             (1 << 11)
#define MTRR_WRITE_BACK         6

/* Local APIC registers and delivery modes (SDM volume 3, section 11.5.1). */
#define APIC_LVT_LINT0       0x350
#define APIC_LVT_LINT1       0x360
#define APIC_DELIVERY_MASK   (7u << 8)
#define APIC_DELIVERY_NMI    (4u << 8)
#define APIC_DELIVERY_EXTINT (7u << 8)
#define APIC_LVT_MASKED      (1u << 16)

static const struct kvm_segment flat_data = {
	.base = 0,
	.limit = 0xffffffff,
	.selector = BOOT_DATA_SELECTOR,
	.type = 3, /* read, write, accessed */
	.present = 1,
	.db = 1,
	.s = 1,
	.g = 1,
};

static const struct kvm_segment flat_code = {
	.base = 0,
	.limit = 0xffffffff,
	.selector = BOOT_CODE_SELECTOR,
	.type = 11, /* execute, read, accessed */
	.present = 1,
	.s = 1,
	.g = 1,
	/* .db and .l differ by mode */
};

/* VMX and SVM want a busy task state segment, even an unused one. */
static const struct kvm_segment task_state = {
	.base = 0,
	.limit = 0x67,
	.type = 11,
	.present = 1,
};

void cpu_initial_state(const struct boot_entry *entry, struct kvm_regs *regs,
		       struct kvm_sregs *sregs)
{
	memset(regs, 0, sizeof(*regs));
	regs->rip = entry->entry;
	regs->rsp = BOOT_STACK_TOP;
	regs->rflags = RFLAGS_RESERVED;

	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat_data;
	sregs->cs = flat_code;
	sregs->tr = task_state;
	sregs->ldt = (struct kvm_segment){.unusable = 1};
	sregs->gdt = (struct kvm_dtable){.base = BOOT_GDT, .limit = BOOT_GDT_ENTRIES * 8 - 1};
	sregs->idt = (struct kvm_dtable){0};
	sregs->cr2 = 0;
	sregs->cr8 = 0;

	switch (entry->protocol) {
	case BOOT_LINUX64:
		regs->rsi = entry->parameter;
		sregs->cs.l = 1;
		sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
		sregs->cr3 = BOOT_PAGE_TABLES;
		sregs->cr4 = CR4_PAE;
		sregs->efer = EFER_LME | EFER_LMA;
		break;
	case BOOT_PVH:
		regs->rbx = entry->parameter;
		sregs->cs.db = 1;
		sregs->cr0 = CR0_PE | CR0_ET;
		sregs->cr3 = 0;
		sregs->cr4 = 0;
		sregs->efer = 0;
		break;
	}
}

static int make_msrs(const struct kvm_msr_entry *entries, size_t count, struct kvm_msrs **out)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + count * sizeof(msrs->entries[0]));

	if (!msrs)
		return -ENOMEM;
	msrs->nmsrs = (uint32_t)count;
	if (count != 0)
		memcpy(msrs->entries, entries, count * sizeof(msrs->entries[0]));
	*out = msrs;
	return 0;
}

int cpu_initial_msrs(struct kvm_msrs **msrs)
{
	static const struct kvm_msr_entry entries[] = {
		{.index = MSR_SYSENTER_CS, .data = 0},
		{.index = MSR_SYSENTER_ESP, .data = 0},
		{.index = MSR_SYSENTER_EIP, .data = 0},
		{.index = MSR_STAR, .data = 0},
		{.index = MSR_LSTAR, .data = 0},
		{.index = MSR_CSTAR, .data = 0},
		{.index = MSR_SYSCALL_MASK, .data = 0},
		{.index = MSR_KERNEL_GS_BASE, .data = 0},
		{.index = MSR_MISC_ENABLE,
		 .data = MISC_ENABLE_FAST_STRING | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS},
		{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK},
	};

	return make_msrs(entries, ARRAY_SIZE(entries), msrs);
}

void cpu_initial_fpu(struct kvm_fpu *fpu)
{
	memset(fpu, 0, sizeof(*fpu));
	fpu->fcw = FPU_CONTROL_DEFAULT;
	fpu->mxcsr = MXCSR_DEFAULT;
}

static void set_delivery(struct kvm_lapic_state *lapic, unsigned lvt, uint32_t mode)
{
	uint32_t value;

	memcpy(&value, lapic->regs + lvt, sizeof(value));
	value &= ~(APIC_DELIVERY_MASK | APIC_LVT_MASKED);
	value |= mode;
	memcpy(lapic->regs + lvt, &value, sizeof(value));
}

void cpu_initial_lapic(struct kvm_lapic_state *lapic)
{
	set_delivery(lapic, APIC_LVT_LINT0, APIC_DELIVERY_EXTINT);
	set_delivery(lapic, APIC_LVT_LINT1, APIC_DELIVERY_NMI);
}
