#include "memory/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/atomic.h"
#include "memory/io_gate.h"
#include "vmm/base/checked.h"
#include "vmm/base/io.h"
#include "vmm/base/size.h"

struct guest_memory {
	int fd;
	uint64_t size;
	uint8_t *guest_view;
	uint8_t *pager_view;
	struct io_gate *io_gate;
	pthread_rwlock_t *fill_lock; /* held by fills for reading, by discards for writing */
	size_t region_count;
	struct guest_memory_region regions[GUEST_MEMORY_REGIONS_MAX];
};

/* Copies the layout, assigns memfd offsets, and judges it. */
static int adopt_layout(struct guest_memory *memory, const struct guest_memory_region *layout,
			size_t count)
{
	gpa_t lowest = 0;

	if (count == 0 || count > GUEST_MEMORY_REGIONS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		struct guest_memory_region *region = &memory->regions[i];

		*region = layout[i];
		region->offset = memory->size;
		if (region->size == 0 || region->base < lowest ||
		    !is_aligned(region->base | region->size, GUEST_PAGE_SIZE) ||
		    !checked_add(region->base, region->size, &lowest) ||
		    !checked_add(memory->size, region->size, &memory->size))
			return -EINVAL;
	}
	memory->region_count = count;
	/* off_t is signed, and two views must fit into the address space. */
	return memory->size <= INT64_MAX / 4 ? 0 : -EINVAL;
}

static int map_view(const struct guest_memory *memory, uint8_t **view)
{
	void *address = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			     memory->fd, 0);

	if (address == MAP_FAILED)
		return -errno;
	/*
	 * Small pages only: swap's unit is 4 KiB, and khugepaged would fill holes that the page map
	 * relies on. Neither view in a core dump: it is the guest's memory. The advice is an
	 * optimisation or a hardening; kernels built without it say EINVAL.
	 */
	madvise(address, memory->size, MADV_NOHUGEPAGE);
	madvise(address, memory->size, MADV_DONTDUMP);
	if (madvise(address, memory->size, MADV_DONTFORK)) {
		int result = -errno;

		munmap(address, memory->size);
		return result;
	}
	*view = address;
	return 0;
}

static pthread_rwlock_t *create_fill_lock(void)
{
	pthread_rwlock_t *lock = malloc(sizeof(*lock));
	pthread_rwlockattr_t attributes;

	if (!lock)
		return NULL;
	/* A long swap-in is one fill after the other: a discard must get in between. */
	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	return lock;
}

static void destroy_fill_lock(pthread_rwlock_t *lock)
{
	pthread_rwlock_destroy(lock);
	free(lock);
}

int guest_memory_create(const struct guest_memory_region *layout, size_t count,
			struct guest_memory **out, struct error *err)
{
	struct guest_memory *memory = calloc(1, sizeof(*memory));
	char size[16];
	int result;

	if (!memory)
		return error_errno(err, ENOMEM, "guest memory");
	result = adopt_layout(memory, layout, count);
	if (result) {
		error_say(err, -result,
			  "guest memory: the regions are empty, unaligned or overlap");
		goto free_memory;
	}
	size_format(memory->size, size, sizeof(size));
	memory->fill_lock = create_fill_lock();
	if (!memory->fill_lock) {
		result = error_errno(err, ENOMEM, "guest memory");
		goto free_memory;
	}
	result = io_gate_create(&memory->io_gate);
	if (result) {
		error_errno(err, -result, "guest memory");
		goto destroy_fill_lock;
	}
	memory->fd = memfd_create("ebb-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory->fd < 0) {
		result = error_errno(err, errno, "guest memory: memfd_create");
		goto destroy_gate;
	}
	/* Sealed, so that no bug can turn an access into SIGBUS by changing the size. */
	if (ftruncate(memory->fd, (off_t)memory->size) ||
	    fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		result = error_errno(err, errno, "guest memory: a memfd of %s", size);
		goto close_fd;
	}
	result = map_view(memory, &memory->guest_view);
	if (result) {
		error_errno(err, -result, "guest memory: mapping %s (ulimit -v may be too low)",
			    size);
		goto close_fd;
	}
	result = map_view(memory, &memory->pager_view);
	if (result) {
		error_errno(err, -result,
			    "guest memory: mapping %s a second time (ulimit -v may be too low)",
			    size);
		goto unmap_guest_view;
	}
	*out = memory;
	return 0;

unmap_guest_view:
	munmap(memory->guest_view, memory->size);
close_fd:
	close(memory->fd);
destroy_gate:
	io_gate_destroy(memory->io_gate);
destroy_fill_lock:
	destroy_fill_lock(memory->fill_lock);
free_memory:
	free(memory);
	return result;
}

void guest_memory_destroy(struct guest_memory *memory)
{
	if (!memory)
		return;
	munmap(memory->pager_view, memory->size);
	munmap(memory->guest_view, memory->size);
	close(memory->fd);
	io_gate_destroy(memory->io_gate);
	destroy_fill_lock(memory->fill_lock);
	free(memory);
}

uint64_t guest_memory_size(const struct guest_memory *memory)
{
	return memory->size;
}

size_t guest_memory_region_count(const struct guest_memory *memory)
{
	return memory->region_count;
}

const struct guest_memory_region *guest_memory_region(const struct guest_memory *memory,
						      size_t index)
{
	return index < memory->region_count ? &memory->regions[index] : NULL;
}

uint8_t *guest_memory_guest_view(const struct guest_memory *memory)
{
	return memory->guest_view;
}

uint8_t *guest_memory_pager_view(const struct guest_memory *memory)
{
	return memory->pager_view;
}

int guest_memory_fd(const struct guest_memory *memory)
{
	return memory->fd;
}

struct io_gate *guest_memory_io_gate(const struct guest_memory *memory)
{
	return memory->io_gate;
}

/*
 * The gate for guest-supplied addresses. Finds the stretch of RAM at @gpa: its memfd offset, and
 * how many of @length bytes lie in the same region. False if @gpa is not RAM. A zero length is let
 * through at the end of a region.
 */
static bool resolve(const struct guest_memory *memory, gpa_t gpa, uint64_t length, uint64_t *offset,
		    uint64_t *here)
{
	for (size_t i = 0; i < memory->region_count; i++) {
		const struct guest_memory_region *region = &memory->regions[i];
		uint64_t inside, room;

		if (gpa < region->base)
			return false;
		inside = gpa - region->base;
		if (inside > region->size || (inside == region->size && length > 0))
			continue;
		room = region->size - inside;
		*offset = region->offset + inside;
		*here = length < room ? length : room;
		return true;
	}
	return false;
}

bool guest_memory_contains(const struct guest_memory *memory, gpa_t gpa, uint64_t length)
{
	uint64_t offset, here;

	do {
		if (!resolve(memory, gpa, length, &offset, &here))
			return false;
		gpa += here;
		length -= here;
	} while (length > 0);
	return true;
}

enum direction {
	FROM_GUEST,
	TO_GUEST,
	FILL_GUEST
};

/* Moves @length bytes that are known to be RAM, region by region. */
static void transfer(const struct guest_memory *memory, gpa_t gpa, void *buffer, uint8_t value,
		     uint64_t length, enum direction direction)
{
	uint8_t *host_side = buffer;
	uint64_t offset, here;

	while (length > 0 && resolve(memory, gpa, length, &offset, &here)) {
		uint8_t *guest_side = memory->guest_view + offset;

		if (direction == FROM_GUEST)
			memcpy(host_side, guest_side, here);
		else if (direction == TO_GUEST)
			memcpy(guest_side, host_side, here);
		else
			memset(guest_side, value, here);
		if (host_side)
			host_side += here;
		gpa += here;
		length -= here;
	}
}

int guest_memory_read(const struct guest_memory *memory, gpa_t gpa, void *buffer, size_t length)
{
	if (!guest_memory_contains(memory, gpa, length))
		return -EFAULT;
	transfer(memory, gpa, buffer, 0, length, FROM_GUEST);
	return 0;
}

int guest_memory_write(const struct guest_memory *memory, gpa_t gpa, const void *buffer,
		       size_t length)
{
	if (!guest_memory_contains(memory, gpa, length))
		return -EFAULT;
	transfer(memory, gpa, (void *)buffer, 0, length, TO_GUEST);
	return 0;
}

int guest_memory_fill(const struct guest_memory *memory, gpa_t gpa, uint8_t value, size_t length)
{
	if (!guest_memory_contains(memory, gpa, length))
		return -EFAULT;
	transfer(memory, gpa, NULL, value, length, FILL_GUEST);
	return 0;
}

/* A host pointer for an atomic access of @size bytes. */
static int atomic_slice(const struct guest_memory *memory, gpa_t gpa, unsigned size, void **host)
{
	if ((size != 1 && size != 2 && size != 4 && size != 8) || !is_aligned(gpa, size))
		return -EINVAL;
	return guest_memory_slice(memory, gpa, size, host);
}

int guest_memory_load(const struct guest_memory *memory, gpa_t gpa, unsigned size, uint64_t *value)
{
	void *host;
	int result = atomic_slice(memory, gpa, size, &host);

	if (result)
		return result;
	switch (size) {
	case 1:
		*value = __atomic_load_n((uint8_t *)host, __ATOMIC_ACQUIRE);
		break;
	case 2:
		*value = __atomic_load_n((uint16_t *)host, __ATOMIC_ACQUIRE);
		break;
	case 4:
		*value = __atomic_load_n((uint32_t *)host, __ATOMIC_ACQUIRE);
		break;
	default:
		*value = __atomic_load_n((uint64_t *)host, __ATOMIC_ACQUIRE);
		break;
	}
	return 0;
}

int guest_memory_store(const struct guest_memory *memory, gpa_t gpa, unsigned size, uint64_t value)
{
	void *host;
	int result = atomic_slice(memory, gpa, size, &host);

	if (result)
		return result;
	switch (size) {
	case 1:
		__atomic_store_n((uint8_t *)host, (uint8_t)value, __ATOMIC_RELEASE);
		break;
	case 2:
		__atomic_store_n((uint16_t *)host, (uint16_t)value, __ATOMIC_RELEASE);
		break;
	case 4:
		__atomic_store_n((uint32_t *)host, (uint32_t)value, __ATOMIC_RELEASE);
		break;
	default:
		__atomic_store_n((uint64_t *)host, value, __ATOMIC_RELEASE);
		break;
	}
	return 0;
}

int guest_memory_compare_exchange(const struct guest_memory *memory, gpa_t gpa, unsigned size,
				  uint64_t *expected, uint64_t desired)
{
	void *host;
	int result = atomic_slice(memory, gpa, size, &host);

	if (result)
		return result;
	return memory_compare_exchange(host, size, expected, desired) ? 0 : -EAGAIN;
}

int guest_memory_slice(const struct guest_memory *memory, gpa_t gpa, size_t length, void **host)
{
	uint64_t offset, here;

	if (!resolve(memory, gpa, length, &offset, &here) || here != length)
		return -EFAULT;
	*host = memory->guest_view + offset;
	return 0;
}

int guest_memory_iovec(const struct guest_memory *memory, gpa_t gpa, size_t length,
		       struct iovec *iov, size_t max, size_t *count)
{
	size_t used = 0;

	if (!guest_memory_contains(memory, gpa, length))
		return -EFAULT;
	while (length > 0) {
		uint64_t offset, here;

		if (used == max)
			return -ENOBUFS;
		if (!resolve(memory, gpa, length, &offset, &here))
			return -EFAULT;
		iov[used].iov_base = memory->guest_view + offset;
		iov[used].iov_len = here;
		used++;
		gpa += here;
		length -= here;
	}
	*count = used;
	return 0;
}

static int remove_pages(const struct guest_memory *memory, uint64_t offset, uint64_t length)
{
	int result;

	pthread_rwlock_wrlock(memory->fill_lock);
	result = madvise(memory->guest_view + offset, length, MADV_REMOVE) ? -errno : 0;
	pthread_rwlock_unlock(memory->fill_lock);
	return result;
}

int guest_memory_discard(const struct guest_memory *memory, gpa_t gpa, uint64_t length)
{
	if (!is_aligned(gpa | length, GUEST_PAGE_SIZE))
		return -EINVAL;
	if (!guest_memory_contains(memory, gpa, length))
		return -EFAULT;
	while (length > 0) {
		uint64_t offset, here;
		int result;

		if (!resolve(memory, gpa, length, &offset, &here))
			return -EFAULT;
		result = remove_pages(memory, offset, here);
		if (result)
			return result;
		gpa += here;
		length -= here;
	}
	return 0;
}

int guest_memory_discard_all(const struct guest_memory *memory)
{
	return remove_pages(memory, 0, memory->size);
}

void guest_memory_fill_begin(const struct guest_memory *memory)
{
	pthread_rwlock_rdlock(memory->fill_lock);
}

bool guest_memory_fill_try_begin(const struct guest_memory *memory)
{
	return pthread_rwlock_tryrdlock(memory->fill_lock) == 0;
}

void guest_memory_fill_end(const struct guest_memory *memory)
{
	pthread_rwlock_unlock(memory->fill_lock);
}

static bool is_page_range(const struct guest_memory *memory, uint64_t offset, uint64_t length)
{
	return is_aligned(offset | length, GUEST_PAGE_SIZE) &&
	       range_within(offset, length, memory->size);
}

int guest_memory_zap(const struct guest_memory *memory, uint64_t offset, uint64_t length)
{
	if (!is_page_range(memory, offset, length))
		return -EINVAL;
	return madvise(memory->guest_view + offset, length, MADV_DONTNEED) ? -errno : 0;
}

void guest_memory_forget(const struct guest_memory *memory, uint64_t offset, uint64_t length)
{
	if (is_page_range(memory, offset, length))
		madvise(memory->pager_view + offset, length, MADV_DONTNEED);
}

int guest_memory_punch(const struct guest_memory *memory, uint64_t offset, uint64_t length)
{
	if (!is_page_range(memory, offset, length))
		return -EINVAL;
	while (fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)length))
		if (errno != EINTR)
			return -errno;
	return 0;
}

int guest_memory_next_data(const struct guest_memory *memory, uint64_t offset, uint64_t *start,
			   uint64_t *end)
{
	off_t data, hole;

	if (offset >= memory->size)
		return -ENXIO;
	data = lseek(memory->fd, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return -errno;
	hole = lseek(memory->fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*start = align_down((uint64_t)data, GUEST_PAGE_SIZE);
	*end = (uint64_t)hole;
	return 0;
}

int guest_memory_count_present(const struct guest_memory *memory, uint64_t offset, uint64_t length,
			       uint64_t *pages)
{
	unsigned char present[1024];
	uint64_t count = 0;

	if (!is_page_range(memory, offset, length))
		return -EINVAL;
	while (length > 0) {
		uint64_t here = sizeof(present) * GUEST_PAGE_SIZE;

		if (here > length)
			here = length;
		/* The pager view: nothing of it is registered, so nothing is waited for. */
		if (mincore(memory->pager_view + offset, here, present))
			return -errno;
		for (uint64_t i = 0; i < here / GUEST_PAGE_SIZE; i++)
			count += present[i] & 1;
		offset += here;
		length -= here;
	}
	*pages = count;
	return 0;
}

int guest_memory_read_offset(const struct guest_memory *memory, uint64_t offset, void *buffer,
			     size_t length)
{
	if (!range_within(offset, length, memory->size))
		return -EINVAL;
	return io_pread_full(memory->fd, buffer, length, (off_t)offset);
}

int guest_memory_allocated(const struct guest_memory *memory, uint64_t *bytes)
{
	struct stat info;

	if (fstat(memory->fd, &info))
		return -errno;
	*bytes = (uint64_t)info.st_blocks * 512;
	return 0;
}
