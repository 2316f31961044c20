#include "devices/vsock_muxer.h"

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vsock_connection.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/unix_socket.h"

#define BUCKETS          256u
#define ACCEPTS_A_TURN   16u
#define LOOK_NS          NS_PER_SEC
#define FIRST_LOCAL_PORT (1u << 30) /* above what people give to services */
#define LAST_LOCAL_PORT  ((1u << 31) - 1)

TAILQ_HEAD(connection_queue, vsock_connection);
LIST_HEAD(connection_bucket, vsock_connection);

struct vsock_muxer {
	struct vsock_muxer_config host;
	struct unix_listener listener;
	struct event_source *accept_source;
	struct event_source *reset_source;
	struct event_source *timer;
	int reset_fd; /* eventfd: the I/O thread shall look at reset_pending */
	bool timer_runs;
	bool accept_paused; /* there were no descriptors left */
	bool reset_pending;
	bool pulling; /* who pulls looks for more by itself */
	uint32_t next_port;

	unsigned count;
	struct connection_queue all;
	struct connection_queue ready; /* with something for the guest, taken in turns */
	struct connection_bucket buckets[BUCKETS];

	struct vsock_packet refusals[VSOCK_REFUSALS_MAX];
	unsigned refusal_start, refusal_count;
	struct log_ratelimit limit;
};

static void on_socket(void *opaque, uint32_t events);

static struct connection_bucket *bucket_of(struct vsock_muxer *muxer, uint32_t local, uint32_t peer)
{
	return &muxer->buckets[(local ^ peer * 0x9e3779b1u) % BUCKETS];
}

static struct vsock_connection *find(struct vsock_muxer *muxer, uint32_t local, uint32_t peer)
{
	struct vsock_connection *connection;

	LIST_FOREACH(connection, bucket_of(muxer, local, peer), bucket_link)
	if (connection->local_port == local && connection->peer_port == peer)
		return connection;
	return NULL;
}

/* From now on, packets of the guest find it. */
static void give_ports(struct vsock_muxer *muxer, struct vsock_connection *connection,
		       uint32_t local, uint32_t peer)
{
	connection->local_port = local;
	connection->peer_port = peer;
	connection->is_hashed = true;
	LIST_INSERT_HEAD(bucket_of(muxer, local, peer), connection, bucket_link);
}

static void take_ports(struct vsock_connection *connection)
{
	if (connection->is_hashed)
		LIST_REMOVE(connection, bucket_link);
	connection->is_hashed = false;
}

static void drop(struct vsock_muxer *muxer, struct vsock_connection *connection)
{
	take_ports(connection);
	if (connection->is_ready)
		TAILQ_REMOVE(&muxer->ready, connection, ready_link);
	TAILQ_REMOVE(&muxer->all, connection, all_link);
	muxer->count--;
	event_source_remove(connection->source);
	vsock_connection_destroy(connection);
}

static void watch(struct vsock_muxer *muxer, struct vsock_connection *connection)
{
	bool wanted;
	uint32_t events = vsock_connection_interest(connection, &wanted);

	if (connection->source && !wanted) {
		event_source_remove(connection->source);
		connection->source = NULL;
	} else if (connection->source && events != connection->watched) {
		event_source_modify(connection->source, events);
	} else if (!connection->source && wanted &&
		   event_loop_add(muxer->host.loop, connection->fd, events, on_socket, connection,
				  &connection->source)) {
		vsock_connection_expire(connection); /* no memory to watch it */
	}
	connection->watched = events;
}

static void run_timer(struct vsock_muxer *muxer)
{
	if (!muxer->timer_runs)
		event_source_arm(muxer->timer, LOOK_NS, LOOK_NS);
	muxer->timer_runs = true;
}

/* Before something is added to what waits for the guest. */
static void wake(struct vsock_muxer *muxer)
{
	if (!muxer->pulling && !vsock_muxer_has_packets(muxer))
		muxer->host.wake(muxer->host.opaque);
}

/* After everything that may have changed @connection, which may be gone then. */
static void settle(struct vsock_muxer *muxer, struct vsock_connection *connection)
{
	watch(muxer, connection);
	if (connection->state == VSOCK_DEAD && !connection->pending) {
		drop(muxer, connection);
		return;
	}
	if (connection->deadline_ns)
		run_timer(muxer);
	if (connection->is_ready || !vsock_connection_has_work(connection))
		return;
	wake(muxer);
	connection->is_ready = true;
	TAILQ_INSERT_TAIL(&muxer->ready, connection, ready_link);
}

/* Takes @fd over, or closes it. */
static struct vsock_connection *add(struct vsock_muxer *muxer, int fd, enum vsock_state state)
{
	struct vsock_connection *connection;

	if (muxer->count == VSOCK_CONNECTIONS_MAX) {
		if (log_ratelimit_pass(&muxer->limit))
			log_warning("vsock: %u connections at once are the limit; one more is "
				    "refused",
				    VSOCK_CONNECTIONS_MAX);
		close(fd);
		return NULL;
	}
	if (vsock_connection_create(fd, state, &connection)) {
		close(fd);
		return NULL;
	}
	connection->owner = muxer;
	TAILQ_INSERT_TAIL(&muxer->all, connection, all_link);
	muxer->count++;
	return connection;
}

static void refuse(struct vsock_muxer *muxer, const struct vsock_packet *packet)
{
	unsigned end = (muxer->refusal_start + muxer->refusal_count) % VSOCK_REFUSALS_MAX;

	if (packet->op == VIRTIO_VSOCK_OP_RST || muxer->refusal_count == VSOCK_REFUSALS_MAX)
		return;
	wake(muxer);
	muxer->refusals[end] = vsock_packet_refusal(packet);
	muxer->refusal_count++;
}

bool vsock_muxer_can_receive(const struct vsock_muxer *muxer)
{
	return muxer->refusal_count < VSOCK_REFUSALS_MAX;
}

bool vsock_muxer_has_packets(const struct vsock_muxer *muxer)
{
	return muxer->refusal_count || !TAILQ_EMPTY(&muxer->ready);
}

/* What the guest that was reset had. Host programs that have not said CONNECT yet do not mind. */
static void apply_reset(struct vsock_muxer *muxer)
{
	struct vsock_connection *connection = TAILQ_FIRST(&muxer->all);

	if (!muxer->reset_pending)
		return;
	muxer->reset_pending = false;
	while (connection) {
		struct vsock_connection *next = TAILQ_NEXT(connection, all_link);

		if (connection->state != VSOCK_HANDSHAKE && connection->state != VSOCK_LINGERING)
			drop(muxer, connection);
		connection = next;
	}
}

void vsock_muxer_reset(struct vsock_muxer *muxer)
{
	muxer->reset_pending = true;
	muxer->refusal_count = 0;
	eventfd_write(muxer->reset_fd, 1);
}

static void on_reset(void *opaque, uint32_t events)
{
	struct vsock_muxer *muxer = opaque;
	eventfd_t count;

	(void)events;
	pthread_mutex_lock(muxer->host.lock);
	eventfd_read(muxer->reset_fd, &count);
	apply_reset(muxer);
	pthread_mutex_unlock(muxer->host.lock);
}

/* A program of the guest asks for the host's port @packet->dst_port. False: it cannot have it. */
static bool connect_to_host(struct vsock_muxer *muxer, const struct vsock_packet *packet)
{
	struct vsock_connection *connection;
	char path[UNIX_SOCKET_PATH_MAX + sizeof("_4294967295")];
	int fd;

	if (muxer->count == VSOCK_CONNECTIONS_MAX)
		return false;
	snprintf(path, sizeof(path), "%s_%u", muxer->listener.path, packet->dst_port);
	fd = unix_socket_connect(path);
	if (fd < 0)
		return false;
	connection = add(muxer, fd, VSOCK_ESTABLISHED);
	if (!connection)
		return false;
	connection->peer_buf_alloc = packet->buf_alloc;
	connection->peer_fwd_cnt = connection->sent = packet->fwd_cnt;
	connection->pending = VSOCK_OP_BIT(VIRTIO_VSOCK_OP_RESPONSE);
	give_ports(muxer, connection, packet->dst_port, packet->src_port);
	settle(muxer, connection);
	return true;
}

static void deliver(struct vsock_muxer *muxer, struct vsock_connection *connection,
		    const struct vsock_packet *packet, const uint8_t *payload)
{
	uint64_t now = clock_monotonic_ns();

	switch (vsock_connection_receive(connection, packet, payload, now)) {
	case VSOCK_KEEP:
		settle(muxer, connection);
		return;
	case VSOCK_CLOSE:
		refuse(muxer, packet);
		take_ports(connection); /* the guest may use them again */
		if (!vsock_connection_linger(connection, now))
			break;
		settle(muxer, connection);
		return;
	case VSOCK_RESET:
		refuse(muxer, packet);
		break;
	case VSOCK_FORGET:
		break;
	}
	drop(muxer, connection);
}

void vsock_muxer_receive(struct vsock_muxer *muxer, const struct vsock_packet *packet,
			 uint64_t payload_bytes, const uint8_t *payload)
{
	struct vsock_connection *connection;

	apply_reset(muxer);
	switch (vsock_packet_judge(packet, payload_bytes, muxer->host.guest_cid)) {
	case VSOCK_DROP:
		return;
	case VSOCK_REFUSE:
		refuse(muxer, packet);
		return;
	case VSOCK_TAKE:
		break;
	}
	connection = find(muxer, packet->dst_port, packet->src_port);
	if (connection)
		deliver(muxer, connection, packet, payload);
	else if (packet->op != VIRTIO_VSOCK_OP_REQUEST || !connect_to_host(muxer, packet))
		refuse(muxer, packet);
}

static bool pull_refusal(struct vsock_muxer *muxer, struct vsock_packet *packet)
{
	if (!muxer->refusal_count)
		return false;
	*packet = muxer->refusals[muxer->refusal_start];
	muxer->refusal_start = (muxer->refusal_start + 1) % VSOCK_REFUSALS_MAX;
	muxer->refusal_count--;
	return true;
}

bool vsock_muxer_pull(struct vsock_muxer *muxer, struct vsock_packet *packet, uint8_t *payload,
		      size_t room)
{
	struct vsock_connection *connection;
	bool pulled = false;

	apply_reset(muxer);
	if (pull_refusal(muxer, packet))
		return true;
	muxer->pulling = true;
	while (!pulled && (connection = TAILQ_FIRST(&muxer->ready))) {
		TAILQ_REMOVE(&muxer->ready, connection, ready_link);
		connection->is_ready = false;
		pulled = vsock_connection_pull(connection, packet, payload, room,
					       clock_monotonic_ns());
		settle(muxer, connection); /* behind the others, if there is more */
	}
	muxer->pulling = false;
	if (pulled) {
		packet->src_cid = VSOCK_HOST_CID;
		packet->dst_cid = muxer->host.guest_cid;
	}
	return pulled;
}

/* A port of the host's that is free towards the guest's @peer. */
static uint32_t pick_port(struct vsock_muxer *muxer, uint32_t peer)
{
	uint32_t port;

	/* There are far more ports than connections. */
	do {
		port = muxer->next_port;
		muxer->next_port = port == LAST_LOCAL_PORT ? FIRST_LOCAL_PORT : port + 1;
	} while (find(muxer, port, peer));
	return port;
}

static void shake_hands(struct vsock_muxer *muxer, struct vsock_connection *connection)
{
	uint32_t port;
	int result = vsock_connection_read_line(connection, &port);

	if (!result)
		return;
	if (result < 0 || !muxer->host.is_live(muxer->host.opaque)) {
		drop(muxer, connection);
		return;
	}
	give_ports(muxer, connection, pick_port(muxer, port), port);
	connection->state = VSOCK_REQUESTED;
	connection->pending = VSOCK_OP_BIT(VIRTIO_VSOCK_OP_REQUEST);
	connection->deadline_ns = clock_monotonic_ns() + VSOCK_ANSWER_NS;
	settle(muxer, connection);
}

static void on_socket(void *opaque, uint32_t events)
{
	struct vsock_connection *connection = opaque;
	struct vsock_muxer *muxer = connection->owner;

	pthread_mutex_lock(muxer->host.lock);
	if (muxer->reset_pending) {
		apply_reset(muxer); /* it may be gone; if not, the event comes again */
	} else if (connection->state == VSOCK_HANDSHAKE) {
		shake_hands(muxer, connection);
	} else {
		vsock_connection_on_events(connection, events, clock_monotonic_ns());
		settle(muxer, connection);
	}
	pthread_mutex_unlock(muxer->host.lock);
}

/* False if there is nobody else. */
static bool accept_one(struct vsock_muxer *muxer)
{
	struct vsock_connection *connection;
	int fd = accept4(muxer->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
		return true;
	if (fd < 0 && errno != EAGAIN) {
		/* Whoever waits there makes the event come again and again: look away for a while. */
		if (log_ratelimit_pass(&muxer->limit))
			log_warning("%s: accept: %s", muxer->listener.path, strerrordesc_np(errno));
		event_source_modify(muxer->accept_source, 0);
		muxer->accept_paused = true;
		run_timer(muxer);
	}
	if (fd < 0)
		return false;
	connection = add(muxer, fd, VSOCK_HANDSHAKE);
	if (connection) {
		connection->deadline_ns = clock_monotonic_ns() + VSOCK_ANSWER_NS;
		settle(muxer, connection);
	}
	return true;
}

static void on_accept(void *opaque, uint32_t events)
{
	struct vsock_muxer *muxer = opaque;

	(void)events;
	pthread_mutex_lock(muxer->host.lock);
	apply_reset(muxer);
	for (unsigned i = 0; i < ACCEPTS_A_TURN && accept_one(muxer); i++)
		;
	pthread_mutex_unlock(muxer->host.lock);
}

/* Looks at all deadlines. True if there are more to come. */
static bool expire_connections(struct vsock_muxer *muxer)
{
	struct vsock_connection *connection = TAILQ_FIRST(&muxer->all);
	uint64_t now = clock_monotonic_ns();
	bool more = false;

	while (connection) {
		struct vsock_connection *next = TAILQ_NEXT(connection, all_link);

		if (connection->deadline_ns && now >= connection->deadline_ns) {
			vsock_connection_expire(connection);
			settle(muxer, connection);
		} else if (connection->deadline_ns) {
			more = true;
		}
		connection = next;
	}
	return more;
}

static void on_timer(void *opaque, uint32_t events)
{
	struct vsock_muxer *muxer = opaque;

	(void)events;
	pthread_mutex_lock(muxer->host.lock);
	apply_reset(muxer);
	if (muxer->accept_paused)
		event_source_modify(muxer->accept_source, EPOLLIN);
	muxer->accept_paused = false;
	if (!expire_connections(muxer)) {
		event_source_arm(muxer->timer, 0, 0);
		muxer->timer_runs = false;
	}
	pthread_mutex_unlock(muxer->host.lock);
}

static int listen_to_all(struct vsock_muxer *muxer)
{
	struct event_loop *loop = muxer->host.loop;
	int result = event_loop_add_timer(loop, on_timer, muxer, &muxer->timer);

	if (result)
		return result;
	result = event_loop_add(loop, muxer->reset_fd, EPOLLIN, on_reset, muxer,
				&muxer->reset_source);
	if (result)
		goto remove_timer;
	result = event_loop_add(loop, muxer->listener.fd, EPOLLIN, on_accept, muxer,
				&muxer->accept_source);
	if (result)
		goto remove_reset;
	return 0;

remove_reset:
	event_source_remove(muxer->reset_source);
remove_timer:
	event_source_remove(muxer->timer);
	return result;
}

int vsock_muxer_create(const struct vsock_muxer_config *config, struct vsock_muxer **out,
		       struct error *err)
{
	struct vsock_muxer *muxer = calloc(1, sizeof(*muxer));
	int result;

	if (!muxer)
		return error_errno(err, ENOMEM, "vsock");
	muxer->host = *config;
	muxer->next_port = FIRST_LOCAL_PORT;
	TAILQ_INIT(&muxer->all);
	TAILQ_INIT(&muxer->ready);
	if (strlen(config->path) > VSOCK_PATH_MAX) {
		result = error_say(err, ENAMETOOLONG,
				   "%s: too long for vsock's sockets (%u bytes at most); use a "
				   "shorter path",
				   config->path, VSOCK_PATH_MAX);
		goto free_muxer;
	}
	muxer->reset_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (muxer->reset_fd < 0) {
		result = error_errno(err, errno, "vsock: eventfd");
		goto free_muxer;
	}
	result = unix_listener_open(&muxer->listener, config->path, err);
	if (result)
		goto close_reset;
	result = listen_to_all(muxer);
	if (result)
		goto close_listener;
	*out = muxer;
	return 0;

close_listener:
	error_errno(err, -result, "vsock: watch the sockets");
	unix_listener_close(&muxer->listener);
close_reset:
	close(muxer->reset_fd);
free_muxer:
	free(muxer);
	return result;
}

void vsock_muxer_destroy(struct vsock_muxer *muxer)
{
	struct vsock_connection *connection;

	if (!muxer)
		return;
	while ((connection = TAILQ_FIRST(&muxer->all)))
		drop(muxer, connection);
	event_source_remove(muxer->accept_source);
	event_source_remove(muxer->reset_source);
	event_source_remove(muxer->timer);
	unix_listener_close(&muxer->listener);
	close(muxer->reset_fd);
	free(muxer);
}

void vsock_muxer_remove_socket(const struct vsock_muxer *muxer)
{
	unix_listener_remove(&muxer->listener);
}
