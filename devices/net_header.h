/*
 * What may stand in a frame's struct virtio_net_hdr_v1 (virtio 1.2, sections 5.1.6.2 and 5.1.6.4).
 *
 * Pure functions over a copy of the header; @features are those that the driver has negotiated,
 * less the ones whose conditions are not met (net_header_settle()).
 */
#ifndef EBB_DEVICES_NET_HEADER_H
#define EBB_DEVICES_NET_HEADER_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

/* Without features that lack another one that they need (section 5.1.3.1). */
uint64_t net_header_settle(uint64_t features);

/*
 * The driver sends a frame of @length bytes (without the header). False if it asks for what was not
 * negotiated or makes no sense; else only what counts is left in the header.
 */
bool net_header_check_sent(struct virtio_net_hdr_v1 *header, uint64_t length, uint64_t features);

/*
 * A backend has received a frame of @length bytes. False if the driver could not understand it, as
 * one that was queued for a driver of before; else the header is fit for the driver.
 */
bool net_header_check_received(struct virtio_net_hdr_v1 *header, uint64_t length,
			       uint64_t features);

#endif
