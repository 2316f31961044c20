/*
 * One virtual machine: guest RAM, KVM, devices, vCPUs and swap, put together by machine_create().
 *
 * The state of a machine (who may change it is in brackets; machine->lock guards it):
 *
 *   created ──start──► running ◄──resume── paused
 *                        │ ▲  └───pause────►  ▲
 *                        │ └── guest reset ┘   └─ swap cannot provide memory
 *                        └──poweroff, quit, crash──► stopped
 *
 * Every function may be called from the main thread; those marked "any thread" from others too.
 * Things that happen on other threads (guest poweroff, reset, crash, swap trouble, operation done)
 * are queued and told through machine_event_fd()/machine_next_event(), to be handled by the main
 * thread.
 */
#ifndef EBB_VMM_MACHINE_MACHINE_H
#define EBB_VMM_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

struct machine;
struct swap;
struct guest_memory;
struct chardev;

enum machine_state {
	MACHINE_CREATED,
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_STOPPED,
};

enum machine_event {
	MACHINE_EVENT_NONE,
	MACHINE_EVENT_POWEROFF,     /* the guest powered down: the program ends with status 0 */
	MACHINE_EVENT_RESET,        /* the guest asked for a reset: call machine_reset() */
	MACHINE_EVENT_RESET_FAILED, /* and there is no guest any more: status 1 */
	MACHINE_EVENT_CRASH,      /* triple fault or KVM error: machine_crash_reason(); status 1 */
	MACHINE_EVENT_SWAP_DONE,  /* a swap operation ended */
	MACHINE_EVENT_PANIC,      /* the guest's kernel panicked (pvpanic), and goes on */
	MACHINE_EVENT_BALLOON,    /* the guest has put memory into the balloon, or taken it */
	MACHINE_EVENT_SWAP_FATAL, /* swap cannot provide memory: machine_swap_failed() */
};

struct machine_balloon_status {
	bool present;
	uint64_t actual_bytes; /* given back by the guest */
	uint64_t target_bytes;
	bool stats_valid; /* the guest reported statistics since boot */
	uint64_t stat_free;
	uint64_t stat_total;
	uint64_t stat_available;
	uint64_t stat_swap_in, stat_swap_out, stat_major_faults, stat_minor_faults,
		stat_disk_caches;
	uint64_t reported_bytes; /* free page reporting: bytes discarded so far */
};

struct machine_net_status {
	const char *backend; /* "tap" */
	uint8_t mac[6];
	bool link_up; /* false: the backend is gone */
	uint64_t rx_frames, rx_bytes, rx_dropped;
	uint64_t tx_frames, tx_bytes, tx_dropped;
};

struct machine_status {
	enum machine_state state;
	char reason[256]; /* why it is paused or stopped, "" if the user asked for it */
	unsigned vcpus;
	uint64_t memory_bytes;
	uint64_t memory_allocated_bytes; /* blocks of the memfd */
	uint64_t uptime_ns;              /* since start or the last reset */
	uint64_t resets;
	bool panicked;         /* the guest's kernel, since start or the last reset */
	bool crash_loaded;     /* it had a crash kernel loaded when it did */
	uint64_t first_run_ns; /* from process start to the first KVM_RUN; 0 before */
	struct machine_balloon_status balloon;
	struct machine_net_status nets[VM_NETS_MAX];
	size_t net_count;
};

/*
 * Builds the machine: opens /dev/kvm, allocates RAM, loads the kernel, creates devices. @serial is
 * the character device behind the guest's serial port, @console the one behind its virtio console
 * (NULL: it has none); both are borrowed. No thread runs yet.
 */
int machine_create(const struct vm_config *config, struct chardev *serial, struct chardev *console,
		   struct machine **out, struct error *err);

/* When the program started (CLOCK_MONOTONIC), for machine_status.first_run_ns. Before the start. */
void machine_set_process_start(struct machine *machine, uint64_t start_ns);

/* Writes the device tree that the guest is given to @path. Before the start. */
int machine_dump_dtb(struct machine *machine, const char *path, struct error *err);

/*
 * Ends the vCPUs and the I/O thread: true, and only machine_destroy() is left to do. False if one
 * of them is stuck: then nothing can be freed, the program has to leave by _exit().
 */
bool machine_stop(struct machine *machine);

/* Stops the machine if that was not done, frees everything. Not if it is stuck. NULL is legal. */
void machine_destroy(struct machine *machine);

/* Removes the files of the machine's sockets: for a program that leaves while it is stuck. */
void machine_remove_sockets(struct machine *machine);

/* The terminal behind the virtio console has a new size. */
void machine_resize_console(struct machine *machine, uint16_t columns, uint16_t rows);

/* Starts the threads: the vCPUs and the I/O thread. */
int machine_start(struct machine *machine, struct error *err);

/*
 * Stops the vCPUs at the next instruction boundary and waits for them; -EINVAL with the state named
 * if it is not running. Devices keep serving what they have taken. machine_resume() is the reverse.
 */
int machine_pause(struct machine *machine, struct error *err);
int machine_resume(struct machine *machine, struct error *err);

/* Presses the ACPI power button. -EINVAL if not running. Any thread. */
int machine_powerdown(struct machine *machine, struct error *err);

/*
 * Starts the guest anew: devices reset, RAM discarded, kernel loaded again. Keeps a pause. Where it
 * fails half-way the machine is stopped, and MACHINE_EVENT_RESET_FAILED follows.
 */
int machine_reset(struct machine *machine, struct error *err);

/*
 * Ends what swap does beside serving faults, for good, and waits for that. False: it does not end, for
 * the store's disk does not answer.
 */
bool machine_quit_swap(struct machine *machine);

/* Sets the balloon so that the guest keeps @guest_bytes. -ENODEV, -ERANGE, -EINVAL (stopped). */
int machine_set_balloon(struct machine *machine, uint64_t guest_bytes, struct error *err);

/* Readable (an eventfd) when machine_next_event() has something. */
int machine_event_fd(const struct machine *machine);
enum machine_event machine_next_event(struct machine *machine);
const char *machine_crash_reason(const struct machine *machine);

/* On MACHINE_EVENT_SWAP_FATAL: the machine is paused without waiting for its vCPUs, reason kept. */
void machine_swap_failed(struct machine *machine);

/* True if vCPUs or device threads may be stuck for ever in guest memory: exit without joining them.
 */
bool machine_is_stuck(const struct machine *machine);

void machine_get_status(struct machine *machine, struct machine_status *status); /* any thread */
/* That the vCPUs have used since the start or the last reset. Any thread. */
uint64_t machine_cpu_time_ns(struct machine *machine);

struct swap *machine_swap(struct machine *machine);
const struct guest_memory *machine_memory(const struct machine *machine);

const char *machine_state_name(enum machine_state state);

#endif
