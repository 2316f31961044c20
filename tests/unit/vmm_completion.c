/* What Tab adds on the console. */
#include "vmm/client/completion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *candidate(void *opaque, size_t index)
{
	static const char *const candidates[] = {"swap in", "swap out", "status", NULL};

	(void)opaque;
	return candidates[index];
}

static struct completion find(const char *line, size_t typed)
{
	return completion_find(line, typed, candidate, NULL);
}

static void what_all_matches_share_is_found(void **state)
{
	struct completion found = find("sw", 2);

	(void)state;
	assert_int_equal(found.matches, 2);
	assert_int_equal(found.shared, strlen("swap "));
}

static void a_single_match_is_found_whole(void **state)
{
	struct completion found = find("st", 2);

	(void)state;
	assert_int_equal(found.matches, 1);
	assert_string_equal(found.first, "status");
	assert_int_equal(found.shared, strlen("status"));
}

static void only_what_stands_before_the_cursor_counts(void **state)
{
	(void)state;
	assert_int_equal(find("swxyz", 2).matches, 2);
}

static void nothing_matches_a_strange_line(void **state)
{
	(void)state;
	assert_int_equal(find("q", 1).matches, 0);
	assert_null(find("q", 1).first);
}

/* Else what is "shared" would be shorter than what is typed. */
static void nothing_matches_a_line_with_a_nul(void **state)
{
	(void)state;
	assert_int_equal(find("status\0xyz", 10).matches, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_all_matches_share_is_found),
		cmocka_unit_test(a_single_match_is_found_whole),
		cmocka_unit_test(only_what_stands_before_the_cursor_counts),
		cmocka_unit_test(nothing_matches_a_strange_line),
		cmocka_unit_test(nothing_matches_a_line_with_a_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
