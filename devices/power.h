/*
 * Sleep registers and power button of a hardware-reduced ACPI platform (ACPI 6.4, section 4.8.3.7).
 *
 * SLEEP_CONTROL with SLP_EN set and the sleep type of S5 means power off; other sleep states do not
 * exist here. The power button is an eventfd, wired to the interrupt of a generic event device.
 *
 * Any thread may call in; the state is atomic.
 */
#ifndef EBB_DEVICES_POWER_H
#define EBB_DEVICES_POWER_H

#include <stdint.h>

#include "devices/bus.h"

struct power;

/*
 * @s5_type: SLP_TYP that the ACPI tables give for S5 (0-7). @poweroff(@opaque): the guest powered
 * down; on a vCPU thread. 0 or -errno.
 */
int power_create(uint8_t s5_type, void (*poweroff)(void *opaque), void *opaque, struct power **out);
void power_destroy(struct power *power);

/* Power-on state: an unanswered press of the button is forgotten as far as it can be. */
void power_reset(struct power *power);

/* Presses the button: interrupts the guest. */
void power_button_press(struct power *power);

/* The button's eventfd. Owned by the struct power. */
int power_irq_fd(const struct power *power);

/* SLEEP_CONTROL and SLEEP_STATUS, one byte each; the bus device of both is the struct power. */
extern const struct bus_ops power_control_bus_ops;
extern const struct bus_ops power_status_bus_ops;

#endif
