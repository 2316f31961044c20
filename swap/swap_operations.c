/* What the swap worker does: the operations, and keeping the store tidy between them. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "memory/io_gate.h"
#include "swap/crew.h"
#include "swap/dump.h"
#include "swap/swap_internal.h"
#include "vmm/base/clock.h"

/* Between two looks at the cancel flag while device I/O is awaited. */
#define DRAIN_LOOK_NS (50 * NS_PER_MS)

/* How often `out` makes room in a full store and goes on. */
#define OUT_TRIES 3

/* ---- sessions ---- */

static void report_trouble(void *opaque, const char *reason)
{
	struct swap *swap = opaque;

	if (swap->callbacks.fatal)
		swap->callbacks.fatal(swap->callbacks.opaque, reason);
}

static void note_dropped(void *opaque)
{
	struct swap *swap = opaque;

	pthread_mutex_lock(&swap->lock);
	swap->tidy_due = true;
	pthread_cond_signal(&swap->requested);
	pthread_mutex_unlock(&swap->lock);
}

static void set_session(struct swap *swap, struct session *session)
{
	pthread_rwlock_wrlock(&swap->session_lock);
	swap->session = session;
	pthread_rwlock_unlock(&swap->session_lock);
}

static void end_session(struct swap *swap)
{
	struct session *session = swap->session;
	struct pager_counters counters;

	pthread_rwlock_wrlock(&swap->session_lock);
	pager_get_counters(session->pager, &counters);
	pthread_mutex_lock(&swap->lock);
	pager_counters_add(&swap->past, &counters);
	for (int i = 0; i < PAGER_ANSWERS; i++)
		latency_merge(&swap->past_latency[i],
			      monitor_latency(session->monitor, (enum pager_answer)i));
	store_get_usage(session->store, &swap->past_usage);
	swap_traffic_add(&swap->past_traffic, &swap->past_usage);
	pthread_mutex_unlock(&swap->lock);
	swap->session = NULL;
	pthread_rwlock_unlock(&swap->session_lock);
	session_destroy(session);
}

/* ---- jobs ---- */

static void set_state(struct swap *swap, enum swap_state state)
{
	pthread_mutex_lock(&swap->lock);
	swap->state = state;
	pthread_mutex_unlock(&swap->lock);
}

/* The operation begins a new pass over the pages. Its cancellation stays, and what it has moved. */
static struct pager_job *new_job(struct swap *swap, bool cancellable)
{
	struct pager_job *job = &swap->job;

	pthread_mutex_lock(&swap->lock);
	job->next = 0;
	job->done = 0;
	swap->job_goes_on = !cancellable;
	atomic_store(&job->stop,
		     swap->quit || swap->ending || (cancellable && atomic_load(&swap->cancel)));
	pthread_mutex_unlock(&swap->lock);
	return job;
}

static int run_crew(struct swap *swap, crew_work work, bool cancellable)
{
	struct pager_job *job = new_job(swap, cancellable);

	return crew_run(swap->session->pager, work, job, CREW_MAX);
}

/*
 * After the zap: device I/O that pinned its pages before it has ended when this returns 0. What begins
 * later has faulted on its pages, so they are resident. -ECANCELED: it did not end in time for the
 * user, pages may still be pinned.
 */
static int drain_pinned_io(struct swap *swap)
{
	struct io_gate *gate = guest_memory_io_gate(swap->memory);
	int result;

	io_gate_close(gate);
	do {
		result = io_gate_wait_drained(gate, DRAIN_LOOK_NS);
	} while (result && !atomic_load(&swap->cancel));
	io_gate_open(gate);
	return result ? -ECANCELED : 0;
}

static int zap_everything(struct swap *swap)
{
	uint64_t start = clock_monotonic_ns();
	/* Not the operation's job: its progress is that of staging. */
	struct pager_job job = {0};
	int result = pager_zap(swap->session->pager, &job);

	pthread_mutex_lock(&swap->lock);
	swap->current.zap_ns = clock_monotonic_ns() - start;
	pthread_mutex_unlock(&swap->lock);
	return result;
}

/* ---- operations ---- */

/*
 * Staging failed half-way: what is marked may still be mapped or pinned, and must not be written. 0, or
 * why some of it, or of what was swapped out before, is not back.
 */
static int take_staging_back(struct swap *swap, bool fresh)
{
	int result = run_crew(swap, pager_swap_in, false);

	if (result)
		/* No operation but another enable looks at staged pages in this state. */
		set_state(swap, SWAP_OUT);
	else if (fresh)
		end_session(swap);
	else
		set_state(swap, SWAP_RESIDENT);
	return result;
}

static int say_enable_failed(int staged, int result, int back, struct error *err)
{
	if (result == -ECANCELED && back)
		return error_errno(
			err, -back,
			"swap enable: cancelled while device I/O was awaited; some memory "
			"stays out until `swap in`: reading pages back");
	if (result == -ECANCELED)
		return error_say(err, ECANCELED,
				 "swap enable: cancelled while device I/O was awaited; nothing is "
				 "staged");
	return error_errno(err, result ? -result : -staged, "swap enable: %s guest memory",
			   result ? "zapping" : "staging");
}

static int do_enable(struct swap *swap, struct error *err)
{
	const struct monitor_callbacks callbacks = {swap, report_trouble};
	bool fresh = !swap->session;
	int staged, result;

	if (fresh) {
		struct session *session = NULL;

		result = session_create(swap->memory, &swap->config.store, &callbacks, note_dropped,
					&session, err);
		if (result)
			return result;
		set_session(swap, session);
	}
	staged = pager_stage(swap->session->pager, new_job(swap, true));
	/* However far staging came: a page that is marked must be zapped before anything else. */
	result = zap_everything(swap);
	if (!result)
		result = drain_pinned_io(swap);
	if (result || (staged && staged != -ECANCELED))
		return say_enable_failed(staged, result, take_staging_back(swap, fresh), err);
	set_state(swap, SWAP_STAGED);
	if (staged)
		return error_say(err, ECANCELED,
				 "swap enable: cancelled; what was reached is staged");
	return 0;
}

static int do_trim(struct swap *swap, struct error *err)
{
	int result = run_crew(swap, pager_trim, true);

	if (result == -ECANCELED)
		return error_say(err, ECANCELED, "swap trim: cancelled");
	if (result)
		return error_errno(err, -result, "swap trim: punching guest memory");
	return 0;
}

/* Why the worker should end what it does, while it runs an operation and while it tidies. */
static bool is_cancelled(struct swap *swap)
{
	return atomic_load(&swap->cancel);
}

static bool is_wanted(struct swap *swap)
{
	bool wanted;

	pthread_mutex_lock(&swap->lock);
	wanted = swap->quit || swap->request != SWAP_OP_NONE;
	pthread_mutex_unlock(&swap->lock);
	return wanted;
}

static uint64_t occupied(struct store *store)
{
	struct store_usage usage;

	store_get_usage(store, &usage);
	return usage.file_bytes + usage.pool_bytes;
}

/*
 * One round of compaction, by a single thread: it is in no hurry. True: the store is smaller now, so
 * that another round may be worth it.
 */
static bool compact(struct swap *swap, bool (*interrupted)(struct swap *swap))
{
	struct store *store = swap->session->store;
	uint64_t before = occupied(store);

	if (store_pick_victims(store) == 0)
		return false;
	swap->tidy_job.next = 0;
	swap->tidy_job.done = swap->tidy_job.moved = 0;
	atomic_store(&swap->tidy_job.stop, false);
	/* Only now, so that whoever asks for the worker is not overlooked. */
	if (interrupted(swap))
		atomic_store(&swap->tidy_job.stop, true);
	crew_run(swap->session->pager, pager_compact, &swap->tidy_job, 1);
	while (store_reclaim(store))
		;
	return occupied(store) < before;
}

/*
 * Drops stored copies that their pages have outgrown, moves what lies scattered, and punches what is
 * free. True: there is more room than before.
 */
static bool make_room(struct swap *swap)
{
	struct store *store = swap->session->store;
	uint64_t before = occupied(store);

	if (run_crew(swap, pager_trim, true))
		return false;
	while (store_reclaim(store))
		;
	while (!is_cancelled(swap) && compact(swap, is_cancelled))
		;
	return occupied(store) < before;
}

static int say_store_is_full(const struct swap *swap, struct error *err)
{
	static const char rest[] = "swap out: stopped early, the rest stays staged in RAM";

	if (!swap->path)
		return error_say(err, EDQUOT,
				 "%s: the pool is full; start the VM with a larger --swap-pool, or "
				 "with --swap-dir DIR for what does not fit",
				 rest);
	if (swap->config.store.limit_bytes > 0)
		return error_say(err, EDQUOT,
				 "%s: the store in %s has reached --swap-limit, or a disk quota",
				 rest, swap->path);
	return error_say(err, EDQUOT, "%s: %s is full, or its disk quota is reached", rest,
			 swap->path);
}

static int do_out(struct swap *swap, struct error *err)
{
	int result, tries = 0;

	pager_learn_working_set(swap->session->pager);
	do {
		result = run_crew(swap, pager_write_out, true);
	} while ((result == -ENOSPC || result == -EDQUOT) && ++tries < OUT_TRIES &&
		 make_room(swap));
	if (result == -ECANCELED)
		return error_say(err, ECANCELED,
				 "swap out: cancelled; the rest stays staged in RAM");
	if (result == -EDQUOT)
		return say_store_is_full(swap, err);
	if (result)
		return error_errno(
			err, -result,
			"swap out: stopped early, the rest stays staged in RAM (make room "
			"in %s and try again): writing to the swap store",
			swap->path ? swap->path : "the pool");
	set_state(swap, SWAP_OUT);
	return 0;
}

/* Shared by in and disable. */
static int bring_all_back(struct swap *swap, const char *name, struct error *err)
{
	int result = run_crew(swap, pager_swap_in, true);

	if (result == -ECANCELED)
		return error_say(err, ECANCELED, "%s: cancelled; what was reached is resident",
				 name);
	if (result)
		return error_errno(err, -result,
				   "%s: stopped early, nothing is lost: reading pages back", name);
	return 0;
}

static int do_in(struct swap *swap, struct error *err)
{
	int result = bring_all_back(swap, "swap in", err);

	if (!result)
		set_state(swap, SWAP_RESIDENT);
	return result;
}

static int do_disable(struct swap *swap, struct error *err)
{
	int result = bring_all_back(swap, "swap disable", err);

	if (result)
		return result;
	end_session(swap);
	set_state(swap, SWAP_DISABLED);
	return 0;
}

static int do_working_set(struct swap *swap, struct error *err)
{
	struct pager *pager = swap->session->pager;
	int result;

	pthread_mutex_lock(&swap->lock);
	swap->current.pages_total = pager_working_set_pages(pager);
	pthread_mutex_unlock(&swap->lock);
	result = run_crew(swap, pager_working_set, true);
	if (result == -ECANCELED)
		return error_say(err, ECANCELED,
				 "swap in --working-set: cancelled; what was reached is resident");
	if (result)
		return error_errno(err, -result,
				   "swap in --working-set: stopped early, nothing is lost: reading "
				   "pages back");
	return 0;
}

static int note_dump_progress(void *opaque, uint64_t bytes)
{
	struct swap *swap = opaque;

	swap->job.done = swap->job.moved = bytes / GUEST_PAGE_SIZE;
	return atomic_load(&swap->cancel) ? -ECANCELED : 0;
}

static int do_dump(struct swap *swap, struct error *err)
{
	struct guest_access access;
	int result;

	new_job(swap, true);
	swap_peek_access(swap, &access);
	result = dump_memory(&access, swap->dump_fd, note_dump_progress, swap);
	/* Some file systems tell of what could not be written only now. */
	if (close(swap->dump_fd) && !result)
		result = -errno;
	if (result == -ECANCELED)
		return error_say(err, ECANCELED, "dump-memory: cancelled; the file is incomplete");
	if (result)
		return error_errno(err, -result, "dump-memory: the file is incomplete");
	return 0;
}

static int do_checksum(struct swap *swap, struct error *err)
{
	struct guest_access access;
	char digest[DUMP_DIGEST_SIZE];
	int result;

	_Static_assert(sizeof(digest) == SWAP_DIGEST_SIZE, "a report holds a digest");
	new_job(swap, true);
	swap_peek_access(swap, &access);
	result = dump_digest(&access, note_dump_progress, swap, digest);
	if (result == -ECANCELED)
		return error_say(err, ECANCELED, "checksum-memory: cancelled");
	if (result)
		return error_errno(err, -result, "checksum-memory: reading guest memory");
	pthread_mutex_lock(&swap->lock);
	memcpy(swap->current.digest, digest, sizeof(digest));
	pthread_mutex_unlock(&swap->lock);
	return 0;
}

#define IN(state) (1u << (state))
#define ANY_STATE (IN(SWAP_DISABLED) | IN(SWAP_STAGED) | IN(SWAP_OUT) | IN(SWAP_RESIDENT))

static const struct {
	const char *name;
	int (*run)(struct swap *swap, struct error *err);
	unsigned legal; /* a bit per state */
	bool needs_store;
	const char *advice;
} operations[SWAP_OP_COUNT] = {
	[SWAP_OP_NONE] = {"none", NULL, 0, false, ""},
	[SWAP_OP_ENABLE] = {"enable", do_enable, ANY_STATE, true, ""},
	[SWAP_OP_TRIM] = {"trim", do_trim, IN(SWAP_STAGED), true,
			  "`swap enable` stages guest memory first"},
	[SWAP_OP_OUT] = {"out", do_out, IN(SWAP_STAGED), true,
			 "`swap enable` stages guest memory first"},
	[SWAP_OP_IN] = {"in", do_in, IN(SWAP_STAGED) | IN(SWAP_OUT), true,
			"nothing is staged or swapped out"},
	[SWAP_OP_WORKING_SET] = {"in --working-set", do_working_set, IN(SWAP_STAGED) | IN(SWAP_OUT),
				 true, "nothing is staged or swapped out"},
	[SWAP_OP_DISABLE] = {"disable", do_disable,
			     IN(SWAP_STAGED) | IN(SWAP_OUT) | IN(SWAP_RESIDENT), true,
			     "there is nothing to disable"},
	[SWAP_OP_DUMP] = {"dump-memory", do_dump, ANY_STATE, false, ""},
	[SWAP_OP_CHECKSUM] = {"checksum-memory", do_checksum, ANY_STATE, false, ""},
};

int swap_operation_run(struct swap *swap, enum swap_operation operation, struct error *err)
{
	return operations[operation].run(swap, err);
}

unsigned swap_operation_legal(enum swap_operation operation)
{
	return operations[operation].legal;
}

bool swap_operation_needs_store(enum swap_operation operation)
{
	return operations[operation].needs_store;
}

const char *swap_operation_advice(enum swap_operation operation)
{
	return operations[operation].advice;
}

const char *swap_operation_name(enum swap_operation operation)
{
	return operations[operation].name;
}

/* ---- between operations ---- */

void swap_operation_tidy(struct swap *swap)
{
	struct session *session = swap->session;
	bool more = true;

	while (session && more && !is_wanted(swap)) {
		more = store_reclaim(session->store);
		if (!more && store_is_sparse(session->store))
			more = compact(swap, is_wanted);
	}
}
