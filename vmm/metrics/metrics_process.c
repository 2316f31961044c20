#include "vmm/metrics/metrics_process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/proc_file.h"

static struct proc_file stat_file = {.path = "/proc/self/stat"};
static DIR *kept_directory;

void metrics_process_keep_open(void)
{
	proc_file_keep(&stat_file);
	if (!kept_directory)
		kept_directory = opendir("/proc/self/fd");
}

bool metrics_process_parse_stat(const char *text, struct metrics_process *process,
				uint64_t *start_ticks)
{
	/* The name may hold anything, parentheses too; proc(5), fields 14, 15, 20, 22 to 24. */
	const char *rest = strrchr(text, ')');
	uint64_t user, system, pages;

	/* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
	if (!rest || sscanf(rest + 1,
			    " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
			    " %*d %*d %*d %*d %" SCNu64 " %*d %" SCNu64 " %" SCNu64 " %" SCNu64,
			    &user, &system, &process->threads, start_ticks, &process->virtual_bytes,
			    &pages) != 6)
		return false;
	process->cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
	process->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return true;
}

static uint64_t count_fds(void)
{
	DIR *directory = kept_directory ? kept_directory : opendir("/proc/self/fd");
	uint64_t count = 0;

	if (!directory)
		return 0;
	rewinddir(directory);
	while (readdir(directory))
		count++;
	if (!kept_directory)
		closedir(directory);
	return count > 3 ? count - 3 : 0; /* ".", ".." and the directory's own */
}

/* Boot time in seconds since the epoch, as the clocks have it now. */
static double boot_seconds(void)
{
	struct timespec real, boot;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	return (double)(real.tv_sec - boot.tv_sec) + (double)(real.tv_nsec - boot.tv_nsec) / 1e9;
}

void metrics_process_read(struct metrics_process *process)
{
	static double start_seconds; /* once: it must not wander with the clock */
	struct rlimit limit;
	uint64_t start_ticks;
	char text[1024];

	*process = (struct metrics_process){0};
	if (!proc_file_read(&stat_file, text, sizeof(text)) ||
	    !metrics_process_parse_stat(text, process, &start_ticks))
		return;
	if (start_seconds == 0.0)
		start_seconds = boot_seconds() + (double)start_ticks / (double)sysconf(_SC_CLK_TCK);
	process->start_seconds = start_seconds;
	process->open_fds = count_fds();
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		process->max_fds = limit.rlim_cur;
	process->valid = true;
}
