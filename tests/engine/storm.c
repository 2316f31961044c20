/*
 * Random operations against guest threads, for EBB_STORM_SECONDS (default 5): writers increment
 * counters in random pages, a balloon discards and reuses pages, a peeker reads from outside, and
 * an operator runs random swap operations and cancels some. At the end every counter must be right.
 *
 * The seed is printed; EBB_STORM_SEED repeats one (threads interleave differently all the same).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/vm.h"
#include "vmm/base/clock.h"

enum {
	PAGES = 16384, /* 64 MiB */
	WRITERS = 2,
	COUNTED = PAGES / 2, /* pages that writers count in */
	BALLOON = PAGES / 4, /* pages behind them that the balloon takes and gives back */
	COLD = PAGES / 4,    /* the rest, filled once, checked at the end */
};

struct storm {
	struct vm vm;
	atomic_bool stop;
	atomic_ulong torn; /* pages that had other contents than they must */
	atomic_ulong discards, peeks;
};

struct writer {
	struct storm *storm;
	pthread_t thread;
	unsigned index;
	uint32_t seed;
	uint64_t *expected; /* this writer's counter in each page */
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static volatile uint64_t *counter(const struct storm *storm, size_t page, unsigned writer)
{
	/* One near the start, one near the end of the page, on cache lines of their own. */
	return (uint64_t *)(vm_page(&storm->vm, page) + writer * 2048);
}

static void *write_counters(void *arg)
{
	struct writer *writer = arg;
	struct storm *storm = writer->storm;

	while (!storm->stop) {
		for (int i = 0; i < 256; i++) {
			size_t page = next_random(&writer->seed) % COUNTED;
			volatile uint64_t *value = counter(storm, page, writer->index);

			if (*value != writer->expected[page])
				storm->torn++;
			*value = ++writer->expected[page];
		}
	}
	return NULL;
}

/* Takes some pages away, expects zeros, writes them, expects to find that again later. */
static void *run_balloon(void *arg)
{
	struct writer *self = arg;
	struct storm *storm = self->storm;
	static uint32_t contents[BALLOON]; /* seed of each page; 0: zeros */

	while (!storm->stop) {
		size_t count = 1 + next_random(&self->seed) % 16;
		size_t first = next_random(&self->seed) % (BALLOON - count);

		for (size_t i = first; i < first + count; i++) {
			uint8_t *page = vm_page(&storm->vm, COUNTED + i);

			if (contents[i] ? !page_holds(page, contents[i]) : page[100] != 0)
				storm->torn++;
		}
		guest_memory_discard(storm->vm.memory, (COUNTED + first) * GUEST_PAGE_SIZE,
				     count * GUEST_PAGE_SIZE);
		storm->discards++;
		for (size_t i = first; i < first + count; i++) {
			contents[i] = next_random(&self->seed) % 4 ? next_random(&self->seed) : 0;
			if (contents[i])
				fill_page(vm_page(&storm->vm, COUNTED + i), contents[i]);
		}
		if (next_random(&self->seed) % 8 == 0)
			usleep(1000);
	}
	return NULL;
}

static void *peek_cold_pages(void *arg)
{
	struct writer *self = arg;
	struct storm *storm = self->storm;
	struct guest_access access;
	uint8_t page[GUEST_PAGE_SIZE];

	swap_peek_access(storm->vm.swap, &access);
	while (!storm->stop) {
		size_t index = COUNTED + BALLOON + next_random(&self->seed) % COLD;

		if (guest_access_read(&access, index * GUEST_PAGE_SIZE, page, sizeof(page)) ||
		    !page_holds(page, (uint32_t)index))
			storm->torn++;
		storm->peeks++;
		usleep(500);
	}
	return NULL;
}

static unsigned long operate(struct storm *storm, uint32_t *seed, uint64_t end_ns)
{
	unsigned long operations = 0;

	while (clock_monotonic_ns() < end_ns) {
		enum swap_operation operation = 1 + next_random(seed) % (SWAP_OP_COUNT - 1);
		int result;

		/* Disabling is rarer, or little would ever be out. */
		if (operation == SWAP_OP_DISABLE && next_random(seed) % 4)
			operation = SWAP_OP_OUT;
		result = swap_start(storm->vm.swap, operation, NULL);
		assert_true(result == 0 || result == -EINVAL);
		if (result)
			continue;
		operations++;
		if (next_random(seed) % 4 == 0) {
			usleep(next_random(seed) % 3000);
			swap_cancel(storm->vm.swap, NULL);
		}
		result = swap_wait(storm->vm.swap, NULL);
		assert_true(result == 0 || result == -ECANCELED);
		usleep(next_random(seed) % 5000);
	}
	return operations;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void nothing_is_lost_in_a_storm(void **state)
{
	static struct storm storm;
	uint32_t seed = (uint32_t)from_environment("EBB_STORM_SEED", (uint64_t)time(NULL));
	uint64_t end = clock_monotonic_ns() + from_environment("EBB_STORM_SECONDS", 5) * NS_PER_SEC;
	struct writer writers[WRITERS], balloon, peeker;
	(void)state;
	print_message("seed %u\n", seed);
	vm_create(&storm.vm, PAGES, test_store());
	vm_fill(&storm.vm, COUNTED + BALLOON, PAGES);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.storm = &storm, .index = i, .seed = seed + i + 1};
		writers[i].expected = calloc(COUNTED, sizeof(uint64_t));
		pthread_create(&writers[i].thread, NULL, write_counters, &writers[i]);
	}
	balloon = (struct writer){.storm = &storm, .seed = seed + 100};
	peeker = (struct writer){.storm = &storm, .seed = seed + 200};
	pthread_create(&balloon.thread, NULL, run_balloon, &balloon);
	pthread_create(&peeker.thread, NULL, peek_cold_pages, &peeker);

	unsigned long operations = operate(&storm, &seed, end);

	storm.stop = true;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	pthread_join(balloon.thread, NULL);
	pthread_join(peeker.thread, NULL);
	struct swap_status status = vm_status(&storm.vm);
	print_message("%lu operations, %lu discards, %lu peeks; faults: zeroed %lu, continued %lu, "
		      "copied %lu, redundant %lu, retried %lu; writes cancelled %lu; pages stored "
		      "%lu, trimmed clean %lu\n",
		      operations, storm.discards, storm.peeks, status.counters.faults_zeroed,
		      status.counters.faults_continued, status.counters.faults_copied,
		      status.counters.faults_redundant, status.counters.faults_retried,
		      status.counters.writes_cancelled, status.counters.stored,
		      status.counters.trimmed_clean);
	for (unsigned i = 0; i < WRITERS; i++) {
		for (size_t page = 0; page < COUNTED; page++)
			if (*counter(&storm, page, i) != writers[i].expected[page])
				storm.torn++;
		free(writers[i].expected);
	}
	for (size_t i = COUNTED + BALLOON; i < PAGES; i++)
		if (!page_holds(vm_page(&storm.vm, i), (uint32_t)i))
			storm.torn++;
	assert_int_equal(storm.torn, 0);
	assert_int_equal(storm.vm.fatal, 0);
	assert_true(status.counters.faults_copied > 0);
	vm_destroy(&storm.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost_in_a_storm)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
