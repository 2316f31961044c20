#include <inttypes.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/client/render_internal.h"

static void render_ratio(FILE *out, const char *label, const json_t *object, const char *key)
{
	double ratio;

	if (render_get_real(object, key, &ratio))
		fprintf(out, "  %-20s %.2f\n", label, ratio);
}

/* "12.0 MiB of 64 MiB"; no limit: "12.0 MiB". */
static void render_use(FILE *out, const char *label, uint64_t bytes, uint64_t limit)
{
	char used[32];
	char all[32];

	size_format(bytes, used, sizeof(used));
	if (limit)
		fprintf(out, "  %-20s %s of %s\n", label, used,
			size_format(limit, all, sizeof(all)));
	else
		render_row(out, label, used);
}

void render_store_summary(FILE *out, const json_t *swap)
{
	const char *automation = render_text(swap, "auto");

	if (*automation && strcmp(automation, "off") != 0)
		render_row(out, "swap auto", automation);
	render_ratio(out, "swap compression", swap, "compression_ratio");
	if (render_number(swap, "pool_bytes"))
		render_size(out, "swap pool", swap, "pool_bytes");
	render_size(out, "swap on disk", swap, "store_disk_bytes");
}

static void render_all_pages(FILE *out, const json_t *result)
{
	fputs("\n  pages\n", out);
	render_pages(out, "  total", result, "pages_total");
	render_pages(out, "  empty", result, "pages_empty");
	render_pages(out, "  resident", result, "pages_resident");
	render_pages(out, "  staged", result, "pages_staged");
	render_pages(out, "  being written", result, "pages_writing");
	render_pages(out, "  swapped out", result, "pages_swapped");
	render_pages(out, "  working set", result, "working_set_pages");
}

/* "lz4, encrypted, io_uring, O_DIRECT" */
static void render_how(FILE *out, const json_t *store)
{
	const char *compression = render_text(store, "compression");
	uint64_t level = render_number(store, "level");
	char name[32];

	if (!*compression)
		return;
	if (level)
		snprintf(name, sizeof(name), "%.16s:%u", compression, (unsigned)(level % 100));
	else if (!strcmp(compression, "none"))
		snprintf(name, sizeof(name), "uncompressed");
	else
		snprintf(name, sizeof(name), "%.16s", compression);
	fprintf(out, "  %-20s %s, %s%s%s\n", "  how", name,
		json_is_true(json_object_get(store, "encryption")) ? "encrypted" : "not encrypted",
		json_is_true(json_object_get(store, "uring")) ? ", io_uring" : "",
		json_is_true(json_object_get(store, "direct")) ? ", O_DIRECT" : "");
}

static void render_tables(FILE *out, const json_t *result)
{
	uint64_t bytes;
	double per_page;
	char text[32];

	if (!render_get_number(result, "tables_bytes", &bytes) ||
	    !render_get_real(result, "tables_bytes_per_page", &per_page))
		return;
	fprintf(out, "  %-20s %s, %.1f bytes a guest page\n", "  tables",
		size_format(bytes, text, sizeof(text)), per_page);
}

static void render_store(FILE *out, const json_t *result)
{
	const json_t *store = json_object_get(result, "store");
	const char *path = render_text(store, "path");

	fputs("\n  store\n", out);
	if (*path)
		render_row(out, "  path", path);
	render_how(out, store);
	render_ratio(out, "  compression ratio", result, "compression_ratio");
	render_size(out, "  stored", result, "store_live_bytes");
	if (render_number(store, "pool_limit_bytes"))
		render_use(out, "  pool", render_number(store, "pool_bytes"),
			   render_number(store, "pool_limit_bytes"));
	render_use(out, "  on disk", render_number(result, "store_disk_bytes"),
		   render_number(store, "limit_bytes"));
	render_size(out, "  written", store, "written_bytes");
	render_size(out, "  read", store, "read_bytes");
	if (render_number(store, "evicted_bytes"))
		render_size(out, "  moved out of pool", store, "evicted_bytes");
	render_tables(out, result);
	render_size(out, "  store's memory", store, "ram_bytes");
}

static void render_latency(FILE *out, const char *label, const json_t *latency)
{
	static const char *const keys[] = {"p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"};

	if (!json_is_object(latency))
		return;
	fprintf(out, "    %-14s %10" PRIu64, label, render_number(latency, "count"));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		char text[48] = "-";

		if (render_number(latency, "count"))
			render_format_duration(render_number(latency, keys[i]), text, sizeof(text));
		fprintf(out, " %9s", text);
	}
	putc('\n', out);
}

static void render_faults(FILE *out, const json_t *result)
{
	static const struct {
		const char *label;
		const char *key;
	} moves[] = {
		{"  staged", "staged"},
		{"  zero, dropped", "trimmed_zero"},
		{"  clean, skipped", "trimmed_clean"},
		{"  written", "stored"},
		{"  writes cancelled", "writes_cancelled"},
		{"  brought back", "swapped_in"},
		{"  freed by guest", "removed"},
	};
	const json_t *latency = json_object_get(result, "latency");
	const json_t *counters = json_object_get(result, "counters");

	fprintf(out, "\n  %-16s %10s %9s %9s %9s %9s %9s\n", "faults", "count", "p50", "p90", "p99",
		"p99.9", "max");
	render_latency(out, "zero page", json_object_get(latency, "zero"));
	render_latency(out, "from staging", json_object_get(latency, "staged"));
	render_latency(out, "from the pool", json_object_get(latency, "pool"));
	render_latency(out, "from the disk", json_object_get(latency, "file"));
	fputs("\n  pages so far\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(moves); i++)
		render_page_count(out, moves[i].label, counters, moves[i].key,
				  render_number(result, "page_size_bytes"));
}

static void render_last_one(FILE *out, const char *label, const json_t *report)
{
	bool cancelled = json_is_true(json_object_get(report, "cancelled"));
	const char *message = render_text(report, "message");
	char time[48];
	char rate[32];
	char written[32];

	fprintf(out, "    %-14s %10" PRIu64 " %10s %10s/s %10s  %s\n", label,
		render_number(report, "pages_moved"),
		render_format_duration(render_number(report, "duration_ns"), time, sizeof(time)),
		size_format(render_number(report, "rate_bytes_per_s"), rate, sizeof(rate)),
		size_format(render_number(report, "written_bytes"), written, sizeof(written)),
		cancelled ? "cancelled" : (*message ? "failed" : "done"));
	if (*message && !cancelled)
		render_wrapped(out, 6, message);
}

static void render_last(FILE *out, const json_t *result)
{
	static const struct {
		const char *key;
		const char *label;
	} operations[] = {
		{"enable", "enable"},
		{"trim", "trim"},
		{"out", "out"},
		{"in", "in"},
		{"working_set", "working set"},
		{"disable", "disable"},
		{"dump_memory", "dump"},
		{"checksum_memory", "checksum"},
	};
	const json_t *last = json_object_get(result, "last");
	unsigned shown = 0;

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		const json_t *report = json_object_get(last, operations[i].key);

		if (!json_is_object(report))
			continue;
		if (!shown++)
			fprintf(out, "\n  %-16s %10s %10s %12s %10s  %s\n", "last", "pages", "time",
				"rate", "written", "result");
		render_last_one(out, operations[i].label, report);
	}
	render_ratio(out, "written per freed", json_object_get(last, "out"), "written_per_freed");
}

static void render_auto_row(FILE *out, const json_t *automation)
{
	const char *waits = render_text(automation, "waits_for");
	uint64_t left_ns;
	char left[48];

	if (!json_is_object(automation))
		return;
	fprintf(out, "  %-20s %s: %s\n", "automatic", render_text(automation, "policy"),
		render_text(automation, "phase"));
	if (!*waits)
		return;
	render_row(out, "  waits for", waits);
	if (render_get_number(automation, "remaining_ns", &left_ns))
		render_row(out, "  for another",
			   render_format_duration(left_ns, left, sizeof(left)));
}

void render_swap_auto(FILE *out, const json_t *automation)
{
	const json_t *pressure = json_object_get(automation, "pressure");
	const json_t *last = json_object_get(automation, "last");
	const char *message = render_text(last, "message");
	double percent;
	char ago[48];

	render_auto_row(out, automation);
	if (render_number(automation, "backoff") > 1)
		fprintf(out,
			"  %-20s %" PRIu64 " times, since the guest woke too soon or it failed\n",
			"  waits longer", render_number(automation, "backoff"));
	if (render_get_real(automation, "cpu_share", &percent))
		fprintf(out, "  %-20s %.1f %% of a CPU\n", "guest uses", percent * 100.0);
	if (render_get_real(pressure, "percent", &percent))
		fprintf(out, "  %-20s %s (%s %.1f %%)\n", "pressure on host",
			render_text(pressure, "level"), render_text(pressure, "source"), percent);
	render_count(out, "swapped out", automation, "cycles");
	if (!json_is_object(last))
		return;
	fprintf(out, "  %-20s %s (%s), %s ago: %s\n", "last step", render_text(last, "operation"),
		render_text(last, "cause"),
		render_format_duration(render_number(last, "ago_ns"), ago, sizeof(ago)),
		json_is_true(json_object_get(last, "running")) ? "running"
		: *message                                     ? "not done"
							       : "done");
	if (*message)
		render_wrapped(out, 4, message);
}

void render_swap_status(FILE *out, const json_t *result)
{
	const json_t *running = json_object_get(result, "operation");

	render_row(out, "state", render_text(result, "state"));
	if (!json_is_true(json_object_get(result, "available")))
		render_row(out, "place to swap to", "none (start with --swap-dir or --swap-pool)");
	if (json_is_object(running))
		fprintf(out, "  %-20s %s: %" PRIu64 " of %" PRIu64 " pages\n", "running",
			render_text(running, "command"), render_number(running, "pages_done"),
			render_number(running, "pages_total"));
	render_auto_row(out, json_object_get(result, "auto"));
	render_all_pages(out, result);
	render_store(out, result);
	render_faults(out, result);
	render_last(out, result);
}

void render_swap_cancel(FILE *out, const json_t *result)
{
	const char *command = render_text(result, "command");

	fprintf(out, "%s is being cancelled\n",
		*command ? command : render_text(result, "operation"));
}

static void render_moved(FILE *out, const json_t *report)
{
	uint64_t pages = render_number(report, "pages_moved");
	char size[32];
	char time[48];

	fprintf(out, "%" PRIu64 " page%s (%s) in %s", pages, pages == 1 ? "" : "s",
		size_format(pages * render_number(report, "page_size_bytes"), size, sizeof(size)),
		render_format_duration(render_number(report, "duration_ns"), time, sizeof(time)));
}

/* "swap out: 65536 pages (256 MiB) in 412.3 ms; state: out" */
void render_report(FILE *out, const char *command, const json_t *report)
{
	fprintf(out, "%s: ", command);
	render_moved(out, report);
	fprintf(out, "; state: %s\n", render_text(report, "state"));
}

void render_prefetch(FILE *out, const json_t *result)
{
	const json_t *prefetch = json_object_get(result, "prefetch");

	if (json_is_object(prefetch)) {
		fputs("working set: ", out);
		render_moved(out, prefetch);
		fputs("; the machine is ", out);
	}
	fprintf(out, "%s\n", render_text(result, "state"));
}

void render_dump(FILE *out, const json_t *result)
{
	fputs("dump-memory: ", out);
	render_moved(out, result);
	fprintf(out, " to %s\n", render_text(result, "file"));
}

void render_checksum(FILE *out, const json_t *result)
{
	fprintf(out, "%s\n", render_text(result, "digest"));
}
