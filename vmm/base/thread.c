#include "vmm/base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/checked.h"

/* The shortest that the scheduler takes. */
#define SHORT_SLICE_NS 100000

/* A third of the weight of others, where all CPUs are busy; all there is where they are not. */
#define BULK_NICE 5

struct start {
	char name[16];
	void *(*run)(void *);
	void *arg;
};

static thread_starter start_by; /* NULL: thread_create() */

/* A thread names itself: its name from outside would be written to a file of /proc. */
static void *begin(void *opaque)
{
	struct start start = *(struct start *)opaque;

	free(opaque);
	prctl(PR_SET_NAME, start.name);
	return start.run(start.arg);
}

int thread_create(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	/* A thread's own: blocked, they would kill the process before its handlers have run. */
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
	struct start *start = malloc(sizeof(*start));
	sigset_t all, before;
	int result;

	if (!start)
		return -ENOMEM;
	*start = (struct start){.run = run, .arg = arg};
	snprintf(start->name, sizeof(start->name), "%s", name);
	/* A new thread inherits the mask: block here, so that no signal finds it unready. */
	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(thread, NULL, begin, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result)
		free(start);
	return -result;
}

void thread_start_by(thread_starter starter)
{
	start_by = starter;
}

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	return start_by ? start_by(thread, name, run, arg) : thread_create(thread, name, run, arg);
}

void thread_want_short_slice(void)
{
	/* As in <linux/sched/types.h>, which cannot be included beside <sched.h>. */
	const struct {
		uint32_t size;
		uint32_t policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime; /* SCHED_OTHER: the slice */
		uint64_t deadline;
		uint64_t period;
	} attributes = {
		.size = sizeof(attributes),
		.policy = SCHED_OTHER,
		.nice = getpriority(PRIO_PROCESS, 0),
		.runtime = SHORT_SLICE_NS,
	};

	syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void thread_yield_to_others(void)
{
	const struct sched_param none = {0};

	/* Threads have a niceness each (sched(7)). */
	setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, 0) + BULK_NICE);
	pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
}
