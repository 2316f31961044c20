/*
 * `ebb run`: one machine from its options to its end. The main thread runs the event loop, and
 * with it signals, the serial line's host side, control socket, metrics and the automatic policy;
 * it owns all of these, and the machine, and takes them apart in the reverse order.
 */
#ifndef EBB_VMM_RUN_H
#define EBB_VMM_RUN_H

/*
 * Runs a VM until it ends. Returns the exit status: 0 the guest powered down or `quit`, 1 it
 * crashed or could not start, 2 wrong usage.
 *
 * SIGTERM, SIGINT and SIGHUP ask the guest to power down, a second one ends the program. With
 * --dump-dtb FILE the device tree is written, and nothing is run.
 */
int run_main(int argc, char **argv);

#endif
