/* `ebb run`'s command line: what is understood, and one line for each mistake. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "command_line.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/options/options.h"
#include "vmm/options/options_metrics.h"

static struct vm_config config;
static struct error error;

static int parse(const char *line)
{
	return command_line_parse(line, &config, &error);
}

/* @line is refused with one line that contains @part. */
static void assert_refused(const char *line, const char *part)
{
	assert_int_equal(parse(line), -EINVAL);
	if (!strstr(error.text, part))
		fail_msg("%s: \"%s\" does not say \"%s\"", line, error.text, part);
	assert_null(strchr(error.text, '\n'));
}

static void kernel_alone_gives_the_defaults(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel vmlinux"), OPTIONS_OK);
	assert_string_equal(config.kernel, "vmlinux");
	assert_int_equal(config.memory_bytes, 512 * MIB);
	assert_int_equal(config.cpus, 1);
	assert_int_equal(config.serial, SERIAL_STDIO);
	assert_int_equal(config.disk_count, 0);
	assert_null(config.initrd);
	assert_null(config.cmdline);
	assert_null(config.control_path);
	assert_null(config.swap.store.path);
	assert_int_equal(config.swap.store.pool_bytes, 0);
	assert_int_equal(config.swap.store.limit_bytes, 0);
	assert_int_equal(config.swap.store.compression, STORE_COMPRESS_LZ4);
	assert_int_equal(config.swap.store.level, 0);
	assert_true(config.swap.store.encrypt);
	assert_int_equal(config.swap.store.io, STORE_IO_AUTO);
	assert_null(config.dump_dtb);
	assert_int_equal(strncmp(config.name, "vm-", 3), 0);
	assert_int_equal(options_check_name(config.name, NULL), 0);
}

static void every_option_is_understood(void **state)
{
	(void)state;
	assert_int_equal(parse("--name a.b-C_9 --kernel k --initrd i --cmdline quiet --memory 64m "
			       "--cpus 8 --disk d --serial file=/x --control c.sock --swap-dir s "
			       "--dump-dtb t"),
			 OPTIONS_OK);
	assert_string_equal(config.name, "a.b-C_9");
	assert_string_equal(config.initrd, "i");
	assert_string_equal(config.cmdline, "quiet");
	assert_int_equal(config.memory_bytes, 64 * MIB);
	assert_int_equal(config.cpus, 8);
	assert_int_equal(config.serial, SERIAL_FILE);
	assert_string_equal(config.serial_path, "/x");
	assert_string_equal(config.control_path, "c.sock");
	assert_string_equal(config.swap.store.path, "s");
	assert_string_equal(config.dump_dtb, "t");
}

static void disks_have_options_and_ids(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k --disk a --disk b,ro --disk c,id=data,ro"), OPTIONS_OK);
	assert_int_equal(config.disk_count, 3);
	assert_string_equal(config.disks[0].path, "a");
	assert_string_equal(config.disks[0].id, "disk0");
	assert_false(config.disks[0].read_only);
	assert_true(config.disks[1].read_only);
	assert_string_equal(config.disks[2].id, "data");
	assert_true(config.disks[2].read_only);
}

static void doubled_comma_is_part_of_the_path(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k --disk a,,b,,,ro"), OPTIONS_OK);
	assert_string_equal(config.disks[0].path, "a,b,");
	assert_true(config.disks[0].read_only);
}

static void help_is_told_apart(void **state)
{
	(void)state;
	assert_int_equal(parse("--help"), OPTIONS_HELP);
	assert_int_equal(parse("-h"), OPTIONS_HELP);
}

static void sizes_of_memory_at_the_edges(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k --memory 16M"), OPTIONS_OK);
	assert_int_equal(parse("--kernel k --memory 16781312"), OPTIONS_OK);
	assert_refused("--kernel k --memory 16773120", "16M at least");
}

static void bad_memory_is_refused(void **state)
{
	static const char *const sizes[][2] = {
		{"0", "16M at least"},     {"17", "16M at least"},
		{"17000001", "page size"}, {"1000T", "than this host has"},
		{"lots", "no size"},       {"-1", "no size"},
		{"1.5G", "no size"},       {"99999999999999999999999", "than this host has"},
	};
	char line[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(line, sizeof(line), "--kernel k --memory %s", sizes[i][0]);
		assert_refused(line, sizes[i][1]);
	}
}

static void bad_cpus_are_refused(void **state)
{
	static const char *const counts[] = {"0", "10000", "65", "-1", "two", "1K"};
	char line[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		snprintf(line, sizeof(line), "--cpus %s --kernel k", counts[i]);
		assert_refused(line, "1 to 64");
	}
	assert_int_equal(parse("--kernel k --cpus 64"), OPTIONS_OK);
}

static void bad_names_are_refused(void **state)
{
	static const char *const names[] = {"", ".hidden", "a/b", "..", "a b", "\xff", "a\nb"};
	char name[VM_NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(options_check_name(names[i], &error), -EINVAL);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(options_check_name(name, &error), -EINVAL);
	name[VM_NAME_MAX] = '\0';
	assert_int_equal(options_check_name(name, &error), 0);
	assert_refused("--kernel k --name a/b", "no name");
}

static void bad_disks_are_refused(void **state)
{
	(void)state;
	assert_refused("--kernel k --disk ,ro", "path is missing");
	assert_refused("--kernel k --disk a,rw", "unknown option \"rw\"");
	assert_refused("--kernel k --disk a,format=qcow2", "qemu-img convert");
	assert_refused("--kernel k --disk a,format=", "raw disks only");
	assert_refused("--kernel k --disk a,", "unknown option \"\"");
	assert_refused("--kernel k --disk a,id=", "no id");
	assert_refused("--kernel k --disk a,id=123456789012345678901", "no id");
	assert_refused("--kernel k --disk a,id=x --disk b,id=x", "belongs to disk a");
	assert_refused("--kernel k --disk a,id=disk1 --disk b", "belongs to disk a");
}

static void too_many_disks_are_refused(void **state)
{
	char line[512] = "--kernel k";

	(void)state;
	for (int i = 0; i < VM_DISKS_MAX; i++)
		strcat(line, " --disk d");
	assert_int_equal(parse(line), OPTIONS_OK);
	strcat(line, " --disk e");
	assert_refused(line, "at most 14");
}

static void bad_serial_lines_are_refused(void **state)
{
	(void)state;
	assert_refused("--kernel k --serial com1", "stdio, none, pty, file=PATH or unix=PATH");
	assert_refused("--kernel k --serial file=", "stdio, none, pty, file=PATH or unix=PATH");
	assert_int_equal(parse("--kernel k --serial pty"), OPTIONS_OK);
	assert_int_equal(config.serial, SERIAL_PTY);
	assert_int_equal(parse("--kernel k --serial none"), OPTIONS_OK);
	assert_int_equal(config.serial, SERIAL_NONE);
}

static void a_console_goes_where_serial_lines_go(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k"), OPTIONS_OK);
	assert_int_equal(config.console, SERIAL_NONE);
	assert_int_equal(parse("--kernel k --console unix=/s --serial unix=/t"), OPTIONS_OK);
	assert_int_equal(config.console, SERIAL_UNIX);
	assert_string_equal(config.console_path, "/s");
	assert_string_equal(config.serial_path, "/t");
	assert_int_equal(parse("--kernel k --serial none --console stdio"), OPTIONS_OK);
	assert_int_equal(config.console, SERIAL_STDIO);
	assert_refused("--kernel k --console stdio", "--serial none");
	assert_refused("--kernel k --console unix=", "unix=PATH");
	assert_refused("--kernel k --console tty", "--console tty");
}

static void vsock_has_a_path_and_a_cid(void **state)
{
	char line[160];

	(void)state;
	assert_int_equal(parse("--kernel k"), OPTIONS_OK);
	assert_null(config.vsock_path);
	assert_int_equal(parse("--kernel k --vsock /v.sock"), OPTIONS_OK);
	assert_string_equal(config.vsock_path, "/v.sock");
	assert_int_equal(config.vsock_cid, 3);
	assert_int_equal(parse("--kernel k --vsock a,,b,cid=4294967294"), OPTIONS_OK);
	assert_string_equal(config.vsock_path, "a,b");
	assert_int_equal(config.vsock_cid, 4294967294u);
	assert_refused("--kernel k --vsock ,cid=3", "a path is missing");
	assert_refused("--kernel k --vsock v,cid=2", "from 3 to 4294967294");
	assert_refused("--kernel k --vsock v,cid=4294967295", "from 3 to");
	assert_refused("--kernel k --vsock v,cid=", "\"cid=\" is not understood");
	assert_refused("--kernel k --vsock v,port=1", "\"port=1\" is not understood");
	snprintf(line, sizeof(line), "--kernel k --vsock %097d", 0);
	assert_refused(line, "too long for a socket");
	snprintf(line, sizeof(line), "--kernel k --vsock %096d", 0);
	assert_int_equal(parse(line), OPTIONS_OK);
}

static void store_of_the_users_choice(void **state)
{
	const struct store_config *store = &config.swap.store;

	(void)state;
	assert_int_equal(parse("--kernel k --swap-dir /dev/sdx --swap-pool 64M --swap-limit 4G "
			       "--swap-compress zstd:19 --swap-encrypt off --swap-io threads"),
			 OPTIONS_OK);
	assert_string_equal(store->path, "/dev/sdx");
	assert_int_equal(store->pool_bytes, 64 * MIB);
	assert_int_equal(store->limit_bytes, 4 * GIB);
	assert_int_equal(store->compression, STORE_COMPRESS_ZSTD);
	assert_int_equal(store->level, 19);
	assert_false(store->encrypt);
	assert_int_equal(store->io, STORE_IO_THREADS);
}

static void pool_alone_is_a_store(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k --swap-pool 4M --swap-compress none --swap-encrypt on "
			       "--swap-io uring"),
			 OPTIONS_OK);
	assert_null(config.swap.store.path);
	assert_int_equal(config.swap.store.pool_bytes, 4 * MIB);
	assert_int_equal(config.swap.store.compression, STORE_COMPRESS_NONE);
	assert_int_equal(config.swap.store.io, STORE_IO_URING);
}

static void last_compression_counts(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k --swap-compress zstd:7 --swap-compress zstd"),
			 OPTIONS_OK);
	assert_int_equal(config.swap.store.compression, STORE_COMPRESS_ZSTD);
	assert_int_equal(config.swap.store.level, 0);
}

static void automatic_swap_is_off_unless_asked_for(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k --swap-dir s"), OPTIONS_OK);
	assert_false(swap_policy_is_on(&config.swap_auto));
	assert_int_equal(parse("--kernel k --swap-pool 64M --swap-auto idle=30,pressure"),
			 OPTIONS_OK);
	assert_int_equal(config.swap_auto.idle_ns, 30 * NS_PER_SEC);
	assert_true(config.swap_auto.pressure);
	assert_int_equal(parse("--kernel k --swap-auto off"), OPTIONS_OK);
	assert_refused("--kernel k --swap-dir s --swap-auto later", "idle=SECONDS");
	assert_refused("--kernel k --swap-auto idle=30", "--swap-dir PATH, or --swap-pool SIZE");
}

static void policies_are_understood(void **state)
{
	static const char *const texts[] = {"off", "idle=1", "idle=604800", "pressure",
					    "idle=60,pressure"};
	char text[SWAP_POLICY_TEXT_MAX];
	struct swap_policy_config policy;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(swap_policy_parse(texts[i], &policy, &error), 0);
		assert_string_equal(swap_policy_format(&policy, text), texts[i]);
		assert_int_equal(swap_policy_is_on(&policy), i > 0);
	}
	assert_int_equal(swap_policy_parse("pressure,idle=5", &policy, &error), 0);
	assert_string_equal(swap_policy_format(&policy, text), "idle=5,pressure");
}

static void bad_policies_are_refused_naming_the_good_ones(void **state)
{
	static const char *const texts[] = {
		"",
		"on",
		"idle",
		"idle=",
		"idle=0",
		"idle=-1",
		"idle=604801",
		"idle=1.5",
		"idle=5,",
		",pressure",
		"pressures",
		"off,pressure",
		"idle=99999999999999999999",
		"idle=5;pressure",
		"idle= 5",
	};
	struct swap_policy_config policy;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (swap_policy_parse(texts[i], &policy, &error) != -EINVAL)
			fail_msg("\"%s\" is a policy", texts[i]);
		assert_non_null(strstr(error.text, "idle=SECONDS"));
	}
}

static void bad_stores_are_refused(void **state)
{
	(void)state;
	assert_refused("--kernel k --swap-pool 4194303", "4.0 MiB or more");
	assert_refused("--kernel k --swap-pool 0", "4.0 MiB or more");
	assert_refused("--kernel k --swap-pool big", "no size");
	assert_refused("--kernel k --swap-pool 1000T", "memory of this host");
	assert_refused("--kernel k --swap-pool 99999999999999999999T", "out of reach");
	assert_refused("--kernel k --swap-dir d --swap-limit 1K", "4.0 MiB or more");
	assert_refused("--kernel k --swap-dir d --swap-limit -1", "no size");
	assert_refused("--kernel k --swap-limit 1G", "--swap-dir, which is not given");
	assert_refused("--kernel k --swap-pool 64M --swap-limit 1G", "--swap-dir");
	assert_refused("--swap-dir  --kernel k", "path is missing");
}

static void bad_choices_are_refused_naming_the_good_ones(void **state)
{
	static const char *const levels[] = {
		"0", "20", "-1", "+3", "", "3x", "99999999999999999999"};
	char line[80];

	(void)state;
	assert_refused("--kernel k --swap-compress gzip", "lz4, zstd, zstd:LEVEL");
	assert_refused("--kernel k --swap-compress lz4:3", "lz4, zstd, zstd:LEVEL");
	assert_refused("--swap-compress  --kernel k", "lz4, zstd, zstd:LEVEL");
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		snprintf(line, sizeof(line), "--kernel k --swap-compress zstd:%s", levels[i]);
		assert_refused(line, "from 1 (fast) to 19 (small)");
	}
	assert_refused("--kernel k --swap-encrypt yes", "on or off");
	assert_refused("--kernel k --swap-io aio", "auto, uring or threads");
}

static void metrics_have_places_of_three_kinds(void **state)
{
	(void)state;
	assert_int_equal(parse("--kernel k"), OPTIONS_OK);
	assert_int_equal(config.metrics.kind, METRICS_NONE);
	assert_int_equal(parse("--kernel k --metrics 9100"), OPTIONS_OK);
	assert_int_equal(config.metrics.kind, METRICS_TCP);
	assert_string_equal(config.metrics.address, "127.0.0.1");
	assert_int_equal(config.metrics.port, 9100);
	assert_int_equal(parse("--kernel k --metrics [::1]:0"), OPTIONS_OK);
	assert_string_equal(config.metrics.address, "::1");
	assert_int_equal(config.metrics.port, 0);
	assert_int_equal(parse("--kernel k --metrics localhost:65535"), OPTIONS_OK);
	assert_string_equal(config.metrics.address, "127.0.0.1");
	assert_int_equal(parse("--kernel k --metrics ./m:1"), OPTIONS_OK);
	assert_int_equal(config.metrics.kind, METRICS_UNIX);
	assert_string_equal(config.metrics.path, "./m:1");
}

static void bad_places_for_metrics_are_refused(void **state)
{
	static const char *const bad[] = {"65536",     "-1",         "9100x",    "",
					  ":9100",     "::1:9100",   "[::1]",    "[]:1",
					  "host:9100", "1.2.3:9100", "1.2.3.4:", "[1.2.3.4:1",
					  "0x10",      "127.0.0.1"};
	char line[160];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(line, sizeof(line), "--kernel k --metrics %s", bad[i]);
		assert_refused(line, bad[i][0] ? "ADDRESS:PORT" : "--metrics");
	}
	memset(line, 'a', sizeof(line));
	memcpy(line, "/x", 2);
	line[120] = '\0';
	{
		struct vm_config own = {.memory_bytes = 0};

		assert_int_equal(options_parse_metrics(&own, line, &error), -EINVAL);
		assert_non_null(strstr(error.text, "too long"));
	}
}

static void public_metrics_need_to_be_meant(void **state)
{
	(void)state;
	assert_refused("--kernel k --metrics 0.0.0.0:9100", "--metrics-public");
	assert_refused("--kernel k --metrics [::]:9100", "--metrics-public");
	assert_refused("--kernel k --metrics 192.0.2.1:9100", "--metrics-public");
	assert_refused("--kernel k --metrics-public on", "--metrics ADDRESS:PORT");
	assert_refused("--kernel k --metrics 1 --metrics-public yes", "on or off");
	assert_refused("--kernel k --metrics 0.0.0.0:1 --metrics-public off", "--metrics-public");
	assert_int_equal(parse("--kernel k --metrics 127.1.2.3:9100"), OPTIONS_OK);
	assert_int_equal(parse("--kernel k --metrics-public on --metrics 0.0.0.0:9100"),
			 OPTIONS_OK);
	assert_true(config.metrics.is_public);
	assert_int_equal(parse("--kernel k --metrics 0.0.0.0:9100 --metrics-public on"),
			 OPTIONS_OK);
}

static void wrong_usage_is_refused(void **state)
{
	(void)state;
	assert_refused("", "--kernel FILE");
	assert_refused("--memory 64M", "--kernel FILE");
	assert_refused("--kernel k --frobnicate", "--frobnicate: no such option");
	assert_refused("--kernel k --memroy 1G", "did you mean --memory?");
	assert_refused("--kernel k --dsk=a", "did you mean --disk?");
	assert_refused("--kernel k --swap", "--swap: no such option");
	assert_refused("--kernel k --print-config=x", "has no argument");
	assert_refused("--kernel k -z", "-z: no such option");
	assert_refused("--kernel k --memory", "--memory: an argument is missing");
	assert_refused("--kernel k stray", "\"stray\"");
	assert_refused("--kernel  --memory 64M", "--kernel: a path is missing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_alone_gives_the_defaults),
		cmocka_unit_test(every_option_is_understood),
		cmocka_unit_test(disks_have_options_and_ids),
		cmocka_unit_test(doubled_comma_is_part_of_the_path),
		cmocka_unit_test(help_is_told_apart),
		cmocka_unit_test(sizes_of_memory_at_the_edges),
		cmocka_unit_test(bad_memory_is_refused),
		cmocka_unit_test(bad_cpus_are_refused),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(bad_disks_are_refused),
		cmocka_unit_test(too_many_disks_are_refused),
		cmocka_unit_test(bad_serial_lines_are_refused),
		cmocka_unit_test(a_console_goes_where_serial_lines_go),
		cmocka_unit_test(vsock_has_a_path_and_a_cid),
		cmocka_unit_test(store_of_the_users_choice),
		cmocka_unit_test(pool_alone_is_a_store),
		cmocka_unit_test(last_compression_counts),
		cmocka_unit_test(automatic_swap_is_off_unless_asked_for),
		cmocka_unit_test(policies_are_understood),
		cmocka_unit_test(bad_policies_are_refused_naming_the_good_ones),
		cmocka_unit_test(bad_stores_are_refused),
		cmocka_unit_test(bad_choices_are_refused_naming_the_good_ones),
		cmocka_unit_test(metrics_have_places_of_three_kinds),
		cmocka_unit_test(bad_places_for_metrics_are_refused),
		cmocka_unit_test(public_metrics_need_to_be_meant),
		cmocka_unit_test(wrong_usage_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
