/* The gate that keeps pinned pages from being taken away. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/io_gate.h"

static int create(void **state)
{
	return io_gate_create((struct io_gate **)state);
}

static int destroy(void **state)
{
	io_gate_destroy(*state);
	return 0;
}

static atomic_bool closed;

static void *close_gate(void *gate)
{
	io_gate_close(gate);
	assert_int_equal(io_gate_wait_drained(gate, 10000000000), 0);
	closed = true;
	return NULL;
}

static void closing_waits_for_what_is_running(void **state)
{
	struct io_gate *gate = *state;
	pthread_t thread;
	closed = false;
	assert_true(io_gate_begin(gate));
	assert_true(io_gate_begin(gate));

	pthread_create(&thread, NULL, close_gate, gate);
	io_gate_end(gate);
	usleep(20000);
	assert_false(closed);
	io_gate_end(gate);
	pthread_join(thread, NULL);

	assert_true(closed);
	io_gate_open(gate);
}

static void waiting_for_what_never_ends_times_out(void **state)
{
	struct io_gate *gate = *state;
	assert_true(io_gate_begin(gate));
	io_gate_close(gate);

	assert_int_equal(io_gate_wait_drained(gate, 1000000), -ETIMEDOUT);

	io_gate_end(gate);
	assert_int_equal(io_gate_wait_drained(gate, 0), 0);
	io_gate_open(gate);
}

static void a_closed_gate_lets_nothing_in(void **state)
{
	struct io_gate *gate = *state;
	io_gate_close(gate);

	assert_false(io_gate_begin(gate));
	io_gate_open(gate);

	assert_true(io_gate_begin(gate));
	io_gate_end(gate);
}

static void opening_tells_the_waiters(void **state)
{
	struct io_gate *gate = *state;
	int waiting = eventfd(0, EFD_NONBLOCK), gone = eventfd(0, EFD_NONBLOCK);
	eventfd_t value;
	assert_int_equal(io_gate_add_waiter(gate, waiting), 0);
	assert_int_equal(io_gate_add_waiter(gate, gone), 0);
	io_gate_remove_waiter(gate, gone);

	io_gate_close(gate);
	assert_int_equal(eventfd_read(waiting, &value), -1);
	io_gate_open(gate);

	assert_int_equal(eventfd_read(waiting, &value), 0);
	assert_int_equal(eventfd_read(gone, &value), -1);
	close(waiting);
	close(gone);
}

#define with_gate(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_gate(closing_waits_for_what_is_running),
		with_gate(waiting_for_what_never_ends_times_out),
		with_gate(a_closed_gate_lets_nothing_in),
		with_gate(opening_tells_the_waiters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
