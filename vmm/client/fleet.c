#include "vmm/client/fleet.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/client/control_client.h"
#include "vmm/control/control_socket.h"

enum member_state {
	MEMBER_WAITS,  /* for its turn */
	MEMBER_KNOCKS, /* its machine was slow to accept: tried again and again */
	MEMBER_ASKED,
	MEMBER_DONE,
};

struct member {
	enum member_state state;
	int fd; /* of MEMBER_ASKED */
	const char *question;
	uint64_t heard_ns; /* when it last said something, or was asked */
	char *input;
	size_t length;
	size_t capacity;
};

struct run {
	const struct fleet *fleet;
	struct member *members;
	struct pollfd *polled; /* one for each, and the interrupt's */
	bool stopping;
};

static size_t index_of(const struct run *run, const struct member *member)
{
	return (size_t)(member - run->members);
}

static const char *name_of(const struct run *run, const struct member *member)
{
	return run->fleet->names[index_of(run, member)].text;
}

/* Hands @answer over. The next question, or NULL: the member is done. */
static const char *hand_over(struct run *run, struct member *member, struct fleet_answer *answer)
{
	const char *question;

	if (member->state == MEMBER_ASKED)
		control_socket_check_peer(member->fd, &answer->pid);
	question = run->fleet->ask(run->fleet->opaque, index_of(run, member), answer);
	if (question && answer->outcome == FLEET_ANSWERED)
		return question;
	if (member->state == MEMBER_ASKED)
		close(member->fd);
	free(member->input);
	member->input = NULL;
	member->state = MEMBER_DONE;
	return NULL;
}

static void give_up(struct run *run, struct member *member, enum fleet_outcome outcome,
		    const struct error *error)
{
	struct fleet_answer answer = {
		.outcome = outcome,
		.code = CONTROL_FAILED,
		.error = *error,
	};

	hand_over(run, member, &answer);
}

static void skip(struct run *run, struct member *member)
{
	struct error error;

	error_say(&error, EINTR, "interrupted");
	give_up(run, member, FLEET_SKIPPED, &error);
}

static void send_question(struct run *run, struct member *member)
{
	char *line = control_format_request(member->question, NULL, 0);
	size_t length = line ? strlen(line) : 0;
	struct error error;

	member->heard_ns = clock_monotonic_ns();
	/* It is short, and nothing waits in the socket: it fits. */
	if (line && send(member->fd, line, length, MSG_NOSIGNAL) == (ssize_t)length) {
		free(line);
		return;
	}
	free(line);
	error_say(&error, ECONNRESET, "machine \"%s\" ended", name_of(run, member));
	give_up(run, member, FLEET_ENDED, &error);
}

static void try_connect(struct run *run, struct member *member)
{
	const char *name = name_of(run, member);
	char path[CONTROL_PATH_MAX];
	struct error error;
	int result = control_socket_find(name, path, &error);

	if (!result)
		result = control_socket_connect_nowait(path, name, &member->fd, &error);
	if (result == -EAGAIN) {
		member->state = MEMBER_KNOCKS;
		return;
	}
	if (result) {
		give_up(run, member,
			result == -ENOENT || result == -ECONNREFUSED ? FLEET_ABSENT : FLEET_FAILED,
			&error);
		return;
	}
	member->state = MEMBER_ASKED;
	send_question(run, member);
}

static void start(struct run *run, struct member *member)
{
	member->question = run->fleet->ask(run->fleet->opaque, index_of(run, member), NULL);
	member->heard_ns = clock_monotonic_ns();
	if (member->question)
		try_connect(run, member);
	else
		member->state = MEMBER_DONE;
}

/* One line of an answer. */
static void take_line(struct run *run, struct member *member, const char *line)
{
	struct fleet_answer answer = {.outcome = FLEET_ANSWERED};
	const char *kind;
	const json_t *body;
	json_t *json = control_answer_parse(line, &kind, &body);

	if (!json) {
		error_say(&answer.error, EPROTO,
			  "machine \"%s\": its answer is not understood (another version of ebb?)",
			  name_of(run, member));
		give_up(run, member, FLEET_FAILED, &answer.error);
		return;
	}
	if (!strcmp(kind, "error")) {
		answer.outcome = FLEET_REFUSED;
		answer.code = control_answer_error(body, &answer.error);
		hand_over(run, member, &answer);
	} else if (!strcmp(kind, "result")) {
		answer.result = body;
		member->question = hand_over(run, member, &answer);
		if (member->question && run->stopping)
			skip(run, member);
		else if (member->question)
			send_question(run, member);
	}
	json_decref(json);
}

/* False: no more room. */
static bool make_room(struct member *member)
{
	size_t capacity = member->capacity ? 2 * member->capacity : 4096;
	char *input;

	if (member->length < member->capacity)
		return true;
	input = capacity <= FLEET_LINE_MAX ? realloc(member->input, capacity) : NULL;
	if (!input)
		return false;
	member->input = input;
	member->capacity = capacity;
	return true;
}

static void receive(struct run *run, struct member *member)
{
	struct error error;
	ssize_t count;
	char *end;

	if (!make_room(member)) {
		error_say(&error, EMSGSIZE, "machine \"%s\": its answer is too long",
			  name_of(run, member));
		give_up(run, member, FLEET_FAILED, &error);
		return;
	}
	count = recv(member->fd, member->input + member->length, member->capacity - member->length,
		     MSG_DONTWAIT);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		error_say(&error, ECONNRESET, "machine \"%s\" ended", name_of(run, member));
		give_up(run, member, FLEET_ENDED, &error);
		return;
	}
	member->heard_ns = clock_monotonic_ns();
	member->length += (size_t)count;
	while (member->state == MEMBER_ASKED &&
	       (end = memchr(member->input, '\n', member->length))) {
		size_t used = (size_t)(end - member->input) + 1;

		*end = '\0';
		take_line(run, member, member->input);
		if (member->state != MEMBER_ASKED)
			return;
		member->length -= used;
		memmove(member->input, member->input + used, member->length);
	}
}

static void check_patience(struct run *run, struct member *member, uint64_t now_ns)
{
	struct error error;

	if (now_ns - member->heard_ns < run->fleet->timeout_ns || now_ns < member->heard_ns) {
		if (member->state == MEMBER_KNOCKS)
			try_connect(run, member);
		return;
	}
	error_say(
		&error, ETIMEDOUT,
		"machine \"%s\" does not answer: it said nothing for %.0f s (is its process stopped?)",
		name_of(run, member), (double)run->fleet->timeout_ns / (double)NS_PER_SEC);
	give_up(run, member, FLEET_SILENT, &error);
}

/* Starts what may start now. False: all are done. */
static bool fill_up(struct run *run)
{
	uint64_t now_ns = clock_monotonic_ns();
	unsigned working = 0;
	bool more = false;

	for (size_t i = 0; i < run->fleet->count; i++) {
		const struct member *member = &run->members[i];

		if ((member->state == MEMBER_ASKED || member->state == MEMBER_KNOCKS) &&
		    now_ns - member->heard_ns < FLEET_QUIET_NS)
			working++;
	}
	for (size_t i = 0; i < run->fleet->count; i++) {
		struct member *member = &run->members[i];

		if (member->state == MEMBER_WAITS && working < run->fleet->jobs) {
			start(run, member);
			working += member->state != MEMBER_DONE;
		}
		more = more || member->state != MEMBER_DONE;
	}
	return more;
}

static int interrupt(struct run *run, struct error *err)
{
	uint64_t now_ns = clock_monotonic_ns();
	struct signalfd_siginfo info;

	if (read(run->fleet->interrupt_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (run->stopping)
		return error_say(err, EINTR, "interrupted");
	run->stopping = true;
	for (size_t i = 0; i < run->fleet->count; i++) {
		struct member *member = &run->members[i];

		if (member->state == MEMBER_WAITS || member->state == MEMBER_KNOCKS)
			skip(run, member);
		else if (member->state == MEMBER_ASKED &&
			 now_ns - member->heard_ns < FLEET_QUIET_NS)
			control_client_cancel(name_of(run, member), NULL);
	}
	return 0;
}

static int wait_and_serve(struct run *run, struct error *err)
{
	size_t count = run->fleet->count;
	uint64_t now_ns;
	int ready;

	for (size_t i = 0; i < count; i++)
		run->polled[i] = (struct pollfd){
			.fd = run->members[i].state == MEMBER_ASKED ? run->members[i].fd : -1,
			.events = POLLIN,
		};
	run->polled[count] = (struct pollfd){.fd = run->fleet->interrupt_fd, .events = POLLIN};
	ready = poll(run->polled, count + 1, (int)(FLEET_RETRY_NS / NS_PER_MS));
	if (ready < 0 && errno != EINTR)
		return error_errno(err, errno, "poll");
	for (size_t i = 0; ready > 0 && i < count; i++) {
		if (run->polled[i].revents)
			receive(run, &run->members[i]);
	}
	if (ready > 0 && run->polled[count].revents && interrupt(run, err))
		return -EINTR;
	now_ns = clock_monotonic_ns();
	for (size_t i = 0; i < count; i++) {
		if (run->members[i].state == MEMBER_ASKED || run->members[i].state == MEMBER_KNOCKS)
			check_patience(run, &run->members[i], now_ns);
	}
	return 0;
}

int fleet_run(const struct fleet *fleet, struct error *err)
{
	struct run run = {.fleet = fleet};
	int result = 0;

	run.members = calloc(fleet->count + 1, sizeof(*run.members));
	run.polled = calloc(fleet->count + 1, sizeof(*run.polled));
	if (!run.members || !run.polled) {
		result = error_errno(err, ENOMEM, "%zu machines", fleet->count);
		goto free_all;
	}
	while (!result && fill_up(&run))
		result = wait_and_serve(&run, err);
	for (size_t i = 0; i < fleet->count; i++) {
		if (run.members[i].state == MEMBER_ASKED)
			close(run.members[i].fd);
		free(run.members[i].input);
	}

free_all:
	free(run.polled);
	free(run.members);
	return result;
}
