/*
 * The kernel's interface itself, not swap/'s: a reference must not change with what it measures.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory/guest_memory.h"
#include "tests/bench/reference.h"
#include "tests/bench/touch.h"
#include "vmm/base/checked.h"

#define PAGES       4096u
#define THREADS_MAX 16
#define PAUSE_US    100
#define PAUSED      1000u

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

struct placement {
	const char *name;
	int answer_cpu;    /* where the one thread runs that answers */
	int touch_cpu;     /* -1: anywhere */
	unsigned pause_us; /* of the toucher between two touches */
	bool per_cpu;      /* a thread on each CPU instead, all reading */
	bool poll;         /* poll(2) before each read, else the read sleeps */
};

static const struct placement placements[] = {
	{.name = "same_cpu"},
	{.name = "cross_cpu_poll", .answer_cpu = 1, .poll = true},
	{.name = "per_cpu", .touch_cpu = -1, .per_cpu = true},
	{.name = "per_cpu_poll", .touch_cpu = -1, .per_cpu = true, .poll = true},
	{.name = "per_cpu_paused", .touch_cpu = -1, .per_cpu = true, .pause_us = PAUSE_US},
};

struct round_trip {
	int fd;
	bool minor; /* CONTINUE, else COPY */
	bool poll;
	uint8_t *base;
	uint8_t *source;
	atomic_bool done;
};

struct answerer {
	pthread_t thread;
	struct round_trip *trip;
	int cpu;
	atomic_bool ended;
};

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void unpin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void answer(const struct round_trip *trip, uint64_t address)
{
	uint64_t page = address & ~(GUEST_PAGE_SIZE - 1);
	struct uffdio_continue map = {.range = {page, GUEST_PAGE_SIZE}};
	struct uffdio_copy copy = {
		.dst = page, .src = (uintptr_t)trip->source, .len = GUEST_PAGE_SIZE};

	if (trip->minor)
		ioctl(trip->fd, UFFDIO_CONTINUE, &map);
	else
		ioctl(trip->fd, UFFDIO_COPY, &copy);
}

static void *run_answerer(void *arg)
{
	struct answerer *answerer = arg;
	struct round_trip *trip = answerer->trip;
	struct pollfd wait = {.fd = trip->fd, .events = POLLIN};
	struct uffd_msg message;

	pin(answerer->cpu);
	while (!trip->done) {
		if (trip->poll && poll(&wait, 1, -1) < 0)
			continue;
		if (read(trip->fd, &message, sizeof(message)) != sizeof(message))
			continue;
		if (message.event == UFFD_EVENT_PAGEFAULT)
			answer(trip, message.arg.pagefault.address);
	}
	answerer->ended = true;
	return NULL;
}

static int open_uffd(bool nonblock)
{
	int flags = O_CLOEXEC | (nonblock ? O_NONBLOCK : 0);
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
		close(device);
	}
	return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, flags);
}

static int register_memory(struct round_trip *trip)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM};
	struct uffdio_register range = {.range = {(uintptr_t)trip->base, PAGES * GUEST_PAGE_SIZE},
					.mode = trip->minor ? UFFDIO_REGISTER_MODE_MINOR
							    : UFFDIO_REGISTER_MODE_MISSING};

	if (ioctl(trip->fd, UFFDIO_API, &api) || ioctl(trip->fd, UFFDIO_REGISTER, &range))
		return -errno;
	return 0;
}

static void wake_up(int signal)
{
	(void)signal;
}

/* Threads that sleep in read(2) see no flag: a signal makes them look, again until it is seen. */
static void stop_answerers(struct round_trip *trip, struct answerer *answerers, int count)
{
	const struct sigaction action = {.sa_handler = wake_up};

	sigaction(SIGUSR1, &action, NULL);
	trip->done = true;
	for (int i = 0; i < count; i++) {
		while (!answerers[i].ended) {
			pthread_kill(answerers[i].thread, SIGUSR1);
			usleep(100);
		}
		pthread_join(answerers[i].thread, NULL);
	}
}

static json_t *touch_pages(const struct round_trip *trip, const struct placement *placement)
{
	struct touch_list list;
	struct samples samples;
	json_t *result;

	touch_list_create(&list, 0, PAGES, placement->pause_us ? PAUSED : PAGES, true, NULL);
	samples_create(&samples, list.count);
	if (placement->touch_cpu >= 0)
		pin(placement->touch_cpu);
	touch_all(trip->base, &list, placement->pause_us, NULL, &samples);
	unpin();
	result = samples_json(&samples, 0);
	samples_destroy(&samples);
	touch_list_destroy(&list);
	return result;
}

static json_t *run_trips(struct round_trip *trip, const struct placement *placement)
{
	struct answerer answerers[THREADS_MAX];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int count = 1;
	json_t *result;

	if (placement->per_cpu)
		count = cpus < THREADS_MAX ? (int)cpus : THREADS_MAX;
	for (int i = 0; i < count; i++) {
		answerers[i] = (struct answerer){
			.trip = trip, .cpu = placement->per_cpu ? i : placement->answer_cpu};
		if (pthread_create(&answerers[i].thread, NULL, run_answerer, &answerers[i]))
			die("cannot start a thread");
	}
	usleep(10000);
	result = touch_pages(trip, placement);
	stop_answerers(trip, answerers, count);
	return result;
}

static json_t *measure(const struct placement *placement, bool minor)
{
	struct round_trip trip = {.minor = minor, .poll = placement->poll};
	size_t length = PAGES * GUEST_PAGE_SIZE;
	int memfd = memfd_create("ebb-bench", MFD_CLOEXEC), result;
	json_t *object;

	if (memfd < 0 || ftruncate(memfd, (off_t)length))
		die("memfd: %s", strerror(errno));
	trip.base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	trip.source = aligned_alloc(GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
	if (trip.base == MAP_FAILED || !trip.source)
		die("no memory");
	memset(trip.source, 1, GUEST_PAGE_SIZE);
	if (minor) {
		memset(trip.base, 1, length);
		madvise(trip.base, length, MADV_DONTNEED);
	}
	trip.fd = open_uffd(trip.poll);
	result = trip.fd < 0 ? -errno : register_memory(&trip);
	object = result ? reference_skipped("userfaultfd: %s", strerror(-result))
			: run_trips(&trip, placement);
	if (trip.fd >= 0)
		close(trip.fd);
	munmap(trip.base, length);
	close(memfd);
	free(trip.source);
	return object;
}

json_t *reference_uffd(const struct bench_options *options)
{
	json_t *result = json_object(), *copy = json_object(), *minor = json_object();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	(void)options;
	for (size_t i = 0; i < ARRAY_SIZE(placements); i++) {
		const struct placement *placement = &placements[i];
		bool possible = cpus > placement->answer_cpu;

		json_object_set_new(minor, placement->name,
				    possible ? measure(placement, true)
					     : reference_skipped("needs two CPUs"));
		json_object_set_new(copy, placement->name,
				    possible ? measure(placement, false)
					     : reference_skipped("needs two CPUs"));
	}
	json_object_set_new(result, "continue", minor);
	json_object_set_new(result, "copy", copy);
	return result;
}
