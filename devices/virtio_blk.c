#include "devices/virtio_blk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/deadline.h"
#include "memory/io_gate.h"
#include "vmm/base/checked.h"

#define QUEUE_SIZE VIRTQUEUE_SIZE_MAX

/* A chain is a header, data segments and a status byte. */
#define SEGMENTS_MAX (VIRTQ_SEGMENTS_MAX - 2)

/* A segment that spans two regions of RAM needs two. */
#define IOVECS_MAX (VIRTQ_SEGMENTS_MAX + GUEST_MEMORY_REGIONS_MAX)

/* Sectors of a range of a discard or write-zeroes: 64 MiB, which any host can soon fill with zeros */
#define RANGE_SECTORS_MAX (1u << 17)

/* Ranges in one request; they are done one after the other. */
#define RANGES_MAX 32u

/* Discards of whole host pages free space; smaller ones only write zeros. */
#define DISCARD_SECTORS (4096u / BLOCK_SECTOR_SIZE)

struct blk_request {
	struct block_request io;
	struct virtio_blk *blk;
	struct blk_request *next_free;
	bool in_gate;        /* counted by the I/O gate */
	uint32_t generation; /* of the queue */
	uint16_t head;
	gpa_t status_gpa;
	uint64_t data_room; /* writable bytes before the status byte */
	uint64_t data_written;
	unsigned next_range; /* of ranges[], when the running one is done */
	unsigned ranges_left;
	union {
		struct iovec iov[IOVECS_MAX];
		struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	};
};

struct virtio_blk {
	struct virtio_device device;
	struct block *block;
	struct block_io *io;
	struct event_source *completion_source;
	struct event_source *gate_source;
	int gate_fd; /* fires when the I/O gate opens */
	struct virtio_blk_config config;

	/* The rest is guarded by device.lock. */
	bool draining; /* a reset is waiting: nothing is started, only it touches io */
	pthread_cond_t drained;
	bool pushed; /* since the driver was last signalled */
	struct blk_request *free;
	unsigned unused; /* requests from this index on have never been used nor touched */
	struct virtq_chain chain;
	struct blk_request requests[QUEUE_SIZE];
};

enum outcome {
	TOOK,    /* a chain was taken from the queue */
	EMPTY,   /* there is none */
	STALLED, /* none can be taken now; a callback comes back to it */
};

/* Returned where a VIRTIO_BLK_S_* status would be, for requests that complete later. */
#define PENDING 0xffu

static struct virtio_blk *to_blk(struct virtio_device *device)
{
	return container_of(device, struct virtio_blk, device);
}

static struct blk_request *get_request(struct virtio_blk *blk)
{
	struct blk_request *request = blk->free;

	if (request)
		blk->free = request->next_free;
	else if (blk->unused < QUEUE_SIZE)
		request = &blk->requests[blk->unused++];
	return request;
}

static void put_request(struct virtio_blk *blk, struct blk_request *request)
{
	request->next_free = blk->free;
	blk->free = request;
}

/* What the used ring may claim: bytes written without a gap from the first one. */
static uint32_t written_length(const struct blk_request *request)
{
	uint64_t written = request->data_written;

	if (written == request->data_room)
		written++; /* the status byte follows at once */
	return written < UINT32_MAX ? (uint32_t)written : UINT32_MAX;
}

static void leave_gate(struct virtio_blk *blk, struct blk_request *request)
{
	if (request->in_gate)
		io_gate_end(guest_memory_io_gate(blk->device.memory));
	request->in_gate = false;
}

/* The driver still waits for it. */
static bool is_wanted(const struct virtio_blk *blk, const struct blk_request *request)
{
	return !blk->draining && virtio_device_is_live(&blk->device) &&
	       virtqueue_is_current(&blk->device.queues[0], request->generation);
}

/* Ends a request: status byte, used ring, gate. */
static void complete(struct virtio_blk *blk, struct blk_request *request, uint8_t status)
{
	struct virtio_device *device = &blk->device;

	if (is_wanted(blk, request)) {
		guest_memory_write(device->memory, request->status_gpa, &status, sizeof(status));
		virtqueue_push(&device->queues[0], request->head, written_length(request));
		blk->pushed = true;
	}
	leave_gate(blk, request);
	put_request(blk, request);
}

/* Goes on to the next range of a discard or write-zeroes that is not empty. False: there is none. */
static bool take_range(struct blk_request *request)
{
	while (request->ranges_left > 0) {
		const struct virtio_blk_discard_write_zeroes *range =
			&request->ranges[request->next_range++];

		request->ranges_left--;
		request->io.offset = le64toh(range->sector) * BLOCK_SECTOR_SIZE;
		request->io.length = (uint64_t)le32toh(range->num_sectors) * BLOCK_SECTOR_SIZE;
		request->io.may_unmap = le32toh(range->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		if (request->io.length > 0)
			return true;
	}
	return false;
}

static void io_done(struct block_request *io, int result)
{
	static const char *const names[] = {
		[BLOCK_OP_READ] = "read",
		[BLOCK_OP_WRITE] = "write",
		[BLOCK_OP_FLUSH] = "flush",
		[BLOCK_OP_DISCARD] = "discard",
		[BLOCK_OP_WRITE_ZEROES] = "write zeroes",
	};
	static struct log_ratelimit limit;
	struct blk_request *request = container_of(io, struct blk_request, io);
	struct virtio_blk *blk = request->blk;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (!result && is_wanted(blk, request) && take_range(request)) {
		block_io_submit(blk->io, io);
		block_io_kick(blk->io);
		return;
	}
	if (result == -EOPNOTSUPP)
		status = VIRTIO_BLK_S_UNSUPP;
	else if (result)
		status = VIRTIO_BLK_S_IOERR;
	/* Cancelled is what a reset or the end has abandoned. */
	if (status == VIRTIO_BLK_S_IOERR && result != -ECANCELED && log_ratelimit_pass(&limit))
		log_warning("disk %s: %s at byte %llu: %s", block_path(blk->block), names[io->op],
			    (unsigned long long)io->offset, strerrordesc_np(-result));
	if (status == VIRTIO_BLK_S_OK && io->op == BLOCK_OP_READ)
		request->data_written = request->data_room;
	blk->device.in_flight--;
	complete(blk, request, status);
}

static uint8_t submit(struct virtio_blk *blk, struct blk_request *request)
{
	request->io.done = io_done;
	/* Only transfers pin guest memory; the others may take long, and swap need not wait. */
	if (request->io.op != BLOCK_OP_READ && request->io.op != BLOCK_OP_WRITE)
		leave_gate(blk, request);
	blk->device.in_flight++;
	block_io_submit(blk->io, &request->io);
	return PENDING;
}

/* Sets the request's range if it lies on the disk. */
static bool set_range(struct virtio_blk *blk, struct blk_request *request, uint64_t sector,
		      uint64_t bytes)
{
	request->io.length = bytes;
	return checked_mul(sector, BLOCK_SECTOR_SIZE, &request->io.offset) &&
	       is_aligned(bytes, BLOCK_SECTOR_SIZE) &&
	       range_within(request->io.offset, bytes, block_size(blk->block));
}

static uint8_t start_transfer(struct virtio_blk *blk, struct blk_request *request, uint64_t sector,
			      bool write)
{
	const struct virtq_chain *chain = &blk->chain;
	uint64_t skip = write ? sizeof(struct virtio_blk_outhdr) : 0;
	uint64_t bytes = write ? chain->readable_bytes - skip : request->data_room;

	if (write && block_is_read_only(blk->block))
		return VIRTIO_BLK_S_IOERR;
	if (!set_range(blk, request, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	if (bytes == 0)
		return VIRTIO_BLK_S_OK;
	if (virtq_chain_iovec(blk->device.memory, chain, !write, skip, bytes, request->iov,
			      IOVECS_MAX, &request->io.iov_count))
		return VIRTIO_BLK_S_IOERR;
	request->io.op = write ? BLOCK_OP_WRITE : BLOCK_OP_READ;
	request->io.iov = request->iov;
	request->io.durable = !virtio_device_has_feature(&blk->device, VIRTIO_BLK_F_FLUSH);
	return submit(blk, request);
}

static uint8_t start_flush(struct virtio_blk *blk, struct blk_request *request)
{
	request->io.op = BLOCK_OP_FLUSH;
	request->io.offset = 0;
	request->io.length = 0;
	return submit(blk, request);
}

/* Reads the ranges of a discard or write-zeroes. All are judged before the first one is done. */
static uint8_t read_ranges(struct virtio_blk *blk, struct blk_request *request, bool discard)
{
	const uint32_t allowed = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	const struct virtq_chain *chain = &blk->chain;
	uint64_t bytes = chain->readable_bytes - sizeof(struct virtio_blk_outhdr);
	uint64_t count = bytes / sizeof(request->ranges[0]);

	if (bytes % sizeof(request->ranges[0]) || count < 1 || count > RANGES_MAX ||
	    virtq_chain_read(blk->device.memory, chain, sizeof(struct virtio_blk_outhdr),
			     request->ranges, bytes))
		return VIRTIO_BLK_S_IOERR;
	for (uint64_t i = 0; i < count; i++) {
		uint32_t sectors = le32toh(request->ranges[i].num_sectors);

		if (le32toh(request->ranges[i].flags) & ~allowed)
			return VIRTIO_BLK_S_UNSUPP;
		if (sectors > RANGE_SECTORS_MAX ||
		    !set_range(blk, request, le64toh(request->ranges[i].sector),
			       (uint64_t)sectors * BLOCK_SECTOR_SIZE))
			return VIRTIO_BLK_S_IOERR;
	}
	request->next_range = 0;
	request->ranges_left = (unsigned)count;
	return VIRTIO_BLK_S_OK;
}

static uint8_t start_ranges(struct virtio_blk *blk, struct blk_request *request, bool discard)
{
	uint8_t status;

	if (!virtio_device_has_feature(&blk->device,
				       discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	status = read_ranges(blk, request, discard);
	if (status != VIRTIO_BLK_S_OK || !take_range(request))
		return status;
	request->io.op = discard ? BLOCK_OP_DISCARD : BLOCK_OP_WRITE_ZEROES;
	request->io.durable = !virtio_device_has_feature(&blk->device, VIRTIO_BLK_F_FLUSH);
	return submit(blk, request);
}

static uint8_t get_id(struct virtio_blk *blk, struct blk_request *request)
{
	char id[VIRTIO_BLK_ID_BYTES] = {0};
	size_t length = request->data_room < sizeof(id) ? request->data_room : sizeof(id);

	memcpy(id, block_id(blk->block), strnlen(block_id(blk->block), sizeof(id)));
	if (virtq_chain_write(blk->device.memory, &blk->chain, 0, id, length))
		return VIRTIO_BLK_S_IOERR;
	request->data_written = length;
	return VIRTIO_BLK_S_OK;
}

/* Returns the request's status, or PENDING. */
static uint8_t start(struct virtio_blk *blk, struct blk_request *request,
		     const struct virtio_blk_outhdr *header)
{
	switch (le32toh(header->type)) {
	case VIRTIO_BLK_T_IN:
		return start_transfer(blk, request, le64toh(header->sector), false);
	case VIRTIO_BLK_T_OUT:
		return start_transfer(blk, request, le64toh(header->sector), true);
	case VIRTIO_BLK_T_FLUSH:
		return start_flush(blk, request);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(blk, request);
	case VIRTIO_BLK_T_DISCARD:
		return start_ranges(blk, request, true);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return start_ranges(blk, request, false);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* Where the chain's last writable byte is; there is at least one, and no segment is empty. */
static gpa_t last_writable_byte(const struct virtq_chain *chain)
{
	const struct virtq_segment *last = &chain->segments[chain->readable + chain->writable - 1];

	return last->gpa + last->length - 1;
}

/* Serves the chain in blk->chain. False: the driver broke the protocol. */
static bool serve_chain(struct virtio_blk *blk, struct blk_request *request)
{
	const struct virtq_chain *chain = &blk->chain;
	struct virtio_blk_outhdr header;
	uint8_t status;

	if (chain->writable_bytes < 1 ||
	    virtq_chain_read(blk->device.memory, chain, 0, &header, sizeof(header))) {
		virtio_device_needs_reset(&blk->device,
					  "a request has no room for its header or status");
		return false;
	}
	request->blk = blk;
	request->generation = chain->generation;
	request->head = chain->head;
	request->status_gpa = last_writable_byte(chain);
	request->data_room = chain->writable_bytes - 1;
	request->data_written = 0;
	request->ranges_left = 0;
	request->in_gate = true;
	status = start(blk, request, &header);
	if (status != PENDING)
		complete(blk, request, status);
	return true;
}

static enum outcome take_one(struct virtio_blk *blk)
{
	struct virtio_device *device = &blk->device;
	struct io_gate *gate = guest_memory_io_gate(device->memory);
	struct blk_request *request = get_request(blk);
	enum outcome outcome = EMPTY;
	int popped;

	if (!request)
		return STALLED; /* until a completion */
	if (!io_gate_begin(gate)) {
		put_request(blk, request);
		return STALLED; /* until gate_fd fires */
	}
	popped = virtqueue_pop(&device->queues[0], &blk->chain);
	if (popped == 1 && serve_chain(blk, request))
		return TOOK;
	if (popped < 0)
		virtio_device_needs_reset(device, "the request queue is malformed");
	if (popped != 0)
		outcome = STALLED; /* until a reset */
	io_gate_end(gate);
	put_request(blk, request);
	return outcome;
}

/* Takes what waits in the queue, and tells the driver what is done. */
static void serve(struct virtio_blk *blk)
{
	struct virtqueue *queue = &blk->device.queues[0];
	enum outcome outcome = TOOK;

	if (blk->draining || !virtio_device_is_live(&blk->device) || !queue->ready)
		return;
	for (unsigned taken = 0; taken < QUEUE_SIZE && outcome == TOOK; taken++)
		outcome = take_one(blk);
	if (outcome == TOOK) /* others want the loop too */
		virtio_device_kick_queue(&blk->device, 0);
	block_io_kick(blk->io);
	if (blk->pushed) {
		blk->pushed = false;
		virtio_device_signal_queue(&blk->device, queue);
	}
}

static void blk_serve_queue(struct virtio_device *device, unsigned index)
{
	(void)index;
	serve(to_blk(device));
}

static void on_completions(void *opaque, uint32_t events)
{
	struct virtio_blk *blk = opaque;

	(void)events;
	pthread_mutex_lock(&blk->device.lock);
	if (!blk->draining) {
		block_io_reap(blk->io);
		serve(blk);
	} else {
		eventfd_t value; /* the drain looks for itself */

		eventfd_read(block_io_event_fd(blk->io), &value);
	}
	pthread_mutex_unlock(&blk->device.lock);
}

static void on_gate_open(void *opaque, uint32_t events)
{
	struct virtio_blk *blk = opaque;
	eventfd_t value;

	(void)events;
	eventfd_read(blk->gate_fd, &value);
	pthread_mutex_lock(&blk->device.lock);
	serve(blk);
	pthread_mutex_unlock(&blk->device.lock);
}

/*
 * Abandons all requests and waits for their end, finding completions by itself: so it works on the
 * I/O thread, on any other, and when the loop does not run. The lock is dropped meanwhile, draining
 * keeps others away. 0, or -ETIMEDOUT: then they stay abandoned, until a later drain succeeds.
 */
static int drain(struct virtio_blk *blk, uint64_t deadline)
{
	const struct timespec until = deadline_timespec(deadline);
	pthread_mutex_t *lock = &blk->device.lock;
	int result = 0;

	while (blk->draining && !result)
		result = -pthread_cond_clockwait(&blk->drained, lock, CLOCK_MONOTONIC, &until);
	if (result)
		return result;
	blk->draining = true;
	block_io_abandon(blk->io, true);
	while (blk->device.in_flight > 0 && !result) {
		pthread_mutex_unlock(lock);
		result = block_io_wait(blk->io, deadline);
		pthread_mutex_lock(lock);
		block_io_reap(blk->io);
	}
	if (blk->device.in_flight == 0) {
		block_io_abandon(blk->io, false);
		result = 0;
	}
	blk->pushed = false;
	blk->draining = false;
	pthread_cond_broadcast(&blk->drained);
	return result;
}

static int blk_reset(struct virtio_device *device, uint64_t deadline)
{
	return drain(to_blk(device), deadline);
}

static void blk_read_config(struct virtio_device *device, uint32_t offset, void *data,
			    unsigned size)
{
	struct virtio_blk *blk = to_blk(device);

	virtio_device_copy_config(&blk->config, sizeof(blk->config), offset, data, size);
}

static void blk_destroy(struct virtio_device *device)
{
	struct virtio_blk *blk = to_blk(device);

	pthread_mutex_lock(&device->lock);
	drain(blk, DEADLINE_NEVER);
	pthread_mutex_unlock(&device->lock);
	event_source_remove(blk->gate_source);
	event_source_remove(blk->completion_source);
	io_gate_remove_waiter(guest_memory_io_gate(device->memory), blk->gate_fd);
	close(blk->gate_fd);
	block_io_destroy(blk->io);
	block_close(blk->block);
	pthread_cond_destroy(&blk->drained);
	virtio_device_fini(device);
	free(blk);
}

static const struct virtio_device_ops blk_ops = {
	.name = "virtio-blk",
	.device_id = VIRTIO_ID_BLOCK,
	.queue_count = 1,
	.queue_size = QUEUE_SIZE,
	.read_config = blk_read_config,
	.serve_queue = blk_serve_queue,
	.reset = blk_reset,
	.destroy = blk_destroy,
};

static uint64_t offered_features(const struct block *block)
{
	uint64_t features = VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
			    VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) |
			    VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH);

	if (block_is_read_only(block))
		return features | VIRTIO_FEATURE(VIRTIO_BLK_F_RO);
	return features | VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) |
	       VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
}

static void fill_config(struct virtio_blk_config *config, const struct block *block)
{
	config->capacity = htole64(block_size(block) / BLOCK_SECTOR_SIZE);
	config->seg_max = htole32(SEGMENTS_MAX);
	config->blk_size = htole32(BLOCK_SECTOR_SIZE);
	if (block_is_read_only(block))
		return;
	config->max_discard_sectors = htole32(RANGE_SECTORS_MAX);
	config->max_discard_seg = htole32(RANGES_MAX);
	config->discard_sector_alignment = htole32(DISCARD_SECTORS);
	config->max_write_zeroes_sectors = htole32(RANGE_SECTORS_MAX);
	config->max_write_zeroes_seg = htole32(RANGES_MAX);
	config->write_zeroes_may_unmap = 1;
}

/* The eventfd through which the gate calls, and the two callbacks. */
static int connect_events(struct virtio_blk *blk)
{
	struct event_loop *loop = blk->device.io_loop;
	struct io_gate *gate = guest_memory_io_gate(blk->device.memory);
	int result;

	blk->gate_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (blk->gate_fd < 0)
		return -errno;
	result = io_gate_add_waiter(gate, blk->gate_fd);
	if (result)
		goto close_fd;
	result = event_loop_add(loop, blk->gate_fd, EPOLLIN, on_gate_open, blk, &blk->gate_source);
	if (result)
		goto remove_waiter;
	result = event_loop_add(loop, block_io_event_fd(blk->io), EPOLLIN, on_completions, blk,
				&blk->completion_source);
	if (result)
		goto remove_source;
	return 0;

remove_source:
	event_source_remove(blk->gate_source);
remove_waiter:
	io_gate_remove_waiter(gate, blk->gate_fd);
close_fd:
	close(blk->gate_fd);
	return result;
}

int virtio_blk_create(const struct guest_memory *memory, struct event_loop *io_loop,
		      struct block *block, enum block_io_kind kind, struct virtio_device **out)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	int result;

	if (!blk)
		return -ENOMEM;
	result = virtio_device_init(&blk->device, &blk_ops, memory, io_loop,
				    offered_features(block));
	if (result)
		goto free_blk;
	pthread_cond_init(&blk->drained, NULL);
	blk->block = block;
	fill_config(&blk->config, block);
	result = block_io_create(block, kind, QUEUE_SIZE, &blk->io);
	if (result)
		goto fini_device;
	result = connect_events(blk);
	if (result)
		goto destroy_io;
	*out = &blk->device;
	return 0;

destroy_io:
	block_io_destroy(blk->io);
fini_device:
	pthread_cond_destroy(&blk->drained);
	virtio_device_fini(&blk->device);
free_blk:
	free(blk);
	return result;
}
