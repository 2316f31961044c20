/*
 * A PC keyboard controller with nothing attached: what the guest needs it for is the reset pulse.
 *
 * Controller commands answer at once. A byte for the keyboard or the mouse is answered as a real
 * controller does when no device clocks it in: 0xFE with the timeout bit set, and an interrupt if
 * the command byte enables it, so that drivers give up without waiting.
 *
 * Any thread may call in; a lock inside guards the state, and is not held during the callback.
 */
#ifndef EBB_DEVICES_I8042_H
#define EBB_DEVICES_I8042_H

#include "devices/bus.h"

struct i8042;

/* @reset(@opaque): the guest pulsed the CPU's reset line. On a vCPU thread. 0 or -errno. */
int i8042_create(void (*reset)(void *opaque), void *opaque, struct i8042 **out);
void i8042_destroy(struct i8042 *i8042);

/* Power-on state. */
void i8042_reset(struct i8042 *i8042);

/* Eventfd of the keyboard's interrupt (edge). Owned by the controller. */
int i8042_irq_fd(const struct i8042 *i8042);

/* The data port (0x60 on a PC) and the command/status port (0x64), one byte each; the bus device
 * of both is the struct i8042. */
extern const struct bus_ops i8042_data_bus_ops;
extern const struct bus_ops i8042_command_bus_ops;

#endif
