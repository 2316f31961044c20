#include "vmm/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86_64/memory_map.h"
#include "devices/power.h"
#include "devices/virtio_balloon.h"
#include "devices/virtio_mmio.h"
#include "vmm/base/clock.h"
#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/machine/machine_internal.h"

#define DEFAULT_CMDLINE "console=ttyS0"

/* For what swap ends at last: giving a large store back takes a while on a disk that does answer. */
#define SWAP_PATIENCE_NS (20 * NS_PER_SEC)

/* Between two looks whether faults still wait for the disk. */
#define READS_LOOK_NS ((long)(10 * NS_PER_MS))

const char *machine_state_name(enum machine_state state)
{
	static const char *const names[] = {
		[MACHINE_CREATED] = "created",
		[MACHINE_RUNNING] = "running",
		[MACHINE_PAUSED] = "paused",
		[MACHINE_STOPPED] = "stopped",
	};

	return names[state];
}

static int create_memory(struct machine *machine, uint64_t size, struct error *err)
{
	struct guest_memory_region regions[MEMORY_MAP_REGIONS_MAX];
	size_t count;
	int result = memory_map_layout(size, regions, &count);

	if (result)
		return error_say(err, -result,
				 "guest memory of %llu bytes: --memory takes a multiple of 4K, at "
				 "least 16M",
				 (unsigned long long)size);
	return guest_memory_create(regions, count, &machine->memory, err);
}

static int create_swap(struct machine *machine, const struct swap_config *config, struct error *err)
{
	const struct swap_callbacks callbacks = {
		.opaque = machine,
		.operation_done = machine_on_swap_done,
		.fatal = machine_on_swap_fatal,
	};

	return swap_create(machine->memory, config, &callbacks, &machine->swap, err);
}

static int init(struct machine *machine, const struct vm_config *config, struct error *err)
{
	machine->kvm = (struct kvm){.fd = -1, .vm_fd = -1};
	machine->cpus = config->cpus;
	machine->process_start_ns = clock_monotonic_ns();
	pthread_mutex_init(&machine->lock, NULL);
	machine->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->event_fd < 0)
		return error_errno(err, errno, "create the machine's event queue");
	return 0;
}

static void connect_vcpus(struct machine *machine)
{
	machine->vcpu_env = (struct vcpu_env){
		.pio = machine->devices.pio,
		.mmio = machine->devices.mmio,
		.memory = machine->memory,
		.opaque = machine,
		.first_run = machine_on_first_run,
		.reset = machine_on_guest_reset,
		.poweroff = machine_on_guest_poweroff,
		.crash = machine_on_guest_crash,
	};
}

int machine_create(const struct vm_config *config, struct chardev *serial, struct chardev *console,
		   struct machine **out, struct error *err)
{
	const char *cmdline = config->cmdline ? config->cmdline : DEFAULT_CMDLINE;
	struct machine *machine = calloc(1, sizeof(*machine));
	int result;

	if (!machine)
		return error_errno(err, ENOMEM, "create the machine");
	result = init(machine, config, err);
	if (!result) /* the files first: what is wrong there is what users get wrong */
		result = boot_image_open(config->kernel, config->initrd, cmdline, &machine->image,
					 err);
	if (!result)
		result = kvm_create(&machine->kvm, err);
	if (!result)
		result = create_memory(machine, config->memory_bytes, err);
	if (!result)
		result = create_swap(machine, &config->swap, err);
	if (!result)
		result = machine_devices_create(machine, config, serial, console, err);
	if (!result) {
		connect_vcpus(machine);
		result = machine_vm_create(machine, err);
	}
	if (!result)
		result = machine_load(machine, err);
	if (result) {
		machine_destroy(machine);
		return result;
	}
	*out = machine;
	return 0;
}

/*
 * Threads of the kernel (asynchronous page faults) may wait for memory that comes from the disk, and who
 * takes the VM apart waits for them. False: the disk does not answer.
 */
static bool await_reads(struct machine *machine)
{
	while (machine->swap && swap_is_reading(machine->swap)) {
		if (atomic_load(&machine->stuck))
			return false;
		nanosleep(&(struct timespec){.tv_nsec = READS_LOOK_NS}, NULL);
	}
	return true;
}

bool machine_stop(struct machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	machine->state = MACHINE_STOPPED;
	pthread_mutex_unlock(&machine->lock);
	if (machine->vcpus && !vcpus_stop(machine->vcpus))
		return false;
	return machine_io_stop(machine) && await_reads(machine);
}

void machine_destroy(struct machine *machine)
{
	if (!machine || !machine_stop(machine))
		return;
	machine_vm_destroy(machine);
	machine_devices_destroy(machine); /* ends I/O on guest memory, which swap still serves */
	swap_destroy(machine->swap);
	kvm_destroy(&machine->kvm);
	guest_memory_destroy(machine->memory);
	boot_image_close(machine->image);
	if (machine->event_fd >= 0)
		close(machine->event_fd);
	pthread_mutex_destroy(&machine->lock);
	free(machine);
}

void machine_set_process_start(struct machine *machine, uint64_t start_ns)
{
	pthread_mutex_lock(&machine->lock);
	machine->process_start_ns = start_ns;
	pthread_mutex_unlock(&machine->lock);
}

int machine_dump_dtb(struct machine *machine, const char *path, struct error *err)
{
	size_t size = machine->entry.dtb_size;
	void *blob = malloc(size);
	int fd = -1, result;

	if (!blob)
		return error_errno(err, ENOMEM, "%s: write the device tree", path);
	result = guest_memory_read(machine->memory, machine->entry.dtb, blob, size);
	if (!result) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		result = fd < 0 ? -errno : io_write_full(fd, blob, size);
	}
	if (fd >= 0 && close(fd) && !result)
		result = -errno;
	free(blob);
	if (result)
		return error_errno(err, -result, "%s: write the device tree", path);
	return 0;
}

/*
 * From one of the states @from (bits) to @to. -EINVAL, naming the state, if it is another one: a
 * vCPU may have stopped the machine a moment ago.
 */
static int change_state(struct machine *machine, unsigned from, enum machine_state to,
			const char *verb, struct error *err)
{
	int result = 0;

	pthread_mutex_lock(&machine->lock);
	if (from & 1u << machine->state) {
		/* What swap has said is told by machine_swap_failed(), which has not run yet. */
		if (machine->state != to && !atomic_load(&machine->stuck))
			machine->reason[0] = '\0';
		machine->state = to;
	} else {
		result = error_say(err, EINVAL, "cannot %s: the machine is %s", verb,
				   machine_state_name(machine->state));
	}
	pthread_mutex_unlock(&machine->lock);
	return result;
}

/* 0 unless a thread still sleeps in guest memory that swap could not provide. */
static int check_memory_is_back(struct machine *machine, const char *verb, struct error *err)
{
	int result;

	if (!atomic_load(&machine->stuck))
		return 0;
	vcpus_hold(machine->vcpus);
	/*
	 * Who sleeps need not be a vCPU: the kernel takes asynchronous page faults and disk I/O to
	 * threads of its own. Swap knows whether anybody still waits.
	 */
	if (vcpus_wait_held(machine->vcpus) && machine_io_answers(machine) &&
	    !swap_in_trouble(machine->swap)) {
		atomic_store(&machine->stuck, false);
		return 0;
	}
	pthread_mutex_lock(&machine->lock);
	result = error_say(err, EIO, "cannot %s: guest memory is still missing: %s", verb,
			   machine->reason);
	pthread_mutex_unlock(&machine->lock);
	return result;
}

static int refuse_if_stuck(struct machine *machine, const char *verb, struct error *err)
{
	if (!atomic_load(&machine->stuck))
		return 0;
	return error_say(err, EIO,
			 "cannot %s: guest memory could not be provided; mend that and "
			 "`resume` first",
			 verb);
}

/* 0 with *state if there is a guest: running, or paused. */
static int check_alive(struct machine *machine, enum machine_state *state, const char *verb,
		       struct error *err)
{
	pthread_mutex_lock(&machine->lock);
	*state = machine->state;
	pthread_mutex_unlock(&machine->lock);
	if (*state == MACHINE_RUNNING || *state == MACHINE_PAUSED)
		return 0;
	return error_say(err, EINVAL, "cannot %s: the machine is %s", verb,
			 machine_state_name(*state));
}

int machine_start(struct machine *machine, struct error *err)
{
	int result = machine_io_start(machine, err);

	if (!result)
		result = vcpus_start(machine->vcpus, err);
	if (!result)
		result =
			change_state(machine, 1u << MACHINE_CREATED, MACHINE_RUNNING, "start", err);
	if (result)
		return result;
	pthread_mutex_lock(&machine->lock);
	machine->started_ns = clock_monotonic_ns();
	pthread_mutex_unlock(&machine->lock);
	vcpus_release(machine->vcpus);
	return 0;
}

int machine_pause(struct machine *machine, struct error *err)
{
	int result = change_state(machine, 1u << MACHINE_RUNNING, MACHINE_PAUSED, "pause", err);

	if (result)
		return result;
	vcpus_hold(machine->vcpus);
	vcpus_wait_held(machine->vcpus);
	return 0;
}

/*
 * Lets the vCPUs run, unless the guest has asked for something that is not answered yet, or swap
 * has failed since the caller looked.
 */
static void release_vcpus(struct machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	if (atomic_load(&machine->stuck))
		; /* MACHINE_EVENT_SWAP_FATAL is on its way */
	else if (machine->guest_request == MACHINE_EVENT_NONE)
		vcpus_release(machine->vcpus);
	else
		machine_post_event(machine, machine->guest_request);
	pthread_mutex_unlock(&machine->lock);
}

int machine_resume(struct machine *machine, struct error *err)
{
	enum machine_state state;
	int result = check_alive(machine, &state, "resume", err);

	if (!result && state == MACHINE_PAUSED)
		result = check_memory_is_back(machine, "resume", err);
	if (!result)
		result =
			change_state(machine, 1u << MACHINE_PAUSED, MACHINE_RUNNING, "resume", err);
	if (!result)
		release_vcpus(machine);
	return result;
}

int machine_powerdown(struct machine *machine, struct error *err)
{
	int result =
		change_state(machine, 1u << MACHINE_RUNNING, MACHINE_RUNNING, "power down", err);

	if (!result)
		power_button_press(machine->devices.power);
	return result;
}

bool machine_quit_swap(struct machine *machine)
{
	return swap_quit(machine->swap, SWAP_PATIENCE_NS);
}

/* Everything that the guest could have changed is made anew. The vCPU threads have ended. */
static int rebuild(struct machine *machine, struct error *err)
{
	int result;

	machine_vm_destroy(machine);
	result = machine_devices_reset(machine, err);
	if (result)
		return result;
	result = guest_memory_discard_all(machine->memory);
	if (result)
		return error_errno(err, -result, "discard guest memory for the reset");
	result = machine_vm_create(machine, err);
	if (!result)
		result = machine_load(machine, err);
	if (!result)
		result = vcpus_start(machine->vcpus, err);
	return result;
}

/* There is no guest any more, whoever wanted the reset. */
static void fail_reset(struct machine *machine, const struct error *err)
{
	pthread_mutex_lock(&machine->lock);
	machine->state = MACHINE_STOPPED;
	snprintf(machine->reason, sizeof(machine->reason), "reset failed: %.200s", err->text);
	pthread_mutex_unlock(&machine->lock);
	machine_post_event(machine, MACHINE_EVENT_RESET_FAILED);
}

static void note_reset(struct machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	machine->guest_request = MACHINE_EVENT_NONE;
	atomic_fetch_and(&machine->pending_events,
			 ~(1u << MACHINE_EVENT_RESET | 1u << MACHINE_EVENT_PANIC));
	machine->resets++;
	machine->panicked = machine->crash_loaded = false;
	machine->started_ns = clock_monotonic_ns();
	pthread_mutex_unlock(&machine->lock);
}

/* While all can go on as it was: what a reset waits for must come to an end. */
static int prepare_reset(struct machine *machine, struct error *err)
{
	int result;

	/* An operation must not meet memory that is being discarded and filled anew. */
	if (!swap_end_operation(machine->swap, SWAP_PATIENCE_NS))
		return error_say(err, EIO,
				 "cannot reset: the swap operation that runs does not end, for the "
				 "disk of the swap store does not answer");
	vcpus_hold(machine->vcpus);
	if (vcpus_wait_held(machine->vcpus) && await_reads(machine))
		return 0;
	pthread_mutex_lock(&machine->lock);
	result = error_say(err, EIO, "cannot reset: guest memory is missing: %s", machine->reason);
	pthread_mutex_unlock(&machine->lock);
	return result;
}

int machine_reset(struct machine *machine, struct error *err)
{
	enum machine_state state;
	struct error why;
	int result;

	result = check_alive(machine, &state, "reset", err);
	if (!result)
		result = check_memory_is_back(machine, "reset", err);
	if (!result)
		result = prepare_reset(machine, err);
	if (result)
		return result;
	if (!vcpus_stop(machine->vcpus))
		result = error_say(&why, EIO, "a vCPU waits for memory that could not be provided");
	else if (check_alive(machine, &state, "reset", err))
		return -EINVAL; /* the guest powered down or crashed on the last instruction */
	else
		result = rebuild(machine, &why);
	if (result) {
		fail_reset(machine, &why);
		return error_say(err, -result, "%s", why.text);
	}
	note_reset(machine);
	if (state == MACHINE_RUNNING)
		release_vcpus(machine);
	return 0;
}

int machine_set_balloon(struct machine *machine, uint64_t guest_bytes, struct error *err)
{
	uint64_t total = guest_memory_size(machine->memory);
	struct virtio_mmio *balloon = machine->devices.virtio[SLOT_BALLOON];
	enum machine_state state;
	int result;

	result = refuse_if_stuck(machine, "set the balloon", err);
	if (!result)
		result = check_alive(machine, &state, "set the balloon", err);
	if (result)
		return result;
	if (!balloon)
		return error_say(err, ENODEV, "the machine has no balloon");
	if (guest_bytes > total)
		return error_say(err, ERANGE, "balloon: the guest has %llu MiB of memory, not more",
				 (unsigned long long)(total >> 20));
	result = virtio_balloon_set_target(virtio_mmio_device(balloon), total - guest_bytes);
	if (result)
		return error_errno(err, -result, "set the balloon");
	return 0;
}

void machine_swap_failed(struct machine *machine)
{
	char reason[sizeof(machine->reason)] = "";

	pthread_mutex_lock(&machine->lock);
	/* Not if `resume` has found the memory back since, or the guest has ended. */
	if (atomic_load(&machine->stuck) && machine->state != MACHINE_STOPPED) {
		machine->state = MACHINE_PAUSED;
		memcpy(reason, machine->reason, sizeof(reason));
	}
	pthread_mutex_unlock(&machine->lock);
	if (reason[0])
		log_error(
			"guest memory cannot be provided, the machine is paused: %s; mend that and "
			"`resume`",
			reason);
}

bool machine_is_stuck(const struct machine *machine)
{
	return atomic_load(&machine->stuck) && swap_in_trouble(machine->swap);
}

static struct machine_balloon_status read_balloon(struct virtio_device *device)
{
	struct virtio_balloon_status status;

	virtio_balloon_get_status(device, &status);
	return (struct machine_balloon_status){
		.present = true,
		.actual_bytes = status.actual_bytes,
		.target_bytes = status.target_bytes,
		.stats_valid = status.stats_valid,
		.stat_free = status.stats[VIRTIO_BALLOON_STAT_FREE],
		.stat_total = status.stats[VIRTIO_BALLOON_STAT_TOTAL],
		.stat_available = status.stats[VIRTIO_BALLOON_STAT_AVAILABLE],
		.stat_swap_in = status.stats[VIRTIO_BALLOON_STAT_SWAP_IN],
		.stat_swap_out = status.stats[VIRTIO_BALLOON_STAT_SWAP_OUT],
		.stat_major_faults = status.stats[VIRTIO_BALLOON_STAT_MAJOR_FAULTS],
		.stat_minor_faults = status.stats[VIRTIO_BALLOON_STAT_MINOR_FAULTS],
		.stat_disk_caches = status.stats[VIRTIO_BALLOON_STAT_DISK_CACHES],
		.reported_bytes = status.reported_bytes,
	};
}

/* The device's lock may be held for ever by a thread that sleeps in guest memory: not waited for.
 */
static void refresh_balloon(struct machine *machine)
{
	struct virtio_mmio *mmio = machine->devices.virtio[SLOT_BALLOON];
	struct machine_balloon_status balloon;

	if (!mmio || atomic_load(&machine->stuck))
		return;
	balloon = read_balloon(virtio_mmio_device(mmio));
	pthread_mutex_lock(&machine->lock);
	machine->balloon = balloon;
	pthread_mutex_unlock(&machine->lock);
}

void machine_get_status(struct machine *machine, struct machine_status *status)
{
	*status = (struct machine_status){
		.vcpus = machine->cpus,
		.memory_bytes = guest_memory_size(machine->memory),
	};
	guest_memory_allocated(machine->memory, &status->memory_allocated_bytes);
	refresh_balloon(machine);
	machine_net_get_status(machine, status);
	pthread_mutex_lock(&machine->lock);
	status->state = machine->state;
	memcpy(status->reason, machine->reason, sizeof(status->reason));
	status->resets = machine->resets;
	status->panicked = machine->panicked;
	status->crash_loaded = machine->crash_loaded;
	status->first_run_ns = machine->first_run_ns;
	status->balloon = machine->balloon;
	if (machine->started_ns)
		status->uptime_ns = clock_monotonic_ns() - machine->started_ns;
	pthread_mutex_unlock(&machine->lock);
}

uint64_t machine_cpu_time_ns(struct machine *machine)
{
	uint64_t time_ns;

	pthread_mutex_lock(&machine->lock);
	time_ns = machine->vcpus ? vcpus_cpu_time_ns(machine->vcpus) : 0;
	pthread_mutex_unlock(&machine->lock);
	return time_ns;
}

struct swap *machine_swap(struct machine *machine)
{
	return machine->swap;
}

const struct guest_memory *machine_memory(const struct machine *machine)
{
	return machine->memory;
}
