/*
 * `--net user` with passt itself; and with programs that are called passt and misbehave, to see what
 * the user is told.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/machine/net_user.h"
#include "vmm/machine/passt.h"

#define SKIPPED     77
#define PATIENCE_MS 20000

static const struct net_config nothing = {.kind = NET_USER};
static struct error error;
static char *real_path;
static char directory[] = "/tmp/ebb-net-user-XXXXXX";
static uint8_t buffer[NET_FRAME_MAX];

/* The script becomes the only passt in $PATH; NULL: there is none. */
static void use_script(const char *script)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s/passt", directory);
	unlink(name);
	if (script) {
		fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, script, strlen(script)), strlen(script));
		close(fd);
	}
	setenv("PATH", directory, 1);
}

static int use_real_passt(void **state)
{
	(void)state;
	memset(&error, 0, sizeof(error));
	return setenv("PATH", real_path, 1);
}

static void assert_says(const char *part)
{
	if (!strstr(error.text, part))
		fail_msg("\"%s\" does not say \"%s\"", error.text, part);
	assert_null(strchr(error.text, '\n'));
}

static struct net_backend *open_user(const struct net_config *config)
{
	struct net_backend *backend = NULL;

	if (net_user_open(config, &backend, &error))
		fail_msg("%s", error.text);
	return backend;
}

static void assert_refused(const struct net_config *config, int result)
{
	struct net_backend *backend = NULL;

	assert_int_equal(net_user_open(config, &backend, &error), result);
	assert_null(backend);
}

/* The only child of this process. 0: there is none. */
static pid_t child(void)
{
	FILE *file = fopen("/proc/thread-self/children", "re");
	int pid = 0;

	assert_non_null(file);
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid;
}

static ssize_t await_frame(struct net_backend *backend)
{
	struct pollfd readable = {.fd = backend->fd, .events = POLLIN};
	ssize_t size;

	do {
		if (poll(&readable, 1, PATIENCE_MS) != 1)
			fail_msg("no frame comes");
		size = backend->ops->receive(backend, buffer);
	} while (size == -EAGAIN);
	return size;
}

/* Asks who has an address that the guest itself cannot have. */
static void send_arp_request(struct net_backend *backend)
{
	static const uint8_t request[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0,    0, 0,   0x07, 0x08, 0x06,
		0,    1,    0x08, 0,    6,    4,    0,    1, 0x02, 0, 0,   0,    0,    0x07,
		0,    0,    0,    0,    0,    0,    0,    0, 0,    0, 203, 0,    113,  77,
	};
	const struct iovec frame = {.iov_base = (void *)request, .iov_len = sizeof(request)};
	const struct virtio_net_hdr_v1 header = {0};

	assert_int_equal(backend->ops->send(backend, &header, &frame, 1), 0);
}

static void passt_answers(void **state)
{
	struct net_backend *backend = open_user(&nothing);
	const uint8_t *frame = buffer + sizeof(struct virtio_net_hdr_v1);
	static const uint8_t guest[6] = {0x02, 0, 0, 0, 0, 0x07};

	(void)state;
	send_arp_request(backend);
	do {
		assert_true(await_frame(backend) >= (ssize_t)sizeof(struct virtio_net_hdr_v1) + 42);
	} while (frame[12] != 0x08 || frame[13] != 0x06); /* not an IPv6 announcement */
	assert_memory_equal(frame, guest, 6);
	assert_int_equal(frame[21], ARPOP_REPLY);
	net_backend_destroy(backend);
}

/* passt is given no privilege by anybody: root's rights are no part of it. */
static void ordinary_user_may_use_it(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	if (geteuid())
		skip(); /* as are the rest of these tests, then */
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct net_backend *backend;

		if (setgroups(0, NULL) || setgid(65534) || setuid(65534) ||
		    net_user_open(&nothing, &backend, &error)) {
			fprintf(stderr, "%s\n", error.text);
			_exit(1);
		}
		net_backend_destroy(backend);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void destroying_it_ends_passt(void **state)
{
	struct net_backend *backend = open_user(&nothing);
	pid_t pid = child();

	(void)state;
	assert_true(pid > 0);
	net_backend_destroy(backend);
	assert_int_equal(child(), 0);
	assert_int_equal(kill(pid, 0), -1);
}

/* What else passt has it opened itself. */
static void passt_inherits_nothing(void **state)
{
	int secret = open("/etc/hostname", O_RDONLY); /* without O_CLOEXEC on purpose */
	struct net_backend *backend = open_user(&nothing);
	struct dirent *entry;
	char name[300];
	DIR *dir;

	(void)state;
	assert_true(secret >= 0);
	snprintf(name, sizeof(name), "/proc/%d/fd", (int)child());
	dir = opendir(name); /* root may */
	while (dir && (entry = readdir(dir))) {
		char target[100] = "";

		snprintf(name, sizeof(name), "/proc/%d/fd/%s", (int)child(), entry->d_name);
		if (readlink(name, target, sizeof(target) - 1) > 0)
			assert_string_not_equal(target, "/etc/hostname");
	}
	close(secret);
	net_backend_destroy(backend);
	if (!dir)
		skip();
	closedir(dir);
}

static void passt_that_dies_is_the_end_of_the_backend(void **state)
{
	struct net_backend *backend = open_user(&nothing);
	ssize_t size;

	(void)state;
	assert_int_equal(kill(child(), SIGKILL), 0);
	while ((size = await_frame(backend)) >= 0)
		;
	assert_int_equal(size, -ECONNRESET);
	net_backend_destroy(backend);
}

/* A socket on a port of loopback that the kernel chose. */
static int occupy(int type, uint16_t *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static void port_in_use_is_named(void **state)
{
	static const struct {
		int type;
		const char *option;
	} kinds[] = {{SOCK_STREAM, "forward="}, {SOCK_DGRAM, "forward-udp="}};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct net_config config = {.kind = NET_USER, .forward_count = 1};
		char text[40];
		int fd = occupy(kinds[i].type, &config.forwards[0].host_port);

		config.forwards[0].guest_port = 80;
		config.forwards[0].udp = kinds[i].type == SOCK_DGRAM;
		assert_refused(&config, -EADDRINUSE);
		snprintf(text, sizeof(text), "port %u of 127.0.0.1", config.forwards[0].host_port);
		assert_says(text);
		assert_says(kinds[i].option);
		assert_says("already in use");
		assert_int_equal(child(), 0);
		close(fd);
	}
}

/* As many as there may be, of both kinds: the ports are ours, and on loopback alone. */
static void all_forwards_are_opened(void **state)
{
	struct net_config config = {.kind = NET_USER, .forward_count = VM_FORWARDS_MAX};
	int fds[VM_FORWARDS_MAX];
	struct net_backend *backend;

	(void)state;
	for (size_t i = 0; i < VM_FORWARDS_MAX; i++) {
		struct net_forward *forward = &config.forwards[i];

		forward->udp = i % 2;
		fds[i] = occupy(forward->udp ? SOCK_DGRAM : SOCK_STREAM, &forward->host_port);
		forward->guest_port = (uint16_t)(1 + i);
	}
	for (size_t i = 0; i < VM_FORWARDS_MAX; i++)
		close(fds[i]);
	backend = open_user(&config);
	for (size_t i = 0; i < VM_FORWARDS_MAX; i += 2) {
		struct sockaddr_in address = {.sin_family = AF_INET,
					      .sin_port = htons(config.forwards[i].host_port),
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
		close(fd);
		address.sin_addr.s_addr = inet_addr("127.0.0.2");
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
		close(fd);
	}
	net_backend_destroy(backend);
}

static void missing_passt_is_named_with_its_package(void **state)
{
	(void)state;
	use_script(NULL);
	assert_refused(&nothing, -ENOENT);
	assert_says("apt-get install passt");
	unsetenv("PATH");
	assert_refused(&nothing, -ENOENT);
	setenv("PATH", "::", 1);
	assert_refused(&nothing, -ENOENT);
}

static void passts_reason_reaches_the_user(void **state)
{
	(void)state;
	use_script("#!/bin/sh\necho 'something else' >&2\necho \"No \033way\" >&2\n"
		   "echo \"Don't run as root. Changing to nobody...\" >&2\nexit 3\n");
	assert_refused(&nothing, -ECHILD);
	assert_says("passt exited with status 3: No ?way");
}

static void passt_killed_at_its_start_is_reported(void **state)
{
	(void)state;
	use_script("#!/bin/sh\nkill -ABRT $$\n");
	assert_refused(&nothing, -ECHILD);
	assert_says("signal 6");
}

static void user_namespaces_are_asked_for(void **state)
{
	(void)state;
	use_script(
		"#!/bin/sh\necho \"Couldn't create user namespace: No space left on device\" >&2\n"
		"exit 1\n");
	assert_refused(&nothing, -ECHILD);
	assert_says("sysctl");
}

static void route_is_asked_for(void **state)
{
	(void)state;
	use_script("#!/bin/sh\necho 'External interface not usable' >&2\nexit 1\n");
	assert_refused(&nothing, -ECHILD);
	assert_says("default route");
}

static void flood_of_words_leaves_the_last(void **state)
{
	(void)state;
	use_script("#!/bin/sh\ni=0\nwhile [ $i -lt 300 ]; do echo \"line $i of very many\" >&2; "
		   "i=$((i + 1)); done\necho the end >&2\nexit 1\n");
	assert_refused(&nothing, -ECHILD);
	assert_says("status 1: the end");
}

static void what_is_no_program_is_reported(void **state)
{
	(void)state;
	use_script("\x7f"
		   "ELF");
	assert_refused(&nothing, -ENOEXEC);
	assert_says("Exec format error");
}

/* It reads the greeting, closes the socket, and lives on. */
static void passt_that_hangs_is_ended(void **state)
{
	struct net_backend *backend;

	(void)state;
	use_script("#!/bin/sh\n/bin/dd bs=18 count=1 <&3 >/dev/null 2>&1\nexec /bin/sleep 1000\n");
	backend = open_user(&nothing);
	net_backend_destroy(backend);
	assert_int_equal(child(), 0);
}

static void remove_directory(void)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/passt", directory);
	unlink(name);
	rmdir(directory);
}

#define USER_TEST(name) cmocka_unit_test_setup(name, use_real_passt)

int main(void)
{
	const struct CMUnitTest tests[] = {
		USER_TEST(passt_answers),
		USER_TEST(ordinary_user_may_use_it),
		USER_TEST(destroying_it_ends_passt),
		USER_TEST(passt_inherits_nothing),
		USER_TEST(passt_that_dies_is_the_end_of_the_backend),
		USER_TEST(port_in_use_is_named),
		USER_TEST(all_forwards_are_opened),
		USER_TEST(missing_passt_is_named_with_its_package),
		USER_TEST(passts_reason_reaches_the_user),
		USER_TEST(passt_killed_at_its_start_is_reported),
		USER_TEST(user_namespaces_are_asked_for),
		USER_TEST(route_is_asked_for),
		USER_TEST(flood_of_words_leaves_the_last),
		USER_TEST(what_is_no_program_is_reported),
		USER_TEST(passt_that_hangs_is_ended),
	};
	char path[256];

	if (passt_find(path, sizeof(path))) {
		puts("skipped: there is no passt here (apt-get install passt)");
		return SKIPPED;
	}
	real_path = strdup(getenv("PATH"));
	if (!real_path || !mkdtemp(directory))
		return 1;
	atexit(remove_directory);
	signal(SIGPIPE, SIG_DFL); /* no write may raise it */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
