/*
 * Guest RAM: one sealed memfd, mapped twice.
 *
 *   guest view   what the guest sees: KVM memslots and device emulation go through it.
 *                While swap is enabled it is registered with userfaultfd, so touching it
 *                may wait for the monitor. MADV_DONTFORK: a child process never shares it.
 *   pager view   the same pages, never registered. Only swap/ uses it.
 *
 * Both views are contiguous and follow the memfd's offsets; a region says where a stretch of them
 * lies in guest-physical addresses (GPA). This folder alone maps, unmaps and madvises guest RAM.
 *
 * The object is immutable after creation: every function may be called from any thread. Accesses by
 * GPA are checked here once, by arithmetic that cannot wrap: an access that ends exactly at the end
 * of RAM is valid, one byte more is -EFAULT and changes nothing.
 */
#ifndef EBB_MEMORY_GUEST_MEMORY_H
#define EBB_MEMORY_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/error.h"

#define GUEST_PAGE_SIZE  4096ull
#define GUEST_PAGE_SHIFT 12

/* At most this many regions in one guest. */
#define GUEST_MEMORY_REGIONS_MAX 8

/* A guest-physical address. */
typedef uint64_t gpa_t;

struct io_gate;

/* [base, base + size) in GPAs is [offset, offset + size) in the memfd and in both views. */
struct guest_memory_region {
	gpa_t base;
	uint64_t size;
	uint64_t offset;
};

struct guest_memory;

/*
 * Creates RAM with the regions at @layout (page-aligned, ascending, not overlapping; .offset is
 * ignored and set to follow the order). Nothing is populated. Returns 0, -EINVAL for a bad layout,
 * or what memfd_create/ftruncate/mmap said.
 */
int guest_memory_create(const struct guest_memory_region *layout, size_t count,
			struct guest_memory **out, struct error *err);

/* Unmaps and closes everything. NULL is legal. No access may be under way. */
void guest_memory_destroy(struct guest_memory *memory);

/* The sum of the regions' sizes in bytes = the size of the memfd and of each view. */
uint64_t guest_memory_size(const struct guest_memory *memory);
size_t guest_memory_region_count(const struct guest_memory *memory);
const struct guest_memory_region *guest_memory_region(const struct guest_memory *memory,
						      size_t index);

/* Where memfd offset 0 is mapped. The pager view is for swap/ only. */
uint8_t *guest_memory_guest_view(const struct guest_memory *memory);
uint8_t *guest_memory_pager_view(const struct guest_memory *memory);
int guest_memory_fd(const struct guest_memory *memory);

/* Guards device I/O that pins guest pages; see memory/io_gate.h. Owned by the guest memory. */
struct io_gate *guest_memory_io_gate(const struct guest_memory *memory);

/* True if [gpa, gpa + length) is RAM, in however many regions. Length 0 inside RAM or at its end
 * is. */
bool guest_memory_contains(const struct guest_memory *memory, gpa_t gpa, uint64_t length);

/*
 * Copies between guest RAM and a buffer, across regions if need be. 0, or -EFAULT with nothing
 * copied if any byte of the range is not RAM.
 */
int guest_memory_read(const struct guest_memory *memory, gpa_t gpa, void *buffer, size_t length);
int guest_memory_write(const struct guest_memory *memory, gpa_t gpa, const void *buffer,
		       size_t length);
int guest_memory_fill(const struct guest_memory *memory, gpa_t gpa, uint8_t value, size_t length);

/*
 * Atomic little-endian access of @size 1, 2, 4 or 8 bytes at an address aligned to it. Loads
 * acquire and stores release, which is what a virtqueue's indices need. 0, -EFAULT (not RAM),
 * -EINVAL (size or alignment).
 */
int guest_memory_load(const struct guest_memory *memory, gpa_t gpa, unsigned size, uint64_t *value);
int guest_memory_store(const struct guest_memory *memory, gpa_t gpa, unsigned size, uint64_t value);

/*
 * If the @size bytes at @gpa equal *@expected, replaces them by @desired, sequentially consistent.
 * 0: replaced. -EAGAIN: they differed, *@expected holds what was found. -EFAULT, -EINVAL as above.
 */
int guest_memory_compare_exchange(const struct guest_memory *memory, gpa_t gpa, unsigned size,
				  uint64_t *expected, uint64_t desired);

/* A host pointer to [gpa, gpa + length) in the guest view; the range must lie in one region. */
int guest_memory_slice(const struct guest_memory *memory, gpa_t gpa, size_t length, void **host);

/*
 * Describes [gpa, gpa + length) as host ranges, one per region touched. 0 with *count entries of
 * @iov used (a zero length uses none), -EFAULT (not RAM), -ENOBUFS (more than @max).
 */
int guest_memory_iovec(const struct guest_memory *memory, gpa_t gpa, size_t length,
		       struct iovec *iov, size_t max, size_t *count);

/*
 * Gives [gpa, gpa + length) back to the host (MADV_REMOVE on the guest view): it reads as zeros
 * afterwards. Page-aligned (-EINVAL), in RAM (-EFAULT). While swap is enabled the caller sleeps
 * until the monitor has read the REMOVE event, so it must hold no lock that the monitor could want.
 */
int guest_memory_discard(const struct guest_memory *memory, gpa_t gpa, uint64_t length);

/* Discards all RAM: what a reset machine starts with. Same rule for the caller. */
int guest_memory_discard_all(const struct guest_memory *memory);

/*
 * Bringing old contents of a page back must not overlap with its discard, or what the guest threw
 * away would come back. While a fill is open, guest_memory_discard() waits before it begins; fills
 * do not wait for each other. The second one never sleeps: false if a discard is under way or waits.
 */
void guest_memory_fill_begin(const struct guest_memory *memory);
bool guest_memory_fill_try_begin(const struct guest_memory *memory);
void guest_memory_fill_end(const struct guest_memory *memory);

/*
 * The rest serves swap/. Offsets and lengths are in the memfd, page-aligned and inside it
 * (-EINVAL otherwise).
 */

/*
 * Drops the guest view's page table entries (MADV_DONTNEED); the data stays in the memfd. Raises a
 * REMOVE event while the view is registered (madvise(2), userfaultfd(2)).
 */
int guest_memory_zap(const struct guest_memory *memory, uint64_t offset, uint64_t length);

/* Drops the pager view's page table entries, so that they do not count as ebb's RSS. No event. */
void guest_memory_forget(const struct guest_memory *memory, uint64_t offset, uint64_t length);

/* Frees the pages of the memfd (FALLOC_FL_PUNCH_HOLE) without an event. 0 or -errno. */
int guest_memory_punch(const struct guest_memory *memory, uint64_t offset, uint64_t length);

/*
 * The first stretch of populated memory at or after @offset (lseek SEEK_DATA/SEEK_HOLE). 0 with
 * [*start, *end), page-aligned; -ENXIO when there is none.
 */
int guest_memory_next_data(const struct guest_memory *memory, uint64_t offset, uint64_t *start,
			   uint64_t *end);

/* How many pages of the range are in RAM (mincore); looking populates nothing. 0 or -errno. */
int guest_memory_count_present(const struct guest_memory *memory, uint64_t offset, uint64_t length,
			       uint64_t *pages);

/* Reads through the memfd: neither faults nor populates holes (they read as zeros). 0 or -errno. */
int guest_memory_read_offset(const struct guest_memory *memory, uint64_t offset, void *buffer,
			     size_t length);

/* Bytes that the memfd really occupies (its allocated blocks). 0 or -errno. */
int guest_memory_allocated(const struct guest_memory *memory, uint64_t *bytes);

#endif
