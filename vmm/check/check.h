/*
 * `ebb check`: can this host run guests, and swap them? Found out by trying, not by version; for
 * what is missing it names the command that mends it. One thread; leaves nothing behind on the
 * host.
 */
#ifndef EBB_VMM_CHECK_CHECK_H
#define EBB_VMM_CHECK_CHECK_H

/*
 * `ebb check [--json] [--swap-dir DIR]`. Returns the exit status: 0 if guests run and swap works
 * here, 1 if not, 2 for wrong usage.
 *
 * --json prints one object:
 *   can_run        guests run
 *   can_swap       their memory can be swapped out
 *   stock_kernels  guests may be stock Linux kernels; false: only guests that keep their kernel
 *                  code to plain instructions, because this host's KVM emulates ring 0
 *   ring0_mips     million kernel-mode instructions a second, as the probe guest measured it
 *   checks         array of {name, ok, needed, detail, fix}; fix is null where all is well or
 *                  nothing can be done
 */
int check_main(int argc, char **argv);

#endif
