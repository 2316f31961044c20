#include "vmm/client/console_line.h"

#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_SIZE 1000
#define ESCAPE_KEY   L'\x01' /* Ctrl-A */

struct console_line {
	struct console_line_options options;
	EditLine *editor;
	History *history;
	char history_path[PATH_MAX]; /* "": not kept */
	char text[1024];
	bool dropped;
	bool ended;
	bool key_kept; /* the key that followed Ctrl-A and is not c */
	wchar_t kept_key;
	int signal_fd; /* SIGINT and SIGTERM, which are blocked */
};

/* Makes the directories that lead to @path's last part, which is left out. */
static void make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0700); /* if it fails, saving will */
		*slash = '/';
	}
}

static void find_history(struct console_line *line)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int length = 0;

	if (state && state[0] == '/')
		length = snprintf(line->history_path, sizeof(line->history_path), "%s/ebb/history",
				  state);
	else if (home && home[0] == '/')
		length = snprintf(line->history_path, sizeof(line->history_path),
				  "%s/.local/state/ebb/history", home);
	if (length <= 0 || (size_t)length >= sizeof(line->history_path)) {
		line->history_path[0] = '\0';
		return;
	}
	make_parents(line->history_path);
}

/* One byte of the terminal: 1, 0 at the end, -1 interrupted (line->dropped or line->ended). */
static int read_byte(struct console_line *line, char *byte)
{
	struct pollfd wanted[3] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = line->options.vm_fd, .events = POLLRDHUP},
		{.fd = line->signal_fd, .events = POLLIN},
	};

	for (;;) {
		int ready = poll(wanted, 3, -1);
		struct signalfd_siginfo info;

		if (ready < 0 && errno != EINTR)
			return -1;
		if (ready <= 0)
			continue;
		if (wanted[2].revents &&
		    read(line->signal_fd, &info, sizeof(info)) == sizeof(info)) {
			line->dropped = info.ssi_signo == SIGINT;
			line->ended = !line->dropped;
			return -1;
		}
		if (wanted[1].revents) {
			line->ended = true;
			return -1;
		}
		if (wanted[0].revents)
			return (int)read(STDIN_FILENO, byte, 1);
	}
}

/* One character: 1, 0 at the end, -1 as above. */
static int read_character(struct console_line *line, wchar_t *character)
{
	mbstate_t state = {0};

	for (;;) {
		char byte;
		int count = read_byte(line, &byte);

		if (count != 1)
			return count;
		switch (mbrtowc(character, &byte, 1, &state)) {
		case (size_t)-2:
			continue; /* more bytes follow */
		case (size_t)-1:
			memset(&state, 0, sizeof(state)); /* no character: skip it */
			continue;
		default:
			return 1;
		}
	}
}

/* The next character, the one that was read too far first. */
static int next_character(struct console_line *line, wchar_t *character)
{
	if (!line->key_kept)
		return read_character(line, character);
	line->key_kept = false;
	*character = line->kept_key;
	return 1;
}

static int get_key(EditLine *editor, wchar_t *key)
{
	struct console_line *line;
	int count;

	el_get(editor, EL_CLIENTDATA, &line);
	count = next_character(line, key);
	if (count != 1 || !line->options.attached || *key != ESCAPE_KEY)
		return count;
	count = read_character(line, &line->kept_key);
	if (count != 1)
		return count;
	if (line->kept_key == L'c') {
		line->ended = true;
		return -1;
	}
	line->key_kept = true; /* Ctrl-A itself is the editor's: the line's beginning */
	return 1;
}

static char *get_prompt(EditLine *editor)
{
	struct console_line *line;

	el_get(editor, EL_CLIENTDATA, &line);
	return (char *)line->options.prompt;
}

/* How many characters @a and @b have in common at their beginning. */
static size_t common_prefix(const char *a, const char *b)
{
	size_t length = 0;

	while (a[length] && a[length] == b[length])
		length++;
	return length;
}

/*
 * Completes what stands before the cursor to the longest text that all matching commands share; if
 * there is nothing to add, lists them.
 */
static unsigned char complete(EditLine *editor, int key)
{
	struct console_line *line;
	const LineInfo *info = el_line(editor);
	size_t typed = (size_t)(info->cursor - info->buffer);
	const char *first = NULL;
	const char *candidate;
	size_t matches = 0;
	size_t shared = 0;
	char addition[128];

	(void)key;
	el_get(editor, EL_CLIENTDATA, &line);
	for (size_t i = 0; (candidate = line->options.candidate(line->options.opaque, i)); i++) {
		if (strncmp(candidate, info->buffer, typed) != 0)
			continue;
		if (!matches) {
			first = candidate;
			shared = strlen(candidate);
		} else if (common_prefix(first, candidate) < shared) {
			shared = common_prefix(first, candidate);
		}
		matches++;
	}
	if (!matches)
		return CC_ERROR;
	if (shared > typed || matches == 1) {
		snprintf(addition, sizeof(addition), "%.*s%s", (int)(shared - typed), first + typed,
			 matches == 1 ? " " : "");
		if (el_insertstr(editor, addition))
			return CC_ERROR;
		return CC_REFRESH;
	}
	putchar('\n');
	for (size_t i = 0; (candidate = line->options.candidate(line->options.opaque, i)); i++) {
		if (!strncmp(candidate, info->buffer, typed))
			printf("%s\n", candidate);
	}
	fflush(stdout);
	return CC_REDISPLAY;
}

static int catch_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void set_up_editor(struct console_line *line)
{
	HistEvent event;

	el_set(line->editor, EL_CLIENTDATA, line);
	el_set(line->editor, EL_PROMPT, get_prompt);
	el_set(line->editor, EL_EDITOR, "emacs");
	el_set(line->editor, EL_GETCFN, get_key);
	history(line->history, &event, H_SETSIZE, HISTORY_SIZE);
	history(line->history, &event, H_SETUNIQUE, 1);
	el_set(line->editor, EL_HIST, history, line->history);
	/* The wide form: the narrow one never frees its copies of the strings. */
	el_wset(line->editor, EL_ADDFN, L"ebb-complete", L"complete a command", complete);
	el_set(line->editor, EL_BIND, "^I", "ebb-complete", NULL);
	if (line->history_path[0])
		history(line->history, &event, H_LOAD, line->history_path);
}

int console_line_create(const struct console_line_options *options, struct console_line **out,
			struct error *err)
{
	struct console_line *line = calloc(1, sizeof(*line));

	if (!line)
		return error_errno(err, ENOMEM, "console");
	setlocale(LC_CTYPE, "");
	line->options = *options;
	line->history = history_init();
	if (!line->history)
		goto free_line;
	line->editor = el_init("ebb", stdin, stdout, stderr);
	if (!line->editor)
		goto end_history;
	line->signal_fd = catch_signals();
	if (line->signal_fd < 0)
		goto end_editor;
	find_history(line);
	set_up_editor(line);
	*out = line;
	return 0;

end_editor:
	el_end(line->editor);
end_history:
	history_end(line->history);
free_line:
	free(line);
	return error_say(err, EIO, "this terminal cannot be used for editing");
}

void console_line_destroy(struct console_line *line)
{
	HistEvent event;
	mode_t mask;

	if (!line)
		return;
	if (line->history_path[0]) {
		mask = umask(077);
		history(line->history, &event, H_SAVE, line->history_path);
		umask(mask);
	}
	el_end(line->editor);
	history_end(line->history);
	close(line->signal_fd);
	free(line);
}

enum console_line_result console_line_read(struct console_line *line, const char **text)
{
	HistEvent event;
	int count = 0;
	const char *read;

	line->dropped = false;
	/* Before the prompt is shown: keys typed at once must find the editor's modes. */
	el_set(line->editor, EL_PREP_TERM, 1);
	read = el_gets(line->editor, &count);
	if (line->ended || (!line->dropped && (!read || count <= 0)))
		return CONSOLE_LINE_END;
	if (line->dropped)
		return CONSOLE_LINE_DROPPED;
	snprintf(line->text, sizeof(line->text), "%.*s", count, read);
	line->text[strcspn(line->text, "\n")] = '\0';
	if (line->text[strspn(line->text, " \t")])
		history(line->history, &event, H_ENTER, line->text);
	*text = line->text;
	return CONSOLE_LINE_READ;
}
