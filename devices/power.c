#include "devices/power.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/log.h"

/* SLEEP_CONTROL: SLP_TYPx in bits 2 to 4, SLP_EN in bit 5 (write-only). */
#define SLEEP_TYPE_SHIFT 2
#define SLEEP_TYPE_MASK  0x7u
#define SLEEP_ENABLE     0x20u

struct power {
	uint8_t s5_type;
	void (*poweroff)(void *opaque);
	void *opaque;
	int button_fd;
	_Atomic uint8_t control;
	struct log_ratelimit guest_errors;
};

int power_create(uint8_t s5_type, void (*poweroff)(void *opaque), void *opaque, struct power **out)
{
	struct power *power;
	int result;

	if (s5_type > SLEEP_TYPE_MASK)
		return -EINVAL;
	power = calloc(1, sizeof(*power));
	if (!power)
		return -ENOMEM;
	power->s5_type = s5_type;
	power->poweroff = poweroff;
	power->opaque = opaque;
	power->button_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (power->button_fd < 0) {
		result = -errno;
		free(power);
		return result;
	}
	*out = power;
	return 0;
}

void power_destroy(struct power *power)
{
	if (!power)
		return;
	close(power->button_fd);
	free(power);
}

void power_reset(struct power *power)
{
	eventfd_t presses;

	atomic_store(&power->control, 0);
	eventfd_read(power->button_fd, &presses);
}

void power_button_press(struct power *power)
{
	eventfd_write(power->button_fd, 1);
}

int power_irq_fd(const struct power *power)
{
	return power->button_fd;
}

static uint64_t control_read(void *opaque, uint64_t offset, unsigned size)
{
	struct power *power = opaque;

	(void)offset;
	(void)size;
	return atomic_load(&power->control);
}

static void control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct power *power = opaque;
	uint8_t type = (value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;

	(void)offset;
	(void)size;
	atomic_store(&power->control, (uint8_t)(type << SLEEP_TYPE_SHIFT));
	if (!(value & SLEEP_ENABLE))
		return;
	if (type == power->s5_type)
		power->poweroff(power->opaque);
	else if (log_ratelimit_pass(&power->guest_errors))
		log_warning("the guest asks for sleep type %u, which this machine does not have; "
			    "ignored",
			    type);
}

const struct bus_ops power_control_bus_ops = {
	.read = control_read,
	.write = control_write,
};

/* WAK_STS never gets set: nothing here sleeps and wakes up. */
static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return 0;
}

static void status_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)value;
	(void)size;
}

const struct bus_ops power_status_bus_ops = {
	.read = status_read,
	.write = status_write,
};
