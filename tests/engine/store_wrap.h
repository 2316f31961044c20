/*
 * The store's functions that tests put something of their own before or behind. The linker chooses
 * these names: a test that defines __wrap_FUNCTION is linked with --wrap=FUNCTION, and reaches the
 * store's own one as __real_FUNCTION.
 */
#ifndef EBB_TESTS_ENGINE_STORE_WRAP_H
#define EBB_TESTS_ENGINE_STORE_WRAP_H

#include "swap/store.h"

int __real_store_append(struct store_writer *writer, const void *page, store_location *location);
int __wrap_store_append(struct store_writer *writer, const void *page, store_location *location);

int __real_store_wait(struct store_writer *writer, unsigned parcel);
int __wrap_store_wait(struct store_writer *writer, unsigned parcel);

int __real_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[]);
int __wrap_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[]);

int __real_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[]);
int __wrap_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[]);

void __real_store_drop(struct store *store, store_location location);
void __wrap_store_drop(struct store *store, store_location location);

#endif
