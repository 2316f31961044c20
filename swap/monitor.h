/*
 * The monitor: threads that read the userfaultfd and let the pager answer.
 *
 * Where a fault is answered decides how long it takes: the thread beside the sleeping toucher needs
 * no inter-processor wake-up. On hosts with few CPUs there is one *post* for each, whose threads are
 * pinned there, and all read the same userfaultfd; on larger ones every fault would wake them all, so
 * there are a few posts without a CPU. Each post has several threads of which one at a time is on
 * watch: one that has to wait for the disk leaves the watch to the next. The last one stays: however
 * many faults wait for a disk that stands still, those that need no disk are answered.
 *
 * In what was read, REMOVE events go before faults. A fault that cannot be answered now is deferred
 * and tried again: soon if an event is pending (-EAGAIN), more and more slowly if memory is short
 * or the store cannot be read, in which case the operator is told. No fault is dropped: should more
 * be deferred than there is room for, the faulting thread is woken and faults again.
 *
 * A disk that hangs says nothing: a read that it has not answered after 10 seconds is told as one that
 * failed, and waited for all the same.
 */
#ifndef EBB_SWAP_MONITOR_H
#define EBB_SWAP_MONITOR_H

#include "swap/latency.h"
#include "swap/pager.h"
#include "swap/uffd.h"

struct monitor;

struct monitor_callbacks {
	void *opaque;
	/* Memory that the guest wants cannot be provided for now; told once per spell of trouble.
	 */
	void (*trouble)(void *opaque, const char *reason);
};

/* Starts the threads. @pager and @uffd are borrowed until monitor_stop(). 0 or -errno. */
int monitor_start(struct pager *pager, const struct uffd *uffd,
		  const struct monitor_callbacks *callbacks, struct monitor **out);

/*
 * True from the call of trouble() until every deferred fault has been answered, and every read that
 * took too long. Any thread.
 */
bool monitor_in_trouble(const struct monitor *monitor);

/* True if a thread waits for the disk, however long: monitor_stop() would wait for it. Any thread. */
bool monitor_is_reading(const struct monitor *monitor);

/* How long faults took, by how they were answered, from reading to answer. Any thread. */
const struct latency *monitor_latency(const struct monitor *monitor, enum pager_answer answer);

/* Ends the threads after a last look at the events. NULL is legal. */
void monitor_stop(struct monitor *monitor);

#endif
