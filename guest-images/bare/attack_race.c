#include "attack_race.h"

#include "attack_driver.h"
#include "machine.h"
#include "runtime.h"
#include "second_cpu.h"

#define ROUNDS 60

/* What is rewritten, and the two values that it has in turn. */
struct target {
	volatile uint64_t *place;
	uint64_t first, second;
};

static volatile uint64_t *word(void *address)
{
	return (volatile uint64_t *)((uint64_t)address & ~7ull);
}

static uint64_t desc_word(uint32_t length, uint16_t flags, uint16_t next)
{
	return length | (uint64_t)flags << 32 | (uint64_t)next << 48;
}

static struct target address_in_and_out_of_ram(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].address), (uint64_t)attack_data,
			       0xfffffffffffff000};
}

static struct target address_in_ram_and_on_the_device(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].address), (uint64_t)attack_data,
			       a->base};
}

static struct target length_small_and_huge(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].length), desc_word(64, 0, 0),
			       desc_word(0xffffffff, 0, 0)};
}

static struct target flags_readable_and_writable(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].length), desc_word(64, 0, 0),
			       desc_word(64, VIRTQ_DESC_WRITE, 0)};
}

static struct target next_ends_and_loops(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].length), desc_word(64, 0, 0),
			       desc_word(64, VIRTQ_DESC_NEXT, 0)};
}

static struct target next_in_and_out_of_range(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].length),
			       desc_word(64, VIRTQ_DESC_NEXT, 1),
			       desc_word(64, VIRTQ_DESC_NEXT, 0xffff)};
}

static struct target direct_and_indirect(struct attacker *a, unsigned q)
{
	return (struct target){word(&a->queues[q]->desc[0].length), desc_word(64, 0, 0),
			       desc_word(64, 4, 0)};
}

static struct target request_header(struct attacker *a, unsigned q)
{
	(void)a;
	(void)q;
	return (struct target){word(attack_data), 0, 0xffffffffffffffff};
}

static struct target available_index_and_ring(struct attacker *a, unsigned q)
{
	/* flags, index, ring[0], ring[1] */
	return (struct target){word(&a->queues[q]->avail), 0x0000000000010000, 0xffff000100030000};
}

static const struct race {
	const char *name;
	struct target (*target)(struct attacker *a, unsigned q);
} races[] = {
	{"address_in_and_out_of_ram", address_in_and_out_of_ram},
	{"address_in_ram_and_on_the_device", address_in_ram_and_on_the_device},
	{"length_small_and_huge", length_small_and_huge},
	{"flags_readable_and_writable", flags_readable_and_writable},
	{"next_ends_and_loops", next_ends_and_loops},
	{"next_in_and_out_of_range", next_in_and_out_of_range},
	{"direct_and_indirect", direct_and_indirect},
	{"request_header", request_header},
	{"available_index_and_ring", available_index_and_ring},
};

#define RACES (sizeof(races) / sizeof(races[0]))

static void request(struct attacker *a, unsigned q)
{
	struct virtq *queue = a->queues[q];

	/* One word at a time: the other CPU's value may come in between. */
	queue->desc[0].address = (uint64_t)attack_data;
	queue->desc[1] = (struct virtq_desc){(uint64_t)attack_data + 512, 512, VIRTQ_DESC_WRITE, 0};
	*word(&queue->desc[0].length) = desc_word(64, VIRTQ_DESC_NEXT, 1);
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

/* Returns how often the device broke. */
static unsigned run(struct attacker *a, unsigned q, const struct race *race, uint64_t *flips)
{
	unsigned broken = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct target target = race->target(a, q);

		second_cpu_flip(target.place, target.first, target.second);
		request(a, q);
		for (unsigned pause = 0; pause < 300; pause++)
			cpu_pause();
		*flips += second_cpu_stop();
		if (attacker_is_broken(a)) {
			broken++;
			attacker_bring_up(a);
		}
	}
	return broken;
}

void attack_command_race(uint64_t device, uint64_t queue, uint64_t number)
{
	static struct attacker a;
	uint64_t flips = 0;
	const char *problem;
	unsigned broken;

	if (device >= machine.virtio_count || number >= RACES ||
	    !attacker_take(&a, machine.virtio[device]) || queue >= a.queue_count) {
		answer_fail("no such device, queue or race");
		return;
	}
	if (!second_cpu_start()) {
		answer_fail("the second CPU does not come");
		return;
	}
	problem = attacker_bring_up(&a);
	if (problem) {
		answer_fail("before %s: %s", races[number].name, problem);
		return;
	}
	broken = run(&a, (unsigned)queue, &races[number], &flips);
	problem = attacker_check_health(&a);
	if (problem)
		answer_fail("after %s: %s", races[number].name, problem);
	else
		answer_ok("name=%s requests=%u flips=%u broken=%u healthy=1", races[number].name,
			  (uint64_t)ROUNDS, flips, (uint64_t)broken);
}
