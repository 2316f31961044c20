#include "memory/access.h"

#include <errno.h>
#include <string.h>

#include "memory/atomic.h"
#include "memory/guest_memory.h"
#include "vmm/base/checked.h"

enum access_kind {
	ACCESS_READ,
	ACCESS_WRITE,
	ACCESS_FILL,
	ACCESS_EXCHANGE
};

/* One access inside one page. */
struct page_access {
	enum access_kind kind;
	uint64_t address; /* in the backing's address space */
	size_t length;
	uint8_t *read_to;
	const uint8_t *write_from;
	uint8_t fill;
	uint64_t *expected;
	uint64_t desired;
};

static bool may_use_mapping(const struct guest_access *access, uint64_t address)
{
	uint64_t page = address >> GUEST_PAGE_SHIFT;

	if (!access->mapping)
		return false;
	return !access->bitmap ||
	       (__atomic_load_n((const uint64_t *)&access->bitmap[page / 64], __ATOMIC_ACQUIRE) >>
		(page % 64)) &
		       1;
}

static int through_mapping(const struct guest_access *access, const struct page_access *op)
{
	uint8_t *host = access->mapping + op->address;

	switch (op->kind) {
	case ACCESS_READ:
		memcpy(op->read_to, host, op->length);
		return 0;
	case ACCESS_WRITE:
		memcpy(host, op->write_from, op->length);
		return 0;
	case ACCESS_FILL:
		memset(host, op->fill, op->length);
		return 0;
	default:
		return memory_compare_exchange(host, (unsigned)op->length, op->expected,
					       op->desired)
			       ? 0
			       : -EAGAIN;
	}
}

static int through_fallback(const struct guest_access *access, const struct page_access *op)
{
	const struct guest_access_ops *ops = access->ops;

	switch (op->kind) {
	case ACCESS_READ:
		return ops->read_fallback ? ops->read_fallback(access->opaque, op->address,
							       op->read_to, op->length)
					  : -EFAULT;
	case ACCESS_WRITE:
		return ops->write_fallback ? ops->write_fallback(access->opaque, op->address,
								 op->write_from, op->length)
					   : -EFAULT;
	case ACCESS_FILL:
		return ops->fill_fallback ? ops->fill_fallback(access->opaque, op->address,
							       op->fill, op->length)
					  : -EFAULT;
	default:
		return ops->compare_exchange_fallback
			       ? ops->compare_exchange_fallback(access->opaque, op->address,
								(unsigned)op->length, op->expected,
								op->desired)
			       : -EFAULT;
	}
}

static int access_page(const struct guest_access *access, const struct page_access *op)
{
	enum guest_access_fault answer = GUEST_ACCESS_FALLBACK;

	do {
		if (may_use_mapping(access, op->address))
			return through_mapping(access, op);
		if (access->ops->page_fault)
			answer = access->ops->page_fault(access->opaque, op->address,
							 op->kind != ACCESS_READ);
	} while (answer == GUEST_ACCESS_RETRY);
	return answer == GUEST_ACCESS_FALLBACK ? through_fallback(access, op) : -EFAULT;
}

/* The gate: 0 with *start in the backing's address space, or -EFAULT. */
static int resolve(const struct guest_access *access, uint64_t address, uint64_t length,
		   uint64_t *start)
{
	if (!checked_add(access->base_iova, address, start) ||
	    !range_within(*start, length, access->max_address))
		return -EFAULT;
	return 0;
}

/* Cuts [address, address + length) at page boundaries. */
static int access_range(const struct guest_access *access, uint64_t address, size_t length,
			struct page_access op)
{
	uint64_t at;
	int result = resolve(access, address, length, &at);

	while (!result && length > 0) {
		uint64_t room = GUEST_PAGE_SIZE - (at & (GUEST_PAGE_SIZE - 1));

		op.address = at;
		op.length = length < room ? length : room;
		result = access_page(access, &op);
		if (op.read_to)
			op.read_to += op.length;
		if (op.write_from)
			op.write_from += op.length;
		at += op.length;
		length -= op.length;
	}
	return result;
}

int guest_access_read(const struct guest_access *access, uint64_t address, void *buffer,
		      size_t length)
{
	return access_range(access, address, length,
			    (struct page_access){.kind = ACCESS_READ, .read_to = buffer});
}

int guest_access_write(const struct guest_access *access, uint64_t address, const void *buffer,
		       size_t length)
{
	return access_range(access, address, length,
			    (struct page_access){.kind = ACCESS_WRITE, .write_from = buffer});
}

int guest_access_fill(const struct guest_access *access, uint64_t address, uint8_t value,
		      size_t length)
{
	return access_range(access, address, length,
			    (struct page_access){.kind = ACCESS_FILL, .fill = value});
}

int guest_access_compare_exchange(const struct guest_access *access, uint64_t address,
				  unsigned size, uint64_t *expected, uint64_t desired)
{
	uint64_t at;
	int result = resolve(access, address, size, &at);

	if (result)
		return result;
	if ((size != 1 && size != 2 && size != 4 && size != 8) || !is_aligned(at, size))
		return -EINVAL;
	return access_page(access, &(struct page_access){
					   .kind = ACCESS_EXCHANGE,
					   .address = at,
					   .length = size,
					   .expected = expected,
					   .desired = desired,
				   });
}

int guest_access_subrange(const struct guest_access *access, uint64_t offset, uint64_t length,
			  struct guest_access *out)
{
	uint64_t start;
	int result = resolve(access, offset, length, &start);

	if (result)
		return result;
	*out = *access;
	out->base_iova = start;
	out->max_address = start + length;
	return 0;
}

int guest_access_va(const struct guest_access *access, uint64_t address, size_t length, void **host)
{
	uint64_t start;
	int result = resolve(access, address, length, &start);

	if (result)
		return result;
	if (!access->expose_va || !access->mapping || access->bitmap)
		return -ENOTSUP;
	*host = access->mapping + start;
	return 0;
}
