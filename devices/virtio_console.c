#include "devices/virtio_console.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/checked.h"

#define QUEUE_SIZE  64u
#define CHUNK       4096u
#define TURN_OUTPUT 65536u /* bytes in one turn of the event loop… */
#define TURN_CHAINS 64u    /* …and chains, for some have none */

enum {
	QUEUE_INPUT,
	QUEUE_OUTPUT,
	QUEUE_COUNT,
};

struct virtio_console {
	struct virtio_device device;
	struct virtio_console_host host;
	struct event_source *wake_source;
	int wake_fd; /* gets the I/O thread to look at the queues and the size */

	/* Guarded by device.lock. */
	bool output_held; /* output_chain is written up to output_offset */
	uint64_t output_offset;
	struct virtq_chain output_chain, input_chain;

	/* Guards the rest; never held while guest RAM is touched or the host is called. */
	pthread_mutex_t host_lock;
	uint16_t columns, rows;
	bool resized;
	bool input_refused; /* the host waits for receivable() */
	size_t input_start, input_length;
	uint8_t input[VIRTIO_CONSOLE_INPUT_MAX];
};

static struct virtio_console *to_console(struct virtio_device *device)
{
	return container_of(device, struct virtio_console, device);
}

/* Writes the rest of the held chain. False: the host takes nothing more now. */
static bool write_chain(struct virtio_console *console, size_t *written)
{
	const struct virtq_chain *chain = &console->output_chain;

	while (console->output_offset < chain->readable_bytes) {
		uint64_t left = chain->readable_bytes - console->output_offset;
		size_t length = left < CHUNK ? (size_t)left : CHUNK;
		uint8_t chunk[CHUNK];
		size_t taken;

		if (*written >= TURN_OUTPUT)
			return true; /* the caller comes back to it */
		if (virtq_chain_read(console->device.memory, chain, console->output_offset, chunk,
				     length))
			return true;
		taken = console->host.write(console->host.opaque, chunk, length);
		console->output_offset += taken;
		*written += taken;
		if (taken < length)
			return false;
	}
	virtqueue_push(&console->device.queues[QUEUE_OUTPUT], chain->head, 0);
	console->output_held = false;
	return true;
}

/* As virtqueue_pop(). */
static int hold_output(struct virtio_console *console)
{
	struct virtqueue *queue = &console->device.queues[QUEUE_OUTPUT];
	int popped;

	if (console->output_held && virtqueue_is_current(queue, console->output_chain.generation))
		return 1;
	popped = virtqueue_pop(queue, &console->output_chain);
	console->output_held = popped == 1;
	console->output_offset = 0;
	return popped;
}

static void serve_output(struct virtio_console *console)
{
	struct virtio_device *device = &console->device;
	size_t written = 0;
	unsigned chains = 0;
	bool takes = true;
	int held = 1;

	while (takes && written < TURN_OUTPUT && chains < TURN_CHAINS) {
		held = hold_output(console);
		if (held != 1)
			break;
		takes = write_chain(console, &written);
		chains++;
	}
	if (takes && held == 1) /* others want the loop too */
		virtio_device_kick_queue(device, QUEUE_OUTPUT);
	virtio_device_signal_queue(device, &device->queues[QUEUE_OUTPUT]);
	if (held < 0)
		virtio_device_needs_reset(device, "malformed output queue");
}

/* Copies up to @room bytes of waiting input, without taking them away: how many. */
static size_t peek_input(struct virtio_console *console, uint8_t *data, size_t room)
{
	size_t length;

	pthread_mutex_lock(&console->host_lock);
	length = console->input_length < room ? console->input_length : room;
	for (size_t i = 0; i < length; i++)
		data[i] = console->input[(console->input_start + i) % VIRTIO_CONSOLE_INPUT_MAX];
	pthread_mutex_unlock(&console->host_lock);
	return length;
}

/* True if the host waits to hear of the room. */
static bool take_input(struct virtio_console *console, size_t length)
{
	bool refused;

	pthread_mutex_lock(&console->host_lock);
	console->input_start = (console->input_start + length) % VIRTIO_CONSOLE_INPUT_MAX;
	console->input_length -= length;
	refused = length && console->input_refused;
	if (refused)
		console->input_refused = false;
	pthread_mutex_unlock(&console->host_lock);
	return refused;
}

/* Bounded by what can wait here. Takes no chain that it has no bytes for. */
static void serve_input(struct virtio_console *console)
{
	struct virtio_device *device = &console->device;
	struct virtqueue *queue = &device->queues[QUEUE_INPUT];
	struct virtq_chain *chain = &console->input_chain;
	uint8_t data[VIRTIO_CONSOLE_INPUT_MAX];
	size_t waiting = peek_input(console, data, sizeof(data));
	size_t given = 0;
	int popped = 1;

	for (unsigned i = 0; i < TURN_CHAINS && given < waiting; i++) {
		size_t length = waiting - given;

		popped = virtqueue_pop(queue, chain);
		if (popped != 1)
			break;
		if (length > chain->writable_bytes)
			length = (size_t)chain->writable_bytes;
		virtq_chain_write(device->memory, chain, 0, data + given, length);
		virtqueue_push(queue, chain->head, (uint32_t)length);
		given += length;
	}
	if (popped == 1 && given < waiting)
		virtio_device_kick_queue(device, QUEUE_INPUT);
	virtio_device_signal_queue(device, queue);
	if (popped < 0)
		virtio_device_needs_reset(device, "malformed input queue");
	if (take_input(console, given))
		console->host.receivable(console->host.opaque);
}

static void console_serve_queue(struct virtio_device *device, unsigned index)
{
	if (index == QUEUE_OUTPUT)
		serve_output(to_console(device));
	else
		serve_input(to_console(device));
}

/* Does on the I/O thread what other threads have asked for. */
static void on_wake(void *opaque, uint32_t events)
{
	struct virtio_console *console = opaque;
	struct virtio_device *device = &console->device;
	eventfd_t count;
	bool resized;

	(void)events;
	eventfd_read(console->wake_fd, &count);
	pthread_mutex_lock(&device->lock);
	pthread_mutex_lock(&console->host_lock);
	resized = console->resized;
	console->resized = false;
	pthread_mutex_unlock(&console->host_lock);
	if (virtio_device_is_live(device)) {
		if (resized)
			virtio_device_signal_config(device);
		if (device->queues[QUEUE_OUTPUT].ready && console->output_held)
			serve_output(console);
		if (device->queues[QUEUE_INPUT].ready)
			serve_input(console);
	}
	pthread_mutex_unlock(&device->lock);
}

static void console_read_config(struct virtio_device *device, uint32_t offset, void *data,
				unsigned size)
{
	struct virtio_console *console = to_console(device);
	struct virtio_console_config config = {.max_nr_ports = htole32(1)};

	pthread_mutex_lock(&console->host_lock);
	config.cols = htole16(console->columns);
	config.rows = htole16(console->rows);
	pthread_mutex_unlock(&console->host_lock);
	virtio_device_copy_config(&config, sizeof(config), offset, data, size);
}

/* One character, for a guest that cannot set up a queue (section 5.3.5). */
static void console_write_config(struct virtio_device *device, uint32_t offset, const void *data,
				 unsigned size)
{
	struct virtio_console *console = to_console(device);

	if (offset == offsetof(struct virtio_console_config, emerg_wr) && size > 0)
		console->host.write(console->host.opaque, data, 1);
}

/* Output that was half written is the driver's no more; input waits for the next driver. */
static int console_reset(struct virtio_device *device, uint64_t deadline)
{
	(void)deadline;
	to_console(device)->output_held = false;
	return 0;
}

static void console_destroy(struct virtio_device *device)
{
	struct virtio_console *console = to_console(device);

	event_source_remove(console->wake_source);
	close(console->wake_fd);
	pthread_mutex_destroy(&console->host_lock);
	virtio_device_fini(device);
	free(console);
}

static const struct virtio_device_ops console_ops = {
	.name = "virtio-console",
	.device_id = VIRTIO_ID_CONSOLE,
	.queue_count = QUEUE_COUNT,
	.queue_size = QUEUE_SIZE,
	.read_config = console_read_config,
	.write_config = console_write_config,
	.serve_queue = console_serve_queue,
	.reset = console_reset,
	.destroy = console_destroy,
};

size_t virtio_console_receive(struct virtio_device *device, const uint8_t *data, size_t length)
{
	struct virtio_console *console = to_console(device);
	size_t room;

	pthread_mutex_lock(&console->host_lock);
	room = VIRTIO_CONSOLE_INPUT_MAX - console->input_length;
	if (length > room)
		console->input_refused = true;
	else
		room = length;
	for (size_t i = 0; i < room; i++) {
		size_t at = console->input_start + console->input_length++;

		console->input[at % VIRTIO_CONSOLE_INPUT_MAX] = data[i];
	}
	pthread_mutex_unlock(&console->host_lock);
	if (room)
		eventfd_write(console->wake_fd, 1);
	return room;
}

void virtio_console_host_writable(struct virtio_device *device)
{
	eventfd_write(to_console(device)->wake_fd, 1);
}

void virtio_console_resize(struct virtio_device *device, uint16_t columns, uint16_t rows)
{
	struct virtio_console *console = to_console(device);
	bool resized;

	pthread_mutex_lock(&console->host_lock);
	resized = console->columns != columns || console->rows != rows;
	if (resized) {
		console->columns = columns;
		console->rows = rows;
		console->resized = true;
	}
	pthread_mutex_unlock(&console->host_lock);
	if (resized && (device->offered_features & VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE)))
		eventfd_write(console->wake_fd, 1);
}

int virtio_console_create(const struct guest_memory *memory, struct event_loop *io_loop,
			  const struct virtio_console_host *host, uint16_t columns, uint16_t rows,
			  struct virtio_device **out)
{
	struct virtio_console *console = calloc(1, sizeof(*console));
	uint64_t features = VIRTIO_FEATURE(VIRTIO_CONSOLE_F_EMERG_WRITE);
	int result;

	if (!console)
		return -ENOMEM;
	if (columns && rows)
		features |= VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE);
	console->host = *host;
	console->columns = columns;
	console->rows = rows;
	result = virtio_device_init(&console->device, &console_ops, memory, io_loop, features);
	if (result)
		goto free_console;
	pthread_mutex_init(&console->host_lock, NULL);
	console->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (console->wake_fd < 0) {
		result = -errno;
		goto fini_device;
	}
	result = event_loop_add(io_loop, console->wake_fd, EPOLLIN, on_wake, console,
				&console->wake_source);
	if (result)
		goto close_fd;
	*out = &console->device;
	return 0;

close_fd:
	close(console->wake_fd);
fini_device:
	pthread_mutex_destroy(&console->host_lock);
	virtio_device_fini(&console->device);
free_console:
	free(console);
	return result;
}
