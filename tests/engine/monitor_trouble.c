/* What the monitor does when it cannot learn of faults. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"

#define PAGES 64u

int __real_uffd_read_events(const struct uffd *uffd,
			    struct uffd_event events[static UFFD_EVENTS_MAX], size_t *count);
int __wrap_uffd_read_events(const struct uffd *uffd,
			    struct uffd_event events[static UFFD_EVENTS_MAX], size_t *count);

static struct engine engine;
static _Atomic bool event_read_fails; /* once */
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static struct uffd_event held[UFFD_EVENTS_MAX]; /* by the read that failed */
static size_t held_count;

/* A read that fails once, and leaves nothing behind that poll(2) would tell of. */
int __wrap_uffd_read_events(const struct uffd *uffd,
			    struct uffd_event events[static UFFD_EVENTS_MAX], size_t *count)
{
	int result = 0;

	pthread_mutex_lock(&held_lock);
	*count = held_count;
	memcpy(events, held, held_count * sizeof(held[0]));
	held_count = 0;
	if (*count == 0)
		result = __real_uffd_read_events(uffd, events, count);
	if (!result && *count > 0 && event_read_fails) {
		event_read_fails = false;
		held_count = *count;
		memcpy(held, events, held_count * sizeof(held[0]));
		result = -EIO;
	}
	pthread_mutex_unlock(&held_lock);
	return result;
}

static int create(void **state)
{
	(void)state;
	event_read_fails = false;
	engine_create(&engine, PAGES, true);
	return 0;
}

static int destroy(void **state)
{
	(void)state;
	engine_destroy(&engine);
	return 0;
}

static void trouble_of_reading_ends_without_another_event(void **state)
{
	struct toucher toucher;
	(void)state;
	fill_page(page_of(&engine, 0), 7);
	uint8_t value = page_of(&engine, 0)[5];
	engine_swap_out(&engine);
	event_read_fails = true;

	toucher_start(&toucher, page_of(&engine, 0) + 5);
	toucher_join(&toucher);

	assert_int_equal(toucher.value, value);
	assert_int_equal(engine.troubles, 1);
	await(!monitor_in_trouble(engine.monitor));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(trouble_of_reading_ends_without_another_event,
						create, destroy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
