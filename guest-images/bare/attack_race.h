/* The bare guest as an attacker with two CPUs: one drives a device, the other rewrites its rings. */
#ifndef EBB_BARE_ATTACK_RACE_H
#define EBB_BARE_ATTACK_RACE_H

#include <stdint.h>

/*
 * Runs race @number on @queue of device @device for a while. Answers: name, requests (made), flips
 * (by the other CPU), broken (how often the device had to be reset), healthy. An unknown number is a
 * failure: there are as many races as numbers from 0 on that are none.
 */
void attack_command_race(uint64_t device, uint64_t queue, uint64_t number);

#endif
