#include "blk.h"

#include "machine.h"
#include "memory.h"
#include "runtime.h"
#include "virtio.h"

#define FEATURE_READ_ONLY    5
#define FEATURE_FLUSH        9
#define FEATURE_DISCARD      13
#define FEATURE_WRITE_ZEROES 14

#define TYPE_IN       0
#define TYPE_OUT      1
#define TYPE_FLUSH    4
#define TYPE_GET_ID   8
#define TYPE_DISCARD  11
#define TYPE_ZEROES   13
#define STATUS_PRESET 0xff

#define SECTOR_SIZE  512ull
#define ID_LENGTH    20
#define SEGMENT_MAX  (64ull << 10)
#define SEGMENTS_MAX 16
#define DISKS_MAX    16
#define RANGES_MAX   32

#define ZEROES_MAY_UNMAP 1

struct request_header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct request_range {
	uint64_t sector;
	uint32_t count, flags;
};

struct disk {
	struct virtio device;
};

static struct disk disks[DISKS_MAX];
static unsigned disk_count;

/* One request is under way at a time. */
static struct request_header header;
static volatile uint8_t status;
static char id[ID_LENGTH + 1];
static struct request_range ranges[RANGES_MAX];

static unsigned queue_count(uint64_t features)
{
	(void)features;
	return 1;
}

static const char *start(struct disk *disk, uint64_t base)
{
	return virtio_start(&disk->device, base,
			    1ull << FEATURE_READ_ONLY | 1ull << FEATURE_FLUSH |
				    1ull << FEATURE_DISCARD | 1ull << FEATURE_WRITE_ZEROES,
			    queue_count);
}

const char *blk_start(uint64_t base)
{
	const char *problem;

	if (disk_count == DISKS_MAX)
		return "too many disks";
	problem = start(&disks[disk_count], base);
	if (!problem)
		disk_count++;
	return problem;
}

static struct disk *find(uint64_t number)
{
	if (number < disk_count)
		return &disks[number];
	answer_fail("no such disk");
	return NULL;
}

static void set_desc(struct disk *disk, unsigned index, const volatile void *data, uint64_t length,
		     bool write)
{
	disk->device.queues[0]->desc[index] = (struct virtq_desc){(uint64_t)data, (uint32_t)length,
								  write ? VIRTQ_DESC_WRITE : 0, 0};
}

/* Runs a request of @type over [data, data + length), which may be empty. NULL, or why it failed */
static const char *run(struct disk *disk, uint32_t type, uint64_t sector, const void *data,
		       uint64_t length, bool to_guest)
{
	const char *problem;
	unsigned count = 1;

	header = (struct request_header){type, 0, sector};
	status = STATUS_PRESET;
	set_desc(disk, 0, &header, sizeof(header), false);
	for (uint64_t done = 0; done < length; count++) {
		uint64_t part = length - done < SEGMENT_MAX ? length - done : SEGMENT_MAX;

		set_desc(disk, count, (const char *)data + done, part, to_guest);
		done += part;
	}
	set_desc(disk, count++, &status, 1, true);
	problem = virtio_request(&disk->device, 0, count, NULL);
	if (problem)
		return problem;
	switch (status) {
	case 0:
		return NULL;
	case 1:
		return "IOERR";
	case 2:
		return "UNSUPP";
	default:
		return "no status";
	}
}

static void answer_problem(const char *problem)
{
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("");
}

static uint64_t capacity(const struct disk *disk)
{
	uint64_t config = disk->device.base + VIRTIO_CONFIG;

	return mmio_read32(config) | (uint64_t)mmio_read32(config + 4) << 32;
}

void blk_command_list(void)
{
	answer_ok("disks=%u", (uint64_t)disk_count);
}

void blk_command_info(uint64_t number)
{
	struct disk *disk = find(number);
	const char *problem;

	if (!disk)
		return;
	memset(id, 0, sizeof(id));
	problem = run(disk, TYPE_GET_ID, 0, id, ID_LENGTH, true);
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("sectors=%u read_only=%u features=%x status=%x id=%s", capacity(disk),
			  (uint64_t)virtio_has(&disk->device, FEATURE_READ_ONLY),
			  disk->device.features, (uint64_t)virtio_status(&disk->device), id);
}

void blk_command_transfer(uint64_t number, bool put, uint64_t sector, uint64_t count,
			  uint64_t address)
{
	struct disk *disk = find(number);
	uint64_t step = SEGMENT_MAX * SEGMENTS_MAX / SECTOR_SIZE;

	if (!disk)
		return;
	if (count > MACHINE_RAM_LIMIT / SECTOR_SIZE ||
	    !memory_is_usable(address, count * SECTOR_SIZE)) {
		answer_fail("the buffer is no free RAM");
		return;
	}
	while (count) {
		uint64_t part = count < step ? count : step;
		const char *problem = run(disk, put ? TYPE_OUT : TYPE_IN, sector,
					  guest_pointer(address), part * SECTOR_SIZE, !put);

		if (problem) {
			answer_fail("sector=%u: %s", sector, problem);
			return;
		}
		sector += part;
		count -= part;
		address += part * SECTOR_SIZE;
	}
	answer_ok("");
}

void blk_command_flush(uint64_t number)
{
	struct disk *disk = find(number);

	if (disk)
		answer_problem(run(disk, TYPE_FLUSH, 0, NULL, 0, false));
}

void blk_command_range(uint64_t number, enum blk_range kind, uint64_t sector, uint64_t count,
		       uint64_t pieces)
{
	struct disk *disk = find(number);

	if (!disk)
		return;
	if (!pieces || pieces > RANGES_MAX) {
		answer_fail("too many ranges, or none");
		return;
	}
	for (uint64_t i = 0; i < pieces; i++)
		ranges[i] = (struct request_range){sector + 2 * i * count, (uint32_t)count,
						   kind == BLK_UNMAP ? ZEROES_MAY_UNMAP : 0};
	answer_problem(run(disk, kind == BLK_DISCARD ? TYPE_DISCARD : TYPE_ZEROES, 0, ranges,
			   pieces * sizeof(ranges[0]), false));
}

/* Waits a while for an answer to what deserves none. */
static void settle(struct disk *disk)
{
	for (unsigned i = 0; i < 200000; i++) {
		if (virtio_is_done(&disk->device, 0, NULL) ||
		    virtio_status(&disk->device) & VIRTIO_STATUS_NEEDS_RESET)
			return;
		for (unsigned pause = 0; pause < 100; pause++)
			cpu_pause();
	}
}

void blk_command_abuse(uint64_t number, const char *kind)
{
	struct disk *disk = find(number);
	struct virtq *queue;
	uint64_t device_status;
	const char *problem;

	if (!disk)
		return;
	queue = disk->device.queues[0];
	header = (struct request_header){TYPE_IN, 0, 0};
	set_desc(disk, 0, &header, sizeof(header), false);
	set_desc(disk, 1, id, ID_LENGTH, true);
	set_desc(disk, 2, &status, 1, true);
	if (str_equal(kind, "address")) {
		/* Beyond all RAM, and one that wraps around. */
		queue->desc[1].address = 0xfffffffffffff000;
		queue->desc[1].length = 0x2000;
		virtio_submit(&disk->device, 0, 3);
	} else if (str_equal(kind, "hole")) {
		queue->desc[0].address = PAGE_SIZE * 0xd0000;
		virtio_submit(&disk->device, 0, 3);
	} else if (str_equal(kind, "short")) {
		queue->desc[0].length = 3;
		virtio_submit(&disk->device, 0, 1);
	} else if (str_equal(kind, "status")) {
		/* Nothing for the device to write the status to. */
		virtio_submit(&disk->device, 0, 1);
	} else if (str_equal(kind, "loop") || str_equal(kind, "next")) {
		/* virtio_submit() would link the chain properly. */
		queue->desc[0].flags = VIRTQ_DESC_NEXT;
		queue->desc[0].next = str_equal(kind, "loop") ? 0 : 0xfff0;
		queue->avail.ring[queue->avail.index % VIRTQ_SIZE] = 0;
		queue->avail.index++;
		mmio_write32(disk->device.base + 0x50, 0);
	} else if (str_equal(kind, "index")) {
		queue->avail.index = (uint16_t)(queue->avail.index + 1000);
		mmio_write32(disk->device.base + 0x50, 0);
	} else if (str_equal(kind, "head")) {
		queue->avail.ring[queue->avail.index % VIRTQ_SIZE] = 0xffff;
		queue->avail.index++;
		mmio_write32(disk->device.base + 0x50, 0);
	} else {
		answer_fail("no such abuse");
		return;
	}
	settle(disk);
	device_status = virtio_status(&disk->device);
	problem = start(disk, disk->device.base);
	if (problem)
		answer_fail("after %s: %s", kind, problem);
	else
		answer_ok("status=%x", device_status);
}
