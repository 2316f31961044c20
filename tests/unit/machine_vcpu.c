/* vCPU threads, with real guests of a few real-mode instructions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/machine/vcpu.h"
#include "vmm/machine/vcpu_exit.h"

#define RAM_SIZE  (64 * GUEST_PAGE_SIZE)
#define CODE      0x1000
#define COUNTER   0x3000
#define TEXT      0x4000
#define PORT      0x80
#define MMIO_BASE 0x80000
#define CYCLES    300

struct fixture {
	struct kvm kvm;
	struct guest_memory *memory;
	struct bus *pio, *mmio;
	struct vcpu_env env;
	struct vcpus *vcpus;
	atomic_int first_runs, crashes;
	atomic_int writes;
	char written[16];
	uint64_t mmio_value;
	bool hold_on_write;
	char reason[1024];
};

static void on_first_run(void *opaque)
{
	struct fixture *f = opaque;

	atomic_fetch_add(&f->first_runs, 1);
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static void on_crash(void *opaque, const char *reason)
{
	struct fixture *f = opaque;

	if (!atomic_load(&f->crashes))
		snprintf(f->reason, sizeof(f->reason), "%s", reason);
	atomic_fetch_add(&f->crashes, 1);
	vcpus_hold(f->vcpus);
}

static void port_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct fixture *f = device;
	int at = atomic_load(&f->writes);

	(void)offset;
	(void)size;
	if (at < (int)sizeof(f->written))
		f->written[at] = (char)value;
	atomic_store(&f->writes, at + 1);
	if (f->hold_on_write)
		vcpus_hold(f->vcpus);
}

static uint64_t port_read(void *device, uint64_t offset, unsigned size)
{
	(void)device;
	(void)offset;
	return size == 1 ? 0x5a : 0x1234;
}

static void mmio_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct fixture *f = device;

	(void)offset;
	(void)size;
	f->mmio_value = value;
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};
static const struct bus_ops mmio_ops = {.read = port_read, .write = mmio_write};

static void set_entry(int fd)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct kvm_sregs sregs;

	assert_int_equal(kvm_ioctl(fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	assert_int_equal(kvm_ioctl(fd, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_SET_REGS, &regs), 0);
}

/* A VM with one vCPU that will execute @code, its thread waiting. */
static void prepare(struct fixture *f, const void *code, size_t size)
{
	const struct guest_memory_region ram = {.base = 0, .size = RAM_SIZE};

	memset(f, 0, sizeof(*f));
	f->env = (struct vcpu_env){
		.opaque = f,
		.first_run = on_first_run,
		.reset = ignore,
		.poweroff = ignore,
		.crash = on_crash,
	};
	assert_int_equal(guest_memory_create(&ram, 1, &f->memory, NULL), 0);
	assert_int_equal(guest_memory_write(f->memory, CODE, code, size), 0);
	assert_int_equal(bus_create(&f->pio), 0);
	assert_int_equal(bus_create(&f->mmio), 0);
	assert_int_equal(bus_attach(f->pio, PORT, 1, &port_ops, f, "port"), 0);
	assert_int_equal(bus_attach(f->mmio, MMIO_BASE, 8, &mmio_ops, f, "mmio"), 0);
	f->env.pio = f->pio;
	f->env.mmio = f->mmio;
	f->env.memory = f->memory;
	assert_int_equal(kvm_create(&f->kvm, NULL), 0);
	assert_int_equal(kvm_create_vm(&f->kvm, NULL), 0);
	assert_int_equal(
		kvm_add_memory(&f->kvm, 0, RAM_SIZE, guest_memory_guest_view(f->memory), NULL), 0);
	assert_int_equal(vcpus_create(&f->kvm, 1, &f->env, &f->vcpus, NULL), 0);
	set_entry(vcpus_fd(f->vcpus, 0));
	assert_int_equal(vcpus_start(f->vcpus, NULL), 0);
}

static void finish(struct fixture *f)
{
	assert_true(vcpus_stop(f->vcpus));
	vcpus_destroy(f->vcpus);
	kvm_destroy(&f->kvm);
	bus_destroy(f->pio);
	bus_destroy(f->mmio);
	guest_memory_destroy(f->memory);
}

static uint64_t counter(struct fixture *f)
{
	uint64_t value;

	assert_int_equal(guest_memory_load(f->memory, COUNTER, 2, &value), 0);
	return value;
}

static void sleep_us(unsigned us)
{
	const struct timespec delay = {.tv_nsec = (long)us * 1000};

	nanosleep(&delay, NULL);
}

/* True when @value has reached @wanted, false after ten seconds. */
static bool reaches(atomic_int *value, int wanted)
{
	for (int i = 0; i < 10000; i++) {
		if (atomic_load(value) >= wanted)
			return true;
		sleep_us(1000);
	}
	return false;
}

static const uint8_t spin[] = {0xeb, 0xfe};                          /* jmp . */
static const uint8_t count[] = {0xff, 0x06, 0x00, 0x30, 0xeb, 0xfa}; /* incw COUNTER; jmp . */

/* Each wait would last for ever if a kick got lost; the test's time limit says so. */
static void test_a_kick_is_never_lost(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin));
	for (unsigned i = 0; i < CYCLES; i++) {
		vcpus_release(f.vcpus);
		if (i % 3)
			sleep_us(i % 50);
		vcpus_hold(f.vcpus);
		assert_true(vcpus_wait_held(f.vcpus));
	}
	finish(&f);
}

static void test_a_held_vcpu_stands_still_and_goes_on_after(void **state)
{
	struct fixture f;
	uint64_t before;

	(void)state;
	prepare(&f, count, sizeof(count));
	vcpus_release(f.vcpus);
	sleep_us(20000);
	vcpus_hold(f.vcpus);
	assert_true(vcpus_wait_held(f.vcpus));
	before = counter(&f);
	sleep_us(20000);
	assert_int_equal(counter(&f), before);

	vcpus_release(f.vcpus);
	for (int i = 0; i < 1000 && counter(&f) == before; i++)
		sleep_us(1000);
	assert_int_not_equal(counter(&f), before);
	finish(&f);
}

static void test_nothing_runs_before_the_release(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, count, sizeof(count));
	sleep_us(10000);
	assert_int_equal(counter(&f), 0);
	assert_int_equal(f.first_runs, 0);
	finish(&f);
}

static void test_the_first_run_is_told_once(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin));
	for (int i = 0; i < 3; i++) {
		vcpus_release(f.vcpus);
		assert_true(reaches(&f.first_runs, 1));
		vcpus_hold(f.vcpus);
		assert_true(vcpus_wait_held(f.vcpus));
	}
	assert_int_equal(f.first_runs, 1);
	finish(&f);
}

static void test_a_device_may_hold_the_vcpu_that_writes_to_it(void **state)
{
	/* movb $'x', %al; outb %al, $PORT; jmp back */
	static const uint8_t code[] = {0xb0, 'x', 0xe6, PORT, 0xeb, 0xfa};
	struct fixture f;

	(void)state;
	prepare(&f, code, sizeof(code));
	f.hold_on_write = true;
	vcpus_release(f.vcpus);
	assert_true(reaches(&f.writes, 1));
	assert_true(vcpus_wait_held(f.vcpus));
	assert_int_equal(f.writes, 1);
	finish(&f);
}

static void test_string_output_arrives_in_order(void **state)
{
	/* movw $TEXT, %si; movw $5, %cx; movw $PORT, %dx; rep outsb; jmp . */
	static const uint8_t code[] = {0xbe, 0x00, 0x40, 0xb9, 0x05, 0x00, 0xba,
				       PORT, 0x00, 0xf3, 0x6e, 0xeb, 0xfe};
	struct fixture f;

	(void)state;
	prepare(&f, code, sizeof(code));
	assert_int_equal(guest_memory_write(f.memory, TEXT, "hello", 5), 0);
	vcpus_release(f.vcpus);
	assert_true(reaches(&f.writes, 5));
	assert_memory_equal(f.written, "hello", 5);
	finish(&f);
}

static void test_a_port_without_device_reads_all_ones(void **state)
{
	/* inw $0x90, %ax; movw %ax, COUNTER; outb %al, $PORT; jmp . */
	static const uint8_t code[] = {0xe5, 0x90, 0xa3, 0x00, 0x30, 0xe6, PORT, 0xeb, 0xfe};
	struct fixture f;

	(void)state;
	prepare(&f, code, sizeof(code));
	vcpus_release(f.vcpus);
	assert_true(reaches(&f.writes, 1));
	assert_int_equal(counter(&f), 0xffff);
	finish(&f);
}

static void test_memory_mapped_registers_are_read_and_written(void **state)
{
	/* movw $0x8000, %ax; movw %ax, %ds; movw 0, %ax; movw %ax, 2;
	 * outb %al, $PORT; jmp . */
	static const uint8_t code[] = {0xb8, 0x00, 0x80, 0x8e, 0xd8, 0xa1, 0x00, 0x00,
				       0xa3, 0x02, 0x00, 0xe6, PORT, 0xeb, 0xfe};
	struct fixture f;

	(void)state;
	prepare(&f, code, sizeof(code));
	vcpus_release(f.vcpus);
	assert_true(reaches(&f.writes, 1));
	assert_int_equal(f.mmio_value, 0x1234);
	finish(&f);
}

static void test_code_outside_of_memory_is_told_as_a_crash_with_registers(void **state)
{
	/* ljmp $0x9000, $0: there is no memory to execute */
	static const uint8_t code[] = {0xea, 0x00, 0x00, 0x00, 0x90};
	struct fixture f;

	(void)state;
	prepare(&f, code, sizeof(code));
	vcpus_release(f.vcpus);
	assert_true(reaches(&f.crashes, 1));
	assert_true(vcpus_wait_held(f.vcpus));
	assert_non_null(strstr(f.reason, "vCPU 0"));
	assert_non_null(strstr(f.reason, "rip="));
	finish(&f);
}

/* KVM may ask for an access to RAM that it cannot do itself. */
static void test_an_mmio_exit_in_ram_never_reaches_a_device(void **state)
{
	struct kvm_run run = {
		.exit_reason = KVM_EXIT_MMIO,
		.mmio = {.phys_addr = TEXT, .data = "abcdefgh", .len = 8, .is_write = 1},
	};
	struct fixture f;
	char text[8];

	(void)state;
	prepare(&f, spin, sizeof(spin));
	assert_int_equal(bus_attach(f.mmio, TEXT, 8, &mmio_ops, &f, "impostor"), 0);
	vcpu_handle_exit(&f.env, 0, -1, &run);
	assert_int_equal(guest_memory_read(f.memory, TEXT, text, sizeof(text)), 0);
	assert_memory_equal(text, "abcdefgh", 8);
	run.mmio.is_write = 0;
	memset(run.mmio.data, 0, sizeof(run.mmio.data));
	vcpu_handle_exit(&f.env, 0, -1, &run);
	assert_memory_equal(run.mmio.data, "abcdefgh", 8);
	assert_int_equal(f.mmio_value, 0);
	finish(&f);
}

static void test_an_access_across_the_end_of_ram_is_a_crash(void **state)
{
	struct kvm_run run = {
		.exit_reason = KVM_EXIT_MMIO,
		.mmio = {.phys_addr = RAM_SIZE - 4, .len = 8, .is_write = 1},
	};
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin));
	vcpu_handle_exit(&f.env, 0, -1, &run);
	assert_int_equal(f.crashes, 1);
	finish(&f);
}

static void test_a_triple_fault_is_a_crash(void **state)
{
	struct kvm_run run = {.exit_reason = KVM_EXIT_SHUTDOWN};
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin));
	vcpu_handle_exit(&f.env, 0, vcpus_fd(f.vcpus, 0), &run);
	assert_int_equal(f.crashes, 1);
	assert_non_null(strstr(f.reason, "triple fault"));
	assert_non_null(strstr(f.reason, "rip=0x1000"));
	finish(&f);
}

static void test_waiting_for_an_abandoned_vcpu_ends(void **state)
{
	struct fixture f;
	uint64_t start;

	(void)state;
	prepare(&f, spin, sizeof(spin));
	vcpus_release(f.vcpus);
	assert_true(reaches(&f.first_runs, 1));
	vcpus_abandon(f.vcpus); /* and nobody holds it */
	start = clock_monotonic_ns();
	assert_false(vcpus_wait_held(f.vcpus));
	assert_true(clock_monotonic_ns() - start >= VCPUS_PATIENCE_NS / 2);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_kick_is_never_lost),
		cmocka_unit_test(test_a_held_vcpu_stands_still_and_goes_on_after),
		cmocka_unit_test(test_nothing_runs_before_the_release),
		cmocka_unit_test(test_the_first_run_is_told_once),
		cmocka_unit_test(test_a_device_may_hold_the_vcpu_that_writes_to_it),
		cmocka_unit_test(test_string_output_arrives_in_order),
		cmocka_unit_test(test_a_port_without_device_reads_all_ones),
		cmocka_unit_test(test_memory_mapped_registers_are_read_and_written),
		cmocka_unit_test(test_code_outside_of_memory_is_told_as_a_crash_with_registers),
		cmocka_unit_test(test_an_mmio_exit_in_ram_never_reaches_a_device),
		cmocka_unit_test(test_an_access_across_the_end_of_ram_is_a_crash),
		cmocka_unit_test(test_a_triple_fault_is_a_crash),
		cmocka_unit_test(test_waiting_for_an_abandoned_vcpu_ends),
	};

	if (access(KVM_DEVICE_PATH, R_OK | W_OK)) {
		puts("SKIP: no right to /dev/kvm, or no such device: `ebb check` says more");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
