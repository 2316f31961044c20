/*
 * What the host's kernel says of this process, for the process_* metrics: processor time, memory,
 * descriptors and threads, from /proc/self (proc(5)). Main thread only; the files of /proc stay
 * open if metrics_process_keep_open() was called.
 */
#ifndef EBB_VMM_METRICS_METRICS_PROCESS_H
#define EBB_VMM_METRICS_METRICS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct metrics_process {
	bool valid; /* /proc could be read */
	double cpu_seconds;
	double start_seconds; /* since the epoch */
	uint64_t virtual_bytes;
	uint64_t resident_bytes;
	uint64_t open_fds;
	uint64_t max_fds;
	uint64_t threads;
};

/* All of it anew. */
void metrics_process_read(struct metrics_process *process);

/* @text as in /proc/self/stat: its numbers after the name, in ticks and pages. False: malformed. */
bool metrics_process_parse_stat(const char *text, struct metrics_process *process,
				uint64_t *start_ticks);

/* From now on metrics_process_read() opens nothing. Main thread. */
void metrics_process_keep_open(void);

#endif
