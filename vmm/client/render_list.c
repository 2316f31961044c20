#include <inttypes.h>
#include <string.h>

#include "vmm/base/size.h"
#include "vmm/client/render_internal.h"

#define NAME_COLUMNS_MIN 8
#define NAME_COLUMNS_MAX 24

/* Sums of the columns. */
struct totals {
	uint64_t memory, held, swapped, store;
	size_t silent;
};

static uint64_t swapped_bytes(const json_t *swap)
{
	return render_number(swap, "pages_swapped") * render_number(swap, "page_size_bytes");
}

static uint64_t store_bytes(const json_t *swap)
{
	return render_number(swap, "store_disk_bytes") + render_number(swap, "pool_bytes");
}

static void render_sizes(FILE *out, const struct totals *sizes)
{
	const uint64_t values[] = {sizes->memory, sizes->held, sizes->swapped, sizes->store};
	char text[32];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		fprintf(out, " %10s", size_format(values[i], text, sizeof(text)));
}

static void render_machine(FILE *out, int columns, const json_t *machine, struct totals *totals)
{
	const json_t *swap = json_object_get(machine, "swap");
	const char *operation = render_text(swap, "operation");
	const struct totals sizes = {
		.memory = render_number(machine, "memory_bytes"),
		.held = render_number(machine, "memory_allocated_bytes"),
		.swapped = swapped_bytes(swap),
		.store = store_bytes(swap),
	};

	fprintf(out, "%-*s %7" PRIu64 " ", columns, render_text(machine, "name"),
		render_number(machine, "pid"));
	if (!json_object_get(machine, "memory_bytes")) {
		fprintf(out, "%s\n", render_text(machine, "state"));
		totals->silent++;
		return;
	}
	fprintf(out, "%-7s", render_text(machine, "state"));
	render_sizes(out, &sizes);
	fprintf(out, "  %s%s%s%s\n",
		json_is_true(json_object_get(swap, "available")) ? render_text(swap, "state") : "-",
		*operation ? ", " : "", operation,
		json_is_true(json_object_get(machine, "panicked")) ? ", panicked" : "");
	totals->memory += sizes.memory;
	totals->held += sizes.held;
	totals->swapped += sizes.swapped;
	totals->store += sizes.store;
}

/* As wide as the longest name, within reason. */
static int name_columns(const json_t *machines)
{
	int columns = NAME_COLUMNS_MIN;
	const json_t *machine;
	size_t i;

	json_array_foreach(machines, i, machine)
	{
		int length = (int)strlen(render_text(machine, "name"));

		if (length > columns)
			columns = length;
	}
	return columns < NAME_COLUMNS_MAX ? columns : NAME_COLUMNS_MAX;
}

void render_list(FILE *out, const json_t *machines)
{
	int columns = name_columns(machines);
	struct totals totals = {0};
	const json_t *machine;
	char count[48];
	size_t i;

	fprintf(out, "%-*s %7s %-7s %10s %10s %10s %10s  %s\n", columns, "NAME", "PID", "STATE",
		"MEMORY", "ON HOST", "SWAPPED", "STORE", "SWAP");
	json_array_foreach(machines, i, machine) render_machine(out, columns, machine, &totals);
	if (json_array_size(machines) < 2)
		return;
	snprintf(count, sizeof(count), "%zu machines", json_array_size(machines));
	fprintf(out, "%-*s", columns + 16, count);
	render_sizes(out, &totals);
	if (totals.silent)
		fprintf(out, "  (%zu without an answer)", totals.silent);
	putc('\n', out);
}

static void render_status_of(FILE *out, const json_t *status)
{
	const json_t *swap = json_object_get(status, "swap");
	const char *operation = render_text(swap, "operation");
	const struct totals sizes = {
		.memory = render_number(status, "memory_bytes"),
		.held = render_number(status, "memory_allocated_bytes"),
		.swapped = swapped_bytes(swap),
		.store = store_bytes(swap),
	};

	render_sizes(out, &sizes);
	fprintf(out, "  %s%s%s\n",
		json_is_true(json_object_get(swap, "available")) ? render_text(swap, "state") : "-",
		*operation ? ", " : "", operation);
}

void render_swap_all_header(FILE *out, const char *verb)
{
	if (strcmp(verb, "status") != 0)
		fprintf(out, "%-24s  %-8s %10s\n", "NAME", "SWAP", "MOVED");
	else
		fprintf(out, "%-24s %10s %10s %10s %10s  %s\n", "NAME", "MEMORY", "ON HOST",
			"SWAPPED", "STORE", "SWAP");
}

void render_swap_all(FILE *out, const json_t *outcome)
{
	const json_t *error = json_object_get(outcome, "error");
	const json_t *status = json_object_get(outcome, "status");
	char size[32];
	char duration[48];

	fprintf(out, "%-24s", render_text(outcome, "name"));
	if (json_is_object(error)) {
		fprintf(out, "  failed: %s\n", render_text(error, "message"));
	} else if (json_is_object(status)) {
		render_status_of(out, status);
	} else if (json_is_true(json_object_get(outcome, "skipped"))) {
		fprintf(out, "  %-8s nothing to do\n", render_text(outcome, "state"));
	} else {
		fprintf(out, "  %-8s %10s  in %s\n", render_text(outcome, "state"),
			size_format(render_number(outcome, "bytes"), size, sizeof(size)),
			render_format_duration(render_number(outcome, "duration_ns"), duration,
					       sizeof(duration)));
	}
}

void render_swap_all_total(FILE *out, const json_t *total)
{
	uint64_t failed = render_number(total, "failed");
	char text[64];
	char size[32];
	char duration[48];

	snprintf(text, sizeof(text), "%" PRIu64 " machines", render_number(total, "machines"));
	fprintf(out, "%-24s", text);
	if (json_object_get(total, "memory_bytes")) {
		const struct totals sizes = {
			.memory = render_number(total, "memory_bytes"),
			.held = render_number(total, "memory_allocated_bytes"),
			.swapped = render_number(total, "swapped_bytes"),
			.store = render_number(total, "store_disk_bytes") +
				 render_number(total, "pool_bytes"),
		};

		render_sizes(out, &sizes);
	} else {
		fprintf(out, "  %-8s %10s  in %s", "",
			size_format(render_number(total, "bytes"), size, sizeof(size)),
			render_format_duration(render_number(total, "duration_ns"), duration,
					       sizeof(duration)));
	}
	if (failed)
		fprintf(out, "  %" PRIu64 " failed", failed);
	putc('\n', out);
}
