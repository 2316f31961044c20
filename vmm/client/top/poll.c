#include "vmm/client/top/poll.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/client/render_internal.h"
#include "vmm/client/top/link.h"
#include "vmm/control/control_socket.h"

/* Answers that one machine may owe: status, swap status, memory-map. */
#define OWED_MAX 8u

#define ORDERS_MAX 32u

enum question {
	ASK_STATUS,
	ASK_SWAP,
	ASK_MAP,
};

struct peer {
	char name[VM_NAME_MAX + 1];
	struct top_link link;
	bool seen; /* its socket is there */
	enum question owed[OWED_MAX];
	size_t owed_count;
	uint64_t asked_ns; /* when the first of them was */
	json_t *status;    /* until that of swap has come too */
};

/* A command for a machine, on a connection of its own: its answer may take as long as it likes. */
struct order {
	struct top_link link; /* .fd is -1: free */
	char name[VM_NAME_MAX + 1];
	char command[TOP_TEXT];
};

struct top_poll {
	struct top_model *model;
	struct peer **peers;
	size_t count;
	struct order orders[ORDERS_MAX];
	char watched[VM_NAME_MAX + 1]; /* "": none */
	size_t cells;
};

int top_poll_create(struct top_model *model, struct top_poll **out)
{
	struct top_poll *poll = calloc(1, sizeof(*poll));

	if (!poll)
		return -ENOMEM;
	poll->model = model;
	for (size_t i = 0; i < ORDERS_MAX; i++)
		poll->orders[i].link.fd = -1;
	*out = poll;
	return 0;
}

static void free_peer(struct peer *peer)
{
	json_decref(peer->status);
	top_link_close(&peer->link);
	free(peer);
}

void top_poll_destroy(struct top_poll *poll)
{
	if (!poll)
		return;
	for (size_t i = 0; i < poll->count; i++)
		free_peer(poll->peers[i]);
	for (size_t i = 0; i < ORDERS_MAX; i++)
		top_link_close(&poll->orders[i].link);
	free(poll->peers);
	free(poll);
}

/* ---- machines come and go ---- */

static struct peer *find_peer(const struct top_poll *poll, const char *name)
{
	for (size_t i = 0; i < poll->count; i++) {
		if (!strcmp(poll->peers[i]->name, name))
			return poll->peers[i];
	}
	return NULL;
}

static void hang_up(struct peer *peer)
{
	top_link_close(&peer->link);
	json_decref(peer->status);
	peer->status = NULL;
	peer->owed_count = 0;
}

static void note_gone(struct top_poll *poll, struct peer *peer, uint64_t now_ns)
{
	struct top_vm *vm = top_model_find(poll->model, peer->name);

	hang_up(peer);
	if (!vm || vm->health == TOP_GONE)
		return;
	if (vm->health == TOP_NEW) { /* a socket that nobody listens on */
		top_model_remove(poll->model, vm);
		return;
	}
	vm->health = TOP_GONE;
	vm->gone_ns = now_ns;
	vm->operation.running = false;
	vm->cpu_share = vm->faults_per_s = 0.0;
	vm->p99_ns = 0;
	top_model_say(poll->model, now_ns, true, "%s has ended", vm->name);
}

/* The machine listens, and does not take or answer what it is asked. */
static void note_silent(struct top_poll *poll, struct peer *peer)
{
	struct top_vm *vm = top_model_add(poll->model, peer->name);

	if (vm)
		vm->health = TOP_SILENT;
}

static void connect_peer(struct top_poll *poll, struct peer *peer, uint64_t now_ns)
{
	int result = top_link_open(&peer->link, peer->name);
	struct top_vm *vm;

	if (result == -ENOENT || result == -ECONNREFUSED) {
		note_gone(poll, peer, now_ns);
		return;
	}
	if (result) {
		note_silent(poll, peer);
		return;
	}
	vm = top_model_find(poll->model, peer->name);
	if (vm && vm->health == TOP_GONE) /* another one of the same name */
		top_model_remove(poll->model, vm);
	if (!top_model_add(poll->model, peer->name))
		hang_up(peer);
}

static void meet(struct top_poll *poll, const char *name)
{
	struct peer *peer = find_peer(poll, name);
	struct peer **peers;

	if (peer) {
		peer->seen = true;
		return;
	}
	peers = realloc(poll->peers, (poll->count + 1) * sizeof(struct peer *));
	if (!peers)
		return;
	poll->peers = peers;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return;
	snprintf(peer->name, sizeof(peer->name), "%s", name);
	peer->link.fd = -1;
	peer->seen = true;
	peers[poll->count++] = peer;
}

static int look_into(struct top_poll *poll, const char *directory, struct error *err)
{
	struct dirent *entry;
	DIR *listing = opendir(directory);

	if (!listing)
		return error_errno(err, errno, "%s", directory);
	while ((entry = readdir(listing))) {
		char name[VM_NAME_MAX + 1];

		if (control_socket_name_of(entry->d_name, name))
			meet(poll, name);
	}
	closedir(listing);
	return 0;
}

static int look_around(struct top_poll *poll, struct error *err)
{
	char directory[CONTROL_PATH_MAX];
	int result = control_socket_directory(directory, sizeof(directory), err);

	if (!result)
		result = control_socket_check_directory(directory, err);
	if (!result)
		result = look_into(poll, directory, err);
	else if (result == -ENOENT)
		result = 0; /* no directory: no machines */
	/* Those of the system's service; who may not look there has none there. */
	if (!result && !access(CONTROL_SYSTEM_DIRECTORY, R_OK | X_OK))
		look_into(poll, CONTROL_SYSTEM_DIRECTORY, NULL);
	return result;
}

static void forget_unseen(struct top_poll *poll, uint64_t now_ns)
{
	for (size_t i = poll->count; i-- > 0;) {
		struct peer *peer = poll->peers[i];

		if (peer->seen)
			continue;
		note_gone(poll, peer, now_ns);
		free_peer(peer);
		poll->peers[i] = poll->peers[--poll->count];
	}
	for (size_t i = poll->model->count; i-- > 0;) {
		struct top_vm *vm = poll->model->vms[i];

		if (vm->health == TOP_GONE && now_ns - vm->gone_ns >= TOP_GONE_NS)
			top_model_remove(poll->model, vm);
	}
}

/* ---- questions ---- */

static void ask(struct top_poll *poll, struct peer *peer, enum question question, uint64_t now_ns)
{
	static const char *const commands[] = {
		[ASK_STATUS] = "status",
		[ASK_SWAP] = "swap status",
		[ASK_MAP] = "memory-map",
	};
	char cells[24];

	if (peer->link.fd < 0 || peer->owed_count == OWED_MAX)
		return;
	snprintf(cells, sizeof(cells), "%zu", poll->cells);
	if (top_link_send(&peer->link, commands[question], question == ASK_MAP ? cells : NULL)) {
		/* Hung up on, or stuck: the next look at it tells which. */
		hang_up(peer);
		return;
	}
	if (!peer->owed_count)
		peer->asked_ns = now_ns;
	peer->owed[peer->owed_count++] = question;
}

static void ask_peer(struct top_poll *poll, struct peer *peer, uint64_t now_ns)
{
	if (peer->owed_count)
		return;
	if (peer->link.fd < 0)
		connect_peer(poll, peer, now_ns);
	ask(poll, peer, ASK_STATUS, now_ns);
	ask(poll, peer, ASK_SWAP, now_ns);
	if (!strcmp(peer->name, poll->watched))
		ask(poll, peer, ASK_MAP, now_ns);
}

int top_poll_ask(struct top_poll *poll, uint64_t now_ns, struct error *err)
{
	int result;

	for (size_t i = 0; i < poll->count; i++)
		poll->peers[i]->seen = false;
	result = look_around(poll, err);
	if (result)
		return result;
	forget_unseen(poll, now_ns);
	for (size_t i = 0; i < poll->count; i++)
		ask_peer(poll, poll->peers[i], now_ns);
	return 0;
}

void top_poll_watch(struct top_poll *poll, const char *name, size_t cells)
{
	struct peer *peer;

	if (!name) {
		poll->watched[0] = '\0';
		top_map_clear(&poll->model->map);
		return;
	}
	if (cells < 1)
		cells = 1;
	if (cells > TOP_MAP_CELLS_MAX)
		cells = TOP_MAP_CELLS_MAX;
	if (!strcmp(poll->watched, name) && poll->cells == cells)
		return;
	if (strcmp(poll->model->map.name, name) != 0)
		top_map_clear(&poll->model->map);
	snprintf(poll->watched, sizeof(poll->watched), "%s", name);
	poll->cells = cells;
	peer = find_peer(poll, name);
	if (peer)
		ask(poll, peer, ASK_MAP, clock_monotonic_ns());
}

void top_poll_order(struct top_poll *poll, const char *name, const char *command)
{
	uint64_t now = clock_monotonic_ns();
	struct order *order = NULL;
	int result;

	for (size_t i = 0; i < ORDERS_MAX && !order; i++)
		if (poll->orders[i].link.fd < 0)
			order = &poll->orders[i];
	if (!order) {
		top_model_say(poll->model, now, true, "%s: too many commands under way", name);
		return;
	}
	result = top_link_open(&order->link, name);
	if (!result)
		result = top_link_send(&order->link, command, NULL);
	if (result) {
		top_link_close(&order->link);
		top_model_say(poll->model, now, true, "%s: %s: %s", name, command,
			      result == -EAGAIN ? "the machine is busy" : strerror(-result));
		return;
	}
	snprintf(order->name, sizeof(order->name), "%s", name);
	snprintf(order->command, sizeof(order->command), "%s", command);
	top_model_say(poll->model, now, false, "%s: %s", name, command);
}

/* ---- answers ---- */

static void take_answer(struct top_poll *poll, struct peer *peer, enum question question,
			const json_t *result, uint64_t now_ns)
{
	struct top_vm *vm = top_model_find(poll->model, peer->name);

	switch (question) {
	case ASK_STATUS:
		json_decref(peer->status);
		peer->status = json_incref((json_t *)result);
		break;
	case ASK_SWAP:
		if (!peer->status) /* it refused to answer: too many clients */
			note_silent(poll, peer);
		else if (vm)
			top_vm_take(vm, peer->status, result, now_ns);
		break;
	case ASK_MAP:
		/* It may have been asked for before the user turned away. */
		if (result && !strcmp(peer->name, poll->watched))
			top_map_take(&poll->model->map, peer->name, result);
		break;
	}
}

static void take_message(struct top_poll *poll, struct peer *peer, const json_t *message)
{
	uint64_t now = clock_monotonic_ns();
	enum question question;

	if (!peer->owed_count || json_object_get(message, "progress"))
		return;
	question = peer->owed[0];
	peer->owed_count--;
	memmove(peer->owed, peer->owed + 1, peer->owed_count * sizeof(peer->owed[0]));
	peer->asked_ns = now;
	/* An error (of an older version, say) is an answer without members. */
	take_answer(poll, peer, question, json_object_get(message, "result"), now);
}

static void serve_peer(struct top_poll *poll, struct peer *peer)
{
	int result = top_link_read(&peer->link);
	json_t *message;

	if (result == -EAGAIN)
		return;
	if (result) {
		hang_up(peer);
		if (result == -ECONNRESET) /* has it ended, or has it too many clients? */
			connect_peer(poll, peer, clock_monotonic_ns());
		return;
	}
	while (top_link_next(&peer->link, &message)) {
		take_message(poll, peer, message);
		json_decref(message);
	}
}

static bool take_order_message(struct top_poll *poll, struct order *order, const json_t *message)
{
	const json_t *error = json_object_get(message, "error");
	uint64_t now = clock_monotonic_ns();

	if (json_object_get(message, "progress"))
		return false;
	if (error)
		top_model_say(poll->model, now, true, "%s: %s", order->name,
			      render_text(error, "message"));
	else
		top_model_say(poll->model, now, false, "%s: %s: done", order->name, order->command);
	return true;
}

static void serve_order(struct top_poll *poll, struct order *order)
{
	int result = top_link_read(&order->link);
	bool done = result && result != -EAGAIN;
	struct peer *peer;
	json_t *message;

	while (!done && top_link_next(&order->link, &message)) {
		done = take_order_message(poll, order, message);
		json_decref(message);
	}
	if (!done)
		return;
	top_link_close(&order->link);
	/* So that the picture does not lag behind the message. */
	peer = find_peer(poll, order->name);
	if (peer)
		ask_peer(poll, peer, clock_monotonic_ns());
}

static void note_overdue(struct top_poll *poll)
{
	uint64_t now = clock_monotonic_ns();

	for (size_t i = 0; i < poll->count; i++) {
		struct peer *peer = poll->peers[i];

		if (peer->owed_count && now - peer->asked_ns >= TOP_SILENT_NS)
			note_silent(poll, peer);
	}
}

bool top_poll_wait(struct top_poll *poll_, int fd, int timeout_ms)
{
	size_t count = 1 + poll_->count + ORDERS_MAX;
	struct pollfd *wanted = calloc(count, sizeof(*wanted));
	bool readable;
	int ready;

	if (!wanted)
		return true;
	wanted[0] = (struct pollfd){.fd = fd, .events = POLLIN};
	for (size_t i = 0; i < poll_->count; i++)
		wanted[1 + i] = (struct pollfd){.fd = poll_->peers[i]->link.fd, .events = POLLIN};
	for (size_t i = 0; i < ORDERS_MAX; i++)
		wanted[1 + poll_->count + i] =
			(struct pollfd){.fd = poll_->orders[i].link.fd, .events = POLLIN};
	ready = poll(wanted, count, timeout_ms);
	note_overdue(poll_);
	if (ready <= 0) {
		free(wanted);
		return ready < 0 && fd >= 0; /* a signal: the terminal may have been resized */
	}
	readable = wanted[0].revents;
	for (size_t i = 0; i < poll_->count; i++) {
		if (wanted[1 + i].revents)
			serve_peer(poll_, poll_->peers[i]);
	}
	for (size_t i = 0; i < ORDERS_MAX; i++)
		if (wanted[1 + poll_->count + i].revents)
			serve_order(poll_, &poll_->orders[i]);
	free(wanted);
	return readable;
}

bool top_poll_is_settled(const struct top_poll *poll)
{
	for (size_t i = 0; i < poll->count; i++) {
		const struct peer *peer = poll->peers[i];

		if (peer->owed_count && clock_monotonic_ns() - peer->asked_ns < TOP_SILENT_NS)
			return false;
	}
	return true;
}
