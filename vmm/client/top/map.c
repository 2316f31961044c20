/* The map of one machine's memory, from the answer to `memory-map`. */
#include <stdlib.h>
#include <string.h>

#include "vmm/client/render_internal.h"
#include "vmm/client/top/model.h"

/* Which of the answer's arrays are shown as what. */
static const struct {
	const char *array;
	enum top_kind kind;
} places[] = {
	{"resident", TOP_RESIDENT}, {"staged", TOP_STAGED}, {"pool", TOP_POOL},
	{"disk", TOP_DISK},         {"filled", TOP_ZERO},   {"empty", TOP_ZERO},
};

void top_map_clear(struct top_map *map)
{
	free(map->cells);
	*map = (struct top_map){0};
}

static size_t take_regions(const json_t *array, uint64_t page_size,
			   struct guest_memory_region regions[static GUEST_MEMORY_REGIONS_MAX])
{
	const json_t *entry;
	size_t i;

	json_array_foreach(array, i, entry)
	{
		if (i == GUEST_MEMORY_REGIONS_MAX)
			break;
		regions[i] = (struct guest_memory_region){
			.base = render_number(entry, "gpa"),
			.size = render_number(entry, "bytes"),
			.offset = render_number(entry, "first_page") * page_size,
		};
	}
	return i;
}

bool top_map_take(struct top_map *map, const char *name, const json_t *answer)
{
	struct top_map taken = {
		.page_size = render_number(answer, "page_size_bytes"),
		.pages_per_cell = render_number(answer, "pages_per_cell"),
		.count = json_array_size(json_object_get(answer, "resident")),
	};

	if (!taken.page_size || taken.page_size > 1u << 30 || !taken.pages_per_cell ||
	    taken.pages_per_cell > 1ull << 40 || !taken.count || taken.count > TOP_MAP_CELLS_MAX)
		return false;
	taken.cells = calloc(taken.count, sizeof(*taken.cells));
	if (!taken.cells)
		return false;
	for (size_t place = 0; place < sizeof(places) / sizeof(places[0]); place++) {
		const json_t *array = json_object_get(answer, places[place].array);

		for (size_t i = 0; i < taken.count && i < json_array_size(array); i++) {
			json_int_t pages = json_integer_value(json_array_get(array, i));

			if (pages > 0 && (uint64_t)pages <= taken.pages_per_cell)
				taken.cells[i].pages[places[place].kind] += (uint64_t)pages;
		}
	}
	taken.region_count =
		take_regions(json_object_get(answer, "regions"), taken.page_size, taken.regions);
	strncpy(taken.name, name, sizeof(taken.name) - 1);
	top_map_clear(map);
	*map = taken;
	return true;
}

uint64_t top_map_gpa(const struct top_map *map, size_t cell)
{
	uint64_t offset = cell * map->pages_per_cell * map->page_size;

	for (size_t i = 0; i < map->region_count; i++) {
		const struct guest_memory_region *region = &map->regions[i];

		if (offset >= region->offset && offset - region->offset < region->size)
			return region->base + (offset - region->offset);
	}
	return offset;
}

enum top_kind top_map_dominant(const struct top_map_cell *cell)
{
	enum top_kind dominant = TOP_ZERO;

	for (int kind = TOP_KINDS - 1; kind >= 0; kind--) {
		if (cell->pages[kind] && cell->pages[kind] >= cell->pages[dominant])
			dominant = (enum top_kind)kind;
	}
	return dominant;
}
