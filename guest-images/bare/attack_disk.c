#include "attack_disk.h"

#include "arch/x86_64/platform.h"
#include "attack_driver.h"
#include "attack_victim.h"
#include "machine.h"
#include "runtime.h"

#define SMALL_SIZE 8

static struct victim victim;

static void write_status(uint32_t status)
{
	attacker_write(&victim.disk, REG_STATUS, status);
}

/* ---- the device reset ---- */

static void reset_under_reads(void)
{
	victim_begin(&victim, false);
	write_status(0);
}

static void reset_under_writes(void)
{
	victim_begin(&victim, true);
	write_status(0);
}

/* Each kick may be taken or not before the reset comes. */
static void reset_storm_under_io(void)
{
	for (unsigned i = 0; i < 20; i++) {
		attacker_bring_up(&victim.disk);
		victim_begin(&victim, i & 1);
		for (unsigned pause = 0; pause < i * 500; pause++)
			cpu_pause();
		write_status(0);
	}
}

static void brought_up_without_reset_under_io(void)
{
	victim_begin(&victim, false);
	write_status(STATUS_ACKNOWLEDGE);
	write_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	attacker_finish(&victim.disk);
	victim_begin(&victim, false);
}

static void failed_under_io(void)
{
	victim_begin(&victim, true);
	write_status(0x80);
	victim_begin(&victim, true);
}

/* ---- its queue ---- */

static void set_ready(uint32_t ready)
{
	attacker_write(&victim.disk, REG_QUEUE_SELECT, 0);
	attacker_write(&victim.disk, REG_QUEUE_READY, ready);
}

static void queue_taken_away_under_io(void)
{
	victim_begin(&victim, false);
	set_ready(0);
	victim_await(&victim, ATTACK_MOMENT);
	set_ready(1);
	attacker_kick(&victim.disk, 0);
}

static void queue_flaps_under_io(void)
{
	for (unsigned i = 0; i < 50; i++) {
		victim_begin(&victim, i & 1);
		set_ready(0);
		set_ready(1);
		attacker_kick(&victim.disk, 0);
	}
}

static void queue_size_changed_under_io(void)
{
	victim_begin(&victim, false);
	attacker_write(&victim.disk, REG_QUEUE_SELECT, 0);
	attacker_write(&victim.disk, REG_QUEUE_SIZE, SMALL_SIZE);
	victim_begin(&victim, false);
}

static void queue_shrunk_under_io(void)
{
	victim_begin(&victim, false);
	set_ready(0);
	attacker_write(&victim.disk, REG_QUEUE_SIZE, SMALL_SIZE);
	set_ready(1);
	victim_begin(&victim, false);
}

static void move_rings(uint64_t address)
{
	attacker_write64(&victim.disk, REG_QUEUE_DESC, address);
	attacker_write64(&victim.disk, REG_QUEUE_DRIVER, address + 1024);
	attacker_write64(&victim.disk, REG_QUEUE_DEVICE, address + 2048);
}

static void queue_moved_under_io(void)
{
	victim_begin(&victim, false);
	attacker_write(&victim.disk, REG_QUEUE_SELECT, 0);
	move_rings((uint64_t)attack_data);
	victim_begin(&victim, false);
}

static void queue_taken_away_and_moved_under_io(void)
{
	memset(attack_data, 0, sizeof(attack_data));
	victim_begin(&victim, true);
	set_ready(0);
	move_rings((uint64_t)attack_data);
	set_ready(1);
	victim_begin(&victim, true);
}

static void queue_moved_into_the_buffer_under_io(void)
{
	victim_begin(&victim, false);
	set_ready(0);
	move_rings((uint64_t)victim_data);
	set_ready(1);
	attacker_kick(&victim.disk, 0);
}

static void queue_moved_behind_ram_under_io(void)
{
	victim_begin(&victim, false);
	set_ready(0);
	move_rings(machine.ram[0].end);
	set_ready(1);
	attacker_kick(&victim.disk, 0);
}

/* ---- its requests ---- */

static void chains_made_available_again_under_io(void)
{
	for (unsigned i = 0; i < 3; i++)
		victim_begin(&victim, true);
}

static void reads_into_the_rings_under_io(void)
{
	struct virtq *rings = victim.disk.queues[0];

	victim_begin(&victim, false);
	attacker_set_desc(&victim.disk, 0, 1, (uint64_t)rings, 4096,
			  VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE, 2);
	attacker_publish(&victim.disk, 0, 0);
	attacker_kick(&victim.disk, 0);
}

static void descriptors_wiped_under_io(void)
{
	victim_begin(&victim, false);
	memset(victim.disk.queues[0]->desc, 0xff, sizeof(victim.disk.queues[0]->desc));
	attacker_kick(&victim.disk, 0);
}

static void broken_under_io(void)
{
	victim_begin(&victim, true);
	attacker_publish(&victim.disk, 0, 0xffff);
	attacker_kick(&victim.disk, 0);
}

static void index_jumps_under_io(void)
{
	struct virtq *rings = victim.disk.queues[0];

	victim_begin(&victim, false);
	rings->avail.index = (uint16_t)(rings->avail.index + 0x4000);
	attacker_kick(&victim.disk, 0);
}

static void kicks_under_io(void)
{
	victim_begin(&victim, false);
	for (unsigned i = 0; i < 500; i++)
		attacker_kick(&victim.disk, 0);
}

static const struct disk_case {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"reset_under_reads", reset_under_reads},
	{"reset_under_writes", reset_under_writes},
	{"reset_storm_under_io", reset_storm_under_io},
	{"brought_up_without_reset_under_io", brought_up_without_reset_under_io},
	{"failed_under_io", failed_under_io},
	{"queue_taken_away_under_io", queue_taken_away_under_io},
	{"queue_flaps_under_io", queue_flaps_under_io},
	{"queue_size_changed_under_io", queue_size_changed_under_io},
	{"queue_shrunk_under_io", queue_shrunk_under_io},
	{"queue_moved_under_io", queue_moved_under_io},
	{"queue_taken_away_and_moved_under_io", queue_taken_away_and_moved_under_io},
	{"queue_moved_into_the_buffer_under_io", queue_moved_into_the_buffer_under_io},
	{"queue_moved_behind_ram_under_io", queue_moved_behind_ram_under_io},
	{"chains_made_available_again_under_io", chains_made_available_again_under_io},
	{"reads_into_the_rings_under_io", reads_into_the_rings_under_io},
	{"descriptors_wiped_under_io", descriptors_wiped_under_io},
	{"broken_under_io", broken_under_io},
	{"index_jumps_under_io", index_jumps_under_io},
	{"kicks_under_io", kicks_under_io},
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

void attack_command_disk(uint64_t number)
{
	const char *problem;
	uint32_t status;

	if (number >= CASES) {
		answer_fail("no such case");
		return;
	}
	problem = victim_prepare(&victim);
	if (problem) {
		answer_fail("before %s: %s", cases[number].name, problem);
		return;
	}
	cases[number].run();
	victim_await(&victim, ATTACK_MOMENT);
	status = mmio_read32(victim.disk.base + REG_STATUS);
	problem = victim_check(&victim);
	if (problem)
		answer_fail("after %s: %s", cases[number].name, problem);
	else
		answer_ok("name=%s count=%u status=%x healthy=1", cases[number].name,
			  (uint64_t)CASES, (uint64_t)status);
}

/* ---- the machine reset ---- */

#define I8042_DATA    0x60
#define I8042_COMMAND 0x64
#define WRITE_OUTPUT  0xd1

static void pulse_reset(void)
{
	outb(I8042_COMMAND, 0xfe);
}

static void pulse_all_lines(void)
{
	outb(I8042_COMMAND, 0xf0);
}

static void write_output_port(void)
{
	outb(I8042_COMMAND, WRITE_OUTPUT);
	outb(I8042_DATA, 0xfe);
}

static void pulse_again_and_again(void)
{
	for (unsigned i = 0; i < 100; i++)
		pulse_reset();
}

static void panic_first(void)
{
	for (uint8_t events = 1; events < 4; events++)
		outb(PLATFORM_PVPANIC_PORT, events);
	pulse_reset();
}

/* These are no ways: the machine has neither. */
static void chipset_control(void)
{
	outb(0xcf9, 2);
	outb(0xcf9, 6);
	outb(0xcf9, 0xe);
}

static void fast_gate(void)
{
	outb(0x92, 1);
	outb(0x92, 3);
}

static void sleep_of_other_types(void)
{
	for (uint8_t type = 0; type < 8; type++)
		if (type != PLATFORM_SLEEP_S5)
			outb(PLATFORM_SLEEP_CONTROL, (uint8_t)(type << 2 | 1 << 5));
}

static void (*const ways[])(void) = {
	pulse_reset, pulse_all_lines, write_output_port, pulse_again_and_again,
	panic_first, chipset_control, fast_gate,         sleep_of_other_types,
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

void attack_command_reset(uint64_t way, uint64_t io)
{
	const char *problem = io ? victim_prepare(&victim) : NULL;

	if (problem || way >= WAYS) {
		answer_fail("%s", problem ? problem : "no such way");
		return;
	}
	if (io) {
		victim_begin(&victim, false);
		victim_begin(&victim, true);
	}
	ways[way]();
	for (uint64_t start = rdtsc(); rdtsc() - start < ATTACK_MOMENT;)
		cpu_pause();
	answer_ok("ways=%u survived=1", (uint64_t)WAYS);
}

/* ---- noise ---- */

static void submit(struct attacker *a, unsigned queue, uint64_t address, uint32_t length)
{
	attacker_set_desc(a, queue, 0, address, length, 0, 0);
	attacker_publish(a, queue, 0);
	attacker_kick(a, queue);
	attacker_settle(a, queue);
}

/* What each device says something about. */
static void provoke(struct attacker *a)
{
	/* Features that were not offered; DRIVER_OK without FEATURES_OK; a queue that cannot be. */
	attacker_write(a, REG_STATUS, 0);
	attacker_write(a, REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	attacker_write(a, REG_DRIVER_SELECT, 0);
	attacker_write(a, REG_DRIVER, 0xffffffff);
	attacker_write(a, REG_STATUS, STATUS_FEATURES_OK);
	attacker_write(a, REG_STATUS, STATUS_DRIVER_OK);
	attacker_begin(a);
	attacker_write(a, REG_QUEUE_SELECT, 0);
	attacker_write(a, REG_QUEUE_SIZE, ATTACK_QUEUE_SIZE);
	attacker_write64(a, REG_QUEUE_DESC, UINT64_MAX);
	attacker_write(a, REG_QUEUE_READY, 1);
	for (unsigned queue = 0; queue < a->queue_count && queue < 2; queue++) {
		/* Junk by the rules, then a buffer that is nowhere. */
		attacker_bring_up(a);
		memset(attack_data, 0xff, sizeof(attack_data));
		submit(a, queue, (uint64_t)attack_data, sizeof(attack_data));
		attacker_bring_up(a);
		submit(a, queue, UINT64_MAX - 100, 64);
	}
	/* Pages outside RAM, bytes outside the disk. */
	attacker_bring_up(a);
	memset(attack_data, 0x7f, 64);
	*(uint32_t *)guest_pointer((uint64_t)attack_data) = 0;
	attacker_set_desc(a, 0, 1, (uint64_t)attack_data + 512, 513, VIRTQ_DESC_WRITE, 0);
	attacker_set_desc(a, 0, 0, (uint64_t)attack_data, 16, VIRTQ_DESC_NEXT, 1);
	attacker_publish(a, 0, 0);
	attacker_kick(a, 0);
	attacker_settle(a, 0);
}

void attack_command_noise(uint64_t seconds)
{
	static struct attacker a;
	uint64_t rounds = 0, cycles = seconds * 2000000000ull;

	for (uint64_t start = rdtsc(); rdtsc() - start < cycles; rounds++) {
		sleep_of_other_types();
		outb(PLATFORM_PVPANIC_PORT, 3);
		for (size_t i = 0; i < machine.virtio_count; i++)
			if (attacker_take(&a, machine.virtio[i]))
				provoke(&a);
	}
	answer_ok("rounds=%u", rounds);
}
