/*
 * What swap.c (interface, worker) and swap_operations.c (what the worker does) share. Nobody else
 * includes this.
 */
#ifndef EBB_SWAP_SWAP_INTERNAL_H
#define EBB_SWAP_SWAP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "swap/session.h"
#include "swap/swap.h"

struct swap {
	const struct guest_memory *memory;
	struct swap_config config; /* with an own copy of the path */
	char *path;                /* that copy; NULL: none */
	struct swap_callbacks callbacks;
	pthread_t worker;
	bool has_worker; /* it was started; guarded by lock */

	pthread_mutex_t lock; /* guards all up to session_lock; taken after that */
	pthread_cond_t requested;
	pthread_cond_t finished;
	bool quit;
	bool busy;                   /* the worker does something, be it without a request */
	bool ending;                 /* the operation is to end, even where cancel lets it go on */
	bool tidy_due;               /* entries were dropped: there may be space to give back */
	enum swap_operation request; /* SWAP_OP_NONE: the worker is idle */
	uint64_t started_ns;
	enum swap_state state;
	struct swap_operation_report current;
	struct swap_operation_report last[SWAP_OP_COUNT];
	struct swap_operation_totals totals[SWAP_OP_COUNT];
	/* Of the sessions that have ended: */
	struct pager_counters past;
	struct latency past_latency[PAGER_ANSWERS];
	struct store_usage past_usage; /* of the last one */
	struct swap_traffic past_traffic;

	/* Held for reading while a session is used from outside the worker, for writing to change
	 * it. */
	pthread_rwlock_t session_lock;
	struct session *session;

	atomic_bool cancel;
	bool job_goes_on;          /* however often it is cancelled; guarded by lock */
	struct pager_job job;      /* the running operation's, if it has one */
	struct pager_job tidy_job; /* compaction; stopped when something else is requested */
	int dump_fd;               /* SWAP_OP_DUMP: the worker closes it */
};

/*
 * Does @operation on the worker thread, with no lock held. 0, or -errno with what to do in @err;
 * -ECANCELED: as far as it came.
 */
int swap_operation_run(struct swap *swap, enum swap_operation operation, struct error *err);

/* Adds what the store of a session has moved. */
void swap_traffic_add(struct swap_traffic *traffic, const struct store_usage *usage);

/* Gives back freed space of the store and compacts it, until a request waits. Worker thread. */
void swap_operation_tidy(struct swap *swap);

/* What the operation wants of the state (a bit for each enum swap_state), and of the user. */
unsigned swap_operation_legal(enum swap_operation operation);
bool swap_operation_needs_store(enum swap_operation operation);
const char *swap_operation_advice(enum swap_operation operation);

#endif
