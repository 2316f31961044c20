/* Pages on their way to the store: shared by pager_out.c and pager_compact.c. */
#ifndef EBB_SWAP_PAGER_PARCEL_H
#define EBB_SWAP_PAGER_PARCEL_H

#include "swap/pager_internal.h"

/* The one that is filled, and those that are under way. */
#define PARCELS (STORE_PARCELS_MAX + 1)

/* The most pages of one parcel (8 MiB of guest RAM). */
#define PARCEL_PAGES 2048u

enum verdict {
	KEEP,        /* stays in the memfd */
	LEAVE_ZERO,  /* all zero: EMPTY */
	LEAVE_CLEAN, /* equals its stored copy: SWAPPED */
	LEAVE_STORED /* has been written: SWAPPED */
};

struct parcel {
	_Alignas(GUEST_PAGE_SIZE) uint8_t page[GUEST_PAGE_SIZE]; /* the page at hand */
	size_t open; /* of the first parcel: which one is filled */
	bool sealed; /* under way, as .number */
	unsigned number;
	size_t count;
	size_t pages[PARCEL_PAGES];
	store_location stored[PARCEL_PAGES]; /* LEAVE_STORED: where */
	uint8_t verdicts[PARCEL_PAGES];      /* enum verdict */
};

/* Makes the context's parcels, once. 0 or -ENOMEM. */
int parcels_create(struct pager_context *context);

/* The same, and the writer that they go to. 0 or -errno. */
int parcels_create_with_writer(struct pager_context *context);

static inline struct parcel *parcels_open(struct pager_context *context)
{
	return &context->parcels[context->parcels->open];
}

/* A page that was marked WRITING and is not written after all: STAGED, if it still is WRITING. */
void parcels_put_back(struct pager_context *context, size_t page);

#endif
