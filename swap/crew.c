#include "swap/crew.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "vmm/base/thread.h"

struct member {
	struct pager *pager;
	crew_work work;
	struct pager_job *job;
	pthread_t thread;
	int result;
};

static size_t crew_size(void)
{
	cpu_set_t allowed;
	int cpus = sched_getaffinity(0, sizeof(allowed), &allowed) ? 1 : CPU_COUNT(&allowed);

	return cpus < (int)CREW_MAX ? (size_t)cpus : CREW_MAX;
}

static void *run_member(void *arg)
{
	struct member *member = arg;
	struct pager_context *context = NULL;

	member->result = pager_context_create(member->pager, &context);
	if (member->result) {
		atomic_store(&member->job->stop, true);
		return NULL;
	}
	member->result = member->work(context, member->job);
	pager_context_destroy(context);
	return NULL;
}

/* For good: so the caller, who also starts threads that must not wait, is never one of the crew. */
static void *run_in_bulk(void *arg)
{
	thread_yield_to_others();
	return run_member(arg);
}

int crew_run(struct pager *pager, crew_work work, struct pager_job *job, size_t most)
{
	struct member members[CREW_MAX];
	size_t wanted = crew_size(), count = 0;
	int result = 0;

	if (wanted > most)
		wanted = most;
	for (size_t i = 0; i < CREW_MAX; i++)
		members[i] = (struct member){.pager = pager, .work = work, .job = job};
	while (count < wanted &&
	       !thread_start(&members[count].thread, "ebb-swap", run_in_bulk, &members[count]))
		count++;
	if (count == 0) {
		run_member(&members[0]);
		return members[0].result;
	}
	for (size_t i = 0; i < count; i++) {
		pthread_join(members[i].thread, NULL);
		/* A member that was stopped by another one's failure says -ECANCELED. */
		if (!result || result == -ECANCELED)
			result = members[i].result ? members[i].result : result;
	}
	return result;
}
