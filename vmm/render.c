#include "vmm/render.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

#define BAR_MAX 40u

/* False if @object has no integer of that name. */
static bool get_number(const json_t *object, const char *key, uint64_t *number)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*number = (uint64_t)json_integer_value(value);
	return true;
}

static uint64_t number_or_zero(const json_t *object, const char *key)
{
	uint64_t number = 0;

	get_number(object, key, &number);
	return number;
}

static const char *get_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void render_row(FILE *out, const char *label, const char *value)
{
	fprintf(out, "  %-20s %s\n", label, value);
}

static void render_size(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t bytes;
	char text[32];

	if (get_number(object, key, &bytes))
		render_row(out, label, size_format(bytes, text, sizeof(text)));
}

static void render_count(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t count;

	if (get_number(object, key, &count))
		fprintf(out, "  %-20s %" PRIu64 "\n", label, count);
}

static char *format_duration(uint64_t ns, char *text, size_t length)
{
	uint64_t seconds = ns / NS_PER_SEC;
	uint64_t minutes = seconds / 60;

	if (ns < NS_PER_MS)
		snprintf(text, length, "%u us", (unsigned)(ns / NS_PER_US));
	else if (ns < NS_PER_SEC)
		snprintf(text, length, "%.1f ms", (double)ns / (double)NS_PER_MS);
	else if (seconds < 10)
		snprintf(text, length, "%.1f s", (double)ns / (double)NS_PER_SEC);
	else if (seconds < 120)
		snprintf(text, length, "%u s", (unsigned)seconds);
	else if (seconds < 7200)
		snprintf(text, length, "%u min", (unsigned)minutes);
	else
		snprintf(text, length, "%u h %u min", (unsigned)(minutes / 60),
			 (unsigned)(minutes % 60));
	return text;
}

static void render_duration(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t ns;
	char text[48];

	if (get_number(object, key, &ns) && ns)
		render_row(out, label, format_duration(ns, text, sizeof(text)));
}

/* "staged   12345   48.2 MiB" */
static void render_pages(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t page_size = number_or_zero(object, "page_size_bytes");
	uint64_t pages;
	char text[32];

	if (get_number(object, key, &pages))
		fprintf(out, "  %-20s %12" PRIu64 "  %10s\n", label, pages,
			size_format(pages * page_size, text, sizeof(text)));
}

static void render_balloon(FILE *out, const json_t *balloon)
{
	const json_t *stats = json_object_get(balloon, "stats");

	render_size(out, "balloon", balloon, "actual_bytes");
	render_size(out, "balloon target", balloon, "target_bytes");
	render_size(out, "guest keeps", balloon, "guest_bytes");
	render_size(out, "free pages reported", balloon, "reported_bytes");
	render_size(out, "guest total", stats, "total_bytes");
	render_size(out, "guest available", stats, "available_bytes");
	render_size(out, "guest free", stats, "free_bytes");
	render_size(out, "guest caches", stats, "disk_caches_bytes");
}

static void render_state(FILE *out, const json_t *result)
{
	const char *reason = get_text(result, "reason");

	fprintf(out, "  %-20s %s%s%s\n", "state", get_text(result, "state"), *reason ? ": " : "",
		reason);
}

static void render_status(FILE *out, const json_t *result)
{
	const json_t *swap = json_object_get(result, "swap");
	const char *operation = get_text(swap, "operation");

	render_row(out, "name", get_text(result, "name"));
	render_count(out, "pid", result, "pid");
	render_state(out, result);
	render_count(out, "vcpus", result, "vcpus");
	render_size(out, "memory", result, "memory_bytes");
	render_size(out, "memory on host", result, "memory_allocated_bytes");
	render_duration(out, "uptime", result, "uptime_ns");
	render_count(out, "resets", result, "resets");
	render_duration(out, "first instruction", result, "first_run_ns");
	render_balloon(out, json_object_get(result, "balloon"));
	if (!json_is_true(json_object_get(swap, "available"))) {
		render_row(out, "swap", "not available (no --swap-dir)");
		return;
	}
	fprintf(out, "  %-20s %s%s%s%s\n", "swap", get_text(swap, "state"), *operation ? " (" : "",
		operation, *operation ? " is running)" : "");
	render_size(out, "swap on disk", swap, "store_disk_bytes");
}

static void render_swap_status(FILE *out, const json_t *result)
{
	static const char *const operations[] = {"enable", "trim", "out", "in", "disable"};
	const json_t *counters = json_object_get(result, "counters");
	const json_t *last = json_object_get(result, "last");
	const json_t *running = json_object_get(result, "operation");
	unsigned shown = 0;

	render_row(out, "state", get_text(result, "state"));
	if (!json_is_true(json_object_get(result, "available")))
		render_row(out, "swap directory", "none (start with --swap-dir DIR)");
	fputs("\n  pages\n", out);
	render_pages(out, "  total", result, "pages_total");
	render_pages(out, "  empty", result, "pages_empty");
	render_pages(out, "  resident", result, "pages_resident");
	render_pages(out, "  staged", result, "pages_staged");
	render_pages(out, "  being written", result, "pages_writing");
	render_pages(out, "  swapped out", result, "pages_swapped");
	render_size(out, "stored", result, "store_live_bytes");
	render_size(out, "on disk", result, "store_disk_bytes");
	fprintf(out, "\n  faults\n");
	render_count(out, "  zero page", counters, "faults_zeroed");
	render_count(out, "  from staging", counters, "faults_continued");
	render_count(out, "  from the store", counters, "faults_copied");
	render_count(out, "  redundant", counters, "faults_redundant");
	render_count(out, "writes cancelled", counters, "writes_cancelled");
	render_count(out, "given back by guest", counters, "removed");
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		const json_t *report = json_object_get(last, operations[i]);
		bool cancelled = json_is_true(json_object_get(report, "cancelled"));
		const char *message = get_text(report, "message");
		char text[48];

		if (!json_is_object(report))
			continue;
		if (!shown++)
			fprintf(out, "\n  %-20s %12s  %12s  %s\n", "last", "pages", "time",
				"result");
		fprintf(out, "    %-18s %12" PRIu64 "  %12s  %s\n", operations[i],
			number_or_zero(report, "pages_moved"),
			format_duration(number_or_zero(report, "duration_ns"), text, sizeof(text)),
			cancelled ? "cancelled" : (*message ? message : "done"));
	}
	if (json_is_object(running))
		fprintf(out, "\n  %s is running: %" PRIu64 " of %" PRIu64 " pages\n",
			get_text(running, "operation"), number_or_zero(running, "pages_done"),
			number_or_zero(running, "pages_total"));
}

/* "swap out: 65536 pages (256 MiB) in 412.3 ms; state: out" */
static void render_report(FILE *out, const char *command, const json_t *report)
{
	uint64_t pages = number_or_zero(report, "pages_moved");
	char size[32];
	char time[48];

	fprintf(out, "%s: %" PRIu64 " page%s (%s) in %s; state: %s\n", command, pages,
		pages == 1 ? "" : "s",
		size_format(pages * number_or_zero(report, "page_size_bytes"), size, sizeof(size)),
		format_duration(number_or_zero(report, "duration_ns"), time, sizeof(time)),
		get_text(report, "state"));
}

static void render_help(FILE *out, const json_t *result)
{
	const json_t *command;
	size_t i;

	json_array_foreach(json_object_get(result, "commands"), i, command)
	{
		char usage[64];

		snprintf(usage, sizeof(usage), "%s %s", get_text(command, "name"),
			 get_text(command, "arguments"));
		fprintf(out, "  %-18s %s\n", usage, get_text(command, "help"));
	}
}

static void render_swap_cancel(FILE *out, const json_t *result)
{
	fprintf(out, "swap %s is being cancelled\n", get_text(result, "operation"));
}

static const struct {
	const char *command;
	void (*render)(FILE *out, const json_t *result);
} renderers[] = {
	{"status", render_status},   {"swap status", render_swap_status},
	{"balloon", render_balloon}, {"swap cancel", render_swap_cancel},
	{"help", render_help},
};

void render_result(FILE *out, const char *command, const json_t *result)
{
	for (size_t i = 0; i < ARRAY_SIZE(renderers); i++) {
		if (!strcmp(renderers[i].command, command)) {
			renderers[i].render(out, result);
			return;
		}
	}
	if (json_object_get(result, "pages_moved"))
		render_report(out, command, result);
	else if (!strcmp(command, "powerdown"))
		fputs("the power button was pressed\n", out);
	else if (!strcmp(command, "quit"))
		fputs("the machine ends\n", out);
	else
		fprintf(out, "%s\n", get_text(result, "state"));
}

void render_progress(FILE *out, const json_t *progress, unsigned columns)
{
	uint64_t done = number_or_zero(progress, "pages_done");
	uint64_t total = number_or_zero(progress, "pages_total");
	char line[BAR_MAX + 64];
	unsigned width = columns > 30 ? columns - 30 : 0;
	double share;
	int used;

	if (width > BAR_MAX)
		width = BAR_MAX;
	share = total ? (double)done / (double)total : 0.0;
	if (share > 1.0)
		share = 1.0;
	used = snprintf(line, sizeof(line), "%-8.8s [", get_text(progress, "operation"));
	for (unsigned i = 0; i < width; i++)
		line[used++] = i < (unsigned)(share * width) ? '#' : '.';
	snprintf(line + used, sizeof(line) - (size_t)used, "] %3u %%", (unsigned)(share * 100.0));
	fprintf(out, "\r%s", line);
	fflush(out);
}

void render_progress_end(FILE *out)
{
	fputs("\r\033[K", out);
	fflush(out);
}

static void render_machine(FILE *out, const json_t *machine)
{
	const json_t *swap = json_object_get(machine, "swap");
	const char *operation = get_text(swap, "operation");
	const char *swap_state = get_text(swap, "state");
	char memory[32];
	char held[32];

	if (!json_object_get(machine, "memory_bytes")) {
		fprintf(out, "%-16s %8" PRIu64 "  %s\n", get_text(machine, "name"),
			number_or_zero(machine, "pid"), get_text(machine, "state"));
		return;
	}
	fprintf(out, "%-16s %8" PRIu64 "  %-8s %10s  %10s  %s%s%s\n", get_text(machine, "name"),
		number_or_zero(machine, "pid"), get_text(machine, "state"),
		size_format(number_or_zero(machine, "memory_bytes"), memory, sizeof(memory)),
		size_format(number_or_zero(machine, "memory_allocated_bytes"), held, sizeof(held)),
		json_is_true(json_object_get(swap, "available")) ? swap_state : "-",
		*operation ? ", " : "", operation);
}

void render_list(FILE *out, const json_t *machines)
{
	const json_t *machine;
	size_t i;

	fprintf(out, "%-16s %8s  %-8s %10s  %10s  %s\n", "NAME", "PID", "STATE", "MEMORY",
		"ON HOST", "SWAP");
	json_array_foreach(machines, i, machine) render_machine(out, machine);
}
