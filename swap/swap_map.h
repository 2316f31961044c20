/*
 * Where the pages of guest RAM are, range by range: what a map of a guest's memory is drawn from.
 * Plain data; swap_get_map() (swap/swap.h) fills it in.
 */
#ifndef EBB_SWAP_SWAP_MAP_H
#define EBB_SWAP_SWAP_MAP_H

#include <stdint.h>

enum swap_place {
	SWAP_PLACE_EMPTY,    /* nowhere: reads as zeros */
	SWAP_PLACE_RESIDENT, /* in the memfd */
	SWAP_PLACE_STAGED,   /* in the memfd, and watched for a touch */
	SWAP_PLACE_POOL,     /* in the store, in RAM */
	SWAP_PLACE_DISK,     /* in the store's file */
	SWAP_PLACE_FILLED,   /* in the store, without taking space: the page repeats one value */
	SWAP_PLACES,
};

/* How many pages of a range are in each place. */
struct swap_map_cell {
	uint64_t pages[SWAP_PLACES];
};

#endif
