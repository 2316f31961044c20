#include "vmm/options/options_console.h"

#include <errno.h>
#include <string.h>

#include "devices/vsock_muxer.h"
#include "vmm/base/size.h"
#include "vmm/options/options.h"

#define CID_DEFAULT VSOCK_GUEST_CID_MIN

void options_console_defaults(struct vm_config *config)
{
	config->serial = SERIAL_STDIO;
	config->console = SERIAL_NONE;
	config->vsock_cid = CID_DEFAULT;
}

static int parse_line(const char *option, const char *text, enum serial_kind *kind,
		      const char **path, struct error *err)
{
	if (!strcmp(text, "stdio")) {
		*kind = SERIAL_STDIO;
	} else if (!strcmp(text, "none")) {
		*kind = SERIAL_NONE;
	} else if (!strcmp(text, "pty")) {
		*kind = SERIAL_PTY;
	} else if (!strncmp(text, "file=", 5) && text[5]) {
		*kind = SERIAL_FILE;
		*path = text + 5;
	} else if (!strncmp(text, "unix=", 5) && text[5]) {
		*kind = SERIAL_UNIX;
		*path = text + 5;
	} else {
		return error_say(err, EINVAL,
				 "--%s %.80s: give stdio, none, pty, file=PATH or unix=PATH",
				 option, text);
	}
	return 0;
}

int options_parse_serial(struct vm_config *config, char *text, struct error *err)
{
	return parse_line("serial", text, &config->serial, &config->serial_path, err);
}

int options_parse_console(struct vm_config *config, char *text, struct error *err)
{
	return parse_line("console", text, &config->console, &config->console_path, err);
}

int options_parse_vsock(struct vm_config *config, char *text, struct error *err)
{
	char *next = options_cut_field(text);
	uint64_t cid = CID_DEFAULT;

	if (!*text)
		return error_say(err, EINVAL, "--vsock: a path is missing; write PATH[,cid=N]");
	if (strlen(text) > VSOCK_PATH_MAX)
		return error_say(err, EINVAL,
				 "--vsock %.120s: too long for a socket (%u bytes at most); use a "
				 "shorter path",
				 text, VSOCK_PATH_MAX);
	if (next && (strncmp(next, "cid=", 4) != 0 || size_parse(next + 4, &cid) ||
		     cid < VSOCK_GUEST_CID_MIN || cid > VSOCK_GUEST_CID_MAX))
		return error_say(err, EINVAL,
				 "--vsock %.120s: \"%.80s\" is not understood; write cid=N with N "
				 "from %u to %u (a comma in the path is written twice)",
				 text, next, VSOCK_GUEST_CID_MIN, VSOCK_GUEST_CID_MAX);
	config->vsock_path = text;
	config->vsock_cid = (uint32_t)cid;
	return 0;
}

int options_settle_console(const struct vm_config *config, struct error *err)
{
	if (config->console == SERIAL_STDIO && config->serial == SERIAL_STDIO)
		return error_say(err, EINVAL,
				 "--console stdio: the serial port has the terminal already; add "
				 "--serial none, or send one of them elsewhere");
	return 0;
}
