#include "vmm/client/ls.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/client/fleet.h"
#include "vmm/client/render.h"
#include "vmm/options/help.h"

#define ANSWER_TIMEOUT_NS (3 * NS_PER_SEC)
#define JOBS              64u

struct list {
	struct fleet_name *names;
	size_t count;
	json_t **machines; /* of each name; NULL: there is none */
};

static const char *ask(void *opaque, size_t index, const struct fleet_answer *answer)
{
	struct list *list = opaque;

	if (!answer)
		return "status";
	switch (answer->outcome) {
	case FLEET_ANSWERED:
		list->machines[index] = json_deep_copy(answer->result);
		break;
	case FLEET_SILENT:
	case FLEET_REFUSED: /* too many clients, say */
		list->machines[index] = json_pack("{s:s,s:i,s:s}", "name", list->names[index].text,
						  "pid", (int)answer->pid, "state", "unresponsive");
		break;
	case FLEET_FAILED:
		fprintf(stderr, "ebb ls: %s\n", answer->error.text);
		break;
	case FLEET_ABSENT:
	case FLEET_ENDED:
	case FLEET_SKIPPED:
		break;
	}
	return NULL;
}

static void print(const struct list *list, bool json)
{
	json_t *machines = json_array();

	for (size_t i = 0; i < list->count; i++) {
		if (!list->machines[i])
			continue;
		json_array_append(machines, list->machines[i]);
		if (json) {
			json_dumpf(list->machines[i], stdout, JSON_COMPACT);
			putchar('\n');
		}
	}
	if (!json)
		render_list(stdout, machines);
	json_decref(machines);
}

static int collect(struct list *list, struct error *err)
{
	const struct fleet fleet = {
		.names = list->names,
		.count = list->count,
		.jobs = JOBS,
		.timeout_ns = ANSWER_TIMEOUT_NS,
		.interrupt_fd = -1,
		.opaque = list,
		.ask = ask,
	};

	list->machines = calloc(list->count + 1, sizeof(json_t *));
	if (!list->machines)
		return error_errno(err, ENOMEM, "list");
	return fleet_run(&fleet, err);
}

static int print_list(bool json)
{
	struct list list = {0};
	struct error error;
	int result = fleet_discover(&list.names, &list.count, &error);

	if (!result)
		result = collect(&list, &error);
	if (result)
		fprintf(stderr, "ebb ls: %s\n", error.text);
	else
		print(&list, json);
	for (size_t i = 0; list.machines && i < list.count; i++)
		json_decref(list.machines[i]);
	free(list.machines);
	free(list.names);
	return result ? 1 : 0;
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
	return print_list(json);
}
