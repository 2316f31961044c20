#include "memory/io_gate.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "vmm/base/clock.h"

struct io_gate {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t drained;
	unsigned running;
	bool closed;
	int *waiters;
	size_t waiter_count;
};

int io_gate_create(struct io_gate **out)
{
	struct io_gate *gate = calloc(1, sizeof(*gate));

	if (!gate)
		return -ENOMEM;
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->drained, NULL);
	*out = gate;
	return 0;
}

void io_gate_destroy(struct io_gate *gate)
{
	if (!gate)
		return;
	assert(gate->running == 0);
	pthread_cond_destroy(&gate->drained);
	pthread_mutex_destroy(&gate->lock);
	free(gate->waiters);
	free(gate);
}

bool io_gate_begin(struct io_gate *gate)
{
	bool entered;

	pthread_mutex_lock(&gate->lock);
	entered = !gate->closed;
	gate->running += entered;
	pthread_mutex_unlock(&gate->lock);
	return entered;
}

void io_gate_end(struct io_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	assert(gate->running > 0);
	if (--gate->running == 0)
		pthread_cond_signal(&gate->drained);
	pthread_mutex_unlock(&gate->lock);
}

int io_gate_add_waiter(struct io_gate *gate, int event_fd)
{
	int *grown;
	int result = -ENOMEM;

	pthread_mutex_lock(&gate->lock);
	grown = realloc(gate->waiters, (gate->waiter_count + 1) * sizeof(*grown));
	if (grown) {
		gate->waiters = grown;
		gate->waiters[gate->waiter_count++] = event_fd;
		result = 0;
	}
	pthread_mutex_unlock(&gate->lock);
	return result;
}

void io_gate_remove_waiter(struct io_gate *gate, int event_fd)
{
	pthread_mutex_lock(&gate->lock);
	for (size_t i = 0; i < gate->waiter_count; i++) {
		if (gate->waiters[i] == event_fd) {
			gate->waiters[i] = gate->waiters[--gate->waiter_count];
			break;
		}
	}
	pthread_mutex_unlock(&gate->lock);
}

void io_gate_close(struct io_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	assert(!gate->closed);
	gate->closed = true;
	pthread_mutex_unlock(&gate->lock);
}

int io_gate_wait_drained(struct io_gate *gate, uint64_t timeout_ns)
{
	uint64_t end = clock_monotonic_ns() + timeout_ns;
	const struct timespec until = {
		.tv_sec = (time_t)(end / NS_PER_SEC),
		.tv_nsec = (long)(end % NS_PER_SEC),
	};
	int result = 0;

	pthread_mutex_lock(&gate->lock);
	while (gate->running > 0 && !result)
		result = pthread_cond_clockwait(&gate->drained, &gate->lock, CLOCK_MONOTONIC,
						&until);
	result = gate->running > 0 ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&gate->lock);
	return result;
}

void io_gate_open(struct io_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->closed = false;
	for (size_t i = 0; i < gate->waiter_count; i++)
		eventfd_write(gate->waiters[i], 1);
	pthread_mutex_unlock(&gate->lock);
}
