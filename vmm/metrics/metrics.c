#include "vmm/metrics/metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/machine/machine.h"
#include "vmm/metrics/metrics_listen.h"
#include "vmm/metrics/metrics_text.h"

/* The library may hold some more than we let live: those that are being closed. */
#define LIBRARY_CONNECTIONS_MAX (METRICS_CONNECTIONS_MAX + 8)
#define CONNECTION_MEMORY       8192 /* for the request's head, bytes */

struct connection {
	struct connection *next; /* younger */
	int fd;                  /* the library's */
	uint64_t opened_ns;
	bool ended; /* shut down here; the library is to find that out */
};

struct metrics {
	struct machine *machine;
	const char *name;
	struct metrics_listener listener;
	struct MHD_Daemon *daemon; /* owns the listening descriptor */
	struct event_source *source;
	struct event_source *timer; /* the library's time limits and ours */
	struct connection *oldest;
	unsigned live;              /* connections that were not shut down */
	struct metrics_input input; /* too large for a stack */
};

/* ---- connections ---- */

static void end_connection(struct metrics *metrics, struct connection *connection)
{
	if (connection->ended)
		return;
	shutdown(connection->fd, SHUT_RDWR);
	connection->ended = true;
	metrics->live--;
}

static void end_oldest(struct metrics *metrics)
{
	struct connection *connection = metrics->oldest;

	while (connection && connection->ended)
		connection = connection->next;
	if (connection)
		end_connection(metrics, connection);
}

static void end_expired(struct metrics *metrics)
{
	uint64_t now = clock_monotonic_ns();

	for (struct connection *connection = metrics->oldest; connection;
	     connection = connection->next) {
		if (now - connection->opened_ns >= METRICS_LIFETIME_NS)
			end_connection(metrics, connection);
	}
}

static void note_opened(struct metrics *metrics, struct MHD_Connection *connection, void **context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct connection *mine = calloc(1, sizeof(*mine));
	struct connection **link = &metrics->oldest;

	*context = mine;
	if (!info || !mine) {
		if (info)
			shutdown(info->connect_fd, SHUT_RDWR);
		*context = NULL;
		free(mine);
		return;
	}
	if (metrics->live == METRICS_CONNECTIONS_MAX)
		end_oldest(metrics);
	mine->fd = info->connect_fd;
	mine->opened_ns = clock_monotonic_ns();
	metrics->live++;
	while (*link)
		link = &(*link)->next;
	*link = mine;
}

static void note_closed(struct metrics *metrics, struct connection *mine)
{
	struct connection **link = &metrics->oldest;

	if (!mine)
		return;
	while (*link != mine)
		link = &(*link)->next;
	*link = mine->next;
	if (!mine->ended)
		metrics->live--;
	free(mine);
}

static void on_connection(void *opaque, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		note_opened(opaque, connection, context);
	else
		note_closed(opaque, *context);
}

/* ---- requests ---- */

/* Queues @text, which the response owns from now on if @owned. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
			      char *text, size_t length, bool owned)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		length, text, owned ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result;

	if (!response) {
		if (owned)
			free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	/* One request each: a connection's lifetime is then all there is to bound. */
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", (char *)text, strlen(text),
		      false);
}

static int gather(struct metrics *metrics, char **text, size_t *length)
{
	struct metrics_input *input = &metrics->input;
	struct swap *swap = machine_swap(metrics->machine);

	input->version = EBB_VERSION;
	input->name = metrics->name;
	machine_get_status(metrics->machine, &input->machine);
	input->cpu_ns = machine_cpu_time_ns(metrics->machine);
	swap_get_status(swap, &input->swap);
	swap_get_latency(swap, input->latency);
	metrics_process_read(&input->process);
	return metrics_text_write(input, text, length);
}

static enum MHD_Result on_request(void *opaque, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_size, void **context)
{
	char *text;
	size_t length;

	(void)version, (void)upload, (void)upload_size, (void)context;
	/* Answered before a body is read: there is none that makes sense. */
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET /metrics\n");
	if (strcmp(url, "/metrics") != 0)
		return refuse(connection, MHD_HTTP_NOT_FOUND, "The metrics are at /metrics\n");
	if (gather(opaque, &text, &length))
		return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
	return answer(connection, MHD_HTTP_OK, METRICS_CONTENT_TYPE, text, length, true);
}

/* ---- the loop ---- */

/* Until the library, or a connection's lifetime, needs a look. Silent while nobody is connected. */
static void plan(struct metrics *metrics)
{
	uint64_t delay_ns = metrics->oldest ? NS_PER_SEC : 0;
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	if (MHD_get_timeout(metrics->daemon, &timeout_ms) == MHD_YES &&
	    (!delay_ns || timeout_ms * NS_PER_MS < delay_ns))
		delay_ns = timeout_ms ? timeout_ms * NS_PER_MS : 1;
	event_source_arm(metrics->timer, delay_ns, 0);
}

static void serve(struct metrics *metrics)
{
	end_expired(metrics);
	MHD_run(metrics->daemon);
	plan(metrics);
}

static void on_ready(void *opaque, uint32_t events)
{
	(void)events;
	serve(opaque);
}

static int start_daemon(struct metrics *metrics, struct error *err)
{
	metrics->daemon = MHD_start_daemon(
		MHD_USE_EPOLL, 0, NULL, NULL, on_request, metrics, MHD_OPTION_LISTEN_SOCKET,
		metrics->listener.fd, MHD_OPTION_NOTIFY_CONNECTION, on_connection, metrics,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)LIBRARY_CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(METRICS_LIFETIME_NS / NS_PER_SEC),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
	if (!metrics->daemon)
		return error_say(err, EIO, "--metrics: the HTTP server does not start");
	return 0;
}

static int watch(struct metrics *metrics, struct event_loop *loop, struct error *err)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(metrics->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int result;

	if (!info)
		return error_say(err, EIO, "--metrics: the HTTP server cannot be watched");
	result = event_loop_add_timer(loop, on_ready, metrics, &metrics->timer);
	if (!result)
		result = event_loop_add(loop, info->epoll_fd, EPOLLIN, on_ready, metrics,
					&metrics->source);
	return result ? error_errno(err, -result, "--metrics: watch the HTTP server") : 0;
}

int metrics_create(struct event_loop *loop, const struct metrics_config *config,
		   struct machine *machine, const char *name, struct metrics **out,
		   struct error *err)
{
	struct metrics *metrics;
	int result;

	*out = NULL;
	if (config->kind == METRICS_NONE)
		return 0;
	metrics = calloc(1, sizeof(*metrics));
	if (!metrics)
		return error_errno(err, ENOMEM, "--metrics");
	metrics->machine = machine;
	metrics->name = name;
	result = metrics_listen(config, &metrics->listener, err);
	if (result) {
		free(metrics);
		return result;
	}
	result = start_daemon(metrics, err);
	if (!result)
		result = watch(metrics, loop, err);
	if (result) {
		metrics_destroy(metrics);
		return result;
	}
	log_info("metrics: %s", metrics->listener.place);
	*out = metrics;
	return 0;
}

void metrics_destroy(struct metrics *metrics)
{
	if (!metrics)
		return;
	event_source_remove(metrics->source);
	event_source_remove(metrics->timer);
	if (metrics->daemon)
		MHD_stop_daemon(metrics->daemon); /* closes the connections and the listener */
	else
		close(metrics->listener.fd);
	metrics_listener_remove(&metrics->listener);
	free(metrics);
}

const char *metrics_place(const struct metrics *metrics)
{
	return metrics ? metrics->listener.place : NULL;
}
