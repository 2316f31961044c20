#include "devices/bus.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/log.h"

struct bus_range {
	uint64_t base;
	uint64_t last; /* the last byte, so that a range may reach 2^64 - 1 */
	const struct bus_ops *ops;
	void *device;
	const char *name;
};

struct bus {
	struct bus_range *ranges; /* ascending, disjoint */
	size_t count;
};

int bus_create(struct bus **out)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	*out = bus;
	return 0;
}

void bus_destroy(struct bus *bus)
{
	if (!bus)
		return;
	free(bus->ranges);
	free(bus);
}

/* The index of the first range that ends at or after @address. */
static size_t first_ending_at(const struct bus *bus, uint64_t address)
{
	size_t low = 0, high = bus->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (bus->ranges[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int bus_attach(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops,
	       void *device, const char *name)
{
	struct bus_range *grown;
	uint64_t last;
	size_t at;

	if (size == 0 || !checked_add(base, size - 1, &last))
		return -EINVAL;
	at = first_ending_at(bus, base);
	if (at < bus->count && bus->ranges[at].base <= last) {
		log_debug("bus: %s overlaps %s", name, bus->ranges[at].name);
		return -EEXIST;
	}
	grown = realloc(bus->ranges, (bus->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	bus->ranges = grown;
	memmove(&grown[at + 1], &grown[at], (bus->count - at) * sizeof(*grown));
	grown[at] = (struct bus_range){
		.base = base,
		.last = last,
		.ops = ops,
		.device = device,
		.name = name,
	};
	bus->count++;
	return 0;
}

static bool is_access_size(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* The range that holds all of the access, or NULL. */
static const struct bus_range *find(const struct bus *bus, uint64_t address, unsigned size)
{
	size_t at = first_ending_at(bus, address);
	const struct bus_range *range;

	if (at == bus->count)
		return NULL;
	range = &bus->ranges[at];
	if (range->base > address || range->last - address < size - 1)
		return NULL;
	return range;
}

static uint64_t all_ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
}

int bus_read(const struct bus *bus, uint64_t address, uint64_t *value, unsigned size)
{
	const struct bus_range *range;

	*value = all_ones(size);
	if (!is_access_size(size))
		return -EINVAL;
	range = find(bus, address, size);
	if (!range)
		return -ENXIO;
	*value &= range->ops->read(range->device, address - range->base, size);
	return 0;
}

int bus_write(const struct bus *bus, uint64_t address, uint64_t value, unsigned size)
{
	const struct bus_range *range;

	if (!is_access_size(size))
		return -EINVAL;
	range = find(bus, address, size);
	if (!range)
		return -ENXIO;
	range->ops->write(range->device, address - range->base, value & all_ones(size), size);
	return 0;
}
