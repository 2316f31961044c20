#include "vmm/options/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/options/config_file.h"
#include "vmm/options/option_values.h"
#include "vmm/options/options_console.h"
#include "vmm/options/options_given.h"
#include "vmm/options/options_metrics.h"
#include "vmm/options/options_net.h"
#include "vmm/options/options_swap.h"

#define MEMORY_DEFAULT  (512 * MIB)
#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

int options_check_name(const char *name, struct error *err)
{
	size_t length = strlen(name);

	if (!length || length > VM_NAME_MAX || name[0] == '.' ||
	    strspn(name, NAME_CHARACTERS) != length)
		return error_say(err, EINVAL,
				 "\"%.80s\" is no name for a machine: use 1 to %d of A-Z a-z 0-9 "
				 ". _ -, not beginning with '.'",
				 name, VM_NAME_MAX);
	return 0;
}

static int parse_name(struct vm_config *config, char *text, struct error *err)
{
	int result = options_check_name(text, err);

	if (!result)
		memcpy(config->name, text, strlen(text) + 1);
	return result;
}

static int parse_memory(struct vm_config *config, char *text, struct error *err)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * page_size;
	uint64_t bytes;
	char size[32];
	int result = size_parse(text, &bytes);

	if (result == -EINVAL)
		return error_say(err, EINVAL,
				 "--memory %.80s: no size; write for example 512M or 4G", text);
	if (result || bytes > host)
		return error_say(err, EINVAL,
				 "--memory %.80s: more than this host has (%s); give less", text,
				 size_format(host, size, sizeof(size)));
	if (bytes < VM_MEMORY_MIN)
		return error_say(
			err, EINVAL,
			"--memory %.80s: a machine needs 16M at least; the default is 512M", text);
	if (!is_aligned(bytes, page_size))
		return error_say(err, EINVAL,
				 "--memory %.80s: not a multiple of the page size of %llu bytes",
				 text, (unsigned long long)page_size);
	config->memory_bytes = bytes;
	return 0;
}

static int parse_cpus(struct vm_config *config, char *text, struct error *err)
{
	uint64_t cpus;

	/* A suffix that size_parse() would take cannot make a number in range. */
	if (size_parse(text, &cpus) || cpus < 1 || cpus > VM_CPUS_MAX)
		return error_say(err, EINVAL, "--cpus %.80s: give a number from 1 to %d", text,
				 VM_CPUS_MAX);
	config->cpus = (unsigned)cpus;
	return 0;
}

char *options_cut_field(char *text)
{
	char *to = text;

	for (char *from = text;; from++) {
		if (from[0] == ',' && from[1] != ',') {
			*to = '\0';
			return from + 1;
		}
		if (from[0] == ',')
			from++;
		*to++ = *from;
		if (!*from)
			return NULL;
	}
}

static int parse_disk_option(struct disk_config *disk, const char *option, struct error *err)
{
	size_t length;

	if (!strcmp(option, "ro")) {
		disk->read_only = true;
		return 0;
	}
	if (!strcmp(option, "format=raw")) {
		disk->is_raw = true;
		return 0;
	}
	if (!strncmp(option, "format=", 7))
		return error_say(err, EINVAL,
				 "--disk %.80s: \"%.80s\": ebb reads raw disks only; qemu-img "
				 "convert -O raw FILE NEW.raw makes one of an image",
				 disk->path, option);
	if (strncmp(option, "id=", 3) != 0)
		return error_say(
			err, EINVAL,
			"--disk %.80s: unknown option \"%.80s\"; there are ro, id=NAME and "
			"format=raw (a comma in the path is written twice)",
			disk->path, option);
	length = strlen(option + 3);
	if (!length || length > VM_DISK_ID_MAX || strspn(option + 3, NAME_CHARACTERS) != length)
		return error_say(err, EINVAL,
				 "--disk %.80s: \"%.80s\" is no id: use 1 to %d of A-Z a-z 0-9 . _ "
				 "-",
				 disk->path, option + 3, VM_DISK_ID_MAX);
	memcpy(disk->id, option + 3, length + 1);
	return 0;
}

static int parse_disk(struct vm_config *config, char *text, struct error *err)
{
	struct disk_config *disk = &config->disks[config->disk_count];
	char *next = options_cut_field(text);

	if (config->disk_count == VM_DISKS_MAX)
		return error_say(err, EINVAL, "--disk %.80s: a machine has at most %d disks", text,
				 VM_DISKS_MAX);
	if (!*text)
		return error_say(
			err, EINVAL,
			"--disk: a path is missing; write PATH[,ro][,id=NAME][,format=raw]");
	disk->path = text;
	while (next) {
		char *option = next;
		int result;

		next = options_cut_field(option);
		result = parse_disk_option(disk, option, err);
		if (result)
			return result;
	}
	config->disk_count++;
	return 0;
}

/* Gives each disk without an id the name diskN, and refuses an id that is there twice. */
static int settle_disk_ids(struct vm_config *config, struct error *err)
{
	for (size_t i = 0; i < config->disk_count; i++) {
		struct disk_config *disk = &config->disks[i];

		if (!disk->id[0])
			snprintf(disk->id, sizeof(disk->id), "disk%u", (unsigned)i % VM_DISKS_MAX);
	}
	for (size_t i = 0; i < config->disk_count; i++) {
		for (size_t j = 0; j < i; j++) {
			if (!strcmp(config->disks[i].id, config->disks[j].id))
				return error_say(err, EINVAL,
						 "--disk %.80s: the id \"%s\" belongs to disk "
						 "%.80s already; give another by ,id=NAME",
						 config->disks[i].path, config->disks[i].id,
						 config->disks[j].path);
		}
	}
	return 0;
}

static int parse_path(const char **path, const char *option, const char *text, struct error *err)
{
	if (!*text)
		return error_say(err, EINVAL, "--%s: a path is missing", option);
	*path = text;
	return 0;
}

static int parse_kernel(struct vm_config *config, char *text, struct error *err)
{
	return parse_path(&config->kernel, "kernel", text, err);
}

static int parse_initrd(struct vm_config *config, char *text, struct error *err)
{
	return parse_path(&config->initrd, "initrd", text, err);
}

static int parse_cmdline(struct vm_config *config, char *text, struct error *err)
{
	(void)err;
	config->cmdline = text;
	return 0;
}

static int parse_control(struct vm_config *config, char *text, struct error *err)
{
	return parse_path(&config->control_path, "control", text, err);
}

static int parse_sandbox(struct vm_config *config, char *text, struct error *err)
{
	config->sandbox_off = !strcmp(text, "off");
	if (!config->sandbox_off && strcmp(text, "on") != 0)
		return error_say(err, EINVAL, "--sandbox %.80s: give on or off", text);
	return 0;
}

static int parse_dump_dtb(struct vm_config *config, char *text, struct error *err)
{
	return parse_path(&config->dump_dtb, "dump-dtb", text, err);
}

static int parse_config(struct vm_config *config, char *text, struct error *err)
{
	return parse_path(&config->config_path, "config", text, err);
}

static int parse_print_config(struct vm_config *config, char *text, struct error *err)
{
	(void)text;
	(void)err;
	config->print_config = true;
	return 0;
}

const struct run_option run_options[] = {
	{"name", "NAME", "the VM's name for ctl, console and ls", false, parse_name},
	{"kernel", "FILE", "bzImage, or ELF with a PVH entry; ebb looks at the file", false,
	 parse_kernel},
	{"initrd", "FILE", "initial RAM disk", false, parse_initrd},
	{"cmdline", "TEXT", "the kernel's command line", false, parse_cmdline},
	{"memory", "SIZE", "guest RAM, for example 512M or 4G", false, parse_memory},
	{"cpus", "N", "virtual CPUs", false, parse_cpus},
	{"disk", "PATH[,ro][,id=NAME][,format=raw]", "a raw file or block device", true,
	 parse_disk},
	{"net", "tap=IFNAME|user[,forward=HOSTPORT:GUESTPORT][,mac=MAC]", "a network card", true,
	 options_parse_net},
	{"serial", OPTIONS_LINE_KINDS, "where the serial port goes", false, options_parse_serial},
	{"console", OPTIONS_LINE_KINDS, "where a second, fast console (hvc0) goes", false,
	 options_parse_console},
	{"vsock", "PATH[,cid=N]", "Unix socket that leads to the guest's vsock ports", false,
	 options_parse_vsock},
	{"control", "PATH", "the control socket's path", false, parse_control},
	{"swap-dir", "PATH", "directory or block device for swapped-out memory", false,
	 options_parse_swap_dir},
	{"swap-pool", "SIZE", "compressed memory stays in RAM up to SIZE", false,
	 options_parse_swap_pool},
	{"swap-limit", "SIZE", "what the store may take of the disk", false,
	 options_parse_swap_limit},
	{"swap-compress", "lz4|zstd[:LEVEL]|none", "how pages are compressed", false,
	 options_parse_swap_compress},
	{"swap-encrypt", "on|off", "whether pages are encrypted", false,
	 options_parse_swap_encrypt},
	{"swap-io", "auto|uring|threads", "how the store is read and written", false,
	 options_parse_swap_io},
	{"swap-auto", "POLICY", "swap by itself: idle=SECONDS, pressure, both, or off", false,
	 options_parse_swap_auto},
	{"metrics", "PORT|ADDRESS:PORT|PATH", "serve metrics for Prometheus over HTTP", false,
	 options_parse_metrics},
	{"metrics-public", "on|off", "whether other hosts may reach the metrics", false,
	 options_parse_metrics_public},
	{"sandbox", "on|off",
	 "give up all rights that the VM does not need (on); off is for debugging", false,
	 parse_sandbox},
	{"dump-dtb", "FILE", "write the device tree to FILE and exit", false, parse_dump_dtb},
	{"config", "FILE", "read options from FILE, a JSON object", false, parse_config},
	{"print-config", NULL, "print the options as such an object and exit", false,
	 parse_print_config},
};
const size_t run_option_count = ARRAY_SIZE(run_options);

bool options_in_file(const struct run_option *option)
{
	return option->parse != parse_config && option->parse != parse_print_config;
}

#define HELP_INDEX   ARRAY_SIZE(run_options)
#define FIRST_OPTION 256 /* getopt's values, beyond any character */

/* The table as getopt wants it, --help behind. */
static void make_long_options(struct option *options)
{
	for (size_t i = 0; i < run_option_count; i++)
		options[i] = (struct option){
			.name = run_options[i].name,
			.has_arg = run_options[i].argument ? required_argument : no_argument,
			.val = FIRST_OPTION + (int)i,
		};
	options[HELP_INDEX] = (struct option){.name = "help", .val = 'h'};
	options[HELP_INDEX + 1] = (struct option){0};
}

/* What getopt did not take, of @word. @known: the option, which has no argument but got one. */
static int say_no_option(const char *word, int known, struct error *err)
{
	size_t length = strncmp(word, "--", 2) ? 0 : strcspn(word + 2, "=");
	const struct run_option *nearest = option_nearest(word + 2, length, false);

	if (known >= FIRST_OPTION)
		return error_say(err, EINVAL, "%.80s: --%s has no argument", word,
				 run_options[known - FIRST_OPTION].name);
	if (nearest)
		return error_say(err, EINVAL,
				 "%.80s: no such option; did you mean --%s? See `ebb help run`",
				 word, nearest->name);
	return error_say(err, EINVAL, "%.80s: no such option; see `ebb help run`", word);
}

/* The options in @argv, whose texts stay where they are. @line has room for @argc. */
static int collect(int argc, char **argv, struct option_values *line, struct error *err)
{
	static char nothing[1];
	struct option long_options[ARRAY_SIZE(run_options) + 2];

	make_long_options(long_options);
	optind = 0; /* start anew; messages are ours */
	opterr = 0;
	for (;;) {
		int id = getopt_long(argc, argv, "+:h", long_options, NULL);

		if (id == -1)
			break;
		if (id == ':')
			return error_say(err, EINVAL,
					 "%.80s: an argument is missing; see `ebb help run`",
					 argv[optind - 1]);
		if (id == '?')
			return say_no_option(argv[optind - 1], optopt, err);
		if (id == 'h')
			return OPTIONS_HELP;
		line->items[line->count++] = (struct option_value){
			.option = &run_options[id - FIRST_OPTION],
			.text = optarg ? optarg : nothing,
		};
	}
	if (optind < argc)
		return error_say(err, EINVAL, "\"%.80s\" belongs to no option; see `ebb help run`",
				 argv[optind]);
	return OPTIONS_OK;
}

/* Whether the command line, behind the file in @values, has its own word on the option of @value. */
static bool is_void(const struct option_values *values, const struct option_value *value)
{
	for (size_t i = 0; i < values->count && value->line && !value->option->repeats; i++) {
		if (!values->items[i].line && values->items[i].option == value->option)
			return true;
	}
	return false;
}

/* @path: of the file that values may be from. */
static int apply(struct vm_config *config, const struct option_values *values, const char *path,
		 struct error *err)
{
	for (size_t i = 0; i < values->count; i++) {
		const struct option_value *value = &values->items[i];
		struct vm_config aside = *config;
		int result = value->option->parse(is_void(values, value) ? &aside : config,
						  value->text, err);

		if (!result)
			continue;
		if (value->line)
			config_file_locate(path, value, err);
		return result;
	}
	return 0;
}

static void set_defaults(struct vm_config *config)
{
	*config = (struct vm_config){.memory_bytes = MEMORY_DEFAULT, .cpus = 1};
	options_console_defaults(config);
	options_swap_defaults(config);
	snprintf(config->name, sizeof(config->name), "vm-%d", (int)getpid());
}

/* After the last option: what makes sense only together. */
static int settle(struct vm_config *config, struct error *err)
{
	if (!config->kernel && config->disk_count == 0) /* one may lie beside a disk */
		return error_say(err, EINVAL, "no kernel; give one by --kernel FILE");
	if (options_settle_metrics(config, err) || options_settle_console(config, err) ||
	    options_settle_swap(config, err) || options_settle_nets(config, err))
		return -EINVAL;
	return settle_disk_ids(config, err);
}

/* The last of @option's texts; NULL: it was not given. */
static const char *last_text(const struct option_values *values, const char *option)
{
	const char *text = NULL;

	for (size_t i = 0; i < values->count; i++) {
		if (!strcmp(values->items[i].option->name, option))
			text = values->items[i].text;
	}
	return text;
}

/* @line's texts as they were typed, and the file's. */
static int take(struct vm_config *config, const struct option_values *line, struct error *err)
{
	const char *path = last_text(line, "config");
	int result = 0;

	if (path || last_text(line, "print-config"))
		result = options_given_create(path, line, &config->given, err);
	if (!result)
		result = apply(config, config->given ? &config->given->parsed : line, path, err);
	if (!result)
		result = settle(config, err);
	if (result)
		options_release(config);
	return result;
}

int options_parse_run(int argc, char **argv, struct vm_config *config, struct error *err)
{
	struct option_values line = {.items = calloc((size_t)argc, sizeof(*line.items))};
	int result;

	set_defaults(config);
	if (!line.items)
		return error_errno(err, ENOMEM, "options");
	result = collect(argc, argv, &line, err);
	if (result == OPTIONS_OK)
		result = take(config, &line, err);
	free(line.items);
	if (result == OPTIONS_OK && config->print_config)
		return OPTIONS_PRINT;
	return result;
}

int options_reread(const struct vm_config *running, struct vm_config *fresh, struct error *err)
{
	set_defaults(fresh);
	return take(fresh, &running->given->line, err);
}

int options_print(const struct vm_config *config, char **text, struct error *err)
{
	return config_file_format(&config->given->merged, text, err);
}

void options_release(struct vm_config *config)
{
	options_given_destroy(config->given);
	config->given = NULL;
}
