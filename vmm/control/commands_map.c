/* `memory-map`: where guest memory is, range by range. */
#include <errno.h>
#include <stdlib.h>

#include "memory/guest_memory.h"
#include "vmm/control/commands_internal.h"
#include "vmm/machine/machine.h"

static int parse_cells(const char *text, size_t *cells, struct error *err)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, 10);
	/* strtoul() takes blanks and signs. */
	if (text[0] < '0' || text[0] > '9' || *end || errno || number < 1 ||
	    number > COMMANDS_MAP_CELLS_MAX)
		return error_say(err, ERANGE, "memory-map %.40s: the number of cells is 1 to %u",
				 text, COMMANDS_MAP_CELLS_MAX);
	*cells = number;
	return 0;
}

static json_t *regions_array(const struct guest_memory *memory)
{
	json_t *array = json_array();

	for (size_t i = 0; i < guest_memory_region_count(memory); i++) {
		const struct guest_memory_region *region = guest_memory_region(memory, i);

		if (json_array_append_new(
			    array, json_pack("{s:I,s:I,s:I}", "gpa", commands_number(region->base),
					     "bytes", commands_number(region->size), "first_page",
					     commands_number(region->offset / GUEST_PAGE_SIZE)))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* One number for each cell: NULL if out of memory. */
static json_t *place_array(const struct swap_map_cell *cells, size_t count, enum swap_place place)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		if (json_array_append_new(array,
					  json_integer(commands_number(cells[i].pages[place])))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

int commands_run_memory_map(const struct control_host *host, const struct control_request *request,
			    json_t **result, struct error *err)
{
	struct swap *swap = machine_swap(host->machine);
	const struct guest_memory *memory = machine_memory(host->machine);
	struct swap_map_cell *cells;
	uint64_t cell_pages;
	size_t count = COMMANDS_MAP_CELLS;
	bool exact;
	int failure = 0;

	if (request->argument_count)
		failure = parse_cells(request->arguments[0], &count, err);
	if (failure)
		return failure;
	cells = calloc(count, sizeof(*cells));
	if (!cells)
		return error_errno(err, ENOMEM, "memory-map");
	cell_pages = swap_map_cell_pages(swap, count);
	count = swap_get_map(swap, cell_pages, count, cells, &exact);
	failure = commands_give(
		json_pack("{s:I,s:I,s:I,s:I,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "page_size_bytes",
			  commands_number(GUEST_PAGE_SIZE), "pages_total",
			  commands_number(guest_memory_size(memory) / GUEST_PAGE_SIZE), "cells",
			  commands_number(count), "pages_per_cell", commands_number(cell_pages),
			  "exact", exact, "regions", regions_array(memory), "empty",
			  place_array(cells, count, SWAP_PLACE_EMPTY), "resident",
			  place_array(cells, count, SWAP_PLACE_RESIDENT), "staged",
			  place_array(cells, count, SWAP_PLACE_STAGED), "pool",
			  place_array(cells, count, SWAP_PLACE_POOL), "disk",
			  place_array(cells, count, SWAP_PLACE_DISK), "filled",
			  place_array(cells, count, SWAP_PLACE_FILLED)),
		result, err);
	free(cells);
	return failure;
}
