#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"
#include "vmm/client/render_internal.h"

/* "state      paused (was running): the store cannot be read" */
static void render_change(FILE *out, const json_t *event, const char *key)
{
	const char *reason = render_text(event, "reason");
	const char *was = render_text(event, "was");

	fputs(render_text(event, key), out);
	if (*was)
		fprintf(out, " (was %s)", was);
	if (*reason)
		fprintf(out, ": %s", reason);
}

static void render_state_event(FILE *out, const json_t *event)
{
	render_change(out, event, "state");
}

static void render_subscribed(FILE *out, const json_t *event)
{
	fprintf(out, "%s is ", render_text(event, "name"));
	render_change(out, event, "state");
	if (json_is_true(json_object_get(event, "panicked")))
		fputs(", its kernel panicked", out);
	fprintf(out, "; swap: %s", render_text(event, "swap"));
}

static void render_auto_event(FILE *out, const json_t *event)
{
	render_change(out, event, "phase");
}

static void render_reset(FILE *out, const json_t *event)
{
	fprintf(out, "reset number %" PRIu64, render_number(event, "resets"));
}

static const char *who(const json_t *event)
{
	return strcmp(render_text(event, "by"), "auto") ? "" : ", automatic";
}

static void render_started(FILE *out, const json_t *event)
{
	fprintf(out, "%s started%s", render_text(event, "command"), who(event));
}

static void render_ended(FILE *out, const json_t *event)
{
	uint64_t bytes =
		render_number(event, "pages_moved") * render_number(event, "page_size_bytes");
	const char *message = render_text(event, "message");
	char size[32];
	char duration[48];

	size_format(bytes, size, sizeof(size));
	render_format_duration(render_number(event, "duration_ns"), duration, sizeof(duration));
	fprintf(out, "%s %s: %s in %s%s", render_text(event, "command"),
		json_is_true(json_object_get(event, "cancelled"))           ? "was cancelled"
		: json_integer_value(json_object_get(event, "result")) != 0 ? "failed"
									    : "is done",
		size, duration, who(event));
	if (*message)
		fprintf(out, ": %s", message);
}

static void render_reason(FILE *out, const json_t *event)
{
	fputs(render_text(event, "reason"), out);
}

static void render_panic(FILE *out, const json_t *event)
{
	fprintf(out, "the guest's kernel panicked%s",
		json_is_true(json_object_get(event, "crash_loaded")) ? "; its crash kernel starts"
								     : "");
}

static void render_balloon_event(FILE *out, const json_t *event)
{
	char actual[32];
	char target[32];

	fprintf(out, "holds %s of %s",
		size_format(render_number(event, "actual_bytes"), actual, sizeof(actual)),
		size_format(render_number(event, "target_bytes"), target, sizeof(target)));
}

static void render_log(FILE *out, const json_t *event)
{
	fprintf(out, "%s: %s", render_text(event, "level"), render_text(event, "message"));
}

static void render_lost(FILE *out, const json_t *event)
{
	fprintf(out, "%" PRIu64 " events were lost: they came faster than they were read",
		render_number(event, "count"));
}

static const struct {
	const char *type;
	const char *label;
	void (*render)(FILE *out, const json_t *event);
} event_renderers[] = {
	{"subscribed", "machine", render_subscribed},
	{"state", "machine", render_state_event},
	{"reset", "machine", render_reset},
	{"swap_started", "swap", render_started},
	{"swap_ended", "swap", render_ended},
	{"swap_trouble", "trouble", render_reason},
	{"guest_panicked", "panic", render_panic},
	{"balloon", "balloon", render_balloon_event},
	{"auto", "auto", render_auto_event},
	{"log", "log", render_log},
	{"lost", "lost", render_lost},
};

static void render_time(FILE *out, const json_t *event)
{
	uint64_t ns = render_number(event, "time_ns");
	time_t seconds = (time_t)(ns / NS_PER_SEC);
	char text[32] = "--:--:--";
	struct tm local;

	if (localtime_r(&seconds, &local))
		strftime(text, sizeof(text), "%H:%M:%S", &local);
	fprintf(out, "%s.%03u  ", text, (unsigned)(ns % NS_PER_SEC / NS_PER_MS));
}

void render_event(FILE *out, const json_t *event)
{
	const char *type = render_text(event, "type");

	render_time(out, event);
	for (size_t i = 0; i < ARRAY_SIZE(event_renderers); i++) {
		if (!strcmp(event_renderers[i].type, type)) {
			fprintf(out, "%-8s ", event_renderers[i].label);
			event_renderers[i].render(out, event);
			putc('\n', out);
			return;
		}
	}
	/* Another version's VM. */
	fprintf(out, "%s\n", type);
}
