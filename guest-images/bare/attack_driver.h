/*
 * The driver behind the attacks: brings any virtio device up by the rules, or leaves steps out. It
 * shares the constants of virtio.h with the guest's honest driver and none of its state.
 */
#ifndef EBB_BARE_ATTACK_DRIVER_H
#define EBB_BARE_ATTACK_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio.h"
#include "virtio_registers.h"

/* Fewer than VIRTQ_SIZE: some devices' queues are short. */
#define ATTACK_QUEUE_SIZE 32
#define ATTACK_QUEUES_MAX 8

#define ATTACK_MOMENT  (1ull << 23) /* cycles: a few milliseconds */
#define ATTACK_TIMEOUT (1ull << 35)

struct attacker {
	uint64_t base;
	uint32_t device_id;
	unsigned queue_count;
	struct virtq *queues[ATTACK_QUEUES_MAX];
};

/* Two pages for buffers. */
extern uint8_t attack_data[8192];

/* False: no device in that slot. The device is reset. */
bool attacker_take(struct attacker *a, uint64_t base);
/* The first device of its kind. @beside: with rings of its own, while another device is taken. */
bool attacker_find(struct attacker *a, uint32_t device_id, bool beside);

/* Queues whose chains the device looks at as soon as they are there: bit N for queue N. */
uint32_t attacker_eager_queues(const struct attacker *a);

/* Reset, features and queues by the rules, DRIVER_OK. NULL, or why it failed. */
const char *attacker_bring_up(struct attacker *a);
/* The parts of it before and after the queues. */
void attacker_begin(struct attacker *a);
void attacker_finish(struct attacker *a);

void attacker_write(struct attacker *a, uint32_t reg, uint32_t value);
void attacker_write64(struct attacker *a, uint32_t reg, uint64_t value);
/* One access of 1, 2, 4 or 8 bytes anywhere; writes put zeros. */
void attacker_touch(uint64_t address, unsigned size, bool write);

void attacker_set_desc(struct attacker *a, unsigned queue, uint16_t index, uint64_t address,
		       uint32_t length, uint16_t flags, uint16_t next);
void attacker_publish(struct attacker *a, unsigned queue, uint16_t head);
void attacker_kick(struct attacker *a, uint32_t queue);

/* Chains given back since the device was brought up. */
uint16_t attacker_used(const struct attacker *a, unsigned queue);
/* True once that many are; false if the device breaks first, or for @cycles nothing comes of it. */
bool attacker_await(const struct attacker *a, unsigned queue, uint16_t count, uint64_t cycles);

/* Lets the device do what it will: until it answers, breaks or a moment has passed. */
void attacker_settle(struct attacker *a, unsigned queue);
bool attacker_is_broken(const struct attacker *a);
/* Waits seconds for it. */
bool attacker_wait_broken(const struct attacker *a);

/* Brings the device up again and has it do something useful, if it can without help. NULL or why not. */
const char *attacker_check_health(struct attacker *a);

#endif
