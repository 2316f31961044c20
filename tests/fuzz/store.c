/* The store's file, changed by somebody else: a page reads as it was put, or not at all. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "tests/unit/store_fixture.h"
#include "vmm/base/log.h"

#define PAGES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct store_config config = store_test_config();
	store_location locations[PAGES];
	struct store *store;
	int fd;

	log_set_level(LOG_LEVEL_ERROR);
	config.io = STORE_IO_THREADS;
	config.encrypt = fuzz_u8(&input) & 1;
	config.compression = fuzz_u8(&input) & 1 ? STORE_COMPRESS_LZ4 : STORE_COMPRESS_NONE;
	store = store_make(&config);
	for (size_t i = 0; i < PAGES; i++)
		locations[i] = store_put_one(store, (enum page_kind)(i % PAGE_KINDS), (uint32_t)i);
	fd = store_open_file();
	while (fuzz_more(&input)) {
		uint8_t byte = fuzz_u8(&input);

		if (pwrite(fd, &byte, 1, fuzz_u16(&input)) != 1)
			abort();
	}
	for (size_t i = 0; i < PAGES; i++) {
		uint8_t page[PAGE], expected[PAGE];
		int result = store_read_one(store, locations[i], page);

		store_page(expected, (enum page_kind)(i % PAGE_KINDS), (uint32_t)i);
		if (result ? result != -EBADMSG : memcmp(page, expected, PAGE) != 0)
			abort();
	}
	close(fd);
	store_destroy(store);
	return 0;
}
