#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86_64/platform_info.h"
#include "devices/i8042.h"
#include "devices/power.h"
#include "devices/pvpanic.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "devices/virtio_mmio.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/thread.h"
#include "vmm/machine/machine_internal.h"

static size_t serial_to_chardev(void *opaque, const uint8_t *data, size_t length)
{
	struct machine_devices *devices = opaque;

	return chardev_write(devices->chardev, data, length);
}

static void serial_is_receivable(void *opaque)
{
	struct machine_devices *devices = opaque;

	chardev_resume_input(devices->chardev);
}

static size_t chardev_to_serial(void *opaque, const uint8_t *data, size_t length)
{
	struct machine_devices *devices = opaque;

	return serial_receive(devices->serial, data, length);
}

static void chardev_is_writable(void *opaque)
{
	struct machine_devices *devices = opaque;

	serial_host_writable(devices->serial);
}

static int create_serial(struct machine_devices *devices, struct chardev *chardev)
{
	const struct serial_host host = {
		.opaque = devices,
		.write = serial_to_chardev,
		.receivable = serial_is_receivable,
	};
	const struct chardev_client client = {
		.opaque = devices,
		.receive = chardev_to_serial,
		.writable = chardev_is_writable,
	};
	int result;

	devices->chardev = chardev;
	result = serial_create(&host, &devices->serial);
	if (!result)
		chardev_set_client(chardev, &client);
	return result;
}

static int create_platform_devices(struct machine *machine, struct chardev *serial,
				   struct error *err)
{
	struct machine_devices *devices = &machine->devices;
	int result;

	result = create_serial(devices, serial);
	if (!result)
		result = i8042_create(machine_on_guest_reset, machine, &devices->i8042);
	if (!result)
		result = rtc_create(devices->io_loop, NULL, &devices->rtc);
	if (!result)
		result = power_create(PLATFORM_SLEEP_S5, machine_on_guest_poweroff, machine,
				      &devices->power);
	if (!result)
		result = pvpanic_create(machine_on_guest_panic, machine, &devices->pvpanic);
	if (result)
		return error_errno(err, -result, "create the platform's devices");
	return 0;
}

/* Who answers where. The addresses are those that ACPI tables and device tree tell the guest. */
static int attach_devices(struct machine_devices *devices)
{
	const struct {
		uint64_t port, ports;
		const struct bus_ops *ops;
		void *device;
		const char *name;
	} fixed[] = {
		{PLATFORM_SERIAL_PORT, PLATFORM_SERIAL_PORTS, &serial_bus_ops, devices->serial,
		 "serial"},
		{PLATFORM_I8042_DATA, 1, &i8042_data_bus_ops, devices->i8042, "i8042"},
		{PLATFORM_I8042_COMMAND, 1, &i8042_command_bus_ops, devices->i8042, "i8042"},
		{PLATFORM_RTC_PORT, PLATFORM_RTC_PORTS, &rtc_bus_ops, devices->rtc, "rtc"},
		{PLATFORM_SLEEP_CONTROL, 1, &power_control_bus_ops, devices->power, "power"},
		{PLATFORM_PVPANIC_PORT, 1, &pvpanic_bus_ops, devices->pvpanic, "pvpanic"},
		{PLATFORM_SLEEP_STATUS, 1, &power_status_bus_ops, devices->power, "power"},
	};
	int result = 0;

	for (size_t i = 0; !result && i < ARRAY_SIZE(fixed); i++)
		result = bus_attach(devices->pio, fixed[i].port, fixed[i].ports, fixed[i].ops,
				    fixed[i].device, fixed[i].name);
	for (unsigned slot = 0; !result && slot < PLATFORM_VIRTIO_SLOTS; slot++) {
		struct virtio_mmio *mmio = devices->virtio[slot];

		result = bus_attach(devices->mmio, platform_virtio_base(slot), VIRTIO_MMIO_SIZE,
				    mmio ? &virtio_mmio_bus_ops : &virtio_mmio_placeholder_bus_ops,
				    mmio, "virtio-mmio");
	}
	return result;
}

static void on_ping(void *opaque, uint32_t events)
{
	struct machine_devices *devices = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(devices->ping_fd, &count);
	eventfd_write(devices->pong_fd, 1);
}

static int create_io_loop(struct machine_devices *devices)
{
	struct event_source *source;
	int result = event_loop_create(&devices->io_loop);

	if (result)
		return result;
	devices->ping_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	devices->pong_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (devices->ping_fd < 0 || devices->pong_fd < 0)
		return -errno;
	return event_loop_add(devices->io_loop, devices->ping_fd, EPOLLIN, on_ping, devices,
			      &source);
}

int machine_devices_create(struct machine *machine, const struct vm_config *config,
			   struct chardev *serial, struct chardev *console, struct error *err)
{
	struct machine_devices *devices = &machine->devices;
	int result;

	devices->console_chardev = console;
	devices->ping_fd = devices->pong_fd = -1;
	result = bus_create(&devices->pio);
	if (!result)
		result = bus_create(&devices->mmio);
	if (!result)
		result = create_io_loop(devices);
	if (result)
		return error_errno(err, -result, "create the machine's buses");
	result = create_platform_devices(machine, serial, err);
	if (result)
		return result;
	result = machine_virtio_create(machine, config, err);
	if (result)
		return result;
	result = attach_devices(devices);
	if (result)
		return error_errno(err, -result, "attach devices to the buses");
	return 0;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void machine_devices_destroy(struct machine *machine)
{
	struct machine_devices *devices = &machine->devices;

	if (devices->serial)
		chardev_set_client(devices->chardev, NULL);
	if (devices->console)
		chardev_set_client(devices->console_chardev, NULL);
	for (unsigned slot = 0; slot < PLATFORM_VIRTIO_SLOTS; slot++)
		virtio_mmio_destroy(devices->virtio[slot]);
	pvpanic_destroy(devices->pvpanic);
	power_destroy(devices->power);
	rtc_destroy(devices->rtc);
	i8042_destroy(devices->i8042);
	serial_destroy(devices->serial);
	if (devices->io_loop) {
		event_loop_destroy(devices->io_loop);
		close_if_open(devices->ping_fd);
		close_if_open(devices->pong_fd);
	}
	bus_destroy(devices->mmio);
	bus_destroy(devices->pio);
}

int machine_devices_reset(struct machine *machine, struct error *err)
{
	struct machine_devices *devices = &machine->devices;

	int result = machine_virtio_reset(machine, err);

	if (result)
		return result;
	power_reset(devices->power);
	rtc_reset(devices->rtc);
	i8042_reset(devices->i8042);
	serial_reset(devices->serial);
	return 0;
}

int machine_devices_wire(struct machine *machine, struct error *err)
{
	const struct machine_devices *devices = &machine->devices;
	const struct {
		int fd;
		unsigned gsi;
	} lines[] = {
		{serial_irq_fd(devices->serial), PLATFORM_SERIAL_GSI},
		{i8042_irq_fd(devices->i8042), PLATFORM_I8042_GSI},
		{rtc_irq_fd(devices->rtc), PLATFORM_RTC_GSI},
		{power_irq_fd(devices->power), PLATFORM_GED_GSI},
	};
	int result = 0;

	for (size_t i = 0; !result && i < ARRAY_SIZE(lines); i++)
		result = kvm_add_irqfd(&machine->kvm, lines[i].fd, lines[i].gsi, err);
	return result ? result : machine_virtio_wire(machine, err);
}

static void *io_thread(void *opaque)
{
	struct machine *machine = opaque;
	int result = event_loop_run(machine->devices.io_loop);
	char reason[96];

	if (result) {
		snprintf(reason, sizeof(reason),
			 "its devices stopped: the I/O thread's event loop: %s",
			 strerrordesc_np(-result));
		machine_on_guest_crash(machine, reason);
	}
	return NULL;
}

int machine_io_start(struct machine *machine, struct error *err)
{
	struct machine_devices *devices = &machine->devices;
	int result = thread_start(&devices->io_thread, "io", io_thread, machine);

	if (result)
		return error_errno(err, -result, "start the I/O thread (limits: `ulimit -u`)");
	devices->io_running = true;
	return 0;
}

bool machine_io_answers(struct machine *machine)
{
	struct machine_devices *devices = &machine->devices;
	struct pollfd pong = {.fd = devices->pong_fd, .events = POLLIN};
	eventfd_t count;

	eventfd_read(devices->pong_fd, &count); /* an answer that came too late */
	eventfd_write(devices->ping_fd, 1);
	return poll(&pong, 1, 1000) == 1;
}

static bool join_unless_stuck(struct machine *machine)
{
	for (;;) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 100 * NS_PER_MS;
		if (until.tv_nsec >= (long)NS_PER_SEC) {
			until.tv_nsec -= NS_PER_SEC;
			until.tv_sec++;
		}
		if (pthread_clockjoin_np(machine->devices.io_thread, NULL, CLOCK_MONOTONIC,
					 &until) != ETIMEDOUT)
			return true;
		if (atomic_load(&machine->stuck))
			return false;
	}
}

bool machine_io_stop(struct machine *machine)
{
	if (!machine->devices.io_running)
		return true;
	event_loop_stop(machine->devices.io_loop);
	if (!join_unless_stuck(machine))
		return false;
	machine->devices.io_running = false;
	return true;
}
