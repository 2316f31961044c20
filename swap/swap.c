#include "swap/swap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "swap/secret.h"
#include "swap/swap_internal.h"
#include "swap/uffd.h"
#include "vmm/base/clock.h"
#include "vmm/base/thread.h"

static bool is_available(const struct swap *swap)
{
	return swap->config.store.path || swap->config.store.pool_bytes > 0;
}

const char *swap_state_name(enum swap_state state)
{
	static const char *const names[] = {"disabled", "staged", "out", "resident"};

	return names[state];
}

const char *swap_fault_kind_name(enum swap_fault_kind kind)
{
	static const char *const names[SWAP_FAULT_KINDS] = {"zero", "staged", "pool", "file"};

	return names[kind];
}

/* ---- the worker ---- */

static void note_progress(struct swap *swap, struct swap_operation_report *report)
{
	report->pages_done = swap->job.done;
	report->pages_moved = swap->job.moved;
}

/* What the store has moved so far, in this session and, if that has just ended, in it. */
static void get_usage(struct swap *swap, struct store_usage *usage)
{
	if (swap->session)
		store_get_usage(swap->session->store, usage);
	else
		*usage = swap->past_usage;
}

static void count_operation(struct swap_operation_totals *totals,
			    const struct swap_operation_report *report)
{
	if (report->cancelled)
		totals->cancelled++;
	else if (report->result)
		totals->failed++;
	else
		totals->done++;
	totals->duration_ns += report->duration_ns;
}

void swap_traffic_add(struct swap_traffic *traffic, const struct store_usage *usage)
{
	traffic->written += usage->written_bytes;
	traffic->read += usage->read_bytes;
	traffic->evicted += usage->evicted_bytes;
}

/* Runs one requested operation. Called and left with the lock held. */
static void run_request(struct swap *swap)
{
	enum swap_operation operation = swap->request;
	bool new_store = !swap->session && operation == SWAP_OP_ENABLE;
	struct store_usage before, after;
	struct error err = {{0}};
	int result;

	pthread_mutex_unlock(&swap->lock);
	get_usage(swap, &before);
	result = swap_operation_run(swap, operation, &err);
	while (swap->session && store_reclaim(swap->session->store))
		;
	get_usage(swap, &after);
	pthread_mutex_lock(&swap->lock);
	note_progress(swap, &swap->current);
	/* Behind the last page that needed a look there may have been nothing. */
	if (!result)
		swap->current.pages_done = swap->current.pages_total;
	swap->current.running = false;
	swap->current.result = result;
	swap->current.cancelled = result == -ECANCELED;
	swap->current.error = err;
	swap->current.duration_ns = clock_monotonic_ns() - swap->started_ns;
	/* What was before was another one. */
	if (!new_store) {
		swap->current.written_bytes = after.written_bytes - before.written_bytes;
		swap->current.read_bytes = after.read_bytes - before.read_bytes;
	}
	swap->last[operation] = swap->current;
	count_operation(&swap->totals[operation], &swap->current);
	swap->request = SWAP_OP_NONE;
	swap->tidy_due = true;
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
		swap->busy = true;
		if (swap->request != SWAP_OP_NONE) {
			run_request(swap);
		} else if (swap->tidy_due) {
			swap->tidy_due = false;
			pthread_mutex_unlock(&swap->lock);
			swap_operation_tidy(swap);
			pthread_mutex_lock(&swap->lock);
		} else {
			swap->busy = false;
			pthread_cond_wait(&swap->requested, &swap->lock);
		}
	}
	swap->busy = false;
	pthread_cond_broadcast(&swap->finished);
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
	if (swap->config.store.fd > 0)
		close(swap->config.store.fd);
	free(swap->path);
	free(swap);
}

int swap_create(const struct guest_memory *memory, const struct swap_config *config,
		const struct swap_callbacks *callbacks, struct swap **out, struct error *err)
{
	struct swap *swap;
	int result;

	if (config->store.path) {
		result = store_check_path(config->store.path, err);
		if (result)
			return result;
	}
	/* Before the first use of libcrypto, whatever that may be. */
	result = secret_init();
	if (result)
		return error_errno(err, -result, "swap: memory for keys");
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
	swap->config = *config;
	swap->config.store.fd = 0;
	if (config->store.path) {
		swap->path = strdup(config->store.path);
		if (!swap->path) {
			result = error_errno(err, ENOMEM, "swap");
			goto free_swap;
		}
		swap->config.store.path = swap->path;
		result = store_reserve(swap->path, &swap->config.store.fd, err);
		if (result)
			goto free_swap;
	}
	uffd_keep_device();
	*out = swap;
	return 0;

free_swap:
	free_swap(swap);
	return result;
}

/* Whatever runs on the worker ends early. With the lock held: a job that begins later looks at it. */
static void stop_operation(struct swap *swap)
{
	atomic_store(&swap->cancel, true);
	if (swap->quit || swap->ending || !swap->job_goes_on)
		atomic_store(&swap->job.stop, true);
	atomic_store(&swap->tidy_job.stop, true);
}

static bool is_running(const struct swap *swap)
{
	return swap->request != SWAP_OP_NONE;
}

static bool is_busy(const struct swap *swap)
{
	return swap->busy;
}

/* With the lock held. False: the worker still is what it @is. */
static bool await_worker(struct swap *swap, bool (*is)(const struct swap *swap),
			 uint64_t patience_ns)
{
	uint64_t end = clock_monotonic_ns() + patience_ns;
	struct timespec until = {
		.tv_sec = (time_t)(end / NS_PER_SEC),
		.tv_nsec = (long)(end % NS_PER_SEC),
	};

	while (is(swap) && pthread_cond_clockwait(&swap->finished, &swap->lock, CLOCK_MONOTONIC,
						  &until) != ETIMEDOUT)
		;
	return !is(swap);
}

bool swap_end_operation(struct swap *swap, uint64_t patience_ns)
{
	bool ended;

	pthread_mutex_lock(&swap->lock);
	if (is_running(swap)) {
		swap->ending = true;
		stop_operation(swap);
	}
	ended = await_worker(swap, is_running, patience_ns);
	pthread_mutex_unlock(&swap->lock);
	return ended;
}

/* With the lock held. */
static void tell_worker_to_quit(struct swap *swap)
{
	swap->quit = true;
	stop_operation(swap);
	pthread_cond_signal(&swap->requested);
}

bool swap_quit(struct swap *swap, uint64_t patience_ns)
{
	bool ended;

	pthread_mutex_lock(&swap->lock);
	tell_worker_to_quit(swap);
	ended = await_worker(swap, is_busy, patience_ns);
	pthread_mutex_unlock(&swap->lock);
	return ended;
}

void swap_destroy(struct swap *swap)
{
	if (!swap)
		return;
	pthread_mutex_lock(&swap->lock);
	tell_worker_to_quit(swap);
	pthread_mutex_unlock(&swap->lock);
	if (swap->has_worker)
		pthread_join(swap->worker, NULL);
	/* The worker has not come to it. */
	if (swap->request == SWAP_OP_DUMP)
		close(swap->dump_fd);
	session_destroy(swap->session);
	free_swap(swap);
}

/* When there is work for it. With the lock held. */
static int need_worker(struct swap *swap, struct error *err)
{
	int result =
		swap->has_worker ? 0 : thread_start(&swap->worker, "ebb-swap", run_worker, swap);

	if (result)
		return error_errno(err, -result,
				   "swap: starting the worker thread (limits: `ulimit -u`)");
	swap->has_worker = true;
	return 0;
}

static int start(struct swap *swap, enum swap_operation operation, int dump_fd, struct error *err)
{
	int result = 0;

	if (swap_operation_needs_store(operation) && !is_available(swap))
		return error_say(err, ENOTSUP,
				 "swap %s: there is no place for the store; start the VM with "
				 "--swap-dir DIR, or --swap-pool SIZE",
				 swap_operation_name(operation));
	pthread_mutex_lock(&swap->lock);
	if (swap->request != SWAP_OP_NONE) {
		result = error_say(
			err, EBUSY, "swap %s: `swap %s` is running; wait for it, or `swap cancel`",
			swap_operation_name(operation), swap_operation_name(swap->request));
	} else if (!(swap_operation_legal(operation) & 1u << swap->state)) {
		result = error_say(err, EINVAL, "swap %s: not in state \"%s\": %s",
				   swap_operation_name(operation), swap_state_name(swap->state),
				   swap_operation_advice(operation));
	} else {
		result = need_worker(swap, err);
	}
	if (!result) {
		atomic_store(&swap->cancel, false);
		swap->ending = false;
		atomic_store(&swap->tidy_job.stop, true);
		swap->job.done = swap->job.moved = 0;
		swap->request = operation;
		swap->dump_fd = dump_fd;
		swap->started_ns = clock_monotonic_ns();
		swap->current = (struct swap_operation_report){
			.operation = operation,
			.running = true,
			.started_ns = swap->started_ns,
			.pages_total = guest_memory_size(swap->memory) / GUEST_PAGE_SIZE,
		};
		pthread_cond_signal(&swap->requested);
	}
	pthread_mutex_unlock(&swap->lock);
	return result;
}

int swap_start(struct swap *swap, enum swap_operation operation, struct error *err)
{
	if (operation <= SWAP_OP_NONE || operation >= SWAP_OP_COUNT || operation == SWAP_OP_DUMP)
		return error_say(err, EINVAL, "swap: unknown operation");
	return start(swap, operation, -1, err);
}

int swap_start_dump(struct swap *swap, int fd, struct error *err)
{
	int result = start(swap, SWAP_OP_DUMP, fd, err);

	if (result)
		close(fd);
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
		stop_operation(swap);
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
		.faults_ahead = from->ahead,
		.faults_redundant = from->redundant,
		.faults_retried = from->retried,
		.writes_cancelled = from->cancelled,
		.removed = from->removed,
		.staged = from->staged,
		.stored = from->stored,
		.swapped_in = from->swapped_in,
		.trimmed_zero = from->trimmed_zero,
		.trimmed_clean = from->trimmed_clean,
		.compacted = from->compacted,
	};
}

static const enum swap_fault_kind fault_kinds[PAGER_ANSWERS] = {
	[PAGER_ANSWER_ZERO] = SWAP_FAULT_ZERO,
	[PAGER_ANSWER_PRESENT] = SWAP_FAULT_STAGED,
	[PAGER_ANSWER_POOL] = SWAP_FAULT_POOL,
	[PAGER_ANSWER_FILE] = SWAP_FAULT_FILE,
};

/* Of all sessions. Both locks are held, session_lock for reading. */
static void sum_latency(struct swap *swap, enum pager_answer answer, struct latency *sum)
{
	*sum = (struct latency){0};
	latency_merge(sum, &swap->past_latency[answer]);
	if (swap->session)
		latency_merge(sum, monitor_latency(swap->session->monitor, answer));
}

static void fill_latency(struct swap *swap, struct swap_status *status)
{
	for (int i = 0; i < PAGER_ANSWERS; i++) {
		struct latency sum;

		sum_latency(swap, (enum pager_answer)i, &sum);
		latency_summarize(&sum, &status->latency[fault_kinds[i]]);
	}
}

void swap_get_latency(struct swap *swap, struct latency_snapshot snapshots[SWAP_FAULT_KINDS])
{
	pthread_rwlock_rdlock(&swap->session_lock);
	pthread_mutex_lock(&swap->lock);
	for (int i = 0; i < PAGER_ANSWERS; i++) {
		struct latency sum;

		sum_latency(swap, (enum pager_answer)i, &sum);
		latency_take(&sum, &snapshots[fault_kinds[i]]);
	}
	pthread_mutex_unlock(&swap->lock);
	pthread_rwlock_unlock(&swap->session_lock);
}

/* What the session knows; nothing, and the counters of the past, if there is none. */
static void fill_from_session(struct swap *swap, struct swap_status *status)
{
	struct pager_counters counters = {0};

	pthread_rwlock_rdlock(&swap->session_lock);
	if (swap->session) {
		struct pager *pager = swap->session->pager;
		uint64_t counts[PAGE_STATES];

		pager_get_counts(pager, counts);
		pager_get_counters(pager, &counters);
		status->pages_empty = counts[PAGE_EMPTY];
		status->pages_resident = counts[PAGE_RESIDENT];
		status->pages_staged = counts[PAGE_STAGED];
		status->pages_writing = counts[PAGE_WRITING];
		status->pages_swapped = counts[PAGE_SWAPPED];
		status->working_set_pages = pager_working_set_pages(pager);
		status->tables_bytes = pager_ram_bytes(pager);
		store_get_usage(swap->session->store, &status->store);
	}
	pthread_mutex_lock(&swap->lock);
	fill_latency(swap, status);
	status->traffic = swap->past_traffic;
	swap_traffic_add(&status->traffic, &status->store);
	pager_counters_add(&counters, &swap->past);
	pthread_mutex_unlock(&swap->lock);
	pthread_rwlock_unlock(&swap->session_lock);
	fill_counters(&status->counters, &counters);
}

void swap_get_status(struct swap *swap, struct swap_status *status)
{
	memset(status, 0, sizeof(*status));
	status->available = is_available(swap);
	status->store_config = swap->config.store;
	status->page_size = GUEST_PAGE_SIZE;
	status->pages_total = guest_memory_size(swap->memory) / GUEST_PAGE_SIZE;
	fill_from_session(swap, status);
	pthread_mutex_lock(&swap->lock);
	status->state = swap->state;
	status->current = swap->current;
	if (swap->current.running) {
		note_progress(swap, &status->current);
		status->current.duration_ns = clock_monotonic_ns() - swap->started_ns;
	}
	memcpy(status->last, swap->last, sizeof(status->last));
	memcpy(status->totals, swap->totals, sizeof(status->totals));
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

bool swap_is_reading(struct swap *swap)
{
	bool reading;

	pthread_rwlock_rdlock(&swap->session_lock);
	reading = swap->session && monitor_is_reading(swap->session->monitor);
	pthread_rwlock_unlock(&swap->session_lock);
	return reading;
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
