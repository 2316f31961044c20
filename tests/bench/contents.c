#include "tests/bench/contents.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "memory/guest_memory.h"
#include "tests/bench/contents_kinds.h"

#define PAGE          GUEST_PAGE_SIZE
#define LIBRARY_PAGES 1024u
#define RUN_PAGES     16u
#define THREADS_MAX   8
#define PIECE_PAGES   512u

struct contents {
	struct contents_config config;
	uint8_t *library[CONTENTS_KINDS]; /* text, code and heap: LIBRARY_PAGES each */
	uint8_t *file;                    /* mapped; NULL: generated */
	size_t file_size;
	uint64_t file_pages;
};

const struct contents_config contents_default = {
	.share = {[CONTENTS_ZERO] = 15,
		  [CONTENTS_TEXT] = 15,
		  [CONTENTS_CODE] = 20,
		  [CONTENTS_HEAP] = 40,
		  [CONTENTS_RANDOM] = 10},
	.seed = 1,
};

static const char *const kind_names[CONTENTS_KINDS] = {"zero", "text", "code", "heap", "random"};

static void (*const generators[CONTENTS_KINDS])(uint8_t *, size_t, struct random *) = {
	[CONTENTS_TEXT] = generate_text,
	[CONTENTS_CODE] = generate_code,
	[CONTENTS_HEAP] = generate_heap,
};

int contents_parse_mix(const char *text, struct contents_config *config, struct error *err)
{
	unsigned share[CONTENTS_KINDS] = {0}, sum = 0;

	while (*text) {
		char name[16];
		unsigned value;
		int length = 0, kind;

		if (sscanf(text, "%15[a-z]=%u%n", name, &value, &length) != 2 || value > 100)
			return error_say(err, EINVAL, "mix: not KIND=PERCENT: %s", text);
		for (kind = 0; kind < CONTENTS_KINDS; kind++)
			if (!strcmp(name, kind_names[kind]))
				break;
		if (kind == CONTENTS_KINDS)
			return error_say(err, EINVAL,
					 "mix: no such kind: %s (zero, text, code, heap, random)",
					 name);
		share[kind] = value;
		text += length;
		text += *text == ',';
	}
	for (int kind = 0; kind < CONTENTS_KINDS; kind++)
		sum += share[kind];
	if (sum != 100)
		return error_say(err, EINVAL, "mix: the shares add up to %u, not to 100", sum);
	memcpy(config->share, share, sizeof(share));
	return 0;
}

static int map_file(struct contents *contents, struct error *err)
{
	const char *path = contents->config.file;
	struct stat status;
	void *map;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, errno, "%s: open", path);
	if (fstat(fd, &status) || status.st_size < (off_t)PAGE) {
		close(fd);
		return error_say(err, EINVAL, "%s: holds not even one page", path);
	}
	map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return error_errno(err, errno, "%s: mmap", path);
	contents->file = map;
	contents->file_size = (size_t)status.st_size;
	contents->file_pages = (uint64_t)status.st_size / PAGE;
	return 0;
}

static int make_library(struct contents *contents)
{
	for (int kind = 0; kind < CONTENTS_KINDS; kind++) {
		struct random random = {contents->config.seed * CONTENTS_KINDS + (unsigned)kind};

		if (!generators[kind])
			continue;
		contents->library[kind] = malloc(LIBRARY_PAGES * PAGE);
		if (!contents->library[kind])
			return -ENOMEM;
		for (size_t page = 0; page < LIBRARY_PAGES; page++)
			generators[kind](contents->library[kind] + page * PAGE, PAGE, &random);
	}
	return 0;
}

int contents_create(const struct contents_config *config, struct contents **out, struct error *err)
{
	struct contents *contents = calloc(1, sizeof(*contents));
	int result;

	if (!contents)
		return error_errno(err, ENOMEM, "contents");
	contents->config = *config;
	if (config->file) {
		result = map_file(contents, err);
	} else {
		result = make_library(contents);
		if (result)
			error_errno(err, -result, "contents");
	}
	if (result)
		contents_destroy(contents);
	else
		*out = contents;
	return result;
}

void contents_destroy(struct contents *contents)
{
	if (!contents)
		return;
	for (int kind = 0; kind < CONTENTS_KINDS; kind++)
		free(contents->library[kind]);
	if (contents->file)
		munmap(contents->file, contents->file_size);
	free(contents);
}

/* ---- pages ---- */

static enum contents_kind kind_of(const struct contents *contents, uint64_t page)
{
	struct random random = {page / RUN_PAGES + (contents->config.seed << 40)};
	unsigned point = (unsigned)(random_next(&random) % 100);
	int kind = 0;

	while (kind < CONTENTS_RANDOM && point >= contents->config.share[kind])
		point -= contents->config.share[kind++];
	return (enum contents_kind)kind;
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

bool contents_is_zero(const struct contents *contents, uint64_t page)
{
	if (contents->file)
		return is_zero(contents->file + page % contents->file_pages * PAGE);
	return kind_of(contents, page) == CONTENTS_ZERO;
}

static void fill_random(uint8_t *target, struct random *random)
{
	for (size_t i = 0; i < PAGE; i += sizeof(uint64_t)) {
		uint64_t value = random_next(random);

		memcpy(target + i, &value, sizeof(value));
	}
}

void contents_page(const struct contents *contents, uint64_t page, uint8_t *target)
{
	struct random random = {page * 2 + (contents->config.seed << 44)};
	enum contents_kind kind;
	uint64_t choice;

	if (contents->file) {
		memcpy(target, contents->file + page % contents->file_pages * PAGE, PAGE);
		return;
	}
	kind = kind_of(contents, page);
	switch (kind) {
	case CONTENTS_ZERO:
		memset(target, 0, PAGE);
		break;
	case CONTENTS_RANDOM:
		fill_random(target, &random);
		break;
	default:
		choice = random_next(&random);
		memcpy(target, contents->library[kind] + choice % LIBRARY_PAGES * PAGE, PAGE);
		/* Its number somewhere makes it unlike all others. */
		memcpy(target + (choice >> 32) % (PAGE / 8) * 8, &page, 4);
	}
}

/* ---- on all CPUs ---- */

struct job {
	void (*work)(struct job *job, uint64_t start, uint64_t end);
	uint64_t pages;
	atomic_uint_fast64_t next;
	const struct contents *contents;
	uint8_t *base;
	const struct ledger *ledger;
	int fd; /* -1: read @base */
	atomic_uint_fast64_t wrong, first;
};

static void *run_job(void *arg)
{
	struct job *job = arg;
	uint64_t start;

	while ((start = atomic_fetch_add(&job->next, PIECE_PAGES)) < job->pages) {
		uint64_t end = start + PIECE_PAGES;

		job->work(job, start, end < job->pages ? end : job->pages);
	}
	return NULL;
}

static void spread(struct job *job)
{
	pthread_t threads[THREADS_MAX];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int count = 0;

	while (count < THREADS_MAX && count + 1 < cpus &&
	       !pthread_create(&threads[count], NULL, run_job, job))
		count++;
	run_job(job);
	while (count)
		pthread_join(threads[--count], NULL);
}

static void fill_piece(struct job *job, uint64_t start, uint64_t end)
{
	for (uint64_t page = start; page < end; page++)
		contents_page(job->contents, page, job->base + page * PAGE);
}

void contents_fill(const struct contents *contents, uint8_t *base, uint64_t pages)
{
	struct job job = {.work = fill_piece, .pages = pages, .contents = contents, .base = base};

	spread(&job);
}

static uint64_t hash_page(const uint8_t *page)
{
	return XXH3_64bits(page, PAGE);
}

static void hash_piece(struct job *job, uint64_t start, uint64_t end)
{
	for (uint64_t page = start; page < end; page++)
		job->ledger->hash[page] = hash_page(job->base + page * PAGE);
}

int ledger_create(const uint8_t *base, uint64_t pages, struct ledger *ledger)
{
	struct job job = {
		.work = hash_piece, .pages = pages, .base = (uint8_t *)base, .ledger = ledger};

	ledger->pages = pages;
	ledger->hash = malloc(pages * sizeof(*ledger->hash));
	if (!ledger->hash)
		return -ENOMEM;
	spread(&job);
	return 0;
}

void ledger_destroy(struct ledger *ledger)
{
	free(ledger->hash);
	ledger->hash = NULL;
}

void ledger_dirty(struct ledger *ledger, uint8_t *base, uint64_t page, uint64_t seed)
{
	struct random random = {page ^ seed << 32};
	uint64_t value = random_next(&random), *words = (uint64_t *)(base + page * PAGE);

	words[value % (PAGE / 8)] ^= value | 1;
	ledger->hash[page] = hash_page(base + page * PAGE);
}

static void note_wrong(struct job *job, uint64_t page)
{
	uint64_t first = atomic_load(&job->first);

	atomic_fetch_add(&job->wrong, 1);
	while (page < first && !atomic_compare_exchange_weak(&job->first, &first, page))
		;
}

static void check_piece(struct job *job, uint64_t start, uint64_t end)
{
	uint8_t *buffer = NULL;
	const uint8_t *bytes = job->base + start * PAGE;
	size_t length = (end - start) * PAGE;

	if (job->fd >= 0) {
		buffer = malloc(length);
		if (!buffer ||
		    pread(job->fd, buffer, length, (off_t)(start * PAGE)) != (ssize_t)length) {
			note_wrong(job, start);
			free(buffer);
			return;
		}
		bytes = buffer;
	}
	for (uint64_t page = start; page < end; page++)
		if (hash_page(bytes + (page - start) * PAGE) != job->ledger->hash[page])
			note_wrong(job, page);
	free(buffer);
}

static uint64_t check(const struct ledger *ledger, const uint8_t *base, int fd, uint64_t *first)
{
	struct job job = {.work = check_piece,
			  .pages = ledger->pages,
			  .base = (uint8_t *)base,
			  .ledger = ledger,
			  .fd = fd,
			  .first = UINT64_MAX};

	spread(&job);
	*first = job.first;
	return job.wrong;
}

uint64_t ledger_check(const struct ledger *ledger, const uint8_t *base, uint64_t *first)
{
	return check(ledger, base, -1, first);
}

uint64_t ledger_check_file(const struct ledger *ledger, int fd, uint64_t *first)
{
	return check(ledger, NULL, fd, first);
}

/* ---- how well it compresses ---- */

#define SAMPLE_EVERY 37u

int contents_measure(const struct contents *contents, uint64_t pages, struct contents_ratio *ratio)
{
	size_t room = ZSTD_compressBound(PAGE) + (size_t)LZ4_compressBound(PAGE);
	uint8_t *page = malloc(PAGE + room);
	uint64_t seen = 0, zero = 0, lz4 = 0, zstd = 0;

	if (!page)
		return -ENOMEM;
	for (uint64_t i = 0; i < pages; i += SAMPLE_EVERY, seen++) {
		char *target = (char *)page + PAGE;
		size_t small;

		contents_page(contents, i, page);
		if (is_zero(page)) {
			zero++;
			continue;
		}
		small = (size_t)LZ4_compress_default((char *)page, target, (int)PAGE, (int)room);
		lz4 += small < PAGE ? small : PAGE;
		small = ZSTD_compress(target, room, page, PAGE, 1);
		zstd += small < PAGE ? small : PAGE;
	}
	free(page);
	ratio->zero = (double)zero / (double)(seen ? seen : 1);
	seen = seen > zero ? seen - zero : 1;
	ratio->lz4 = (double)lz4 / (double)(seen * PAGE);
	ratio->zstd = (double)zstd / (double)(seen * PAGE);
	return 0;
}
