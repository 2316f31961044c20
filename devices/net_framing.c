#include "devices/net_framing.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

int net_framing_space(struct net_framing *framing, uint8_t *frame, struct iovec iov[2])
{
	if (framing->prefix_have < NET_FRAMING_PREFIX) {
		iov[0].iov_base = framing->prefix + framing->prefix_have;
		iov[0].iov_len = NET_FRAMING_PREFIX - framing->prefix_have;
		return 1;
	}
	memcpy(frame, framing->rest, framing->have);
	iov[0].iov_base = frame + framing->have;
	iov[0].iov_len = framing->length - framing->have;
	/* The present prefix has been read: the next one may take its place. */
	iov[1].iov_base = framing->prefix;
	iov[1].iov_len = NET_FRAMING_PREFIX;
	return 2;
}

/* A prefix that has just become whole is judged at once. */
static ssize_t read_prefix(struct net_framing *framing)
{
	uint32_t length;

	if (framing->prefix_have < NET_FRAMING_PREFIX)
		return 0;
	memcpy(&length, framing->prefix, sizeof(length));
	length = be32toh(length);
	if (length < NET_FRAMING_MIN || length > NET_FRAMING_MAX)
		return -EPROTO;
	framing->length = length;
	framing->have = 0;
	return 0;
}

ssize_t net_framing_took(struct net_framing *framing, const uint8_t *frame, size_t bytes)
{
	size_t length = framing->length;
	size_t missing;
	ssize_t result;

	if (framing->prefix_have < NET_FRAMING_PREFIX) {
		framing->prefix_have += bytes;
		return read_prefix(framing);
	}
	missing = length - framing->have;
	if (bytes < missing) {
		memcpy(framing->rest + framing->have, frame + framing->have, bytes);
		framing->have += bytes;
		return 0;
	}
	framing->prefix_have = bytes - missing;
	framing->have = 0;
	result = read_prefix(framing);
	return result ? result : (ssize_t)length;
}
