#include "vmm/ls.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/control_client.h"
#include "vmm/control_socket.h"
#include "vmm/help.h"
#include "vmm/options.h"
#include "vmm/render.h"

#define ANSWER_TIMEOUT_MS 2000

/* The status of a VM that listens but does not answer. */
static json_t *silent_machine(const char *name, int fd)
{
	pid_t pid = 0;

	control_socket_check_peer(fd, &pid);
	return json_pack("{s:s,s:i,s:s}", "name", name, "pid", (int)pid, "state", "unresponsive");
}

/* NULL: nobody listens there (a stale socket, or a VM that just ended). */
static json_t *ask_machine(const char *name)
{
	struct control_client *client;
	enum control_code code;
	json_t *status = NULL;
	struct error error;
	int result = control_client_connect(name, NULL, &client, &error);

	if (result == -ENOENT || result == -ECONNREFUSED)
		return NULL;
	if (result) {
		fprintf(stderr, "ebb ls: %s\n", error.text);
		return NULL;
	}
	control_client_set_timeout(client, ANSWER_TIMEOUT_MS);
	result = control_client_call(client, "status", NULL, 0, NULL, &code, &status, &error);
	if (result != -ECONNRESET && (result || code != CONTROL_OK))
		status = silent_machine(name, control_client_fd(client));
	control_client_destroy(client);
	return status;
}

/* The name in "NAME.sock"; false if the file is none of that form. */
static bool name_of(const char *file, char name[VM_NAME_MAX + 1])
{
	size_t length = strlen(file);

	if (length <= 5 || strcmp(file + length - 5, ".sock") || length - 5 > VM_NAME_MAX)
		return false;
	memcpy(name, file, length - 5);
	name[length - 5] = '\0';
	return !options_check_name(name, NULL);
}

static int collect(const char *directory, json_t *machines)
{
	struct dirent **entries;
	int count = scandir(directory, &entries, NULL, alphasort);

	if (count < 0) {
		fprintf(stderr, "ebb ls: %s: %s\n", directory, strerror(errno));
		return -1;
	}
	for (int i = 0; i < count; i++) {
		char name[VM_NAME_MAX + 1];
		json_t *status = name_of(entries[i]->d_name, name) ? ask_machine(name) : NULL;

		if (status)
			json_array_append_new(machines, status);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

static void print_lines(const json_t *machines)
{
	const json_t *machine;
	size_t i;

	json_array_foreach(machines, i, machine)
	{
		json_dumpf(machine, stdout, JSON_COMPACT);
		putchar('\n');
	}
}

static int list(bool json)
{
	char directory[CONTROL_PATH_MAX];
	json_t *machines = json_array();
	struct error error;
	int result = control_socket_directory(directory, sizeof(directory), &error);
	int status = 1;

	if (!result)
		result = control_socket_check_directory(directory, &error);
	if (result && result != -ENOENT) {
		fprintf(stderr, "ebb ls: %s\n", error.text);
		goto free_machines;
	}
	if (!result && collect(directory, machines)) /* no directory: no machines */
		goto free_machines;
	if (json)
		print_lines(machines);
	else
		render_list(stdout, machines);
	status = 0;

free_machines:
	json_decref(machines);
	return status;
}

int ls_main(int argc, char **argv)
{
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			json = true;
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help_print(stdout, "ls");
			return 0;
		} else {
			fprintf(stderr, "ebb ls: unknown argument \"%s\"; see `ebb help ls`\n",
				argv[i]);
			return 2;
		}
	}
	return list(json);
}
