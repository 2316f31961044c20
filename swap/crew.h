/* Several threads on one of the pager's jobs. */
#ifndef EBB_SWAP_CREW_H
#define EBB_SWAP_CREW_H

#include "swap/pager.h"

typedef int (*crew_work)(struct pager_context *context, struct pager_job *job);

#define CREW_MAX 4u

/*
 * Runs @work for @job on as many threads of low priority as there are CPUs for it, at least one and
 * @most or CREW_MAX at most, and waits for all. 0; -ECANCELED if .stop was set from outside; else the
 * first failure. Not being able to start threads is none: the caller does it then.
 */
int crew_run(struct pager *pager, crew_work work, struct pager_job *job, size_t most);

#endif
