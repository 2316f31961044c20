/*
 * userfaultfd(2), ioctl_userfaultfd(2): page faults of a mapping delivered as messages.
 *
 * This module alone knows the kernel's interface. It holds no state but the descriptor; every
 * function may be called from any thread at the same time.
 *
 * What the errors of zero, copy and continue mean, all told apart because each needs another
 * answer:
 *
 *   -EAGAIN   a REMOVE event (or another change of the mapping) is not digested yet:
 *             read the events, try again. Nothing is wrong.
 *   -EEXIST   zero, copy: the page is in the file already. continue: it is mapped already.
 *             The faulting thread still sleeps: answer by continue, or wake.
 *   -ENOENT   the range is not registered (any more).
 *   -EFAULT   continue: the page is not in the file (it was removed).
 *   -ENOSPC   copy: memory was refused by the file system (tmpfs limits),
 *   -ENOMEM   by the host or the memory cgroup: try again when memory is free.
 *   -ESRCH    the process whose memory it is exits.
 */
#ifndef EBB_SWAP_UFFD_H
#define EBB_SWAP_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

struct uffd;

/* What the kernel may offer and ebb knows to use. Bits of uffd_probe(). */
enum uffd_feature {
	UFFD_CAN_MISSING_SHMEM = 1 << 0, /* missing faults on a memfd */
	UFFD_CAN_MINOR_SHMEM = 1 << 1,   /* minor faults on a memfd, UFFDIO_CONTINUE */
	UFFD_CAN_EVENT_REMOVE = 1 << 2,  /* madvise() discards are told */
	UFFD_CAN_WP_SHMEM = 1 << 3,      /* write protection of a memfd (5.19) */
	UFFD_CAN_WP_ASYNC = 1 << 4,      /* write tracking without faults (6.7) */
};

/* What swap cannot do without. */
#define UFFD_REQUIRED (UFFD_CAN_MISSING_SHMEM | UFFD_CAN_MINOR_SHMEM | UFFD_CAN_EVENT_REMOVE)

/* How a range is registered. */
enum uffd_mode {
	UFFD_MODE_MISSING = 1 << 0,
	UFFD_MODE_MINOR = 1 << 1,
};

enum uffd_event_kind {
	UFFD_FAULT_MISSING,
	UFFD_FAULT_MINOR,
	UFFD_REMOVED, /* [start, end) is being discarded */
	UFFD_OTHER,   /* an event that was not asked for */
};

struct uffd_event {
	enum uffd_event_kind kind;
	uint64_t start; /* faults: the address, page-aligned or not; else the start of the range */
	uint64_t end;   /* UFFD_REMOVED only */
};

/* The most events that one uffd_read_events() returns. */
#define UFFD_EVENTS_MAX 32

/* Names as the kernel's header spells them, for messages. @feature is one bit. */
const char *uffd_feature_name(enum uffd_feature feature);

/*
 * Opens a userfaultfd that can serve faults from kernel mode, as KVM needs: /dev/userfaultfd, else
 * the system call. Agrees on the @required features and no others. 0, -EACCES/-EPERM with the
 * command that grants the right in @err, -ENOSYS, -ENOTSUP with the missing feature named.
 */
int uffd_open(unsigned required, struct uffd **out, struct error *err);

/*
 * Keeps /dev/userfaultfd open from now on, for whoever must not open files later. Once, before there
 * are threads. uffd_device_is_kept(): it could be opened; without it, uffd_open() needs the right to
 * use the system call each time.
 */
void uffd_keep_device(void);
bool uffd_device_is_kept(void);

/* Features that this host's kernel offers, without keeping anything open. 0 or as uffd_open(). */
int uffd_probe(unsigned *features, struct error *err);

/* NULL is legal. Registrations end and sleeping faults are let go. */
void uffd_close(struct uffd *uffd);

/* For poll(2): readable when events wait. */
int uffd_descriptor(const struct uffd *uffd);

/* @address and @length are page-aligned; @modes: bits of enum uffd_mode. 0 or -errno. */
int uffd_register(const struct uffd *uffd, void *address, size_t length, unsigned modes);
int uffd_unregister(const struct uffd *uffd, void *address, size_t length);

/*
 * Resolve [address, address + length) and wake its faults: with zero pages, with the data at
 * @source, with what the file holds. A partial result is continued; *done tells how many bytes were
 * resolved, also on failure. Errors as above.
 */
int uffd_zero(const struct uffd *uffd, void *address, size_t length, size_t *done);
int uffd_copy(const struct uffd *uffd, void *address, const void *source, size_t length,
	      size_t *done);
int uffd_continue(const struct uffd *uffd, void *address, size_t length, size_t *done);

/* Lets threads that sleep on the range fault again. 0 or -errno. */
int uffd_wake(const struct uffd *uffd, void *address, size_t length);

/* Reads what waits, up to UFFD_EVENTS_MAX, without blocking. 0 with *count (0: nothing) or -errno.
 */
int uffd_read_events(const struct uffd *uffd, struct uffd_event events[static UFFD_EVENTS_MAX],
		     size_t *count);

#endif
