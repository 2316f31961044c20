/*
 * A loop that calls a function when a file descriptor is ready (epoll) or a timer is due (timerfd).
 *
 * One thread runs the loop; all callbacks run on it. event_loop_add*() and event_loop_stop() may be
 * called from any thread; event_source_*() only from the loop's thread, or while the loop does not
 * run. A source may remove itself or another one from inside a callback: no callback of a removed
 * source is called any more. The loop owns its sources, the caller owns the descriptors.
 */
#ifndef EBB_BASE_EVENT_LOOP_H
#define EBB_BASE_EVENT_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

struct event_loop;
struct event_source;

/* @events: the EPOLL* bits that are set. For a timer: 0. */
typedef void (*event_callback)(void *opaque, uint32_t events);

/* Returns 0 or -errno. */
int event_loop_create(struct event_loop **out);

/* Frees the sources too. The loop must not run. NULL is legal. */
void event_loop_destroy(struct event_loop *loop);

/* Calls @callback(@opaque, events) while @fd is ready for @events (level-triggered). 0 or -errno.
 */
int event_loop_add(struct event_loop *loop, int fd, uint32_t events, event_callback callback,
		   void *opaque, struct event_source **out);

/* A disarmed timer; event_source_arm() starts it. 0 or -errno. */
int event_loop_add_timer(struct event_loop *loop, event_callback callback, void *opaque,
			 struct event_source **out);

/* Changes what a descriptor's source waits for; 0 silences it. 0 or -errno. */
int event_source_modify(struct event_source *source, uint32_t events);

/* A timer fires after @delay_ns, then each @interval_ns (0: once). @delay_ns 0 disarms it. */
int event_source_arm(struct event_source *source, uint64_t delay_ns, uint64_t interval_ns);

/* NULL is legal. */
void event_source_remove(struct event_source *source);

/* Serves events until event_loop_stop(). Returns 0 or -errno (epoll itself failed). */
int event_loop_run(struct event_loop *loop);

/* Makes the present run, or the next one, return. Any thread. */
void event_loop_stop(struct event_loop *loop);

#endif
