/*
 * Where probe_guest.c puts what its guest code (probe_guest_code.S) finds: memory, selectors, and
 * the port by which the guest says how it went. The assembler includes it too: #defines only.
 */
#ifndef EBB_VMM_CHECK_PROBE_GUEST_LAYOUT_H
#define EBB_VMM_CHECK_PROBE_GUEST_LAYOUT_H

#define PROBE_PORT 0xf4
#define PROBE_PASS 1
#define PROBE_FAIL 2

/* Guest-physical and virtual addresses, which are the same. */
#define PROBE_PML4   0x1000
#define PROBE_PDPT   0x2000
#define PROBE_PD     0x3000
#define PROBE_GDT    0x4000
#define PROBE_IDT    0x5000
#define PROBE_DATA   0x6000
#define PROBE_CODE   0x8000
#define PROBE_STACK  0x10000
#define PROBE_MEMORY 0x10000

#define PROBE_CODE_SELECTOR 0x08
#define PROBE_DATA_SELECTOR 0x10

#define PROBE_USER_DATA_SELECTOR 0x1b
#define PROBE_USER_CODE_SELECTOR 0x23
#define PROBE_USER_RFLAGS        0x3002 /* IOPL 3 */

#define PROBE_LOOP_COUNT 50000

#endif
