#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/client/fleet.h"
#include "vmm/control/control_socket.h"

static int is_socket(const struct dirent *entry)
{
	char name[VM_NAME_MAX + 1];

	return control_socket_name_of(entry->d_name, name);
}

/* "vm2" comes before "vm10". */
static int compare(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*a)->d_name, (*b)->d_name);
}

static bool is_known(const char *name, const struct fleet_name *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(names[i].text, name))
			return true;
	}
	return false;
}

/* Adds the machines in @directory; of two with one name the first is the one that is found by it. */
static int add_machines(const char *directory, struct fleet_name **names, size_t *count,
			struct error *err)
{
	struct dirent **entries;
	struct fleet_name *more;
	int found = scandir(directory, &entries, is_socket, compare);

	if (found < 0)
		return error_errno(err, errno, "%s", directory);
	more = calloc(*count + (size_t)found + 1, sizeof(*more));
	if (more && *count)
		memcpy(more, *names, *count * sizeof(*more));
	for (int i = 0; i < found; i++) {
		char name[VM_NAME_MAX + 1];

		if (more && *count < FLEET_NAMES_MAX &&
		    control_socket_name_of(entries[i]->d_name, name) &&
		    !is_known(name, more, *count))
			memcpy(more[(*count)++].text, name, sizeof(name));
		free(entries[i]);
	}
	free(entries);
	if (!more)
		return error_errno(err, ENOMEM, "%d machines", found);
	free(*names);
	*names = more;
	return 0;
}

int fleet_discover(struct fleet_name **names, size_t *count, struct error *err)
{
	char directory[CONTROL_PATH_MAX];
	int result = control_socket_directory(directory, sizeof(directory), err);

	*names = NULL;
	*count = 0;
	if (!result)
		result = control_socket_check_directory(directory, err);
	if (!result)
		result = add_machines(directory, names, count, err);
	else if (result == -ENOENT)
		result = 0;
	/* Who may not look there has none there. */
	if (!result && !access(CONTROL_SYSTEM_DIRECTORY, R_OK | X_OK))
		result = add_machines(CONTROL_SYSTEM_DIRECTORY, names, count, err);
	return result;
}
