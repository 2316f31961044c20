/* `ebb run --net`: which cards are understood, and one line for each mistake. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/checked.h"
#include "vmm/options/options.h"
#include "vmm/options/options_net.h"

#define TEXT_MAX 1024

static struct vm_config config;
static struct error error;
static char texts[VM_NETS_MAX + 1][TEXT_MAX];

static int start_empty(void **state)
{
	(void)state;
	memset(&config, 0, sizeof(config));
	memset(&error, 0, sizeof(error));
	return 0;
}

static int add(const char *text)
{
	char *copy = texts[config.net_count];

	assert_true(strlen(text) < TEXT_MAX);
	strcpy(copy, text);
	return options_parse_net(&config, copy, &error);
}

/* @text is refused with one line that contains @part, and adds no card. */
static void assert_refused(const char *text, const char *part)
{
	size_t before = config.net_count;

	if (add(text) != -EINVAL)
		fail_msg("%s is understood", text);
	if (!strstr(error.text, part))
		fail_msg("%s: \"%s\" does not say \"%s\"", text, error.text, part);
	assert_null(strchr(error.text, '\n'));
	assert_int_equal(config.net_count, before);
}

static void assert_unsettled(const char *part)
{
	assert_int_equal(options_settle_nets(&config, &error), -EINVAL);
	assert_non_null(strstr(error.text, part));
	assert_null(strchr(error.text, '\n'));
}

static void tap_has_an_interface(void **state)
{
	static const uint8_t none[6];

	(void)state;
	assert_int_equal(add("tap=tap0"), 0);
	assert_int_equal(config.net_count, 1);
	assert_int_equal(config.nets[0].kind, NET_TAP);
	assert_string_equal(config.nets[0].interface, "tap0");
	assert_memory_equal(config.nets[0].mac, none, sizeof(none));
	assert_int_equal(options_settle_nets(&config, &error), 0);
}

static void interface_names_are_the_kernels(void **state)
{
	(void)state;
	assert_int_equal(add("tap=fifteen-letters"), 0);
	assert_int_equal(add("tap=a,,b"), 0);
	assert_string_equal(config.nets[1].interface, "a,b");
	assert_refused("tap=sixteen-letters-", "no name of an interface");
	assert_refused("tap=", "no name of an interface");
	assert_refused("tap=a/b", "no name of an interface");
	assert_refused("tap=tap%d", "no name of an interface");
	assert_refused("tap=a b", "no name of an interface");
	assert_refused("tap=a:b", "no name of an interface");
	assert_refused("tap=..", "no name of an interface");
}

static void user_forwards_ports(void **state)
{
	const struct net_config *net = &config.nets[0];

	(void)state;
	assert_int_equal(add("user,forward=8080:80,forward=65535:1,forward-udp=8080:53"), 0);
	assert_int_equal(net->kind, NET_USER);
	assert_int_equal(net->forward_count, 3);
	assert_int_equal(net->forwards[0].host_port, 8080);
	assert_int_equal(net->forwards[0].guest_port, 80);
	assert_false(net->forwards[0].udp);
	assert_int_equal(net->forwards[1].host_port, 65535);
	assert_int_equal(net->forwards[1].guest_port, 1);
	assert_true(net->forwards[2].udp);
	assert_int_equal(options_settle_nets(&config, &error), 0);
}

static void user_needs_no_ports(void **state)
{
	(void)state;
	assert_int_equal(add("user"), 0);
	assert_int_equal(config.nets[0].kind, NET_USER);
	assert_int_equal(config.nets[0].forward_count, 0);
}

static void both_kinds_take_an_address(void **state)
{
	static const uint8_t lower[6] = {0x02, 0xab, 0xcd, 0xef, 0x00, 0x01};
	static const uint8_t upper[6] = {0x02, 0xab, 0xcd, 0xef, 0x00, 0x02};

	(void)state;
	assert_int_equal(add("tap=t,mac=02:ab:cd:ef:00:01"), 0);
	assert_int_equal(add("user,mac=02:AB:CD:EF:00:02"), 0);
	assert_memory_equal(config.nets[0].mac, lower, 6);
	assert_memory_equal(config.nets[1].mac, upper, 6);
	assert_int_equal(options_settle_nets(&config, &error), 0);
}

static void bad_addresses_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"02",
		"02:00:00:00:00",
		"02:00:00:00:00:",
		"02:00:00:00:00:0",
		"02:00:00:00:00:0g",
		"02:00:00:00:00:01:02",
		"02-00-00-00-00-01",
		"0200:00:00:00:01",
		"2:0:0:0:0:1",
		" 2:00:00:00:00:01",
	};
	char text[80];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "user,mac=%s", bad[i]);
		assert_refused(text, "for example mac=02:");
	}
	assert_refused("user,mac=00:00:00:00:00:00", "begin it with 02");
	assert_refused("user,mac=ff:ff:ff:ff:ff:ff", "begin it with 02");
	assert_refused("tap=t,mac=01:00:5e:00:00:01", "begin it with 02");
}

static void bad_ports_are_refused(void **state)
{
	static const char *const bad[] = {
		"",         "80",      ":",        ":80",
		"80:",      "0:80",    "80:0",     "65536:80",
		"80:65536", "-1:80",   "8080:80:", "80 :80",
		"+80:80",   "0x50:80", "80:80x",   "99999999999999999999:80",
		"80:http",
	};
	char text[80];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "user,forward=%s", bad[i]);
		assert_refused(text, "HOSTPORT:GUESTPORT, both from 1 to 65535");
	}
	assert_refused("user,forward-udp=80", "for example forward-udp=8080:80");
}

static void unknown_words_are_refused_naming_the_known_ones(void **state)
{
	(void)state;
	assert_refused("", "tap=IFNAME, or user");
	assert_refused("bridge", "tap=IFNAME, or user");
	assert_refused("tap", "tap=IFNAME, or user");
	assert_refused("user=1", "tap=IFNAME, or user");
	assert_refused("user,port=1", "forward=HOSTPORT:GUESTPORT");
	assert_refused("user,", "unknown option \"\"");
	assert_refused("user,forwards=1:1", "unknown option");
	assert_refused("tap=t,mtu=1", "there is mac=MAC");
	assert_refused("tap=t,forward=8080:80", "by --net user alone");
}

static void host_port_leads_to_one_place(void **state)
{
	(void)state;
	assert_int_equal(add("user,forward=8080:80,forward=8080:81"), 0);
	assert_unsettled("port 8080 of the host is forwarded already");
}

static void host_port_belongs_to_one_card(void **state)
{
	(void)state;
	assert_int_equal(add("user,forward=8080:80"), 0);
	assert_int_equal(add("user,forward=8081:80"), 0);
	assert_int_equal(options_settle_nets(&config, &error), 0);
	assert_int_equal(add("user,forward=8080:80"), 0);
	assert_unsettled("port 8080 of the host is forwarded already");
}

static void guest_port_may_be_reached_twice(void **state)
{
	(void)state;
	assert_int_equal(add("user,forward=8080:80,forward=8081:80"), 0);
	assert_int_equal(options_settle_nets(&config, &error), 0);
}

static void cards_do_not_share(void **state)
{
	(void)state;
	assert_int_equal(add("tap=t"), 0);
	assert_int_equal(add("tap=t"), 0);
	assert_unsettled("tap=t: given twice");
	config.net_count = 0;
	assert_int_equal(add("tap=a,mac=02:00:00:00:00:01"), 0);
	assert_int_equal(add("user,mac=02:00:00:00:00:01"), 0);
	assert_unsettled("same address");
}

static void forwards_are_bounded(void **state)
{
	char text[TEXT_MAX] = "user";
	size_t length = strlen(text);

	(void)state;
	for (int i = 0; i < VM_FORWARDS_MAX; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, ",forward=%d:80",
					   2000 + i);
	assert_int_equal(add(text), 0);
	snprintf(text + length, sizeof(text) - length, ",forward=3000:80");
	assert_refused(text, "at most 32 forwards");
}

static void cards_are_bounded(void **state)
{
	(void)state;
	for (int i = 0; i < VM_NETS_MAX; i++)
		assert_int_equal(add("user"), 0);
	assert_refused("user", "at most 8");
}

static void command_line_has_the_option(void **state)
{
	char words[][32] = {"run", "--kernel", "k", "--net", "user", "--net", "tap=t"};
	char *argv[ARRAY_SIZE(words) + 1] = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		argv[i] = words[i];
	assert_int_equal(options_parse_run(ARRAY_SIZE(words), argv, &config, &error), OPTIONS_OK);
	assert_int_equal(config.net_count, 2);
	assert_int_equal(config.nets[0].kind, NET_USER);
	strcpy(words[4], "tap=t");
	assert_int_equal(options_parse_run(ARRAY_SIZE(words), argv, &config, &error), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(tap_has_an_interface, start_empty),
		cmocka_unit_test_setup(interface_names_are_the_kernels, start_empty),
		cmocka_unit_test_setup(user_forwards_ports, start_empty),
		cmocka_unit_test_setup(user_needs_no_ports, start_empty),
		cmocka_unit_test_setup(both_kinds_take_an_address, start_empty),
		cmocka_unit_test_setup(bad_addresses_are_refused, start_empty),
		cmocka_unit_test_setup(bad_ports_are_refused, start_empty),
		cmocka_unit_test_setup(unknown_words_are_refused_naming_the_known_ones,
				       start_empty),
		cmocka_unit_test_setup(host_port_leads_to_one_place, start_empty),
		cmocka_unit_test_setup(host_port_belongs_to_one_card, start_empty),
		cmocka_unit_test_setup(guest_port_may_be_reached_twice, start_empty),
		cmocka_unit_test_setup(cards_do_not_share, start_empty),
		cmocka_unit_test_setup(forwards_are_bounded, start_empty),
		cmocka_unit_test_setup(cards_are_bounded, start_empty),
		cmocka_unit_test_setup(command_line_has_the_option, start_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
