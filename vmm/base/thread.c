#include "vmm/base/thread.h"

#include <signal.h>

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	int result;

	/* A new thread inherits the mask: block here, so that no signal finds it unready. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result)
		return -result;
	pthread_setname_np(*thread, name);
	return 0;
}
