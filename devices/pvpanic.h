/*
 * pvpanic: one byte of I/O ports by which a guest's kernel says that it panicked (QEMU,
 * docs/specs/pvpanic; Linux, include/uapi/misc/pvpanic.h).
 *
 * Reading gives the events that can be told; writing tells those whose bits are set. The device has
 * no state and no lock: any thread may call in.
 */
#ifndef EBB_DEVICES_PVPANIC_H
#define EBB_DEVICES_PVPANIC_H

#include <stdbool.h>

#include "devices/bus.h"

#define PVPANIC_PANICKED     0x01u
#define PVPANIC_CRASH_LOADED 0x02u /* it panicked, and a crash kernel takes over */

struct pvpanic;

/*
 * @panicked(@opaque, whether a crash kernel is loaded): on a vCPU thread, as often as the guest
 * likes. 0 or -errno.
 */
int pvpanic_create(void (*panicked)(void *opaque, bool crash_loaded), void *opaque,
		   struct pvpanic **out);
void pvpanic_destroy(struct pvpanic *pvpanic);

/* One byte; the bus device is the struct pvpanic. */
extern const struct bus_ops pvpanic_bus_ops;

#endif
