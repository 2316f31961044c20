#include "vmm/client/control_session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/client/render.h"
#include "vmm/control/commands.h"
#include "vmm/control/dump_file.h"

int control_session_open(struct control_session *session, struct error *err)
{
	return control_client_connect(session->name, session->path, &session->client, err);
}

void control_session_close(struct control_session *session)
{
	control_client_destroy(session->client);
	session->client = NULL;
}

static unsigned terminal_columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return 80;
	return size.ws_col;
}

static void on_line(void *opaque, const char *text, const char *kind, const json_t *body)
{
	struct control_session *session = opaque;

	if (session->json) {
		puts(text);
		fflush(stdout);
	} else if (!strcmp(kind, "event")) {
		render_event(stdout, body);
		fflush(stdout);
	} else if (!strcmp(kind, "progress") && isatty(STDERR_FILENO)) {
		render_progress(stderr, body, terminal_columns());
		session->progress_shown = true;
	}
}

static bool on_interrupted(void *opaque)
{
	struct control_session *session = opaque;
	sigset_t interrupt;

	if (session->cancellable) {
		control_client_cancel(session->name, session->path);
		return false;
	}
	if (!session->interrupt_ends)
		return session->follows;
	/* End as if SIGINT had never been blocked, so that a shell's loop ends too. */
	raise(SIGINT);
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_UNBLOCK, &interrupt, NULL);
	return true;
}

static enum control_outcome outcome_of(enum control_code code)
{
	switch (code) {
	case CONTROL_OK:
		return CONTROL_DONE;
	case CONTROL_INVALID_REQUEST:
	case CONTROL_UNKNOWN_COMMAND:
	case CONTROL_INVALID_ARGUMENT:
		return CONTROL_USAGE;
	default:
		return CONTROL_REFUSED;
	}
}

static enum control_outcome call(struct control_session *session, const char *prefix,
				 const char *name, const char *const *arguments, size_t count)
{
	const struct control_watch watch = {
		.opaque = session,
		.line = on_line,
		.interrupted = on_interrupted,
	};
	enum control_code code;
	json_t *answer = NULL;
	struct error error;
	int result;

	session->progress_shown = false;
	result = control_client_call(session->client, name, arguments, count, &watch, &code,
				     &answer, &error);
	if (session->progress_shown)
		render_progress_end(stderr);
	if (result || code != CONTROL_OK) {
		fprintf(stderr, "%s%s\n", prefix, error.text);
		return result ? CONTROL_GONE : outcome_of(code);
	}
	if (!session->json)
		render_result(stdout, name, answer);
	fflush(stdout);
	json_decref(answer);
	return CONTROL_DONE;
}

/* On a connection of its own, which ends with it: the session can go on. */
static enum control_outcome follow(struct control_session *session, const char *prefix,
				   const char *name, const char *const *arguments, size_t count)
{
	const struct control_watch watch = {
		.opaque = session,
		.line = on_line,
		.interrupted = on_interrupted,
	};
	struct control_client *client;
	enum control_code code = CONTROL_OK;
	struct error error;
	int result = control_client_connect(session->name, session->path, &client, &error);

	if (!result) {
		session->follows = true;
		result = control_client_follow(client, name, arguments, count, &watch, &code,
					       &error);
		session->follows = false;
		control_client_destroy(client);
		if (result == -EINTR)
			return CONTROL_DONE;
	}
	if (!result && code == CONTROL_OK)
		return CONTROL_DONE;
	fprintf(stderr, "%s%s\n", prefix, error.text);
	return result ? CONTROL_GONE : outcome_of(code);
}

/* The file that @name is for this program, for another: absolute. To be freed. */
static char *absolute_path(const char *name)
{
	char *path = NULL;
	char *here;

	if (name[0] == '/')
		return strdup(name);
	here = getcwd(NULL, 0);
	if (!here || asprintf(&path, "%s/%s", here, name) < 0)
		path = NULL;
	free(here);
	return path;
}

/* As if the VM had refused it. */
static enum control_outcome refuse(const struct control_session *session, const char *prefix,
				   enum control_code code, const char *message)
{
	char *line = session->json ? control_format_error(code, message) : NULL;

	if (line)
		fputs(line, stdout);
	free(line);
	fprintf(stderr, "%s%s\n", prefix, message);
	return outcome_of(code);
}

/*
 * call() with the file that the argument names: it is made here, with the rights of whoever typed
 * the command, and the VM, which opens nothing, gets the descriptor.
 */
static enum control_outcome call_with_file(struct control_session *session, const char *prefix,
					   const char *name, const char *const *arguments,
					   size_t count)
{
	enum control_outcome outcome;
	struct dump_file *file = NULL;
	struct error error;
	int fd = -1, result;
	char *path;

	if (count != 1 || !arguments[0][0])
		return call(session, prefix, name, arguments, count);
	path = absolute_path(arguments[0]);
	if (!path) {
		fprintf(stderr, "%s%s: cannot tell the current directory: %s\n", prefix, name,
			strerror(errno));
		return CONTROL_REFUSED;
	}
	result = dump_file_create(path, &file, &fd, &error);
	if (result) {
		outcome = refuse(session, prefix, control_code_from_errno(result), error.text);
		goto free_path;
	}
	control_client_pass_file(session->client, fd);
	outcome = call(session, prefix, name, (const char *const[]){path}, 1);
	close(fd);
	if (outcome == CONTROL_DONE)
		dump_file_keep(file);
	else
		dump_file_discard(file);
free_path:
	free(path);
	return outcome;
}

enum control_outcome control_session_run(struct control_session *session, const char *prefix,
					 const char *const *words, size_t count)
{
	const struct command *command;
	size_t used;

	if (!count)
		return CONTROL_DONE;
	command = commands_match(words, count, &used);
	if (!command) {
		fprintf(stderr, "%sno such command: %s%s%s; `help` lists them\n", prefix, words[0],
			count > 1 ? " " : "", count > 1 ? words[1] : "");
		return CONTROL_USAGE;
	}
	session->cancellable = command->operation != SWAP_OP_NONE;
	if (command->streams)
		return follow(session, prefix, command->name, words + used, count - used);
	if (command->takes_file)
		return call_with_file(session, prefix, command->name, words + used, count - used);
	return call(session, prefix, command->name, words + used, count - used);
}
