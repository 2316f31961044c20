/* A whole machine with a guest of a few instructions: start, pause, reset, power-off, crash. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "arch_image.h"
#include "vmm/base/event_loop.h"
#include "vmm/machine/chardev.h"
#include "vmm/machine/kvm.h"
#include "vmm/machine/machine.h"

#define CODE_OFFSET (ELF_ENTRY - ELF_LOAD)

struct fixture {
	struct image_file kernel;
	struct event_loop *loop;
	struct chardev *serial;
	struct machine *machine;
	struct vm_config config;
};

/* 32-bit code. */
static const uint8_t spin[] = {0xeb, 0xfe};  /* jmp . */
static const uint8_t crash[] = {0x0f, 0x0b}; /* ud2, without an IDT */
/*
 * The first time: notes that in the CMOS memory, which a reset does not clear, and resets through
 * the keyboard controller. The second time: clears the note and powers off.
 */
static const uint8_t reset_then_poweroff[] = {
	0xb0, 0x50, 0xe6, 0x70,             /* movb $0x50, %al; outb %al, $0x70 */
	0xe4, 0x71, 0x3c, 0x01, 0x74, 0x0a, /* inb $0x71, %al; cmpb $1, %al; je 1f */
	0xb0, 0x01, 0xe6, 0x71,             /* movb $1, %al; outb %al, $0x71 */
	0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe, /* movb $0xfe, %al; outb %al, $0x64; jmp . */
	0xb0, 0x34, 0x66, 0xba, 0x00, 0x06, /* 1: movb $0x34, %al; movw $0x600, %dx */
	0xee, 0xeb, 0xfe,                   /* outb %al, %dx; jmp . */
};

static void prepare(struct fixture *f, const uint8_t *code, size_t size, unsigned cpus)
{
	struct error err = {.text = ""};
	struct elf_image image;

	memset(f, 0, sizeof(*f));
	elf_make(&image);
	memcpy(image.code + CODE_OFFSET, code, size);
	f->kernel = image_file_make(&image, sizeof(image));
	f->config = (struct vm_config){
		.name = "test",
		.kernel = f->kernel.path,
		.memory_bytes = 32 << 20,
		.cpus = cpus,
		.serial = SERIAL_NONE,
	};
	assert_int_equal(event_loop_create(&f->loop), 0);
	assert_int_equal(
		chardev_create(SERIAL_NONE, NULL, "serial line", f->loop, &f->serial, &err), 0);
	if (machine_create(&f->config, f->serial, NULL, &f->machine, &err))
		fail_msg("machine_create: %s", err.text);
}

static void finish(struct fixture *f)
{
	machine_destroy(f->machine);
	chardev_destroy(f->serial);
	event_loop_destroy(f->loop);
	close(f->kernel.fd);
}

static enum machine_event next_event(struct fixture *f)
{
	struct pollfd pollfd = {.fd = machine_event_fd(f->machine), .events = POLLIN};

	if (poll(&pollfd, 1, 10000) != 1)
		return MACHINE_EVENT_NONE;
	return machine_next_event(f->machine);
}

static enum machine_state state_of(struct fixture *f)
{
	struct machine_status status;

	machine_get_status(f->machine, &status);
	return status.state;
}

static void test_a_machine_that_never_started_is_destroyed(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin), 2);
	assert_int_equal(state_of(&f), MACHINE_CREATED);
	finish(&f);
}

static void test_a_running_machine_is_destroyed(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin), 4);
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(state_of(&f), MACHINE_RUNNING);
	finish(&f);
}

static void test_pause_and_resume_name_the_wrong_state(void **state)
{
	struct fixture f;
	struct error err;

	(void)state;
	prepare(&f, spin, sizeof(spin), 1);
	assert_int_equal(machine_pause(f.machine, &err), -EINVAL);
	assert_non_null(strstr(err.text, "created"));
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(machine_resume(f.machine, &err), -EINVAL);
	assert_non_null(strstr(err.text, "running"));
	for (int i = 0; i < 20; i++) {
		assert_int_equal(machine_pause(f.machine, NULL), 0);
		assert_int_equal(machine_pause(f.machine, &err), -EINVAL);
		assert_non_null(strstr(err.text, "paused"));
		assert_int_equal(machine_resume(f.machine, NULL), 0);
	}
	finish(&f);
}

static void test_the_guest_resets_and_then_powers_off(void **state)
{
	struct fixture f;
	struct machine_status status;

	(void)state;
	prepare(&f, reset_then_poweroff, sizeof(reset_then_poweroff), 2);
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(next_event(&f), MACHINE_EVENT_RESET);
	assert_int_equal(machine_reset(f.machine, NULL), 0);
	assert_int_equal(next_event(&f), MACHINE_EVENT_POWEROFF);
	machine_get_status(f.machine, &status);
	assert_int_equal(status.state, MACHINE_STOPPED);
	assert_int_equal(status.resets, 1);
	assert_int_not_equal(status.first_run_ns, 0);
	finish(&f);
}

static void test_a_reset_keeps_a_pause(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin), 1);
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(machine_pause(f.machine, NULL), 0);
	assert_int_equal(machine_reset(f.machine, NULL), 0);
	assert_int_equal(state_of(&f), MACHINE_PAUSED);
	assert_int_equal(machine_resume(f.machine, NULL), 0);
	finish(&f);
}

static void test_a_crash_ends_the_machine_and_has_a_reason(void **state)
{
	struct fixture f;

	(void)state;
	prepare(&f, crash, sizeof(crash), 1);
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(next_event(&f), MACHINE_EVENT_CRASH);
	assert_int_equal(state_of(&f), MACHINE_STOPPED);
	assert_non_null(strstr(machine_crash_reason(f.machine), "rip="));
	assert_int_equal(machine_reset(f.machine, NULL), -EINVAL);
	finish(&f);
}

static void test_a_balloon_larger_than_memory_is_refused(void **state)
{
	struct fixture f;
	struct machine_status status;

	(void)state;
	prepare(&f, spin, sizeof(spin), 1);
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(machine_set_balloon(f.machine, 33 << 20, NULL), -ERANGE);
	assert_int_equal(machine_set_balloon(f.machine, 24 << 20, NULL), 0);
	machine_get_status(f.machine, &status);
	assert_true(status.balloon.present);
	assert_int_equal(status.balloon.target_bytes, 8 << 20);
	finish(&f);
}

static unsigned count_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_no_descriptor_is_left_open(void **state)
{
	unsigned before = count_descriptors();
	struct fixture f;

	(void)state;
	prepare(&f, spin, sizeof(spin), 2);
	assert_int_equal(machine_start(f.machine, NULL), 0);
	assert_int_equal(machine_reset(f.machine, NULL), 0);
	finish(&f);
	assert_int_equal(count_descriptors(), before);
}

static void test_a_missing_kernel_leaves_nothing_behind(void **state)
{
	unsigned before = count_descriptors();
	struct vm_config config = {
		.kernel = "/nonexistent/kernel",
		.memory_bytes = 32 << 20,
		.cpus = 1,
		.serial = SERIAL_NONE,
	};
	struct machine *machine;
	struct error err = {.text = ""};

	(void)state;
	assert_true(machine_create(&config, NULL, NULL, &machine, &err) < 0);
	assert_non_null(strstr(err.text, "/nonexistent/kernel"));
	assert_int_equal(count_descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_machine_that_never_started_is_destroyed),
		cmocka_unit_test(test_a_running_machine_is_destroyed),
		cmocka_unit_test(test_pause_and_resume_name_the_wrong_state),
		cmocka_unit_test(test_the_guest_resets_and_then_powers_off),
		cmocka_unit_test(test_a_reset_keeps_a_pause),
		cmocka_unit_test(test_a_crash_ends_the_machine_and_has_a_reason),
		cmocka_unit_test(test_a_balloon_larger_than_memory_is_refused),
		cmocka_unit_test(test_no_descriptor_is_left_open),
		cmocka_unit_test(test_a_missing_kernel_leaves_nothing_behind),
	};

	if (access(KVM_DEVICE_PATH, R_OK | W_OK)) {
		puts("SKIP: no right to /dev/kvm, or no such device: `ebb check` says more");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
