/* The page of `ebb report`: whatever the data holds, it stays data. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/client/report.h"

#define DATA_BEGIN "id=\"data\">"

static char *page;

static int teardown(void **state)
{
	(void)state;
	free(page);
	page = NULL;
	return 0;
}

/* The page with @name in its data. */
static void write_page(const char *name)
{
	json_t *data = json_pack("{s:{s:s}}", "status", "name", name);
	size_t length;
	FILE *out = open_memstream(&page, &length);

	assert_non_null(data);
	assert_int_equal(report_write(out, data), 0);
	fclose(out);
	json_decref(data);
}

/* What the browser takes for the data: up to the first end of a script element. */
static json_t *read_data(void)
{
	const char *begin = strstr(page, DATA_BEGIN);
	const char *end;

	assert_non_null(begin);
	begin += strlen(DATA_BEGIN);
	end = strstr(begin, "</");
	assert_non_null(end);
	assert_int_equal(strncmp(end, "</script>", 9), 0);
	assert_null(memmem(begin, (size_t)(end - begin), "<", 1));
	assert_null(memmem(begin, (size_t)(end - begin), "&", 1));
	return json_loadb(begin, (size_t)(end - begin), 0, NULL);
}

static void assert_survives(const char *name)
{
	json_t *data;

	write_page(name);
	data = read_data();
	assert_non_null(data);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(data, "status"), "name")), name);
	json_decref(data);
	teardown(NULL);
}

static void plain_data_comes_through(void **state)
{
	(void)state;
	assert_survives("web");
}

static void data_cannot_end_its_element(void **state)
{
	(void)state;
	assert_survives("</script><script>alert(1)</script>");
	assert_survives("</SCRIPT >");
	assert_survives("<!--<script>");
	assert_survives("]]>-->");
}

static void quotes_backslashes_and_line_ends_come_through(void **state)
{
	(void)state;
	assert_survives("a\"b\\c'd\n\r\t\x01&amp;");
	assert_survives("\xe2\x80\xa8\xe2\x80\xa9 \xf0\x9f\x90\xa2");
}

static void data_that_looks_like_the_mark_is_data(void **state)
{
	(void)state;
	assert_survives("@EBB_REPORT_DATA@");
}

static void the_page_fetches_nothing(void **state)
{
	static const char *const fetching[] = {"src=",   "href=",   "url(",      "@import",
					       "fetch(", "import(", "innerHTML", "document.write",
					       "eval(",  "<link"};

	(void)state;
	write_page("web");
	assert_non_null(strstr(page, "default-src 'none'"));
	for (size_t i = 0; i < sizeof(fetching) / sizeof(fetching[0]); i++)
		assert_null(strstr(page, fetching[i]));
}

static void a_full_disk_is_noticed(void **state)
{
	FILE *out = fopen("/dev/full", "w");
	json_t *data = json_object();

	(void)state;
	assert_non_null(out);
	assert_int_equal(report_write(out, data), -EIO);
	fclose(out);
	json_decref(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(plain_data_comes_through, teardown),
		cmocka_unit_test_teardown(data_cannot_end_its_element, teardown),
		cmocka_unit_test_teardown(quotes_backslashes_and_line_ends_come_through, teardown),
		cmocka_unit_test_teardown(data_that_looks_like_the_mark_is_data, teardown),
		cmocka_unit_test_teardown(the_page_fetches_nothing, teardown),
		cmocka_unit_test_teardown(a_full_disk_is_noticed, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
