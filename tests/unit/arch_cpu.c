/* CPUID and the state that vCPUs start in. */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>

#include "arch_image.h"

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/cpu.h"

#define VENDOR_INTEL 0x756e6547
#define VENDOR_AMD   0x68747541

static struct kvm_cpuid2 *supported;
static struct kvm_cpuid2 *guest;

/* What a host of @vendor might report. */
static void host_is(uint32_t vendor, uint32_t max_leaf)
{
	const struct kvm_cpuid_entry2 entries[] = {
		{.function = 0, .eax = max_leaf, .ebx = vendor},
		{.function = 1, .ebx = 0x07200800, .ecx = 1 << 21, .edx = 1 << 28},
		{.function = 4, .index = 0, .flags = 1, .eax = 0xfc1fc121}, /* L1 data */
		{.function = 4, .index = 3, .flags = 1, .eax = 0xfc1fc163}, /* L3 */
		{.function = 4, .index = 4, .flags = 1, .eax = 0},
		{.function = 0xb, .index = 0, .flags = 1, .edx = 77},
		{.function = 0xb, .index = 1, .flags = 1, .edx = 77},
		{.function = 0x1f, .index = 0, .flags = 1, .edx = 77},
		{.function = KVM_CPUID_SIGNATURE, .eax = KVM_CPUID_FEATURES},
		{.function = KVM_CPUID_FEATURES,
		 .eax = 1 << KVM_FEATURE_CLOCKSOURCE2 | 1 << KVM_FEATURE_ASYNC_PF},
		{.function = 0x80000001},
		{.function = 0x80000008, .eax = 0x3030, .ecx = 0x7007},
		{.function = 0x8000001d, .index = 3, .flags = 1, .eax = 0xfc163},
		{.function = 0x8000001e, .eax = 77, .ebx = 77, .ecx = 77},
	};

	free(supported);
	supported = calloc(1, sizeof(*supported) + sizeof(entries));
	assert_non_null(supported);
	supported->nent = sizeof(entries) / sizeof(entries[0]);
	memcpy(supported->entries, entries, sizeof(entries));
}

static int setup(void **state)
{
	(void)state;
	host_is(VENDOR_INTEL, 0x1f);
	guest = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(guest);
	free(supported);
	supported = NULL;
	return 0;
}

static void make_guest(unsigned index, unsigned count, bool tsc_deadline)
{
	free(guest);
	assert_int_equal(cpu_setup_cpuid(supported, index, count, tsc_deadline, &guest), 0);
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (uint32_t i = 0; i < guest->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &guest->entries[i];

		if (e->function != function || e->index != index)
			continue;
		assert_null(found); /* each once */
		found = e;
	}
	assert_non_null(found);
	return found;
}

static void gives_each_cpu_its_apic_id(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i += 9) {
		make_guest(i, 64, true);
		assert_int_equal(leaf(1, 0)->ebx >> 24, i);
		assert_int_equal(leaf(0xb, 0)->edx, i);
		assert_int_equal(leaf(0xb, 1)->edx, i);
		assert_int_equal(leaf(0x1f, 1)->edx, i);
	}
}

static void shows_one_socket_of_single_thread_cores(void **state)
{
	(void)state;
	make_guest(2, 6, true);
	assert_int_equal(leaf(0xb, 0)->eax, 0);
	assert_int_equal(leaf(0xb, 0)->ebx, 1);
	assert_int_equal(leaf(0xb, 0)->ecx, 0x100);
	assert_int_equal(leaf(0xb, 1)->eax, 3);
	assert_int_equal(leaf(0xb, 1)->ebx, 6);
	assert_int_equal(leaf(0xb, 1)->ecx, 0x201);
	assert_int_equal(leaf(0xb, 2)->ebx, 0);
	assert_int_equal(leaf(0xb, 2)->ecx, 2);
	assert_int_equal(leaf(1, 0)->ebx >> 16 & 0xff, 8);
	assert_int_equal(leaf(4, 0)->eax >> 26, 7);
	assert_int_equal(leaf(4, 0)->eax >> 14 & 0xfff, 0); /* L1: private */
	assert_int_equal(leaf(4, 3)->eax >> 14 & 0xfff, 7); /* L3: shared by all */
	assert_int_equal(leaf(4, 4)->eax, 0);
}

static void shows_the_same_on_amd(void **state)
{
	(void)state;
	host_is(VENDOR_AMD, 0x10);
	make_guest(5, 6, true);
	assert_int_equal(leaf(0x80000008, 0)->ecx, 0x3005);
	assert_int_equal(leaf(0x80000008, 0)->eax, 0x3030);
	assert_int_equal(leaf(0x8000001e, 0)->eax, 5);
	assert_int_equal(leaf(0x8000001e, 0)->ebx, 5);
	assert_int_equal(leaf(0x8000001e, 0)->ecx, 0);
	assert_int_equal(leaf(0x8000001d, 3)->eax >> 14 & 0xfff, 7);
	assert_int_equal(leaf(0x80000001, 0)->ecx & 2, 2);
	assert_int_equal(leaf(4, 0)->eax, 0xfc1fc121);
}

static void adds_no_leaf_beyond_the_largest(void **state)
{
	(void)state;
	host_is(VENDOR_INTEL, 0xd);
	make_guest(0, 1, true);
	leaf(0xb, 2);
	for (uint32_t i = 0; i < guest->nent; i++)
		assert_int_not_equal(guest->entries[i].function, 0x1f);
}

static void clears_multithreading_for_one_cpu(void **state)
{
	(void)state;
	make_guest(0, 1, true);
	assert_int_equal(leaf(1, 0)->edx & 1 << 28, 0);
	assert_int_equal(leaf(1, 0)->ebx >> 16, 1);
	assert_int_equal(leaf(0xb, 1)->eax, 0);
	make_guest(0, 2, true);
	assert_int_equal(leaf(1, 0)->edx & 1 << 28, 1 << 28);
}

static void shows_a_hypervisor_and_the_deadline_timer_when_told(void **state)
{
	(void)state;
	make_guest(0, 1, true);
	assert_int_equal(leaf(1, 0)->ecx, 1u << 31 | 1 << 24 | 1 << 21);
	make_guest(0, 1, false);
	assert_int_equal(leaf(1, 0)->ecx, 1u << 31 | 1 << 21);
}

static void keeps_what_kvm_offers(void **state)
{
	(void)state;
	make_guest(0, 4, true);
	assert_int_equal(leaf(KVM_CPUID_FEATURES, 0)->eax,
			 1 << KVM_FEATURE_CLOCKSOURCE2 | 1 << KVM_FEATURE_ASYNC_PF);
	assert_int_equal(leaf(KVM_CPUID_SIGNATURE, 0)->eax, KVM_CPUID_FEATURES);
}

static void refuses_impossible_cpus(void **state)
{
	(void)state;
	assert_int_equal(cpu_setup_cpuid(supported, 0, 0, true, &guest), -EINVAL);
	assert_int_equal(cpu_setup_cpuid(supported, 0, 65, true, &guest), -EINVAL);
	assert_int_equal(cpu_setup_cpuid(supported, 2, 2, true, &guest), -EINVAL);
	assert_null(guest);
}

static void starts_linux_in_long_mode(void **state)
{
	struct boot_entry entry = {
		.protocol = BOOT_LINUX64, .entry = 0x1000200, .parameter = BOOT_PARAMS};
	struct kvm_regs regs;
	struct kvm_sregs sregs = {.apic_base = 0xfee00900};

	(void)state;
	memset(&regs, 0xff, sizeof(regs));
	cpu_initial_state(&entry, &regs, &sregs);
	assert_int_equal(regs.rip, 0x1000200);
	assert_int_equal(regs.rsi, BOOT_PARAMS);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cr0, 0x80000011);
	assert_int_equal(sregs.cr3, BOOT_PAGE_TABLES);
	assert_int_equal(sregs.cr4, 0x20);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);
	assert_int_equal(sregs.ds.selector, 0x18);
	assert_int_equal(sregs.gdt.base, BOOT_GDT);
	assert_int_equal(sregs.apic_base, 0xfee00900);
}

static void starts_pvh_in_protected_mode_without_paging(void **state)
{
	struct boot_entry entry = {
		.protocol = BOOT_PVH, .entry = 0x200000, .parameter = BOOT_START_INFO};
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	(void)state;
	memset(&sregs, 0xff, sizeof(sregs));
	cpu_initial_state(&entry, &regs, &sregs);
	assert_int_equal(regs.rip, 0x200000);
	assert_int_equal(regs.rbx, BOOT_START_INFO);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cr0, 0x11);
	assert_int_equal(sregs.cr4, 0);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(sregs.cs.base, 0);
	assert_int_equal(sregs.cs.limit, 0xffffffff);
	assert_int_equal(sregs.ss.limit, 0xffffffff);
	assert_int_equal(sregs.tr.type, 11);
	assert_int_equal(sregs.tr.limit, 0x67);
}

static void makes_memory_write_back(void **state)
{
	struct kvm_msrs *msrs;

	(void)state;
	assert_int_equal(cpu_initial_msrs(&msrs), 0);
	assert_int_equal(msrs->entries[msrs->nmsrs - 1].index, 0x2ff);
	assert_int_equal(msrs->entries[msrs->nmsrs - 1].data, 0x806);
	free(msrs);
}

static void initialises_fpu_and_local_apic_as_firmware_does(void **state)
{
	struct kvm_fpu fpu;
	struct kvm_lapic_state lapic;
	uint32_t lint0, lint1;

	(void)state;
	memset(&fpu, 0xff, sizeof(fpu));
	cpu_initial_fpu(&fpu);
	assert_int_equal(fpu.fcw, 0x37f);
	assert_int_equal(fpu.mxcsr, 0x1f80);

	memset(&lapic, 0, sizeof(lapic));
	lapic.regs[0x352] = 1; /* masked */
	cpu_initial_lapic(&lapic);
	memcpy(&lint0, lapic.regs + 0x350, 4);
	memcpy(&lint1, lapic.regs + 0x360, 4);
	assert_int_equal(lint0, 0x700);
	assert_int_equal(lint1, 0x400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(gives_each_cpu_its_apic_id),
		TEST(shows_one_socket_of_single_thread_cores),
		TEST(shows_the_same_on_amd),
		TEST(adds_no_leaf_beyond_the_largest),
		TEST(clears_multithreading_for_one_cpu),
		TEST(shows_a_hypervisor_and_the_deadline_timer_when_told),
		TEST(keeps_what_kvm_offers),
		TEST(refuses_impossible_cpus),
		TEST(starts_linux_in_long_mode),
		TEST(starts_pvh_in_protected_mode_without_paging),
		TEST(makes_memory_write_back),
		TEST(initialises_fpu_and_local_apic_as_firmware_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
