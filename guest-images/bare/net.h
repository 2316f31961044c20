/*
 * Driver of virtio-net (virtio 1.2, section 5.1), and as much of a network stack as tests need: ARP,
 * IPv4, ICMP echo, UDP echo (port 7) and discard (port 9); TCP segments are only counted.
 *
 * Every checksum is verified. Addresses of IPv4 are numbers (10.0.0.2 is 0x0a000002). Every command
 * function answers its command.
 */
#ifndef EBB_BARE_NET_H
#define EBB_BARE_NET_H

#include <stdint.h>

/* Takes a further card into use. NULL, or why not. */
const char *net_start(uint64_t base);

/* net list */
void net_command_list(const uint64_t *arguments);
/* net info CARD */
void net_command_info(const uint64_t *arguments);
/* net features CARD MASK: resets the card and takes those features that it offers */
void net_command_features(const uint64_t *arguments);
/* net serve CARD ADDRESS: answers what comes until a byte on the serial line; counts */
void net_command_serve(const uint64_t *arguments);
/* net send CARD ADDRESS TO PORT COUNT SIZE: datagrams that begin with their number */
void net_command_send(const uint64_t *arguments);
/* net segment CARD ADDRESS TO SIZE: one TCP frame of SIZE bytes for the device to segment */
void net_command_segment(const uint64_t *arguments);

#endif
