#include "vmm/options/options_net.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "vmm/options/options.h"

#define PORT_MAX 65535u

/* What the kernel takes as an interface's name; '%' would make it choose another one. */
static bool is_interface_name(const char *name)
{
	size_t length = strlen(name);

	return length >= 1 && length < IFNAMSIZ && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 && strcspn(name, "/:% \t\n\v\f\r") == length;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c | 0x20) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Six bytes in hexadecimal, colons between them. */
static bool read_mac(const char *text, uint8_t *mac)
{
	for (size_t i = 0; i < 6; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int parse_mac(struct net_config *net, const char *text, struct error *err)
{
	static const uint8_t none[6];
	uint8_t mac[6];

	if (!read_mac(text, mac))
		return error_say(err, EINVAL,
				 "--net mac=%.40s: no address; write for example "
				 "mac=02:00:00:00:00:01",
				 text);
	if (mac[0] & 1 || !memcmp(mac, none, sizeof(mac)))
		return error_say(err, EINVAL,
				 "--net mac=%.40s: no address of one card (it is for groups, or "
				 "zero); begin it with 02",
				 text);
	memcpy(net->mac, mac, sizeof(mac));
	return 0;
}

/* Decimal digits up to @end, which must follow. Returns the character behind, or NULL. */
static const char *read_port(const char *text, char end, uint16_t *port)
{
	uint32_t value = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9' && value <= PORT_MAX; at++)
		value = value * 10 + (uint32_t)(*at - '0');
	if (at == text || *at != end || value < 1 || value > PORT_MAX)
		return NULL;
	*port = (uint16_t)value;
	return at + 1;
}

static int parse_forward(struct net_config *net, bool udp, const char *text, struct error *err)
{
	const char *option = udp ? "forward-udp" : "forward";
	struct net_forward forward = {.udp = udp};
	const char *guest = read_port(text, ':', &forward.host_port);

	if (!guest || !read_port(guest, '\0', &forward.guest_port))
		return error_say(err, EINVAL,
				 "--net %s=%.40s: give HOSTPORT:GUESTPORT, both from 1 to 65535, "
				 "for example %s=8080:80",
				 option, text, option);
	if (net->forward_count == VM_FORWARDS_MAX)
		return error_say(err, EINVAL, "--net %s=%.40s: a card has at most %d forwards",
				 option, text, VM_FORWARDS_MAX);
	net->forwards[net->forward_count++] = forward;
	return 0;
}

/* What follows "NAME=" at the beginning of @option, or NULL. */
static const char *value_of(const char *option, const char *name)
{
	size_t length = strlen(name);

	return !strncmp(option, name, length) && option[length] == '=' ? option + length + 1 : NULL;
}

static int parse_option(struct net_config *net, const char *option, struct error *err)
{
	bool user = net->kind == NET_USER;
	const char *value;

	value = value_of(option, "mac");
	if (value)
		return parse_mac(net, value, err);
	value = value_of(option, "forward");
	if (value && user)
		return parse_forward(net, false, value, err);
	value = value_of(option, "forward-udp");
	if (value && user)
		return parse_forward(net, true, value, err);
	if (!user && !strncmp(option, "forward", 7))
		return error_say(err, EINVAL,
				 "--net tap=%s,%.60s: ports are forwarded by --net user alone; a "
				 "tap interface has addresses of its own",
				 net->interface, option);
	return error_say(err, EINVAL, "--net: unknown option \"%.80s\"; there %s", option,
			 user ? "are mac=MAC, forward=HOSTPORT:GUESTPORT and forward-udp=…"
			      : "is mac=MAC");
}

static int parse_kind(struct net_config *net, const char *text, struct error *err)
{
	if (!strcmp(text, "user")) {
		net->kind = NET_USER;
		return 0;
	}
	net->kind = NET_TAP;
	net->interface = value_of(text, "tap");
	if (!net->interface)
		return error_say(
			err, EINVAL,
			"--net %.80s: give tap=IFNAME, or user[,forward=HOSTPORT:GUESTPORT]", text);
	if (!is_interface_name(net->interface))
		return error_say(err, EINVAL,
				 "--net tap=%.80s: no name of an interface: 1 to %d characters, "
				 "without / : %% and spaces",
				 net->interface, IFNAMSIZ - 1);
	return 0;
}

int options_parse_net(struct vm_config *config, char *text, struct error *err)
{
	struct net_config *net = &config->nets[config->net_count];
	char *next = options_cut_field(text);
	int result;

	if (config->net_count == VM_NETS_MAX)
		return error_say(err, EINVAL, "--net %.80s: a machine has at most %d", text,
				 VM_NETS_MAX);
	*net = (struct net_config){0};
	result = parse_kind(net, text, err);
	while (!result && next) {
		char *option = next;

		next = options_cut_field(option);
		result = parse_option(net, option, err);
	}
	if (!result)
		config->net_count++;
	return result;
}

/* Whether a forward before number @count of card number @last takes the port of @forward. */
static bool is_taken(const struct vm_config *config, size_t last, size_t count,
		     const struct net_forward *forward)
{
	for (size_t i = 0; i <= last; i++) {
		const struct net_config *net = &config->nets[i];
		size_t end = i < last ? net->forward_count : count;

		for (size_t j = 0; j < end; j++) {
			if (net->forwards[j].udp == forward->udp &&
			    net->forwards[j].host_port == forward->host_port)
				return true;
		}
	}
	return false;
}

static int settle_forwards(const struct vm_config *config, size_t index, struct error *err)
{
	const struct net_config *net = &config->nets[index];

	for (size_t i = 0; i < net->forward_count; i++) {
		const struct net_forward *forward = &net->forwards[i];

		if (is_taken(config, index, i, forward))
			return error_say(err, EINVAL,
					 "--net forward%s=%u:%u: port %u of the host is forwarded "
					 "already; choose another",
					 forward->udp ? "-udp" : "", forward->host_port,
					 forward->guest_port, forward->host_port);
	}
	return 0;
}

int options_settle_nets(const struct vm_config *config, struct error *err)
{
	static const uint8_t none[6];

	for (size_t i = 0; i < config->net_count; i++) {
		const struct net_config *net = &config->nets[i];
		int result = settle_forwards(config, i, err);

		if (result)
			return result;
		for (size_t j = 0; j < i; j++) {
			const struct net_config *other = &config->nets[j];

			if (net->kind == NET_TAP && other->kind == NET_TAP &&
			    !strcmp(net->interface, other->interface))
				return error_say(err, EINVAL,
						 "--net tap=%s: given twice; each card needs an "
						 "interface of its own",
						 net->interface);
			if (memcmp(net->mac, none, sizeof(none)) != 0 &&
			    !memcmp(net->mac, other->mac, sizeof(net->mac)))
				return error_say(err, EINVAL,
						 "--net: two cards have the same address; give "
						 "each its own by mac=");
		}
	}
	return 0;
}
