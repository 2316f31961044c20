#include "vmm/base/event_loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/base/clock.h"

struct event_source {
	struct event_loop *loop;
	struct event_source *next;
	event_callback callback;
	void *opaque;
	int fd;
	bool is_timer; /* the source owns its fd */
	bool removed;  /* freed when no event in flight can name it */
	bool kept;     /* epoll did not let go of it */
};

struct event_loop {
	int epoll_fd;
	int stop_fd;
	pthread_mutex_t lock; /* guards sources */
	struct event_source *sources;
	bool has_removed; /* loop thread only */
};

int event_loop_create(struct event_loop **out)
{
	struct event_loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event stop_event = {.events = EPOLLIN, .data.ptr = NULL};
	int result;

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		result = -errno;
		goto free_loop;
	}
	loop->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->stop_fd < 0) {
		result = -errno;
		goto close_epoll;
	}
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->stop_fd, &stop_event)) {
		result = -errno;
		goto close_stop;
	}
	pthread_mutex_init(&loop->lock, NULL);
	*out = loop;
	return 0;

close_stop:
	close(loop->stop_fd);
close_epoll:
	close(loop->epoll_fd);
free_loop:
	free(loop);
	return result;
}

static void free_source(struct event_source *source)
{
	if (source->is_timer)
		close(source->fd);
	free(source);
}

void event_loop_destroy(struct event_loop *loop)
{
	if (!loop)
		return;
	while (loop->sources) {
		struct event_source *source = loop->sources;

		loop->sources = source->next;
		free_source(source);
	}
	pthread_mutex_destroy(&loop->lock);
	close(loop->stop_fd);
	close(loop->epoll_fd);
	free(loop);
}

static int add_source(struct event_loop *loop, int fd, bool is_timer, uint32_t events,
		      event_callback callback, void *opaque, struct event_source **out)
{
	struct event_source *source = calloc(1, sizeof(*source));
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (!source)
		return -ENOMEM;
	*source = (struct event_source){
		.loop = loop,
		.callback = callback,
		.opaque = opaque,
		.fd = fd,
		.is_timer = is_timer,
	};
	if (out)
		*out = source; /* before an event can fire */
	pthread_mutex_lock(&loop->lock);
	source->next = loop->sources;
	loop->sources = source;
	pthread_mutex_unlock(&loop->lock);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		int result = -errno;
		struct event_source **link = &loop->sources;

		pthread_mutex_lock(&loop->lock);
		while (*link != source)
			link = &(*link)->next;
		*link = source->next;
		pthread_mutex_unlock(&loop->lock);
		free(source);
		if (out)
			*out = NULL;
		return result;
	}
	return 0;
}

int event_loop_add(struct event_loop *loop, int fd, uint32_t events, event_callback callback,
		   void *opaque, struct event_source **out)
{
	return add_source(loop, fd, false, events, callback, opaque, out);
}

int event_loop_add_timer(struct event_loop *loop, event_callback callback, void *opaque,
			 struct event_source **out)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int result;

	if (fd < 0)
		return -errno;
	result = add_source(loop, fd, true, EPOLLIN, callback, opaque, out);
	if (result)
		close(fd);
	return result;
}

int event_source_modify(struct event_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event))
		return -errno;
	return 0;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / NS_PER_SEC),
		.tv_nsec = (long)(ns % NS_PER_SEC),
	};
}

int event_source_arm(struct event_source *source, uint64_t delay_ns, uint64_t interval_ns)
{
	struct itimerspec spec = {
		.it_value = to_timespec(delay_ns),
		.it_interval = to_timespec(interval_ns),
	};

	return timerfd_settime(source->fd, 0, &spec, NULL) ? -errno : 0;
}

void event_source_remove(struct event_source *source)
{
	if (!source || source->removed)
		return;
	/* What epoll may still speak of is kept until the loop goes; a closed descriptor is forgotten. */
	if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL))
		source->kept = errno != ENOENT && errno != EBADF;
	source->removed = true;
	source->loop->has_removed = true;
}

static void free_removed(struct event_loop *loop)
{
	struct event_source **link = &loop->sources;

	pthread_mutex_lock(&loop->lock);
	while (*link) {
		struct event_source *source = *link;

		if (source->removed && !source->kept) {
			*link = source->next;
			free_source(source);
		} else {
			link = &source->next;
		}
	}
	loop->has_removed = false;
	pthread_mutex_unlock(&loop->lock);
}

static void dispatch(struct event_source *source, uint32_t events)
{
	if (source->removed)
		return;
	if (source->is_timer) {
		uint64_t expirations;

		if (read(source->fd, &expirations, sizeof(expirations)) < 0)
			return; /* disarmed or re-armed since */
		events = 0;
	}
	source->callback(source->opaque, events);
}

int event_loop_run(struct event_loop *loop)
{
	for (;;) {
		struct epoll_event ready[32];
		bool stop = false;
		int count = epoll_wait(loop->epoll_fd, ready, 32, -1);

		if (count < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < count; i++) {
			if (ready[i].data.ptr)
				dispatch(ready[i].data.ptr, ready[i].events);
			else
				stop = true;
		}
		if (loop->has_removed)
			free_removed(loop);
		if (stop) {
			eventfd_t value;

			eventfd_read(loop->stop_fd, &value);
			return 0;
		}
	}
}

void event_loop_stop(struct event_loop *loop)
{
	eventfd_write(loop->stop_fd, 1);
}
