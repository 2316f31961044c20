/*
 * A network backend over a connected stream socket: see net_framing.h for what goes over it.
 *
 * It has no offloads: every frame has its checksum, and is no longer than Ethernet's length field
 * could say. Nothing that the other side sends or does can harm more than this backend.
 */
#ifndef EBB_DEVICES_NET_STREAM_H
#define EBB_DEVICES_NET_STREAM_H

#include "devices/net_backend.h"

/*
 * Takes @fd, which must be non-blocking, and closes it in the end; on failure it stays the caller's.
 * 0 or -errno. The backend is gone with -EPROTO when the other side breaks the framing, with
 * -ECONNRESET when it closes.
 */
int net_stream_create(int fd, struct net_backend **out);

#endif
