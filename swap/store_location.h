/*
 * What the 56 bits of a store_location say.
 *
 *    55  53 52            25 24          9 8        0
 *   ┌──────┬────────────────┬─────────────┬──────────┐
 *   │  0   │ segment        │ offset / 16 │ size / 16│  a record
 *   ├──────┼────────────────┴─────────────┴──────────┤
 *   │ 1..3 │ the word that fills the page, shortened │  a filled page
 *   └──────┴─────────────────────────────────────────┘
 *
 * Sizes and offsets are in bytes outside of this header. No state, no locks.
 */
#ifndef EBB_SWAP_STORE_LOCATION_H
#define EBB_SWAP_STORE_LOCATION_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "swap/store.h"

#define STORE_PAGE     4096u
#define SEGMENT_MAX    (1u << 20)
#define SEGMENTS_MAX   (1u << 28)
#define RECORD_UNIT    16u
#define RECORD_TAG     16u
#define RECORD_RAW     (RECORD_TAG + STORE_PAGE) /* the size that says: not compressed */
#define LOCATION_VALUE 53u                       /* bits below the kind */

enum location_kind {
	LOCATION_RECORD,
	LOCATION_FILL_SIGNED, /* the word is the value, sign-extended */
	LOCATION_FILL_TWICE,  /* both halves of the word are the value */
	LOCATION_FILL_HIGH,   /* the word is the value, shifted to the top */
};

struct record_place {
	uint32_t segment;
	uint32_t offset;
	uint32_t size;
};

static inline enum location_kind location_kind(store_location location)
{
	return (enum location_kind)(location >> LOCATION_VALUE & 7);
}

static inline store_location location_make(enum location_kind kind, uint64_t value)
{
	return (uint64_t)kind << LOCATION_VALUE | (value & ((1ull << LOCATION_VALUE) - 1));
}

static inline store_location location_of_record(struct record_place place)
{
	return location_make(LOCATION_RECORD, (uint64_t)place.segment << 25 |
						      (uint64_t)(place.offset / RECORD_UNIT) << 9 |
						      place.size / RECORD_UNIT);
}

static inline struct record_place location_record(store_location location)
{
	return (struct record_place){
		.segment = (uint32_t)(location >> 25) & (SEGMENTS_MAX - 1),
		.offset = ((uint32_t)(location >> 9) & 0xffff) * RECORD_UNIT,
		.size = ((uint32_t)location & 0x1ff) * RECORD_UNIT,
	};
}

static inline uint64_t location_word(store_location location)
{
	switch (location_kind(location)) {
	case LOCATION_FILL_TWICE:
		return (location & UINT32_MAX) << 32 | (location & UINT32_MAX);
	case LOCATION_FILL_HIGH:
		return location << (64 - LOCATION_VALUE);
	default:
		return (uint64_t)((int64_t)(location << (64 - LOCATION_VALUE)) >>
				  (64 - LOCATION_VALUE));
	}
}

/* True with the location of a page full of @word, if one can say it. */
static inline bool location_of_word(uint64_t word, store_location *location)
{
	for (int kind = LOCATION_FILL_SIGNED; kind <= LOCATION_FILL_HIGH; kind++) {
		uint64_t value = kind == LOCATION_FILL_HIGH    ? word >> (64 - LOCATION_VALUE)
				 : kind == LOCATION_FILL_TWICE ? (uint32_t)word
							       : word;

		*location = location_make((enum location_kind)kind, value);
		if (location_word(*location) == word)
			return true;
	}
	return false;
}

/* True with the 64-bit word that @page repeats. */
static inline bool page_is_filled(const void *page, uint64_t *word)
{
	const char *bytes = page;

	memcpy(word, bytes, sizeof(*word));
	return !memcmp(bytes + STORE_PAGE - sizeof(*word), word, sizeof(*word)) &&
	       !memcmp(bytes, bytes + sizeof(*word), STORE_PAGE - sizeof(*word));
}

static inline void page_fill(void *page, uint64_t word)
{
	if (word == 0) {
		memset(page, 0, STORE_PAGE);
		return;
	}
	for (size_t i = 0; i < STORE_PAGE; i += sizeof(word))
		memcpy((char *)page + i, &word, sizeof(word));
}

#endif
