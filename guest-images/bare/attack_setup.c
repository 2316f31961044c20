#include "attack_cases.h"

#include "arch/x86_64/platform.h"
#include "runtime.h"

static uint64_t data(void)
{
	return (uint64_t)attack_data;
}

/* ---- rings ---- */

static void index_jumps(struct attacker *a, unsigned q)
{
	a->queues[q]->avail.index = (uint16_t)(a->queues[q]->avail.index + ATTACK_QUEUE_SIZE + 1);
	attacker_kick(a, q);
}

static void index_jumps_half_around(struct attacker *a, unsigned q)
{
	a->queues[q]->avail.index = (uint16_t)(a->queues[q]->avail.index + 0x8000);
	attacker_kick(a, q);
}

static void index_goes_back(struct attacker *a, unsigned q)
{
	a->queues[q]->avail.index = (uint16_t)(a->queues[q]->avail.index - 1);
	attacker_kick(a, q);
}

static void kick_storm(struct attacker *a, unsigned q)
{
	for (unsigned i = 0; i < 500; i++)
		attacker_kick(a, q);
}

static void kicks_of_queues_that_are_not(struct attacker *a, unsigned q)
{
	attacker_kick(a, q);
	attacker_kick(a, a->queue_count);
	attacker_kick(a, 0xffff);
	attacker_kick(a, 0xffffffff);
}

static void events_out_of_range(struct attacker *a, unsigned q)
{
	/* Behind the ring, which is shorter than the struct's. */
	a->queues[q]->avail.ring[ATTACK_QUEUE_SIZE] = 0xabcd;
	attack_submit_one(a, q, data(), 64, 0, 0);
}

/* ---- queues set up wrongly: the device is brought up anew around them ---- */

static void set_up(struct attacker *a, unsigned q, uint32_t size, uint64_t desc, uint64_t driver,
		   uint64_t device)
{
	attacker_begin(a);
	attacker_write(a, REG_QUEUE_SELECT, q);
	attacker_write(a, REG_QUEUE_SIZE, size);
	attacker_write64(a, REG_QUEUE_DESC, desc);
	attacker_write64(a, REG_QUEUE_DRIVER, driver);
	attacker_write64(a, REG_QUEUE_DEVICE, device);
	attacker_write(a, REG_QUEUE_READY, 1);
	attacker_finish(a);
}

static void set_up_rings(struct attacker *a, unsigned q, uint64_t desc, uint64_t driver,
			 uint64_t device)
{
	set_up(a, q, ATTACK_QUEUE_SIZE, desc, driver, device);
}

static uint64_t desc_of(struct attacker *a, unsigned q)
{
	return (uint64_t)a->queues[q]->desc;
}

static uint64_t avail_of(struct attacker *a, unsigned q)
{
	return (uint64_t)&a->queues[q]->avail;
}

static uint64_t used_of(struct attacker *a, unsigned q)
{
	return (uint64_t)&a->queues[q]->used;
}

static void size_of_zero(struct attacker *a, unsigned q)
{
	set_up(a, q, 0, desc_of(a, q), avail_of(a, q), used_of(a, q));
}

static void size_no_power_of_two(struct attacker *a, unsigned q)
{
	set_up(a, q, 63, desc_of(a, q), avail_of(a, q), used_of(a, q));
}

static void size_beyond_the_greatest(struct attacker *a, unsigned q)
{
	set_up(a, q, 0x8000, desc_of(a, q), avail_of(a, q), used_of(a, q));
}

static void size_of_32_bits(struct attacker *a, unsigned q)
{
	set_up(a, q, 0x10040, desc_of(a, q), avail_of(a, q), used_of(a, q));
}

static void descriptors_not_aligned(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q) + 8, avail_of(a, q), used_of(a, q));
}

static void available_ring_not_aligned(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), avail_of(a, q) + 1, used_of(a, q));
}

static void used_ring_not_aligned(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), avail_of(a, q), used_of(a, q) + 2);
}

static void descriptors_in_the_hole(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, PLATFORM_MMIO_HOLE_START, avail_of(a, q), used_of(a, q));
}

static void available_ring_over_the_end_of_ram(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), attack_end_of_ram() - 8, used_of(a, q));
}

static void used_ring_behind_ram(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), avail_of(a, q), attack_end_of_ram());
}

static void rings_that_wrap(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, 0xfffffffffffffff0, 0xfffffffffffffffe, 0xfffffffffffffffc);
}

static void rings_on_top_of_each_other(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), desc_of(a, q), desc_of(a, q));
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE, 0);
}

static void never_made_ready(struct attacker *a, unsigned q)
{
	attacker_begin(a);
	attacker_finish(a);
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

static void size_changed_while_running(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_QUEUE_SELECT, q);
	attacker_write(a, REG_QUEUE_SIZE, 8);
	attack_submit_one(a, q, data(), 64, 0, 0);
}

static void moved_while_running(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_QUEUE_SELECT, q);
	attacker_write64(a, REG_QUEUE_DESC, PLATFORM_MMIO_HOLE_START);
	attack_submit_one(a, q, data(), 64, 0, 0);
}

static void taken_away_while_running(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 0, data(), 64, VIRTQ_DESC_WRITE, 0);
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
	attacker_write(a, REG_QUEUE_SELECT, q);
	attacker_write(a, REG_QUEUE_READY, 0);
	attacker_kick(a, q);
	attacker_write(a, REG_QUEUE_READY, 1);
	attacker_kick(a, q);
}

static void queues_that_are_not_set_up(struct attacker *a, unsigned q)
{
	(void)q;
	attacker_write(a, REG_QUEUE_SELECT, a->queue_count);
	attacker_write(a, REG_QUEUE_SIZE, 64);
	attacker_write(a, REG_QUEUE_READY, 1);
	attacker_write(a, REG_QUEUE_SELECT, 0xffffffff);
	attacker_write64(a, REG_QUEUE_DESC, 0xffffffffffffffff);
	attacker_write(a, REG_QUEUE_READY, 1);
}

/* ---- status, features, configuration ---- */

static void driver_ok_first(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_STATUS, 0);
	attacker_write(a, REG_STATUS, STATUS_DRIVER_OK);
	attacker_kick(a, q);
}

static void status_of_all_bits(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_STATUS, 0xffffffff);
	attacker_kick(a, q);
}

static void status_bits_taken_back(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_STATUS, STATUS_ACKNOWLEDGE);
	attack_submit_one(a, q, data(), 64, 0, 0);
}

static void features_not_offered(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_STATUS, 0);
	attacker_write(a, REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (unsigned half = 0; half < 4; half++) {
		attacker_write(a, REG_DRIVER_SELECT, half);
		attacker_write(a, REG_DRIVER, 0xffffffff);
	}
	attacker_finish(a);
	attacker_kick(a, q);
}

static void features_changed_while_running(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_DRIVER_SELECT, 0);
	attacker_write(a, REG_DRIVER, 0);
	attack_submit_one(a, q, data(), 64, 0, 0);
}

static void reset_storm(struct attacker *a, unsigned q)
{
	for (unsigned i = 0; i < 20; i++) {
		attacker_bring_up(a);
		attack_submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE, 0);
		attacker_write(a, REG_STATUS, 0);
	}
}

static void interrupts_acknowledged_that_were_not(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_INTERRUPT_ACK, 0xffffffff);
	attacker_kick(a, q);
}

static void every_register_written(struct attacker *a, unsigned q)
{
	for (uint32_t reg = 0; reg < VIRTIO_CONFIG; reg += 4)
		if (reg != REG_STATUS)
			attacker_write(a, reg, (uint32_t)mix(reg));
	attacker_kick(a, q);
}

static void registers_at_odd_sizes(struct attacker *a, unsigned q)
{
	for (uint32_t reg = 0; reg < VIRTIO_CONFIG; reg++) {
		attacker_touch(a->base + reg, 1, false);
		attacker_touch(a->base + reg, 2, false);
		attacker_touch(a->base + (reg & ~7u), 8, false);
		if (reg / 4 * 4 != REG_STATUS)
			attacker_touch(a->base + reg, 1, true);
	}
	attacker_kick(a, q);
}

static void configuration_at_odd_sizes(struct attacker *a, unsigned q)
{
	for (uint32_t offset = VIRTIO_CONFIG; offset < 0x200; offset += 3)
		for (unsigned size = 1; size <= 8; size *= 2)
			attacker_touch(a->base + offset, size, offset & 1);
	attacker_kick(a, q);
}

const struct attack_case attack_setup_cases[] = {
	{"index_jumps", BREAK, index_jumps},
	{"index_jumps_half_around", BREAK, index_jumps_half_around},
	{"index_goes_back", BREAK, index_goes_back},
	{"kick_storm", SURVIVE, kick_storm},
	{"kicks_of_queues_that_are_not", SURVIVE, kicks_of_queues_that_are_not},
	{"events_out_of_range", SURVIVE, events_out_of_range},
	{"size_of_zero", REFUSE, size_of_zero},
	{"size_no_power_of_two", REFUSE, size_no_power_of_two},
	{"size_beyond_the_greatest", REFUSE, size_beyond_the_greatest},
	{"size_of_32_bits", REFUSE, size_of_32_bits},
	{"descriptors_not_aligned", REFUSE, descriptors_not_aligned},
	{"available_ring_not_aligned", REFUSE, available_ring_not_aligned},
	{"used_ring_not_aligned", REFUSE, used_ring_not_aligned},
	{"descriptors_in_the_hole", REFUSE, descriptors_in_the_hole},
	{"available_ring_over_the_end_of_ram", REFUSE, available_ring_over_the_end_of_ram},
	{"used_ring_behind_ram", REFUSE, used_ring_behind_ram},
	{"rings_that_wrap", REFUSE, rings_that_wrap},
	{"rings_on_top_of_each_other", SURVIVE, rings_on_top_of_each_other},
	{"never_made_ready", SURVIVE, never_made_ready},
	{"size_changed_while_running", SURVIVE, size_changed_while_running},
	{"moved_while_running", SURVIVE, moved_while_running},
	{"taken_away_while_running", SURVIVE, taken_away_while_running},
	{"queues_that_are_not_set_up", SURVIVE, queues_that_are_not_set_up},
	{"driver_ok_first", SURVIVE, driver_ok_first},
	{"status_of_all_bits", SURVIVE, status_of_all_bits},
	{"status_bits_taken_back", SURVIVE, status_bits_taken_back},
	{"features_not_offered", SURVIVE, features_not_offered},
	{"features_changed_while_running", SURVIVE, features_changed_while_running},
	{"reset_storm", SURVIVE, reset_storm},
	{"interrupts_acknowledged_that_were_not", SURVIVE, interrupts_acknowledged_that_were_not},
	{"every_register_written", SURVIVE, every_register_written},
	{"registers_at_odd_sizes", SURVIVE, registers_at_odd_sizes},
	{"configuration_at_odd_sizes", SURVIVE, configuration_at_odd_sizes},
};

const size_t attack_setup_case_count = sizeof(attack_setup_cases) / sizeof(attack_setup_cases[0]);
