#include "vmm/machine/chardev.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/terminal.h"
#include "vmm/machine/chardev_port.h"

#define ESCAPE_KEY     0x01 /* Ctrl-A */
#define INPUT_CHUNK    256u
#define OUTPUT_CHUNK   4096u
#define RETRY_NS       (200 * NS_PER_MS) /* looks for a pty's reader, for the foreground */
#define FLUSH_PATIENCE (5 * NS_PER_SEC)

static const char keys_help[] = "\r\nebb: Ctrl-A c console, Ctrl-A x quit, Ctrl-A Ctrl-A sends "
				"Ctrl-A, Ctrl-A h this help\r\n";

/*
 * Descriptors are watched only while there is something to do with them: epoll reports a hang-up
 * even to those who wait for nothing.
 */
struct chardev {
	struct event_loop *loop;
	const char *name;
	struct chardev_port port;
	int wake_fd; /* eventfd: other threads call the loop's thread */
	struct event_source *wake;
	struct event_source *retry; /* timer */
	struct event_source *in;    /* NULL: not watched */
	struct event_source *out;
	struct event_source *accept;

	/* The loop's thread only: */
	struct chardev_client client;
	bool muted;
	bool escape_pending; /* Ctrl-A was typed */
	bool output_failed;
	uint8_t input[INPUT_CHUNK]; /* read, but refused by the client so far */
	size_t input_length;
	void (*escape)(void *opaque);
	void *escape_opaque;
	void (*quit)(void *opaque);
	void *quit_opaque;

	atomic_bool resume; /* the client can receive again */

	pthread_mutex_t lock; /* guards what follows */
	bool starved;         /* chardev_write() refused bytes since writable() */
	size_t queue_start;
	size_t queue_length;
	uint8_t queue[CHARDEV_QUEUE_SIZE];
};

static void wake(const struct chardev *chardev)
{
	eventfd_write(chardev->wake_fd, 1);
}

static void watch(struct chardev *chardev, struct event_source **source, int fd, uint32_t events,
		  event_callback callback)
{
	if (*source)
		return;
	/* EPERM: a regular file or /dev/null, which is always ready. */
	if (event_loop_add(chardev->loop, fd, events, callback, chardev, source))
		wake(chardev);
}

static void unwatch(struct event_source **source)
{
	event_source_remove(*source);
	*source = NULL;
}

static bool is_server(const struct chardev *chardev)
{
	return chardev->port.listener.fd >= 0;
}

/* Whoever was connected has gone, and takes what they have not read with them. */
static void disconnect(struct chardev *chardev)
{
	unwatch(&chardev->in);
	unwatch(&chardev->out);
	chardev_port_disconnect(&chardev->port);
}

/* Copies the head of the queue to @chunk; how much. */
static size_t peek_queue(struct chardev *chardev, uint8_t chunk[OUTPUT_CHUNK])
{
	size_t length;
	size_t first;

	pthread_mutex_lock(&chardev->lock);
	length = chardev->queue_length < OUTPUT_CHUNK ? chardev->queue_length : OUTPUT_CHUNK;
	first = CHARDEV_QUEUE_SIZE - chardev->queue_start;
	if (first > length)
		first = length;
	memcpy(chunk, chardev->queue + chardev->queue_start, first);
	memcpy(chunk + first, chardev->queue, length - first);
	pthread_mutex_unlock(&chardev->lock);
	return length;
}

static void consume_queue(struct chardev *chardev, size_t length)
{
	pthread_mutex_lock(&chardev->lock);
	chardev->queue_start = (chardev->queue_start + length) % CHARDEV_QUEUE_SIZE;
	chardev->queue_length -= length;
	pthread_mutex_unlock(&chardev->lock);
}

/*
 * Writes one chunk of the queue. True if there may be more to do now; false if the queue is empty
 * (*blocked false) or the other end takes nothing (*blocked true). What nobody will read is
 * dropped: the guest must not wait for it.
 */
static bool write_chunk(struct chardev *chardev, bool *blocked)
{
	uint8_t chunk[OUTPUT_CHUNK];
	size_t length = peek_queue(chardev, chunk);
	ssize_t written;

	*blocked = false;
	if (!length)
		return false;
	if (chardev->port.out_fd < 0 || chardev->output_failed) {
		consume_queue(chardev, length);
		return true;
	}
	written = chardev_port_write(&chardev->port, chunk, length);
	if (written == -EAGAIN) {
		*blocked = true;
		return false;
	}
	if (written < 0 && is_server(chardev)) {
		disconnect(chardev);
	} else if (written < 0 && !chardev->port.pty) {
		log_warning("output of the %s cannot be written and is dropped from now on: %s",
			    chardev->name, strerrordesc_np((int)-written));
		chardev->output_failed = true;
	}
	consume_queue(chardev, written < 0 ? length : (size_t)written);
	return true;
}

static void pump(struct chardev *chardev);

static void on_ready(void *opaque, uint32_t events)
{
	(void)events;
	pump(opaque);
}

/* Tells a client that was refused that there is room, once half of the queue is free. */
static void tell_writable(struct chardev *chardev)
{
	bool tell;

	pthread_mutex_lock(&chardev->lock);
	tell = chardev->starved && chardev->queue_length <= CHARDEV_QUEUE_SIZE / 2;
	if (tell)
		chardev->starved = false;
	pthread_mutex_unlock(&chardev->lock);
	if (tell && chardev->client.writable)
		chardev->client.writable(chardev->client.opaque);
}

static bool is_starved(struct chardev *chardev)
{
	bool starved;

	pthread_mutex_lock(&chardev->lock);
	starved = chardev->starved;
	pthread_mutex_unlock(&chardev->lock);
	return starved;
}

static void pump_output(struct chardev *chardev)
{
	bool blocked = false;

	if (chardev->muted && !is_starved(chardev))
		return;
	/* One queue's worth at most, so that a busy guest does not keep the loop. */
	for (size_t i = 0; i < CHARDEV_QUEUE_SIZE / OUTPUT_CHUNK; i++) {
		if (!write_chunk(chardev, &blocked))
			break;
		if (i + 1 == CHARDEV_QUEUE_SIZE / OUTPUT_CHUNK)
			wake(chardev);
	}
	if (blocked)
		watch(chardev, &chardev->out, chardev->port.out_fd, EPOLLOUT, on_ready);
	else
		unwatch(&chardev->out);
	tell_writable(chardev);
}

static void print(struct chardev *chardev, const char *text)
{
	chardev_write(chardev, (const uint8_t *)text, strlen(text));
}

/* What was typed after Ctrl-A. True if @key is meant for the guest. */
static bool handle_escape(struct chardev *chardev, uint8_t *key)
{
	switch (*key) {
	case ESCAPE_KEY:
		return true;
	case 'a':
		*key = ESCAPE_KEY;
		return true;
	case 'c':
		if (chardev->escape)
			chardev->escape(chardev->escape_opaque);
		else
			print(chardev, "\r\nebb: there is no console here\r\n");
		return false;
	case 'x':
		if (chardev->quit)
			chardev->quit(chardev->quit_opaque);
		else
			raise(SIGTERM);
		return false;
	case 'h':
	case '?':
		print(chardev, keys_help);
		return false;
	default:
		return false; /* no such key: neither is sent */
	}
}

/* Reads into the empty input buffer. False if there is nothing for the client now. */
static bool read_input(struct chardev *chardev)
{
	/*
	 * A terminal's keys are read one by one: what was typed after Ctrl-A c belongs to the
	 * console and stays where it is.
	 */
	size_t room = chardev->port.terminal ? 1 : INPUT_CHUNK;
	ssize_t count = chardev_port_read(&chardev->port, chardev->input, room);

	if (count == -EAGAIN) {
		watch(chardev, &chardev->in, chardev->port.in_fd, EPOLLIN, on_ready);
		return false;
	}
	if (count <= 0) {
		unwatch(&chardev->in);
		if (chardev->port.pty) {
			event_source_arm(chardev->retry, RETRY_NS, 0); /* nobody there */
			return false;
		}
		/* A program that only sends no more may still want to read. */
		if (is_server(chardev) && (count < 0 || !chardev_port_connected(&chardev->port))) {
			disconnect(chardev);
			return false;
		}
		if (count < 0)
			log_warning("input of the %s cannot be read and has ended: %s",
				    chardev->name, strerrordesc_np((int)-count));
		close(chardev->port.in_fd);
		chardev->port.in_fd = -1;
		return false;
	}
	if (!chardev->port.terminal) {
		chardev->input_length = (size_t)count;
		return true;
	}
	if (chardev->escape_pending) {
		chardev->escape_pending = false;
		chardev->input_length = handle_escape(chardev, chardev->input) ? 1 : 0;
	} else if (chardev->input[0] == ESCAPE_KEY) {
		chardev->escape_pending = true;
	} else {
		chardev->input_length = 1;
	}
	return true;
}

/* False if input must wait: muted, nobody to take it, or the terminal is not ours to read. */
static bool input_possible(struct chardev *chardev)
{
	if (chardev->port.in_fd < 0 || chardev->muted || !chardev->client.receive)
		return false;
	if (chardev->port.pty && !chardev_port_connected(&chardev->port)) {
		event_source_arm(chardev->retry, RETRY_NS, 0);
		return false;
	}
	if (chardev->port.terminal && (!terminal_is_foreground(chardev->port.in_fd) ||
				       terminal_set_raw(chardev->port.in_fd) == -EAGAIN)) {
		event_source_arm(chardev->retry, RETRY_NS, 0);
		return false;
	}
	return true;
}

static void pump_input(struct chardev *chardev)
{
	atomic_store(&chardev->resume, false);
	/* A bounded number of rounds: a client that takes all must not keep the loop. */
	for (int round = 0; round < 64; round++) {
		size_t taken;

		if (!input_possible(chardev)) {
			unwatch(&chardev->in);
			return;
		}
		if (!chardev->input_length) {
			if (!read_input(chardev))
				return;
			continue;
		}
		taken = chardev->client.receive(chardev->client.opaque, chardev->input,
						chardev->input_length);
		chardev->input_length -= taken;
		memmove(chardev->input, chardev->input + taken, chardev->input_length);
		if (chardev->input_length && !atomic_load(&chardev->resume)) {
			unwatch(&chardev->in); /* until chardev_resume_input() */
			return;
		}
	}
	wake(chardev);
}

static void on_accept(void *opaque, uint32_t events)
{
	struct chardev *chardev = opaque;

	(void)events;
	if (chardev->port.out_fd >= 0 && !chardev_port_connected(&chardev->port))
		disconnect(chardev); /* nothing was read or written since they went */
	if (chardev_port_accept(&chardev->port) >= 0) {
		pump(chardev);
		return;
	}
	unwatch(&chardev->accept); /* no descriptors left: not again at once */
	event_source_arm(chardev->retry, RETRY_NS, 0);
}

static void pump(struct chardev *chardev)
{
	if (is_server(chardev))
		watch(chardev, &chardev->accept, chardev->port.listener.fd, EPOLLIN, on_accept);
	pump_output(chardev);
	pump_input(chardev);
}

static void on_wake(void *opaque, uint32_t events)
{
	struct chardev *chardev = opaque;
	eventfd_t value;

	(void)events;
	eventfd_read(chardev->wake_fd, &value);
	pump(chardev);
}

int chardev_create(enum serial_kind kind, const char *path, const char *name,
		   struct event_loop *loop, struct chardev **out, struct error *err)
{
	struct chardev *chardev = calloc(1, sizeof(*chardev));
	int result;

	if (!chardev)
		return error_errno(err, ENOMEM, "%s", name);
	signal(SIGPIPE, SIG_IGN);
	chardev->loop = loop;
	chardev->name = name;
	pthread_mutex_init(&chardev->lock, NULL);
	result = chardev_port_open(kind, path, name, &chardev->port, err);
	if (result)
		goto free_chardev;
	chardev->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (chardev->wake_fd < 0) {
		result = error_errno(err, errno, "eventfd");
		goto close_port;
	}
	result = event_loop_add(loop, chardev->wake_fd, EPOLLIN, on_wake, chardev, &chardev->wake);
	if (result)
		goto close_wake;
	result = event_loop_add_timer(loop, on_ready, chardev, &chardev->retry);
	if (result)
		goto remove_wake;
	if (is_server(chardev))
		wake(chardev);
	if (chardev->port.pty)
		log_info("the %s is %s", name, chardev->port.path);
	*out = chardev;
	return 0;

remove_wake:
	event_source_remove(chardev->wake);
close_wake:
	close(chardev->wake_fd);
	error_errno(err, -result, "%s", name);
close_port:
	chardev_port_close(&chardev->port);
free_chardev:
	pthread_mutex_destroy(&chardev->lock);
	free(chardev);
	return result;
}

void chardev_destroy(struct chardev *chardev)
{
	if (!chardev)
		return;
	chardev_flush(chardev);
	if (chardev->port.terminal)
		terminal_restore();
	event_source_remove(chardev->in);
	event_source_remove(chardev->out);
	event_source_remove(chardev->accept);
	event_source_remove(chardev->retry);
	event_source_remove(chardev->wake);
	close(chardev->wake_fd);
	chardev_port_close(&chardev->port);
	pthread_mutex_destroy(&chardev->lock);
	free(chardev);
}

void chardev_set_client(struct chardev *chardev, const struct chardev_client *client)
{
	chardev->client = client ? *client : (struct chardev_client){0};
	wake(chardev);
}

size_t chardev_write(struct chardev *chardev, const uint8_t *data, size_t length)
{
	bool needs_wake;
	size_t fits;
	size_t end;
	size_t first;

	pthread_mutex_lock(&chardev->lock);
	fits = CHARDEV_QUEUE_SIZE - chardev->queue_length;
	needs_wake = !chardev->queue_length;
	if (fits < length) {
		needs_wake = needs_wake || !chardev->starved;
		chardev->starved = true;
	} else {
		fits = length;
	}
	end = (chardev->queue_start + chardev->queue_length) % CHARDEV_QUEUE_SIZE;
	first = CHARDEV_QUEUE_SIZE - end;
	if (first > fits)
		first = fits;
	memcpy(chardev->queue + end, data, first);
	memcpy(chardev->queue, data + first, fits - first);
	chardev->queue_length += fits;
	pthread_mutex_unlock(&chardev->lock);
	if (needs_wake)
		wake(chardev);
	return fits;
}

void chardev_resume_input(struct chardev *chardev)
{
	atomic_store(&chardev->resume, true);
	wake(chardev);
}

/* Waits until the port takes something, or @patience_ns pass. */
static void await_room(const struct chardev *chardev, uint64_t patience_ns)
{
	struct pollfd wanted = {.fd = chardev->port.out_fd, .events = POLLOUT};

	poll(&wanted, 1, (int)(patience_ns / NS_PER_MS) + 1);
}

/* A pty's reader loses what it has not read when the pty is closed. */
static void await_pty_reader(const struct chardev *chardev)
{
	const struct timespec pause = {.tv_nsec = 10 * NS_PER_MS};
	uint64_t deadline = clock_monotonic_ns() + FLUSH_PATIENCE;
	size_t before = SIZE_MAX;

	if (!chardev->port.pty || !chardev_port_connected(&chardev->port))
		return;
	nanosleep(&pause, NULL); /* for the kernel's worker to pass on what was written */
	for (;;) {
		size_t unread = chardev_port_unread(&chardev->port);
		uint64_t now = clock_monotonic_ns();

		if (unread < before)
			deadline = now + FLUSH_PATIENCE;
		if (!unread || now >= deadline)
			return;
		before = unread;
		nanosleep(&pause, NULL);
	}
}

void chardev_flush(struct chardev *chardev)
{
	uint64_t deadline = clock_monotonic_ns() + FLUSH_PATIENCE;

	if (!chardev)
		return;
	for (;;) {
		bool blocked;
		uint64_t now;

		if (write_chunk(chardev, &blocked)) {
			deadline = clock_monotonic_ns() + FLUSH_PATIENCE;
			continue;
		}
		if (!blocked)
			break;
		now = clock_monotonic_ns();
		if (now >= deadline) {
			log_warning("output of the %s is lost: nobody has read it for %llu s",
				    chardev->name, FLUSH_PATIENCE / NS_PER_SEC);
			break;
		}
		await_room(chardev, deadline - now);
	}
	await_pty_reader(chardev);
	tell_writable(chardev);
}

void chardev_set_escape(struct chardev *chardev, void (*escape)(void *opaque), void *opaque)
{
	chardev->escape = escape;
	chardev->escape_opaque = opaque;
}

void chardev_set_quit(struct chardev *chardev, void (*quit)(void *opaque), void *opaque)
{
	chardev->quit = quit;
	chardev->quit_opaque = opaque;
}

void chardev_terminal_size(const struct chardev *chardev, uint16_t *columns, uint16_t *rows)
{
	struct winsize size = {0};

	if (chardev->port.terminal)
		ioctl(chardev->port.in_fd, TIOCGWINSZ, &size);
	*columns = size.ws_col;
	*rows = size.ws_row;
}

void chardev_remove_socket(const struct chardev *chardev)
{
	if (chardev && is_server(chardev))
		unix_listener_remove(&chardev->port.listener);
}

const char *chardev_path(const struct chardev *chardev)
{
	return chardev->port.path[0] ? chardev->port.path : NULL;
}

void chardev_mute(struct chardev *chardev)
{
	chardev->muted = true;
	unwatch(&chardev->in);
	unwatch(&chardev->out);
	if (chardev->port.terminal)
		terminal_restore();
}

void chardev_unmute(struct chardev *chardev)
{
	chardev->muted = false;
	wake(chardev); /* the terminal becomes raw again when its input is looked at */
}
