#include "tests/engine/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *test_store_dir(void)
{
	const char *dir = getenv("EBB_TEST_DIR");

	return dir ? dir : "/var/tmp";
}

struct store_config test_store(void)
{
	return (struct store_config){.path = test_store_dir(), .encrypt = true};
}

struct guest_memory *create_memory(size_t pages)
{
	const struct guest_memory_region layout = {.base = 0, .size = pages * GUEST_PAGE_SIZE};
	struct guest_memory *memory;
	struct error err;

	if (guest_memory_create(&layout, 1, &memory, &err))
		fail_msg("%s", err.text);
	return memory;
}

static void note_trouble(void *opaque, const char *reason)
{
	struct engine *engine = opaque;
	void (*on_trouble)(void) = engine->on_trouble;

	(void)reason;
	engine->troubles++;
	if (on_trouble)
		on_trouble();
}

void engine_create(struct engine *engine, size_t pages, bool with_monitor)
{
	const struct pager_region whole = {0, pages * GUEST_PAGE_SIZE};
	const struct monitor_callbacks callbacks = {engine, note_trouble};
	struct store_config store = test_store();
	struct error err;

	/*
	 * The test's thread is the guest and works on jobs too. io_uring interrupts its faults to complete
	 * requests; it then faults again, and a second answer may come when the page has been staged.
	 */
	store.io = STORE_IO_THREADS;
	memset(engine, 0, sizeof(*engine));
	engine->memory = create_memory(pages);
	engine->guest = guest_memory_guest_view(engine->memory);
	if (uffd_open(UFFD_REQUIRED, &engine->uffd, &err) ||
	    store_create(&store, &engine->store, &err))
		fail_msg("%s", err.text);
	assert_int_equal(pager_create(engine->memory, engine->uffd, engine->store, &whole, 1,
				      &engine->pager),
			 0);
	assert_int_equal(pager_context_create(engine->pager, &engine->context), 0);
	if (with_monitor)
		assert_int_equal(
			monitor_start(engine->pager, engine->uffd, &callbacks, &engine->monitor),
			0);
	assert_int_equal(pager_register(engine->pager), 0);
}

void engine_destroy(struct engine *engine)
{
	pager_unregister(engine->pager);
	monitor_stop(engine->monitor);
	pager_context_destroy(engine->context);
	pager_destroy(engine->pager);
	store_destroy(engine->store);
	uffd_close(engine->uffd);
	guest_memory_destroy(engine->memory);
}

int run_job(struct engine *engine, int (*work)(struct pager_context *, struct pager_job *),
	    uint64_t *moved)
{
	struct pager_job job = {0};
	int result = work(engine->context, &job);

	if (moved)
		*moved = job.moved;
	return result;
}

void engine_stage(struct engine *engine)
{
	struct pager_job stage = {0}, zap = {0};

	assert_int_equal(pager_stage(engine->pager, &stage), 0);
	assert_int_equal(pager_zap(engine->pager, &zap), 0);
}

void engine_swap_out(struct engine *engine)
{
	engine_stage(engine);
	assert_int_equal(run_job(engine, pager_write_out, NULL), 0);
}

uint64_t stored_entries(const struct engine *engine)
{
	struct store_usage usage;

	store_get_usage(engine->store, &usage);
	return usage.entries;
}

uint64_t stored_file_bytes(const struct engine *engine)
{
	struct store_usage usage;

	store_get_usage(engine->store, &usage);
	return usage.file_bytes;
}

int answer_fault(struct engine *engine, uint64_t address)
{
	enum pager_answer answer;
	int result = pager_fault(engine->context, address, &answer);

	return result > 0 ? pager_fault_read(engine->context, &answer) : result;
}

uint8_t *page_of(const struct engine *engine, size_t page)
{
	return engine->guest + page * GUEST_PAGE_SIZE;
}

/* Not for ThreadSanitizer: a page is filled while its toucher sleeps in the fault. */
__attribute__((no_sanitize("thread"))) void fill_page(uint8_t *page, uint32_t seed)
{
	uint32_t *words = (uint32_t *)page;

	for (size_t i = 0; i < GUEST_PAGE_SIZE / sizeof(*words); i++)
		words[i] = seed = seed * 1664525 + 1013904223;
}

bool page_holds(const uint8_t *page, uint32_t seed)
{
	const uint32_t *words = (const uint32_t *)page;

	for (size_t i = 0; i < GUEST_PAGE_SIZE / sizeof(*words); i++) {
		seed = seed * 1664525 + 1013904223;
		if (words[i] != seed)
			return false;
	}
	return true;
}

struct pager_counters counters_of(const struct engine *engine)
{
	struct pager_counters counters;

	pager_get_counters(engine->pager, &counters);
	return counters;
}

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	toucher->value = *toucher->address;
	toucher->done = true;
	return NULL;
}

void toucher_start(struct toucher *toucher, volatile uint8_t *address)
{
	memset(toucher, 0, sizeof(*toucher));
	toucher->address = address;
	assert_int_equal(pthread_create(&toucher->thread, NULL, touch, toucher), 0);
}

void toucher_join(struct toucher *toucher)
{
	pthread_join(toucher->thread, NULL);
}
