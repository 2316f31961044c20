#include "devices/i8042.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Status register. */
#define STATUS_OUTPUT_FULL 0x01u
#define STATUS_SYSTEM      0x04u
#define STATUS_COMMAND     0x08u /* the last write went to the command port */
#define STATUS_UNLOCKED    0x10u
#define STATUS_AUX_OUTPUT  0x20u
#define STATUS_TIMEOUT     0x40u

/* Command byte: RAM address 0 of the controller. */
#define CONFIG_KEYBOARD_INTERRUPT 0x01u
#define CONFIG_SYSTEM             0x04u
#define CONFIG_KEYBOARD_DISABLED  0x10u
#define CONFIG_AUX_DISABLED       0x20u

/* Commands. */
#define COMMAND_READ_RAM      0x20u /* to 0x3f */
#define COMMAND_WRITE_RAM     0x60u /* to 0x7f */
#define COMMAND_AUX_DISABLE   0xa7u
#define COMMAND_AUX_ENABLE    0xa8u
#define COMMAND_AUX_TEST      0xa9u
#define COMMAND_SELF_TEST     0xaau
#define COMMAND_KEYBOARD_TEST 0xabu
#define COMMAND_KEYBOARD_OFF  0xadu
#define COMMAND_KEYBOARD_ON   0xaeu
#define COMMAND_READ_INPUT    0xc0u
#define COMMAND_READ_OUTPUT   0xd0u
#define COMMAND_WRITE_OUTPUT  0xd1u
#define COMMAND_ECHO_KEYBOARD 0xd2u
#define COMMAND_ECHO_AUX      0xd3u
#define COMMAND_SEND_AUX      0xd4u
#define COMMAND_PULSE         0xf0u /* to 0xff: pulses the output lines whose bit is 0 */

#define SELF_TEST_PASSED     0x55u
#define KEYBOARD_TEST_PASSED 0x00u
#define AUX_CLOCK_STUCK      0x01u /* what the test says of a port without wires */
#define DEVICE_TIMED_OUT     0xfeu /* put into the output buffer for a device that did not answer */

/* The output port: bit 0 low resets the CPU, bit 1 is the A20 gate (always open here). */
#define OUTPUT_NO_RESET 0x01u
#define OUTPUT_A20      0x02u

#define RAM_SIZE 32u

struct i8042 {
	void (*reset)(void *opaque);
	void *opaque;
	int irq_fd;
	pthread_mutex_t lock;  /* guards the rest */
	uint8_t ram[RAM_SIZE]; /* ram[0]: the command byte */
	uint8_t output;        /* the output buffer, valid with STATUS_OUTPUT_FULL */
	uint8_t status;        /* without STATUS_SYSTEM */
	uint8_t command;       /* waits for its data byte; 0: none */
};

static void reset_state(struct i8042 *i8042)
{
	for (unsigned i = 0; i < RAM_SIZE; i++)
		i8042->ram[i] = 0;
	i8042->ram[0] = CONFIG_SYSTEM | CONFIG_KEYBOARD_INTERRUPT;
	i8042->output = 0;
	i8042->status = STATUS_UNLOCKED;
	i8042->command = 0;
}

int i8042_create(void (*reset)(void *opaque), void *opaque, struct i8042 **out)
{
	struct i8042 *i8042 = calloc(1, sizeof(*i8042));
	int result;

	if (!i8042)
		return -ENOMEM;
	i8042->reset = reset;
	i8042->opaque = opaque;
	i8042->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (i8042->irq_fd < 0) {
		result = -errno;
		free(i8042);
		return result;
	}
	pthread_mutex_init(&i8042->lock, NULL);
	reset_state(i8042);
	*out = i8042;
	return 0;
}

void i8042_destroy(struct i8042 *i8042)
{
	if (!i8042)
		return;
	close(i8042->irq_fd);
	pthread_mutex_destroy(&i8042->lock);
	free(i8042);
}

void i8042_reset(struct i8042 *i8042)
{
	pthread_mutex_lock(&i8042->lock);
	reset_state(i8042);
	pthread_mutex_unlock(&i8042->lock);
}

int i8042_irq_fd(const struct i8042 *i8042)
{
	return i8042->irq_fd;
}

/* Fills the output buffer. The keyboard's interrupt announces what is not the mouse's. */
static void answer(struct i8042 *i8042, uint8_t byte, uint8_t flags)
{
	i8042->output = byte;
	i8042->status &= (uint8_t) ~(STATUS_AUX_OUTPUT | STATUS_TIMEOUT);
	i8042->status |= STATUS_OUTPUT_FULL | flags;
	if (!(flags & STATUS_AUX_OUTPUT) && (i8042->ram[0] & CONFIG_KEYBOARD_INTERRUPT))
		eventfd_write(i8042->irq_fd, 1);
}

/* True if the guest asked for a reset. */
static bool run_command(struct i8042 *i8042, uint8_t command)
{
	i8042->command = 0;
	i8042->status |= STATUS_COMMAND;
	if (command >= COMMAND_PULSE)
		return !(command & OUTPUT_NO_RESET);
	if (command >= COMMAND_READ_RAM && command < COMMAND_READ_RAM + RAM_SIZE) {
		answer(i8042, i8042->ram[command - COMMAND_READ_RAM], 0);
		return false;
	}
	switch (command) {
	case COMMAND_SELF_TEST:
		answer(i8042, SELF_TEST_PASSED, 0);
		break;
	case COMMAND_KEYBOARD_TEST:
		answer(i8042, KEYBOARD_TEST_PASSED, 0);
		break;
	case COMMAND_AUX_TEST:
		answer(i8042, AUX_CLOCK_STUCK, 0);
		break;
	case COMMAND_KEYBOARD_OFF:
		i8042->ram[0] |= CONFIG_KEYBOARD_DISABLED;
		break;
	case COMMAND_KEYBOARD_ON:
		i8042->ram[0] &= (uint8_t)~CONFIG_KEYBOARD_DISABLED;
		break;
	case COMMAND_AUX_DISABLE:
		i8042->ram[0] |= CONFIG_AUX_DISABLED;
		break;
	case COMMAND_AUX_ENABLE:
		i8042->ram[0] &= (uint8_t)~CONFIG_AUX_DISABLED;
		break;
	case COMMAND_READ_INPUT:
		answer(i8042, 0, 0);
		break;
	case COMMAND_READ_OUTPUT:
		answer(i8042, OUTPUT_NO_RESET | OUTPUT_A20, 0);
		break;
	default:
		i8042->command = command; /* takes a byte of data, or is ignored with it */
		break;
	}
	return false;
}

static bool takes_data(uint8_t command)
{
	return (command >= COMMAND_WRITE_RAM && command < COMMAND_WRITE_RAM + RAM_SIZE) ||
	       (command >= COMMAND_WRITE_OUTPUT && command <= COMMAND_SEND_AUX);
}

/* The byte behind a command, or one for the keyboard. True if the guest asked for a reset. */
static bool take_data(struct i8042 *i8042, uint8_t byte)
{
	uint8_t command = i8042->command;

	i8042->command = 0;
	i8042->status &= (uint8_t)~STATUS_COMMAND;
	if (!takes_data(command)) {
		answer(i8042, DEVICE_TIMED_OUT, STATUS_TIMEOUT);
		return false;
	}
	switch (command) {
	case COMMAND_WRITE_OUTPUT:
		return !(byte & OUTPUT_NO_RESET);
	case COMMAND_ECHO_KEYBOARD:
	case COMMAND_ECHO_AUX: /* not marked as the mouse's: there is no such port */
		answer(i8042, byte, 0);
		return false;
	case COMMAND_SEND_AUX:
		answer(i8042, DEVICE_TIMED_OUT, STATUS_AUX_OUTPUT | STATUS_TIMEOUT);
		return false;
	default:
		i8042->ram[command - COMMAND_WRITE_RAM] = byte;
		return false;
	}
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *i8042 = opaque;
	uint8_t byte;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&i8042->lock);
	byte = i8042->output;
	i8042->status &= (uint8_t) ~(STATUS_OUTPUT_FULL | STATUS_AUX_OUTPUT | STATUS_TIMEOUT);
	pthread_mutex_unlock(&i8042->lock);
	return byte;
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *i8042 = opaque;
	uint8_t status;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&i8042->lock);
	status = i8042->status;
	if (i8042->ram[0] & CONFIG_SYSTEM)
		status |= STATUS_SYSTEM;
	pthread_mutex_unlock(&i8042->lock);
	return status;
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8042 *i8042 = opaque;
	bool resets;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&i8042->lock);
	resets = take_data(i8042, (uint8_t)value);
	pthread_mutex_unlock(&i8042->lock);
	if (resets)
		i8042->reset(i8042->opaque);
}

static void command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct i8042 *i8042 = opaque;
	bool resets;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&i8042->lock);
	resets = run_command(i8042, (uint8_t)value);
	pthread_mutex_unlock(&i8042->lock);
	if (resets)
		i8042->reset(i8042->opaque);
}

const struct bus_ops i8042_data_bus_ops = {
	.read = data_read,
	.write = data_write,
};

const struct bus_ops i8042_command_bus_ops = {
	.read = status_read,
	.write = command_write,
};
