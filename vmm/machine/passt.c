#include "vmm/machine/passt.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"

#define CHILD_SOCKET     3
#define CHILD_SOCKET_ARG "3"
#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number

/* It takes milliseconds; a host may be busy. */
#define START_PATIENCE_NS (30 * NS_PER_SEC)
#define START_LOOK_MS     2
#define END_PATIENCE_MS   2000

struct passt {
	pid_t pid;
	int pidfd;
	int says;    /* what it writes to its standard error */
	bool exited; /* and was reaped; @info says how */
	siginfo_t info;
	struct net_config config; /* for its ports */
};

int passt_find(char *path, size_t size)
{
	const char *directory = getenv("PATH");

	while (directory && *directory) {
		size_t length = strcspn(directory, ":");
		int written = snprintf(path, size, "%.*s/passt", (int)length, directory);

		if (length && written > 0 && (size_t)written < size && !access(path, X_OK))
			return 0;
		directory += length + (directory[length] == ':');
	}
	return -ENOENT;
}

/*
 * Arguments
 */

#define FIXED_ARGS  9
#define FORWARD_MAX sizeof("127.0.0.1/65535:65535")

struct arguments {
	const char *argv[FIXED_ARGS + 2 * (VM_FORWARDS_MAX + 2) + 1];
	size_t count;
	char forwards[VM_FORWARDS_MAX][FORWARD_MAX];
};

static void add(struct arguments *arguments, const char *argument)
{
	assert(arguments->count + 1 < ARRAY_SIZE(arguments->argv));
	arguments->argv[arguments->count++] = argument;
}

/* The forwards of one protocol by @option, on loopback alone; or "none", which is not the default. */
static void add_forwards(struct arguments *arguments, const struct net_config *config,
			 const char *option, bool udp)
{
	bool any = false;

	for (size_t i = 0; i < config->forward_count; i++) {
		const struct net_forward *forward = &config->forwards[i];

		if (forward->udp != udp)
			continue;
		any = true;
		snprintf(arguments->forwards[i], FORWARD_MAX, "127.0.0.1/%u:%u", forward->host_port,
			 forward->guest_port);
		add(arguments, option);
		add(arguments, arguments->forwards[i]);
	}
	if (!any) {
		add(arguments, option);
		add(arguments, "none");
	}
}

static void make_arguments(struct arguments *arguments, const struct net_config *config)
{
	static const char *const fixed[] = {"passt",         "--foreground",     "--quiet",
					    "--mtu",         TEXT_OF(PASST_MTU), "--fd",
					    CHILD_SOCKET_ARG};

	arguments->count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		add(arguments, fixed[i]);
	add_forwards(arguments, config, "-t", false);
	add_forwards(arguments, config, "-u", true);
	arguments->argv[arguments->count] = NULL;
}

/*
 * Start
 */

static int set_descriptors(posix_spawn_file_actions_t *actions, int socket, int says)
{
	int result = posix_spawn_file_actions_adddup2(actions, says, STDERR_FILENO);

	/* Before the numbers that they are moved to are taken. */
	if (!result)
		result = posix_spawn_file_actions_adddup2(actions, socket, CHILD_SOCKET);
	if (!result)
		result = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null",
							  O_RDONLY, 0);
	if (!result)
		result = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null",
							  O_WRONLY, 0);
	if (!result)
		result = posix_spawn_file_actions_addclosefrom_np(actions, CHILD_SOCKET + 1);
	return result;
}

static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none;
	sigset_t all;
	int result;

	sigemptyset(&none);
	sigfillset(&all);
	result = posix_spawnattr_setsigmask(attributes, &none);
	if (!result)
		result = posix_spawnattr_setsigdefault(attributes, &all);
	/* A session of its own: Ctrl-C on ebb's terminal is not for it. */
	if (!result)
		result = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
								      POSIX_SPAWN_SETSIGDEF |
								      POSIX_SPAWN_SETSID);
	return result;
}

static int spawn(const char *path, const struct net_config *config, int socket, int says,
		 pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	struct arguments arguments;
	int result = posix_spawn_file_actions_init(&actions);

	if (result)
		return -result;
	result = posix_spawnattr_init(&attributes);
	if (result)
		goto destroy_actions;
	make_arguments(&arguments, config);
	result = set_descriptors(&actions, socket, says);
	if (!result)
		result = set_attributes(&attributes);
	if (!result)
		result = posix_spawn(pid, path, &actions, &attributes,
				     (char *const *)arguments.argv, environ);
	posix_spawnattr_destroy(&attributes);
destroy_actions:
	posix_spawn_file_actions_destroy(&actions);
	return -result;
}

/* Sees to it that no descriptor of @fds is one of the child's, which would be written over. */
static int move_up(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int moved;

		if (fds[i] > CHILD_SOCKET)
			continue;
		moved = fcntl(fds[i], F_DUPFD_CLOEXEC, CHILD_SOCKET + 1);
		if (moved < 0)
			return -errno;
		close(fds[i]);
		fds[i] = moved;
	}
	return 0;
}

static int start(struct passt *passt, const char *path, int socket)
{
	int pipe_fds[2];
	int child_socket;
	int result;

	/* Nobody reads while it runs: when the pipe is full, its words are lost. */
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	child_socket = fcntl(socket, F_DUPFD_CLOEXEC, CHILD_SOCKET + 1);
	result = child_socket < 0 ? -errno : move_up(pipe_fds, 2);
	if (!result)
		result = spawn(path, &passt->config, child_socket, pipe_fds[1], &passt->pid);
	if (child_socket >= 0)
		close(child_socket);
	close(pipe_fds[1]);
	if (result) {
		close(pipe_fds[0]);
		return result;
	}
	passt->says = pipe_fds[0];
	passt->pidfd = pidfd_open(passt->pid, 0);
	if (passt->pidfd < 0) {
		result = -errno;
		kill(passt->pid, SIGKILL);
		waitpid(passt->pid, NULL, 0);
	}
	return result;
}

int passt_start(const struct net_config *config, int socket, struct passt **out, struct error *err)
{
	struct passt *passt;
	char path[512];
	int result;

	if (passt_find(path, sizeof(path)))
		return error_say(err, ENOENT,
				 "--net user: the program passt is not in $PATH; install it: sudo "
				 "apt-get install " PASST_PACKAGE);
	passt = calloc(1, sizeof(*passt));
	if (!passt)
		return error_errno(err, ENOMEM, "--net user");
	passt->pidfd = -1;
	passt->says = -1;
	passt->config = *config;
	result = start(passt, path, socket);
	if (result) {
		passt_end(passt);
		return error_errno(err, -result, "--net user: start %s", path);
	}
	*out = passt;
	return 0;
}

/*
 * What became of it
 */

/* True once it has exited, which is waited for up to @patience_ms. */
static bool has_exited(struct passt *passt, int patience_ms)
{
	struct pollfd exit = {.fd = passt->pidfd, .events = POLLIN};

	if (passt->exited)
		return true;
	if (poll(&exit, 1, patience_ms) <= 0)
		return false;
	if (waitid(P_PIDFD, (id_t)passt->pidfd, &passt->info, WEXITED))
		passt->info = (siginfo_t){0}; /* somebody ignores SIGCHLD: how is not known */
	passt->exited = true;
	return true;
}

static bool is_noise(const char *line)
{
	return !*line || !strncmp(line, "Failed to send", 14) /* to syslog, which is not there */
	       || !strncmp(line, "Don't run as root", 17);
}

/* The last line of what it said that says something. Empty if it said nothing. */
static void last_words(struct passt *passt, char *words, size_t size)
{
	char text[4096] = "";
	ssize_t length = 0;
	ssize_t bytes;
	char *rest = NULL;

	/* Of more than fits, the end counts. */
	while ((bytes = read(passt->says, text + length, sizeof(text) - 1 - (size_t)length)) > 0) {
		length += bytes;
		if ((size_t)length > sizeof(text) / 2) {
			memmove(text, text + length / 2, (size_t)(length - length / 2));
			length -= length / 2;
		}
	}
	text[length] = '\0';
	*words = '\0';
	for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest))
		if (!is_noise(line))
			snprintf(words, size, "%s", line);
	for (; *words; words++)
		if ((unsigned char)*words < ' ' || *words == 0x7f)
			*words = '?';
}

bool passt_obituary(struct passt *passt, int patience_ms, char *text, size_t size)
{
	char words[200];
	int length;

	if (!has_exited(passt, patience_ms))
		return false;
	if (passt->info.si_code == CLD_EXITED)
		length = snprintf(text, size, "exited with status %d", passt->info.si_status);
	else if (passt->info.si_code)
		length = snprintf(text, size, "was ended by signal %d (%s)", passt->info.si_status,
				  strsignal(passt->info.si_status));
	else
		length = snprintf(text, size, "has exited");
	last_words(passt, words, sizeof(words));
	if (words[0] && length > 0 && (size_t)length < size)
		snprintf(text + length, size - (size_t)length, ": %s", words);
	return true;
}

/* passt does not say why it could not have a port: asks for it in the same way. 0 or an errno. */
static int why_not(const struct net_forward *forward)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(forward->host_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int type = forward->udp ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	int one = 1;
	int result = 0;

	if (fd < 0)
		return 0;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    (!forward->udp && listen(fd, 1)))
		result = errno;
	close(fd);
	return result;
}

static int explain_ports(const struct passt *passt, struct error *err)
{
	for (size_t i = 0; i < passt->config.forward_count; i++) {
		const struct net_forward *forward = &passt->config.forwards[i];
		const char *option = forward->udp ? "forward-udp" : "forward";
		int why = why_not(forward);

		if (why == EACCES)
			return error_say(err, EACCES,
					 "passt: %s=%u:%u: port %u of 127.0.0.1 needs a privilege; "
					 "choose one from 1024 up",
					 option, forward->host_port, forward->guest_port,
					 forward->host_port);
		if (why)
			return error_errno(err, why,
					   "passt: port %u of 127.0.0.1 cannot be had; choose "
					   "another in %s=%u:%u",
					   forward->host_port, option, forward->host_port,
					   forward->guest_port);
	}
	return 0;
}

/* What people meet, by a part of what passt says about it. */
static const struct {
	const char *words;
	const char *remedy;
} remedies[] = {
	{"user namespace", "allow user namespaces, which it locks itself up in: sudo sysctl "
			   "user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 "
			   "kernel.apparmor_restrict_unprivileged_userns=0 (those that there are)"},
	{"interface not usable",
	 "it gives the guest the address of the host's interface with the default route: the host "
	 "needs one (ip route show default)"},
	{"routable interface",
	 "it gives the guest the address of the host's interface with the default route: the host "
	 "needs one (ip route show default)"},
};

static int explain_exit(struct passt *passt, struct error *err)
{
	char text[300];
	int result = explain_ports(passt, err);

	if (result)
		return result;
	passt_obituary(passt, 0, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
		if (strstr(text, remedies[i].words))
			return error_say(err, ECHILD, "--net user: passt %s; %s", text,
					 remedies[i].remedy);
	}
	return error_say(err, ECHILD, "--net user: passt %s", text);
}

/* Nobody has the other end any more. */
static bool is_hung_up(int socket)
{
	struct pollfd hangup = {.fd = socket};

	return poll(&hangup, 1, 0) > 0 && (hangup.revents & (POLLHUP | POLLERR));
}

int passt_await(struct passt *passt, int socket, struct error *err)
{
	uint64_t deadline = clock_monotonic_ns() + START_PATIENCE_NS;

	while (!has_exited(passt, START_LOOK_MS)) {
		int unread;

		if (ioctl(socket, SIOCOUTQ, &unread))
			return error_errno(err, errno, "--net user: ask for passt's progress");
		/* An end that is closed has nothing unread either: an exit is due then. */
		if (!unread && !is_hung_up(socket)) {
			char words[2];

			/* What it said so far was not the end of it. */
			last_words(passt, words, sizeof(words));
			return 0;
		}
		if (clock_monotonic_ns() > deadline)
			return error_say(err, ETIMEDOUT,
					 "--net user: passt runs (process %d) but does not begin; "
					 "try `passt --foreground --debug` by hand",
					 (int)passt->pid);
	}
	return explain_exit(passt, err);
}

void passt_end(struct passt *passt)
{
	if (!passt)
		return;
	if (passt->pidfd >= 0 && !has_exited(passt, END_PATIENCE_MS)) {
		/* Refused if it has become another user: then it is left to end by itself. */
		pidfd_send_signal(passt->pidfd, SIGKILL, NULL, 0);
		has_exited(passt, END_PATIENCE_MS);
	}
	if (passt->pidfd >= 0)
		close(passt->pidfd);
	if (passt->says >= 0)
		close(passt->says);
	free(passt);
}
