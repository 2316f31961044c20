/* What the tests of the store share: pages to put, short ways to put and to look at them. */
#ifndef EBB_TEST_STORE_FIXTURE_H
#define EBB_TEST_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "swap/store.h"

#define PAGE    4096u
#define SEGMENT (1u << 20)

enum page_kind {
	PAGE_TEXT,   /* compresses to less than half */
	PAGE_RANDOM, /* does not compress */
	PAGE_FILLED, /* repeats a word that a location can say */
	PAGE_ODD,    /* repeats a word that a location cannot say */
	PAGE_KINDS,
};

/* $EBB_TEST_DIR or /var/tmp. */
const char *store_directory(void);

/* lz4, encrypted, in store_directory(), no pool. */
struct store_config store_test_config(void);
struct store *store_make(const struct store_config *config);

/* cmocka's setup and teardown: *state is a store of store_test_config(). */
int store_setup(void **state);
int store_teardown(void **state);

/* The same page for the same @kind and @seed. */
void store_page(uint8_t page[static PAGE], enum page_kind kind, uint32_t seed);

/*
 * Puts @count pages of @kind with seeds from @seed on, and waits for them. 0, or the error of the
 * append or wait that failed; what was appended until then has its location, the others
 * STORE_LOCATION_MAX.
 */
int store_try_put(struct store *store, enum page_kind kind, uint32_t seed, size_t count,
		  store_location locations[]);
void store_put(struct store *store, enum page_kind kind, uint32_t seed, size_t count,
	       store_location locations[]);
store_location store_put_one(struct store *store, enum page_kind kind, uint32_t seed);

void store_drop_all(struct store *store, const store_location locations[], size_t count);
void store_reclaim_all(struct store *store);

int store_read_one(struct store *store, store_location location, uint8_t page[static PAGE]);
/* The entry reads as that page. */
void store_expect(struct store *store, store_location location, enum page_kind kind, uint32_t seed);

struct store_usage store_usage(struct store *store);

/* The store's file as somebody else would get at it; -1: there is none. */
int store_find_file(void);
/* Without O_DIRECT, for the test to change it. The caller closes it. */
int store_open_file(void);

/*
 * Runs @test in a child in which system call @number fails with @errnum, where all bits of @flags
 * are set in its argument @argument (@flags 0: always). Returns its result; -1: cannot be done.
 */
int store_run_without(int number, int argument, uint32_t flags, int errnum, int (*test)(void));

#endif
