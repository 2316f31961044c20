/*
 * The machine's parts, shared by the files vmm/machine/machine*.c alone.
 *
 *   machine.c           what it is made of (machine_create), its life: start, pause, reset, stop
 *   machine_vm.c        KVM's share: VM, memslots, interrupt wiring, vCPU state
 *   machine_devices.c   the platform's devices, everybody's place on the buses, the I/O thread
 *   machine_virtio.c    the virtio devices
 *   machine_net.c       network cards and their backends
 *   machine_events.c    what other threads report: reset, poweroff, crash, swap trouble
 *
 * The main thread alone changes the machine. machine->lock guards the fields named below and is
 * held for moments: never while waiting for a thread or touching guest RAM.
 */
#ifndef EBB_VMM_MACHINE_MACHINE_INTERNAL_H
#define EBB_VMM_MACHINE_MACHINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/platform.h"
#include "devices/bus.h"
#include "memory/guest_memory.h"
#include "swap/swap.h"
#include "vmm/base/event_loop.h"
#include "vmm/machine/chardev.h"
#include "vmm/machine/kvm.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/vcpu.h"

#define MACHINE_CRASH_REASON_MAX 1024

/* Virtio slots with a fixed use; what the user asked for comes behind, disks first. */
enum {
	SLOT_RNG,
	SLOT_BALLOON,
};

struct virtio_mmio;
struct virtio_device;
struct serial;
struct i8042;
struct rtc;
struct power;
struct pvpanic;

struct machine_net {
	struct virtio_device *device; /* its transport's */
	const char *backend;
	uint8_t mac[6];
};

struct machine_devices {
	struct bus *pio;
	struct bus *mmio;
	struct chardev *chardev;         /* the serial port's; borrowed */
	struct chardev *console_chardev; /* NULL: no console; borrowed */
	struct serial *serial;
	struct i8042 *i8042;
	struct rtc *rtc;
	struct pvpanic *pvpanic;
	struct power *power;
	struct virtio_mmio *virtio[PLATFORM_VIRTIO_SLOTS]; /* behind virtio_count: placeholders */
	unsigned virtio_count;
	struct machine_net nets[VM_NETS_MAX];
	size_t net_count;
	struct virtio_device *console; /* NULL: none; its slot owns it */
	struct virtio_device *vsock;   /* the same */

	struct event_loop *io_loop;
	pthread_t io_thread;
	bool io_running; /* main thread only */
	int ping_fd;     /* main asks whether the I/O thread lives… */
	int pong_fd;     /* …and it answers */
};

struct machine {
	unsigned cpus;
	struct guest_memory *memory;
	struct boot_image *image;
	struct boot_entry entry;
	struct machine_devices devices;
	struct kvm kvm;
	struct vcpu_env vcpu_env;
	struct swap *swap;

	pthread_mutex_t lock; /* guards the rest but for the atomics */
	struct vcpus *vcpus;  /* changed by the main thread, under the lock */
	enum machine_state state;
	char reason[256];
	enum machine_event guest_request; /* RESET, POWEROFF or CRASH: the first one counts */
	char crash_reason[MACHINE_CRASH_REASON_MAX];
	uint64_t started_ns;
	uint64_t resets;
	bool panicked, crash_loaded;
	uint64_t process_start_ns;
	uint64_t first_run_ns;
	struct machine_balloon_status balloon; /* as last seen */

	int event_fd;
	atomic_uint pending_events; /* bits 1 << enum machine_event */
	atomic_bool stuck;          /* swap cannot provide memory */
};

/* machine_vm.c */
int machine_vm_create(struct machine *machine, struct error *err);
/* The vCPU threads have ended. Legal after any failure of machine_vm_create(), and twice. */
void machine_vm_destroy(struct machine *machine);
/* Loads the kernel into RAM, which reads as zeros, and vCPU 0's registers. */
int machine_load(struct machine *machine, struct error *err);

/* machine_devices.c */
int machine_devices_create(struct machine *machine, const struct vm_config *config,
			   struct chardev *serial, struct chardev *console, struct error *err);
/* The I/O thread does not run. Legal after any failure of machine_devices_create(). */
void machine_devices_destroy(struct machine *machine);
/* The vCPUs are stopped, the I/O thread runs. Fails if a device's transfers do not end. */
int machine_devices_reset(struct machine *machine, struct error *err);
/* Interrupts and queue kicks by KVM, without a detour through a thread of ours. */
int machine_devices_wire(struct machine *machine, struct error *err);
int machine_io_start(struct machine *machine, struct error *err);
/* False: it does not answer within a second. */
bool machine_io_answers(struct machine *machine);
/* False: the I/O thread does not end, because it sleeps in guest memory for ever. */
bool machine_io_stop(struct machine *machine);

/* machine_virtio.c; threads and failures as above */
int machine_virtio_create(struct machine *machine, const struct vm_config *config,
			  struct error *err);
int machine_virtio_reset(struct machine *machine, struct error *err);
int machine_virtio_wire(struct machine *machine, struct error *err);
/* Bit N: slot N has a device. */
uint32_t machine_virtio_slots(const struct machine *machine);

/* machine_net.c */
/* Card @index of @config; the caller takes *out over. */
int machine_net_create(struct machine *machine, const struct vm_config *config, size_t index,
		       struct virtio_device **out, struct error *err);
void machine_net_get_status(const struct machine *machine, struct machine_status *status);

/* machine_events.c: callbacks, on any thread */
void machine_on_first_run(void *opaque);
void machine_on_guest_reset(void *opaque);
void machine_on_guest_poweroff(void *opaque);
void machine_on_guest_panic(void *opaque, bool crash_loaded);
void machine_on_balloon(void *opaque);
void machine_on_guest_crash(void *opaque, const char *reason);
void machine_on_swap_done(void *opaque);
void machine_on_swap_fatal(void *opaque, const char *reason);

/* Queues an event for the main thread. Any thread. */
void machine_post_event(struct machine *machine, enum machine_event event);

#endif
