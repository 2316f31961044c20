/*
 * Threads with a name and without signals: main alone takes the process's signals.
 */
#ifndef EBB_BASE_THREAD_H
#define EBB_BASE_THREAD_H

#include <pthread.h>

/*
 * Starts @run(@arg) in a thread called @name (15 characters at most) with every signal blocked
 * but those of its own faults (SIGSEGV and its like); the thread unblocks what it wants. Returns 0
 * or -errno.
 */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

/*
 * How thread_start() starts threads from now on, whoever calls it: what a sandbox sets that gives
 * each thread rights by its name. As thread_start(). Before there are other threads. NULL: by
 * thread_create(), which any starter ends up with.
 */
typedef int (*thread_starter)(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);
void thread_start_by(thread_starter starter);
int thread_create(pthread_t *thread, const char *name, void *(*run)(void *), void *arg);

/*
 * The calling thread works for microseconds at a time and others wait for it: asks the scheduler to
 * let it run at once when it wakes, by a short slice (sched_setattr(2), Linux 6.12). Without effect
 * on kernels that know nothing of it.
 */
void thread_want_short_slice(void);

/*
 * The calling thread works in bulk, and whoever wakes meanwhile goes before it: lowers its priority
 * (by a few nice levels), for good.
 */
void thread_yield_to_others(void);

#endif
