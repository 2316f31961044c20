#include "chardev_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"

struct line line;

static size_t on_receive(void *opaque, const uint8_t *data, size_t length)
{
	size_t taken = length < line.accepts ? length : line.accepts;

	(void)opaque;
	assert_true(line.received_length + taken < sizeof(line.received));
	memcpy(line.received + line.received_length, data, taken);
	line.received_length += taken;
	line.accepts -= taken;
	return taken;
}

static void on_writable(void *opaque)
{
	(void)opaque;
	line.writable_calls++;
}

static void on_timer(void *opaque, uint32_t events)
{
	(void)opaque;
	(void)events;
	event_loop_stop(line.loop);
}

void line_run_for(unsigned milliseconds)
{
	event_source_arm(line.timer, milliseconds * NS_PER_MS, 0);
	assert_int_equal(event_loop_run(line.loop), 0);
}

int line_setup(void **state)
{
	(void)state;
	memset(&line, 0, sizeof(line));
	line.accepts = SIZE_MAX;
	line.far = -1;
	line.out = -1;
	line.near = -1;
	line.saved_in = dup(STDIN_FILENO);
	line.saved_out = dup(STDOUT_FILENO);
	assert_int_equal(event_loop_create(&line.loop), 0);
	return event_loop_add_timer(line.loop, on_timer, NULL, &line.timer);
}

void line_put_stdio_back(void)
{
	fflush(stdout);
	dup2(line.saved_in, STDIN_FILENO);
	dup2(line.saved_out, STDOUT_FILENO);
}

int line_teardown(void **state)
{
	const int fds[] = {line.saved_in, line.saved_out, line.far, line.out, line.near};

	(void)state;
	line_destroy();
	line_put_stdio_back();
	event_loop_destroy(line.loop);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return 0;
}

int line_try(enum serial_kind kind, const char *path, struct error *err)
{
	const struct chardev_client client = {.receive = on_receive, .writable = on_writable};
	int result = chardev_create(kind, path, "serial line", line.loop, &line.chardev, err);

	if (!result)
		chardev_set_client(line.chardev, &client);
	return result;
}

void line_create(enum serial_kind kind, const char *path)
{
	struct error err;

	if (line_try(kind, path, &err))
		fail_msg("%s", err.text);
}

void line_destroy(void)
{
	chardev_destroy(line.chardev);
	line.chardev = NULL;
}

size_t line_write(const char *text)
{
	return chardev_write(line.chardev, (const uint8_t *)text, strlen(text));
}

/* The kernel hands on what is typed on a pty from a thread of its own: it takes what it takes. */
void line_assert_received(const char *text)
{
	for (int tries = 0; line.received_length < strlen(text) && tries < 500; tries++)
		line_run_for(10);
	assert_int_equal(line.received_length, strlen(text));
	assert_memory_equal(line.received, text, strlen(text));
}

void line_use_terminal(void)
{
	fflush(stdout);
	assert_int_equal(openpty(&line.far, &line.near, NULL, NULL, NULL), 0);
	fcntl(line.far, F_SETFL, O_NONBLOCK);
	dup2(line.near, STDIN_FILENO);
	dup2(line.near, STDOUT_FILENO);
}

void line_use_pipes(void)
{
	int in[2];
	int out[2];

	fflush(stdout);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	close(in[0]);
	close(out[1]);
	line.far = in[1];
	line.out = out[0];
}

void line_type(const char *keys)
{
	assert_int_equal(write(line.far, keys, strlen(keys)), strlen(keys));
	line_run_for(30);
}

const char *line_output_of(int fd)
{
	static char text[8192];
	struct pollfd wanted = {.fd = fd, .events = POLLIN};
	size_t length = 0;

	while (length < sizeof(text) - 1 && poll(&wanted, 1, 150) == 1) {
		ssize_t count = read(fd, text + length, sizeof(text) - 1 - length);

		if (count <= 0)
			break;
		length += (size_t)count;
	}
	text[length] = '\0';
	return text;
}
