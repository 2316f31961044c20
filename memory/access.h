/*
 * Access to guest memory through a backing with a fast path and a fallback.
 *
 * A backing may offer a mapping: pages whose bit is set in its bitmap (or all, if it has none) are
 * read and written there. Every other page goes through the backing's fallback functions, after
 * page_fault() has been asked what to do. This is how a guest that is swapped out is read (dump,
 * snapshot, checksum): swap/ provides a backing without a mapping whose read fallback fetches pages
 * from the store and leaves them there.
 *
 * Addresses are offsets from base_iova in the backing's own address space; for guest RAM these are
 * memfd offsets. An accessor is immutable and may be used by any thread, if its backing may.
 */
#ifndef EBB_MEMORY_ACCESS_H
#define EBB_MEMORY_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a backing says about a page that the bitmap excludes. */
enum guest_access_fault {
	GUEST_ACCESS_FAIL,     /* the access ends with -EFAULT */
	GUEST_ACCESS_RETRY,    /* the bitmap has changed: look again */
	GUEST_ACCESS_FALLBACK, /* use the fallback function for this page */
};

struct guest_access_ops {
	/* NULL means GUEST_ACCESS_FALLBACK for every page. */
	enum guest_access_fault (*page_fault)(void *opaque, uint64_t address, bool write);
	/* Each gets a range inside one page. 0 or -errno. NULL: -EFAULT. */
	int (*read_fallback)(void *opaque, uint64_t address, void *buffer, size_t length);
	int (*write_fallback)(void *opaque, uint64_t address, const void *buffer, size_t length);
	int (*fill_fallback)(void *opaque, uint64_t address, uint8_t value, size_t length);
	/* -EAGAIN when *expected differed (and was updated). */
	int (*compare_exchange_fallback)(void *opaque, uint64_t address, unsigned size,
					 uint64_t *expected, uint64_t desired);
};

struct guest_access {
	const struct guest_access_ops *ops;
	void *opaque;
	uint8_t *mapping;               /* host address of address 0, or NULL: no fast path */
	const _Atomic uint64_t *bitmap; /* a bit per page: may go through the mapping; NULL: all */
	uint64_t base_iova;             /* first address that this accessor may reach */
	uint64_t max_address;           /* first address behind the last one */
	bool expose_va;                 /* guest_access_va() may hand out pointers */
};

/*
 * Copies [address, address + length) relative to base_iova. 0; -EFAULT if the range leaves the
 * accessor or the backing refuses; what a fallback said. On failure a prefix may have been copied.
 */
int guest_access_read(const struct guest_access *access, uint64_t address, void *buffer,
		      size_t length);
int guest_access_write(const struct guest_access *access, uint64_t address, const void *buffer,
		       size_t length);
int guest_access_fill(const struct guest_access *access, uint64_t address, uint8_t value,
		      size_t length);

/* @size 1, 2, 4 or 8, naturally aligned (-EINVAL). -EAGAIN: differed, *expected updated. */
int guest_access_compare_exchange(const struct guest_access *access, uint64_t address,
				  unsigned size, uint64_t *expected, uint64_t desired);

/* Narrows @access to [offset, offset + length): 0, or -EFAULT if that is not inside it. */
int guest_access_subrange(const struct guest_access *access, uint64_t offset, uint64_t length,
			  struct guest_access *out);

/* A pointer to the range in the mapping. -EFAULT: outside; -ENOTSUP: not exposed or not mapped. */
int guest_access_va(const struct guest_access *access, uint64_t address, size_t length,
		    void **host);

#endif
