#include "swap/swap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory/io_gate.h"
#include "swap/session.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

/* Pages between two looks at the cancel flag (16 MiB). */
#define STEP 4096u

/* Between two looks at the cancel flag while device I/O is awaited. */
#define DRAIN_LOOK_NS (50 * NS_PER_MS)

/* Before asking the kernel again what it answered by EAGAIN. */
#define RETRY_NS (50 * NS_PER_US)

struct swap {
	const struct guest_memory *memory;
	char *dir; /* NULL: none */
	struct swap_callbacks callbacks;
	pthread_t worker;

	pthread_mutex_t lock; /* guards all up to session_lock; taken after that */
	pthread_cond_t requested;
	pthread_cond_t finished;
	bool quit;
	enum swap_operation request; /* SWAP_OP_NONE: the worker is idle */
	uint64_t started_ns;
	enum swap_state state;
	struct swap_operation_report current;
	struct swap_operation_report last[SWAP_OP_COUNT];
	struct pager_counters past; /* of the sessions that have ended */

	/* Held for reading while a session is used from outside the worker, for writing to change
	 * it. */
	pthread_rwlock_t session_lock;
	struct session *session;

	atomic_bool cancel;
};

/* ---- sessions ---- */

static void report_trouble(void *opaque, const char *reason)
{
	struct swap *swap = opaque;

	if (swap->callbacks.fatal)
		swap->callbacks.fatal(swap->callbacks.opaque, reason);
}

static void set_session(struct swap *swap, struct session *session)
{
	pthread_rwlock_wrlock(&swap->session_lock);
	swap->session = session;
	pthread_rwlock_unlock(&swap->session_lock);
}

static void add_counters(struct pager_counters *sum, const struct pager_counters *more)
{
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "nothing but uint64_t");
	for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
		to[i] += from[i];
}

static void end_session(struct swap *swap)
{
	struct session *session = swap->session;
	struct pager_counters counters;

	pthread_rwlock_wrlock(&swap->session_lock);
	pager_get_counters(session->pager, &counters);
	pthread_mutex_lock(&swap->lock);
	add_counters(&swap->past, &counters);
	pthread_mutex_unlock(&swap->lock);
	swap->session = NULL;
	pthread_rwlock_unlock(&swap->session_lock);
	session_destroy(session);
}

/* ---- operations; all on the worker thread ---- */

static void set_state(struct swap *swap, enum swap_state state)
{
	pthread_mutex_lock(&swap->lock);
	swap->state = state;
	pthread_mutex_unlock(&swap->lock);
}

static void set_progress(struct swap *swap, const struct pager_cursor *cursor)
{
	pthread_mutex_lock(&swap->lock);
	swap->current.pages_done = cursor->page;
	swap->current.pages_moved = cursor->moved;
	pthread_mutex_unlock(&swap->lock);
}

typedef int (*bulk_step)(struct pager *pager, struct pager_cursor *cursor, size_t budget);

/* Steps @step to its end. 0, -ECANCELED between two steps, or its error. */
static int run_steps(struct swap *swap, bulk_step step, bool cancellable)
{
	struct pager_cursor cursor = {0};
	int result;

	do {
		if (cancellable && atomic_load(&swap->cancel))
			return -ECANCELED;
		result = step(swap->session->pager, &cursor, STEP);
		set_progress(swap, &cursor);
		if (result == -EAGAIN)
			nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
	} while (result > 0 || result == -EAGAIN);
	if (!result) {
		/* Behind the last page that needed a look there may have been nothing. */
		cursor.page = pager_pages(swap->session->pager);
		set_progress(swap, &cursor);
	}
	return result;
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
	struct pager_cursor cursor = {0};
	uint64_t start = clock_monotonic_ns();
	int result;

	do {
		result = pager_zap(swap->session->pager, &cursor, STEP);
	} while (result > 0);
	pthread_mutex_lock(&swap->lock);
	swap->current.zap_ns = clock_monotonic_ns() - start;
	pthread_mutex_unlock(&swap->lock);
	return result;
}

/* Staging failed half-way: what is marked may still be mapped or pinned, and must not be written. */
static void take_staging_back(struct swap *swap, bool fresh)
{
	if (run_steps(swap, pager_swap_in, false))
		/* No operation but another enable looks at staged pages in this state. */
		set_state(swap, SWAP_OUT);
	else if (fresh)
		end_session(swap);
	else
		set_state(swap, SWAP_RESIDENT);
}

static int do_enable(struct swap *swap, struct error *err)
{
	const struct monitor_callbacks callbacks = {swap, report_trouble};
	bool fresh = !swap->session;
	int staged, result;

	if (fresh) {
		struct session *session = NULL;

		result = session_create(swap->memory, swap->dir, &callbacks, &session, err);
		if (result)
			return result;
		set_session(swap, session);
	}
	staged = run_steps(swap, pager_stage, true);
	/* However far staging came: a page that is marked must be zapped before anything else. */
	result = zap_everything(swap);
	if (!result)
		result = drain_pinned_io(swap);
	if (result || (staged && staged != -ECANCELED)) {
		take_staging_back(swap, fresh);
		if (result == -ECANCELED)
			return error_say(err, ECANCELED,
					 "swap enable: cancelled while device I/O was awaited; "
					 "nothing is staged");
		return error_errno(err, result ? -result : -staged, "swap enable: %s guest memory",
				   result ? "zapping" : "staging");
	}
	set_state(swap, SWAP_STAGED);
	if (staged)
		return error_say(err, ECANCELED,
				 "swap enable: cancelled; what was reached is staged");
	return 0;
}

static int do_trim(struct swap *swap, struct error *err)
{
	int result = run_steps(swap, pager_trim, true);

	if (result == -ECANCELED)
		return error_say(err, ECANCELED, "swap trim: cancelled");
	if (result)
		return error_errno(err, -result, "swap trim: punching guest memory");
	return 0;
}

static int do_out(struct swap *swap, struct error *err)
{
	int result = run_steps(swap, pager_write_out, true);

	if (result == -ECANCELED)
		return error_say(err, ECANCELED,
				 "swap out: cancelled; the rest stays staged in RAM");
	if (result)
		return error_errno(
			err, -result,
			"swap out: stopped early, the rest stays staged in RAM (make room "
			"in %s and try again): writing to the swap store",
			swap->dir);
	set_state(swap, SWAP_OUT);
	return 0;
}

/* Shared by in and disable. */
static int bring_all_back(struct swap *swap, const char *name, struct error *err)
{
	int result = run_steps(swap, pager_swap_in, true);

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

static const struct {
	const char *name;
	int (*run)(struct swap *swap, struct error *err);
	unsigned legal; /* a bit per state */
	const char *advice;
} operations[SWAP_OP_COUNT] = {
	[SWAP_OP_NONE] = {"none", NULL, 0, ""},
	[SWAP_OP_ENABLE] = {"enable", do_enable,
			    1u << SWAP_DISABLED | 1u << SWAP_STAGED | 1u << SWAP_OUT |
				    1u << SWAP_RESIDENT,
			    ""},
	[SWAP_OP_TRIM] = {"trim", do_trim, 1u << SWAP_STAGED,
			  "`swap enable` stages guest memory first"},
	[SWAP_OP_OUT] = {"out", do_out, 1u << SWAP_STAGED,
			 "`swap enable` stages guest memory first"},
	[SWAP_OP_IN] = {"in", do_in, 1u << SWAP_STAGED | 1u << SWAP_OUT,
			"nothing is staged or swapped out"},
	[SWAP_OP_DISABLE] = {"disable", do_disable,
			     1u << SWAP_STAGED | 1u << SWAP_OUT | 1u << SWAP_RESIDENT,
			     "there is nothing to disable"},
};

const char *swap_operation_name(enum swap_operation operation)
{
	return operations[operation].name;
}

const char *swap_state_name(enum swap_state state)
{
	static const char *const names[] = {"disabled", "staged", "out", "resident"};

	return names[state];
}

/* ---- the worker ---- */

/* Runs one requested operation. Called and left with the lock held. */
static void run_request(struct swap *swap)
{
	enum swap_operation operation = swap->request;
	struct error err = {{0}};
	int result;

	pthread_mutex_unlock(&swap->lock);
	result = operations[operation].run(swap, &err);
	while (swap->session && pager_reclaim(swap->session->pager))
		;
	pthread_mutex_lock(&swap->lock);
	swap->current.running = false;
	swap->current.result = result;
	swap->current.cancelled = result == -ECANCELED;
	swap->current.error = err;
	swap->current.duration_ns = clock_monotonic_ns() - swap->started_ns;
	swap->last[operation] = swap->current;
	swap->request = SWAP_OP_NONE;
	pthread_cond_broadcast(&swap->finished);
	pthread_mutex_unlock(&swap->lock);
	if (swap->callbacks.operation_done)
		swap->callbacks.operation_done(swap->callbacks.opaque);
	pthread_mutex_lock(&swap->lock);
}

static void *run_worker(void *arg)
{
	struct swap *swap = arg;

	pthread_mutex_lock(&swap->lock);
	while (!swap->quit) {
		if (swap->request == SWAP_OP_NONE)
			pthread_cond_wait(&swap->requested, &swap->lock);
		else
			run_request(swap);
	}
	pthread_mutex_unlock(&swap->lock);
	return NULL;
}

/* ---- the interface ---- */

/* The worker does not run. */
static void free_swap(struct swap *swap)
{
	pthread_rwlock_destroy(&swap->session_lock);
	pthread_cond_destroy(&swap->finished);
	pthread_cond_destroy(&swap->requested);
	pthread_mutex_destroy(&swap->lock);
	free(swap->dir);
	free(swap);
}

int swap_create(const struct guest_memory *memory, const struct swap_config *config,
		const struct swap_callbacks *callbacks, struct swap **out, struct error *err)
{
	struct swap *swap;
	int result;

	if (config->dir) {
		result = store_check_dir(config->dir, err);
		if (result)
			return result;
	}
	swap = calloc(1, sizeof(*swap));
	if (!swap)
		return error_errno(err, ENOMEM, "swap");
	swap->memory = memory;
	pthread_mutex_init(&swap->lock, NULL);
	pthread_cond_init(&swap->requested, NULL);
	pthread_cond_init(&swap->finished, NULL);
	pthread_rwlock_init(&swap->session_lock, NULL);
	if (callbacks)
		swap->callbacks = *callbacks;
	if (config->dir && !(swap->dir = strdup(config->dir))) {
		result = error_errno(err, ENOMEM, "swap");
		goto free_swap;
	}
	result = thread_start(&swap->worker, "ebb-swap", run_worker, swap);
	if (result) {
		error_errno(err, -result, "swap: starting the worker thread");
		goto free_swap;
	}
	*out = swap;
	return 0;

free_swap:
	free_swap(swap);
	return result;
}

void swap_destroy(struct swap *swap)
{
	if (!swap)
		return;
	atomic_store(&swap->cancel, true);
	pthread_mutex_lock(&swap->lock);
	swap->quit = true;
	pthread_cond_signal(&swap->requested);
	pthread_mutex_unlock(&swap->lock);
	pthread_join(swap->worker, NULL);
	session_destroy(swap->session);
	free_swap(swap);
}

int swap_start(struct swap *swap, enum swap_operation operation, struct error *err)
{
	int result = 0;

	if (operation <= SWAP_OP_NONE || operation >= SWAP_OP_COUNT)
		return error_say(err, EINVAL, "swap: unknown operation");
	if (!swap->dir)
		return error_say(err, ENOTSUP,
				 "swap %s: there is no directory for the store; start the VM with "
				 "--swap-dir DIR",
				 operations[operation].name);
	pthread_mutex_lock(&swap->lock);
	if (swap->request != SWAP_OP_NONE) {
		result = error_say(err, EBUSY,
				   "swap %s: `swap %s` is running; wait for it, or `swap cancel`",
				   operations[operation].name, operations[swap->request].name);
	} else if (!(operations[operation].legal & 1u << swap->state)) {
		result = error_say(err, EINVAL, "swap %s: not in state \"%s\": %s",
				   operations[operation].name, swap_state_name(swap->state),
				   operations[operation].advice);
	} else {
		atomic_store(&swap->cancel, false);
		swap->request = operation;
		swap->started_ns = clock_monotonic_ns();
		swap->current = (struct swap_operation_report){
			.operation = operation,
			.running = true,
			.pages_total = guest_memory_size(swap->memory) / GUEST_PAGE_SIZE,
		};
		pthread_cond_signal(&swap->requested);
	}
	pthread_mutex_unlock(&swap->lock);
	return result;
}

int swap_cancel(struct swap *swap, struct error *err)
{
	int result = 0;

	pthread_mutex_lock(&swap->lock);
	if (swap->request == SWAP_OP_NONE)
		result = error_say(err, EINVAL,
				   "swap cancel: no operation is running (state \"%s\")",
				   swap_state_name(swap->state));
	else
		atomic_store(&swap->cancel, true);
	pthread_mutex_unlock(&swap->lock);
	return result;
}

int swap_wait(struct swap *swap, struct error *err)
{
	int result;

	pthread_mutex_lock(&swap->lock);
	while (swap->request != SWAP_OP_NONE)
		pthread_cond_wait(&swap->finished, &swap->lock);
	result = swap->current.result;
	if (result && err)
		*err = swap->current.error;
	pthread_mutex_unlock(&swap->lock);
	return result;
}

static void fill_counters(struct swap_counters *to, const struct pager_counters *from)
{
	*to = (struct swap_counters){
		.faults_zeroed = from->zeroed,
		.faults_continued = from->continued,
		.faults_copied = from->copied,
		.faults_redundant = from->redundant,
		.faults_retried = from->retried,
		.writes_cancelled = from->cancelled,
		.removed = from->removed,
		.staged = from->staged,
		.stored = from->stored,
		.swapped_in = from->swapped_in,
		.trimmed_zero = from->trimmed_zero,
		.trimmed_clean = from->trimmed_clean,
	};
}

/* What the session knows; nothing, and the counters of the past, if there is none. */
static void fill_from_session(struct swap *swap, struct swap_status *status)
{
	struct pager_counters counters = {0};

	pthread_rwlock_rdlock(&swap->session_lock);
	if (swap->session) {
		uint64_t counts[PAGE_STATES];

		pager_get_counts(swap->session->pager, counts);
		pager_get_counters(swap->session->pager, &counters);
		status->pages_empty = counts[PAGE_EMPTY];
		status->pages_resident = counts[PAGE_RESIDENT];
		status->pages_staged = counts[PAGE_STAGED];
		status->pages_writing = counts[PAGE_WRITING];
		status->pages_swapped = counts[PAGE_SWAPPED];
		status->store_live_bytes = store_live_bytes(swap->session->store);
		status->store_disk_bytes = store_disk_bytes(swap->session->store);
	}
	pthread_mutex_lock(&swap->lock);
	add_counters(&counters, &swap->past);
	pthread_mutex_unlock(&swap->lock);
	pthread_rwlock_unlock(&swap->session_lock);
	fill_counters(&status->counters, &counters);
}

void swap_get_status(struct swap *swap, struct swap_status *status)
{
	memset(status, 0, sizeof(*status));
	status->available = swap->dir != NULL;
	status->page_size = GUEST_PAGE_SIZE;
	status->pages_total = guest_memory_size(swap->memory) / GUEST_PAGE_SIZE;
	fill_from_session(swap, status);
	pthread_mutex_lock(&swap->lock);
	status->state = swap->state;
	status->current = swap->current;
	if (swap->current.running)
		status->current.duration_ns = clock_monotonic_ns() - swap->started_ns;
	memcpy(status->last, swap->last, sizeof(status->last));
	pthread_mutex_unlock(&swap->lock);
}

bool swap_in_trouble(struct swap *swap)
{
	bool trouble;

	pthread_rwlock_rdlock(&swap->session_lock);
	trouble = swap->session && monitor_in_trouble(swap->session->monitor);
	pthread_rwlock_unlock(&swap->session_lock);
	return trouble;
}

static int peek(void *opaque, uint64_t address, void *buffer, size_t length)
{
	struct swap *swap = opaque;
	int result;

	pthread_rwlock_rdlock(&swap->session_lock);
	if (swap->session)
		result = pager_peek(swap->session->pager, address, buffer, length);
	else
		result = guest_memory_read_offset(swap->memory, address, buffer, length);
	pthread_rwlock_unlock(&swap->session_lock);
	return result;
}

void swap_peek_access(struct swap *swap, struct guest_access *access)
{
	static const struct guest_access_ops ops = {.read_fallback = peek};

	*access = (struct guest_access){
		.ops = &ops,
		.opaque = swap,
		.max_address = guest_memory_size(swap->memory),
	};
}
