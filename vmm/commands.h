/*
 * The commands of the console, as the VM carries them out: one table, one handler each.
 *
 * Results, by command (members as in the protocol's "result"; N are integers):
 *
 *   status       name, pid, state ("created", "running", "paused", "stopped"), reason, vcpus,
 *                memory_bytes, memory_allocated_bytes (blocks of guest RAM that the host holds),
 *                uptime_ns, resets, first_run_ns (process start to first guest instruction),
 *                balloon (as below, null without the device), swap {available, state, operation
 *                (null or the running one's name), pages_swapped, pages_staged, page_size_bytes,
 *                store_disk_bytes}
 *   balloon      actual_bytes, target_bytes, guest_bytes (what target_bytes leaves the guest),
 *                reported_bytes, stats (null, or free_bytes, total_bytes, available_bytes,
 *                swap_in_bytes, swap_out_bytes, disk_caches_bytes, major_faults, minor_faults)
 *   swap status  available, state ("disabled", "staged", "out", "resident"), page_size_bytes,
 *                pages_total, pages_empty, pages_resident, pages_staged, pages_writing,
 *                pages_swapped, store_live_bytes, store_disk_bytes, counters {…: see struct
 *                swap_counters}, operation (null or the running one's report), last {enable, trim,
 *                out, in, disable: null or the report of the last run}
 *   swap enable, trim, out, in, disable: the operation's report and `state`, the new state
 *   swap cancel  operation (what was running)
 *   pause, resume, powerdown, reset, quit: state
 *   help         commands [{name, arguments, help}]
 *
 * A report: operation, running, cancelled, result (0 or a negative errno), message, pages_done,
 * pages_total, pages_moved, page_size_bytes, duration_ns, zap_ns.
 *
 * Main thread only.
 */
#ifndef EBB_VMM_COMMANDS_H
#define EBB_VMM_COMMANDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "swap/swap.h"
#include "vmm/control_protocol.h"
#include "vmm/control_server.h"

struct command {
	const char *name;      /* "swap out" */
	const char *arguments; /* "[SIZE]", "" */
	const char *help;
	size_t arguments_max;
	/* A swap operation, which goes on after it was started; SWAP_OP_NONE: an answer at once. */
	enum swap_operation operation;
	/* 0 with *result set (a reference for the caller), or -errno with @err. NULL with
	 * operation. */
	int (*run)(const struct control_host *host, const struct control_request *request,
		   json_t **result, struct error *err);
	bool quits; /* after the answer is queued, the host's quit() is called */
};

extern const struct command commands[];
extern const size_t command_count;

/* NULL if there is none of that name. */
const struct command *commands_find(const char *name);

/*
 * Which command the words are ("swap", "out"): the longest name that they begin with; *used: how
 * many words it took. NULL if there is none. For clients.
 */
const struct command *commands_match(const char *const *words, size_t count, size_t *used);

/* A report as JSON; NULL: out of memory. */
json_t *commands_report(const struct swap_operation_report *report, uint64_t page_size);

/* The body of a progress line. */
json_t *commands_progress(const struct swap_operation_report *report);

#endif
