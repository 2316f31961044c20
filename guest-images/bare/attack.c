#include "attack.h"

#include "arch/x86_64/platform.h"
#include "attack_driver.h"
#include "machine.h"
#include "runtime.h"

#define DESC_INDIRECT 4

/* What a case's device has to do. */
enum outcome {
	SURVIVE, /* anything but harm: the case is legal, or its effect is left to the device */
	BREAK,   /* say DEVICE_NEEDS_RESET, on a queue that it serves by itself */
	REFUSE,  /* not take the queue */
};

static uint64_t end_of_ram(void)
{
	return machine.ram[0].end;
}

/* One descriptor at head 0, made available. */
static void submit_one(struct attacker *a, unsigned q, uint64_t address, uint32_t length,
		       uint16_t flags, uint16_t next)
{
	attacker_set_desc(a, q, 0, address, length, flags, next);
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

static uint64_t data(void)
{
	return (uint64_t)attack_data;
}

/* ---- chains ---- */

static void loop_to_itself(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 0);
}

static void loop_of_two(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, VIRTQ_DESC_NEXT, 0);
	submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 1);
}

static void loop_of_all(struct attacker *a, unsigned q)
{
	for (uint16_t i = 0; i < ATTACK_QUEUE_SIZE; i++)
		attacker_set_desc(a, q, i, data(), 1, VIRTQ_DESC_NEXT,
				  (uint16_t)((i + 1) % ATTACK_QUEUE_SIZE));
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

static void chain_of_all(struct attacker *a, unsigned q)
{
	for (uint16_t i = 0; i < ATTACK_QUEUE_SIZE; i++)
		attacker_set_desc(a, q, i, data(), 1,
				  i + 1 < ATTACK_QUEUE_SIZE ? VIRTQ_DESC_NEXT : 0,
				  (uint16_t)(i + 1));
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

static void next_out_of_range(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, ATTACK_QUEUE_SIZE);
}

static void next_is_the_greatest(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 0xffff);
}

static void head_out_of_range(struct attacker *a, unsigned q)
{
	attacker_publish(a, q, ATTACK_QUEUE_SIZE);
	attacker_kick(a, q);
}

static void head_is_the_greatest(struct attacker *a, unsigned q)
{
	attacker_publish(a, q, 0xffff);
	attacker_kick(a, q);
}

static void same_head_in_all_places(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 0, data(), 16, VIRTQ_DESC_WRITE, 0);
	for (unsigned i = 0; i < ATTACK_QUEUE_SIZE; i++)
		attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

static void unknown_flags(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 64, 0xfff8, 0);
}

/* ---- indirect tables ---- */

static struct virtq_desc *table(void)
{
	return (struct virtq_desc *)(attack_data + PAGE_SIZE);
}

static void submit_table(struct attacker *a, unsigned q, uint64_t address, uint32_t length)
{
	submit_one(a, q, address, length, DESC_INDIRECT, 0);
}

static void set_table(unsigned index, uint64_t address, uint32_t length, uint16_t flags,
		      uint16_t next)
{
	table()[index] = (struct virtq_desc){address, length, flags, next};
}

static void indirect_of_odd_length(struct attacker *a, unsigned q)
{
	set_table(0, data(), 64, 0, 0);
	submit_table(a, q, (uint64_t)table(), 17);
}

static void indirect_of_no_length(struct attacker *a, unsigned q)
{
	submit_table(a, q, (uint64_t)table(), 0);
}

static void indirect_in_indirect(struct attacker *a, unsigned q)
{
	set_table(0, (uint64_t)table(), 16, DESC_INDIRECT, 0);
	submit_table(a, q, (uint64_t)table(), 16);
}

static void indirect_and_next(struct attacker *a, unsigned q)
{
	set_table(0, data(), 64, 0, 0);
	submit_one(a, q, (uint64_t)table(), 16, DESC_INDIRECT | VIRTQ_DESC_NEXT, 1);
}

static void indirect_in_the_hole(struct attacker *a, unsigned q)
{
	submit_table(a, q, PLATFORM_MMIO_HOLE_START, 16);
}

static void indirect_over_the_end_of_ram(struct attacker *a, unsigned q)
{
	submit_table(a, q, end_of_ram() - 16, 32);
}

static void indirect_of_gigabytes(struct attacker *a, unsigned q)
{
	submit_table(a, q, (uint64_t)table(), 0xfffffff0);
}

static void indirect_next_out_of_range(struct attacker *a, unsigned q)
{
	set_table(0, data(), 64, VIRTQ_DESC_NEXT, 1);
	submit_table(a, q, (uint64_t)table(), 16);
}

static void indirect_loop(struct attacker *a, unsigned q)
{
	set_table(0, data(), 64, VIRTQ_DESC_NEXT, 1);
	set_table(1, data(), 64, VIRTQ_DESC_NEXT, 0);
	submit_table(a, q, (uint64_t)table(), 32);
}

static void indirect_that_may_be_written(struct attacker *a, unsigned q)
{
	set_table(0, data(), 64, VIRTQ_DESC_WRITE, 0);
	submit_one(a, q, (uint64_t)table(), 16, DESC_INDIRECT | VIRTQ_DESC_WRITE, 0);
}

/* ---- buffers ---- */

static void buffer_of_no_length(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 0, 0, 0);
}

static void writable_buffer_of_no_length(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 0, VIRTQ_DESC_WRITE, 0);
}

static void buffer_that_wraps(struct attacker *a, unsigned q)
{
	submit_one(a, q, 0xfffffffffffff000, 0x2000, VIRTQ_DESC_WRITE, 0);
}

static void buffer_at_the_last_byte(struct attacker *a, unsigned q)
{
	submit_one(a, q, 0xffffffffffffffff, 1, 0, 0);
}

static void buffer_in_the_hole(struct attacker *a, unsigned q)
{
	submit_one(a, q, PLATFORM_MMIO_HOLE_START, 64, VIRTQ_DESC_WRITE, 0);
}

static void buffer_on_the_device_itself(struct attacker *a, unsigned q)
{
	submit_one(a, q, a->base, 256, VIRTQ_DESC_WRITE, 0);
}

static void buffer_on_the_local_apic(struct attacker *a, unsigned q)
{
	submit_one(a, q, PLATFORM_LAPIC_BASE, 64, VIRTQ_DESC_WRITE, 0);
}

static void buffer_behind_ram(struct attacker *a, unsigned q)
{
	submit_one(a, q, end_of_ram(), 1, VIRTQ_DESC_WRITE, 0);
}

static void buffer_over_the_end_of_ram(struct attacker *a, unsigned q)
{
	submit_one(a, q, end_of_ram() - 32, 64, VIRTQ_DESC_WRITE, 0);
}

static void buffer_of_four_gigabytes(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 0xffffffff, VIRTQ_DESC_WRITE, 0);
}

static void buffer_to_read_in_the_hole(struct attacker *a, unsigned q)
{
	submit_one(a, q, PLATFORM_MMIO_HOLE_START, 64, 0, 0);
}

static void readable_behind_writable(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, 0, 0);
	submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE | VIRTQ_DESC_NEXT, 1);
}

static void writable_where_readable_is_due(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, VIRTQ_DESC_WRITE, 0);
	submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE | VIRTQ_DESC_NEXT, 1);
}

static void readable_where_writable_is_due(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, 0, 0);
	submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 1);
}

static void one_byte(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 1, 0, 0);
}

static void one_writable_byte(struct attacker *a, unsigned q)
{
	submit_one(a, q, data(), 1, VIRTQ_DESC_WRITE, 0);
}

static void buffers_in_odd_pieces(struct attacker *a, unsigned q)
{
	for (uint16_t i = 0; i < 31; i++)
		attacker_set_desc(a, q, i, data() + i * 7u, 1 + i % 5, i < 30 ? VIRTQ_DESC_NEXT : 0,
				  (uint16_t)(i + 1));
	attacker_publish(a, q, 0);
	attacker_kick(a, q);
}

static void garbage_to_read(struct attacker *a, unsigned q)
{
	for (unsigned i = 0; i < PAGE_SIZE; i += 8) {
		uint64_t random = mix(i);

		memcpy(attack_data + i, &random, 8);
	}
	attacker_set_desc(a, q, 1, data() + 2048, 512, VIRTQ_DESC_WRITE, 0);
	submit_one(a, q, data(), 2048, VIRTQ_DESC_NEXT, 1);
}

static void rings_as_the_buffer(struct attacker *a, unsigned q)
{
	submit_one(a, q, (uint64_t)a->queues[q], PAGE_SIZE, VIRTQ_DESC_WRITE, 0);
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
	submit_one(a, q, data(), 64, 0, 0);
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
	set_up_rings(a, q, desc_of(a, q), end_of_ram() - 8, used_of(a, q));
}

static void used_ring_behind_ram(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), avail_of(a, q), end_of_ram());
}

static void rings_that_wrap(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, 0xfffffffffffffff0, 0xfffffffffffffffe, 0xfffffffffffffffc);
}

static void rings_on_top_of_each_other(struct attacker *a, unsigned q)
{
	set_up_rings(a, q, desc_of(a, q), desc_of(a, q), desc_of(a, q));
	submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE, 0);
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
	submit_one(a, q, data(), 64, 0, 0);
}

static void moved_while_running(struct attacker *a, unsigned q)
{
	attacker_write(a, REG_QUEUE_SELECT, q);
	attacker_write64(a, REG_QUEUE_DESC, PLATFORM_MMIO_HOLE_START);
	submit_one(a, q, data(), 64, 0, 0);
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
	submit_one(a, q, data(), 64, 0, 0);
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
	submit_one(a, q, data(), 64, 0, 0);
}

static void reset_storm(struct attacker *a, unsigned q)
{
	for (unsigned i = 0; i < 20; i++) {
		attacker_bring_up(a);
		submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE, 0);
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

static const struct attack_case {
	const char *name;
	enum outcome outcome;
	void (*run)(struct attacker *a, unsigned q);
} cases[] = {
	{"loop_to_itself", BREAK, loop_to_itself},
	{"loop_of_two", BREAK, loop_of_two},
	{"loop_of_all", BREAK, loop_of_all},
	{"chain_of_all", SURVIVE, chain_of_all},
	{"next_out_of_range", BREAK, next_out_of_range},
	{"next_is_the_greatest", BREAK, next_is_the_greatest},
	{"head_out_of_range", BREAK, head_out_of_range},
	{"head_is_the_greatest", BREAK, head_is_the_greatest},
	{"same_head_in_all_places", SURVIVE, same_head_in_all_places},
	{"unknown_flags", SURVIVE, unknown_flags},
	{"indirect_of_odd_length", BREAK, indirect_of_odd_length},
	{"indirect_of_no_length", BREAK, indirect_of_no_length},
	{"indirect_in_indirect", BREAK, indirect_in_indirect},
	{"indirect_and_next", BREAK, indirect_and_next},
	{"indirect_in_the_hole", BREAK, indirect_in_the_hole},
	{"indirect_over_the_end_of_ram", BREAK, indirect_over_the_end_of_ram},
	{"indirect_of_gigabytes", BREAK, indirect_of_gigabytes},
	{"indirect_next_out_of_range", BREAK, indirect_next_out_of_range},
	{"indirect_loop", BREAK, indirect_loop},
	{"indirect_that_may_be_written", SURVIVE, indirect_that_may_be_written},
	{"buffer_of_no_length", SURVIVE, buffer_of_no_length},
	{"writable_buffer_of_no_length", SURVIVE, writable_buffer_of_no_length},
	{"buffer_that_wraps", BREAK, buffer_that_wraps},
	{"buffer_at_the_last_byte", BREAK, buffer_at_the_last_byte},
	{"buffer_in_the_hole", BREAK, buffer_in_the_hole},
	{"buffer_on_the_device_itself", BREAK, buffer_on_the_device_itself},
	{"buffer_on_the_local_apic", BREAK, buffer_on_the_local_apic},
	{"buffer_behind_ram", BREAK, buffer_behind_ram},
	{"buffer_over_the_end_of_ram", BREAK, buffer_over_the_end_of_ram},
	{"buffer_of_four_gigabytes", BREAK, buffer_of_four_gigabytes},
	{"buffer_to_read_in_the_hole", BREAK, buffer_to_read_in_the_hole},
	{"readable_behind_writable", BREAK, readable_behind_writable},
	{"writable_where_readable_is_due", SURVIVE, writable_where_readable_is_due},
	{"readable_where_writable_is_due", SURVIVE, readable_where_writable_is_due},
	{"one_byte", SURVIVE, one_byte},
	{"one_writable_byte", SURVIVE, one_writable_byte},
	{"buffers_in_odd_pieces", SURVIVE, buffers_in_odd_pieces},
	{"garbage_to_read", SURVIVE, garbage_to_read},
	{"rings_as_the_buffer", SURVIVE, rings_as_the_buffer},
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

#define CASES (sizeof(cases) / sizeof(cases[0]))

void attack_command_list(void)
{
	for (size_t i = 0; i < CASES; i++)
		print("case=%u name=%s\r\n", (uint64_t)i, cases[i].name);
	answer_ok("count=%u", (uint64_t)CASES);
}

void attack_command_devices(void)
{
	uint64_t count = 0;

	for (size_t i = 0; i < machine.virtio_count; i++) {
		static struct attacker attacker;

		if (!attacker_take(&attacker, machine.virtio[i]))
			continue;
		print("device=%u id=%u queues=%u eager=%x\r\n", (uint64_t)i,
		      (uint64_t)attacker.device_id, (uint64_t)attacker.queue_count,
		      (uint64_t)attacker_eager_queues(&attacker));
		count++;
	}
	answer_ok("count=%u", count);
}

/* Whether what the device did is what the case asks for. */
static bool is_right(struct attacker *a, unsigned q, enum outcome outcome)
{
	bool eager = attacker_eager_queues(a) >> q & 1;

	switch (outcome) {
	case BREAK:
		return !eager || attacker_wait_broken(a);
	case REFUSE:
		attacker_write(a, REG_QUEUE_SELECT, q);
		return !mmio_read32(a->base + REG_QUEUE_READY) || attacker_is_broken(a);
	default:
		return true;
	}
}

void attack_command_run(uint64_t device, uint64_t queue, uint64_t number)
{
	static const char *const outcomes[] = {"survive", "break", "refuse"};
	static struct attacker a;
	const char *problem;
	uint32_t status;
	bool right;

	if (device >= machine.virtio_count || number >= CASES ||
	    !attacker_take(&a, machine.virtio[device]) || queue >= a.queue_count) {
		answer_fail("no such device, queue or case");
		return;
	}
	problem = attacker_bring_up(&a);
	if (problem) {
		answer_fail("before %s: %s", cases[number].name, problem);
		return;
	}
	cases[number].run(&a, (unsigned)queue);
	attacker_settle(&a, (unsigned)queue);
	right = is_right(&a, (unsigned)queue, cases[number].outcome);
	status = mmio_read32(a.base + REG_STATUS);
	problem = attacker_check_health(&a);
	if (problem) {
		answer_fail("after %s: %s", cases[number].name, problem);
		return;
	}
	answer_ok("name=%s wants=%s status=%x right=%u healthy=1", cases[number].name,
		  outcomes[cases[number].outcome], (uint64_t)status, (uint64_t)right);
}

/* Ports that end the guest, or the line that it answers on. */
static bool is_port_to_leave(uint16_t port)
{
	return port == PLATFORM_SLEEP_CONTROL || port == PLATFORM_I8042_COMMAND || port == 0x92 ||
	       port == 0xcf9 ||
	       (port + 3 >= machine.serial_port &&
		port < machine.serial_port + PLATFORM_SERIAL_PORTS);
}

static void sweep_ports(void)
{
	for (uint32_t port = 0; port < 0x10000 - 3; port += port < 0x700 ? 1 : 61) {
		uint32_t value;

		if (is_port_to_leave((uint16_t)port) || is_port_to_leave((uint16_t)(port + 1)) ||
		    is_port_to_leave((uint16_t)(port + 3)))
			continue;
		__asm__ volatile("inb %w1, %b0" : "=a"(value) : "Nd"(port));
		__asm__ volatile("inw %w1, %w0" : "=a"(value) : "Nd"(port));
		__asm__ volatile("inl %w1, %0" : "=a"(value) : "Nd"(port));
		__asm__ volatile("outb %b0, %w1" : : "a"(0), "Nd"(port));
		__asm__ volatile("outw %w0, %w1" : : "a"(0), "Nd"(port));
		__asm__ volatile("outl %0, %w1" : : "a"(0), "Nd"(port));
	}
}

static void sweep_mmio(void)
{
	uint64_t last = PLATFORM_VIRTIO_BASE + PLATFORM_VIRTIO_SLOTS * PLATFORM_VIRTIO_STRIDE;

	/* Coarsely all over the hole, finely around the transports' ends. */
	for (uint64_t address = PLATFORM_MMIO_HOLE_START; address < PLATFORM_IOAPIC_BASE;
	     address += 0x400000 - 3)
		for (unsigned size = 1; size <= 8; size *= 2) {
			attacker_touch(address, size, false);
			attacker_touch(address, size, true);
		}
	for (uint64_t base = PLATFORM_VIRTIO_BASE; base <= last; base += PLATFORM_VIRTIO_STRIDE)
		for (uint64_t address = base + PLATFORM_VIRTIO_SIZE - 8;
		     address < base + PLATFORM_VIRTIO_SIZE + 8; address++)
			for (unsigned size = 1; size <= 8; size *= 2)
				attacker_touch(address, size, address & 1);
}

void attack_command_sweep(uint64_t kind)
{
	if (kind)
		sweep_mmio();
	else
		sweep_ports();
	answer_ok("");
}
