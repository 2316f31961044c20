#include "devices/virtqueue.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>

#include "vmm/base/checked.h"

/* Byte offsets in the available and used rings (virtio 1.2, sections 2.7.6 and 2.7.8). */
#define RING_FLAGS   0u
#define RING_INDEX   2u
#define RING_ENTRIES 4u

/* A chain may describe this much (section 2.7.5). */
#define CHAIN_BYTES_MAX (1ull << 32)

/*
 * Orders all before it against all behind it, stores followed by loads included, which acquire and
 * release do not. (Gcc warns that its thread sanitizer knows no fences; it need not know this one.)
 */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif
static void full_barrier(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

static uint64_t descriptors_size(const struct virtqueue *queue)
{
	return sizeof(struct vring_desc) * (uint64_t)queue->size;
}

/* Where used_event lies in the available ring: behind its entries. */
static uint64_t used_event_offset(const struct virtqueue *queue)
{
	return RING_ENTRIES + sizeof(uint16_t) * (uint64_t)queue->size;
}

/* Where avail_event lies in the used ring: behind its entries. */
static uint64_t available_event_offset(const struct virtqueue *queue)
{
	return RING_ENTRIES + sizeof(struct vring_used_elem) * (uint64_t)queue->size;
}

void virtqueue_reset(struct virtqueue *queue)
{
	*queue = (struct virtqueue){
		.memory = queue->memory,
		.size_max = queue->size_max,
		.generation = queue->generation,
	};
}

int virtqueue_enable(struct virtqueue *queue)
{
	uint16_t size = queue->size;

	if (size == 0 || size > queue->size_max || size > VIRTQUEUE_SIZE_MAX || (size & (size - 1)))
		return -EINVAL;
	if (!is_aligned(queue->descriptors, VRING_DESC_ALIGN_SIZE) ||
	    !is_aligned(queue->available, VRING_AVAIL_ALIGN_SIZE) ||
	    !is_aligned(queue->used, VRING_USED_ALIGN_SIZE))
		return -EINVAL;
	if (!guest_memory_contains(queue->memory, queue->descriptors, descriptors_size(queue)) ||
	    !guest_memory_contains(queue->memory, queue->available,
				   used_event_offset(queue) + sizeof(uint16_t)) ||
	    !guest_memory_contains(queue->memory, queue->used,
				   available_event_offset(queue) + sizeof(uint16_t)))
		return -EINVAL;
	queue->next_available = 0;
	queue->next_used = 0;
	queue->last_signalled_used = 0;
	queue->last_signalled_valid = true;
	queue->broken = false;
	queue->generation++;
	queue->ready = true;
	return 0;
}

static int break_queue(struct virtqueue *queue)
{
	queue->broken = true;
	return -EINVAL;
}

/* Loads a ring's 16-bit field with acquire semantics. */
static int load16(const struct virtqueue *queue, gpa_t address, uint16_t *value)
{
	uint64_t loaded;

	if (guest_memory_load(queue->memory, address, sizeof(*value), &loaded))
		return -EINVAL;
	*value = (uint16_t)loaded;
	return 0;
}

/* A position in a descriptor table: the queue's own, or an indirect one. */
struct table {
	gpa_t base;
	uint32_t count;
	bool is_indirect;
};

static int read_descriptor(const struct virtqueue *queue, const struct table *table, uint32_t index,
			   struct vring_desc *descriptor)
{
	struct vring_desc raw;

	if (guest_memory_read(queue->memory, table->base + index * sizeof(raw), &raw, sizeof(raw)))
		return -EINVAL;
	descriptor->addr = le64toh(raw.addr);
	descriptor->len = le32toh(raw.len);
	descriptor->flags = le16toh(raw.flags);
	descriptor->next = le16toh(raw.next);
	return 0;
}

static int append_segment(const struct virtqueue *queue, struct virtq_chain *chain,
			  const struct vring_desc *descriptor)
{
	bool writable = descriptor->flags & VRING_DESC_F_WRITE;
	unsigned count = chain->readable + chain->writable;

	if (!writable && chain->writable > 0)
		return -EINVAL;
	if (descriptor->len == 0) /* describes nothing: its address does not matter */
		return 0;
	if (count == VIRTQ_SEGMENTS_MAX ||
	    !guest_memory_contains(queue->memory, descriptor->addr, descriptor->len))
		return -EINVAL;
	chain->segments[count] = (struct virtq_segment){descriptor->addr, descriptor->len};
	if (writable) {
		chain->writable++;
		chain->writable_bytes += descriptor->len;
	} else {
		chain->readable++;
		chain->readable_bytes += descriptor->len;
	}
	if (chain->readable_bytes + chain->writable_bytes > CHAIN_BYTES_MAX)
		return -EINVAL;
	return 0;
}

/* Turns @descriptor into the table it refers to (section 2.7.5.3). */
static int enter_indirect(const struct virtqueue *queue, const struct vring_desc *descriptor,
			  struct table *table)
{
	if (!queue->indirect || table->is_indirect || (descriptor->flags & VRING_DESC_F_NEXT))
		return -EINVAL;
	if (descriptor->len == 0 || descriptor->len % sizeof(struct vring_desc) ||
	    descriptor->len / sizeof(struct vring_desc) > VIRTQ_SEGMENTS_MAX ||
	    !guest_memory_contains(queue->memory, descriptor->addr, descriptor->len))
		return -EINVAL;
	*table = (struct table){
		.base = descriptor->addr,
		.count = (uint32_t)(descriptor->len / sizeof(struct vring_desc)),
		.is_indirect = true,
	};
	return 0;
}

/* Copies the chain that starts at chain->head. A table is left after as many steps as it is long.
 */
static int read_chain(const struct virtqueue *queue, struct virtq_chain *chain)
{
	struct table table = {.base = queue->descriptors, .count = queue->size};
	uint32_t index = chain->head;
	uint32_t steps = 0;

	for (;;) {
		struct vring_desc descriptor;

		if (index >= table.count || steps == table.count ||
		    read_descriptor(queue, &table, index, &descriptor))
			return -EINVAL;
		steps++;
		if (descriptor.flags & VRING_DESC_F_INDIRECT) {
			if (enter_indirect(queue, &descriptor, &table))
				return -EINVAL;
			index = 0;
			steps = 0;
			continue;
		}
		if (append_segment(queue, chain, &descriptor))
			return -EINVAL;
		if (!(descriptor.flags & VRING_DESC_F_NEXT))
			return 0;
		index = descriptor.next;
	}
}

/*
 * With event indices: tells the driver at which one to kick, then orders that before the next look
 * at the available index: either the driver sees the request, or that look sees what the driver
 * added. Without them every addition is kicked for.
 */
static int publish_kick_request(const struct virtqueue *queue)
{
	int result = guest_memory_store(queue->memory, queue->used + available_event_offset(queue),
					sizeof(uint16_t), queue->next_available);

	full_barrier();
	return result;
}

/*
 * How many chains wait; -EINVAL if the available index cannot be right. As every chain takes a
 * descriptor until it is given back, no more than the queue's size can be on their way; this bounds
 * the leap of the index, and what a device has in flight.
 */
static int count_available(struct virtqueue *queue)
{
	uint16_t index, waiting, outstanding;

	if (load16(queue, queue->available + RING_INDEX, &index))
		return -EINVAL;
	waiting = (uint16_t)(index - queue->next_available);
	outstanding = (uint16_t)(index - queue->next_used);
	return waiting <= queue->size && outstanding <= queue->size ? waiting : -EINVAL;
}

int virtqueue_pop(struct virtqueue *queue, struct virtq_chain *chain)
{
	gpa_t entry;
	int waiting;

	if (queue->broken)
		return -EINVAL;
	if (!queue->ready)
		return 0;
	waiting = count_available(queue);
	if (waiting == 0 && queue->event_index) {
		if (publish_kick_request(queue))
			return break_queue(queue);
		waiting = count_available(queue);
	}
	if (waiting < 0)
		return break_queue(queue);
	if (waiting == 0)
		return 0;

	chain->generation = queue->generation;
	chain->readable = chain->writable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	entry = queue->available + RING_ENTRIES +
		sizeof(uint16_t) * (uint64_t)(queue->next_available & (queue->size - 1));
	if (load16(queue, entry, &chain->head) || chain->head >= queue->size ||
	    read_chain(queue, chain))
		return break_queue(queue);
	queue->next_available++;
	return 1;
}

void virtqueue_unpop(struct virtqueue *queue, uint16_t count)
{
	assert(count <= (uint16_t)(queue->next_available - queue->next_used));
	queue->next_available = (uint16_t)(queue->next_available - count);
}

bool virtqueue_is_current(const struct virtqueue *queue, uint32_t generation)
{
	return queue->ready && queue->generation == generation;
}

static int write_used(struct virtqueue *queue, uint16_t index, const struct virtq_used *used)
{
	struct vring_used_elem element = {
		.id = htole32(used->head),
		.len = htole32(used->written),
	};
	gpa_t entry = queue->used + RING_ENTRIES +
		      sizeof(element) * (uint64_t)(index & (queue->size - 1));

	if (used->head >= queue->size)
		return -EINVAL;
	if (guest_memory_write(queue->memory, entry, &element, sizeof(element)))
		return break_queue(queue);
	return 0;
}

int virtqueue_push_many(struct virtqueue *queue, const struct virtq_used *used, uint16_t count)
{
	uint16_t index = (uint16_t)(queue->next_used + count);

	if (!queue->ready || queue->broken || count > queue->size)
		return -EINVAL;
	for (uint16_t i = 0; i < count; i++) {
		int result = write_used(queue, (uint16_t)(queue->next_used + i), &used[i]);

		if (result)
			return result;
	}
	/* The store releases: who sees the index sees the elements, and what the chains hold. */
	if (guest_memory_store(queue->memory, queue->used + RING_INDEX, sizeof(index), index))
		return break_queue(queue);
	/* Reached or passed after 65536 pushes: the distance is lost. */
	if ((uint16_t)(queue->last_signalled_used - queue->next_used - 1) < count)
		queue->last_signalled_valid = false;
	queue->next_used = index;
	return 0;
}

int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written)
{
	return virtqueue_push_many(queue, &(struct virtq_used){head, written}, 1);
}

bool virtqueue_needs_interrupt(struct virtqueue *queue)
{
	uint16_t old = queue->last_signalled_used;
	bool old_valid = queue->last_signalled_valid;
	uint16_t flags, event;

	if (!queue->ready || queue->broken || (old_valid && old == queue->next_used))
		return false;
	queue->last_signalled_used = queue->next_used;
	queue->last_signalled_valid = true;

	/*
	 * Orders the used index before the look at what the driver wants. The driver does the
	 * reverse, so that one of both sides sees the other's step.
	 */
	full_barrier();
	if (!queue->event_index) {
		if (load16(queue, queue->available + RING_FLAGS, &flags))
			return false;
		return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
	}
	if (load16(queue, queue->available + used_event_offset(queue), &event))
		return false;
	/* Was the index @event passed on the way from @old to next_used, all modulo 2^16? */
	return !old_valid ||
	       (uint16_t)(queue->next_used - event - 1) < (uint16_t)(queue->next_used - old);
}

/*
 * Calls @visit for each piece of [offset, offset + length) of the chain's segments from @first
 * (@count of them, @total bytes). 0, -EINVAL if they are too few, or what @visit said.
 */
static int for_each_piece(const struct virtq_segment *first, unsigned count, uint64_t total,
			  uint64_t offset, uint64_t length,
			  int (*visit)(void *opaque, gpa_t gpa, size_t length), void *opaque)
{
	if (!range_within(offset, length, total))
		return -EINVAL;
	for (unsigned i = 0; i < count && length > 0; i++) {
		uint64_t piece = first[i].length;

		if (offset >= piece) {
			offset -= piece;
			continue;
		}
		piece -= offset;
		if (piece > length)
			piece = length;
		int result = visit(opaque, first[i].gpa + offset, piece);

		if (result)
			return result;
		offset = 0;
		length -= piece;
	}
	return 0;
}

struct copy {
	const struct guest_memory *memory;
	uint8_t *to;
	const uint8_t *from;
};

static int read_piece(void *opaque, gpa_t gpa, size_t length)
{
	struct copy *copy = opaque;

	if (guest_memory_read(copy->memory, gpa, copy->to, length))
		return -EINVAL;
	copy->to += length;
	return 0;
}

static int write_piece(void *opaque, gpa_t gpa, size_t length)
{
	struct copy *copy = opaque;

	if (guest_memory_write(copy->memory, gpa, copy->from, length))
		return -EINVAL;
	copy->from += length;
	return 0;
}

int virtq_chain_read(const struct guest_memory *memory, const struct virtq_chain *chain,
		     uint64_t offset, void *buffer, size_t length)
{
	struct copy copy = {.memory = memory, .to = buffer};

	return for_each_piece(chain->segments, chain->readable, chain->readable_bytes, offset,
			      length, read_piece, &copy);
}

int virtq_chain_write(const struct guest_memory *memory, const struct virtq_chain *chain,
		      uint64_t offset, const void *buffer, size_t length)
{
	struct copy copy = {.memory = memory, .from = buffer};

	return for_each_piece(chain->segments + chain->readable, chain->writable,
			      chain->writable_bytes, offset, length, write_piece, &copy);
}

struct iovec_list {
	const struct guest_memory *memory;
	struct iovec *iov;
	size_t max;
	size_t count;
};

static int describe_piece(void *opaque, gpa_t gpa, size_t length)
{
	struct iovec_list *list = opaque;
	size_t used;
	int result = guest_memory_iovec(list->memory, gpa, length, list->iov + list->count,
					list->max - list->count, &used);

	if (result)
		return result == -ENOBUFS ? result : -EINVAL;
	list->count += used;
	return 0;
}

int virtq_chain_iovec(const struct guest_memory *memory, const struct virtq_chain *chain,
		      bool writable, uint64_t offset, uint64_t length, struct iovec *iov,
		      size_t max, size_t *count)
{
	struct iovec_list list = {.memory = memory, .iov = iov, .max = max};
	int result;

	if (writable)
		result = for_each_piece(chain->segments + chain->readable, chain->writable,
					chain->writable_bytes, offset, length, describe_piece,
					&list);
	else
		result = for_each_piece(chain->segments, chain->readable, chain->readable_bytes,
					offset, length, describe_piece, &list);
	if (result)
		return result;
	*count = list.count;
	return 0;
}
