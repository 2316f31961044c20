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

#endif
