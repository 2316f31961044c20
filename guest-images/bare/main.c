/*
 * The bare guest's worker: sets itself up, says "@ready", then executes commands from the serial
 * line, one a line, and answers each with one line: "@ok …" or "@fail …". A first word that starts
 * with # is a tag; the answer repeats it. Other lines are for people. See `help`.
 */
#include "arch/x86_64/platform.h"
#include "attack.h"
#include "attack_balloon.h"
#include "attack_disk.h"
#include "attack_race.h"
#include "balloon.h"
#include "blk.h"
#include "console.h"
#include "machine.h"
#include "memory.h"
#include "net.h"
#include "runtime.h"
#include "second_cpu.h"
#include "virtio.h"
#include "vsock.h"

#define WORDS_MAX     9
#define ARGUMENTS_MAX 6

/* ACPI sleep control register: SLP_TYP in bits 2-4, SLP_EN (ACPI 6.4, section 4.8.3.7). */
#define SLEEP_VALUE       (PLATFORM_SLEEP_S5 << 2 | 1 << 5)
#define I8042_PULSE_RESET 0xfe
#define PIC2_COMMAND      0xa0 /* of the 8259 for IRQ 8 to 15 */
#define PIC_READ_REQUESTS 0x0a

_Noreturn void worker(uint64_t start_info);

static void do_ping(const uint64_t *arguments)
{
	(void)arguments;
	answer_ok("pong tsc=%u", rdtsc());
}

static void do_memory(const uint64_t *arguments)
{
	(void)arguments;
	memory_command_info();
}

static void do_reset(const uint64_t *arguments)
{
	(void)arguments;
	answer_ok("");
	outb(PLATFORM_I8042_COMMAND, I8042_PULSE_RESET);
	for (;;)
		cpu_pause();
}

static void do_poweroff(const uint64_t *arguments)
{
	(void)arguments;
	answer_ok("");
	outb(PLATFORM_SLEEP_CONTROL, SLEEP_VALUE);
	for (;;)
		cpu_pause();
}

static void do_panic(const uint64_t *arguments)
{
	outb(PLATFORM_PVPANIC_PORT, (uint8_t)arguments[0]);
	answer_ok("");
}

static void do_triple(const uint64_t *arguments)
{
	(void)arguments;
	answer_ok("");
	__asm__ volatile("ud2");
}

static void do_known_fill(const uint64_t *arguments)
{
	memory_command_known(MEMORY_KNOWN_FILL, arguments);
}

static void do_known_zero(const uint64_t *arguments)
{
	memory_command_known(MEMORY_KNOWN_ZERO, arguments);
}

static void do_known_verify(const uint64_t *arguments)
{
	memory_command_known(MEMORY_KNOWN_VERIFY, arguments);
}

static void do_known_zeroes(const uint64_t *arguments)
{
	memory_command_known(MEMORY_KNOWN_ZEROES, arguments);
}

static void do_second_start(const uint64_t *arguments)
{
	second_cpu_command_start(arguments[0]);
}

static void do_second_stop(const uint64_t *arguments)
{
	(void)arguments;
	second_cpu_command_stop();
}

static void do_balloon_info(const uint64_t *arguments)
{
	(void)arguments;
	balloon_command_info();
}

static void do_balloon_inflate(const uint64_t *arguments)
{
	balloon_command_inflate(arguments[0]);
}

static void do_balloon_deflate(const uint64_t *arguments)
{
	balloon_command_deflate(arguments[0]);
}

static void do_balloon_follow(const uint64_t *arguments)
{
	(void)arguments;
	balloon_command_follow();
}

static void do_balloon_stats(const uint64_t *arguments)
{
	(void)arguments;
	balloon_command_stats();
}

static void do_balloon_report(const uint64_t *arguments)
{
	balloon_command_report(arguments[0], arguments[1] ? arguments[1] : 512,
			       arguments[2] ? arguments[2] : 1);
}

static void do_blk_list(const uint64_t *arguments)
{
	(void)arguments;
	blk_command_list();
}

static void do_blk_info(const uint64_t *arguments)
{
	blk_command_info(arguments[0]);
}

static void do_blk_get(const uint64_t *arguments)
{
	blk_command_transfer(arguments[0], false, arguments[1], arguments[2], arguments[3]);
}

static void do_blk_put(const uint64_t *arguments)
{
	blk_command_transfer(arguments[0], true, arguments[1], arguments[2], arguments[3]);
}

static void do_blk_flush(const uint64_t *arguments)
{
	blk_command_flush(arguments[0]);
}

static void do_blk_discard(const uint64_t *arguments)
{
	blk_command_range(arguments[0], BLK_DISCARD, arguments[1], arguments[2], arguments[3]);
}

static void do_blk_zeroes(const uint64_t *arguments)
{
	blk_command_range(arguments[0], BLK_ZEROES, arguments[1], arguments[2], arguments[3]);
}

static void do_blk_unmap(const uint64_t *arguments)
{
	blk_command_range(arguments[0], BLK_UNMAP, arguments[1], arguments[2], arguments[3]);
}

static void do_attack_list(const uint64_t *arguments)
{
	(void)arguments;
	attack_command_list();
}

static void do_attack_devices(const uint64_t *arguments)
{
	(void)arguments;
	attack_command_devices();
}

static void do_attack_run(const uint64_t *arguments)
{
	attack_command_run(arguments[0], arguments[1], arguments[2]);
}

static void do_attack_race(const uint64_t *arguments)
{
	attack_command_race(arguments[0], arguments[1], arguments[2]);
}

static void do_attack_sweep(const uint64_t *arguments)
{
	attack_command_sweep(arguments[0]);
}

static void do_attack_balloon(const uint64_t *arguments)
{
	attack_command_balloon(arguments[0]);
}

static void do_attack_disk(const uint64_t *arguments)
{
	attack_command_disk(arguments[0]);
}

static void do_attack_reset(const uint64_t *arguments)
{
	attack_command_reset(arguments[0], arguments[1]);
}

static void do_attack_noise(const uint64_t *arguments)
{
	attack_command_noise(arguments[0]);
}

static void do_help(const uint64_t *arguments);

static const struct command {
	const char *group, *name; /* the group may be NULL */
	const char *usage;
	unsigned required;
	void (*run)(const uint64_t *arguments);
} commands[] = {
	{NULL, "help", "", 0, do_help},
	{NULL, "ping", "", 0, do_ping},
	{NULL, "memory", "", 0, do_memory},
	{NULL, "fill", "START LENGTH SEED", 3, memory_command_fill},
	{NULL, "verify", "START LENGTH SEED [BASE]", 3, memory_command_verify},
	{NULL, "fillall", "SEED", 1, memory_command_fill_all},
	{NULL, "verifyall", "SEED", 1, memory_command_verify_all},
	{NULL, "zero", "START LENGTH", 2, memory_command_zero},
	{NULL, "touch", "START LENGTH [STRIDE [WRITE]]", 2, memory_command_touch},
	{NULL, "latency", "START LENGTH", 2, memory_command_latency},
	{NULL, "gap", "CYCLES", 1, memory_command_gap},
	{NULL, "churn", "START LENGTH [COUNT]", 2, memory_command_churn},
	{"known", "fill", "START LENGTH SEED", 3, do_known_fill},
	{"known", "zero", "START LENGTH", 2, do_known_zero},
	{"known", "verify", "START LENGTH SEED [BASE]", 3, do_known_verify},
	{"known", "zeroes", "START LENGTH", 2, do_known_zeroes},
	{"second", "start", "ADDRESS", 1, do_second_start},
	{"second", "stop", "", 0, do_second_stop},
	{"balloon", "info", "", 0, do_balloon_info},
	{"balloon", "inflate", "PAGES", 1, do_balloon_inflate},
	{"balloon", "deflate", "PAGES", 1, do_balloon_deflate},
	{"balloon", "follow", "", 0, do_balloon_follow},
	{"balloon", "stats", "", 0, do_balloon_stats},
	{"balloon", "report", "RUNS [PAGES [STEP]]", 1, do_balloon_report},
	{"blk", "list", "", 0, do_blk_list},
	{"blk", "info", "DISK", 1, do_blk_info},
	{"blk", "get", "DISK SECTOR COUNT ADDRESS", 4, do_blk_get},
	{"blk", "put", "DISK SECTOR COUNT ADDRESS", 4, do_blk_put},
	{"blk", "flush", "DISK", 1, do_blk_flush},
	{"blk", "discard", "DISK SECTOR COUNT RANGES", 4, do_blk_discard},
	{"blk", "zeroes", "DISK SECTOR COUNT RANGES", 4, do_blk_zeroes},
	{"blk", "unmap", "DISK SECTOR COUNT RANGES", 4, do_blk_unmap},
	{"attack", "list", "", 0, do_attack_list},
	{"attack", "devices", "", 0, do_attack_devices},
	{"attack", "run", "DEVICE QUEUE CASE", 3, do_attack_run},
	{"attack", "race", "DEVICE QUEUE RACE", 3, do_attack_race},
	{"attack", "sweep", "0|1", 1, do_attack_sweep},
	{"attack", "balloon", "CASE", 1, do_attack_balloon},
	{"attack", "disk", "CASE", 1, do_attack_disk},
	{"attack", "reset", "WAY [IO]", 1, do_attack_reset},
	{"attack", "noise", "SECONDS", 1, do_attack_noise},
	{"net", "list", "", 0, net_command_list},
	{"net", "info", "CARD", 1, net_command_info},
	{"net", "features", "CARD MASK", 2, net_command_features},
	{"net", "serve", "CARD ADDRESS", 2, net_command_serve},
	{"net", "send", "CARD ADDRESS TO PORT COUNT SIZE", 6, net_command_send},
	{"net", "segment", "CARD ADDRESS TO SIZE", 4, net_command_segment},
	{"console", "info", "", 0, console_command_info},
	{"console", "write", "BYTES", 1, console_command_write},
	{"console", "echo", "BYTES", 1, console_command_echo},
	{"vsock", "info", "", 0, vsock_command_info},
	{"vsock", "connect", "PORT BYTES", 2, vsock_command_connect},
	{"vsock", "flood", "COUNT", 1, vsock_command_flood},
	{NULL, "reset", "", 0, do_reset},
	{NULL, "poweroff", "", 0, do_poweroff},
	{NULL, "panic", "EVENTS", 1, do_panic},
	{NULL, "triple", "", 0, do_triple},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void do_help(const uint64_t *arguments)
{
	(void)arguments;
	for (size_t i = 0; i < COMMANDS; i++)
		print("%s%s%s %s\r\n", commands[i].group ? commands[i].group : "",
		      commands[i].group ? " " : "", commands[i].name, commands[i].usage);
	print("blk abuse DISK address|hole|short|status|loop|next|index|head\r\n");
	answer_ok("");
}

static size_t split(char *line, char **words)
{
	size_t count = 0;

	while (count < WORDS_MAX) {
		while (*line == ' ')
			line++;
		if (!*line)
			break;
		words[count++] = line;
		while (*line && *line != ' ')
			line++;
		if (*line)
			*line++ = '\0';
	}
	return count;
}

/* @words without the tag; @arguments has room for ARGUMENTS_MAX, those not given are 0. */
static void run_command(const struct command *command, char **words, size_t count)
{
	uint64_t arguments[ARGUMENTS_MAX] = {0};

	if (count < command->required || count > ARGUMENTS_MAX) {
		answer_fail("usage: %s %s", command->name, command->usage);
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (!parse_number(words[i], &arguments[i])) {
			answer_fail("no number: %s", words[i]);
			return;
		}
	command->run(arguments);
}

static void execute(char *line)
{
	char *buffer[WORDS_MAX] = {NULL}, **words = buffer;
	size_t count = split(line, words);
	uint64_t disk;

	command_tag = "";
	if (count && words[0][0] == '#') {
		command_tag = *words++;
		count--;
	}
	if (!count)
		return;
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *command = &commands[i];

		if (!command->group && str_equal(words[0], command->name)) {
			run_command(command, words + 1, count - 1);
			return;
		}
		if (command->group && count > 1 && str_equal(words[0], command->group) &&
		    str_equal(words[1], command->name)) {
			run_command(command, words + 2, count - 2);
			return;
		}
	}
	if (count == 4 && str_equal(words[0], "blk") && str_equal(words[1], "abuse") &&
	    parse_number(words[2], &disk))
		blk_command_abuse(disk, words[3]);
	else
		answer_fail("no such command: %s (try help)", words[0]);
}

static void start_devices(void)
{
	for (size_t i = 0; i < machine.virtio_count; i++) {
		uint64_t base = machine.virtio[i];
		const char *problem = NULL;

		switch (virtio_device_id(base)) {
		case VIRTIO_ID_BLOCK:
			problem = blk_start(base);
			break;
		case VIRTIO_ID_NET:
			problem = net_start(base);
			break;
		case VIRTIO_ID_BALLOON:
			problem = balloon_start(base);
			break;
		case VIRTIO_ID_CONSOLE:
			problem = console_start(base);
			break;
		case VIRTIO_ID_VSOCK:
			problem = vsock_start(base);
			break;
		}
		if (problem)
			print("virtio device at %x: %s\r\n", base, problem);
	}
}

/*
 * A guest without interrupts sees the edge of the power button in the second interrupt controller's
 * request register, where it stays.
 */
static void wait_for_input_or_button(void)
{
	while (!serial_has_input()) {
		outb(PIC2_COMMAND, PIC_READ_REQUESTS);
		if (inb(PIC2_COMMAND) & 1u << (PLATFORM_GED_GSI - 8))
			do_poweroff(NULL);
		for (unsigned i = 0; i < 2000; i++)
			cpu_pause();
	}
}

_Noreturn void worker(uint64_t start_info)
{
	static char line[256];
	const char *problem = machine_discover(start_info);
	/* For others the button has no effect. */
	bool button = str_equal(machine.cmdline, "test button");

	serial_init(machine.serial_port);
	if (!machine.has_dtb)
		print("no device tree (a PVH module named \"dtb\"): going on with defaults\r\n");
	if (!problem) {
		machine_map_high_memory();
		problem = memory_init();
	}
	if (problem) {
		print("@fail %s\r\n", problem);
		for (;;)
			cpu_pause();
	}
	start_devices();
	print("@ready bare dtb=%u free_pages=%u cmdline=%s\r\n", (uint64_t)machine.has_dtb,
	      memory_free_pages(), machine.cmdline);
	for (;;) {
		if (button)
			wait_for_input_or_button();
		else
			vsock_poll_until(serial_has_input);
		serial_read_line(line, sizeof(line));
		execute(line);
	}
}
