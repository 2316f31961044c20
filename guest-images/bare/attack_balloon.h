/*
 * The bare guest as an attacker by its balloon: gives up what is no page, what is not its to give or
 * what a disk is busy with, and looks whether both devices, reset, work again.
 */
#ifndef EBB_BARE_ATTACK_BALLOON_H
#define EBB_BARE_ATTACK_BALLOON_H

#include <stdint.h>

/*
 * Runs case @number. Answers: name, count (of the cases), status (the balloon's after the attack),
 * disk (the disk's), right (1: the balloon broke if that is right), healthy (1).
 */
void attack_command_balloon(uint64_t number);

#endif
