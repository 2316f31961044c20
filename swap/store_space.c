#include <errno.h>
#include <string.h>

#include "swap/store_internal.h"
#include "vmm/base/size.h"

/* Slots side by side that are punched in one call: bounds how long it sleeps. */
#define RECLAIM_RUN 64u

/* Live bytes that one round of victims may have. */
#define VICTIMS_LIVE_MAX (64 * MIB)

/* So many tiny segments are worth merging. */
#define TINY_MANY 1024

/* Compaction goes by how much of a segment is live, in this many steps. */
#define STEPS 64u

/* ---- the file's space ---- */

/* Dead segments that lie side by side in the file. */
struct dead_run {
	uint32_t indices[RECLAIM_RUN];
	uint32_t count;
	uint32_t slot; /* of the first */
};

static void take_dead(struct store *store, struct dead_run *run)
{
	struct segment_table *table = &store->segments;

	run->count = run->slot = 0;
	while (table->dead.first != SEGMENT_NONE && run->count < RECLAIM_RUN) {
		uint32_t index = table->dead.first;
		uint32_t slot = segment_find(table, index)->slot;

		if (run->count == 0)
			run->slot = slot;
		else if (slot != run->slot + run->count)
			break;
		segment_unlink(table, &table->dead, index);
		run->indices[run->count++] = index;
	}
}

/* With the reclaim lock held. True: something was given back. */
static bool reclaim_run(struct store *store, bool *more)
{
	struct dead_run run;

	pthread_mutex_lock(&store->lock);
	take_dead(store, &run);
	pthread_mutex_unlock(&store->lock);
	*more = false;
	if (run.count == 0)
		return false;
	/*
	 * The slots stay taken until the hole is punched, so that nobody is given one whose data
	 * would then be punched away. One that could not be punched is still free to be used again.
	 */
	store_file_punch(&store->file, slot_offset(run.slot), slot_offset(run.count));
	pthread_mutex_lock(&store->lock);
	for (uint32_t i = 0; i < run.count; i++) {
		struct segment *segment = segment_find(&store->segments, run.indices[i]);

		store->file_bytes -= segment->cost;
		slot_give(&store->slots, segment->slot);
		segment_release(&store->segments, run.indices[i]);
	}
	store->reclaims++;
	*more = store->segments.dead.first != SEGMENT_NONE;
	pthread_mutex_unlock(&store->lock);
	return true;
}

static bool reclaim(struct store *store, bool *more)
{
	bool any;

	pthread_mutex_lock(&store->reclaim_lock);
	any = reclaim_run(store, more);
	pthread_mutex_unlock(&store->reclaim_lock);
	return any;
}

bool store_reclaim(struct store *store)
{
	bool more;

	reclaim(store, &more);
	return more;
}

static int try_take_space(struct store *store, struct store_room room, uint32_t *slot,
			  uint32_t *got)
{
	uint64_t limit = store->config.limit_bytes ? store->config.limit_bytes : UINT64_MAX;
	uint64_t taken = store->file_bytes + store->file_reserved + room.left;
	uint64_t left = limit > taken ? limit - taken : 0;
	int result;

	left &= ~((uint64_t)store->file.block - 1);
	*got = left < room.want ? (uint32_t)left : room.want;
	if (*got < room.need)
		return -EDQUOT;
	result = slot_take(&store->slots, slot);
	if (!result)
		store->file_reserved += *got;
	return result;
}

/* True: there may be more room than when @reclaims was read. */
static bool make_room(struct store *store, uint64_t reclaims)
{
	bool more, others;

	if (reclaim(store, &more))
		return true;
	/* What another thread was giving back is given back by now. */
	pthread_mutex_lock(&store->lock);
	others = store->reclaims != reclaims;
	pthread_mutex_unlock(&store->lock);
	return others;
}

int store_take_space(struct store *store, struct store_room room, uint32_t *slot, uint32_t *got)
{
	uint64_t reclaims;
	int result;

	do {
		pthread_mutex_lock(&store->lock);
		result = try_take_space(store, room, slot, got);
		reclaims = store->reclaims;
		pthread_mutex_unlock(&store->lock);
	} while ((result == -EDQUOT || result == -ENOSPC) && make_room(store, reclaims));
	return result;
}

/* ---- compaction ---- */

static bool file_is_sparse(const struct segment_sums *sums)
{
	return sums->cost_file > sums->live_file + sums->live_file * 3 / 10 + (int64_t)(64 * MIB) ||
	       sums->dead_in_half_dead >= (int64_t)(16 * MIB) || sums->tiny >= TINY_MANY;
}

static bool pool_is_sparse(const struct store *store)
{
	uint64_t live = (uint64_t)store->segments.sums.live_pool;

	return store->pool_bytes > store->config.pool_bytes / 4 * 3 &&
	       live < store->pool_bytes / 4 * 3 && store->pool_bytes - live > MIB;
}

bool store_is_sparse(struct store *store)
{
	bool sparse;

	pthread_mutex_lock(&store->lock);
	sparse = file_is_sparse(&store->segments.sums) || pool_is_sparse(store);
	pthread_mutex_unlock(&store->lock);
	return sparse;
}

/* What a round of compaction is to win, and which segments it has to move for that. */
struct compaction {
	int64_t file_excess;
	bool pool;
	bool tiny;
	/* Of the candidates, by how much of each is live. */
	int64_t gain[STEPS];
	uint32_t steps; /* those below are victims */
	int64_t live_left;
};

/*
 * How sparse a segment is: 0 to STEPS - 1, the fewer the sparser; STEPS: not a candidate. A segment
 * that is more than 7/8 live is not worth moving.
 */
static uint32_t sparseness(const struct segment *segment, const struct compaction *plan)
{
	bool in_pool = segment->state == SEGMENT_POOL;
	int64_t cost = in_pool ? segment->ram_size : segment->cost, live = segment->live;

	if ((!in_pool && segment->state != SEGMENT_FILE) || (in_pool && !plan->pool) ||
	    segment->evicting || cost == 0)
		return STEPS;
	if (live * 8 <= cost * 7)
		return (uint32_t)(live * STEPS / cost);
	return !in_pool && plan->tiny && segment->used < SEGMENT_TINY ? STEPS - 1 : STEPS;
}

/* Calls @visit on every segment, the lock held for a piece of the table at a time. */
static void each_segment(struct store *store, struct compaction *plan,
			 void (*visit)(struct segment *segment, struct compaction *plan))
{
	const uint32_t piece = 4096;
	uint32_t count;

	pthread_mutex_lock(&store->lock);
	count = store->segments.count;
	for (uint32_t i = 0; i < count; i++) {
		if (i % piece == piece - 1) {
			pthread_mutex_unlock(&store->lock);
			pthread_mutex_lock(&store->lock);
		}
		visit(segment_find(&store->segments, i), plan);
	}
	pthread_mutex_unlock(&store->lock);
}

static void weigh(struct segment *segment, struct compaction *plan)
{
	uint32_t step = sparseness(segment, plan);

	if (step < STEPS)
		plan->gain[step] += (int64_t)(segment->state == SEGMENT_POOL ? segment->ram_size
									     : segment->cost) -
				    segment->live;
}

static void mark(struct segment *segment, struct compaction *plan)
{
	uint32_t step = sparseness(segment, plan);
	bool victim = step < plan->steps && segment->live <= plan->live_left;

	segment->victim = victim;
	if (victim) {
		plan->live_left -= segment->live;
		plan->gain[0]++;
	}
}

size_t store_pick_victims(struct store *store)
{
	struct compaction plan = {.live_left = (int64_t)VICTIMS_LIVE_MAX};
	const struct segment_sums *sums = &store->segments.sums;
	int64_t gained = 0;

	pthread_mutex_lock(&store->lock);
	plan.file_excess = sums->cost_file - sums->live_file - sums->live_file / 8;
	if (plan.file_excess < sums->dead_in_half_dead)
		plan.file_excess = sums->dead_in_half_dead;
	plan.pool = pool_is_sparse(store);
	plan.tiny = sums->tiny >= TINY_MANY;
	if (plan.pool)
		plan.file_excess += (int64_t)store->pool_bytes - sums->live_pool;
	pthread_mutex_unlock(&store->lock);

	each_segment(store, &plan, weigh);
	while (plan.steps < STEPS && (gained < plan.file_excess || plan.tiny))
		gained += plan.gain[plan.steps++];
	plan.gain[0] = 0; /* counts the victims from here on */
	each_segment(store, &plan, mark);
	return (size_t)plan.gain[0];
}

bool store_is_victim(struct store *store, store_location location)
{
	const struct segment *segment;

	if (location_kind(location) != LOCATION_RECORD)
		return false;
	segment = segment_find(&store->segments, location_record(location).segment);
	return segment && atomic_load_explicit(&segment->victim, memory_order_relaxed);
}
