#include "vmm/base/thread.h"

#include <signal.h>

#include "vmm/base/checked.h"

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	/* A thread's own: blocked, they would kill the process before its handlers have run. */
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
	sigset_t all, before;
	int result;

	/* A new thread inherits the mask: block here, so that no signal finds it unready. */
	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result)
		return -result;
	pthread_setname_np(*thread, name);
	return 0;
}
