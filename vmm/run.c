#include "vmm/run.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/vsock_muxer.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"
#include "vmm/base/notify.h"
#include "vmm/base/opener.h"
#include "vmm/base/pressure.h"
#include "vmm/base/terminal.h"
#include "vmm/control/console_spawn.h"
#include "vmm/control/control_server.h"
#include "vmm/control/control_socket.h"
#include "vmm/control/events.h"
#include "vmm/control/recorder.h"
#include "vmm/control/reload.h"
#include "vmm/control/swap_auto.h"
#include "vmm/machine/boot_files.h"
#include "vmm/machine/chardev.h"
#include "vmm/machine/machine.h"
#include "vmm/metrics/metrics.h"
#include "vmm/metrics/metrics_process.h"
#include "vmm/options/help.h"
#include "vmm/options/options.h"
#include "vmm/sandbox/sandbox.h"

/* For disks, the store, KVM, control sessions and whatever else there is but vsock connections. */
#define DESCRIPTORS_BESIDES 512u

/* The program while a VM runs. Main thread only. */
struct run {
	struct vm_config config;
	struct boot_files boot_files;
	struct control_socket *socket;
	struct event_loop *loop;
	struct chardev *serial;
	struct chardev *console_line; /* behind the virtio console; NULL: none */
	struct chardev *terminal;     /* the one of them that is on standard input and output */
	struct machine *machine;
	struct events *events;
	struct swap_auto *automation;
	struct recorder *recorder;
	struct metrics *metrics;
	struct control_server *control;
	struct console_spawn *console;
	struct log_ratelimit panics;
	int signal_fd;
	bool asked_to_end; /* a first SIGTERM came */
	bool reloads; /* SIGHUP means that the file has changed, not that the terminal has gone */
	int status;   /* of the exit */
};

static void end(struct run *run, int status)
{
	run->status = status;
	event_loop_stop(run->loop);
}

static void on_quit(void *opaque)
{
	end(opaque, 0);
}

/* The guest may not listen, or may be paused: whoever wants it gone now signals again. */
static void on_end_signal(struct run *run)
{
	struct error err;

	if (run->asked_to_end) {
		log_info("second signal: ending without the guest's consent");
		end(run, 0);
		return;
	}
	run->asked_to_end = true;
	if (machine_powerdown(run->machine, &err))
		log_warning("%s; signal again to end it", err.text);
	else
		log_info("asking the guest to power down; signal again to end it at once");
	notify_send("STOPPING=1\nSTATUS=Asking the guest to power down");
}

static void tell_ready(struct run *run)
{
	notify_send("READY=1\nSTATUS=Running: %s, %llu MiB, %u vCPU%s", run->config.name,
		    (unsigned long long)(run->config.memory_bytes >> 20), run->config.cpus,
		    run->config.cpus > 1 ? "s" : "");
}

static void on_reload_signal(struct run *run)
{
	struct error err;

	if (run->asked_to_end)
		return;
	notify_reloading();
	if (reload(&run->config, run->automation, &err))
		log_error("%s; the configuration stays as it is", err.text);
	else
		log_info("%s: read again", run->config.config_path);
	tell_ready(run);
}

static void resize_console(struct run *run)
{
	uint16_t columns, rows;

	if (!run->console_line)
		return;
	chardev_terminal_size(run->console_line, &columns, &rows);
	if (columns && rows)
		machine_resize_console(run->machine, columns, rows);
}

static void on_signal(void *opaque, uint32_t events)
{
	struct run *run = opaque;
	struct signalfd_siginfo info;

	(void)events;
	while (read(run->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			resize_console(run);
		else if (info.ssi_signo == SIGHUP && run->reloads)
			on_reload_signal(run);
		else if (info.ssi_signo == SIGHUP && run->asked_to_end)
			; /* a shell and the kernel each send one when a terminal goes */
		else
			on_end_signal(run);
	}
}

static void reset_guest(struct run *run)
{
	struct error err;
	int result = machine_reset(run->machine, &err);

	events_look(run->events);
	if (!result)
		return;
	/* While memory is missing the request waits, as the guest does; `resume` brings it back. */
	log_error("%s", err.text);
}

static void on_machine_event(void *opaque, uint32_t events)
{
	struct run *run = opaque;

	(void)events;
	switch (machine_next_event(run->machine)) {
	case MACHINE_EVENT_NONE:
		break;
	case MACHINE_EVENT_POWEROFF:
		end(run, 0);
		break;
	case MACHINE_EVENT_RESET:
		reset_guest(run);
		break;
	case MACHINE_EVENT_RESET_FAILED:
		end(run, 1);
		break;
	case MACHINE_EVENT_CRASH:
		log_error("the guest crashed: %s", machine_crash_reason(run->machine));
		end(run, 1);
		break;
	case MACHINE_EVENT_SWAP_DONE:
		recorder_look(run->recorder);
		events_look_at_swap(run->events);
		control_server_swap_done(run->control);
		swap_auto_operation_done(run->automation);
		break;
	case MACHINE_EVENT_SWAP_FATAL:
		machine_swap_failed(run->machine);
		events_swap_trouble(run->events);
		break;
	case MACHINE_EVENT_PANIC:
		/* Once after each reset, which a guest can ask for as often as it likes. */
		if (log_ratelimit_pass(&run->panics))
			log_warning("the guest's kernel panicked; it goes on as it likes");
		events_look(run->events);
		break;
	case MACHINE_EVENT_BALLOON:
		events_look_at_balloon(run->events);
		break;
	}
}

static void on_escape(void *opaque)
{
	struct run *run = opaque;
	struct error err;

	if (run->console &&
	    console_spawn_start(run->console, run->loop, run->terminal, run->config.name,
				control_socket_path(run->socket), &err))
		log_error("%s", err.text);
}

/* Before the first thread: they all inherit the mask. */
static int take_signals(struct run *run, struct error *err)
{
	sigset_t signals;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGWINCH);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	run->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->signal_fd < 0)
		return error_errno(err, errno, "signalfd");
	return 0;
}

/* The host's sides of the serial port and of the virtio console. */
static int create_lines(struct run *run, struct error *err)
{
	const struct vm_config *config = &run->config;
	int result = chardev_create(config->serial, config->serial_path, "serial line", run->loop,
				    &run->serial, err);

	if (!result && config->console != SERIAL_NONE)
		result = chardev_create(config->console, config->console_path, "console", run->loop,
					&run->console_line, err);
	run->terminal = config->console == SERIAL_STDIO ? run->console_line : run->serial;
	return result;
}

/* Each vsock connection takes a descriptor; they must not be what everything else lacks. */
static void raise_descriptor_limit(const struct vm_config *config)
{
	struct rlimit limit;

	if (!config->vsock_path || getrlimit(RLIMIT_NOFILE, &limit) ||
	    limit.rlim_cur >= VSOCK_CONNECTIONS_MAX + DESCRIPTORS_BESIDES)
		return;
	limit.rlim_cur = VSOCK_CONNECTIONS_MAX + DESCRIPTORS_BESIDES;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int create_machine(struct run *run, uint64_t start_ns, struct error *err)
{
	int result;

	result = boot_files_find(&run->config, &run->boot_files, err);
	if (result)
		return result;
	result = take_signals(run, err);
	if (!result && isatty(STDIN_FILENO) &&
	    (run->config.serial == SERIAL_STDIO || run->config.console == SERIAL_STDIO))
		result = console_spawn_create(&run->console, err);
	if (!result && run->reloads)
		result = opener_start(run->config.config_path, err);
	if (result)
		return result;
	result =
		control_socket_claim(run->config.name, run->config.control_path, &run->socket, err);
	if (result)
		return result;
	result = event_loop_create(&run->loop);
	if (result)
		return error_errno(err, -result, "create the event loop");
	result = create_lines(run, err);
	if (result)
		return result;
	raise_descriptor_limit(&run->config);
	result = machine_create(&run->config, run->serial, run->console_line, &run->machine, err);
	if (result)
		return result;
	machine_set_process_start(run->machine, start_ns);
	return 0;
}

static int listen_to_all(struct run *run, struct error *err)
{
	struct control_host host = {
		.machine = run->machine,
		.name = run->config.name,
		.quit = on_quit,
		.opaque = run,
	};
	struct event_source *source;
	int result;

	result = events_create(run->loop, run->machine, &run->events, err);
	if (result)
		return result;
	result = swap_auto_create(run->loop, run->machine, &run->config.swap_auto, &run->automation,
				  err);
	if (result)
		return result;
	swap_auto_set_events(run->automation, run->events);
	host.automation = run->automation;
	result = recorder_create(run->loop, run->machine, &run->recorder, err);
	if (result)
		return result;
	host.recorder = run->recorder;
	result = metrics_create(run->loop, &run->config.metrics, run->machine, run->config.name,
				&run->metrics, err);
	if (result)
		return result;
	host.metrics = metrics_place(run->metrics);
	host.events = run->events;
	result = control_server_create(run->loop, run->socket, &host, &run->control, err);
	if (result)
		return result;
	result = event_loop_add(run->loop, run->signal_fd, EPOLLIN, on_signal, run, &source);
	if (!result)
		result = event_loop_add(run->loop, machine_event_fd(run->machine), EPOLLIN,
					on_machine_event, run, &source);
	if (result)
		return error_errno(err, -result, "watch the machine");
	chardev_set_escape(run->terminal, on_escape, run);
	chardev_set_quit(run->terminal, on_quit, run);
	return 0;
}

/* What a line's end is there for: its socket is removed, a pty's reader is waited for. */
static size_t add_line(struct sandbox_file *file, enum serial_kind kind, const char *path)
{
	*file = (struct sandbox_file){path,
				      kind == SERIAL_PTY ? SANDBOX_FILE_READ : SANDBOX_FILE_REMOVE};
	return path && (kind == SERIAL_PTY || kind == SERIAL_UNIX);
}

/* It ends with the VM; what does not is killed. */
static bool has_passt(const struct vm_config *config)
{
	for (size_t i = 0; i < config->net_count; i++) {
		if (config->nets[i].kind == NET_USER)
			return true;
	}
	return false;
}

/* What must be opened now, and what is still to be done with files. */
static int close_sandbox(struct run *run, struct error *err)
{
	const struct vm_config *config = &run->config;
	struct sandbox_file files[5];
	size_t count = 0;

	files[count++] =
		(struct sandbox_file){control_socket_path(run->socket), SANDBOX_FILE_REMOVE};
	if (config->metrics.kind == METRICS_UNIX)
		files[count++] = (struct sandbox_file){config->metrics.path, SANDBOX_FILE_REMOVE};
	if (config->vsock_path)
		files[count++] = (struct sandbox_file){config->vsock_path, SANDBOX_FILE_CONNECT};
	count += add_line(&files[count], config->serial, chardev_path(run->serial));
	if (run->console_line)
		count += add_line(&files[count], config->console, chardev_path(run->console_line));
	/* Both read files, and would at their first use. */
	json_object_seed(0);
	tzset();
	notify_keep_open();
	pressure_keep_open();
	metrics_process_keep_open();
	return sandbox_close(!config->sandbox_off,
			     &(struct sandbox_needs){
				     .files = files,
				     .count = count,
				     .vsock = config->vsock_path,
				     .may_signal = has_passt(config),
			     },
			     err);
}

static int serve(struct run *run, struct error *err)
{
	int result;

	result = listen_to_all(run, err);
	if (!result)
		result = close_sandbox(run, err);
	if (!result)
		result = machine_start(run->machine, err);
	if (result)
		return result;
	events_look(run->events);
	tell_ready(run);
	result = event_loop_run(run->loop);
	if (result)
		return error_errno(err, -result, "event loop");
	return 0;
}

/*
 * A thread sleeps in guest memory that will never come, or waits for the store's disk, so that nothing
 * which it may use can be freed, and nobody can wait for it. What outlives the process is put in order; the kernel does the
 * rest.
 */
static _Noreturn void leave_stuck(struct run *run, bool swap_ends, int status)
{
	chardev_flush(run->serial);
	chardev_flush(run->console_line);
	terminal_restore();
	machine_remove_sockets(run->machine);
	chardev_remove_socket(run->serial);
	chardev_remove_socket(run->console_line);
	control_socket_release(run->socket);
	log_warning("%s: the guest was ended as it stood",
		    swap_ends ? "guest memory could not be provided"
			      : "the disk of the swap store does not answer");
	_exit(status ? status : 1);
}

/* Tolerates whatever is not there. */
static void tear_down(struct run *run, int status)
{
	bool swap_ends = true;

	events_end(run->events, "quit");
	notify_send("STOPPING=1\nSTATUS=Ending");
	/* Or a dump would go on into the file that its client's end empties. */
	if (run->machine)
		swap_ends = machine_is_stuck(run->machine) || machine_quit_swap(run->machine);
	control_server_destroy(run->control);
	metrics_destroy(run->metrics);
	recorder_destroy(run->recorder);
	swap_auto_destroy(run->automation);
	console_spawn_destroy(run->console);
	opener_stop();
	if (run->machine) {
		if (!machine_stop(run->machine) || !swap_ends || machine_is_stuck(run->machine))
			leave_stuck(run, swap_ends, status);
		chardev_flush(run->serial); /* while the serial port can still add to it */
		machine_destroy(run->machine);
	}
	events_destroy(run->events);
	chardev_destroy(run->console_line);
	chardev_destroy(run->serial);
	event_loop_destroy(run->loop);
	control_socket_release(run->socket);
	boot_files_release(&run->boot_files);
	if (run->signal_fd >= 0)
		close(run->signal_fd);
}

static int run_machine(struct run *run, uint64_t start_ns)
{
	struct error err;
	int result;

	result = create_machine(run, start_ns, &err);
	if (!result && run->config.dump_dtb)
		result = machine_dump_dtb(run->machine, run->config.dump_dtb, &err);
	else if (!result)
		result = serve(run, &err);
	if (result)
		run->status = 1;
	tear_down(run, run->status);
	if (result)
		log_error("%s", err.text); /* the terminal is in its normal modes again */
	return run->status;
}

/* --print-config */
static int print_config(const struct vm_config *config)
{
	struct error err;
	char *text;

	if (options_print(config, &text, &err)) {
		log_error("%s", err.text);
		return 1;
	}
	fputs(text, stdout);
	free(text);
	if (fflush(stdout)) {
		log_error("standard output: the configuration could not be written");
		return 1;
	}
	return 0;
}

int run_main(int argc, char **argv)
{
	uint64_t start_ns = clock_monotonic_ns();
	struct run run = {.signal_fd = -1};
	struct error err;
	int status;

	/* Threads share one heap: they allocate little, and each heap of its own costs RSS. */
	mallopt(M_ARENA_MAX, 1);
	switch (options_parse_run(argc, argv, &run.config, &err)) {
	case OPTIONS_OK:
		run.reloads = run.config.config_path && !isatty(STDIN_FILENO);
		status = run_machine(&run, start_ns);
		break;
	case OPTIONS_PRINT:
		status = print_config(&run.config);
		break;
	case OPTIONS_HELP:
		help_print(stdout, "run");
		status = 0;
		break;
	default:
		log_error("%s", err.text);
		return 2;
	}
	options_release(&run.config);
	return status;
}
