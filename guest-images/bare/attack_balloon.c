#include "attack_balloon.h"

#include "arch/x86_64/platform.h"
#include "attack_driver.h"
#include "attack_victim.h"
#include "machine.h"
#include "runtime.h"

#define QUEUE_INFLATE 0
#define QUEUE_DEFLATE 1
#define QUEUE_STATS   2
#define QUEUE_REPORT  4

#define CONFIG_ACTUAL (VIRTIO_CONFIG + 4)

#define NO_SUCH_FRAME 0xffffffffu

/* What the disk does meanwhile. */
enum disk_io {
	IDLE,
	READS,
	WRITES,
};

static struct attacker balloon;
static struct victim victim;

static uint32_t frame_of(const volatile void *place)
{
	return (uint32_t)((uint64_t)place / PAGE_SIZE);
}

/* ---- lists of pages, in attack_data ---- */

static void send_list(unsigned queue, uint32_t count)
{
	uint16_t before = attacker_used(&balloon, queue);

	attacker_set_desc(&balloon, queue, 0, (uint64_t)attack_data, 4 * count, 0, 0);
	attacker_publish(&balloon, queue, 0);
	attacker_kick(&balloon, queue);
	attacker_await(&balloon, queue, (uint16_t)(before + 1), ATTACK_MOMENT);
}

static uint32_t *list(void)
{
	return guest_pointer((uint64_t)attack_data);
}

static void send_run(unsigned queue, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		list()[i] = first + i;
	send_list(queue, count);
}

static void send_one(unsigned queue, uint32_t frame)
{
	send_run(queue, frame, 1);
}

static uint32_t own_page(void)
{
	return frame_of(attack_data + PAGE_SIZE);
}

static void inflated_twice_in_a_request(void)
{
	list()[0] = list()[1] = own_page();
	send_list(QUEUE_INFLATE, 2);
}

static void inflated_twice(void)
{
	send_one(QUEUE_INFLATE, own_page());
	send_one(QUEUE_INFLATE, own_page());
}

static void inflated_a_thousand_times(void)
{
	for (uint32_t i = 0; i < 1000; i++)
		list()[i] = own_page();
	send_list(QUEUE_INFLATE, 1000);
}

static void deflated_that_was_never_inflated(void)
{
	send_one(QUEUE_DEFLATE, own_page());
}

static void deflated_twice(void)
{
	send_one(QUEUE_INFLATE, own_page());
	send_one(QUEUE_DEFLATE, own_page());
	send_one(QUEUE_DEFLATE, own_page());
}

static void written_to_while_inflated(void)
{
	send_one(QUEUE_INFLATE, own_page());
	attack_data[PAGE_SIZE] = 1;
	send_one(QUEUE_INFLATE, own_page());
	attack_data[PAGE_SIZE] = 2;
	send_one(QUEUE_DEFLATE, own_page());
}

static void inflated_in_the_hole(void)
{
	send_one(QUEUE_INFLATE, (uint32_t)(PLATFORM_MMIO_HOLE_START / PAGE_SIZE));
}

static void inflated_behind_ram(void)
{
	send_one(QUEUE_INFLATE, (uint32_t)(machine.ram[machine.ram_count - 1].end / PAGE_SIZE));
}

static void inflated_the_greatest_number(void)
{
	send_one(QUEUE_INFLATE, NO_SUCH_FRAME);
}

static void inflated_around_the_greatest_number(void)
{
	send_run(QUEUE_INFLATE, NO_SUCH_FRAME - 3, 4);
}

static void inflated_a_device(void)
{
	send_one(QUEUE_INFLATE, (uint32_t)(balloon.base / PAGE_SIZE));
}

static void inflated_the_local_apic(void)
{
	send_one(QUEUE_INFLATE, (uint32_t)(PLATFORM_LAPIC_BASE / PAGE_SIZE));
}

static void deflated_outside_ram(void)
{
	list()[0] = NO_SUCH_FRAME;
	list()[1] = (uint32_t)(PLATFORM_MMIO_HOLE_START / PAGE_SIZE);
	list()[2] = (uint32_t)(machine.ram[0].end / PAGE_SIZE);
	send_list(QUEUE_DEFLATE, 3);
}

static void inflated_in_and_outside_ram_in_turn(void)
{
	for (uint32_t i = 0; i < 1000; i++)
		list()[i] = i & 1 ? own_page() : NO_SUCH_FRAME - i;
	send_list(QUEUE_INFLATE, 1000);
}

static void inflated_more_than_a_request_may(void)
{
	attacker_set_desc(&balloon, QUEUE_INFLATE, 0, (uint64_t)victim_data, sizeof(victim_data), 0,
			  0);
	attacker_publish(&balloon, QUEUE_INFLATE, 0);
	attacker_kick(&balloon, QUEUE_INFLATE);
}

static void inflated_the_page_of_the_list(void)
{
	for (uint32_t i = 0; i < 1000; i++)
		list()[i] = frame_of(attack_data);
	send_list(QUEUE_INFLATE, 1000);
}

static void inflated_the_rings_of_the_balloon(void)
{
	list()[0] = frame_of(balloon.queues[QUEUE_DEFLATE]);
	list()[1] = frame_of(balloon.queues[QUEUE_INFLATE]);
	send_list(QUEUE_INFLATE, 2);
	send_one(QUEUE_DEFLATE, own_page());
}

static void inflated_the_rings_of_the_disk(void)
{
	send_one(QUEUE_INFLATE, frame_of(victim.disk.queues[0]));
}

static void deflated_the_rings_of_the_disk(void)
{
	send_one(QUEUE_DEFLATE, frame_of(victim.disk.queues[0]));
}

static void inflated_the_buffer(void)
{
	send_run(QUEUE_INFLATE, frame_of(victim_data), VICTIM_PAGES);
}

static void inflated_the_buffer_again_and_again(void)
{
	for (unsigned i = 0; i < 10; i++) {
		send_run(QUEUE_INFLATE, frame_of(victim_data), VICTIM_PAGES);
		send_run(QUEUE_DEFLATE, frame_of(victim_data), VICTIM_PAGES);
	}
}

static void deflated_the_buffer(void)
{
	send_run(QUEUE_DEFLATE, frame_of(victim_data), VICTIM_PAGES);
}

static void inflated_the_request_headers(void)
{
	send_one(QUEUE_INFLATE, frame_of(victim_headers));
}

static void inflated_the_status_bytes(void)
{
	send_one(QUEUE_INFLATE, frame_of(victim_statuses));
}

static void inflated_all_of_the_disk_s(void)
{
	inflated_the_buffer();
	list()[0] = frame_of(victim_headers);
	list()[1] = frame_of(victim_statuses);
	list()[2] = frame_of(victim.disk.queues[0]);
	send_list(QUEUE_INFLATE, 3);
}

/* ---- reports of free pages ---- */

static void report_flagged(uint64_t address, uint32_t length, uint16_t flags)
{
	uint16_t before = attacker_used(&balloon, QUEUE_REPORT);

	attacker_set_desc(&balloon, QUEUE_REPORT, 0, address, length, flags, 0);
	attacker_publish(&balloon, QUEUE_REPORT, 0);
	attacker_kick(&balloon, QUEUE_REPORT);
	attacker_await(&balloon, QUEUE_REPORT, (uint16_t)(before + 1), ATTACK_MOMENT);
}

static void report(const volatile void *place, uint64_t length)
{
	report_flagged((uint64_t)place, (uint32_t)length, VIRTQ_DESC_WRITE);
}

static void reported_the_buffer(void)
{
	report(victim_data, sizeof(victim_data));
}

static void reported_the_buffer_again_and_again(void)
{
	for (unsigned i = 0; i < 10; i++)
		report(victim_data, sizeof(victim_data));
}

static void reported_the_rings_of_the_disk(void)
{
	report(victim.disk.queues[0], PAGE_SIZE);
}

static void reported_the_rings_of_the_balloon(void)
{
	report(balloon.queues[QUEUE_REPORT], PAGE_SIZE);
	send_one(QUEUE_INFLATE, own_page());
}

static void reported_headers_and_status_bytes(void)
{
	report(victim_headers, PAGE_SIZE);
	report(victim_statuses, PAGE_SIZE);
}

static void reported_twice(void)
{
	report(attack_data, sizeof(attack_data));
	report(attack_data, sizeof(attack_data));
}

static void reported_and_inflated(void)
{
	report(attack_data + PAGE_SIZE, PAGE_SIZE);
	send_one(QUEUE_INFLATE, own_page());
	report(attack_data + PAGE_SIZE, PAGE_SIZE);
	send_one(QUEUE_DEFLATE, own_page());
}

static void reported_parts_of_pages(void)
{
	for (uint32_t i = 1; i < PAGE_SIZE; i += 511)
		report(attack_data + i, PAGE_SIZE);
	report(attack_data + PAGE_SIZE - 1, 2);
}

static void reported_to_be_read(void)
{
	report_flagged((uint64_t)attack_data, PAGE_SIZE, 0);
}

static void reported_over_the_end_of_ram(void)
{
	report_flagged(machine.ram[0].end - PAGE_SIZE, 2 * PAGE_SIZE, VIRTQ_DESC_WRITE);
}

static void reported_in_the_hole(void)
{
	report_flagged(PLATFORM_MMIO_HOLE_START, PAGE_SIZE, VIRTQ_DESC_WRITE);
}

/* ---- the rest ---- */

static void statistics_in_two_buffers(void)
{
	for (unsigned i = 0; i < 4; i++)
		send_list(QUEUE_STATS, 10 + i);
}

static void actual_beyond_ram(void)
{
	for (uint32_t value = 0; value < 50; value++)
		attacker_write(&balloon, CONFIG_ACTUAL, NO_SUCH_FRAME - value);
}

static const struct balloon_case {
	const char *name;
	enum disk_io io;
	bool breaks; /* the balloon has to say so */
	void (*run)(void);
} cases[] = {
	{"inflated_twice_in_a_request", IDLE, false, inflated_twice_in_a_request},
	{"inflated_twice", IDLE, false, inflated_twice},
	{"inflated_a_thousand_times", IDLE, false, inflated_a_thousand_times},
	{"deflated_that_was_never_inflated", IDLE, false, deflated_that_was_never_inflated},
	{"deflated_twice", IDLE, false, deflated_twice},
	{"written_to_while_inflated", IDLE, false, written_to_while_inflated},
	{"inflated_in_the_hole", IDLE, false, inflated_in_the_hole},
	{"inflated_behind_ram", IDLE, false, inflated_behind_ram},
	{"inflated_the_greatest_number", IDLE, false, inflated_the_greatest_number},
	{"inflated_around_the_greatest_number", IDLE, false, inflated_around_the_greatest_number},
	{"inflated_a_device", IDLE, false, inflated_a_device},
	{"inflated_the_local_apic", IDLE, false, inflated_the_local_apic},
	{"deflated_outside_ram", IDLE, false, deflated_outside_ram},
	{"inflated_in_and_outside_ram_in_turn", IDLE, false, inflated_in_and_outside_ram_in_turn},
	{"inflated_more_than_a_request_may", IDLE, true, inflated_more_than_a_request_may},
	{"inflated_the_page_of_the_list", IDLE, false, inflated_the_page_of_the_list},
	{"inflated_the_rings_of_the_balloon", IDLE, false, inflated_the_rings_of_the_balloon},
	{"inflated_the_rings_of_the_disk", IDLE, false, inflated_the_rings_of_the_disk},
	{"inflated_the_rings_during_reads", READS, false, inflated_the_rings_of_the_disk},
	{"inflated_the_rings_during_writes", WRITES, false, inflated_the_rings_of_the_disk},
	{"deflated_the_rings_during_reads", READS, false, deflated_the_rings_of_the_disk},
	{"inflated_the_buffer_of_reads", READS, false, inflated_the_buffer},
	{"inflated_the_buffer_of_writes", WRITES, false, inflated_the_buffer},
	{"inflated_the_buffer_of_reads_again_and_again", READS, false,
	 inflated_the_buffer_again_and_again},
	{"inflated_the_buffer_of_writes_again_and_again", WRITES, false,
	 inflated_the_buffer_again_and_again},
	{"deflated_the_buffer_of_reads", READS, false, deflated_the_buffer},
	{"inflated_the_headers_of_reads", READS, false, inflated_the_request_headers},
	{"inflated_the_headers_of_writes", WRITES, false, inflated_the_request_headers},
	{"inflated_the_status_bytes_of_reads", READS, false, inflated_the_status_bytes},
	{"inflated_all_of_the_disk_s_during_reads", READS, false, inflated_all_of_the_disk_s},
	{"inflated_all_of_the_disk_s_during_writes", WRITES, false, inflated_all_of_the_disk_s},
	{"reported_the_buffer_of_reads", READS, false, reported_the_buffer},
	{"reported_the_buffer_of_writes", WRITES, false, reported_the_buffer},
	{"reported_the_buffer_of_reads_again_and_again", READS, false,
	 reported_the_buffer_again_and_again},
	{"reported_the_buffer_of_writes_again_and_again", WRITES, false,
	 reported_the_buffer_again_and_again},
	{"reported_the_rings_of_the_disk", IDLE, false, reported_the_rings_of_the_disk},
	{"reported_the_rings_during_reads", READS, false, reported_the_rings_of_the_disk},
	{"reported_the_rings_during_writes", WRITES, false, reported_the_rings_of_the_disk},
	{"reported_the_rings_of_the_balloon", IDLE, false, reported_the_rings_of_the_balloon},
	{"reported_headers_and_status_bytes", READS, false, reported_headers_and_status_bytes},
	{"reported_twice", IDLE, false, reported_twice},
	{"reported_and_inflated", IDLE, false, reported_and_inflated},
	{"reported_parts_of_pages", IDLE, false, reported_parts_of_pages},
	{"reported_to_be_read", IDLE, false, reported_to_be_read},
	{"reported_over_the_end_of_ram", IDLE, true, reported_over_the_end_of_ram},
	{"reported_in_the_hole", IDLE, true, reported_in_the_hole},
	{"statistics_in_two_buffers", IDLE, false, statistics_in_two_buffers},
	{"actual_beyond_ram", IDLE, false, actual_beyond_ram},
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

static const char *prepare(void)
{
	const char *problem = victim_prepare(&victim);

	if (problem)
		return problem;
	if (!attacker_find(&balloon, VIRTIO_ID_BALLOON, false) ||
	    balloon.queue_count <= QUEUE_REPORT)
		return "no balloon that takes reports";
	return attacker_bring_up(&balloon);
}

static void strike(const struct balloon_case *which)
{
	if (which->io != IDLE)
		victim_begin(&victim, which->io == WRITES);
	which->run();
	if (which->io != IDLE) {
		/* It may have no rings any more to say so. */
		victim_await(&victim, ATTACK_MOMENT);
		which->run();
	}
}

void attack_command_balloon(uint64_t number)
{
	uint32_t status, disk;
	const char *problem;
	bool right;

	if (number >= CASES) {
		answer_fail("no such case");
		return;
	}
	problem = prepare();
	if (problem) {
		answer_fail("before %s: %s", cases[number].name, problem);
		return;
	}
	strike(&cases[number]);
	right = !cases[number].breaks || attacker_wait_broken(&balloon);
	status = mmio_read32(balloon.base + REG_STATUS);
	disk = mmio_read32(victim.disk.base + REG_STATUS);
	problem = attacker_check_health(&balloon);
	if (!problem)
		problem = victim_check(&victim);
	if (problem)
		answer_fail("after %s: %s", cases[number].name, problem);
	else
		answer_ok("name=%s count=%u status=%x disk=%x right=%u healthy=1",
			  cases[number].name, (uint64_t)CASES, (uint64_t)status, (uint64_t)disk,
			  (uint64_t)right);
}
