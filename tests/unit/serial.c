#include "devices/serial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/serial_reg.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>

#define TIMEOUT_INTERRUPT (UART_IIR_RX_TIMEOUT)
#define FIFO_BITS         0xc0u
#define HOST_SIZE         (1u << 20)

/* The host's side: takes as many bytes as it has credit for. */
struct host {
	uint8_t *taken;
	atomic_size_t count;
	atomic_size_t credit;
	atomic_uint room_notices;
	struct serial *serial;
	bool calls_back; /* offers input from inside write() */
	bool hammered;   /* the guest writes on while write() runs */
	unsigned offers; /* calls of write() */
};

struct fixture {
	struct host host;
	struct serial *serial;
};

static size_t host_write(void *opaque, const uint8_t *data, size_t length)
{
	struct host *host = opaque;
	size_t credit = atomic_load(&host->credit);

	if (host->calls_back)
		serial_receive(host->serial, (const uint8_t *)"r", 1);
	if (++host->offers < 100 && host->hammered)
		serial_bus_ops.write(host->serial, UART_TX, 'h', 1);
	if (length > credit)
		length = credit;
	memcpy(host->taken + host->count, data, length);
	atomic_fetch_add(&host->count, length);
	atomic_fetch_sub(&host->credit, length);
	return length;
}

static void host_receivable(void *opaque)
{
	atomic_fetch_add(&((struct host *)opaque)->room_notices, 1);
}

static int setup(void **state)
{
	static struct fixture fixture;
	const struct serial_host host = {
		.opaque = &fixture.host,
		.write = host_write,
		.receivable = host_receivable,
	};

	memset(&fixture, 0, sizeof(fixture));
	fixture.host.taken = malloc(HOST_SIZE);
	fixture.host.credit = HOST_SIZE;
	*state = &fixture;
	if (serial_create(&host, &fixture.serial))
		return -1;
	fixture.host.serial = fixture.serial;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	serial_destroy(fixture->serial);
	free(fixture->host.taken);
	return 0;
}

static uint8_t in(struct fixture *fixture, unsigned reg)
{
	return (uint8_t)serial_bus_ops.read(fixture->serial, reg, 1);
}

static void out(struct fixture *fixture, unsigned reg, uint8_t value)
{
	serial_bus_ops.write(fixture->serial, reg, value, 1);
}

static bool interrupted(struct fixture *fixture)
{
	eventfd_t count;

	return eventfd_read(serial_irq_fd(fixture->serial), &count) == 0;
}

static size_t receive(struct fixture *fixture, const char *text)
{
	return serial_receive(fixture->serial, (const uint8_t *)text, strlen(text));
}

static void assert_output(struct fixture *fixture, const char *text)
{
	assert_int_equal(fixture->host.count, strlen(text));
	assert_memory_equal(fixture->host.taken, text, strlen(text));
}

/* Output. */

static void output_goes_to_the_host(void **state)
{
	struct fixture *fixture = *state;

	for (const char *text = "hello"; *text; text++) {
		assert_true(in(fixture, UART_LSR) & UART_LSR_THRE);
		out(fixture, UART_TX, (uint8_t)*text);
	}

	assert_output(fixture, "hello");
}

static void output_without_a_host_is_swallowed(void **state)
{
	const struct serial_host nobody = {0};
	struct serial *serial = NULL;

	(void)state;
	assert_int_equal(serial_create(&nobody, &serial), 0);
	serial_bus_ops.write(serial, UART_TX, 'x', 1);

	assert_true(serial_bus_ops.read(serial, UART_LSR, 1) & UART_LSR_THRE);
	serial_destroy(serial);
	serial_destroy(NULL);
}

static void a_host_that_takes_nothing_keeps_thre_clear(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.credit = 0;
	out(fixture, UART_TX, 'a');
	assert_int_equal(in(fixture, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT), 0);

	fixture->host.credit = 100;
	serial_host_writable(fixture->serial);
	assert_true(in(fixture, UART_LSR) & UART_LSR_THRE);
	assert_output(fixture, "a");
}

static void a_full_fifo_waits_and_arrives_in_order(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.credit = 3;
	for (unsigned i = 0; i < SERIAL_FIFO_SIZE; i++)
		out(fixture, UART_TX, (uint8_t)('a' + i));
	assert_output(fixture, "abc");

	fixture->host.credit = 5;
	serial_host_writable(fixture->serial);
	assert_false(in(fixture, UART_LSR) & UART_LSR_THRE);
	fixture->host.credit = 100;
	serial_host_writable(fixture->serial);
	assert_output(fixture, "abcdefghijklmnop");
}

static void waiting_output_survives_fifo_reset_and_machine_reset(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.credit = 0;
	out(fixture, UART_TX, 'a');
	out(fixture, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT | UART_FCR_CLEAR_RCVR);
	out(fixture, UART_TX, 'b');
	serial_reset(fixture->serial);
	fixture->host.credit = 100;
	serial_host_writable(fixture->serial);

	assert_output(fixture, "ab");
}

static void the_transmitter_interrupts_when_the_host_has_taken_all(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.credit = 0;
	out(fixture, UART_TX, 'a');
	out(fixture, UART_IER, UART_IER_THRI);
	assert_false(interrupted(fixture));

	fixture->host.credit = 1;
	serial_host_writable(fixture->serial);
	assert_true(interrupted(fixture));
	assert_int_equal(in(fixture, UART_IIR), UART_IIR_THRI);
}

#define STREAM_LENGTH 200000u

static void *drain(void *opaque)
{
	struct fixture *fixture = opaque;

	while (fixture->host.count < STREAM_LENGTH) {
		atomic_fetch_add(&fixture->host.credit, 37);
		serial_host_writable(fixture->serial);
		sched_yield();
	}
	return NULL;
}

static void nothing_is_lost_under_back_pressure(void **state)
{
	struct fixture *fixture = *state;
	pthread_t reader;

	fixture->host.credit = 0;
	assert_int_equal(pthread_create(&reader, NULL, drain, fixture), 0);
	for (unsigned i = 0; i < STREAM_LENGTH; i++) {
		while (!(in(fixture, UART_LSR) & UART_LSR_THRE))
			sched_yield();
		out(fixture, UART_TX, (uint8_t)i);
	}
	pthread_join(reader, NULL);

	for (unsigned i = 0; i < STREAM_LENGTH; i++)
		assert_int_equal(fixture->host.taken[i], (uint8_t)i);
}

static void a_host_that_refuses_is_left_alone_until_it_asks(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.credit = 0;
	fixture->host.hammered = true;
	out(fixture, UART_TX, 'x');
	assert_int_equal(fixture->host.offers, 1);

	serial_host_writable(fixture->serial);
	assert_int_equal(fixture->host.offers, 2);
}

static void the_host_may_call_in_while_it_takes_output(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.calls_back = true;
	out(fixture, UART_TX, 'x');

	assert_output(fixture, "x");
	assert_int_equal(in(fixture, UART_RX), 'r');
}

/* Input. */

static void enable_fifo(struct fixture *fixture, uint8_t trigger)
{
	out(fixture, UART_FCR, UART_FCR_ENABLE_FIFO | trigger);
}

static void input_is_read_in_order(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, 0);
	assert_int_equal(receive(fixture, "abc"), 3);

	for (const char *text = "abc"; *text; text++) {
		assert_true(in(fixture, UART_LSR) & UART_LSR_DR);
		assert_int_equal(in(fixture, UART_RX), *text);
	}
	assert_false(in(fixture, UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(fixture, UART_RX), 0);
}

static void input_takes_sixteen_bytes_with_fifo_and_one_without(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(receive(fixture, "0123456789abcdefgh"), 1);
	enable_fifo(fixture, 0); /* clears */
	assert_int_equal(receive(fixture, "0123456789abcdefgh"), SERIAL_FIFO_SIZE);
	assert_int_equal(receive(fixture, "x"), 0);
}

static void the_host_hears_when_refused_input_may_come(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, 0);
	receive(fixture, "0123456789abcdef+");
	for (unsigned i = 0; i + 1 < SERIAL_FIFO_SIZE; i++)
		in(fixture, UART_RX);
	assert_int_equal(fixture->host.room_notices, 0);
	in(fixture, UART_RX);

	assert_int_equal(fixture->host.room_notices, 1);
	assert_int_equal(receive(fixture, "+"), 1);
	in(fixture, UART_RX);
	assert_int_equal(fixture->host.room_notices, 1); /* nothing was refused this time */
}

static void clearing_the_fifo_makes_room_too(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, 0);
	receive(fixture, "0123456789abcdef+");
	out(fixture, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);

	assert_int_equal(fixture->host.room_notices, 1);
	assert_false(in(fixture, UART_LSR) & UART_LSR_DR);
}

static void input_below_the_trigger_is_a_timeout(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, UART_FCR_TRIGGER_8);
	out(fixture, UART_IER, UART_IER_RDI);
	receive(fixture, "1234567");

	assert_true(interrupted(fixture));
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | TIMEOUT_INTERRUPT);
	receive(fixture, "8");
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_RDI);
}

static void input_interrupts_once_until_it_is_read(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, 0);
	out(fixture, UART_IER, UART_IER_RDI);
	receive(fixture, "a");
	assert_true(interrupted(fixture));
	receive(fixture, "b");
	assert_false(interrupted(fixture));
	in(fixture, UART_RX);
	in(fixture, UART_RX);
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_NO_INT);
	receive(fixture, "c");

	assert_true(interrupted(fixture));
}

static void waiting_input_interrupts_when_that_is_enabled(void **state)
{
	struct fixture *fixture = *state;

	receive(fixture, "a");
	assert_false(interrupted(fixture));
	out(fixture, UART_IER, UART_IER_RDI);

	assert_true(interrupted(fixture));
}

/* Registers. */

static void enabling_the_transmitter_interrupt_raises_it_each_time(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < 3; i++) {
		out(fixture, UART_IER, UART_IER_THRI);
		assert_true(interrupted(fixture));
		assert_int_equal(in(fixture, UART_IIR), UART_IIR_THRI);
		assert_int_equal(in(fixture, UART_IIR), UART_IIR_NO_INT); /* reading acknowledged */
		out(fixture, UART_IER, 0);
	}
}

static void every_byte_sent_interrupts_anew(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, UART_IER, UART_IER_THRI);
	interrupted(fixture);
	for (unsigned i = 0; i < 3; i++) {
		out(fixture, UART_TX, 'x'); /* without a look at IIR in between */
		assert_true(interrupted(fixture));
	}
}

static void interrupts_are_named_by_priority(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, 0);
	out(fixture, UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i <= SERIAL_FIFO_SIZE; i++) /* one too many: overrun */
		out(fixture, UART_TX, 'x');
	out(fixture, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR); /* modem change */
	out(fixture, UART_IER, UART_IER_MSI | UART_IER_RLSI | UART_IER_THRI | UART_IER_RDI);

	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_RLSI);
	assert_true(in(fixture, UART_LSR) & UART_LSR_OE);
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_RDI);
	out(fixture, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_THRI);
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_MSI);
	assert_true(in(fixture, UART_MSR) & UART_MSR_DDSR);
	assert_int_equal(in(fixture, UART_IIR), FIFO_BITS | UART_IIR_NO_INT);
}

static void an_overrun_is_reported_once(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, UART_MCR, UART_MCR_LOOP);
	out(fixture, UART_TX, 'a');
	out(fixture, UART_TX, 'b');

	assert_true(in(fixture, UART_LSR) & UART_LSR_OE);
	assert_false(in(fixture, UART_LSR) & UART_LSR_OE);
	assert_int_equal(in(fixture, UART_RX), 'a');
}

static void loopback_returns_what_is_sent_and_keeps_it_from_the_host(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, UART_MCR, UART_MCR_LOOP);
	out(fixture, UART_TX, 'L');

	assert_int_equal(in(fixture, UART_RX), 'L');
	assert_output(fixture, "");
	assert_int_equal(receive(fixture, "x"), 0);
	out(fixture, UART_MCR, 0);
	assert_int_equal(fixture->host.room_notices, 1);
	assert_int_equal(receive(fixture, "x"), 1);
}

static void loopback_connects_the_modem_lines(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(fixture, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(fixture, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	assert_int_equal(in(fixture, UART_MSR) & 0xf0, UART_MSR_RI | UART_MSR_DSR);
	in(fixture, UART_MSR);
	out(fixture, UART_MCR, UART_MCR_LOOP);
	assert_true(in(fixture, UART_MSR) & UART_MSR_TERI);
	out(fixture, UART_MCR, 0);
	assert_int_equal(in(fixture, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

static void it_is_taken_for_a_16550a(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, UART_IER, 0);
	assert_int_equal(in(fixture, UART_IER), 0);
	out(fixture, UART_IER, 0xff);
	assert_int_equal(in(fixture, UART_IER), 0x0f);
	out(fixture, UART_IER, 0);
	out(fixture, UART_SCR, 0x5a);
	assert_int_equal(in(fixture, UART_SCR), 0x5a);
	assert_int_equal(in(fixture, UART_IIR) >> 6, 0);
	out(fixture, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(fixture, UART_IIR) >> 6, 3);
	out(fixture, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(fixture, UART_IIR) >> 5, 6); /* 7 would be a 16750 */
}

static void the_divisor_hides_data_and_ier(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(fixture, UART_DLL, 0x34);
	out(fixture, UART_DLM, 0x12);
	assert_int_equal(in(fixture, UART_DLL), 0x34);
	assert_int_equal(in(fixture, UART_DLM), 0x12);
	out(fixture, UART_LCR, UART_LCR_WLEN8);

	assert_output(fixture, "");
	assert_int_equal(in(fixture, UART_IER), 0);
	assert_int_equal(in(fixture, UART_LCR), UART_LCR_WLEN8);
}

static void a_wide_access_is_one_to_each_register(void **state)
{
	struct fixture *fixture = *state;

	serial_bus_ops.write(fixture->serial, UART_MSR, 0x7700, 2); /* MSR, then the scratch */

	assert_int_equal(in(fixture, UART_SCR), 0x77);
	assert_int_equal(serial_bus_ops.read(fixture->serial, UART_LSR, 2) & 0xff,
			 UART_LSR_THRE | UART_LSR_TEMT);
}

static void a_reset_restores_the_registers(void **state)
{
	struct fixture *fixture = *state;

	enable_fifo(fixture, 0);
	out(fixture, UART_IER, 0xf);
	out(fixture, UART_SCR, 1);
	receive(fixture, "a");
	serial_reset(fixture->serial);

	assert_int_equal(in(fixture, UART_IER), 0);
	assert_int_equal(in(fixture, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(in(fixture, UART_SCR), 0);
	assert_int_equal(in(fixture, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}

int main(void)
{
#define SERIAL_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		SERIAL_TEST(output_goes_to_the_host),
		cmocka_unit_test(output_without_a_host_is_swallowed),
		SERIAL_TEST(a_host_that_takes_nothing_keeps_thre_clear),
		SERIAL_TEST(a_full_fifo_waits_and_arrives_in_order),
		SERIAL_TEST(waiting_output_survives_fifo_reset_and_machine_reset),
		SERIAL_TEST(the_transmitter_interrupts_when_the_host_has_taken_all),
		SERIAL_TEST(nothing_is_lost_under_back_pressure),
		SERIAL_TEST(a_host_that_refuses_is_left_alone_until_it_asks),
		SERIAL_TEST(the_host_may_call_in_while_it_takes_output),
		SERIAL_TEST(input_is_read_in_order),
		SERIAL_TEST(input_takes_sixteen_bytes_with_fifo_and_one_without),
		SERIAL_TEST(the_host_hears_when_refused_input_may_come),
		SERIAL_TEST(clearing_the_fifo_makes_room_too),
		SERIAL_TEST(input_below_the_trigger_is_a_timeout),
		SERIAL_TEST(input_interrupts_once_until_it_is_read),
		SERIAL_TEST(waiting_input_interrupts_when_that_is_enabled),
		SERIAL_TEST(enabling_the_transmitter_interrupt_raises_it_each_time),
		SERIAL_TEST(every_byte_sent_interrupts_anew),
		SERIAL_TEST(interrupts_are_named_by_priority),
		SERIAL_TEST(an_overrun_is_reported_once),
		SERIAL_TEST(loopback_returns_what_is_sent_and_keeps_it_from_the_host),
		SERIAL_TEST(loopback_connects_the_modem_lines),
		SERIAL_TEST(it_is_taken_for_a_16550a),
		SERIAL_TEST(the_divisor_hides_data_and_ier),
		SERIAL_TEST(a_wide_access_is_one_to_each_register),
		SERIAL_TEST(a_reset_restores_the_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
