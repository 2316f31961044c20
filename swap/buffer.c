#include "swap/buffer.h"

#include <sys/mman.h>

void *buffer_map(size_t size)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (bytes == MAP_FAILED)
		return NULL;
	madvise(bytes, size, MADV_DONTDUMP);
	madvise(bytes, size, MADV_DONTFORK);
	madvise(bytes, size, MADV_NOHUGEPAGE);
	return bytes;
}

void buffer_unmap(void *bytes, size_t size)
{
	if (bytes)
		munmap(bytes, size);
}
