#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#include "arch/x86_64/platform_info.h"
#include "devices/block_format.h"
#include "devices/virtio_balloon.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_console.h"
#include "devices/virtio_mmio.h"
#include "devices/virtio_rng.h"
#include "devices/virtio_vsock.h"
#include "vmm/base/clock.h"
#include "vmm/machine/machine_internal.h"

/* How long a reset waits for one device in all, and between two looks at whether that makes sense. */
#define RESET_PATIENCE_NS (60 * NS_PER_SEC)
#define RESET_LOOK_NS     (100 * NS_PER_MS)

/*
 * Puts @device, if its creation gave @result 0, into the next free slot; takes care of it on failure
 * too.
 */
static int plug(struct machine_devices *devices, int result, struct virtio_device *device,
		const char *name, struct error *err)
{
	if (!result && devices->virtio_count == PLATFORM_VIRTIO_SLOTS) {
		virtio_device_destroy(device);
		return error_say(err, ENOSPC,
				 "%s: a machine has %d slots for virtio devices, of which entropy "
				 "and balloon take two; use fewer devices",
				 name, PLATFORM_VIRTIO_SLOTS);
	}
	if (!result) {
		result = virtio_mmio_create(device, devices->io_loop,
					    &devices->virtio[devices->virtio_count]);
		if (result)
			virtio_device_destroy(device);
	}
	if (result)
		return error_errno(err, -result, "create device %s", name);
	devices->virtio_count++;
	return 0;
}

static int create_disk(struct machine *machine, const struct disk_config *config, struct error *err)
{
	struct virtio_device *device = NULL;
	struct block *block;
	int result;

	result = config->is_raw ? 0 : block_format_check(config->path, err);
	if (result)
		return result;
	result = block_open(config->path, config->read_only, config->id, &block, err);
	if (result)
		return result;
	result = virtio_blk_create(machine->memory, machine->devices.io_loop, block, BLOCK_IO_AUTO,
				   &device);
	if (result)
		block_close(block);
	return plug(&machine->devices, result, device, config->path, err);
}

static int create_net(struct machine *machine, const struct vm_config *config, size_t index,
		      struct error *err)
{
	struct machine_devices *devices = &machine->devices;
	struct virtio_device *device = NULL;
	int result = machine_net_create(machine, config, index, &device, err);

	if (result)
		return result;
	result = plug(devices, 0, device, "virtio-net", err);
	if (!result)
		devices->net_count++;
	return result;
}

static size_t console_to_chardev(void *opaque, const uint8_t *data, size_t length)
{
	struct machine_devices *devices = opaque;

	return chardev_write(devices->console_chardev, data, length);
}

static void console_is_receivable(void *opaque)
{
	struct machine_devices *devices = opaque;

	chardev_resume_input(devices->console_chardev);
}

static size_t chardev_to_console(void *opaque, const uint8_t *data, size_t length)
{
	struct machine_devices *devices = opaque;

	return virtio_console_receive(devices->console, data, length);
}

static void console_is_writable(void *opaque)
{
	struct machine_devices *devices = opaque;

	virtio_console_host_writable(devices->console);
}

static int create_console(struct machine_devices *devices, const struct guest_memory *memory,
			  struct error *err)
{
	const struct virtio_console_host host = {
		.opaque = devices,
		.write = console_to_chardev,
		.receivable = console_is_receivable,
	};
	const struct chardev_client client = {
		.opaque = devices,
		.receive = chardev_to_console,
		.writable = console_is_writable,
	};
	struct virtio_device *device = NULL;
	uint16_t columns, rows;
	int result;

	if (!devices->console_chardev)
		return 0;
	chardev_terminal_size(devices->console_chardev, &columns, &rows);
	result = virtio_console_create(memory, devices->io_loop, &host, columns, rows, &device);
	result = plug(devices, result, device, "virtio-console", err);
	if (result)
		return result;
	devices->console = device;
	chardev_set_client(devices->console_chardev, &client);
	return 0;
}

static int create_vsock(struct machine_devices *devices, const struct guest_memory *memory,
			const struct vm_config *config, struct error *err)
{
	struct virtio_device *device = NULL;
	int result;

	if (!config->vsock_path)
		return 0;
	result = virtio_vsock_create(memory, devices->io_loop, config->vsock_path,
				     config->vsock_cid, &device, err);
	if (result)
		return result;
	result = plug(devices, 0, device, "virtio-vsock", err);
	if (!result)
		devices->vsock = device;
	return result;
}

void machine_remove_sockets(struct machine *machine)
{
	if (machine->devices.vsock)
		virtio_vsock_remove_socket(machine->devices.vsock);
}

void machine_resize_console(struct machine *machine, uint16_t columns, uint16_t rows)
{
	if (machine->devices.console)
		virtio_console_resize(machine->devices.console, columns, rows);
}

int machine_virtio_create(struct machine *machine, const struct vm_config *config,
			  struct error *err)
{
	struct machine_devices *devices = &machine->devices;
	struct virtio_device *device = NULL;
	int result;

	result = virtio_rng_create(machine->memory, devices->io_loop, &device);
	result = plug(devices, result, device, "virtio-rng", err);
	if (result)
		return result;
	result = virtio_balloon_create(machine->memory, devices->io_loop, &device);
	if (!result)
		virtio_balloon_set_listener(device, machine_on_balloon, machine);
	assert(devices->virtio_count == SLOT_BALLOON);
	result = plug(devices, result, device, "virtio-balloon", err);
	if (result)
		return result;
	for (size_t i = 0; i < config->disk_count; i++) {
		result = create_disk(machine, &config->disks[i], err);
		if (result)
			return result;
	}
	for (size_t i = 0; i < config->net_count; i++) {
		result = create_net(machine, config, i, err);
		if (result)
			return result;
	}
	result = create_console(devices, machine->memory, err);
	if (!result)
		result = create_vsock(devices, machine->memory, config, err);
	return result;
}

/* A slow disk is waited for; not one whose transfers wait for guest memory that does not come. */
static int reset_virtio(struct machine *machine, struct virtio_mmio *mmio)
{
	uint64_t start = clock_monotonic_ns();
	int result;

	do {
		result = virtio_mmio_reset(mmio, RESET_LOOK_NS);
	} while (result == -ETIMEDOUT && !atomic_load(&machine->stuck) &&
		 clock_monotonic_ns() - start < RESET_PATIENCE_NS);
	return result;
}

int machine_virtio_reset(struct machine *machine, struct error *err)
{
	struct machine_devices *devices = &machine->devices;

	for (unsigned slot = 0; slot < devices->virtio_count; slot++) {
		int result = reset_virtio(machine, devices->virtio[slot]);

		if (result)
			return error_errno(err, -result, "%s: its transfers do not end",
					   virtio_mmio_device(devices->virtio[slot])->ops->name);
	}
	return 0;
}

static int wire_virtio(struct machine *machine, unsigned slot, struct error *err)
{
	struct virtio_mmio *mmio = machine->devices.virtio[slot];
	uint64_t notify = platform_virtio_base(slot) + VIRTIO_MMIO_NOTIFY_OFFSET;
	int result;

	result = kvm_add_irqfd(&machine->kvm, virtio_mmio_irq_fd(mmio), platform_virtio_gsi(slot),
			       err);
	for (unsigned i = 0; !result && i < virtio_mmio_queue_count(mmio); i++)
		result = kvm_add_ioeventfd(&machine->kvm, virtio_mmio_queue_eventfd(mmio, i),
					   notify, i, err);
	return result;
}

int machine_virtio_wire(struct machine *machine, struct error *err)
{
	int result = 0;

	for (unsigned slot = 0; !result && slot < machine->devices.virtio_count; slot++)
		result = wire_virtio(machine, slot, err);
	return result;
}

uint32_t machine_virtio_slots(const struct machine *machine)
{
	return (uint32_t)((1ull << machine->devices.virtio_count) - 1);
}
