#include "vmm/control/reload.h"

#include <stdio.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/log.h"
#include "vmm/control/swap_auto.h"
#include "vmm/options/option_values.h"
#include "vmm/options/options.h"
#include "vmm/options/options_given.h"

#define LIST_MAX 400

/* What is in force may be a user's `swap auto`: the file has the last word. */
static int apply_swap_auto(const struct vm_config *fresh, struct swap_auto *automation,
			   struct error *err)
{
	char wanted[SWAP_POLICY_TEXT_MAX];
	char present[SWAP_POLICY_TEXT_MAX];
	struct swap_auto_status status;
	int result;

	swap_auto_get_status(automation, &status);
	swap_policy_format(&fresh->swap_auto, wanted);
	if (!strcmp(wanted, swap_policy_format(&status.policy.config, present)))
		return 0;
	result = swap_auto_set(automation, wanted, err);
	if (!result)
		log_info("swap-auto is %s now", wanted);
	return result;
}

static const struct {
	const char *option;
	int (*apply)(const struct vm_config *fresh, struct swap_auto *automation,
		     struct error *err);
} changeable[] = {
	{"swap-auto", apply_swap_auto},
};

static bool is_changeable(const struct run_option *option)
{
	for (size_t i = 0; i < ARRAY_SIZE(changeable); i++) {
		if (!strcmp(changeable[i].option, option->name))
			return true;
	}
	return false;
}

static void warn_of_others(const struct vm_config *running, const struct vm_config *fresh)
{
	char list[LIST_MAX] = "";
	size_t length = 0;

	for (size_t i = 0; i < run_option_count; i++) {
		const struct run_option *option = &run_options[i];

		if (is_changeable(option) ||
		    option_values_same(&running->given->merged, &fresh->given->merged, option))
			continue;
		length += (size_t)snprintf(list + length, sizeof(list) - length, "%s%s",
					   length ? ", " : "", option->name);
		if (length >= sizeof(list))
			break;
	}
	if (length)
		log_warning("%s: takes effect at the next start: %s", running->given->path, list);
}

int reload(const struct vm_config *running, struct swap_auto *automation, struct error *err)
{
	struct vm_config fresh;
	int result = options_reread(running, &fresh, err);

	if (result)
		return result;
	warn_of_others(running, &fresh);
	for (size_t i = 0; i < ARRAY_SIZE(changeable) && !result; i++)
		result = changeable[i].apply(&fresh, automation, err);
	options_release(&fresh);
	return result;
}
