#include "devices/virtio_balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"

#define QUEUE_SIZE  128u
#define QUEUE_COUNT 5u

/* Feature bits, section 5.5.3. */
#define F_STATS_VQ       1u
#define F_DEFLATE_ON_OOM 2u
#define F_PAGE_REPORTING 5u

/* Page frame numbers sorted at a time, so that neighbours are discarded together. */
#define PFN_BATCH 256u

/* In one chain. Linux sends 256, others a page full of them (1024). */
#define CHAIN_PFNS_MAX 4096u

/*
 * What one turn of the I/O loop may cost, in discards: other devices want the loop, and other
 * threads the device's lock. While swap is enabled a discard waits for the monitor.
 */
#define TURN_COST_MAX 2048u
#define CHAIN_COST    16u /* of taking a chain, whatever it asks for */
#define DISCARD_UNIT  (2ull << 20)

#define STATS_MAX_AGE_NS NS_PER_SEC

/* Section 5.5.4, without the fields of features that are not offered. */
struct balloon_config {
	uint32_t num_pages; /* what the device wants */
	uint32_t actual;    /* what the driver has given; the driver writes it */
};

/* Section 5.5.6.3. */
struct balloon_stat {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

struct virtio_balloon {
	struct virtio_device device;
	struct event_source *wake_source;
	void (*moved)(void *opaque);
	void *opaque;
	int wake_fd; /* gets the I/O thread to do what the flags below say */

	/* Guarded by device.lock. */
	bool stats_held; /* the driver's buffer waits here for the next question */
	uint16_t stats_head;
	uint32_t stats_generation; /* of the queue */
	struct virtq_chain chain;

	/*
	 * Guards the rest. Never held while guest RAM is touched, so that the functions for other
	 * threads cannot hang, not even if guest memory can no longer be provided.
	 */
	pthread_mutex_t status_lock;
	struct virtio_balloon_status status; /* target_bytes included */
	uint64_t stats_time_ns;
	bool stats_wanted;
	bool target_changed;
};

enum role {
	ROLE_INFLATE,
	ROLE_DEFLATE,
	ROLE_STATS,
	ROLE_REPORTING,
	ROLE_NONE,
};

static struct virtio_balloon *to_balloon(struct virtio_device *device)
{
	return container_of(device, struct virtio_balloon, device);
}

/*
 * The specification gives the reporting queue the number 4 whatever else exists; Linux counts only
 * the queues that it uses and arrives at 3 (2 without statistics). As free page hints are not
 * offered, no number has two meanings.
 */
static enum role queue_role(const struct virtio_device *device, unsigned index)
{
	if (index == 0)
		return ROLE_INFLATE;
	if (index == 1)
		return ROLE_DEFLATE;
	if (index == 2 && virtio_device_has_feature(device, F_STATS_VQ))
		return ROLE_STATS;
	return virtio_device_has_feature(device, F_PAGE_REPORTING) ? ROLE_REPORTING : ROLE_NONE;
}

static void count(struct virtio_balloon *balloon, uint64_t *counter, uint64_t bytes)
{
	pthread_mutex_lock(&balloon->status_lock);
	*counter += bytes;
	pthread_mutex_unlock(&balloon->status_lock);
}

static void discard(struct virtio_balloon *balloon, gpa_t gpa, uint64_t length, uint64_t *counter)
{
	static struct log_ratelimit limit;
	int result = guest_memory_discard(balloon->device.memory, gpa, length);

	if (!result)
		count(balloon, counter, length);
	else if (log_ratelimit_pass(&limit))
		log_warning("virtio-balloon: guest memory could not be discarded: %s",
			    strerrordesc_np(-result));
}

static int compare_pfns(const void *a, const void *b)
{
	uint32_t first = *(const uint32_t *)a;
	uint32_t second = *(const uint32_t *)b;

	return (first > second) - (first < second);
}

static bool is_ram(const struct virtio_balloon *balloon, uint32_t pfn)
{
	return guest_memory_contains(balloon->device.memory, (gpa_t)pfn << GUEST_PAGE_SHIFT,
				     GUEST_PAGE_SIZE);
}

/* Discards the pages at @pfns, neighbours together. */
static void discard_pages(struct virtio_balloon *balloon, uint32_t *pfns, size_t n)
{
	size_t i = 0;

	qsort(pfns, n, sizeof(*pfns), compare_pfns);
	while (i < n) {
		uint32_t first = pfns[i++];
		uint32_t last = first;

		if (!is_ram(balloon, first)) {
			if (log_ratelimit_pass(&balloon->device.guest_errors))
				log_warning("virtio-balloon: the guest gave up page %#x, which is "
					    "not in its memory",
					    first);
			continue;
		}
		while (i < n && pfns[i] - last <= 1 && is_ram(balloon, pfns[i]))
			last = pfns[i++];
		discard(balloon, (gpa_t)first << GUEST_PAGE_SHIFT,
			(uint64_t)(last - first + 1) << GUEST_PAGE_SHIFT,
			&balloon->status.inflated_bytes);
	}
}

/* Page frame numbers in the chain. */
static uint64_t count_pfns(const struct virtio_balloon *balloon)
{
	return balloon->chain.readable_bytes / sizeof(uint32_t);
}

/* What serving the chain costs, in discards; of one that is not refused. */
static uint64_t chain_cost(const struct virtio_balloon *balloon, enum role role)
{
	const struct virtq_chain *chain = &balloon->chain;

	switch (role) {
	case ROLE_INFLATE:
		return CHAIN_COST + count_pfns(balloon);
	case ROLE_REPORTING:
		return CHAIN_COST + chain->writable + chain->writable_bytes / DISCARD_UNIT;
	default:
		return CHAIN_COST;
	}
}

static bool is_too_long(const struct virtio_balloon *balloon, enum role role)
{
	return (role == ROLE_INFLATE || role == ROLE_DEFLATE) &&
	       count_pfns(balloon) > CHAIN_PFNS_MAX;
}

static void inflate(struct virtio_balloon *balloon)
{
	uint64_t rest = count_pfns(balloon);
	uint64_t offset = 0;

	while (rest > 0) {
		uint32_t pfns[PFN_BATCH];
		size_t n = rest < PFN_BATCH ? (size_t)rest : PFN_BATCH;

		if (virtq_chain_read(balloon->device.memory, &balloon->chain, offset, pfns,
				     n * sizeof(*pfns)))
			return;
		for (size_t i = 0; i < n; i++)
			pfns[i] = le32toh(pfns[i]);
		discard_pages(balloon, pfns, n);
		offset += n * sizeof(*pfns);
		rest -= n;
	}
}

/* The whole pages of each writable segment are free, until the chain is given back. */
static void report(struct virtio_balloon *balloon)
{
	const struct virtq_chain *chain = &balloon->chain;

	for (unsigned i = 0; i < chain->writable; i++) {
		const struct virtq_segment *segment = &chain->segments[chain->readable + i];
		gpa_t end = align_down(segment->gpa + segment->length, GUEST_PAGE_SIZE);
		gpa_t start;

		if (checked_align_up(segment->gpa, GUEST_PAGE_SIZE, &start) && start < end)
			discard(balloon, start, end - start, &balloon->status.reported_bytes);
	}
}

/* The newest statistics replace all earlier ones; unknown tags and odd bytes are passed over. */
static void parse_stats(struct virtio_balloon *balloon)
{
	struct balloon_stat stats[4 * VIRTIO_BALLOON_STATS];
	uint64_t n = balloon->chain.readable_bytes / sizeof(stats[0]);
	struct virtio_balloon_status *status = &balloon->status;

	n = n < ARRAY_SIZE(stats) ? n : ARRAY_SIZE(stats);
	if (virtq_chain_read(balloon->device.memory, &balloon->chain, 0, stats,
			     n * sizeof(stats[0])))
		return;
	pthread_mutex_lock(&balloon->status_lock);
	status->stats_present = 0;
	memset(status->stats, 0, sizeof(status->stats));
	for (size_t i = 0; i < n; i++) {
		uint16_t tag = le16toh(stats[i].tag);

		if (tag >= VIRTIO_BALLOON_STATS)
			continue;
		status->stats[tag] = le64toh(stats[i].value);
		status->stats_present |= 1u << tag;
	}
	status->stats_valid = status->stats_present != 0;
	balloon->stats_time_ns = clock_monotonic_ns();
	balloon->stats_wanted = false;
	pthread_mutex_unlock(&balloon->status_lock);
}

/* Gives the held buffer back, which asks the driver for new statistics. */
static void return_stats(struct virtio_balloon *balloon, struct virtqueue *queue)
{
	if (!balloon->stats_held)
		return;
	balloon->stats_held = false;
	if (virtqueue_is_current(queue, balloon->stats_generation))
		virtqueue_push(queue, balloon->stats_head, 0);
}

/* Does what the chain asks for. False: it is kept for now. */
static bool serve_chain(struct virtio_balloon *balloon, enum role role, struct virtqueue *queue)
{
	switch (role) {
	case ROLE_INFLATE:
		inflate(balloon);
		return true;
	case ROLE_DEFLATE:
		count(balloon, &balloon->status.deflated_bytes,
		      count_pfns(balloon) * GUEST_PAGE_SIZE);
		return true;
	case ROLE_STATS:
		return_stats(balloon, queue); /* a driver should have one buffer only */
		parse_stats(balloon);
		balloon->stats_held = true;
		balloon->stats_head = balloon->chain.head;
		balloon->stats_generation = balloon->chain.generation;
		return false;
	case ROLE_REPORTING:
		report(balloon);
		return true;
	case ROLE_NONE:
		break;
	}
	return true;
}

/* Takes one chain and adds what it cost. As virtqueue_pop(). */
static int serve_one(struct virtio_balloon *balloon, unsigned index, uint64_t *cost)
{
	struct virtio_device *device = &balloon->device;
	struct virtqueue *queue = &device->queues[index];
	enum role role = queue_role(device, index);
	int popped = virtqueue_pop(queue, &balloon->chain);

	if (popped < 0)
		virtio_device_needs_reset(device, "a balloon queue is malformed");
	if (popped <= 0)
		return popped;
	if (is_too_long(balloon, role)) {
		virtio_device_needs_reset(device, "more pages in one balloon request than any "
						  "driver sends");
		return -EINVAL;
	}
	*cost += chain_cost(balloon, role);
	if (serve_chain(balloon, role, queue))
		virtqueue_push(queue, balloon->chain.head, 0);
	return popped;
}

static void balloon_serve_queue(struct virtio_device *device, unsigned index)
{
	struct virtio_balloon *balloon = to_balloon(device);
	uint64_t cost = 0;
	int popped = 1;

	while (popped == 1 && cost < TURN_COST_MAX)
		popped = serve_one(balloon, index, &cost);
	if (popped == 1) /* others want the loop too */
		virtio_device_kick_queue(device, index);
	virtio_device_signal_queue(device, &device->queues[index]);
}

/* Does on the I/O thread what other threads have left to it. */
static void on_wake(void *opaque, uint32_t events)
{
	struct virtio_balloon *balloon = opaque;
	struct virtio_device *device = &balloon->device;
	bool target_changed;
	bool stats_wanted;
	eventfd_t value;

	(void)events;
	eventfd_read(balloon->wake_fd, &value);
	pthread_mutex_lock(&device->lock);
	pthread_mutex_lock(&balloon->status_lock);
	target_changed = balloon->target_changed;
	balloon->target_changed = false;
	stats_wanted = balloon->stats_wanted;
	pthread_mutex_unlock(&balloon->status_lock);
	if (target_changed && virtio_device_is_live(device))
		virtio_device_signal_config(device);
	if (stats_wanted && balloon->stats_held && virtio_device_is_live(device)) {
		return_stats(balloon, &device->queues[2]);
		virtio_device_signal_queue(device, &device->queues[2]);
	}
	pthread_mutex_unlock(&device->lock);
}

static struct balloon_config current_config(struct virtio_balloon *balloon)
{
	struct balloon_config config;

	pthread_mutex_lock(&balloon->status_lock);
	config.num_pages = htole32((uint32_t)(balloon->status.target_bytes / GUEST_PAGE_SIZE));
	config.actual = htole32((uint32_t)(balloon->status.actual_bytes / GUEST_PAGE_SIZE));
	pthread_mutex_unlock(&balloon->status_lock);
	return config;
}

static void balloon_read_config(struct virtio_device *device, uint32_t offset, void *data,
				unsigned size)
{
	struct balloon_config config = current_config(to_balloon(device));

	virtio_device_copy_config(&config, sizeof(config), offset, data, size);
}

/* The driver may write actual; what is more than RAM is a lie and cut off. */
static void balloon_write_config(struct virtio_device *device, uint32_t offset, const void *data,
				 unsigned size)
{
	struct virtio_balloon *balloon = to_balloon(device);
	struct balloon_config config = current_config(balloon);
	uint64_t ram = guest_memory_size(device->memory);
	uint64_t actual;
	bool moved;

	if (offset < offsetof(struct balloon_config, actual) ||
	    !range_within(offset, size, sizeof(config)))
		return;
	memcpy((char *)&config + offset, data, size);
	actual = (uint64_t)le32toh(config.actual) * GUEST_PAGE_SIZE;
	pthread_mutex_lock(&balloon->status_lock);
	actual = actual < ram ? actual : ram;
	moved = balloon->status.actual_bytes != actual;
	balloon->status.actual_bytes = actual;
	pthread_mutex_unlock(&balloon->status_lock);
	if (moved && balloon->moved)
		balloon->moved(balloon->opaque);
}

/* The target outlives a reset: a rebooted guest finds it when its driver starts. */
static int balloon_reset(struct virtio_device *device, uint64_t deadline)
{
	struct virtio_balloon *balloon = to_balloon(device);

	(void)deadline;
	balloon->stats_held = false;
	pthread_mutex_lock(&balloon->status_lock);
	balloon->status.actual_bytes = 0;
	balloon->status.stats_valid = false;
	balloon->status.stats_present = 0;
	balloon->stats_wanted = false;
	pthread_mutex_unlock(&balloon->status_lock);
	return 0;
}

static void balloon_destroy(struct virtio_device *device)
{
	struct virtio_balloon *balloon = to_balloon(device);

	event_source_remove(balloon->wake_source);
	close(balloon->wake_fd);
	pthread_mutex_destroy(&balloon->status_lock);
	virtio_device_fini(device);
	free(balloon);
}

static const struct virtio_device_ops balloon_ops = {
	.name = "virtio-balloon",
	.device_id = VIRTIO_ID_BALLOON,
	.queue_count = QUEUE_COUNT,
	.queue_size = QUEUE_SIZE,
	.read_config = balloon_read_config,
	.write_config = balloon_write_config,
	.serve_queue = balloon_serve_queue,
	.reset = balloon_reset,
	.destroy = balloon_destroy,
};

void virtio_balloon_set_listener(struct virtio_device *device, void (*moved)(void *opaque),
				 void *opaque)
{
	struct virtio_balloon *balloon = to_balloon(device);

	balloon->moved = moved;
	balloon->opaque = opaque;
}

int virtio_balloon_set_target(struct virtio_device *device, uint64_t bytes)
{
	struct virtio_balloon *balloon = to_balloon(device);

	if (bytes > guest_memory_size(device->memory))
		return -ERANGE;
	pthread_mutex_lock(&balloon->status_lock);
	balloon->status.target_bytes = align_down(bytes, GUEST_PAGE_SIZE);
	balloon->target_changed = true;
	pthread_mutex_unlock(&balloon->status_lock);
	eventfd_write(balloon->wake_fd, 1);
	return 0;
}

void virtio_balloon_get_status(struct virtio_device *device, struct virtio_balloon_status *status)
{
	struct virtio_balloon *balloon = to_balloon(device);
	bool ask = false;

	pthread_mutex_lock(&balloon->status_lock);
	*status = balloon->status;
	status->stats_age_ns = 0;
	if (status->stats_valid) {
		status->stats_age_ns = clock_monotonic_ns() - balloon->stats_time_ns;
		ask = status->stats_age_ns > STATS_MAX_AGE_NS && !balloon->stats_wanted;
		balloon->stats_wanted |= ask;
	}
	pthread_mutex_unlock(&balloon->status_lock);
	if (ask)
		eventfd_write(balloon->wake_fd, 1);
}

int virtio_balloon_create(const struct guest_memory *memory, struct event_loop *io_loop,
			  struct virtio_device **out)
{
	struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
	int result;

	if (!balloon)
		return -ENOMEM;
	result = virtio_device_init(&balloon->device, &balloon_ops, memory, io_loop,
				    VIRTIO_FEATURE(F_STATS_VQ) | VIRTIO_FEATURE(F_DEFLATE_ON_OOM) |
					    VIRTIO_FEATURE(F_PAGE_REPORTING));
	if (result)
		goto free_balloon;
	pthread_mutex_init(&balloon->status_lock, NULL);
	balloon->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (balloon->wake_fd < 0) {
		result = -errno;
		goto fini_device;
	}
	result = event_loop_add(io_loop, balloon->wake_fd, EPOLLIN, on_wake, balloon,
				&balloon->wake_source);
	if (result)
		goto close_fd;
	*out = &balloon->device;
	return 0;

close_fd:
	close(balloon->wake_fd);
fini_device:
	pthread_mutex_destroy(&balloon->status_lock);
	virtio_device_fini(&balloon->device);
free_balloon:
	free(balloon);
	return result;
}
