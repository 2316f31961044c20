#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/control/commands_internal.h"
#include "vmm/control/control_protocol.h"
#include "vmm/control/events_internal.h"

char *events_format(const char *type, uint64_t sequence, json_t *members)
{
	json_t *body = json_pack("{s:s,s:I,s:I}", "type", type, "time_ns",
				 commands_number(clock_realtime_ns()), "sequence",
				 commands_number(sequence));
	bool failed = !body || !members || json_object_update(body, members);

	json_decref(members);
	if (failed) {
		json_decref(body);
		return NULL;
	}
	return control_format_line("event", body);
}

void events_emit(struct events *events, const char *type, json_t *members)
{
	char **slot;

	if (!events) {
		json_decref(members);
		return;
	}
	events->last++;
	slot = &events->kept[events->last % EVENTS_KEPT];
	free(*slot);
	*slot = events_format(type, events->last, members);
	for (size_t i = 0; i < events->listener_count; i++)
		events->listeners[i].heard(events->listeners[i].opaque);
}

int events_listen(struct events *events, void (*heard)(void *opaque), void *opaque)
{
	if (!events)
		return 0;
	if (events->listener_count == EVENTS_LISTENERS_MAX)
		return -ENOSPC;
	events->listeners[events->listener_count].heard = heard;
	events->listeners[events->listener_count].opaque = opaque;
	events->listener_count++;
	return 0;
}

uint64_t events_last(const struct events *events)
{
	return events ? events->last : 0;
}

static char *format_lost(uint64_t sequence, uint64_t count)
{
	return events_format("lost", sequence, json_pack("{s:I}", "count", commands_number(count)));
}

char *events_next(const struct events *events, uint64_t *sequence)
{
	uint64_t oldest;
	uint64_t next = *sequence + 1;
	char *line;

	if (!events || next > events->last)
		return NULL;
	oldest = events->last > EVENTS_KEPT ? events->last - EVENTS_KEPT + 1 : 1;
	if (next < oldest) {
		line = format_lost(oldest - 1, oldest - next);
		next = oldest - 1;
	} else if (!events->kept[next % EVENTS_KEPT]) {
		line = format_lost(next, 1);
	} else {
		line = strdup(events->kept[next % EVENTS_KEPT]);
	}
	if (line)
		*sequence = next;
	return line;
}

static void emit_log(struct events *events, const char *line)
{
	static const struct {
		const char *prefix;
		const char *level;
	} levels[] = {{"ebb: error: ", "error"}, {"ebb: warning: ", "warning"}};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		size_t length = strlen(levels[i].prefix);

		if (!strncmp(line, levels[i].prefix, length)) {
			events_emit(events, "log",
				    json_pack("{s:s,s:o}", "level", levels[i].level, "message",
					      control_json_string(line + length)));
			return;
		}
	}
}

void events_read_log(struct events *events)
{
	char line[LOG_LINE_MAX + 1];
	ssize_t length;

	while ((length = read(events->log_fds[0], line, LOG_LINE_MAX)) > 0) {
		line[length] = '\0';
		line[strcspn(line, "\n")] = '\0';
		emit_log(events, line);
	}
}

static void on_log(void *opaque, uint32_t mask)
{
	(void)mask;
	events_read_log(opaque);
}

/* Nobody waits in log_error(): if the pipe is full, the message is on standard error alone. */
static int copy_log(struct events *events, struct event_loop *loop)
{
	int result;

	if (pipe2(events->log_fds, O_CLOEXEC | O_NONBLOCK | O_DIRECT))
		return -errno;
	result = event_loop_add(loop, events->log_fds[0], EPOLLIN, on_log, events,
				&events->log_source);
	if (!result)
		log_copy_to(events->log_fds[1]);
	return result;
}

int events_create(struct event_loop *loop, struct machine *machine, struct events **out,
		  struct error *err)
{
	struct events *events = calloc(1, sizeof(*events));
	int result;

	if (!events)
		return error_errno(err, ENOMEM, "events");
	events->machine = machine;
	events->log_fds[0] = events->log_fds[1] = -1;
	result = copy_log(events, loop);
	if (!result)
		result = events_machine_init(events, loop);
	if (result) {
		events_destroy(events);
		return error_errno(err, -result, "events");
	}
	*out = events;
	return 0;
}

void events_destroy(struct events *events)
{
	if (!events)
		return;
	log_copy_to(-1);
	events_machine_release(events);
	event_source_remove(events->log_source);
	for (size_t i = 0; i < 2; i++) {
		if (events->log_fds[i] >= 0)
			close(events->log_fds[i]);
	}
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(events->kept[i]);
	free(events);
}
