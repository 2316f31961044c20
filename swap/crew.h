/* Several threads on one of the pager's jobs. */
#ifndef EBB_SWAP_CREW_H
#define EBB_SWAP_CREW_H

#include "swap/pager.h"

typedef int (*crew_work)(struct pager_context *context, struct pager_job *job);

/*
 * Runs @work for @job on as many threads as there are CPUs for it (four at most), the caller's being
 * one whose priority they have, and waits for all. 0; -ECANCELED if .stop was set from outside; else the first failure. Not
 * being able to start more threads is none.
 */
int crew_run(struct pager *pager, crew_work work, struct pager_job *job);

#endif
