#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/control_socket.h"
#include "vmm/fleet.h"
#include "vmm/options.h"

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

static int is_socket(const struct dirent *entry)
{
	char name[VM_NAME_MAX + 1];

	return name_of(entry->d_name, name);
}

/* "vm2" comes before "vm10". */
static int compare(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*a)->d_name, (*b)->d_name);
}

int fleet_discover(struct fleet_name **names, size_t *count, struct error *err)
{
	char directory[CONTROL_PATH_MAX];
	struct dirent **entries;
	int found;
	int result = control_socket_directory(directory, sizeof(directory), err);

	*names = NULL;
	*count = 0;
	if (!result)
		result = control_socket_check_directory(directory, err);
	if (result)
		return result == -ENOENT ? 0 : result;
	found = scandir(directory, &entries, is_socket, compare);
	if (found < 0)
		return error_errno(err, errno, "%s", directory);
	*names = calloc((size_t)found + 1, sizeof(**names));
	for (int i = 0; i < found; i++) {
		if (*names && *count < FLEET_NAMES_MAX)
			name_of(entries[i]->d_name, (*names)[(*count)++].text);
		free(entries[i]);
	}
	free(entries);
	return *names ? 0 : error_errno(err, ENOMEM, "%d machines", found);
}
