/* Sealed records: what is found out, and where the key is. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "swap/cipher.h"
#include "swap/secret.h"

#define SIZE 512u

struct pair {
	struct cipher_key *key;
	struct cipher *seal, *open;
};

static struct pair make(bool encrypt)
{
	struct pair pair;

	assert_int_equal(cipher_key_create(encrypt, &pair.key), 0);
	assert_int_equal(cipher_create(pair.key, true, &pair.seal), 0);
	assert_int_equal(cipher_create(pair.key, false, &pair.open), 0);
	return pair;
}

static void unmake(struct pair pair)
{
	cipher_destroy(pair.seal);
	cipher_destroy(pair.open);
	cipher_key_destroy(pair.key);
}

static void fill(uint8_t bytes[static SIZE])
{
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)(i * 7);
}

static void what_was_sealed_opens(void **state)
{
	struct cipher_nonce nonce = {77, 4096};
	uint8_t plain[SIZE], sealed[SIZE], scratch[SIZE], tag[CIPHER_TAG];
	const void *opened;
	(void)state;

	for (int encrypt = 0; encrypt <= 1; encrypt++) {
		struct pair pair = make(encrypt);

		fill(plain);
		assert_int_equal(cipher_seal(pair.seal, nonce, plain, SIZE, sealed, tag), 0);
		opened = cipher_open(pair.open, nonce, sealed, SIZE, tag, scratch);
		assert_non_null(opened);
		assert_memory_equal(opened, plain, SIZE);
		assert_int_equal(memcmp(sealed, plain, SIZE) != 0, encrypt);
		/* In place. */
		assert_int_equal(cipher_seal(pair.seal, nonce, plain, SIZE, plain, tag), 0);
		assert_memory_equal(plain, sealed, SIZE);
		unmake(pair);
	}
}

static void every_change_is_found(void **state)
{
	struct cipher_nonce nonce = {1, 16}, later = {2, 16}, behind = {1, 32};
	uint8_t plain[SIZE], sealed[SIZE], scratch[SIZE], tag[CIPHER_TAG];
	(void)state;

	for (int encrypt = 0; encrypt <= 1; encrypt++) {
		struct pair pair = make(encrypt), other = make(encrypt);

		fill(plain);
		assert_int_equal(cipher_seal(pair.seal, nonce, plain, SIZE, sealed, tag), 0);
		for (size_t i = 0; i < SIZE; i++) {
			sealed[i] ^= 1;
			assert_null(cipher_open(pair.open, nonce, sealed, SIZE, tag, scratch));
			sealed[i] ^= 1;
		}
		for (size_t i = 0; i < CIPHER_TAG; i++) {
			tag[i] ^= 0x80;
			assert_null(cipher_open(pair.open, nonce, sealed, SIZE, tag, scratch));
			tag[i] ^= 0x80;
		}
		assert_null(cipher_open(pair.open, later, sealed, SIZE, tag, scratch));
		assert_null(cipher_open(pair.open, behind, sealed, SIZE, tag, scratch));
		assert_null(cipher_open(pair.open, nonce, sealed, SIZE - 16, tag, scratch));
		assert_null(cipher_open(other.open, nonce, sealed, SIZE, tag, scratch));
		assert_non_null(cipher_open(pair.open, nonce, sealed, SIZE, tag, scratch));
		unmake(pair);
		unmake(other);
	}
}

/* The mapping that @address lies in: its range, and what smaps says of it. False: none. */
static bool find_mapping(const void *address, uint8_t **start, uint8_t **end, char flags[512])
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512];
	bool found = false, inside = false;

	assert_non_null(smaps);
	while (!found && fgets(line, sizeof(line), smaps)) {
		void *from, *to;

		if (sscanf(line, "%p-%p ", &from, &to) == 2) {
			inside = (const char *)address >= (char *)from &&
				 (const char *)address < (char *)to;
			*start = from;
			*end = to;
		} else if (inside && !strncmp(line, "VmFlags:", 8)) {
			strcpy(flags, line + 8);
			found = true;
		}
	}
	fclose(smaps);
	return found;
}

static void keys_are_in_memory_that_is_not_written_anywhere(void **state)
{
	struct pair pair = make(true);
	void *secret = secret_alloc(32);
	uint8_t *start, *end;
	char flags[512];
	(void)state;

	assert_non_null(secret);
	assert_true(find_mapping(secret, &start, &end, flags));

	assert_non_null(strstr(flags, " dd"));
	assert_non_null(strstr(flags, " wf"));
	if (!strstr(flags, " lo"))
		print_message("not locked, see ulimit -l\n");
	secret_free(secret);
	unmake(pair);
}

static size_t count_in(const uint8_t *bytes, size_t size, const uint8_t *key)
{
	const uint8_t *at = bytes, *end = bytes + size;
	size_t count = 0;

	while ((at = memmem(at, (size_t)(end - at), key, 32))) {
		count++;
		at++;
	}
	return count;
}

/* How often the key lies in writable memory outside of [@start, @end). */
static size_t count_elsewhere(const uint8_t *start, const uint8_t *end, const uint8_t *key)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	static uint8_t piece[1 << 20];
	char line[512], rights[8];
	size_t count = 0;
	void *from, *to;

	assert_non_null(maps);
	assert_true(memory >= 0);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%p-%p %7s", &from, &to, rights) != 3 || rights[1] != 'w' ||
		    from == start || (char *)to - (char *)from > 1 << 28)
			continue;
		assert_true((uint8_t *)to <= start || (uint8_t *)from >= end);
		for (char *at = from; at < (char *)to; at += sizeof(piece)) {
			size_t size = (size_t)((char *)to - at);
			ssize_t got =
				pread(memory, piece, size < sizeof(piece) ? size : sizeof(piece),
				      (off_t)(uintptr_t)at);

			if (got > 0)
				count += count_in(piece, (size_t)got, key);
		}
	}
	memset(piece, 0, sizeof(piece));
	close(memory);
	fclose(maps);
	return count;
}

static void the_key_and_what_is_made_of_it_are_nowhere_else(void **state)
{
	struct pair pair = make(true);
	uint8_t page[SIZE], sealed[SIZE], tag[CIPHER_TAG], *start, *end;
	const uint8_t *key;
	char flags[512];
	void *secret = secret_alloc(1);
	(void)state;
	fill(page);
	cipher_seal(pair.seal, (struct cipher_nonce){1, 0}, page, SIZE, sealed, tag);
	assert_true(find_mapping(secret, &start, &end, flags));

	/* The first thing that was put there is the key; the contexts begin with it, expanded. */
	key = start;
	assert_true(count_in(start, (size_t)(end - start), key) >= 2);
	assert_int_equal(count_elsewhere(start, end, key), 0);

	secret_free(secret);
	unmake(pair);
	for (const uint8_t *at = start; at < end; at++)
		assert_int_equal(*at, 0);
}

static void secret_memory_is_used_again(void **state)
{
	void *blocks[100];
	(void)state;
	assert_int_equal(secret_init(), 0);

	for (int round = 0; round < 1000; round++) {
		for (size_t i = 0; i < 100; i++) {
			blocks[i] = secret_alloc(100 * (i % 20 + 1));
			assert_non_null(blocks[i]);
			assert_true(secret_owns(blocks[i]));
			memset(blocks[i], 0xff, 100 * (i % 20 + 1));
		}
		for (size_t i = 0; i < 100; i++)
			secret_free(blocks[(i * 37) % 100]);
	}
	assert_null(secret_alloc(1 << 30));
	assert_false(secret_owns(blocks));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: nothing else has put keys there yet. */
		cmocka_unit_test(the_key_and_what_is_made_of_it_are_nowhere_else),
		cmocka_unit_test(keys_are_in_memory_that_is_not_written_anywhere),
		cmocka_unit_test(what_was_sealed_opens),
		cmocka_unit_test(every_change_is_found),
		cmocka_unit_test(secret_memory_is_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
