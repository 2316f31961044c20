/*
 * What the parts of the control server share:
 *
 *   control_server.c      listening, the timer, news of events, the operation under way
 *   control_connection.c  one client: its bytes in and out, when it is served, when it is dropped
 *   control_request.c     one request: from its line to what is answered
 *
 * The server owns its connections. A connection owns its socket, the file that came with a request
 * and what it still has to send; it ends by connection_drop() alone. Functions that return -errno ask
 * for that end: whoever has such a result gives it to connection_settle(), and does not look at the
 * connection afterwards. All of it is for the loop's thread.
 */
#ifndef EBB_VMM_CONTROL_CONTROL_SERVER_INTERNAL_H
#define EBB_VMM_CONTROL_CONTROL_SERVER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/log.h"
#include "vmm/control/control_operation.h"
#include "vmm/control/control_protocol.h"
#include "vmm/control/control_server.h"

struct control_connection {
	struct control_server *server;
	struct event_source *source;
	int fd;
	int file;          /* came with a request that was not carried out yet; 0: none */
	uint32_t events;   /* what the source waits for */
	bool waits;        /* for the operation that it started */
	bool follows;      /* events; no request is taken any more */
	bool input_closed; /* the client sends no more */
	bool closing;      /* drop it when its output is gone */
	size_t input_length;
	uint64_t sequence; /* of the last event that it was sent */
	char *output;      /* allocated; what is not sent yet */
	size_t output_length;
	uint64_t output_since_ns; /* when the client last took some of it */
	char input[CONTROL_REQUEST_MAX];
};

struct control_server {
	struct event_loop *loop;
	struct control_host host;
	const struct control_socket *socket; /* borrowed */
	int listen_fd;
	struct event_source *listener;
	struct event_source *timer;
	struct event_source *news; /* of events_fd */
	int events_fd;             /* an eventfd: there are events */
	bool timer_runs;
	bool accept_rests; /* no descriptors left: the timer tries again */
	struct control_operation operation;
	struct control_connection *clients[CONTROL_CLIENTS_MAX];
	struct log_ratelimit accept_limit;
};

/* ---- control_server.c ---- */

/* Looks again in CONTROL_PROGRESS_NS: at an operation, and at clients that read nothing. */
void control_server_run_timer(struct control_server *server);

/* ---- control_connection.c ---- */

/* Takes @fd over on success. 0 or -errno. */
int connection_create(struct control_server *server, int fd, struct control_connection **out);

/* Closes what it owns, and takes it out of the server. */
void connection_drop(struct control_connection *client);

/*
 * After anything that happened, with its @result: goes on with requests that were held back, drops a
 * client that is done or that @result speaks of, waits for what matters now.
 */
void connection_settle(struct control_connection *client, int result);

/* Queues @line, which it frees; a NULL line means that memory ran out. 0 or -errno. */
int connection_send_line(struct control_connection *client, char *line);
int connection_send_error(struct control_connection *client, enum control_code code,
			  const char *message);
/* A "result" line, or that of @code and @error. Takes the reference to @answer. 0 or -errno. */
int connection_send_answer(struct control_connection *client, enum control_code code,
			   json_t *answer, const struct error *error);

/* To a client that follows: sends events until the socket takes no more. 0 or -errno. */
int connection_feed(struct control_connection *client);

/* Closes the file that came with a request; what works on longer has its own descriptor of it. */
void connection_forget_file(struct control_connection *client);

/* ---- control_request.c ---- */

/* Carries out the request in @line and queues what is answered at once. 0 or -errno. */
int control_request_handle(struct control_connection *client, const char *line, size_t length);

#endif
