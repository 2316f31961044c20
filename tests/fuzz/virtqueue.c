/* Rings in any state: pop, read, write, push. What is popped has to be what the contract says. */
#include "devices/virtqueue.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"
#include "vmm/base/log.h"

#define RAM_BYTES 0x10000u
#define POPS_MAX  64

static void use_chain(const struct guest_memory *memory, const struct virtq_chain *chain,
		      struct fuzz_input *input)
{
	uint64_t offset = fuzz_u16(input);
	size_t length = fuzz_u8(input);
	struct iovec iov[16];
	uint8_t bytes[256];
	size_t count;

	if (chain->readable + chain->writable > VIRTQ_SEGMENTS_MAX)
		abort();
	for (unsigned i = 0; i < (unsigned)chain->readable + chain->writable; i++) {
		const struct virtq_segment *segment = &chain->segments[i];

		if (!guest_memory_contains(memory, segment->gpa, segment->length))
			abort();
	}
	if (!virtq_chain_read(memory, chain, offset, bytes, length) &&
	    offset + length > chain->readable_bytes)
		abort();
	if (!virtq_chain_write(memory, chain, offset, bytes, length) &&
	    offset + length > chain->writable_bytes)
		abort();
	virtq_chain_iovec(memory, chain, fuzz_u8(input) & 1, offset, length, iov, 16, &count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtq_chain chain;
	const struct guest_memory_region region = {.size = RAM_BYTES};
	struct fuzz_input input = {data, size};
	struct guest_memory *memory;
	struct virtqueue queue = {
		.size_max = VIRTQUEUE_SIZE_MAX,
		.size = fuzz_u16(&input),
		.event_index = fuzz_u8(&input) & 1,
		.indirect = fuzz_u8(&input) & 1,
		.descriptors = fuzz_u16(&input),
		.available = fuzz_u16(&input),
		.used = fuzz_u16(&input),
	};

	log_set_level(LOG_LEVEL_ERROR);
	if (guest_memory_create(&region, 1, &memory, NULL))
		abort();
	queue.memory = memory;
	guest_memory_write(memory, 0, input.data, input.left < RAM_BYTES ? input.left : RAM_BYTES);
	if (!virtqueue_enable(&queue)) {
		for (unsigned i = 0; i < POPS_MAX && virtqueue_pop(&queue, &chain) == 1; i++) {
			use_chain(memory, &chain, &input);
			virtqueue_push(&queue, chain.head, fuzz_u32(&input));
			virtqueue_needs_interrupt(&queue);
		}
	}
	guest_memory_destroy(memory);
	return 0;
}
