/*
 * The bare guest as an attacker: a driver that breaks the rules of virtio on purpose, case by case,
 * and then looks whether the device, reset, works again.
 */
#ifndef EBB_BARE_ATTACK_H
#define EBB_BARE_ATTACK_H

#include <stdint.h>

/* Answers count=N; the cases' names are printed, one a line. */
void attack_command_list(void);

/* The virtio devices: count=N, and lines "device=I id=… queues=…". */
void attack_command_devices(void);

/*
 * Runs case @number on @queue of device @device. Answers: status (after the attack), used (chains
 * given back), broken (NEEDS_RESET was set), wants ("break", "refuse", "survive": what is right),
 * right (1 if so), healthy (1: after a reset the device did what it is there for).
 */
void attack_command_run(uint64_t device, uint64_t queue, uint64_t number);

/* Accesses of 1 to 8 bytes all over the port space (@kind 0) and the hole for MMIO (@kind 1). */
void attack_command_sweep(uint64_t kind);

#endif
