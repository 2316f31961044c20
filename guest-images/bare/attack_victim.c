#include "attack_victim.h"

#include "runtime.h"

#define TYPE_IN  0
#define TYPE_OUT 1

/* Sectors: what is only read after it was written once, and what attacks write to. */
#define KEPT_SECTOR    0
#define WRITTEN_SECTOR (sizeof(victim_data) / 512)

#define PRESET 0xff

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

uint8_t victim_data[VICTIM_REQUESTS * VICTIM_BYTES] __attribute__((aligned(4096)));
uint8_t victim_headers[4096] __attribute__((aligned(4096)));
uint8_t victim_statuses[4096] __attribute__((aligned(4096)));

static uint64_t pattern(uint64_t word)
{
	return mix(word) | 1; /* never 0 */
}

static void fill(void)
{
	uint64_t *words = (uint64_t *)victim_data;

	for (uint64_t i = 0; i < sizeof(victim_data) / 8; i++)
		words[i] = pattern(i);
}

static bool is_whole(bool zeros_too)
{
	const uint64_t *words = guest_pointer((uint64_t)victim_data);

	for (uint64_t i = 0; i < sizeof(victim_data) / 8; i++)
		if (words[i] != pattern(i) && !(zeros_too && !words[i]))
			return false;
	return true;
}

static void submit(struct victim *v, bool write, uint64_t sector)
{
	struct header *headers = guest_pointer((uint64_t)victim_headers);

	memset(victim_statuses, PRESET, sizeof(victim_statuses));
	for (uint16_t i = 0; i < VICTIM_REQUESTS; i++) {
		uint16_t head = (uint16_t)(3 * i);

		headers[i] = (struct header){write ? TYPE_OUT : TYPE_IN, 0,
					     sector + i * (uint64_t)(VICTIM_BYTES / 512)};
		attacker_set_desc(&v->disk, 0, head,
				  (uint64_t)&victim_headers[i * sizeof(struct header)],
				  sizeof(struct header), VIRTQ_DESC_NEXT, (uint16_t)(head + 1));
		attacker_set_desc(&v->disk, 0, (uint16_t)(head + 1),
				  (uint64_t)&victim_data[i * (uint64_t)VICTIM_BYTES], VICTIM_BYTES,
				  VIRTQ_DESC_NEXT | (write ? 0 : VIRTQ_DESC_WRITE),
				  (uint16_t)(head + 2));
		attacker_set_desc(&v->disk, 0, (uint16_t)(head + 2), (uint64_t)&victim_statuses[i],
				  1, VIRTQ_DESC_WRITE, 0);
		attacker_publish(&v->disk, 0, head);
	}
	v->submitted = (uint16_t)(v->submitted + VICTIM_REQUESTS);
	attacker_kick(&v->disk, 0);
}

bool victim_await(struct victim *v, uint64_t cycles)
{
	return attacker_await(&v->disk, 0, v->submitted, cycles);
}

static const char *transfer(struct victim *v, bool write, uint64_t sector)
{
	submit(v, write, sector);
	if (!victim_await(v, ATTACK_TIMEOUT))
		return "the disk does not answer";
	for (unsigned i = 0; i < VICTIM_REQUESTS; i++)
		if (*(volatile uint8_t *)&victim_statuses[i])
			return "the disk fails";
	return NULL;
}

static const char *bring_up(struct victim *v)
{
	v->submitted = 0;
	return attacker_bring_up(&v->disk);
}

const char *victim_prepare(struct victim *v)
{
	const char *problem;

	if (!attacker_find(&v->disk, VIRTIO_ID_BLOCK, true))
		return "no disk";
	problem = bring_up(v);
	fill();
	if (!problem)
		problem = transfer(v, true, KEPT_SECTOR);
	if (!problem)
		problem = transfer(v, true, WRITTEN_SECTOR);
	return problem;
}

void victim_begin(struct victim *v, bool write)
{
	submit(v, write, write ? WRITTEN_SECTOR : KEPT_SECTOR);
}

static const char *read_back(struct victim *v, uint64_t sector, bool zeros_too)
{
	const char *problem;

	memset(victim_data, 0x5a, sizeof(victim_data));
	problem = transfer(v, false, sector);
	if (!problem && !is_whole(zeros_too))
		problem = "what is on the disk is wrong";
	return problem;
}

const char *victim_check(struct victim *v)
{
	const char *problem = bring_up(v);

	if (!problem)
		problem = read_back(v, KEPT_SECTOR, false);
	if (!problem)
		problem = read_back(v, WRITTEN_SECTOR, true);
	return problem;
}
