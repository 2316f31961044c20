#include "attack_cases.h"

#include "arch/x86_64/platform.h"
#include "machine.h"
#include "runtime.h"

#define DESC_INDIRECT 4

uint64_t attack_end_of_ram(void)
{
	return machine.ram[0].end;
}

void attack_submit_one(struct attacker *a, unsigned q, uint64_t address, uint32_t length,
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
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 0);
}

static void loop_of_two(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, VIRTQ_DESC_NEXT, 0);
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 1);
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
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, ATTACK_QUEUE_SIZE);
}

static void next_is_the_greatest(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 0xffff);
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
	attack_submit_one(a, q, data(), 64, 0xfff8, 0);
}

/* ---- indirect tables ---- */

static struct virtq_desc *table(void)
{
	return (struct virtq_desc *)(attack_data + PAGE_SIZE);
}

static void submit_table(struct attacker *a, unsigned q, uint64_t address, uint32_t length)
{
	attack_submit_one(a, q, address, length, DESC_INDIRECT, 0);
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
	attack_submit_one(a, q, (uint64_t)table(), 16, DESC_INDIRECT | VIRTQ_DESC_NEXT, 1);
}

static void indirect_in_the_hole(struct attacker *a, unsigned q)
{
	submit_table(a, q, PLATFORM_MMIO_HOLE_START, 16);
}

static void indirect_over_the_end_of_ram(struct attacker *a, unsigned q)
{
	submit_table(a, q, attack_end_of_ram() - 16, 32);
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
	attack_submit_one(a, q, (uint64_t)table(), 16, DESC_INDIRECT | VIRTQ_DESC_WRITE, 0);
}

/* ---- buffers ---- */

static void buffer_of_no_length(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, data(), 0, 0, 0);
}

static void writable_buffer_of_no_length(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, data(), 0, VIRTQ_DESC_WRITE, 0);
}

static void buffer_that_wraps(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, 0xfffffffffffff000, 0x2000, VIRTQ_DESC_WRITE, 0);
}

static void buffer_at_the_last_byte(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, 0xffffffffffffffff, 1, 0, 0);
}

static void buffer_in_the_hole(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, PLATFORM_MMIO_HOLE_START, 64, VIRTQ_DESC_WRITE, 0);
}

static void buffer_on_the_device_itself(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, a->base, 256, VIRTQ_DESC_WRITE, 0);
}

static void buffer_on_the_local_apic(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, PLATFORM_LAPIC_BASE, 64, VIRTQ_DESC_WRITE, 0);
}

static void buffer_behind_ram(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, attack_end_of_ram(), 1, VIRTQ_DESC_WRITE, 0);
}

static void buffer_over_the_end_of_ram(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, attack_end_of_ram() - 32, 64, VIRTQ_DESC_WRITE, 0);
}

static void buffer_of_four_gigabytes(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, data(), 0xffffffff, VIRTQ_DESC_WRITE, 0);
}

static void buffer_to_read_in_the_hole(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, PLATFORM_MMIO_HOLE_START, 64, 0, 0);
}

static void readable_behind_writable(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, 0, 0);
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE | VIRTQ_DESC_NEXT, 1);
}

static void writable_where_readable_is_due(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, VIRTQ_DESC_WRITE, 0);
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_WRITE | VIRTQ_DESC_NEXT, 1);
}

static void readable_where_writable_is_due(struct attacker *a, unsigned q)
{
	attacker_set_desc(a, q, 1, data(), 64, 0, 0);
	attack_submit_one(a, q, data(), 64, VIRTQ_DESC_NEXT, 1);
}

static void one_byte(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, data(), 1, 0, 0);
}

static void one_writable_byte(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, data(), 1, VIRTQ_DESC_WRITE, 0);
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
	attack_submit_one(a, q, data(), 2048, VIRTQ_DESC_NEXT, 1);
}

static void rings_as_the_buffer(struct attacker *a, unsigned q)
{
	attack_submit_one(a, q, (uint64_t)a->queues[q], PAGE_SIZE, VIRTQ_DESC_WRITE, 0);
}

const struct attack_case attack_chain_cases[] = {
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
};

const size_t attack_chain_case_count = sizeof(attack_chain_cases) / sizeof(attack_chain_cases[0]);
