/*
 * The cases of the attack on one queue of any device: attack_chains.c has what is wrong with
 * descriptors and buffers, attack_setup.c with rings, set-up, registers.
 */
#ifndef EBB_BARE_ATTACK_CASES_H
#define EBB_BARE_ATTACK_CASES_H

#include <stddef.h>

#include "attack_driver.h"

/* What a case's device has to do. */
enum outcome {
	SURVIVE, /* anything but harm: the case is legal, or its effect is left to the device */
	BREAK,   /* say DEVICE_NEEDS_RESET, on a queue that it serves by itself */
	REFUSE,  /* not take the queue */
};

struct attack_case {
	const char *name;
	enum outcome outcome;
	void (*run)(struct attacker *a, unsigned q);
};

extern const struct attack_case attack_chain_cases[], attack_setup_cases[];
extern const size_t attack_chain_case_count, attack_setup_case_count;

/* The first byte behind RAM's first region. */
uint64_t attack_end_of_ram(void);
/* One descriptor at head 0, made available. */
void attack_submit_one(struct attacker *a, unsigned q, uint64_t address, uint32_t length,
		       uint16_t flags, uint16_t next);

#endif
