#include "vmm/options/options_metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "vmm/base/size.h"

static int say_form(const char *text, struct error *err)
{
	return error_say(
		err, EINVAL,
		"--metrics %.80s: give a port from 0 to 65535, ADDRESS:PORT (as 127.0.0.1:9100 "
		"or [::1]:9100), or the path of a socket, with a '/' in it",
		text);
}

static bool parse_port(const char *text, uint16_t *port)
{
	uint64_t number;

	/* A suffix that size_parse() would take is no digit. */
	if (strspn(text, "0123456789") != strlen(text) || size_parse(text, &number) ||
	    number > UINT16_MAX)
		return false;
	*port = (uint16_t)number;
	return true;
}

/* "127.0.0.1", "[::1]", "localhost" → the bare address. */
static bool parse_address(const char *text, size_t length, char address[METRICS_ADDRESS_MAX])
{
	struct in6_addr binary;

	if (length == strlen("localhost") && !strncmp(text, "localhost", length)) {
		snprintf(address, METRICS_ADDRESS_MAX, "127.0.0.1");
		return true;
	}
	if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	} else if (memchr(text, ':', length)) {
		return false;
	}
	if (!length || length >= METRICS_ADDRESS_MAX)
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	return inet_pton(strchr(address, ':') ? AF_INET6 : AF_INET, address, &binary) == 1;
}

int options_parse_metrics(struct vm_config *config, char *text, struct error *err)
{
	struct metrics_config metrics = {.kind = METRICS_TCP, .address = "127.0.0.1"};
	const char *colon = strrchr(text, ':');

	if (strchr(text, '/')) {
		metrics.kind = METRICS_UNIX;
		metrics.path = text;
		if (strlen(text) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return error_say(err, EINVAL,
					 "--metrics %.80s…: too long for a socket; use a shorter "
					 "path",
					 text);
	} else if (!parse_port(colon ? colon + 1 : text, &metrics.port) ||
		   (colon && !parse_address(text, (size_t)(colon - text), metrics.address))) {
		return say_form(text, err);
	}
	metrics.is_public = config->metrics.is_public;
	config->metrics = metrics;
	return 0;
}

int options_parse_metrics_public(struct vm_config *config, char *text, struct error *err)
{
	bool on = !strcmp(text, "on");

	if (!on && strcmp(text, "off") != 0)
		return error_say(err, EINVAL, "--metrics-public %.80s: give on or off", text);
	config->metrics.is_public = on;
	return 0;
}

static bool is_loopback(const char *address)
{
	struct in_addr four;

	if (strchr(address, ':'))
		return !strcmp(address, "::1");
	return inet_pton(AF_INET, address, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

int options_settle_metrics(const struct vm_config *config, struct error *err)
{
	const struct metrics_config *metrics = &config->metrics;

	if (metrics->kind == METRICS_NONE && metrics->is_public)
		return error_say(err, EINVAL,
				 "--metrics-public on: there is nothing to be public; give "
				 "--metrics ADDRESS:PORT");
	if (metrics->kind == METRICS_TCP && !metrics->is_public && !is_loopback(metrics->address))
		return error_say(
			err, EINVAL,
			"--metrics %s: others on the network could read it, and it asks for "
			"no password; use 127.0.0.1, or add --metrics-public on if that is meant",
			metrics->address);
	return 0;
}
