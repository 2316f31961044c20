/*
 * The store's file, changed by somebody else: a page reads as it was put, or not at all, read alone
 * or with others, at once or begun and finished.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "tests/unit/store_fixture.h"
#include "vmm/base/log.h"

#define PAGES 16

struct putting {
	struct store *store;
	store_location locations[PAGES];
};

static enum page_kind kind_of(size_t page)
{
	return (enum page_kind)(page % PAGE_KINDS);
}

static void put(struct putting *putting)
{
	for (size_t i = 0; i < PAGES; i++)
		putting->locations[i] = store_put_one(putting->store, kind_of(i), (uint32_t)i);
}

/* Returns false if the file has become shorter: then reading fails otherwise. */
static bool change_file(struct fuzz_input *input)
{
	bool whole = true;
	int fd = store_open_file();

	for (unsigned changes = fuzz_u8(input) % 32u; changes; changes--) {
		uint8_t byte = fuzz_u8(input);
		off_t at = fuzz_u16(input);

		if (at == 0xffff) {
			whole = whole && ftruncate(fd, byte * 256);
			continue;
		}
		if (pwrite(fd, &byte, 1, at) != 1)
			abort();
	}
	close(fd);
	return whole;
}

static int read_some(struct store_reader *reader, const struct putting *putting, size_t first,
		     size_t count, bool begin, void *const pages[])
{
	unsigned number;
	int result;

	if (!begin)
		return store_read(reader, &putting->locations[first], count, pages);
	result = store_read_begin(reader, &putting->locations[first], count, &number);
	return result ? result : store_read_finish(reader, number, pages);
}

static void check_read(struct store_reader *reader, const struct putting *putting,
		       struct fuzz_input *input, bool whole)
{
	static uint8_t read[PAGES][PAGE];
	size_t first = fuzz_u8(input) % PAGES;
	size_t count = 1 + fuzz_u8(input) % (PAGES - first);
	uint8_t expected[PAGE];
	void *pages[PAGES];
	int result;

	for (size_t i = 0; i < count; i++)
		pages[i] = read[i];
	result = read_some(reader, putting, first, count, fuzz_u8(input) & 1, pages);
	if (result && result != -EBADMSG && whole)
		abort();
	for (size_t i = 0; i < count && !result; i++) {
		store_page(expected, kind_of(first + i), (uint32_t)(first + i));
		if (memcmp(read[i], expected, PAGE) != 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct store_config config = store_test_config();
	struct putting putting;
	struct store_reader *reader;
	uint8_t how = fuzz_u8(&input);
	bool whole;

	log_set_level(LOG_LEVEL_ERROR);
	config.io = how & 2 ? STORE_IO_AUTO : STORE_IO_THREADS;
	config.encrypt = how & 1;
	config.compression = (enum store_compression)(fuzz_u8(&input) % 3);
	putting.store = store_make(&config);
	put(&putting);
	whole = change_file(&input);
	if (store_reader_create(putting.store, &reader))
		abort();
	for (unsigned reads = 4; reads; reads--)
		check_read(reader, &putting, &input, whole);
	/* And each of them. */
	for (size_t i = 0; i < PAGES; i++) {
		uint8_t page[PAGE], expected[PAGE];
		int result = store_read_one(putting.store, putting.locations[i], page);

		store_page(expected, kind_of(i), (uint32_t)i);
		if (result ? whole && result != -EBADMSG : memcmp(page, expected, PAGE) != 0)
			abort();
	}
	store_reader_destroy(reader);
	store_destroy(putting.store);
	return 0;
}
