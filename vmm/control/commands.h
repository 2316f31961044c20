/*
 * The commands of the console, as the VM carries them out: one table, one handler each.
 *
 * Results, by command (members as in the protocol's "result"; N are integers):
 *
 *   status       name, pid, state ("created", "running", "paused", "stopped"), reason, panicked (the
 *                guest's kernel said so since the last reset), vcpus,
 *                memory_bytes, memory_allocated_bytes (blocks of guest RAM that the host holds),
 *                uptime_ns, cpu_time_ns (of all vCPUs, since the start or the last reset), resets, first_run_ns (process start to first guest instruction),
 *                balloon (as below, null without the device), swap {available, state, operation
 *                (null or the running one's name), pages_swapped, pages_staged, page_size_bytes,
 *                store_disk_bytes, pool_bytes, compression_ratio, auto (the
 *                phase, see swap auto)}, metrics (where they are served; null: nowhere),
 *                sandbox {on, seccomp, landlock_abi (0: none), namespaces ("none", "own", "own, in
 *                a user namespace"), no_new_privileges, capabilities (bits that are left)}
 *   history      version, name, pid, vcpus, memory_bytes, now_s (since the epoch), age_ns (of this
 *                history), interval_ns, bytes (now, as below), operations_dropped (older ones), operations [{operation,
 *                command, outcome ("done", "failed", "cancelled"), start_ns (since the history
 *                began, as below), duration_ns, moved_bytes}], samples [{start_ns, end_ns, cpu_ns
 *                (of the vCPUs), bytes {resident, staged, pool, disk, empty, ballooned: see
 *                memory_states.h}, faults {KIND: {count, p50_ns, p99_ns}, kinds without any are
 *                left out}}]: see history.h for what merged samples say
 *   balloon      actual_bytes, target_bytes, guest_bytes (what target_bytes leaves the guest),
 *                reported_bytes, stats (null, or free_bytes, total_bytes, available_bytes,
 *                swap_in_bytes, swap_out_bytes, disk_caches_bytes, major_faults, minor_faults)
 *   swap status  available, state ("disabled", "staged", "out", "resident"), page_size_bytes,
 *                pages_total, pages_empty, pages_resident, pages_staged, pages_writing,
 *                pages_swapped, working_set_pages (what `swap in --working-set` brings back),
 *                tables_bytes (RAM for the tables of pages), tables_bytes_per_page (a real),
 *                compression_ratio (a real: bytes of the pages that take space, by the space; null
 *                without any), store_live_bytes, store_disk_bytes, store {…}, latency {…}, auto (as of
 *                swap auto, null without it),
 *                counters {…: see struct swap_counters}, operation (null or the running one's
 *                report), last {enable, trim, out, in, working_set, disable, dump_memory,
 *                checksum_memory: null or the report of the last run}
 *   swap enable, trim, out, in, in --working-set, disable: the operation's report and `state`, the
 *                new state of swap
 *   dump-memory  the report and state, as these; file (its path)
 *   checksum-memory  the report and state; digest is what was asked for
 *   swap auto    policy ("off", "idle=60", "pressure", "idle=60,pressure"), phase ("off",
 *                "watching", "staging", "settling", "trimming", "writing", "asleep", "suspended"),
 *                waits_for (for people), remaining_ns (until the next step if nothing changes;
 *                null: not known), backoff (so many times the wait is longer), cycles (that ended
 *                with the guest swapped out), cpu_share (of one CPU that the guest uses, a real),
 *                pressure {source ("psi", "meminfo", "none"), percent (a real), level ("unknown",
 *                "low", "middle", "high")}, last (null, or {operation, cause ("idle", "pressure"),
 *                ago_ns (since it was started), running, result, message})
 *   memory-map   page_size_bytes, pages_total, cells (their number), pages_per_cell (the last cell may
 *                have fewer), exact (false: of a large guest, pool, disk and filled, and while swap is
 *                disabled resident, are estimated), regions [{gpa, bytes, first_page}]; and arrays with
 *                a number of pages for each cell: empty, resident, staged, pool, disk, filled (in the
 *                store without taking space)
 *   swap cancel  operation (what was running), command
 *   pause, resume, powerdown, reset, quit: state, of the machine
 *   resume --prefetch: state, of the machine; prefetch (null: there was nothing to bring back; or
 *                the report)
 *   events       {"event":…} lines instead of a result, see vmm/control/events.h. The argument SINCE is the
 *                sequence of the last event that is known: those after it that are still kept come
 *                first. 0: all that are kept; without it: none
 *   help         commands [{name, arguments, help, choices (words, for completion)}]
 *
 * A report: operation ("enable", "trim", "out", "in", "working_set", "disable", "dump_memory",
 * "checksum_memory"), command (as it is typed), running, cancelled, result (0 or a negative errno),
 * message, pages_done, pages_total, pages_moved, page_size_bytes, duration_ns, zap_ns,
 * rate_bytes_per_s (of the pages moved), written_bytes and read_bytes (of the store's file),
 * written_per_freed (of out: written_bytes by the bytes freed, a real; else null), digest (null, or
 * "sha256:" and 64 hexadecimal digits).
 *
 * Progress: operation, command, pages_done, pages_total, pages_moved, duration_ns, bytes_done,
 * bytes_total, rate_bytes_per_s (of bytes_done, lately), eta_ns (null: unknown).
 *
 * store: path (null: the pool alone), pool_limit_bytes (0: no pool), limit_bytes (0: none),
 * compression ("lz4", "zstd", "none"), level (0: the library's own), encryption, uring and direct
 * (whether io_uring and O_DIRECT are used), and the numbers of struct store_usage: entries,
 * entries_filled, entries_pool, live_bytes, pool_bytes, file_bytes, ram_bytes, written_bytes,
 * read_bytes, evicted_bytes. All of these are 0 while swap is disabled.
 *
 * latency, by what a fault was answered from: zero, staged, pool, file, each {count, p50_ns, p90_ns,
 * p99_ns, p999_ns, max_ns, mean_ns}.
 *
 * Main thread only.
 */
#ifndef EBB_VMM_CONTROL_COMMANDS_H
#define EBB_VMM_CONTROL_COMMANDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "swap/swap.h"
#include "vmm/base/rate.h"
#include "vmm/control/control_protocol.h"
#include "vmm/control/control_server.h"

struct command {
	const char *name;      /* "swap out" */
	const char *arguments; /* "[SIZE]"; NULL: none */
	const char *help;
	size_t arguments_min;
	size_t arguments_max;
	/* A swap operation, which goes on after it was started; SWAP_OP_NONE: an answer at once. */
	enum swap_operation operation;
	/* 0 with *result set (a reference for the caller), or -errno with @err. NULL with
	 * operation or streams. */
	int (*run)(const struct control_host *host, const struct control_request *request,
		   json_t **result, struct error *err);
	const char *choices; /* arguments to complete, separated by spaces; NULL: none */
	bool takes_file;     /* the first argument is a file; clients make its path absolute */
	bool resumes;        /* after the operation the virtual CPUs are continued */
	bool changes;        /* may change the machine, so that there may be events of it */
	bool streams;        /* is answered by events for as long as the client listens; no run */
	bool quits;          /* after the answer is queued, the host's quit() is called */
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

/*
 * The request `events`: 0 with *since, the sequence of the last event that the client knows, and the
 * members of its first line (NULL: out of memory); -errno with @err.
 */
int commands_parse_events(const struct control_host *host, const struct control_request *request,
			  uint64_t *since, json_t **subscribed, struct error *err);

/* Never NULL. */
const char *commands_arguments(const struct command *command);

/* The name of @operation in answers ("working_set"), and what is typed for it. */
const char *commands_operation_key(enum swap_operation operation);
const char *commands_operation_command(enum swap_operation operation);

/* A report as JSON; NULL: out of memory. */
json_t *commands_report(const struct swap_operation_report *report, uint64_t page_size);

/* The body of a progress line. */
json_t *commands_progress(const struct swap_operation_report *report, uint64_t page_size,
			  const struct rate *rate);

#endif
