/* Sizes, error texts and log limits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/error.h"
#include "vmm/base/log.h"
#include "vmm/base/size.h"

#define DAY_NS (24 * 3600 * NS_PER_SEC)

static uint64_t now_ns = DAY_NS;

uint64_t __wrap_clock_monotonic_ns(void);

uint64_t __wrap_clock_monotonic_ns(void)
{
	return now_ns;
}

static void expect_size(const char *text, uint64_t expected)
{
	uint64_t bytes;

	assert_int_equal(size_parse(text, &bytes), 0);
	assert_int_equal(bytes, expected);
}

static void sizes_take_binary_suffixes(void **state)
{
	(void)state;

	expect_size("0", 0);
	expect_size("4096", 4096);
	expect_size("64K", 64 * KIB);
	expect_size("512m", 512 * MIB);
	expect_size("4G", 4 * GIB);
	expect_size("18446744073709551615", UINT64_MAX);
}

static void what_is_no_size_is_refused(void **state)
{
	static const char *const bad[] = {"", "G", "-1", "+1", " 1", "1 ", "1.5G", "0x10", "12MB"};
	uint64_t bytes = 99;
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(size_parse(bad[i], &bytes), -EINVAL);
	assert_int_equal(bytes, 99);
}

static void a_size_beyond_64_bits_is_out_of_range(void **state)
{
	uint64_t bytes;
	(void)state;

	assert_int_equal(size_parse("18446744073709551616", &bytes), -ERANGE);
	assert_int_equal(size_parse("16777216T", &bytes), -ERANGE);
}

static void sizes_are_printed_for_people(void **state)
{
	char text[16];
	(void)state;

	assert_string_equal(size_format(0, text, sizeof(text)), "0 B");
	assert_string_equal(size_format(1536, text, sizeof(text)), "1.5 KiB");
	assert_string_equal(size_format(512 * MIB, text, sizeof(text)), "512 MiB");
	assert_string_equal(size_format(UINT64_MAX, text, sizeof(text)), "16777216 TiB");
}

static void an_error_says_what_failed_and_why(void **state)
{
	struct error err;
	(void)state;

	assert_int_equal(error_errno(&err, ENOENT, "%s: open", "/x"), -ENOENT);
	assert_string_equal(err.text, "/x: open: No such file or directory");
	assert_int_equal(error_say(&err, EINVAL, "wrong"), -EINVAL);
	assert_string_equal(err.text, "wrong");
}

static void an_error_without_a_place_for_words_is_the_code_alone(void **state)
{
	(void)state;

	assert_int_equal(error_errno(NULL, EIO, "unused"), -EIO);
	assert_int_equal(error_say(NULL, EPERM, "unused"), -EPERM);
}

static void an_endless_error_text_is_cut(void **state)
{
	struct error err;
	char name[2000];
	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;

	error_errno(&err, ENOENT, "%s", name);

	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void a_burst_of_messages_is_limited(void **state)
{
	struct log_ratelimit limit = {0};
	int passed = 0;
	(void)state;

	for (int i = 0; i < 1000; i++)
		passed += log_ratelimit_pass(&limit);

	assert_int_equal(passed, LOG_RATELIMIT_BURST);
}

static void a_day_of_messages_is_limited(void **state)
{
	struct log_ratelimit limit = {0};
	uint64_t end = now_ns + DAY_NS;
	unsigned passed = 0;
	(void)state;

	for (; now_ns < end; now_ns += NS_PER_SEC)
		passed += log_ratelimit_pass(&limit);

	assert_in_range(passed, 24 * 60, 24 * 60 + LOG_RATELIMIT_BURST);
}

static void a_quiet_while_lets_a_burst_pass_again(void **state)
{
	struct log_ratelimit limit = {0};
	unsigned passed = 0;
	(void)state;

	while (log_ratelimit_pass(&limit))
		;
	now_ns += DAY_NS;
	while (log_ratelimit_pass(&limit))
		passed++;

	assert_int_equal(passed, LOG_RATELIMIT_BURST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_take_binary_suffixes),
		cmocka_unit_test(what_is_no_size_is_refused),
		cmocka_unit_test(a_size_beyond_64_bits_is_out_of_range),
		cmocka_unit_test(sizes_are_printed_for_people),
		cmocka_unit_test(an_error_says_what_failed_and_why),
		cmocka_unit_test(an_error_without_a_place_for_words_is_the_code_alone),
		cmocka_unit_test(an_endless_error_text_is_cut),
		cmocka_unit_test(a_burst_of_messages_is_limited),
		cmocka_unit_test(a_day_of_messages_is_limited),
		cmocka_unit_test(a_quiet_while_lets_a_burst_pass_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
