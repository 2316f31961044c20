/*
 * The bare guest as an attacker of a disk whose I/O is under way: resets it, takes its queue away,
 * moves it; and of the machine: ways to end or reset it while that I/O runs.
 */
#ifndef EBB_BARE_ATTACK_DISK_H
#define EBB_BARE_ATTACK_DISK_H

#include <stdint.h>

/* Runs case @number on the first disk. Answers: name, count (of the cases), status, healthy (1). */
void attack_command_disk(uint64_t number);

/*
 * Asks for a reset of the machine in way @way; @io: while the disk has requests under way. Answers
 * ways=N before that, and survived=1 after a while in which nothing happened.
 */
void attack_command_reset(uint64_t way, uint64_t io);

/*
 * Does everything that makes the VMM complain, on every device, again and again for @seconds (about:
 * by the TSC at 2 GHz). Answers rounds=N.
 */
void attack_command_noise(uint64_t seconds);

#endif
