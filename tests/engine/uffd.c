/* The userfaultfd wrapper against the kernel: each call, and each error told apart. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"

#define PAGES 16u

struct fixture {
	struct guest_memory *memory;
	struct uffd *uffd;
	uint8_t *guest, *alias;
};

static int create(void **state)
{
	static struct fixture fixture;
	struct error err;

	fixture.memory = create_memory(PAGES);
	fixture.guest = guest_memory_guest_view(fixture.memory);
	fixture.alias = guest_memory_pager_view(fixture.memory);
	if (uffd_open(UFFD_REQUIRED, &fixture.uffd, &err))
		fail_msg("%s", err.text);
	assert_int_equal(uffd_register(fixture.uffd, fixture.guest, PAGES * GUEST_PAGE_SIZE,
				       UFFD_MODE_MISSING | UFFD_MODE_MINOR),
			 0);
	*state = &fixture;
	return 0;
}

static int destroy(void **state)
{
	struct fixture *fixture = *state;

	uffd_close(fixture->uffd);
	guest_memory_destroy(fixture->memory);
	return 0;
}

static uint8_t *guest_page(struct fixture *fixture, size_t page)
{
	return fixture->guest + page * GUEST_PAGE_SIZE;
}

static void await_event(struct uffd *uffd, struct uffd_event *event)
{
	struct pollfd fd = {.fd = uffd_descriptor(uffd), .events = POLLIN};
	struct uffd_event events[UFFD_EVENTS_MAX];
	size_t count;

	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(uffd_read_events(uffd, events, &count), 0);
	assert_int_equal(count, 1);
	*event = events[0];
}

static void the_kernel_offers_what_swap_needs(void **state)
{
	unsigned features;
	(void)state;

	assert_int_equal(uffd_probe(&features, NULL), 0);

	assert_int_equal(features & UFFD_REQUIRED, UFFD_REQUIRED);
}

static void every_feature_is_one_bit_with_its_kernel_name(void **state)
{
	static const struct {
		enum uffd_feature feature;
		const char *name;
	} features[] = {
		{UFFD_CAN_MISSING_SHMEM, "UFFD_FEATURE_MISSING_SHMEM"},
		{UFFD_CAN_MINOR_SHMEM, "UFFD_FEATURE_MINOR_SHMEM"},
		{UFFD_CAN_EVENT_REMOVE, "UFFD_FEATURE_EVENT_REMOVE"},
		{UFFD_CAN_WP_SHMEM, "UFFD_FEATURE_WP_HUGETLBFS_SHMEM"},
		{UFFD_CAN_WP_ASYNC, "UFFD_FEATURE_WP_ASYNC"},
	};
	unsigned all = 0;
	(void)state;

	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(uffd_feature_name(features[i].feature), features[i].name);
		assert_int_equal(all & features[i].feature, 0);
		all |= features[i].feature;
	}
	assert_int_equal(__builtin_popcount(all), 5);
}

static void a_feature_that_the_kernel_lacks_is_refused(void **state)
{
	const unsigned from_the_future = 1u << 30;
	struct uffd *uffd;
	struct error err;
	(void)state;

	assert_int_equal(uffd_open(UFFD_REQUIRED | from_the_future, &uffd, &err), -ENOTSUP);

	assert_non_null(strstr(err.text, "this kernel lacks"));
}

static void reading_without_events_does_not_block(void **state)
{
	struct fixture *fixture = *state;
	struct uffd_event events[UFFD_EVENTS_MAX];
	size_t count = 99;

	assert_int_equal(uffd_read_events(fixture->uffd, events, &count), 0);

	assert_int_equal(count, 0);
}

static void a_missing_fault_is_answered_by_zero(void **state)
{
	struct fixture *fixture = *state;
	struct toucher toucher;
	struct uffd_event event;
	toucher_start(&toucher, guest_page(fixture, 1) + 9);

	await_event(fixture->uffd, &event);
	assert_int_equal(event.kind, UFFD_FAULT_MISSING);
	assert_int_equal(event.start & ~(GUEST_PAGE_SIZE - 1), (uint64_t)guest_page(fixture, 1));
	assert_int_equal(uffd_zero(fixture->uffd, guest_page(fixture, 1), GUEST_PAGE_SIZE, NULL),
			 0);

	toucher_join(&toucher);
	assert_int_equal(toucher.value, 0);
}

static void a_missing_fault_is_answered_by_copy(void **state)
{
	struct fixture *fixture = *state;
	struct toucher toucher;
	struct uffd_event event;
	uint8_t source[GUEST_PAGE_SIZE];
	fill_page(source, 1);
	toucher_start(&toucher, guest_page(fixture, 1) + 9);

	await_event(fixture->uffd, &event);
	assert_int_equal(
		uffd_copy(fixture->uffd, guest_page(fixture, 1), source, GUEST_PAGE_SIZE, NULL), 0);

	toucher_join(&toucher);
	assert_int_equal(toucher.value, source[9]);
}

static void a_minor_fault_is_answered_by_continue(void **state)
{
	struct fixture *fixture = *state;
	struct toucher toucher;
	struct uffd_event event;
	fill_page(fixture->alias, 1);
	toucher_start(&toucher, guest_page(fixture, 0));

	await_event(fixture->uffd, &event);
	assert_int_equal(event.kind, UFFD_FAULT_MINOR);
	assert_int_equal(
		uffd_continue(fixture->uffd, guest_page(fixture, 0), GUEST_PAGE_SIZE, NULL), 0);

	toucher_join(&toucher);
	assert_int_equal(toucher.value, fixture->alias[0]);
}

static void wake_lets_a_thread_fault_again(void **state)
{
	struct fixture *fixture = *state;
	struct toucher toucher;
	struct uffd_event event;
	toucher_start(&toucher, guest_page(fixture, 0));
	await_event(fixture->uffd, &event);

	assert_int_equal(uffd_wake(fixture->uffd, guest_page(fixture, 0), GUEST_PAGE_SIZE), 0);

	await_event(fixture->uffd, &event);
	assert_int_equal(event.kind, UFFD_FAULT_MISSING);
	assert_false(toucher.done);
	assert_int_equal(uffd_zero(fixture->uffd, guest_page(fixture, 0), GUEST_PAGE_SIZE, NULL),
			 0);
	toucher_join(&toucher);
}

static void filling_a_present_page_says_eexist(void **state)
{
	struct fixture *fixture = *state;
	uint8_t source[GUEST_PAGE_SIZE] = {1};
	fill_page(fixture->alias, 1);

	assert_int_equal(uffd_zero(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL), -EEXIST);
	assert_int_equal(uffd_copy(fixture->uffd, fixture->guest, source, GUEST_PAGE_SIZE, NULL),
			 -EEXIST);
	assert_true(page_holds(fixture->alias, 1));
}

static void continuing_a_mapped_page_says_eexist(void **state)
{
	struct fixture *fixture = *state;
	fixture->alias[0] = 1;
	assert_int_equal(uffd_continue(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL), 0);

	assert_int_equal(uffd_continue(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL),
			 -EEXIST);
}

static void continuing_an_absent_page_says_efault(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(uffd_continue(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL),
			 -EFAULT);
}

static void an_unregistered_range_says_enoent(void **state)
{
	struct fixture *fixture = *state;
	assert_int_equal(uffd_unregister(fixture->uffd, fixture->guest, PAGES * GUEST_PAGE_SIZE),
			 0);

	assert_int_equal(uffd_zero(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL), -ENOENT);
	assert_int_equal(fixture->guest[0], 0);
}

static void a_partial_copy_is_reported(void **state)
{
	struct fixture *fixture = *state;
	uint8_t source[4 * GUEST_PAGE_SIZE];
	size_t done;
	for (size_t i = 0; i < 4; i++)
		fill_page(source + i * GUEST_PAGE_SIZE, (uint32_t)i);
	/* Page 2 is there already: the copy stops in front of it. */
	fixture->alias[2 * GUEST_PAGE_SIZE] = 1;

	assert_int_equal(
		uffd_copy(fixture->uffd, fixture->guest, source, 4 * GUEST_PAGE_SIZE, &done),
		-EEXIST);

	assert_int_equal(done, 2 * GUEST_PAGE_SIZE);
	assert_true(page_holds(fixture->alias + GUEST_PAGE_SIZE, 1));
}

static void a_partial_continue_is_reported(void **state)
{
	struct fixture *fixture = *state;
	size_t done;
	for (size_t i = 0; i < 4; i++)
		fixture->alias[i * GUEST_PAGE_SIZE] = 1;
	assert_int_equal(
		uffd_continue(fixture->uffd, guest_page(fixture, 2), GUEST_PAGE_SIZE, NULL), 0);

	assert_int_equal(uffd_continue(fixture->uffd, fixture->guest, 4 * GUEST_PAGE_SIZE, &done),
			 -EEXIST);

	assert_int_equal(done, 2 * GUEST_PAGE_SIZE);
}

static void *discard_two_pages(void *arg)
{
	struct fixture *fixture = arg;

	guest_memory_discard(fixture->memory, GUEST_PAGE_SIZE, 2 * GUEST_PAGE_SIZE);
	return NULL;
}

static void a_discard_is_told_and_blocks_answers_until_read(void **state)
{
	struct fixture *fixture = *state;
	struct pollfd fd = {.fd = uffd_descriptor(fixture->uffd), .events = POLLIN};
	struct uffd_event event;
	pthread_t discarder;
	pthread_create(&discarder, NULL, discard_two_pages, fixture);
	assert_int_equal(poll(&fd, 1, 10000), 1);

	assert_int_equal(uffd_zero(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL), -EAGAIN);

	await_event(fixture->uffd, &event);
	assert_int_equal(event.kind, UFFD_REMOVED);
	assert_int_equal(event.start, (uint64_t)guest_page(fixture, 1));
	assert_int_equal(event.end, (uint64_t)guest_page(fixture, 3));
	pthread_join(discarder, NULL);
	assert_int_equal(uffd_zero(fixture->uffd, fixture->guest, GUEST_PAGE_SIZE, NULL), 0);
}

#define with_uffd(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_offers_what_swap_needs),
		cmocka_unit_test(every_feature_is_one_bit_with_its_kernel_name),
		cmocka_unit_test(a_feature_that_the_kernel_lacks_is_refused),
		with_uffd(reading_without_events_does_not_block),
		with_uffd(a_missing_fault_is_answered_by_zero),
		with_uffd(a_missing_fault_is_answered_by_copy),
		with_uffd(a_minor_fault_is_answered_by_continue),
		with_uffd(wake_lets_a_thread_fault_again),
		with_uffd(filling_a_present_page_says_eexist),
		with_uffd(continuing_a_mapped_page_says_eexist),
		with_uffd(continuing_an_absent_page_says_efault),
		with_uffd(an_unregistered_range_says_enoent),
		with_uffd(a_partial_copy_is_reported),
		with_uffd(a_partial_continue_is_reported),
		with_uffd(a_discard_is_told_and_blocks_answers_until_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
