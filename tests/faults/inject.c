/*
 * Host faults on demand, linked into a program of its own (ebb_faults: all of ebb, and this).
 *
 * The linker's --wrap leads the fallible calls of ebb's own code here; those that libraries make of
 * their own accord go where they always went, but for jansson's memory. A call's *site* is its name,
 * what it asks for (an ioctl's request, an io_uring operation), where it was called, and where the
 * function around it was called. calls.cmake lists what is wrapped.
 *
 * EBB_FAULT_REPORT=FILE  struct report is kept in FILE: each site reached, and how often; how often a
 *                        fault was injected; at exit the descriptors and threads that are left
 * EBB_FAULT=NAME:DETAIL:CALLER:OUTER:NTH:MODE
 *                        the NTH call at this site (numbers as in the report) meets a fault.
 *                        MODE: fail; always (from the NTH on); short (half of the bytes are
 *                        transferred); eintr (a signal came first)
 *
 * Any thread; the report is under a spin lock, nothing here allocates or makes a system call that the
 * sandbox forbids: the files that it needs are open from the start. Frames are found by frame pointers
 * (builds with a sanitizer) or by the unwinder.
 */
#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/faults/inject.h"
#include "vmm/sandbox/sandbox.h"

#define SITES_MAX       4096
#define NAME_MAX_LENGTH 24
#define FDS_MAX         1024

/* The layout is known to faults.py. */
struct site {
	char name[NAME_MAX_LENGTH];
	uint64_t detail;
	uint64_t caller, outer; /* from the program's start */
	uint64_t count;
};

struct report {
	uint64_t site_count;
	uint64_t injected;
	int64_t fds_left, threads_left; /* beyond those at the start; -1: no orderly exit */
	struct site sites[SITES_MAX];
};

extern const char __executable_start, etext;

static struct report *report;
static struct site target;
static uint64_t target_nth;
static enum mode target_mode;
static atomic_flag lock = ATOMIC_FLAG_INIT;
static bool open_at_start[FDS_MAX];
static DIR *tasks;

void *__real_malloc(size_t size);

/* 0 for places in libraries: those are elsewhere in each run. */
static uint64_t offset_of(const void *address)
{
	const char *place = address;

	return place >= &__executable_start && place < &etext
		       ? (uint64_t)(place - &__executable_start)
		       : 0;
}

static bool same(const struct site *a, const struct site *b)
{
	return a->detail == b->detail && a->caller == b->caller && a->outer == b->outer &&
	       !strncmp(a->name, b->name, NAME_MAX_LENGTH);
}

static uint64_t count(const struct site *site)
{
	uint64_t i;

	for (i = 0; i < report->site_count; i++)
		if (same(&report->sites[i], site))
			return ++report->sites[i].count;
	if (i == SITES_MAX)
		return 0;
	report->sites[i] = *site;
	report->site_count++;
	return report->sites[i].count = 1;
}

enum mode inject_judge(const char *name, uint64_t detail, const void *caller, const void *outer)
{
	struct site site = {
		.detail = detail,
		.caller = offset_of(caller),
		.outer = offset_of(outer),
	};
	enum mode mode = MODE_NONE;
	uint64_t nth;

	if (!report)
		return MODE_NONE;
	for (size_t i = 0; i < NAME_MAX_LENGTH - 1 && name[i]; i++)
		site.name[i] = name[i];
	while (atomic_flag_test_and_set(&lock))
		sched_yield();
	nth = count(&site);
	if (target_mode && same(&site, &target) &&
	    (nth == target_nth || (target_mode == MODE_ALWAYS && nth > target_nth))) {
		report->injected++;
		mode = target_mode;
	}
	atomic_flag_clear(&lock);
	return mode;
}

const void *inject_outer(const void *caller)
{
	void *frames[8];
	int depth = report ? backtrace(frames, 8) : 0;

	for (int i = 0; i + 1 < depth; i++)
		if (frames[i] == caller)
			return frames[i + 1];
	return NULL;
}

/* jansson's memory: the site is where ebb called jansson. */
static void *json_memory(size_t size)
{
	void *frames[24];
	const void *places[2] = {NULL, NULL};
	int depth = report ? backtrace(frames, 24) : 0;
	size_t found = 0;

	for (int i = 2; i < depth && found < 2; i++)
		if (offset_of(frames[i]))
			places[found++] = frames[i];
	if (found && inject_judge("json memory", 0, places[0], places[1]))
		return NULL;
	return __real_malloc(size);
}

static void at_end(void)
{
	struct report *last = report;
	struct dirent *entry;

	report = NULL;
	last->fds_left = last->threads_left = 0;
	rewinddir(tasks);
	while ((entry = readdir(tasks)))
		last->threads_left += entry->d_name[0] != '.';
	last->threads_left--;
	/* The nursery of the sandbox stays, idle, to the end. */
	if (sandbox_layers.seccomp && last->threads_left > 0)
		last->threads_left--;
	for (int fd = 0; fd < FDS_MAX; fd++)
		last->fds_left += !open_at_start[fd] && fcntl(fd, F_GETFD) >= 0;
}

static void take_target(const char *text)
{
	static const char *const modes[] = {
		[MODE_FAIL] = "fail",
		[MODE_ALWAYS] = "always",
		[MODE_SHORT] = "short",
		[MODE_EINTR] = "eintr",
	};
	unsigned long long detail, caller, outer, nth;
	char mode[16];

	if (sscanf(text, "%23[^:]:%llx:%llx:%llx:%llu:%15s", target.name, &detail, &caller, &outer,
		   &nth, mode) != 6)
		abort();
	target.detail = detail;
	target.caller = caller;
	target.outer = outer;
	target_nth = nth;
	for (size_t i = 1; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(mode, modes[i]))
			target_mode = i;
	if (!target_mode)
		abort();
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("EBB_FAULT_REPORT"), *fault = getenv("EBB_FAULT");
	void *frame[1], *map;
	int fd;

	if (!path)
		return;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct report)))
		abort();
	map = mmap(NULL, sizeof(struct report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	tasks = opendir("/proc/self/task");
	if (map == MAP_FAILED || !tasks)
		abort();
	close(fd);
	for (fd = 0; fd < FDS_MAX; fd++)
		open_at_start[fd] = fcntl(fd, F_GETFD) >= 0;
	if (fault)
		take_target(fault);
	backtrace(frame, 1); /* loads the unwinder */
	json_set_alloc_funcs(json_memory, free);
	atexit(at_end);
	report = map;
	report->fds_left = report->threads_left = -1;
}
