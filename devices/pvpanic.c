#include "devices/pvpanic.h"

#include <errno.h>
#include <stdlib.h>

struct pvpanic {
	void (*panicked)(void *opaque, bool crash_loaded);
	void *opaque;
};

int pvpanic_create(void (*panicked)(void *opaque, bool crash_loaded), void *opaque,
		   struct pvpanic **out)
{
	struct pvpanic *pvpanic = calloc(1, sizeof(*pvpanic));

	if (!pvpanic)
		return -ENOMEM;
	pvpanic->panicked = panicked;
	pvpanic->opaque = opaque;
	*out = pvpanic;
	return 0;
}

void pvpanic_destroy(struct pvpanic *pvpanic)
{
	free(pvpanic);
}

static uint64_t read_events(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void write_event(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct pvpanic *pvpanic = opaque;

	(void)offset;
	(void)size;
	if (value & (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED))
		pvpanic->panicked(pvpanic->opaque, (value & PVPANIC_CRASH_LOADED) != 0);
}

const struct bus_ops pvpanic_bus_ops = {
	.read = read_events,
	.write = write_event,
};
