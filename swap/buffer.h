/*
 * Memory for what guests hold, or for what is encrypted of it: page-aligned, zeroed, taken only where
 * it is touched; in no core dump, in no child, and never made of huge pages.
 */
#ifndef EBB_SWAP_BUFFER_H
#define EBB_SWAP_BUFFER_H

#include <stddef.h>

/* NULL: no memory. */
void *buffer_map(size_t size);

/* @size as it was mapped. NULL is legal. */
void buffer_unmap(void *bytes, size_t size);

#endif
