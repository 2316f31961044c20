/* The virtio console between a driver and a host that takes what it wants. */
#include "devices/virtio_console.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_mmio.h>
#include <time.h>

#include "virtio_driver.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/size.h"

#define INPUT  0u
#define OUTPUT 1u
#define DATA   VIRTIO_DRIVER_DATA

static struct {
	struct virtio_driver driver;
	struct virtio_device *device;
	pthread_mutex_t lock; /* guards the host's part */
	uint8_t output[1 << 20];
	size_t output_length;
	size_t accepts; /* bytes that the host still takes */
	unsigned receivable_calls;
} test = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t host_write(void *opaque, const uint8_t *data, size_t length)
{
	(void)opaque;
	pthread_mutex_lock(&test.lock);
	if (length > test.accepts)
		length = test.accepts;
	assert_true(test.output_length + length <= sizeof(test.output));
	memcpy(test.output + test.output_length, data, length);
	test.output_length += length;
	test.accepts -= length;
	pthread_mutex_unlock(&test.lock);
	return length;
}

static void host_receivable(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&test.lock);
	test.receivable_calls++;
	pthread_mutex_unlock(&test.lock);
}

static int create(uint16_t columns, uint16_t rows)
{
	const struct virtio_console_host host = {
		.write = host_write,
		.receivable = host_receivable,
	};

	test.output_length = 0;
	test.accepts = SIZE_MAX;
	test.receivable_calls = 0;
	virtio_driver_setup(&test.driver, 4 * MIB);
	assert_int_equal(virtio_console_create(test.driver.memory, test.driver.loop, &host, columns,
					       rows, &test.device),
			 0);
	virtio_driver_attach(&test.driver, test.device);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return create(0, 0);
}

static int setup_terminal(void **state)
{
	(void)state;
	return create(80, 24);
}

static int teardown(void **state)
{
	(void)state;
	virtio_driver_teardown(&test.driver);
	return 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

static size_t output_length(void)
{
	size_t length;

	pthread_mutex_lock(&test.lock);
	length = test.output_length;
	pthread_mutex_unlock(&test.lock);
	return length;
}

static void host_accepts(size_t bytes)
{
	pthread_mutex_lock(&test.lock);
	test.accepts = bytes;
	pthread_mutex_unlock(&test.lock);
}

static void send_output(const void *data, size_t length)
{
	const struct ring_buffer buffer = {DATA, (uint32_t)length, false};

	ring_write(&test.driver.rings[OUTPUT], DATA, data, length);
	ring_add(&test.driver.rings[OUTPUT], &buffer, 1);
	virtio_driver_kick(&test.driver, OUTPUT);
}

static bool output_is_taken(void)
{
	uint16_t head;
	uint32_t written;

	return virtio_driver_wait_used(&test.driver, OUTPUT, &head, &written);
}

static void give_input_buffer(gpa_t gpa, uint32_t length)
{
	ring_add(&test.driver.rings[INPUT], &(struct ring_buffer){gpa, length, true}, 1);
	virtio_driver_kick(&test.driver, INPUT);
}

/* The next input is @text. */
static void expect_input(gpa_t gpa, const char *text)
{
	char data[256];
	uint16_t head;
	uint32_t written;

	assert_true(virtio_driver_wait_used(&test.driver, INPUT, &head, &written));
	assert_int_equal(written, strlen(text));
	ring_read(&test.driver.rings[INPUT], gpa, data, written);
	assert_memory_equal(data, text, written);
}

static size_t type(const char *text)
{
	return virtio_console_receive(test.device, (const uint8_t *)text, strlen(text));
}

static void output_reaches_the_host(void **state)
{
	(void)state;
	virtio_driver_start(&test.driver, 0);
	send_output("hello", 5);
	assert_true(output_is_taken());
	assert_int_equal(output_length(), 5);
	assert_memory_equal(test.output, "hello", 5);
}

static void a_long_chain_goes_out_whole_and_in_order(void **state)
{
	static uint8_t data[300000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	virtio_driver_start(&test.driver, 0);
	send_output(data, sizeof(data)); /* more than one turn of the loop */
	assert_true(output_is_taken());
	assert_int_equal(output_length(), sizeof(data));
	assert_memory_equal(test.output, data, sizeof(data));
}

static void what_the_host_does_not_take_stays_with_the_guest(void **state)
{
	uint16_t head;
	uint32_t written;

	(void)state;
	host_accepts(3);
	virtio_driver_start(&test.driver, 0);
	send_output("0123456789", 10);
	nap();
	assert_false(ring_take_used(&test.driver.rings[OUTPUT], &head, &written));
	assert_int_equal(output_length(), 3);
	host_accepts(4);
	virtio_console_host_writable(test.device);
	nap();
	assert_false(ring_take_used(&test.driver.rings[OUTPUT], &head, &written));
	host_accepts(SIZE_MAX);
	virtio_console_host_writable(test.device);
	assert_true(output_is_taken());
	assert_memory_equal(test.output, "0123456789", 10);
	assert_int_equal(output_length(), 10);
}

static void output_behind_a_waiting_chain_keeps_its_order(void **state)
{
	(void)state;
	host_accepts(0);
	virtio_driver_start(&test.driver, 0);
	for (unsigned i = 0; i < 8; i++) {
		gpa_t gpa = DATA + i * 16;
		uint8_t digit = (uint8_t)('0' + i);

		ring_write(&test.driver.rings[OUTPUT], gpa, &digit, 1);
		ring_add(&test.driver.rings[OUTPUT], &(struct ring_buffer){gpa, 1, false}, 1);
	}
	virtio_driver_kick(&test.driver, OUTPUT);
	nap();
	host_accepts(SIZE_MAX);
	virtio_console_host_writable(test.device);
	for (unsigned i = 0; i < 8; i++)
		assert_true(output_is_taken());
	assert_memory_equal(test.output, "01234567", 8);
}

static void a_reset_forgets_output_that_waits(void **state)
{
	(void)state;
	host_accepts(0);
	virtio_driver_start(&test.driver, 0);
	send_output("old", 3);
	nap();
	virtio_driver_start(&test.driver, 0);
	host_accepts(SIZE_MAX);
	virtio_console_host_writable(test.device);
	send_output("new", 3);
	assert_true(output_is_taken());
	assert_int_equal(output_length(), 3);
	assert_memory_equal(test.output, "new", 3);
}

static void input_fills_the_guests_buffers(void **state)
{
	(void)state;
	virtio_driver_start(&test.driver, 0);
	give_input_buffer(DATA, 4);
	give_input_buffer(DATA + 0x1000, 16);
	assert_int_equal(type("abcdefg"), 7);
	expect_input(DATA, "abcd");
	expect_input(DATA + 0x1000, "efg");
}

static void input_waits_for_buffers(void **state)
{
	(void)state;
	assert_int_equal(type("before the driver"), 17);
	virtio_driver_start(&test.driver, 0);
	give_input_buffer(DATA, 64);
	expect_input(DATA, "before the driver");
}

static void input_without_buffers_is_refused_and_asked_for_later(void **state)
{
	static uint8_t data[VIRTIO_CONSOLE_INPUT_MAX + 100];
	size_t taken;
	uint16_t head;
	uint32_t written;
	uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_SEC;

	(void)state;
	virtio_driver_start(&test.driver, 0);
	taken = virtio_console_receive(test.device, data, sizeof(data));
	assert_int_equal(taken, VIRTIO_CONSOLE_INPUT_MAX);
	assert_int_equal(virtio_console_receive(test.device, data, 1), 0);
	assert_int_equal(test.receivable_calls, 0);
	give_input_buffer(DATA, 100);
	assert_true(virtio_driver_wait_used(&test.driver, INPUT, &head, &written));
	assert_int_equal(written, 100);
	for (unsigned calls = 0; !calls;) {
		pthread_mutex_lock(&test.lock);
		calls = test.receivable_calls;
		pthread_mutex_unlock(&test.lock);
		assert_true(clock_monotonic_ns() < deadline);
	}
	assert_int_equal(virtio_console_receive(test.device, data, 200), 100);
}

static void an_empty_input_buffer_comes_back_empty(void **state)
{
	(void)state;
	virtio_driver_start(&test.driver, 0);
	give_input_buffer(DATA, 0);
	give_input_buffer(DATA, 8);
	assert_int_equal(type("x"), 1);
	expect_input(DATA, "");
	expect_input(DATA, "x");
}

static void a_terminal_has_a_size_and_changes_it(void **state)
{
	const uint64_t size = VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE);

	(void)state;
	assert_true(virtio_driver_offered_features(&test.driver) & size);
	virtio_driver_start(&test.driver, size);
	assert_int_equal(virtio_driver_read_config(&test.driver, 0, 2), 80);
	assert_int_equal(virtio_driver_read_config(&test.driver, 2, 2), 24);
	virtio_console_resize(test.device, 132, 50);
	assert_int_equal(virtio_driver_wait_interrupt(&test.driver), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(virtio_driver_read_config(&test.driver, 0, 2), 132);
	assert_int_equal(virtio_driver_read_config(&test.driver, 2, 2), 50);
	virtio_console_resize(test.device, 132, 50);
	nap();
	assert_false(virtio_driver_interrupted(&test.driver));
}

static void without_a_terminal_no_size_is_offered(void **state)
{
	(void)state;
	assert_false(virtio_driver_offered_features(&test.driver) &
		     VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE));
}

static void emergency_writes_need_no_queue(void **state)
{
	(void)state;
	virtio_driver_write_config(&test.driver, offsetof(struct virtio_console_config, emerg_wr),
				   '!', 4);
	assert_int_equal(output_length(), 1);
	assert_int_equal(test.output[0], '!');
}

static void a_malformed_queue_needs_a_reset(void **state)
{
	const struct ring_buffer outside = {1ull << 40, 64, false};

	(void)state;
	for (unsigned queue = INPUT; queue <= OUTPUT; queue++) {
		virtio_driver_start(&test.driver, 0);
		ring_add(&test.driver.rings[queue], &outside, 1);
		type("x");
		virtio_driver_kick(&test.driver, queue);
		assert_true(virtio_driver_wait_status(&test.driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	}
}

int main(void)
{
#define CONSOLE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		CONSOLE_TEST(output_reaches_the_host),
		CONSOLE_TEST(a_long_chain_goes_out_whole_and_in_order),
		CONSOLE_TEST(what_the_host_does_not_take_stays_with_the_guest),
		CONSOLE_TEST(output_behind_a_waiting_chain_keeps_its_order),
		CONSOLE_TEST(a_reset_forgets_output_that_waits),
		CONSOLE_TEST(input_fills_the_guests_buffers),
		CONSOLE_TEST(input_waits_for_buffers),
		CONSOLE_TEST(input_without_buffers_is_refused_and_asked_for_later),
		CONSOLE_TEST(an_empty_input_buffer_comes_back_empty),
		cmocka_unit_test_setup_teardown(a_terminal_has_a_size_and_changes_it,
						setup_terminal, teardown),
		CONSOLE_TEST(without_a_terminal_no_size_is_offered),
		CONSOLE_TEST(emergency_writes_need_no_queue),
		CONSOLE_TEST(a_malformed_queue_needs_a_reset),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
