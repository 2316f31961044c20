/*
 * A network for tests: a backend that is one end of a socket pair which keeps frames apart
 * (SOCK_SEQPACKET). Whoever holds the other end is the network. A message is a frame behind its
 * struct virtio_net_hdr_v1.
 */
#ifndef EBB_TESTS_UNIT_NET_PAIR_H
#define EBB_TESTS_UNIT_NET_PAIR_H

#include "devices/net_backend.h"

/* The two ends, non-blocking. 0 or -errno. */
int net_pair_open(int *network, int *backend);

/* For struct net_backend_ops. */
ssize_t net_pair_receive(struct net_backend *backend, void *buffer);
int net_pair_send(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
		  const struct iovec *frame, size_t count);
void net_pair_destroy(struct net_backend *backend);

#endif
