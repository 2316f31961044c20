/* The event loop: descriptors, timers, removal inside callbacks, stopping from elsewhere. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"

struct fixture {
	struct event_loop *loop;
	struct event_source *source, *other;
	int fd, other_fd;
	int calls;
};

static int create(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){0};
	fixture.fd = eventfd(0, EFD_NONBLOCK);
	fixture.other_fd = eventfd(0, EFD_NONBLOCK);
	*state = &fixture;
	return event_loop_create(&fixture.loop);
}

static int destroy(void **state)
{
	struct fixture *fixture = *state;

	event_loop_destroy(fixture->loop);
	close(fixture->fd);
	close(fixture->other_fd);
	return 0;
}

static void count_and_stop(void *opaque, uint32_t events)
{
	struct fixture *fixture = opaque;
	eventfd_t value;

	(void)events;
	eventfd_read(fixture->fd, &value);
	fixture->calls++;
	event_loop_stop(fixture->loop);
}

static void a_ready_descriptor_calls_back(void **state)
{
	struct fixture *fixture = *state;
	assert_int_equal(event_loop_add(fixture->loop, fixture->fd, EPOLLIN, count_and_stop,
					fixture, &fixture->source),
			 0);
	eventfd_write(fixture->fd, 1);

	assert_int_equal(event_loop_run(fixture->loop), 0);

	assert_int_equal(fixture->calls, 1);
}

static void a_timer_fires_once_when_asked_once(void **state)
{
	struct fixture *fixture = *state;
	uint64_t start = clock_monotonic_ns();
	assert_int_equal(
		event_loop_add_timer(fixture->loop, count_and_stop, fixture, &fixture->source), 0);
	assert_int_equal(event_source_arm(fixture->source, 5 * NS_PER_MS, 0), 0);

	assert_int_equal(event_loop_run(fixture->loop), 0);

	assert_int_equal(fixture->calls, 1);
	assert_true(clock_monotonic_ns() - start >= 5 * NS_PER_MS);
}

static void remove_both(void *opaque, uint32_t events)
{
	struct fixture *fixture = opaque;

	(void)events;
	fixture->calls++;
	event_source_remove(fixture->source);
	event_source_remove(fixture->other);
	event_loop_stop(fixture->loop);
}

static void a_removed_source_is_not_called_even_if_it_was_ready(void **state)
{
	struct fixture *fixture = *state;
	event_loop_add(fixture->loop, fixture->fd, EPOLLIN, remove_both, fixture, &fixture->source);
	event_loop_add(fixture->loop, fixture->other_fd, EPOLLIN, remove_both, fixture,
		       &fixture->other);
	eventfd_write(fixture->fd, 1);
	eventfd_write(fixture->other_fd, 1);

	assert_int_equal(event_loop_run(fixture->loop), 0);

	assert_int_equal(fixture->calls, 1);
}

static void a_silenced_source_is_not_called(void **state)
{
	struct fixture *fixture = *state;
	event_loop_add(fixture->loop, fixture->fd, EPOLLIN, count_and_stop, fixture,
		       &fixture->source);
	event_loop_add_timer(fixture->loop, count_and_stop, fixture, &fixture->other);
	event_source_modify(fixture->source, 0);
	eventfd_write(fixture->fd, 1);
	event_source_arm(fixture->other, NS_PER_MS, 0);

	event_loop_run(fixture->loop);

	assert_int_equal(fixture->calls, 1);
}

static void *stop_soon(void *arg)
{
	usleep(5000);
	event_loop_stop(arg);
	return NULL;
}

static void another_thread_can_stop_the_loop(void **state)
{
	struct fixture *fixture = *state;
	pthread_t thread;
	pthread_create(&thread, NULL, stop_soon, fixture->loop);

	assert_int_equal(event_loop_run(fixture->loop), 0);

	pthread_join(thread, NULL);
}

static void a_stop_before_the_run_is_not_lost(void **state)
{
	struct fixture *fixture = *state;
	event_loop_stop(fixture->loop);

	assert_int_equal(event_loop_run(fixture->loop), 0);
}

static void a_bad_descriptor_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct event_source *source;

	assert_int_equal(
		event_loop_add(fixture->loop, -1, EPOLLIN, count_and_stop, fixture, &source),
		-EBADF);
}

#define with_loop(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_loop(a_ready_descriptor_calls_back),
		with_loop(a_timer_fires_once_when_asked_once),
		with_loop(a_removed_source_is_not_called_even_if_it_was_ready),
		with_loop(a_silenced_source_is_not_called),
		with_loop(another_thread_can_stop_the_loop),
		with_loop(a_stop_before_the_run_is_not_lost),
		with_loop(a_bad_descriptor_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
