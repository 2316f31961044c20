#include "vmm/client/render_internal.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/size.h"

static void render_balloon(FILE *out, const json_t *balloon)
{
	const json_t *stats = json_object_get(balloon, "stats");

	render_size(out, "balloon", balloon, "actual_bytes");
	render_size(out, "balloon target", balloon, "target_bytes");
	render_size(out, "guest keeps", balloon, "guest_bytes");
	render_size(out, "free pages reported", balloon, "reported_bytes");
	render_size(out, "guest total", stats, "total_bytes");
	render_size(out, "guest available", stats, "available_bytes");
	render_size(out, "guest free", stats, "free_bytes");
	render_size(out, "guest caches", stats, "disk_caches_bytes");
}

static void render_traffic(FILE *out, const char *label, uint64_t frames, uint64_t bytes,
			   uint64_t dropped)
{
	char size[32];

	fprintf(out, "  %-20s %" PRIu64 " frames, %s, %" PRIu64 " dropped\n", label, frames,
		size_format(bytes, size, sizeof(size)), dropped);
}

static void render_net(FILE *out, const json_t *net)
{
	fprintf(out, "  %-20s %s %s%s\n", "net", render_text(net, "backend"),
		render_text(net, "mac"),
		json_is_true(json_object_get(net, "link_up")) ? "" : ", link down");
	render_traffic(out, "net received", render_number(net, "rx_frames"),
		       render_number(net, "rx_bytes"), render_number(net, "rx_dropped"));
	render_traffic(out, "net sent", render_number(net, "tx_frames"),
		       render_number(net, "tx_bytes"), render_number(net, "tx_dropped"));
}

static void render_nets(FILE *out, const json_t *nets)
{
	const json_t *net;
	size_t i;

	json_array_foreach(nets, i, net) render_net(out, net);
}

static void render_state(FILE *out, const json_t *result)
{
	const char *reason = render_text(result, "reason");

	fprintf(out, "  %-20s %s%s%s\n", "state", render_text(result, "state"), *reason ? ": " : "",
		reason);
}

static void render_sandbox(FILE *out, const json_t *sandbox)
{
	char text[160], landlock[32];
	int abi = (int)json_integer_value(json_object_get(sandbox, "landlock_abi"));

	if (!sandbox)
		return;
	snprintf(landlock, sizeof(landlock), abi ? "Landlock %d" : "no Landlock", abi);
	if (json_is_true(json_object_get(sandbox, "on")))
		snprintf(text, sizeof(text), "%s, %s, namespaces: %s, root: %s, capabilities: %s",
			 json_is_true(json_object_get(sandbox, "seccomp")) ? "seccomp"
									   : "no seccomp",
			 landlock, render_text(sandbox, "namespaces"),
			 json_is_true(json_object_get(sandbox, "empty_root")) ? "empty"
									      : "the host's",
			 json_integer_value(json_object_get(sandbox, "capabilities")) ? "some"
										      : "none");
	else
		snprintf(text, sizeof(text), "OFF");
	render_row(out, "sandbox", text);
}

static void render_status(FILE *out, const json_t *result)
{
	const json_t *swap = json_object_get(result, "swap");
	const char *operation = render_text(swap, "operation");

	render_row(out, "name", render_text(result, "name"));
	render_count(out, "pid", result, "pid");
	render_state(out, result);
	if (json_is_true(json_object_get(result, "panicked")))
		render_row(out, "guest", "its kernel panicked");
	render_count(out, "vcpus", result, "vcpus");
	render_size(out, "memory", result, "memory_bytes");
	render_size(out, "memory on host", result, "memory_allocated_bytes");
	render_duration(out, "uptime", result, "uptime_ns");
	render_count(out, "resets", result, "resets");
	render_duration(out, "first instruction", result, "first_run_ns");
	render_balloon(out, json_object_get(result, "balloon"));
	render_nets(out, json_object_get(result, "nets"));
	if (json_is_string(json_object_get(result, "metrics")))
		render_row(out, "metrics", render_text(result, "metrics"));
	render_sandbox(out, json_object_get(result, "sandbox"));
	if (!json_is_true(json_object_get(swap, "available"))) {
		render_row(out, "swap", "not available (no --swap-dir, no --swap-pool)");
		return;
	}
	fprintf(out, "  %-20s %s%s%s%s\n", "swap", render_text(swap, "state"),
		*operation ? " (" : "", operation, *operation ? " is running)" : "");
	render_store_summary(out, swap);
}

static void render_help(FILE *out, const json_t *result)
{
	const json_t *command;
	size_t i;

	json_array_foreach(json_object_get(result, "commands"), i, command)
	{
		char usage[64];

		snprintf(usage, sizeof(usage), "%s %s", render_text(command, "name"),
			 render_text(command, "arguments"));
		fprintf(out, "  %-22s %s\n", usage, render_text(command, "help"));
	}
}

static const struct {
	const char *command;
	void (*render)(FILE *out, const json_t *result);
} renderers[] = {
	{"status", render_status},
	{"swap status", render_swap_status},
	{"swap auto", render_swap_auto},
	{"swap cancel", render_swap_cancel},
	{"resume --prefetch", render_prefetch},
	{"memory-map", render_memory_map},
	{"dump-memory", render_dump},
	{"checksum-memory", render_checksum},
	{"balloon", render_balloon},
	{"history", render_history},
	{"help", render_help},
};

void render_result(FILE *out, const char *command, const json_t *result)
{
	for (size_t i = 0; i < ARRAY_SIZE(renderers); i++) {
		if (!strcmp(renderers[i].command, command)) {
			renderers[i].render(out, result);
			return;
		}
	}
	if (json_object_get(result, "pages_moved"))
		render_report(out, command, result);
	else if (!strcmp(command, "powerdown"))
		fputs("the power button was pressed\n", out);
	else if (!strcmp(command, "quit"))
		fputs("the machine ends\n", out);
	else
		fprintf(out, "%s\n", render_text(result, "state"));
}
