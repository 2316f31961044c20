#include "swap/dump.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/guest_memory.h"
#include "vmm/base/io.h"

/* Between two reports of progress. */
#define PIECE (1ull << 20)

/* What is done with each piece. */
typedef int (*dump_sink)(void *sink, uint64_t address, const uint8_t *data, size_t length);

static int for_each_piece(const struct guest_access *access, dump_sink sink, void *sink_opaque,
			  dump_progress progress, void *opaque)
{
	uint64_t end = access->max_address - access->base_iova;
	uint8_t *piece = malloc(PIECE);
	int result = piece ? 0 : -ENOMEM;

	for (uint64_t address = 0; !result && address < end;) {
		size_t length = end - address < PIECE ? (size_t)(end - address) : PIECE;

		result = guest_access_read(access, address, piece, length);
		if (!result)
			result = sink(sink_opaque, address, piece, length);
		address += length;
		if (!result)
			result = progress(opaque, address);
	}
	free(piece);
	return result;
}

static bool is_zero(const uint8_t *data, size_t length)
{
	return data[0] == 0 && !memcmp(data, data + 1, length - 1);
}

static int write_piece(void *sink, uint64_t address, const uint8_t *data, size_t length)
{
	const int *fd = sink;
	size_t at = 0;

	while (at < length) {
		size_t run = at;
		int result;

		while (run < length && !is_zero(data + run, GUEST_PAGE_SIZE))
			run += GUEST_PAGE_SIZE;
		if (run > at) {
			result = io_pwrite_full(*fd, data + at, run - at, (off_t)(address + at));
			if (result)
				return result;
		}
		/* The page that ended the run is zero, or the piece's end. */
		at = run + GUEST_PAGE_SIZE;
	}
	return 0;
}

int dump_memory(const struct guest_access *access, int fd, dump_progress progress, void *opaque)
{
	uint64_t size = access->max_address - access->base_iova;

	assert(size % GUEST_PAGE_SIZE == 0);
	if (ftruncate(fd, (off_t)size))
		return -errno;
	return for_each_piece(access, write_piece, &fd, progress, opaque);
}

static int digest_piece(void *sink, uint64_t address, const uint8_t *data, size_t length)
{
	(void)address;
	return EVP_DigestUpdate(sink, data, length) == 1 ? 0 : -EIO;
}

int dump_digest(const struct guest_access *access, dump_progress progress, void *opaque,
		char digest[static DUMP_DIGEST_SIZE])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t raw[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	int result = -ENOMEM;

	if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		goto free_context;
	result = for_each_piece(access, digest_piece, context, progress, opaque);
	if (!result && EVP_DigestFinal_ex(context, raw, &length) != 1)
		result = -EIO;
	if (result)
		goto free_context;
	assert(2 * length + 1 == DUMP_DIGEST_SIZE);
	for (size_t i = 0; i < length; i++)
		snprintf(digest + 2 * i, 3, "%02x", raw[i]);
free_context:
	EVP_MD_CTX_free(context);
	return result;
}
