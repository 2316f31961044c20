#include "swap/slot_map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BITS 64u

static int grow(struct slot_map *map)
{
	size_t count = map->count ? map->count * 2 : 8;
	uint64_t *words = realloc(map->words, count * sizeof(*words));

	if (!words)
		return -ENOMEM;
	memset(words + map->count, 0, (count - map->count) * sizeof(*words));
	map->words = words;
	map->count = count;
	return 0;
}

int slot_take(struct slot_map *map, uint32_t *slot)
{
	uint64_t found;

	while (map->first < map->count && map->words[map->first] == UINT64_MAX)
		map->first++;
	if (map->first == map->count && map->first * BITS < map->slots) {
		int result = grow(map);

		if (result)
			return result;
	}
	found = map->first * BITS;
	if (map->first < map->count)
		found += (uint64_t)__builtin_ctzll(~map->words[map->first]);
	if (found >= map->slots)
		return -ENOSPC;
	map->words[found / BITS] |= 1ull << (found % BITS);
	*slot = (uint32_t)found;
	return 0;
}

void slot_give(struct slot_map *map, uint32_t slot)
{
	assert(map->words[slot / BITS] >> (slot % BITS) & 1);
	map->words[slot / BITS] &= ~(1ull << (slot % BITS));
	if (slot / BITS < map->first)
		map->first = slot / BITS;
}

void slot_map_destroy(struct slot_map *map)
{
	free(map->words);
	map->words = NULL;
	map->count = 0;
}
