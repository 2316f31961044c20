#include "devices/block_io.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/block_io_backend.h"

static int create_backend(const struct block_io *base, enum block_io_kind kind, unsigned depth,
			  struct block_io **out)
{
	int result;

	if (kind == BLOCK_IO_POOL)
		return block_io_pool_create(base, out);
	result = block_io_uring_create(base, depth, out);
	/* Containers and hardened hosts forbid it (EPERM, EACCES), old kernels lack it (ENOSYS). */
	if (result && kind == BLOCK_IO_AUTO)
		result = block_io_pool_create(base, out);
	return result;
}

int block_io_create(const struct block *block, enum block_io_kind kind, unsigned depth,
		    struct block_io **out)
{
	struct block_io base = {.block = block};
	int result;

	base.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (base.event_fd < 0)
		return -errno;
	result = create_backend(&base, kind, depth, out);
	if (result)
		close(base.event_fd);
	return result;
}

void block_io_destroy(struct block_io *io)
{
	int event_fd;

	if (!io)
		return;
	event_fd = io->event_fd;
	io->ops->destroy(io);
	close(event_fd);
}

void block_io_submit(struct block_io *io, struct block_request *request)
{
	request->next = NULL;
	io->ops->submit(io, request);
}

void block_io_kick(struct block_io *io)
{
	io->ops->kick(io);
}

unsigned block_io_reap(struct block_io *io)
{
	struct block_request *request;
	unsigned count = 0;
	eventfd_t value;

	/* Clear it first: what completes after that sets it again. */
	eventfd_read(io->event_fd, &value);
	request = io->ops->reap(io);
	while (request) {
		struct block_request *next = request->next;

		request->done(request, request->result);
		request = next;
		count++;
	}
	return count;
}

int block_io_event_fd(const struct block_io *io)
{
	return io->event_fd;
}

int block_io_wait(struct block_io *io, uint64_t deadline)
{
	return io->ops->wait(io, deadline);
}

void block_io_abandon(struct block_io *io, bool abandon)
{
	atomic_store(&io->abandoned, abandon);
	if (io->ops->abandon)
		io->ops->abandon(io, abandon);
}

size_t block_request_slice(const struct block_request *request)
{
	uint64_t bytes = 0;
	size_t count = 0;

	while (count < request->iov_count) {
		bytes += request->iov[count].iov_len;
		if (bytes > BLOCK_SLICE)
			break;
		count++;
	}
	return count;
}

void block_request_advance(struct block_request *request, uint64_t bytes)
{
	request->offset += bytes;
	request->length -= bytes;
	while (request->iov_count > 0 && bytes >= request->iov->iov_len) {
		bytes -= request->iov->iov_len;
		request->iov++;
		request->iov_count--;
	}
	if (bytes > 0) {
		request->iov->iov_base = (char *)request->iov->iov_base + bytes;
		request->iov->iov_len -= bytes;
	}
}
