/*
 * Keeps pages that the kernel has pinned for device I/O from being taken away.
 *
 * O_DIRECT and io_uring transfers hold references to guest pages that neither the zap nor the punch
 * can see. Devices therefore run such I/O between io_gate_begin() and io_gate_end(). After the zap,
 * and before anything is read from staging, swap closes the gate for a moment, which holds
 * new I/O back, and waits for what is running: it may have pinned its pages before the zap. I/O
 * that began after the zap has faulted on its pages: they are resident, and safe.
 *
 * Plain loads and stores through the guest view need no gate.
 */
#ifndef EBB_MEMORY_IO_GATE_H
#define EBB_MEMORY_IO_GATE_H

#include <stdbool.h>
#include <stdint.h>

struct io_gate;

int io_gate_create(struct io_gate **out);
void io_gate_destroy(struct io_gate *gate);

/*
 * True: one I/O is counted as running, io_gate_end() must follow (any thread). False: the gate is
 * closed; leave the request where it is and look again when the waiter's eventfd fires. Never
 * blocks.
 */
bool io_gate_begin(struct io_gate *gate);
void io_gate_end(struct io_gate *gate);

/* @event_fd is written to whenever the gate opens, until removed. 0 or -ENOMEM. Any thread. */
int io_gate_add_waiter(struct io_gate *gate, int event_fd);
void io_gate_remove_waiter(struct io_gate *gate, int event_fd);

/* Lets no new I/O in. One closer at a time. */
void io_gate_close(struct io_gate *gate);

/* Sleeps until no I/O is running: 0, or -ETIMEDOUT after @timeout_ns. The gate is closed. */
int io_gate_wait_drained(struct io_gate *gate, uint64_t timeout_ns);

/* Opens it again and tells the waiters. */
void io_gate_open(struct io_gate *gate);

#endif
