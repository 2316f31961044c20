/*
 * A second virtual CPU that writes two values to one place of memory in turn, as fast as it can: what
 * a driver does that changes a descriptor while the device looks at it.
 */
#ifndef EBB_BARE_SECOND_CPU_H
#define EBB_BARE_SECOND_CPU_H

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

/* Starts it, once. False: the machine has one CPU, or it does not come. */
bool second_cpu_start(void);

/* Has it write @first and @second to *@place (8 bytes, aligned) until second_cpu_stop(). */
void second_cpu_flip(volatile uint64_t *place, uint64_t first, uint64_t second);
/* How often it wrote. It does not write any more. */
uint64_t second_cpu_stop(void);

/* second start ADDRESS: the same with the values 1 and 2, in free RAM whose content is given up */
void second_cpu_command_start(uint64_t address);
/* second stop: how often it wrote since, and what is there now */
void second_cpu_command_stop(void);

_Noreturn void second_cpu_work(void);
#endif

#endif
