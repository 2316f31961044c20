/*
 * The control socket's server, with clients that say anything, in pieces, go away in the middle and
 * hand over descriptors. The machine behind it only remembers what it is told.
 */
#include "vmm/control/control_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "tests/unit/fake_machine.h"
#include "vmm/base/log.h"
#include "vmm/base/unix_socket.h"
#include "vmm/control/control_socket.h"
#include "vmm/control/events.h"

#define CLIENTS     4u
#define ACTIONS_MAX 256u

struct place {
	struct event_loop *loop;
	struct events *events;
	struct control_server *server;
	int clients[CLIENTS]; /* -1: not connected */
};

static char directory[64];
static struct control_socket *control_socket;

static void clean_up(void)
{
	char path[80];

	control_socket_release(control_socket);
	snprintf(path, sizeof(path), "%s/ebb", directory);
	rmdir(path);
	rmdir(directory);
}

static void claim(void)
{
	snprintf(directory, sizeof(directory), "/tmp/ebb-fuzz-control-%d", (int)getpid());
	if (mkdir(directory, 0700) || setenv("XDG_RUNTIME_DIR", directory, 1) ||
	    control_socket_claim("web", NULL, &control_socket, NULL))
		abort();
	atexit(clean_up);
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static void turn(struct place *place)
{
	event_loop_stop(place->loop);
	event_loop_run(place->loop);
}

static void open_place(struct place *place)
{
	struct control_host host = {
		.machine = (struct machine *)place, /* not looked into */
		.name = "web",
		.quit = ignore,
	};

	fake_machine_init();
	for (unsigned i = 0; i < CLIENTS; i++)
		place->clients[i] = -1;
	if (event_loop_create(&place->loop) ||
	    events_create(place->loop, host.machine, &place->events, NULL))
		abort();
	host.events = place->events;
	if (control_server_create(place->loop, control_socket, &host, &place->server, NULL))
		abort();
}

static void leave(int *client)
{
	if (*client >= 0)
		close(*client);
	*client = -1;
}

static void close_place(struct place *place)
{
	control_server_destroy(place->server);
	events_destroy(place->events);
	event_loop_destroy(place->loop);
	for (unsigned i = 0; i < CLIENTS; i++)
		leave(&place->clients[i]);
}

/* Sends @text, and a file with its first byte if @with_file. */
static void say(int client, const void *text, size_t length, bool with_file)
{
	int file = with_file ? memfd_create("file", MFD_CLOEXEC) : -1;

	unix_socket_send(client, text, length, file, MSG_DONTWAIT);
	if (file >= 0)
		close(file);
}

static void hear(int client)
{
	static char text[65536];

	while (recv(client, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
}

/* The rest of a line of the input, with its newline if there is one. */
static void say_line(struct fuzz_input *input, int client, bool with_file)
{
	const uint8_t *end = input->left ? memchr(input->data, '\n', input->left) : NULL;
	size_t length = end ? (size_t)(end - input->data) + 1 : input->left;

	if (length)
		say(client, input->data, length, with_file);
	input->data += length;
	input->left -= length;
}

static void act(struct place *place, struct fuzz_input *input)
{
	uint8_t action = fuzz_u8(input);
	int *client = &place->clients[action & (CLIENTS - 1)];
	struct error err;

	if (*client < 0 &&
	    control_socket_connect(control_socket_path(control_socket), "web", client, &err))
		*client = -1;
	switch (action >> 4 & 7) {
	case 0:
		leave(client);
		break;
	case 1:
		shutdown(*client, SHUT_WR);
		break;
	case 2:
		hear(*client);
		break;
	case 3:
		fake_machine_finish(-(fuzz_u8(input) & 31));
		control_server_swap_done(place->server);
		break;
	case 4:
		events_emit(place->events, "test", json_pack("{s:i}", "count", action));
		break;
	default:
		say_line(input, *client, action & 8);
		break;
	}
	turn(place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct place place;

	log_set_level(LOG_LEVEL_ERROR);
	if (!control_socket)
		claim();
	open_place(&place);
	for (unsigned i = 0; i < ACTIONS_MAX && fuzz_more(&input); i++)
		act(&place, &input);
	close_place(&place);
	return 0;
}
