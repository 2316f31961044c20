#include "vmm/control/commands_internal.h"

#include <errno.h>
#include <stdint.h>

#include "swap/store.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/control/swap_auto.h"
#include "vmm/machine/machine.h"

/* A member of a struct that is a uint64_t, and its name in an answer. */
struct number_member {
	const char *name;
	size_t offset;
};

json_int_t commands_number(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

json_t *commands_join(json_t *object, json_t *more)
{
	int failed = !object || !more || json_object_update(object, more);

	json_decref(more);
	if (!failed)
		return object;
	json_decref(object);
	return NULL;
}

int commands_give(json_t *json, json_t **result, struct error *err)
{
	if (!json)
		return error_errno(err, ENOMEM, "answer");
	*result = json;
	return 0;
}

static json_t *numbers_object(const void *base, const struct number_member *members, size_t count)
{
	json_t *object = json_object();

	for (size_t i = 0; i < count; i++) {
		const uint64_t *value = (const void *)((const char *)base + members[i].offset);

		if (json_object_set_new(object, members[i].name,
					json_integer(commands_number(*value)))) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

/* null where there is nothing to divide by. */
static json_t *ratio(double dividend, double divisor)
{
	return divisor > 0.0 ? json_real(dividend / divisor) : json_null();
}

/* What is stored in how much space; zero pages take none and do not count. */
static json_t *compression_ratio(const struct swap_status *swap)
{
	const struct store_usage *store = &swap->store;
	uint64_t pages =
		store->entries > store->entries_filled ? store->entries - store->entries_filled : 0;

	return ratio(pages ? (double)pages * (double)swap->page_size : 0.0,
		     pages ? (double)store->live_bytes : 0.0);
}

/* Of what was freed; for `swap out` alone. */
static json_t *written_per_freed(const struct swap_operation_report *report, uint64_t page_size)
{
	if (report->operation != SWAP_OP_OUT)
		return json_null();
	return ratio((double)report->written_bytes,
		     (double)report->pages_moved * (double)page_size);
}

static uint64_t per_second(uint64_t bytes, uint64_t duration_ns)
{
	double rate = (double)bytes * (double)NS_PER_SEC / (double)duration_ns;

	return duration_ns && rate < (double)INT64_MAX ? (uint64_t)rate : 0;
}

static json_t *digest_of(const struct swap_operation_report *report)
{
	return report->digest[0] ? json_sprintf("sha256:%s", report->digest) : json_null();
}

json_t *commands_report(const struct swap_operation_report *report, uint64_t page_size)
{
	json_t *head = json_pack(
		"{s:s,s:s,s:b,s:b,s:i,s:o}", "operation", commands_operation_key(report->operation),
		"command", commands_operation_command(report->operation), "running",
		report->running, "cancelled", report->cancelled, "result", report->result,
		"message", control_json_string(report->error.text));
	json_t *work = json_pack(
		"{s:I,s:I,s:I,s:I,s:I,s:I}", "pages_done", commands_number(report->pages_done),
		"pages_total", commands_number(report->pages_total), "pages_moved",
		commands_number(report->pages_moved), "page_size_bytes", commands_number(page_size),
		"duration_ns", commands_number(report->duration_ns), "zap_ns",
		commands_number(report->zap_ns));
	json_t *cost = json_pack(
		"{s:I,s:I,s:I,s:o,s:o}", "rate_bytes_per_s",
		commands_number(per_second(report->pages_moved * page_size, report->duration_ns)),
		"written_bytes", commands_number(report->written_bytes), "read_bytes",
		commands_number(report->read_bytes), "written_per_freed",
		written_per_freed(report, page_size), "digest", digest_of(report));

	return commands_join(commands_join(head, work), cost);
}

json_t *commands_progress(const struct swap_operation_report *report, uint64_t page_size,
			  const struct rate *rate)
{
	uint64_t total = report->pages_total * page_size;
	uint64_t done = report->pages_done * page_size;
	uint64_t eta_ns = rate_time_for(rate, total > done ? total - done : 0);
	json_t *pages = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I}", "operation",
				  commands_operation_key(report->operation), "command",
				  commands_operation_command(report->operation), "pages_done",
				  commands_number(report->pages_done), "pages_total",
				  commands_number(report->pages_total), "pages_moved",
				  commands_number(report->pages_moved), "duration_ns",
				  commands_number(report->duration_ns));
	json_t *bytes = json_pack("{s:I,s:I,s:I,s:o}", "bytes_done", commands_number(done),
				  "bytes_total", commands_number(total), "rate_bytes_per_s",
				  commands_number(rate_per_second(rate)), "eta_ns",
				  eta_ns == RATE_UNKNOWN ? json_null()
							 : json_integer(commands_number(eta_ns)));

	return commands_join(pages, bytes);
}

json_t *commands_swap_summary(const struct swap_status *swap, struct swap_auto *automation)
{
	const char *operation =
		swap->current.running ? commands_operation_key(swap->current.operation) : NULL;

	return json_pack("{s:b,s:s,s:s?,s:I,s:I,s:I,s:I,s:I,s:o,s:s?}", "available",
			 swap->available, "state", swap_state_name(swap->state), "operation",
			 operation, "pages_swapped", commands_number(swap->pages_swapped),
			 "pages_staged", commands_number(swap->pages_staged), "page_size_bytes",
			 commands_number(swap->page_size), "store_disk_bytes",
			 commands_number(swap->store.file_bytes), "pool_bytes",
			 commands_number(swap->store.pool_bytes), "compression_ratio",
			 compression_ratio(swap), "auto", commands_auto_phase(automation));
}

static json_t *counters_object(const struct swap_counters *counters)
{
#define COUNTER(member)                                                                            \
	{                                                                                          \
#member, offsetof(struct swap_counters, member)                                    \
	}
	static const struct number_member members[] = {
		COUNTER(faults_zeroed),    COUNTER(faults_continued), COUNTER(faults_copied),
		COUNTER(faults_ahead),     COUNTER(faults_redundant), COUNTER(faults_retried),
		COUNTER(writes_cancelled), COUNTER(removed),          COUNTER(staged),
		COUNTER(stored),           COUNTER(swapped_in),       COUNTER(trimmed_zero),
		COUNTER(trimmed_clean),    COUNTER(compacted),
	};
#undef COUNTER

	return numbers_object(counters, members, ARRAY_SIZE(members));
}

static json_t *path_or_null(const char *path)
{
	return path ? control_json_string(path) : json_null();
}

static json_t *store_object(const struct swap_status *swap)
{
#define USAGE(member)                                                                              \
	{                                                                                          \
#member, offsetof(struct store_usage, member)                                      \
	}
	static const struct number_member members[] = {
		USAGE(entries),    USAGE(entries_filled), USAGE(entries_pool), USAGE(live_bytes),
		USAGE(pool_bytes), USAGE(file_bytes),     USAGE(ram_bytes),    USAGE(written_bytes),
		USAGE(read_bytes), USAGE(evicted_bytes),
	};
#undef USAGE
	const struct store_config *config = &swap->store_config;
	json_t *choices = json_pack(
		"{s:o,s:I,s:I,s:s,s:i,s:b,s:b,s:b}", "path", path_or_null(config->path),
		"pool_limit_bytes", commands_number(config->pool_bytes), "limit_bytes",
		commands_number(config->limit_bytes), "compression",
		store_compression_name(config->compression), "level", config->level, "encryption",
		config->encrypt, "uring", swap->store.uring, "direct", swap->store.direct);

	return commands_join(choices, numbers_object(&swap->store, members, ARRAY_SIZE(members)));
}

static json_t *latency_object(const struct swap_status *swap)
{
#define LATENCY(member)                                                                            \
	{                                                                                          \
#member, offsetof(struct latency_summary, member)                                  \
	}
	static const struct number_member members[] = {
		LATENCY(count),  LATENCY(p50_ns),  LATENCY(p90_ns),
		LATENCY(p99_ns), LATENCY(p999_ns), LATENCY(max_ns),
	};
#undef LATENCY
	json_t *object = json_object();

	for (int i = 0; i < SWAP_FAULT_KINDS; i++) {
		const struct latency_summary *latency = &swap->latency[i];
		uint64_t mean = latency->count ? latency->sum_ns / latency->count : 0;
		json_t *kind = commands_join(numbers_object(latency, members, ARRAY_SIZE(members)),
					     json_pack("{s:I}", "mean_ns", commands_number(mean)));

		if (json_object_set_new(object, swap_fault_kind_name((enum swap_fault_kind)i),
					kind)) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static json_t *last_object(const struct swap_status *swap)
{
	json_t *last = json_object();

	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++) {
		const struct swap_operation_report *report = &swap->last[i];
		json_t *entry = report->operation == SWAP_OP_NONE
					? json_null()
					: commands_report(report, swap->page_size);

		if (json_object_set_new(last, commands_operation_key((enum swap_operation)i),
					entry)) {
			json_decref(last);
			return NULL;
		}
	}
	return last;
}

static json_t *pages_object(const struct swap_status *swap)
{
#define STATUS(member)                                                                             \
	{                                                                                          \
#member, offsetof(struct swap_status, member)                                      \
	}
	static const struct number_member members[] = {
		STATUS(pages_total),  STATUS(pages_empty),       STATUS(pages_resident),
		STATUS(pages_staged), STATUS(pages_writing),     STATUS(pages_swapped),
		STATUS(tables_bytes), STATUS(working_set_pages),
	};
#undef STATUS

	return numbers_object(swap, members, ARRAY_SIZE(members));
}

int commands_run_swap_status(const struct control_host *host, const struct control_request *request,
			     json_t **result, struct error *err)
{
	struct swap_status swap;
	json_t *head;
	json_t *parts;

	(void)request;
	swap_get_status(machine_swap(host->machine), &swap);
	head = json_pack("{s:b,s:s,s:I,s:o,s:o,s:I,s:I}", "available", swap.available, "state",
			 swap_state_name(swap.state), "page_size_bytes",
			 commands_number(swap.page_size), "tables_bytes_per_page",
			 ratio((double)swap.tables_bytes, (double)swap.pages_total),
			 "compression_ratio", compression_ratio(&swap), "store_live_bytes",
			 commands_number(swap.store.live_bytes), "store_disk_bytes",
			 commands_number(swap.store.file_bytes));
	parts = json_pack(
		"{s:o,s:o,s:o,s:o,s:o,s:o}", "auto", commands_auto_object(host->automation),
		"store", store_object(&swap), "latency", latency_object(&swap), "counters",
		counters_object(&swap.counters), "operation",
		swap.current.running ? commands_report(&swap.current, swap.page_size) : json_null(),
		"last", last_object(&swap));
	return commands_give(commands_join(commands_join(head, pages_object(&swap)), parts), result,
			     err);
}

int commands_run_swap_cancel(const struct control_host *host, const struct control_request *request,
			     json_t **result, struct error *err)
{
	struct swap *swap = machine_swap(host->machine);
	struct swap_status status;
	int failure;

	(void)request;
	swap_get_status(swap, &status);
	failure = swap_cancel(swap, err);
	if (failure)
		return failure;
	if (swap_auto_is_running(host->automation))
		swap_auto_user_acts(host->automation);
	return commands_give(json_pack("{s:s,s:s}", "operation",
				       commands_operation_key(status.current.operation), "command",
				       commands_operation_command(status.current.operation)),
			     result, err);
}
