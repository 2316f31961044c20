#include "console.h"

#include "runtime.h"
#include "virtio.h"

#define QUEUE_INPUT  0
#define QUEUE_OUTPUT 1
#define FEATURE_SIZE 0
#define CHUNK        4096
#define LETTERS      26

static struct virtio device;
static bool present;
static uint8_t input[CHUNK], output[CHUNK];

static unsigned queue_count(uint64_t features)
{
	(void)features;
	return 2;
}

const char *console_start(uint64_t base)
{
	const char *problem = virtio_start(&device, base, 1ull << FEATURE_SIZE, queue_count);

	present = !problem;
	return problem;
}

static const char *write(uint64_t length)
{
	device.queues[QUEUE_OUTPUT]->desc[0] =
		(struct virtq_desc){(uint64_t)output, (uint32_t)length, 0, 0};
	return virtio_request(&device, QUEUE_OUTPUT, 1, NULL);
}

static const char *read(uint64_t wanted, uint32_t *length)
{
	device.queues[QUEUE_INPUT]->desc[0] = (struct virtq_desc){
		(uint64_t)input, (uint32_t)(wanted < CHUNK ? wanted : CHUNK), VIRTQ_DESC_WRITE, 0};
	return virtio_request(&device, QUEUE_INPUT, 1, length);
}

static void answer(const char *problem)
{
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("");
}

void console_command_info(const uint64_t *arguments)
{
	uint32_t size = present ? mmio_read32(device.base + VIRTIO_CONFIG) : 0;

	(void)arguments;
	answer_ok("present=%u size=%u columns=%u rows=%u", (uint64_t)present,
		  (uint64_t)(present && virtio_has(&device, FEATURE_SIZE)),
		  (uint64_t)(size & 0xffff), (uint64_t)(size >> 16));
}

void console_command_write(const uint64_t *arguments)
{
	const char *problem = present ? NULL : "no console";
	uint64_t done = 0;

	while (!problem && done < arguments[0]) {
		uint64_t part = arguments[0] - done < CHUNK ? arguments[0] - done : CHUNK;

		for (uint64_t i = 0; i < part; i++)
			output[i] = (uint8_t)('a' + (done + i) % LETTERS);
		problem = write(part);
		done += part;
	}
	answer(problem);
}

void console_command_echo(const uint64_t *arguments)
{
	const char *problem = present ? NULL : "no console";
	uint64_t done = 0;

	while (!problem && done < arguments[0]) {
		uint32_t length;

		problem = read(arguments[0] - done, &length);
		if (problem)
			break;
		memcpy(output, input, length);
		problem = write(length);
		done += length;
	}
	answer(problem);
}
