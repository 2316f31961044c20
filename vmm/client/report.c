#include "vmm/client/report.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/client/control_client.h"
#include "vmm/client/report_page.h"
#include "vmm/options/help.h"
#include "vmm/options/options.h"

#define DATA_MARK         "@EBB_REPORT_DATA@"
#define ANSWER_TIMEOUT_MS 10000

static const struct option long_options[] = {
	{"output", required_argument, NULL, 'o'},
	{"socket", required_argument, NULL, 's'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

struct report_options {
	const char *name;
	const char *socket;
	const char *output;
};

/*
 * In JSON these stand inside strings only, where an escape means the same. What is left can neither
 * end a script element nor begin a comment in it.
 */
static int write_escaped(FILE *out, const char *json)
{
	for (; *json; json++) {
		if (strchr("<>&'", *json))
			fprintf(out, "\\u%04x", (unsigned char)*json);
		else
			fputc(*json, out);
	}
	return ferror(out) ? -EIO : 0;
}

int report_write(FILE *out, const json_t *data)
{
	const char *page = (const char *)report_page;
	const char *mark = memmem(page, sizeof(report_page), DATA_MARK, strlen(DATA_MARK));
	char *json = json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t before = (size_t)(mark - page);
	size_t after = before + strlen(DATA_MARK);
	int result;

	if (!json)
		return -ENOMEM;
	fwrite(page, 1, before, out);
	result = write_escaped(out, json);
	fwrite(page + after, 1, sizeof(report_page) - after, out);
	free(json);
	return result || fflush(out) ? -EIO : 0;
}

/* One command's result as member @key of @data. */
static int fetch(struct control_client *client, const char *command, const char *key, json_t *data,
		 struct error *err)
{
	enum control_code code;
	json_t *result;
	int failure = control_client_call(client, command, NULL, 0, NULL, &code, &result, err);

	if (failure)
		return failure;
	if (code != CONTROL_OK)
		return -EPROTO;
	if (json_object_set_new(data, key, result))
		return error_errno(err, ENOMEM, "report");
	return 0;
}

static int collect(const struct report_options *options, json_t *data, struct error *err)
{
	struct control_client *client;
	int result = control_client_connect(options->name, options->socket, &client, err);

	if (result)
		return result;
	control_client_set_timeout(client, ANSWER_TIMEOUT_MS);
	result = fetch(client, "history", "history", data, err);
	if (!result)
		result = fetch(client, "status", "status", data, err);
	if (!result)
		result = fetch(client, "swap status", "swap", data, err);
	control_client_destroy(client);
	return result;
}

static int say_unwritten(const char *path, int result, struct error *err)
{
	return error_errno(err, -result, "%s: cannot be written", path);
}

static int write_to(int fd, const json_t *data)
{
	FILE *out = fdopen(fd, "w");
	int result = out ? report_write(out, data) : -errno;

	if (out ? fclose(out) : close(fd))
		result = -errno;
	return result;
}

/* A report that was there stays whole if this one cannot be written. */
static int replace_file(const char *path, const json_t *data, struct error *err)
{
	mode_t mask = umask(0);
	char *temporary;
	int fd, result;

	umask(mask);
	if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
		return error_errno(err, ENOMEM, "%s", path);
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		result = say_unwritten(path, -errno, err);
		goto free_name;
	}
	result = fchmod(fd, 0666 & ~mask) ? -errno : 0;
	if (!result)
		result = write_to(fd, data);
	else
		close(fd);
	if (!result && rename(temporary, path))
		result = -errno;
	if (result) {
		say_unwritten(path, result, err);
		unlink(temporary);
	}
free_name:
	free(temporary);
	return result;
}

static int write_file(const char *path, const json_t *data, struct error *err)
{
	struct stat info;
	int fd, result;

	if (lstat(path, &info) || S_ISREG(info.st_mode))
		return replace_file(path, data, err);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC); /* a pipe, a device, a link */
	result = fd < 0 ? -errno : write_to(fd, data);
	return result ? say_unwritten(path, result, err) : 0;
}

static int make(const struct report_options *options)
{
	json_t *data = json_object();
	struct error error;
	int result = data ? collect(options, data, &error) : error_errno(&error, ENOMEM, "report");

	if (!result && !strcmp(options->output, "-")) {
		result = report_write(stdout, data);
		if (result)
			error_errno(&error, -result, "standard output");
	} else if (!result) {
		result = write_file(options->output, data, &error);
	}
	json_decref(data);
	if (result)
		fprintf(stderr, "ebb report: %s\n", error.text);
	return result ? 1 : 0;
}

static int say_usage(const char *what)
{
	fprintf(stderr, "ebb report: %s; see `ebb help report`\n", what);
	return 2;
}

int report_main(int argc, char **argv)
{
	struct report_options options = {0};
	struct error error;
	int option;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "o:h", long_options, NULL)) != -1) {
		switch (option) {
		case 'o':
			options.output = optarg;
			break;
		case 's':
			options.socket = optarg;
			break;
		case 'h':
			help_print(stdout, "report");
			return 0;
		default:
			return say_usage("unknown option, or its argument is missing");
		}
	}
	if (optind + 1 != argc)
		return say_usage("give the name of one machine");
	options.name = argv[optind];
	if (options_check_name(options.name, &error)) {
		fprintf(stderr, "ebb report: %s\n", error.text);
		return 2;
	}
	if (!options.output || !options.output[0])
		return say_usage("the file to write is missing: -o FILE (- is standard output)");
	return make(&options);
}
