#include "balloon.h"

#include "memory.h"
#include "runtime.h"
#include "virtio.h"

#define FEATURE_MUST_TELL_HOST 0
#define FEATURE_STATS          1
#define FEATURE_DEFLATE_ON_OOM 2
#define FEATURE_REPORTING      5

#define CONFIG_NUM_PAGES 0x00
#define CONFIG_ACTUAL    0x04

#define QUEUE_INFLATE 0
#define QUEUE_DEFLATE 1
#define QUEUE_STATS   2

#define STAT_FREE  4
#define STAT_TOTAL 5

/* Pages in the balloon that this driver can keep track of. */
#define BALLOON_PAGES_MAX (512 * 1024)
#define BATCH             256

struct balloon_stat {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

static struct virtio device;
static uint32_t inside[BALLOON_PAGES_MAX];
static uint32_t inside_count;
static uint32_t batch[BATCH];
static struct balloon_stat stats[2];
static bool stats_pending; /* the host has the buffer */

/* Queues of features that were not negotiated do not exist, and those behind them move up. */
static unsigned queue_count(uint64_t features)
{
	return 2 + (features >> FEATURE_STATS & 1) + (features >> FEATURE_REPORTING & 1);
}

const char *balloon_start(uint64_t base)
{
	return virtio_start(&device, base,
			    1 << FEATURE_MUST_TELL_HOST | 1 << FEATURE_STATS |
				    1 << FEATURE_DEFLATE_ON_OOM | 1 << FEATURE_REPORTING,
			    queue_count);
}

static bool check_present(void)
{
	if (!device.base)
		answer_fail("no balloon");
	return device.base;
}

static void tell_actual(void)
{
	mmio_write32(device.base + VIRTIO_CONFIG + CONFIG_ACTUAL, inside_count);
}

static const char *send_batch(unsigned queue, uint32_t count)
{
	struct virtq *q = device.queues[queue];

	q->desc[0] = (struct virtq_desc){(uint64_t)batch, count * 4, 0, 0};
	return virtio_request(&device, queue, 1, NULL);
}

/* The number of pages that went in; *problem says why it is less than @pages. */
static uint64_t inflate(uint64_t pages, const char **problem)
{
	uint64_t done = 0;

	*problem = NULL;
	while (done < pages && !*problem) {
		uint32_t count = 0;

		while (count < BATCH && done + count < pages &&
		       inside_count + count < BALLOON_PAGES_MAX) {
			uint64_t frame = memory_give();

			if (frame == UINT64_MAX)
				break;
			batch[count] = (uint32_t)frame;
			inside[inside_count + count] = (uint32_t)frame;
			count++;
		}
		if (!count) {
			*problem = "no more pages";
			break;
		}
		*problem = send_batch(QUEUE_INFLATE, count);
		inside_count += count;
		done += count;
	}
	tell_actual();
	return done;
}

static uint64_t deflate(uint64_t pages, const char **problem)
{
	uint64_t done = 0;

	*problem = NULL;
	while (done < pages && !*problem) {
		uint32_t count = 0;

		while (count < BATCH && done + count < pages && count < inside_count) {
			batch[count] = inside[inside_count - 1 - count];
			count++;
		}
		if (!count) {
			*problem = "the balloon is empty";
			break;
		}
		*problem = send_batch(QUEUE_DEFLATE, count);
		for (uint32_t i = 0; i < count; i++)
			memory_take_back(batch[i]);
		inside_count -= count;
		done += count;
	}
	tell_actual();
	return done;
}

static void answer_moved(uint64_t pages, const char *problem)
{
	if (problem)
		answer_fail("pages=%u: %s", pages, problem);
	else
		answer_ok("pages=%u inside=%u", pages, (uint64_t)inside_count);
}

void balloon_command_info(void)
{
	if (!check_present())
		return;
	answer_ok("inside=%u target=%u features=%x status=%x", (uint64_t)inside_count,
		  (uint64_t)mmio_read32(device.base + VIRTIO_CONFIG + CONFIG_NUM_PAGES),
		  device.features, (uint64_t)virtio_status(&device));
}

void balloon_command_inflate(uint64_t pages)
{
	const char *problem;
	uint64_t done;

	if (!check_present())
		return;
	done = inflate(pages, &problem);
	answer_moved(done, problem);
}

void balloon_command_deflate(uint64_t pages)
{
	const char *problem;
	uint64_t done;

	if (!check_present())
		return;
	done = deflate(pages, &problem);
	answer_moved(done, problem);
}

void balloon_command_follow(void)
{
	uint32_t target;

	if (!check_present())
		return;
	target = mmio_read32(device.base + VIRTIO_CONFIG + CONFIG_NUM_PAGES);
	if (target > inside_count)
		balloon_command_inflate(target - inside_count);
	else
		balloon_command_deflate(inside_count - target);
}

void balloon_command_stats(void)
{
	struct virtq *queue;

	if (!check_present())
		return;
	if (!virtio_has(&device, FEATURE_STATS)) {
		answer_fail("the balloon has no statistics queue");
		return;
	}
	if (stats_pending && !virtio_is_done(&device, QUEUE_STATS, NULL)) {
		answer_ok("pending=1");
		return;
	}
	queue = device.queues[QUEUE_STATS];
	stats[0] =
		(struct balloon_stat){STAT_FREE, (memory_free_pages() - inside_count) * PAGE_SIZE};
	stats[1] = (struct balloon_stat){STAT_TOTAL, memory_free_pages() * PAGE_SIZE};
	queue->desc[0] = (struct virtq_desc){(uint64_t)stats, sizeof(stats), 0, 0};
	virtio_submit(&device, QUEUE_STATS, 1);
	stats_pending = true;
	answer_ok("pending=0 free=%u total=%u", stats[0].value, stats[1].value);
}

void balloon_command_report(uint64_t count, uint64_t pages, uint64_t step)
{
	unsigned queue = queue_count(device.features) - 1;
	uint64_t frame = UINT64_MAX, below = UINT64_MAX, done = 0;
	const char *problem = NULL;

	if (!check_present())
		return;
	if (!virtio_has(&device, FEATURE_REPORTING)) {
		answer_fail("the balloon has no free page reporting");
		return;
	}
	if (!pages || pages & (pages - 1) || pages > 1024) {
		answer_fail("the run must be a power of two of up to 1024 pages");
		return;
	}
	if (!step || step > 1024) {
		answer_fail("the step must be 1 to 1024");
		return;
	}
	while (done < count && !problem) {
		struct virtq_desc *desc = device.queues[queue]->desc;
		unsigned used = 0;

		while (used < 32 && done + used < count) {
			frame = memory_give_up_run(pages, below);
			if (frame == UINT64_MAX)
				break;
			below = frame > (step - 1) * pages ? frame - (step - 1) * pages : 0;
			desc[used++] = (struct virtq_desc){frame * PAGE_SIZE,
							   (uint32_t)(pages * PAGE_SIZE),
							   VIRTQ_DESC_WRITE, 0};
		}
		if (!used) {
			problem = "no more free runs";
			break;
		}
		problem = virtio_request(&device, queue, used, NULL);
		done += used;
	}
	if (problem)
		answer_fail("runs=%u: %s", done, problem);
	else
		answer_ok("runs=%u pages=%u", done, done * pages);
}
