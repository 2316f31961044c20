/*
 * Which parts of the file, one segment each, are taken: a bit a slot. The lowest free one is given
 * out first, so that the file stays as short as it can. No lock of its own.
 */
#ifndef EBB_SWAP_SLOT_MAP_H
#define EBB_SWAP_SLOT_MAP_H

#include <stddef.h>
#include <stdint.h>

struct slot_map {
	uint64_t *words;
	size_t count;   /* of words */
	size_t first;   /* no slot is free in the words before it */
	uint64_t slots; /* that there may be */
};

/* Zero-initialise, but for slots. Then: 0 with *slot; -ENOMEM; -ENOSPC: all are taken. */
int slot_take(struct slot_map *map, uint32_t *slot);
void slot_give(struct slot_map *map, uint32_t slot);
void slot_map_destroy(struct slot_map *map);

#endif
