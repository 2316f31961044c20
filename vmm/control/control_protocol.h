/*
 * What is said over a VM's control socket: lines of JSON (UTF-8, no newline inside).
 *
 * A client sends requests, each at most CONTROL_REQUEST_MAX bytes with its newline:
 *
 *   {"command":"swap out"}
 *   {"command":"balloon","arguments":["256M"]}
 *
 * "arguments" is optional: at most CONTROL_ARGUMENTS_MAX strings. Other members are refused.
 * Requests on one connection are answered in order; a second one waits until the first is answered.
 * A file is opened by the client, with its rights: the descriptor comes with the request's first
 * byte (SCM_RIGHTS), its absolute name in the arguments is for messages. To cancel an operation, send "swap cancel" on another
 * connection. The answer to a request is any
 * number of progress lines, then exactly one result or error:
 *
 *   {"progress":{"operation":"out","pages_done":N,"pages_total":N,…}}
 *   {"result":{…}}                                  (the members of both: see commands.h)
 *   {"error":{"code":"wrong_state","message":"…"}}
 *
 * The command "events" is answered in another way: any number of lines {"event":{…}} (vmm/control/events.h),
 * or one error, until the client closes the connection or the VM ends. No further request is taken.
 *
 * Codes are stable, messages are for people. After a line that is too long the connection is closed
 * behind the error. A connection may be half-closed: what was asked for is still answered.
 *
 * Members may be added to the objects in later versions, none is renamed or dropped.
 */
#ifndef EBB_VMM_CONTROL_CONTROL_PROTOCOL_H
#define EBB_VMM_CONTROL_CONTROL_PROTOCOL_H

#include <jansson.h>
#include <stddef.h>

#include "vmm/base/error.h"

#define CONTROL_REQUEST_MAX   4096u
#define CONTROL_ARGUMENTS_MAX 8u
#define CONTROL_DEPTH_MAX     4u /* nested brackets in a request */

enum control_code {
	CONTROL_OK,
	CONTROL_INVALID_REQUEST,  /* "invalid_request": no request by the rules above */
	CONTROL_UNKNOWN_COMMAND,  /* "unknown_command" */
	CONTROL_INVALID_ARGUMENT, /* "invalid_argument": too many, too few, or no such value */
	CONTROL_WRONG_STATE,      /* "wrong_state": not in the state that the message names */
	CONTROL_BUSY,             /* "busy": another operation runs, or too many clients */
	CONTROL_UNSUPPORTED,      /* "unsupported": the VM was started without it */
	CONTROL_CANCELLED,        /* "cancelled": the operation was */
	CONTROL_NO_SPACE,         /* "no_space": the store's file system is full */
	CONTROL_QUITTING,         /* "quitting": the VM ended before the operation did */
	CONTROL_FAILED,           /* "failed": anything else */
	CONTROL_CODE_COUNT,
};

/* One request, parsed. The strings belong to @json. */
struct control_request {
	json_t *json;
	const char *command;
	const char *arguments[CONTROL_ARGUMENTS_MAX];
	size_t argument_count;
	int file; /* > 0: the descriptor that came with it, borrowed */
};

/*
 * Parses one line (without its newline). CONTROL_OK and @request set (to be cleared by the caller),
 * or CONTROL_INVALID_REQUEST and @err.
 */
enum control_code control_request_parse(const char *line, size_t length,
					struct control_request *request, struct error *err);
void control_request_clear(struct control_request *request);

const char *control_code_name(enum control_code code);
/* CONTROL_FAILED for a name that this version does not know. */
enum control_code control_code_by_name(const char *name);
/* The code for a -errno of machine.h or swap.h. */
enum control_code control_code_from_errno(int result);

/*
 * One line of an answer: its kind ("result", "error", "progress", "event") and body, which belong to
 * what is returned. NULL: it is none. Another process wrote it, and it will be shown on a terminal:
 * control characters in its strings have become '?'.
 */
json_t *control_answer_parse(const char *line, const char **kind, const json_t **body);

/* The body of an "error": its code, and its message in @err. */
enum control_code control_answer_error(const json_t *body, struct error *err);

/* A string value from any bytes: what is not UTF-8 becomes '?'. NULL: out of memory. */
json_t *control_json_string(const char *text);

/*
 * Lines with their newline, to be freed; NULL: out of memory. control_format_line() makes
 * {"@kind":@body} and takes the reference to @body, which may be NULL (then it returns NULL).
 */
char *control_format_line(const char *kind, json_t *body);
char *control_format_error(enum control_code code, const char *message);
/* @arguments: @count strings. */
char *control_format_request(const char *command, const char *const *arguments, size_t count);

#endif
