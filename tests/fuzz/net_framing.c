/*
 * A stream of frames, cut wherever the input wants: what is found in it does not depend on the cuts,
 * and is what a reader of the whole finds.
 */
#include "devices/net_framing.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/param.h>

#include "tests/fuzz/input.h"

#define PREFIX NET_FRAMING_PREFIX

/* The reader that has all of it: where the next frame is, its size, or -errno. */
static ssize_t find(const uint8_t *stream, size_t left)
{
	size_t length;

	if (left < PREFIX)
		return -EAGAIN;
	length = (size_t)stream[0] << 24 | (size_t)stream[1] << 16 | (size_t)stream[2] << 8 |
		 stream[3];
	if (length < NET_FRAMING_MIN || length > NET_FRAMING_MAX)
		return -EPROTO;
	return left - PREFIX < length ? -EAGAIN : (ssize_t)length;
}

/* Copies what @iov has space for, up to @most. Returns how much it was. */
static size_t fill(const struct iovec *iov, int count, const uint8_t *from, size_t most)
{
	size_t done = 0;

	for (int i = 0; i < count; i++) {
		size_t size = MIN(iov[i].iov_len, most - done);

		if (!iov[i].iov_len)
			abort(); /* a read of nothing would look like the end */
		memcpy(iov[i].iov_base, from + done, size);
		done += size;
	}
	return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct net_framing framing;
	static uint8_t frame[NET_FRAMING_MAX];
	/* The first half says where it is cut, the second half is the stream. */
	struct fuzz_input cuts = {data, size / 2};
	const uint8_t *stream = data + size / 2;
	size_t left = size - size / 2;
	size_t fed = 0;
	size_t start = 0; /* of the frame that is awaited */

	framing = (struct net_framing){0};
	while (fed < left) {
		size_t cut = 1 + (size_t)fuzz_u8(&cuts);
		size_t most = MIN(left - fed, cut);
		struct iovec iov[2];
		int count = net_framing_space(&framing, frame, iov);
		ssize_t wanted = find(stream + start, left - start);
		ssize_t got;

		most = fill(iov, count, stream + fed, most);
		got = net_framing_took(&framing, frame, most);
		fed += most;
		if (got > 0) {
			if (got != wanted ||
			    memcmp(frame, stream + start + PREFIX, (size_t)got) != 0)
				abort();
			start += PREFIX + (size_t)got;
			wanted = find(stream + start, fed - start);
			if (wanted >= 0)
				abort(); /* more was read than one frame and a prefix */
		}
		if (got < 0) {
			/* Also what came in one piece with a broken prefix is given up. */
			if (wanted > 0)
				start += PREFIX + (size_t)wanted;
			if (got != -EPROTO || find(stream + start, fed - start) != -EPROTO)
				abort();
			return 0;
		}
	}
	return 0;
}
