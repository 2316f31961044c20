#include "vmm/client/console.h"

#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/client/console_line.h"
#include "vmm/client/control_session.h"
#include "vmm/control/control_protocol.h"
#include "vmm/machine/config.h"
#include "vmm/options/help.h"
#include "vmm/options/options.h"

#define WORDS_MAX (CONTROL_ARGUMENTS_MAX + 4)

struct console {
	struct control_session session;
	bool attached;
	json_t *candidates; /* for completion: an array of strings; NULL: unknown */
};

static const struct option long_options[] = {
	{"attached", no_argument, NULL, 'a'},
	{"socket", required_argument, NULL, 's'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const char *candidate(void *opaque, size_t index)
{
	const struct console *console = opaque;

	return json_string_value(json_array_get(console->candidates, index));
}

/* A command, and with each argument that it names. */
static void add_candidates(json_t *candidates, const json_t *command)
{
	const char *name = json_string_value(json_object_get(command, "name"));
	const char *choice = json_string_value(json_object_get(command, "choices"));

	if (!name)
		return;
	json_array_append_new(candidates, json_string(name));
	while (choice && *choice) {
		int length = (int)strcspn(choice, " ");

		json_array_append_new(candidates, json_sprintf("%s %.*s", name, length, choice));
		choice += length;
		choice += strspn(choice, " ");
	}
}

static void learn_commands(struct console *console)
{
	const json_t *command;
	enum control_code code;
	json_t *answer = NULL;
	struct error error;
	size_t i;

	if (control_client_call(console->session.client, "help", NULL, 0, NULL, &code, &answer,
				&error) ||
	    code != CONTROL_OK)
		return;
	console->candidates = json_array();
	json_array_foreach(json_object_get(answer, "commands"), i, command)
		add_candidates(console->candidates, command);
	json_array_append_new(console->candidates, json_string("exit"));
	json_decref(answer);
}

/* Cuts @line into words, in place. */
static size_t split(char *line, const char *words[WORDS_MAX])
{
	size_t count = 0;
	char *rest;

	for (char *word = strtok_r(line, " \t\r\n", &rest); word && count < WORDS_MAX;
	     word = strtok_r(NULL, " \t\r\n", &rest))
		words[count++] = word;
	return count;
}

/* False when the console shall end; *outcome is the command's. */
static bool run_line(struct console *console, char *line, enum control_outcome *outcome)
{
	const char *words[WORDS_MAX];
	size_t count = split(line, words);

	*outcome = CONTROL_DONE;
	if (!count || words[0][0] == '#')
		return true;
	if (count == 1 && !strcmp(words[0], "exit"))
		return false;
	*outcome = control_session_run(&console->session, "", words, count);
	if (*outcome == CONTROL_DONE && !strcmp(words[0], "help"))
		printf("  %-18s %s\n", "exit", "leave this console; the machine goes on");
	/* After `quit` there is nobody to talk to. */
	return *outcome != CONTROL_GONE &&
	       (*outcome != CONTROL_DONE || strcmp(words[0], "quit") != 0);
}

/* Without a terminal: status 1 if any command failed. */
static int run_script(struct console *console)
{
	enum control_outcome outcome;
	bool failed = false;
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stdin) >= 0) {
		bool more = run_line(console, line, &outcome);

		failed = failed || outcome != CONTROL_DONE;
		if (!more)
			break;
	}
	free(line);
	return failed ? 1 : 0;
}

static void greet(const struct console *console)
{
	if (console->attached)
		printf("\nconsole of %s; Ctrl-A c or Ctrl-D goes back to the guest, `help` lists "
		       "commands\n",
		       console->session.name);
	else
		printf("console of %s; `help` lists commands, Ctrl-D leaves\n",
		       console->session.name);
}

static int run_interactive(struct console *console)
{
	char prompt[VM_NAME_MAX + 8];
	const struct console_line_options options = {
		.prompt = prompt,
		.attached = console->attached,
		.vm_fd = control_client_fd(console->session.client),
		.candidate = candidate,
		.opaque = console,
	};
	enum console_line_result result;
	enum control_outcome outcome;
	struct console_line *line;
	const char *text;
	struct error error;
	bool more = true;

	snprintf(prompt, sizeof(prompt), "ebb %s> ", console->session.name);
	if (console_line_create(&options, &line, &error)) {
		fprintf(stderr, "ebb console: %s\n", error.text);
		return 1;
	}
	greet(console);
	while (more) {
		char *copy;

		result = console_line_read(line, &text);
		if (result == CONSOLE_LINE_END)
			break;
		if (result == CONSOLE_LINE_DROPPED) {
			puts("^C");
			continue;
		}
		copy = strdup(text);
		more = copy && run_line(console, copy, &outcome);
		free(copy);
	}
	if (more)
		putchar('\n');
	console_line_destroy(line);
	return 0;
}

static int run(struct console *console)
{
	struct error error;
	int status;

	if (control_session_open(&console->session, &error)) {
		fprintf(stderr, "ebb console: %s\n", error.text);
		return 1;
	}
	control_client_catch_interrupt();
	if (console->attached)
		signal(SIGTSTP, SIG_IGN); /* no shell is there to continue it */
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
		learn_commands(console);
		status = run_interactive(console);
	} else {
		console->session.interrupt_ends = true;
		status = run_script(console);
	}
	json_decref(console->candidates);
	control_session_close(&console->session);
	return status;
}

int console_main(int argc, char **argv)
{
	struct console console = {0};
	struct error error;
	int option;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		switch (option) {
		case 'a':
			console.attached = true;
			break;
		case 's':
			console.session.path = optarg;
			break;
		case 'h':
			help_print(stdout, "console");
			return 0;
		default:
			fprintf(stderr, "ebb console: unknown option, or its argument is missing; "
					"see `ebb help console`\n");
			return 2;
		}
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "ebb console: give the name of one machine; `ebb ls` lists them\n");
		return 2;
	}
	console.session.name = argv[optind];
	if (options_check_name(console.session.name, &error)) {
		fprintf(stderr, "ebb console: %s\n", error.text);
		return 2;
	}
	return run(&console);
}
