#include "vmm/machine/memory_states.h"

#include "swap/swap.h"
#include "vmm/machine/machine.h"

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How much of @swapped bytes is not on the disk. */
static uint64_t in_pool(const struct swap_status *swap, uint64_t swapped)
{
	const struct store_usage *store = &swap->store;
	uint64_t pool = lesser(store->entries_pool + store->entries_filled, store->entries);

	if (!store->entries)
		return swap->store_config.path ? 0 : swapped;
	return (uint64_t)((double)swapped * ((double)pool / (double)store->entries));
}

void memory_states_divide(const struct machine_status *machine, const struct swap_status *swap,
			  uint64_t bytes[MEMORY_STATES])
{
	uint64_t total = machine->memory_bytes;
	uint64_t left = total, swapped;

	if (swap->state == SWAP_DISABLED) {
		bytes[MEMORY_RESIDENT] = lesser(machine->memory_allocated_bytes, total);
		bytes[MEMORY_STAGED] = swapped = 0;
	} else {
		bytes[MEMORY_RESIDENT] = lesser(swap->pages_resident * swap->page_size, total);
		bytes[MEMORY_STAGED] = (swap->pages_staged + swap->pages_writing) * swap->page_size;
		swapped = swap->pages_swapped * swap->page_size;
	}
	/* The counts are read one after the other while pages change their state. */
	left -= bytes[MEMORY_RESIDENT];
	bytes[MEMORY_STAGED] = lesser(bytes[MEMORY_STAGED], left);
	left -= bytes[MEMORY_STAGED];
	swapped = lesser(swapped, left);
	left -= swapped;
	bytes[MEMORY_POOL] = lesser(in_pool(swap, swapped), swapped);
	bytes[MEMORY_DISK] = swapped - bytes[MEMORY_POOL];
	bytes[MEMORY_BALLOONED] = lesser(machine->balloon.actual_bytes, left);
	bytes[MEMORY_EMPTY] = left - bytes[MEMORY_BALLOONED];
}

const char *memory_state_name(enum memory_state state)
{
	static const char *const names[MEMORY_STATES] = {"resident", "staged", "pool",
							 "disk",     "empty",  "ballooned"};

	return names[state];
}
