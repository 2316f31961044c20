#include "fake_machine.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct fake_machine fake;

void fake_machine_init(void)
{
	fake.state = MACHINE_RUNNING;
	fake.resets = 0;
	fake.panicked = false;
	fake.balloon_target = 0;
	fake.swap_state = SWAP_DISABLED;
	fake.operation = SWAP_OP_NONE;
	fake.starts = 0;
	fake.refusal = 0;
	fake.result = 0;
	fake.cancelled = false;
	fake.last = SWAP_OP_NONE;
	fake.pages_swapped = 0;
	fake.working_set = 0;
	fake.cpu_ns = 0;
}

void fake_machine_finish(int result)
{
	fake.result = result;
	fake.last = fake.operation;
	fake.operation = SWAP_OP_NONE;
}

const char *machine_state_name(enum machine_state state)
{
	static const char *const names[] = {"created", "running", "paused", "stopped"};

	return names[state];
}

static int change_state(enum machine_state from, enum machine_state to, struct error *err)
{
	if (fake.state != (int)from)
		return error_say(err, EINVAL, "the machine is %s",
				 machine_state_name((enum machine_state)(int)fake.state));
	fake.state = to;
	return 0;
}

int machine_pause(struct machine *machine, struct error *err)
{
	(void)machine;
	return change_state(MACHINE_RUNNING, MACHINE_PAUSED, err);
}

int machine_resume(struct machine *machine, struct error *err)
{
	(void)machine;
	return change_state(MACHINE_PAUSED, MACHINE_RUNNING, err);
}

int machine_powerdown(struct machine *machine, struct error *err)
{
	(void)machine;
	return change_state(MACHINE_RUNNING, MACHINE_RUNNING, err);
}

int machine_reset(struct machine *machine, struct error *err)
{
	(void)machine;
	(void)err;
	fake.resets++;
	return 0;
}

int machine_set_balloon(struct machine *machine, uint64_t guest_bytes, struct error *err)
{
	(void)machine;
	if (guest_bytes > 64u << 20)
		return error_say(err, ERANGE, "the guest has 64 MiB");
	fake.balloon_target = (64u << 20) - guest_bytes;
	return 0;
}

void machine_get_status(struct machine *machine, struct machine_status *status)
{
	(void)machine;
	*status = (struct machine_status){
		.state = (enum machine_state)(int)fake.state,
		.vcpus = 2,
		.memory_bytes = 64u << 20,
		.memory_allocated_bytes = 12288,
		.uptime_ns = 1,
		.resets = (uint64_t)fake.resets,
		.panicked = fake.panicked,
		.balloon = {.present = true, .target_bytes = fake.balloon_target},
	};
}

uint64_t machine_cpu_time_ns(struct machine *machine)
{
	(void)machine;
	return fake.cpu_ns;
}

bool machine_is_stuck(const struct machine *machine)
{
	(void)machine;
	return false;
}

const struct guest_memory *machine_memory(const struct machine *machine)
{
	static const struct guest_memory_region layout[] = {
		{.base = 0, .size = 60 * GUEST_PAGE_SIZE},
		{.base = 1ull << 32, .size = 40 * GUEST_PAGE_SIZE},
	};
	static struct guest_memory *memory;

	(void)machine;
	if (!memory)
		guest_memory_create(layout, 2, &memory, NULL);
	return memory;
}

struct swap *machine_swap(struct machine *machine)
{
	return (struct swap *)machine;
}

uint64_t swap_map_cell_pages(const struct swap *swap, size_t cells)
{
	(void)swap;
	return (100 + cells - 1) / cells;
}

/* The first half is resident, the rest on the disk. */
size_t swap_get_map(struct swap *swap, uint64_t cell_pages, size_t max, struct swap_map_cell *cells,
		    bool *exact)
{
	size_t count = 0;

	(void)swap;
	for (uint64_t page = 0; page < 100 && count < max; page += cell_pages) {
		enum swap_place place = page < 50 ? SWAP_PLACE_RESIDENT : SWAP_PLACE_DISK;

		cells[count] = (struct swap_map_cell){0};
		cells[count++].pages[place] = page + cell_pages > 100 ? 100 - page : cell_pages;
	}
	*exact = true;
	return count;
}

const char *swap_state_name(enum swap_state state)
{
	static const char *const names[] = {"disabled", "staged", "out", "resident"};

	return names[state];
}

const char *swap_operation_name(enum swap_operation operation)
{
	static const char *const names[SWAP_OP_COUNT] = {
		"none",    "enable",      "trim",
		"out",     "in",          "in --working-set",
		"disable", "dump-memory", "checksum-memory",
	};

	return names[operation];
}

const char *swap_fault_kind_name(enum swap_fault_kind kind)
{
	static const char *const names[SWAP_FAULT_KINDS] = {"zero", "staged", "pool", "file"};

	return names[kind];
}

int swap_start(struct swap *swap, enum swap_operation operation, struct error *err)
{
	(void)swap;
	if (fake.refusal)
		return error_say(err, -fake.refusal, "swap is disabled, so there is nothing to %s",
				 swap_operation_name(operation));
	fake.cancelled = false;
	fake.operation = operation;
	fake.starts++;
	return 0;
}

int swap_start_dump(struct swap *swap, int fd, struct error *err)
{
	int result = swap_start(swap, SWAP_OP_DUMP, err);

	if (!result && write(fd, "RAM", 3) != 3)
		result = -errno;
	close(fd);
	return result;
}

int swap_cancel(struct swap *swap, struct error *err)
{
	(void)swap;
	if (fake.operation == SWAP_OP_NONE)
		return error_say(err, EINVAL, "no swap operation is running");
	fake.cancelled = true;
	return 0;
}

static struct swap_operation_report report_of(int operation, bool running)
{
	struct swap_operation_report report = {
		.operation = (enum swap_operation)operation,
		.running = running,
		.cancelled = !running && fake.cancelled,
		.result = running ? 0 : fake.result,
		.pages_done = 25,
		.pages_total = 100,
		.pages_moved = 20,
	};

	if (report.result)
		strcpy(report.error.text, "the store is full");
	return report;
}

void swap_get_latency(struct swap *swap, struct latency_snapshot snapshots[SWAP_FAULT_KINDS])
{
	(void)swap;
	memset(snapshots, 0, sizeof(*snapshots) * SWAP_FAULT_KINDS);
}

void swap_get_status(struct swap *swap, struct swap_status *status)
{
	int running = fake.operation;
	int last = fake.last;

	(void)swap;
	*status = (struct swap_status){
		.state = (enum swap_state)(int)fake.swap_state,
		.available = true,
		.page_size = 4096,
		.pages_total = 100,
		.pages_swapped = (uint64_t)fake.pages_swapped,
		.working_set_pages = (uint64_t)fake.working_set,
		.tables_bytes = 1250,
		.store = {.entries = 60,
			  .entries_filled = 10,
			  .live_bytes = 102400,
			  .file_bytes = 122880},
		.store_config = {.path = "/swap", .encrypt = true},
		.latency = {[SWAP_FAULT_POOL] = {.count = 4, .p50_ns = 7000, .sum_ns = 40000}},
	};
	if (last != SWAP_OP_NONE)
		status->last[last] = report_of(last, false);
	status->current =
		running != SWAP_OP_NONE ? report_of(running, true) : report_of(last, false);
}
