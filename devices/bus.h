/*
 * One address space of the guest's devices: port I/O or MMIO.
 *
 * Devices are attached while the machine is put together; afterwards the bus is read-only and
 * lookups take no lock, so that every vCPU thread may use it. A device guards its own state. The
 * bus owns nothing but its table.
 */
#ifndef EBB_DEVICES_BUS_H
#define EBB_DEVICES_BUS_H

#include <stddef.h>
#include <stdint.h>

struct bus;

/*
 * @offset is relative to the device's base; @size is 1, 2, 4 or 8 and the access lies wholly in the
 * device's range. A read's result is in the low @size bytes.
 */
struct bus_ops {
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, uint64_t value, unsigned size);
};

int bus_create(struct bus **out);
void bus_destroy(struct bus *bus);

/*
 * Lets @device answer [base, base + size). @name is for messages and must outlive the bus.
 * 0, -EINVAL (empty or wrapping range), -EEXIST (overlaps an attached device), -ENOMEM.
 */
int bus_attach(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops,
	       void *device, const char *name);

/*
 * One access by the guest. 0, or -ENXIO if no device answers the whole of it: reads then give all
 * ones, as on a PC, and writes go nowhere. @size other than 1, 2, 4, 8: -EINVAL, same effect.
 */
int bus_read(const struct bus *bus, uint64_t address, uint64_t *value, unsigned size);
int bus_write(const struct bus *bus, uint64_t address, uint64_t value, unsigned size);

#endif
