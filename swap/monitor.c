#include "swap/monitor.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

/* Every vCPU and device thread sleeps on one fault at a time; async page faults add some per vCPU.
 */
#define DEFERRED_MAX 4096u

/* An event that blocks answers is gone in microseconds; the second delay is for real trouble. */
#define DELAY_EVENT_NS   (50 * NS_PER_US)
#define DELAY_TROUBLE_NS (100 * NS_PER_MS)
#define DELAY_MAX_NS     (1 * NS_PER_SEC)

/* Reads in a row before deferred faults get their turn. */
#define EVENT_ROUNDS 16

/* Memory may be short for this long before the operator is told. */
#define MEMORY_PATIENCE_NS (5 * NS_PER_SEC)

struct deferred_fault {
	uint64_t address;
	uint64_t since_ns;
	uint64_t due_ns;
	uint64_t delay_ns;
};

struct monitor {
	struct pager *pager;
	const struct uffd *uffd;
	struct monitor_callbacks callbacks;
	pthread_t thread;
	int stop_fd;
	atomic_bool in_trouble; /* written by the thread alone */
	/* The thread's own: */
	size_t deferred_count;
	struct deferred_fault deferred[DEFERRED_MAX];
};

static void tell_trouble(struct monitor *monitor, int errnum, const char *what)
{
	char reason[256];

	if (atomic_exchange(&monitor->in_trouble, true))
		return;
	snprintf(reason, sizeof(reason), "%s: %s", what, strerrordesc_np(errnum));
	log_error("swap: %s", reason);
	if (monitor->callbacks.trouble)
		monitor->callbacks.trouble(monitor->callbacks.opaque, reason);
}

/* Trouble is over when nobody waits any more. */
static void end_trouble(struct monitor *monitor)
{
	if (monitor->deferred_count == 0)
		atomic_store(&monitor->in_trouble, false);
}

/*
 * Answers one fault. True: done with. False: *fault says when to try again.
 */
static bool answer(struct monitor *monitor, struct deferred_fault *fault)
{
	int result = pager_fault(monitor->pager, fault->address);
	uint64_t now;

	switch (result) {
	case 0:
	/* Unregistered or exiting meanwhile: the kernel has let the thread go. */
	case -ENOENT:
	case -ESRCH:
		return true;
	case -EAGAIN:
		fault->delay_ns = DELAY_EVENT_NS;
		break;
	case -ENOMEM:
	case -ENOSPC:
		fault->delay_ns = DELAY_TROUBLE_NS;
		if (clock_monotonic_ns() - fault->since_ns > MEMORY_PATIENCE_NS)
			tell_trouble(monitor, -result, "no memory for a page that the guest wants");
		break;
	case -EFAULT:
		tell_trouble(monitor, EFAULT, "a fault outside guest memory");
		fault->delay_ns = DELAY_MAX_NS;
		break;
	default:
		tell_trouble(monitor, -result, "a page that the guest wants cannot be read back");
		fault->delay_ns = fault->delay_ns < DELAY_TROUBLE_NS ? DELAY_TROUBLE_NS
				  : fault->delay_ns < DELAY_MAX_NS   ? fault->delay_ns * 2
								     : DELAY_MAX_NS;
		break;
	}
	now = clock_monotonic_ns();
	fault->due_ns = now + fault->delay_ns;
	return false;
}

static void defer(struct monitor *monitor, const struct deferred_fault *fault)
{
	uint64_t page = align_down(fault->address, GUEST_PAGE_SIZE);

	/* An answer wakes all who wait for the page: one entry is enough. */
	for (size_t i = 0; i < monitor->deferred_count; i++)
		if (align_down(monitor->deferred[i].address, GUEST_PAGE_SIZE) == page)
			return;
	if (monitor->deferred_count < DEFERRED_MAX)
		monitor->deferred[monitor->deferred_count++] = *fault;
	else
		uffd_wake(monitor->uffd, (void *)page, GUEST_PAGE_SIZE);
}

/* Reads and handles what waits. False: nothing did. */
static bool serve_events(struct monitor *monitor)
{
	uint64_t faults[UFFD_EVENTS_MAX];
	size_t fault_count, events = 0;
	int result = pager_read_events(monitor->pager, faults, &fault_count, &events);

	if (result) {
		tell_trouble(monitor, -result, "reading faults from the userfaultfd");
		usleep(DELAY_TROUBLE_NS / NS_PER_US);
		return false;
	}
	for (size_t i = 0; i < fault_count; i++) {
		struct deferred_fault fault = {.address = faults[i]};

		fault.since_ns = clock_monotonic_ns();
		if (!answer(monitor, &fault))
			defer(monitor, &fault);
	}
	end_trouble(monitor);
	return events > 0;
}

static void retry_deferred(struct monitor *monitor)
{
	uint64_t now = clock_monotonic_ns();
	size_t kept = 0;

	for (size_t i = 0; i < monitor->deferred_count; i++) {
		struct deferred_fault *fault = &monitor->deferred[i];

		if (fault->due_ns > now || !answer(monitor, fault))
			monitor->deferred[kept++] = *fault;
	}
	monitor->deferred_count = kept;
	end_trouble(monitor);
}

/*
 * How long poll may sleep: until the first deferred fault is due, not at all if there is disk space
 * to give back. NULL: for ever.
 */
static struct timespec *next_due(const struct monitor *monitor, bool reclaiming,
				 struct timespec *timeout)
{
	uint64_t now = clock_monotonic_ns();
	uint64_t due = UINT64_MAX;

	if (monitor->deferred_count == 0 && !reclaiming)
		return NULL;
	for (size_t i = 0; i < monitor->deferred_count; i++)
		if (monitor->deferred[i].due_ns < due)
			due = monitor->deferred[i].due_ns;
	due = due > now && !reclaiming ? due - now : 0;
	*timeout = (struct timespec){
		.tv_sec = (time_t)(due / NS_PER_SEC),
		.tv_nsec = (long)(due % NS_PER_SEC),
	};
	return timeout;
}

static void *run_monitor(void *arg)
{
	struct monitor *monitor = arg;
	bool reclaiming = false;
	struct pollfd fds[] = {
		{.fd = uffd_descriptor(monitor->uffd), .events = POLLIN},
		{.fd = monitor->stop_fd, .events = POLLIN},
	};

	for (;;) {
		struct timespec timeout;
		int ready =
			ppoll(fds, ARRAY_SIZE(fds), next_due(monitor, reclaiming, &timeout), NULL);

		for (int i = 0; i < EVENT_ROUNDS && serve_events(monitor); i++)
			;
		if (monitor->deferred_count)
			retry_deferred(monitor);
		if (ready > 0 && fds[1].revents)
			return NULL;
		/* A piece at a time, and only when no fault waits. */
		reclaiming = ready != 0 || pager_reclaim(monitor->pager);
	}
}

int monitor_start(struct pager *pager, const struct uffd *uffd,
		  const struct monitor_callbacks *callbacks, struct monitor **out)
{
	struct monitor *monitor = calloc(1, sizeof(*monitor));
	int result;

	if (!monitor)
		return -ENOMEM;
	monitor->pager = pager;
	monitor->uffd = uffd;
	monitor->callbacks = *callbacks;
	monitor->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (monitor->stop_fd < 0) {
		result = -errno;
		goto free_monitor;
	}
	result = thread_start(&monitor->thread, "ebb-monitor", run_monitor, monitor);
	if (result)
		goto close_stop;
	*out = monitor;
	return 0;

close_stop:
	close(monitor->stop_fd);
free_monitor:
	free(monitor);
	return result;
}

void monitor_stop(struct monitor *monitor)
{
	if (!monitor)
		return;
	eventfd_write(monitor->stop_fd, 1);
	pthread_join(monitor->thread, NULL);
	close(monitor->stop_fd);
	free(monitor);
}

bool monitor_in_trouble(const struct monitor *monitor)
{
	return atomic_load(&monitor->in_trouble);
}
