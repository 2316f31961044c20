/* AF_VSOCK in the guest (vsock(7)): a server that echoes, and a client of the host's echo. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent.h"

#define CHUNK         16384u
#define PORT_MAX      UINT32_MAX
#define BYTES_MAX     (1ull << 40)
#define PATTERN_SEED  0x7650
#define PATIENCE_SECS 300

static bool send_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		data += sent;
		length -= (size_t)sent;
	}
	return true;
}

static void *echo_main(void *opaque)
{
	int fd = (int)(intptr_t)opaque;
	char data[CHUNK];
	ssize_t got;

	while ((got = recv(fd, data, sizeof(data), 0)) > 0 && send_all(fd, data, (size_t)got))
		;
	close(fd);
	return NULL;
}

static void *server_main(void *opaque)
{
	int listener = (int)(intptr_t)opaque;

	for (;;) {
		pthread_t thread;
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0 && pthread_create(&thread, NULL, echo_main, (void *)(intptr_t)fd))
			close(fd);
		else if (fd >= 0)
			pthread_detach(thread);
	}
	return NULL;
}

static int open_socket(void)
{
	const struct timeval patience = {.tv_sec = PATIENCE_SECS};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void serve(uint32_t port)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t thread;

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, 64) || pthread_create(&thread, NULL, server_main, (void *)(intptr_t)fd)) {
		answer_fail("%s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	pthread_detach(thread);
	answer_done();
}

struct sender {
	int fd;
	uint64_t bytes;
};

static void fill(uint64_t *words, uint64_t offset)
{
	for (size_t i = 0; i < CHUNK / 8; i++)
		words[i] = pattern(PATTERN_SEED, offset / 8 + i);
}

static void *send_main(void *opaque)
{
	const struct sender *sender = opaque;
	uint64_t words[CHUNK / 8];

	for (uint64_t done = 0; done < sender->bytes; done += CHUNK) {
		uint64_t left = sender->bytes - done;

		fill(words, done);
		if (!send_all(sender->fd, (const char *)words, left < CHUNK ? left : CHUNK))
			break;
	}
	shutdown(sender->fd, SHUT_WR);
	return NULL;
}

/* Reads the pattern until the other side ends. 0, or -errno; -EBADMSG: it is not the pattern. */
static int check(int fd, uint64_t bytes)
{
	uint64_t words[CHUNK / 8], expected[CHUNK / 8], done = 0;

	for (;;) {
		uint64_t left = bytes - done;
		size_t wanted = left && left < CHUNK ? left : CHUNK;
		ssize_t got = recv(fd, words, wanted, MSG_WAITALL);

		if (got < 0)
			return -errno;
		if (got == 0)
			return done == bytes ? 0 : -EPIPE;
		fill(expected, done);
		if ((size_t)got > left || memcmp(words, expected, (size_t)got))
			return -EBADMSG;
		done += (uint64_t)got;
	}
}

static void connect_to(uint32_t port, uint64_t bytes)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = port,
	};
	struct sender sender = {.fd = open_socket(), .bytes = bytes};
	pthread_t thread;
	int rc;

	if (sender.fd < 0 ||
	    connect(sender.fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    pthread_create(&thread, NULL, send_main, &sender)) {
		answer_fail("%s", strerror(errno));
	} else {
		rc = check(sender.fd, bytes);
		shutdown(sender.fd, SHUT_RDWR);
		pthread_join(thread, NULL);
		if (rc)
			answer_fail("%s", rc == -EBADMSG ? "wrong content" : strerror(-rc));
		else
			answer_ok("bytes=%lu", bytes);
	}
	if (sender.fd >= 0)
		close(sender.fd);
}

static void tell_cid(void)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned cid = 0;

	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid))
		answer_fail("/dev/vsock: %s", strerror(errno));
	else
		answer_ok("cid=%u", cid);
	if (fd >= 0)
		close(fd);
}

void command_vsock(char **words)
{
	const char *verb = words[0] ? words[0] : "";
	uint64_t port, bytes;

	if (!strcmp(verb, "cid")) {
		tell_cid();
	} else if (!strcmp(verb, "serve")) {
		if (parse_number(words[1], PORT_MAX, &port))
			serve((uint32_t)port);
	} else if (!strcmp(verb, "connect")) {
		if (parse_number(words[1], PORT_MAX, &port) &&
		    parse_number(words[2], BYTES_MAX, &bytes))
			connect_to((uint32_t)port, bytes);
	} else {
		answer_fail("vsock cid | serve PORT | connect PORT BYTES");
	}
}
