#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *store_directory(void)
{
	const char *dir = getenv("EBB_TEST_DIR");

	return dir ? dir : "/var/tmp";
}

struct store_config store_test_config(void)
{
	return (struct store_config){.path = store_directory(), .encrypt = true};
}

struct store *store_make(const struct store_config *config)
{
	struct store *store = NULL;
	struct error err = {""};

	if (store_create(config, &store, &err))
		fail_msg("%s", err.text);
	return store;
}

int store_setup(void **state)
{
	struct store_config config = store_test_config();

	*state = store_make(&config);
	return 0;
}

int store_teardown(void **state)
{
	store_destroy(*state);
	return 0;
}

static uint64_t next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	uint64_t z = (*state ^ (*state >> 30)) * 0xbf58476d1ce4e5b9ull;

	return z ^ (z >> 27);
}

void store_page(uint8_t page[static PAGE], enum page_kind kind, uint32_t seed)
{
	uint64_t random = seed, words[PAGE / 8];

	for (size_t i = 0; i < PAGE / 8; i++) {
		switch (kind) {
		case PAGE_TEXT:
			words[i] = i % 4 ? 0x2073657470657261ull : next_random(&random) & 0xffff;
			break;
		case PAGE_RANDOM:
			words[i] = next_random(&random);
			break;
		case PAGE_FILLED:
			words[i] = seed;
			break;
		default:
			words[i] = 0x8123456789000001ull + ((uint64_t)seed << 16);
		}
	}
	memcpy(page, words, PAGE);
}

static int seal_and_wait(struct store_writer *writer)
{
	unsigned parcel;

	return store_seal(writer, &parcel) ? store_wait(writer, parcel) : 0;
}

int store_try_put(struct store *store, enum page_kind kind, uint32_t seed, size_t count,
		  store_location locations[])
{
	struct store_writer *writer;
	uint8_t page[PAGE];
	int result = store_writer_create(store, &writer), waited;
	size_t done = 0;

	while (!result && done < count) {
		store_page(page, kind, seed + (uint32_t)done);
		result = store_append(writer, page, &locations[done]);
		if (!result)
			done++;
		else if (result == -ENOBUFS)
			result = seal_and_wait(writer);
	}
	for (size_t i = done; i < count; i++)
		locations[i] = STORE_LOCATION_MAX;
	waited = seal_and_wait(writer);
	store_writer_destroy(writer);
	return result ? result : waited;
}

void store_put(struct store *store, enum page_kind kind, uint32_t seed, size_t count,
	       store_location locations[])
{
	assert_int_equal(store_try_put(store, kind, seed, count, locations), 0);
}

store_location store_put_one(struct store *store, enum page_kind kind, uint32_t seed)
{
	store_location location;

	store_put(store, kind, seed, 1, &location);
	return location;
}

void store_drop_all(struct store *store, const store_location locations[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (locations[i] != STORE_LOCATION_MAX)
			store_drop(store, locations[i]);
}

void store_reclaim_all(struct store *store)
{
	while (store_reclaim(store))
		;
}

int store_read_one(struct store *store, store_location location, uint8_t page[static PAGE])
{
	struct store_reader *reader;
	void *pages[] = {page};
	int result = store_reader_create(store, &reader);

	if (!result) {
		result = store_read(reader, &location, 1, pages);
		store_reader_destroy(reader);
	}
	return result;
}

void store_expect(struct store *store, store_location location, enum page_kind kind, uint32_t seed)
{
	uint8_t page[PAGE], expected[PAGE];

	store_page(expected, kind, seed);
	memset(page, 0x5a, PAGE);
	assert_int_equal(store_read_one(store, location, page), 0);
	assert_memory_equal(page, expected, PAGE);
}

struct store_usage store_usage(struct store *store)
{
	struct store_usage usage;

	store_get_usage(store, &usage);
	return usage;
}

int store_find_file(void)
{
	char path[64], target[256];
	struct stat info;

	for (int fd = 3; fd < 64; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0 || fstat(fd, &info) || !S_ISREG(info.st_mode))
			continue;
		target[length] = 0;
		if (strstr(target, "(deleted)") && target[0] == '/' && info.st_nlink == 0 &&
		    !strstr(target, "/memfd:"))
			return fd;
	}
	return -1;
}

int store_open_file(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", store_find_file());
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int filter_call(int number, int argument, uint32_t flags, int errnum)
{
	uint32_t at = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)argument);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, flags),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, flags, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

int store_run_without(int number, int argument, uint32_t flags, int errnum, int (*test)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(filter_call(number, argument, flags, errnum) ? 255 : test());
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return 254;
	return WEXITSTATUS(status) == 255 ? -1 : WEXITSTATUS(status);
}
