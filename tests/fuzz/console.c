/*
 * `ebb console`, `ebb ctl` and `ebb report`: what a script says to them, and what a machine answers,
 * which may be anything, over a socket. No answer gives orders to the terminal.
 *
 * An input is the script, a NUL, and what each connection is answered.
 */
#include "vmm/client/console.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "vmm/client/completion.h"
#include "vmm/client/ctl.h"
#include "vmm/client/report.h"

#define CONNECTIONS_MAX 64
#define SCRIPT_MAX      1024
#define WORDS_MAX       8

/* The machine's end: a thread answers every connection at once, with all that it has to say. */
static struct {
	char path[64];
	int listener;
	pthread_mutex_t lock; /* guards the rest */
	const char *answers;
	size_t length;
	int connections[CONNECTIONS_MAX];
	unsigned count;
} machine = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *answer(void *opaque)
{
	(void)opaque;
	for (;;) {
		int fd = accept4(machine.listener, NULL, NULL, SOCK_CLOEXEC);

		pthread_mutex_lock(&machine.lock);
		if (fd >= 0 && machine.count < CONNECTIONS_MAX) {
			send(fd, machine.answers, machine.length, MSG_DONTWAIT | MSG_NOSIGNAL);
			shutdown(fd, SHUT_WR);
			/* Closed with the input: what was not read yet would be lost. */
			machine.connections[machine.count++] = fd;
		} else if (fd >= 0) {
			close(fd);
		}
		pthread_mutex_unlock(&machine.lock);
	}
	return NULL;
}

static void remove_socket(void)
{
	unlink(machine.path);
}

static void start_machine(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	snprintf(machine.path, sizeof(machine.path), "/tmp/ebb-fuzz-console-%d", (int)getpid());
	strcpy(address.sun_path, machine.path);
	unlink(machine.path);
	machine.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (machine.listener < 0 || null < 0 ||
	    bind(machine.listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(machine.listener, CONNECTIONS_MAX) ||
	    pthread_create(&thread, NULL, answer, NULL))
		abort();
	pthread_detach(thread);
	atexit(remove_socket);
	dup2(null, STDIN_FILENO); /* no terminal, wherever this runs */
	close(null);
}

static void set_answers(const char *answers, size_t length)
{
	pthread_mutex_lock(&machine.lock);
	machine.answers = answers;
	machine.length = length;
	for (; machine.count; machine.count--)
		close(machine.connections[machine.count - 1]);
	pthread_mutex_unlock(&machine.lock);
}

static void run_console(char *script)
{
	char *argv[] = {(char *)"console", (char *)"--socket", machine.path, (char *)"web", NULL};
	FILE *typed = stdin;

	if (!*script)
		return;
	stdin = fmemopen(script, strlen(script), "r");
	console_main(4, argv);
	fclose(stdin);
	stdin = typed;
}

static void run_ctl(char *script, bool json)
{
	char *argv[WORDS_MAX + 6] = {(char *)"ctl", (char *)"--socket", machine.path};
	char *rest;
	int argc = 3;

	if (json)
		argv[argc++] = (char *)"--json";
	argv[argc++] = (char *)"web";
	for (char *word = strtok_r(script, " \n", &rest); word && argc < WORDS_MAX;
	     word = strtok_r(NULL, " \n", &rest))
		argv[argc++] = word;
	ctl_main(argc, argv);
}

static void run_report(void)
{
	char *argv[] = {(char *)"report", (char *)"--socket", machine.path, (char *)"-o",
			(char *)"-",      (char *)"web",      NULL};

	report_main(6, argv);
}

/* Lines of text, and nothing that a terminal obeys (C0 but newline, DEL, C1). */
static void check_printed(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < ' ' && c != '\n') || c == 0x7f)
			abort();
		if (c == 0xc2 && i + 1 < length && (unsigned char)text[i + 1] < 0xa0)
			abort();
	}
}

static const char *candidate(void *opaque, size_t index)
{
	return index < 4 ? *(char **)opaque + index : NULL;
}

/* Tab, on a line of which any part is typed, with candidates of any contents. */
static void complete(char *script, const char *line, size_t length)
{
	for (size_t typed = 0; typed <= length && typed < 8; typed++) {
		struct completion found = completion_find(line, typed, candidate, &script);

		if (found.matches > 4 || (found.matches && found.shared < typed))
			abort();
	}
}

static void run(uint8_t how, char *script)
{
	switch (how & 7) {
	case 0:
		run_report();
		break;
	case 1:
		run_ctl(script, true);
		break;
	case 2:
		run_ctl(script, false);
		break;
	default:
		run_console(script);
		break;
	}
}

/* Only what is typed as text, so that what is printed can be judged; and nothing that makes files. */
static bool is_typed(const char *script)
{
	for (; *script; script++)
		if (((unsigned char)*script < ' ' && *script != '\n') ||
		    (unsigned char)*script >= 0x7f)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint8_t how = fuzz_u8(&input);
	const char *end = input.left ? memchr(input.data, '\0', input.left) : NULL;
	size_t length = end ? (size_t)(end - (const char *)input.data) : 0;
	char script[SCRIPT_MAX + 4] = "", *printed = NULL;
	FILE *out = stdout, *err = stderr;
	size_t printed_length;

	if (!machine.listener)
		start_machine();
	if (!end || length >= SCRIPT_MAX)
		return 0;
	fuzz_take(&input, script, length);
	complete(script, (const char *)input.data, input.left);
	if (!is_typed(script) || strstr(script, "dump-memory"))
		return 0;
	fuzz_u8(&input);
	set_answers((const char *)input.data, input.left);
	stdout = stderr = open_memstream(&printed, &printed_length);
	if (!stdout)
		abort();
	run(how, script);
	fclose(stdout);
	stdout = out;
	stderr = err;
	set_answers(NULL, 0);
	if ((how & 7) > 1) /* the others print for programs */
		check_printed(printed, printed_length);
	free(printed);
	return 0;
}
