/*
 * `ebb swap`: the same swap command for many machines at once.
 *
 * With --json, a line for each machine as it is done:
 *
 *   {"name":"…","pid":N,"command":"out","done":true,"skipped":false,"state":"out","pages_moved":N,
 *    "bytes":N,"written_bytes":N,"duration_ns":N,"error":null}
 *
 * bytes: of guest memory moved by the command itself (of `out`: written out). skipped: there was
 * nothing to do. state: of swap; null if not known. error: {"code","message"}, where code is one of
 * the control protocol or "absent", "silent", "ended", "interrupted". For `status` there is "status"
 * instead of what stands between skipped and error: the answer of that command, or null. At last
 * {"total":{"command","machines","done","failed","bytes","written_bytes","duration_ns"}}, for
 * `status` with memory_bytes, memory_allocated_bytes, staged_bytes, swapped_bytes, pool_bytes and
 * store_disk_bytes instead of bytes and written_bytes.
 */
#ifndef EBB_VMM_CLIENT_SWAP_ALL_H
#define EBB_VMM_CLIENT_SWAP_ALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

int swap_all_main(int argc, char **argv);

/* The command line, apart for tests. */
struct swap_all_options {
	bool help;
	bool json;
	bool all;
	unsigned jobs;
	uint64_t timeout_ns;
	const char *verb;
	char **names; /* point into argv */
	size_t name_count;
};

#define SWAP_ALL_JOBS_MAX        1024u
#define SWAP_ALL_TIMEOUT_SECONDS 30u
#define SWAP_ALL_TIMEOUT_MAX     86400u

/* 0, or -EINVAL with @err. Not thread-safe (getopt). */
int swap_all_options_parse(int argc, char **argv, struct swap_all_options *options,
			   struct error *err);

#endif
