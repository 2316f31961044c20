/* Memory with a pattern in it, and threads that write to memory all the time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define PAGE        4096u
#define MIB         (1024u * 1024u)
#define MB_MAX      65536u
#define WRITERS_MAX 32u
#define WRITER_MB   16u

static uint64_t *block;
static size_t block_words;
static uint64_t block_seed;

/* Increments between two rests, and how long those are. */
#define WRITER_BURST   64
#define WRITER_REST_US 1000

struct writer {
	pthread_t thread;
	uint64_t *pages; /* word 0 of each counts, word 1 is the page's own number */
	uint64_t page_count;
	uint64_t increments;
};

static struct writer writers[WRITERS_MAX];
static unsigned writer_count;
static atomic_bool stopping;

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
	return *state >> 20;
}

uint64_t pattern(uint64_t seed, uint64_t index)
{
	return (index ^ seed * 0x94d049bb133111ebull) * 0x9e3779b97f4a7c15ull + seed;
}

static void *map(uint64_t megabytes)
{
	void *memory = mmap(NULL, megabytes * MIB, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void mem_free(void)
{
	if (block)
		munmap(block, block_words * sizeof(*block));
	block = NULL;
}

static void mem_alloc(char **words)
{
	uint64_t megabytes, seed;

	if (!parse_number(words[0], MB_MAX, &megabytes) || !parse_number(words[1], -1, &seed))
		return;
	mem_free();
	block = map(megabytes);
	if (!block) {
		answer_fail("out of memory");
		return;
	}
	block_words = megabytes * MIB / sizeof(*block);
	block_seed = seed;
	for (size_t i = 0; i < block_words; i++)
		block[i] = pattern(seed, i);
	answer_ok("pages=%zu", block_words * sizeof(*block) / PAGE);
}

static void mem_verify(void)
{
	size_t bad = 0, first = 0;

	for (size_t i = 0; i < block_words; i++)
		if (block[i] != pattern(block_seed, i) && !bad++)
			first = i;
	if (bad)
		answer_fail("bad=%zu first=%zu of %zu words", bad, first, block_words);
	else
		answer_ok("pages=%zu bad=0", block_words * sizeof(*block) / PAGE);
}

/* Verifies @count pages here and there. */
static void mem_touch(char **words)
{
	static uint64_t random = 1;
	uint64_t count;

	if (!parse_number(words[0], -1, &count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		size_t index = next_random(&random) % block_words;

		if (block[index] != pattern(block_seed, index)) {
			answer_fail("bad word at %zu", index);
			return;
		}
		block[index] = pattern(block_seed, index);
	}
	answer_ok("touched=%lu", count);
}

void command_mem(char **words)
{
	const char *verb = words[0] ? words[0] : "";

	if (!strcmp(verb, "alloc")) {
		mem_alloc(words + 1);
	} else if (!strcmp(verb, "free")) {
		mem_free();
		answer_done();
	} else if (!block) {
		answer_fail("nothing allocated: mem alloc MB SEED");
	} else if (!strcmp(verb, "verify")) {
		mem_verify();
	} else if (!strcmp(verb, "touch")) {
		mem_touch(words + 1);
	} else {
		answer_fail("mem alloc MB SEED | verify | touch PAGES | free");
	}
}

static void *writer_main(void *opaque)
{
	struct writer *writer = opaque;
	uint64_t random = (uintptr_t)writer;

	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		uint64_t page = next_random(&random) % writer->page_count;
		volatile uint64_t *words = writer->pages + page * (PAGE / 8);

		words[0]++;
		writer->increments++;
		/* Touching is what matters; the host's swap needs a CPU too, and may have but one. */
		if (writer->increments % WRITER_BURST == 0)
			usleep(WRITER_REST_US);
	}
	return NULL;
}

static bool writers_run(void)
{
	atomic_store(&stopping, false);
	for (unsigned i = 0; i < writer_count; i++)
		if (pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]))
			return false;
	return true;
}

static void writers_halt(void)
{
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < writer_count; i++)
		pthread_join(writers[i].thread, NULL);
}

static void writers_free(void)
{
	for (unsigned i = 0; i < writer_count; i++)
		munmap(writers[i].pages, writers[i].page_count * PAGE);
	writer_count = 0;
}

static void writers_start(char **words)
{
	uint64_t threads, megabytes = WRITER_MB;

	if (writer_count) {
		answer_fail("they run already");
		return;
	}
	if (!parse_number(words[0], WRITERS_MAX, &threads) ||
	    (words[1] && !parse_number(words[1], MB_MAX, &megabytes)))
		return;
	for (; writer_count < threads; writer_count++) {
		struct writer *writer = &writers[writer_count];

		writer->pages = map(megabytes);
		if (!writer->pages) {
			writers_free();
			answer_fail("out of memory");
			return;
		}
		writer->page_count = megabytes * MIB / PAGE;
		writer->increments = 0;
		for (uint64_t i = 0; i < writer->page_count; i++)
			writer->pages[i * (PAGE / 8) + 1] = i;
	}
	if (writers_run())
		answer_ok("threads=%u", writer_count);
	else
		answer_fail("cannot start a thread");
}

/* No increment may be lost, no page may stand in another's place. The writers stand still. */
static bool writers_verify(uint64_t *increments, uint64_t *sum, uint64_t *misplaced)
{
	*increments = *sum = *misplaced = 0;
	for (unsigned i = 0; i < writer_count; i++) {
		*increments += writers[i].increments;
		for (uint64_t page = 0; page < writers[i].page_count; page++) {
			*sum += writers[i].pages[page * (PAGE / 8)];
			*misplaced += writers[i].pages[page * (PAGE / 8) + 1] != page;
		}
	}
	return *increments == *sum && !*misplaced;
}

void command_writers(char **words)
{
	const char *verb = words[0] ? words[0] : "";
	uint64_t increments, sum, misplaced;
	bool intact;

	if (!strcmp(verb, "start")) {
		writers_start(words + 1);
		return;
	}
	if (strcmp(verb, "check") && strcmp(verb, "stop")) {
		answer_fail("writers start THREADS [MB] | check | stop");
		return;
	}
	if (!writer_count) {
		answer_fail("no writers run");
		return;
	}
	writers_halt();
	intact = writers_verify(&increments, &sum, &misplaced);
	if (!strcmp(verb, "stop"))
		writers_free();
	else if (!writers_run())
		intact = false;
	if (intact)
		answer_ok("increments=%lu", increments);
	else
		answer_fail("increments=%lu found=%lu misplaced=%lu", increments, sum, misplaced);
}
