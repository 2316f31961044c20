/* A virtio-net whose backend is a net_pair.h: the test holds the other end, and is the network. */
#ifndef EBB_TESTS_VIRTIO_NET_FIXTURE_H
#define EBB_TESTS_VIRTIO_NET_FIXTURE_H

#include <stdatomic.h>

#include "devices/virtio_net.h"
#include "virtio_driver.h"

#define RX          0
#define TX          1
#define HEADER_SIZE sizeof(struct virtio_net_hdr_v1)

#define OFFLOADS                                                                                   \
	(VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) |             \
	 VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4))
#define MERGEABLE VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF)

/* Where the driver's frames and buffers are; the n-th is at n * AREA_STEP. */
#define TX_AREA   VIRTIO_DRIVER_DATA
#define RX_AREA   (VIRTIO_DRIVER_DATA + 0x200000)
#define AREA_STEP 0x20000u

struct net_fixture {
	struct net_backend backend; /* the device's, but this struct outlives it */
	struct virtio_driver driver;
	struct virtio_device *device;
	int network; /* the test's end */
	atomic_uint receives;
	_Atomic uint64_t offloads; /* as last set */
};

extern const uint8_t net_mac[VIRTIO_NET_MAC_BYTES];

int net_setup(void **state);
int net_teardown(void **state);

/* Starts the driver with VERSION_1 | @features. */
struct net_fixture *net_start(void **state, uint64_t features);

/* The network sends a frame of @length bytes, each @fill + its position. */
void network_send(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, uint8_t fill,
		  size_t length);

/* Waits for what the driver sent: the frame's length; 0 if none came within a while. */
size_t network_receive(struct net_fixture *f, struct virtio_net_hdr_v1 *header, uint8_t *frame,
		       size_t size);
/* True if nothing waits to be received now. */
bool network_is_quiet(struct net_fixture *f);

/* The driver sends a frame as network_send() fills it: header and frame in one descriptor. */
void driver_send(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, uint8_t fill,
		 uint32_t length);
/* Adds a receive buffer of @length bytes, the @n-th in memory, without a kick. */
uint16_t driver_add_buffer(struct net_fixture *f, unsigned n, uint32_t length);

/* Waits for a receive buffer to come back: bytes in it. */
uint32_t driver_wait_received(struct net_fixture *f);
bool driver_has_frame(struct net_fixture *f, unsigned n, size_t offset, uint8_t fill,
		      size_t length);
struct virtio_net_hdr_v1 driver_header(struct net_fixture *f, unsigned n);

struct virtio_net_counters net_counters(struct net_fixture *f);
/* Waits until @counter of the device's counters is @value: false if it does not become so. */
bool net_wait_counter(struct net_fixture *f, size_t offset, uint64_t value);
#define NET_WAIT(f, counter, value)                                                                \
	net_wait_counter(f, offsetof(struct virtio_net_counters, counter), value)

#endif
