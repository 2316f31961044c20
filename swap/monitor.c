#include "swap/monitor.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
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

/* Faults that may wait for a thread to read the disk for them; more are deferred. */
#define READS_MAX 128u

/* With more CPUs than this, a fault would wake too many threads in vain: posts are not pinned. */
#define PINNED_POSTS_MAX 4u
#define UNPINNED_POSTS   2u

/* Of each post: one on watch, the others waiting for the disk or for the watch. */
#define POST_THREADS 4u
#define READERS_MAX  (POST_THREADS - 1)

/* An event that blocks answers is gone in microseconds; the second delay is for real trouble. */
#define DELAY_EVENT_NS   (50 * NS_PER_US)
#define DELAY_BUSY_NS    (1 * NS_PER_MS)
#define DELAY_TROUBLE_NS (100 * NS_PER_MS)
#define DELAY_MAX_NS     (1 * NS_PER_SEC)

/* Reads in a row before deferred faults get their turn. */
#define EVENT_ROUNDS 16

/* Memory may be short for this long before the operator is told. */
#define MEMORY_PATIENCE_NS (5 * NS_PER_SEC)

/*
 * A disk that answers nothing for 10 seconds hangs: busy ones take a second or two, and guests begin to
 * suspect their CPUs after 20. Counted in looks: who was stopped meanwhile (SIGSTOP) has not waited.
 */
#define DISK_LOOK_NS (2 * NS_PER_SEC)
#define DISK_LOOKS   5u

struct fault {
	uint64_t address;
	uint64_t since_ns;
	uint64_t due_ns; /* deferred: when to try again */
	uint64_t delay_ns;
	bool deferred;       /* it was; counts until it is answered */
	int errnum;          /* of trouble, */
	const char *trouble; /* which the operator is to be told; NULL: none */
};

/* One thread and what it uses. */
struct watcher {
	struct post *post;
	struct pager_context *context;
	/* Guarded by the post's lock: */
	uint64_t looked_ns; /* it reads from the disk, and has when this was; 0: it does not */
	unsigned looks;     /* so often it has since it began; DISK_LOOKS: counts as deferred */
};

struct post {
	struct monitor *monitor;
	int cpu; /* -1: any */
	pthread_t threads[POST_THREADS];
	struct watcher watchers[POST_THREADS];
	size_t thread_count;

	int nudge_fd;
	pthread_mutex_t watch;    /* held by the thread on watch */
	bool read_failed;         /* the last one of who is on watch */
	pthread_mutex_t lock;     /* guards changes of the rest; taken after watch */
	atomic_size_t readers;    /* threads that wait for the disk: never all of them */
	atomic_size_t read_count; /* faults that must be read from the disk, not yet begun */
	struct fault reads[READS_MAX];
	atomic_size_t deferred_count;
	struct fault deferred[DEFERRED_MAX];
};

struct monitor {
	struct pager *pager;
	const struct uffd *uffd;
	struct monitor_callbacks callbacks;
	int stop_fd;
	atomic_bool in_trouble;
	atomic_size_t deferred; /* of all posts, and reads that the disk does not answer */
	struct latency latency[PAGER_ANSWERS];
	size_t post_count;
	struct post posts[PINNED_POSTS_MAX];
};

static const char cannot_be_read[] = "a page that the guest wants cannot be read back";

static void tell_trouble(struct monitor *monitor, int errnum, const char *what)
{
	const char *why = strerrordesc_np(errnum);
	char reason[256];

	if (atomic_exchange(&monitor->in_trouble, true))
		return;
	/* Their own texts help nobody; see store_read(), and tell_late_reads(). */
	if (errnum == EBADMSG)
		why = "the swap store is damaged, or was changed";
	else if (errnum == ETIMEDOUT)
		why = "the disk of the swap store does not answer";
	snprintf(reason, sizeof(reason), "%s: %s", what, why);
	log_error("swap: %s", reason);
	if (monitor->callbacks.trouble)
		monitor->callbacks.trouble(monitor->callbacks.opaque, reason);
}

/* Trouble is over when nobody waits any more. */
static void end_trouble(struct monitor *monitor)
{
	if (atomic_load(&monitor->deferred) == 0 && atomic_load(&monitor->in_trouble))
		atomic_store(&monitor->in_trouble, false);
}

/* Judges an answer. True: done with. False: @fault says when to try again, and what to tell. */
static bool conclude(struct monitor *monitor, struct fault *fault, int result,
		     enum pager_answer answer)
{
	uint64_t now = clock_monotonic_ns();

	fault->errnum = -result;
	fault->trouble = NULL;
	switch (result) {
	case 0:
		latency_add(&monitor->latency[answer], now - fault->since_ns);
		return true;
	/* Unregistered or exiting meanwhile: the kernel has let the thread go. */
	case -ENOENT:
	case -ESRCH:
		return true;
	case -EAGAIN:
		fault->delay_ns = DELAY_EVENT_NS;
		break;
	case -EBUSY:
		fault->delay_ns = DELAY_BUSY_NS;
		break;
	case -ENOMEM:
	case -ENOSPC:
		fault->delay_ns = DELAY_TROUBLE_NS;
		if (now - fault->since_ns > MEMORY_PATIENCE_NS)
			fault->trouble = "no memory for a page that the guest wants";
		break;
	case -EFAULT:
		fault->trouble = "a fault outside guest memory";
		fault->delay_ns = DELAY_MAX_NS;
		break;
	default:
		fault->trouble = cannot_be_read;
		fault->delay_ns = fault->delay_ns < DELAY_TROUBLE_NS ? DELAY_TROUBLE_NS
				  : fault->delay_ns < DELAY_MAX_NS   ? fault->delay_ns * 2
								     : DELAY_MAX_NS;
		break;
	}
	fault->due_ns = now + fault->delay_ns;
	return false;
}

static void defer(struct post *post, const struct fault *fault)
{
	uint64_t page = align_down(fault->address, GUEST_PAGE_SIZE);
	bool added = true;

	pthread_mutex_lock(&post->lock);
	/* An answer wakes all who wait for the page: one entry is enough. */
	for (size_t i = 0; i < post->deferred_count && added; i++)
		added = align_down(post->deferred[i].address, GUEST_PAGE_SIZE) != page;
	if (added && post->deferred_count == DEFERRED_MAX) {
		uffd_wake(post->monitor->uffd, (void *)page, GUEST_PAGE_SIZE);
		added = false;
	}
	if (added) {
		post->deferred[post->deferred_count] = *fault;
		post->deferred[post->deferred_count++].deferred = true;
	}
	if (added && !fault->deferred)
		atomic_fetch_add(&post->monitor->deferred, 1);
	else if (!added && fault->deferred)
		atomic_fetch_sub(&post->monitor->deferred, 1);
	pthread_mutex_unlock(&post->lock);
	if (fault->trouble) {
		/* Not before it counts: trouble that nobody waits for would be over at once. */
		tell_trouble(post->monitor, fault->errnum, fault->trouble);
		end_trouble(post->monitor);
	}
}

/* Done with the fault; or defers it: false. */
static bool settle(struct post *post, struct fault *fault, int result, enum pager_answer answer)
{
	struct monitor *monitor = post->monitor;

	if (!conclude(monitor, fault, result, answer)) {
		defer(post, fault);
		return false;
	}
	if (fault->deferred && atomic_fetch_sub(&monitor->deferred, 1) == 1)
		end_trouble(monitor);
	return true;
}

/* False: no room. */
static bool queue_read(struct post *post, const struct fault *fault)
{
	bool room;

	pthread_mutex_lock(&post->lock);
	room = post->read_count < READS_MAX;
	if (room)
		post->reads[post->read_count++] = *fault;
	pthread_mutex_unlock(&post->lock);
	return room;
}

/* There is a read, and a thread can be spared for it. */
static bool can_read(const struct post *post)
{
	return atomic_load_explicit(&post->read_count, memory_order_relaxed) > 0 &&
	       atomic_load_explicit(&post->readers, memory_order_relaxed) < READERS_MAX;
}

/*
 * Takes the fault that has waited longest for the disk. @reading: by a thread that already is a
 * reader; without another fault, it no longer is. False: there is none for this thread.
 */
static bool next_read(struct post *post, bool reading, struct fault *fault)
{
	bool found;

	pthread_mutex_lock(&post->lock);
	found = reading ? post->read_count > 0 : can_read(post);
	if (found) {
		*fault = post->reads[0];
		memmove(&post->reads[0], &post->reads[1],
			--post->read_count * sizeof(post->reads[0]));
	}
	if (found && !reading)
		post->readers++;
	else if (!found && reading)
		post->readers--;
	pthread_mutex_unlock(&post->lock);
	return found;
}

/* Answers a fault, or queues it for the disk, or defers it. */
static void answer(struct watcher *watcher, struct fault *fault)
{
	enum pager_answer how = PAGER_ANSWER_ZERO;
	int result = pager_fault(watcher->context, fault->address, &how);

	if (result > 0 && queue_read(watcher->post, fault))
		return;
	settle(watcher->post, fault, result > 0 ? -EBUSY : result, how);
}

static void take_watch(struct post *post)
{
	if (pthread_mutex_lock(&post->watch) != EOWNERDEAD)
		return;
	/* What it guards is whole: who is on watch changes the rest with the lock. */
	pthread_mutex_consistent(&post->watch);
	tell_trouble(post->monitor, EOWNERDEAD, "a monitor thread has ended unexpectedly");
}

/* The thread begins to read from the disk; or no longer reads: @now is 0. */
static void note_reading(struct watcher *watcher, uint64_t now)
{
	struct post *post = watcher->post;
	bool was_late;

	pthread_mutex_lock(&post->lock);
	was_late = watcher->looks == DISK_LOOKS;
	watcher->looked_ns = now;
	watcher->looks = 0;
	pthread_mutex_unlock(&post->lock);
	if (was_late && atomic_fetch_sub(&post->monitor->deferred, 1) == 1)
		end_trouble(post->monitor);
}

/* Looks at who waits for the disk; if it does not answer, tells, until it does. */
static void tell_late_reads(struct post *post)
{
	uint64_t now = clock_monotonic_ns();
	bool late = false;

	pthread_mutex_lock(&post->lock);
	for (size_t i = 0; i < POST_THREADS; i++) {
		struct watcher *watcher = &post->watchers[i];

		if (watcher->looked_ns == 0 || watcher->looks == DISK_LOOKS ||
		    now < watcher->looked_ns + DISK_LOOK_NS)
			continue;
		watcher->looked_ns = now;
		if (++watcher->looks < DISK_LOOKS)
			continue;
		atomic_fetch_add(&post->monitor->deferred, 1);
		late = true;
	}
	pthread_mutex_unlock(&post->lock);
	if (!late)
		return;
	tell_trouble(post->monitor, ETIMEDOUT, cannot_be_read);
	end_trouble(post->monitor);
}

/*
 * Answers a fault from the disk, and those that have come meanwhile. The watch is left to others
 * while the disk works, but not before: waking another thread on this CPU would delay its start.
 */
static void read_from_disk(struct watcher *watcher, struct fault *fault)
{
	struct post *post = watcher->post;
	bool on_watch = true;

	do {
		enum pager_answer how = PAGER_ANSWER_ZERO;
		int result = pager_fault(watcher->context, fault->address, &how);

		if (result > 0)
			pager_fault_begin(watcher->context);
		/* Before the watch is left: who takes it must know when to look. */
		note_reading(watcher, clock_monotonic_ns());
		if (on_watch)
			pthread_mutex_unlock(&post->watch);
		on_watch = false;
		if (result > 0)
			result = pager_fault_read(watcher->context, &how);
		/* Whoever watches now must learn when it is due. */
		if (!settle(post, fault, result, how))
			eventfd_write(post->nudge_fd, 1);
	} while (next_read(post, true, fault));
	note_reading(watcher, 0);
	take_watch(post);
}

static bool has_deferred(const struct post *post)
{
	return atomic_load_explicit(&post->deferred_count, memory_order_relaxed) > 0;
}

/* Reads and handles what waits. False: nothing did. */
static bool serve_events(struct watcher *watcher)
{
	struct monitor *monitor = watcher->post->monitor;
	uint64_t faults[UFFD_EVENTS_MAX], now;
	size_t fault_count, events = 0;
	int result = pager_read_events(monitor->pager, faults, &fault_count, &events);

	watcher->post->read_failed = result != 0;
	if (result) {
		tell_trouble(monitor, -result, "reading faults from the userfaultfd");
		usleep(DELAY_TROUBLE_NS / NS_PER_US);
		return false;
	}
	now = clock_monotonic_ns();
	for (size_t i = 0; i < fault_count; i++)
		answer(watcher, &(struct fault){.address = faults[i], .since_ns = now});
	end_trouble(monitor);
	/* A full batch may not have been all. */
	return events == UFFD_EVENTS_MAX && !can_read(watcher->post);
}

/* Takes a deferred fault that is due out of the list. False: none is. */
static bool next_deferred(struct post *post, uint64_t now, struct fault *fault)
{
	bool found = false;

	pthread_mutex_lock(&post->lock);
	for (size_t i = 0; i < post->deferred_count && !found; i++) {
		found = post->deferred[i].due_ns <= now;
		if (found) {
			*fault = post->deferred[i];
			post->deferred[i] = post->deferred[--post->deferred_count];
		}
	}
	pthread_mutex_unlock(&post->lock);
	return found;
}

static void retry_deferred(struct watcher *watcher)
{
	struct monitor *monitor = watcher->post->monitor;
	uint64_t now = clock_monotonic_ns();
	struct fault fault;

	/* What fails again is due later than now. */
	while (next_deferred(watcher->post, now, &fault))
		answer(watcher, &fault);
	end_trouble(monitor);
}

static bool has_readers(const struct post *post)
{
	return atomic_load_explicit(&post->readers, memory_order_relaxed) > 0;
}

/*
 * How long poll may sleep: until the first deferred fault is due, or a look at who waits for the disk.
 * NULL: for ever.
 */
static struct timespec *next_due(struct post *post, struct timespec *timeout)
{
	uint64_t now, due = UINT64_MAX;

	if (!has_deferred(post) && !has_readers(post))
		return NULL;
	pthread_mutex_lock(&post->lock);
	for (size_t i = 0; i < post->deferred_count; i++)
		if (post->deferred[i].due_ns < due)
			due = post->deferred[i].due_ns;
	for (size_t i = 0; i < POST_THREADS; i++) {
		const struct watcher *watcher = &post->watchers[i];

		if (watcher->looked_ns && watcher->looks < DISK_LOOKS &&
		    watcher->looked_ns + DISK_LOOK_NS < due)
			due = watcher->looked_ns + DISK_LOOK_NS;
	}
	pthread_mutex_unlock(&post->lock);
	if (due == UINT64_MAX)
		return NULL;
	now = clock_monotonic_ns();
	due = due > now ? due - now : 0;
	*timeout = (struct timespec){
		.tv_sec = (time_t)(due / NS_PER_SEC),
		.tv_nsec = (long)(due % NS_PER_SEC),
	};
	return timeout;
}

static void watch(struct watcher *watcher)
{
	struct post *post = watcher->post;
	struct pollfd fds[] = {
		{.fd = uffd_descriptor(post->monitor->uffd), .events = POLLIN},
		{.fd = post->nudge_fd, .events = POLLIN},
		{.fd = post->monitor->stop_fd, .events = POLLIN},
	};

	for (;;) {
		struct timespec timeout = {0};
		struct fault fault;
		int ready;

		while (can_read(post) && next_read(post, false, &fault))
			read_from_disk(watcher, &fault);
		/* That it can be read again ends the trouble, be there something to read or not. */
		ready = ppoll(fds, ARRAY_SIZE(fds),
			      post->read_failed ? &timeout : next_due(post, &timeout), NULL);
		if (ready > 0 && fds[1].revents)
			eventfd_read(post->nudge_fd, &(eventfd_t){0});
		for (int i = 0; i < EVENT_ROUNDS && serve_events(watcher); i++)
			;
		if (has_deferred(post))
			retry_deferred(watcher);
		if (has_readers(post))
			tell_late_reads(post);
		if (ready > 0 && fds[2].revents && !can_read(post))
			return;
	}
}

/* However the thread ends: the guest's faults would go unanswered. */
static void leave(void *arg)
{
	struct watcher *watcher = arg;
	struct monitor *monitor = watcher->post->monitor;
	struct pollfd stop = {.fd = monitor->stop_fd, .events = POLLIN};

	if (poll(&stop, 1, 0) != 1)
		tell_trouble(monitor, EOWNERDEAD, "a monitor thread has ended unexpectedly");
	pager_context_destroy(watcher->context);
}

static void *run_watcher(void *arg)
{
	struct watcher *watcher = arg;

	thread_want_short_slice();
	pthread_cleanup_push(leave, watcher);
	take_watch(watcher->post);
	watch(watcher);
	pthread_mutex_unlock(&watcher->post->watch);
	pthread_cleanup_pop(true);
	return NULL;
}

/* Robust: if a thread is gone, the next takes the watch over. */
static void init_watch(pthread_mutex_t *watch)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(watch, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static int start_post(struct monitor *monitor, int cpu)
{
	struct post *post = &monitor->posts[monitor->post_count++];

	post->monitor = monitor;
	post->cpu = cpu;
	init_watch(&post->watch);
	pthread_mutex_init(&post->lock, NULL);
	post->nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (post->nudge_fd < 0)
		return -errno;
	for (size_t i = 0; i < POST_THREADS; i++) {
		struct watcher *watcher = &post->watchers[i];
		cpu_set_t set;
		int result;

		/* Here, where a failure is the start's alone, not one of a machine that needs it. */
		watcher->post = post;
		result = pager_context_create(monitor->pager, &watcher->context);
		if (result)
			return result;
		result = thread_start(&post->threads[i], "ebb-monitor", run_watcher, watcher);
		if (result) {
			pager_context_destroy(watcher->context);
			return result;
		}
		post->thread_count++;
		if (cpu < 0)
			continue;
		/* Without the pin it is only slower. */
		CPU_ZERO(&set);
		CPU_SET((size_t)cpu, &set);
		pthread_setaffinity_np(post->threads[i], sizeof(set), &set);
	}
	return 0;
}

static int start_posts(struct monitor *monitor)
{
	cpu_set_t allowed;
	int result = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) ||
	    CPU_COUNT(&allowed) > (int)PINNED_POSTS_MAX) {
		for (size_t i = 0; i < UNPINNED_POSTS && !result; i++)
			result = start_post(monitor, -1);
		return result;
	}
	for (int cpu = 0; cpu < CPU_SETSIZE && !result; cpu++)
		if (CPU_ISSET((size_t)cpu, &allowed))
			result = start_post(monitor, cpu);
	return result;
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
		free(monitor);
		return result;
	}
	result = start_posts(monitor);
	if (result) {
		monitor_stop(monitor);
		return result;
	}
	*out = monitor;
	return 0;
}

void monitor_stop(struct monitor *monitor)
{
	if (!monitor)
		return;
	eventfd_write(monitor->stop_fd, 1);
	for (size_t i = 0; i < monitor->post_count; i++) {
		struct post *post = &monitor->posts[i];

		for (size_t j = 0; j < post->thread_count; j++)
			pthread_join(post->threads[j], NULL);
		if (post->nudge_fd >= 0)
			close(post->nudge_fd);
		pthread_mutex_destroy(&post->lock);
		pthread_mutex_destroy(&post->watch);
	}
	close(monitor->stop_fd);
	free(monitor);
}

bool monitor_in_trouble(const struct monitor *monitor)
{
	return atomic_load(&monitor->in_trouble);
}

bool monitor_is_reading(const struct monitor *monitor)
{
	for (size_t i = 0; i < monitor->post_count; i++)
		if (has_readers(&monitor->posts[i]))
			return true;
	return false;
}

const struct latency *monitor_latency(const struct monitor *monitor, enum pager_answer answer)
{
	return &monitor->latency[answer];
}
