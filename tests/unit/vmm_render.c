/* Answers as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/client/render.h"

static char *text;
static size_t text_length;

static FILE *open_text(void)
{
	FILE *out = open_memstream(&text, &text_length);

	assert_non_null(out);
	return out;
}

/* The text of @command's result @json. */
static void render(const char *command, const char *json)
{
	json_t *result = json_loads(json, 0, NULL);
	FILE *out = open_text();

	assert_non_null(result);
	render_result(out, command, result);
	fclose(out);
	json_decref(result);
}

static int free_text(void **state)
{
	(void)state;
	free(text);
	text = NULL;
	return 0;
}

static void assert_says(const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void status_is_an_aligned_table(void **state)
{
	(void)state;
	render("status",
	       "{\"name\":\"web\",\"pid\":42,\"state\":\"paused\",\"reason\":\"no store\","
	       "\"vcpus\":2,\"memory_bytes\":536870912,\"memory_allocated_bytes\":12288,"
	       "\"uptime_ns\":125000000000,\"balloon\":null,\"swap\":{\"available\":true,"
	       "\"state\":\"out\",\"operation\":\"in\",\"store_disk_bytes\":4096}}");
	assert_says("  name                 web\n");
	assert_says("  state                paused: no store\n");
	assert_says("  memory               512 MiB\n");
	assert_says("  memory on host       12.0 KiB\n");
	assert_says("  uptime               2 min\n");
	assert_says("  swap                 out (in is running)\n");
}

static void status_shows_network_cards(void **state)
{
	(void)state;
	render("status",
	       "{\"nets\":[{\"backend\":\"tap\",\"mac\":\"02:00:00:00:00:01\",\"link_up\":true,"
	       "\"rx_frames\":12,\"rx_bytes\":4096,\"rx_dropped\":1,\"tx_frames\":3,\"tx_bytes\":99,"
	       "\"tx_dropped\":0},{\"backend\":\"user\",\"mac\":\"02:00:00:00:00:02\","
	       "\"link_up\":false}]}");
	assert_says("  net                  tap 02:00:00:00:00:01\n");
	assert_says("  net received         12 frames, 4.0 KiB, 1 dropped\n");
	assert_says("  net sent             3 frames, 99 B, 0 dropped\n");
	assert_says("  net                  user 02:00:00:00:00:02, link down\n");
}

static void missing_members_are_left_out(void **state)
{
	(void)state;
	render("status", "{}");
	assert_says("swap                 not available");
	free_text(NULL);
	render("swap status", "{}");
	assert_says("faults");
	free_text(NULL);
	render("help", "{}");
	assert_string_equal(text, "");
}

static void members_of_a_wrong_type_are_left_out(void **state)
{
	(void)state;
	render("status", "{\"name\":7,\"pid\":\"x\",\"vcpus\":-1,\"memory_bytes\":[],\"swap\":3}");
	assert_null(strstr(text, "vcpus"));
	assert_null(strstr(text, "memory"));
}

static void swap_status_shows_pages_as_bytes(void **state)
{
	(void)state;
	render("swap status",
	       "{\"available\":true,\"state\":\"out\",\"page_size_bytes\":4096,\"pages_total\":256,"
	       "\"pages_swapped\":128,\"counters\":{\"faults_copied\":5},\"operation\":null,"
	       "\"last\":{\"out\":{\"operation\":\"out\",\"pages_moved\":128,\"cancelled\":false,"
	       "\"message\":\"\",\"duration_ns\":5000000}}}");
	assert_says("total                       256     1.0 MiB\n");
	assert_says("swapped out                 128     512 KiB\n");
	assert_says("5.0 ms");
	assert_says("  done\n");
}

/* Every line of what was rendered fits a terminal. */
static void assert_fits(void)
{
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
		if (strcspn(line, "\n") > 80)
			fail_msg("too wide: %.*s", (int)strcspn(line, "\n"), line);
		if (!line[strcspn(line, "\n")])
			break;
	}
}

#define GREAT "4294967295"
#define KIND                                                                                       \
	"{\"count\":" GREAT ",\"p50_ns\":4200,\"p90_ns\":123456,\"p99_ns\":1234567,"               \
	"\"p999_ns\":9999999999,\"max_ns\":7199999999999}"
#define REPORT                                                                                     \
	"{\"operation\":\"x\",\"pages_moved\":4294967295,\"duration_ns\":119999999999,"            \
	"\"rate_bytes_per_s\":1098437885952,\"written_bytes\":1098437885952,"                      \
	"\"written_per_freed\":0.4149,\"cancelled\":false,\"message\":"                            \
	"\"swap out: stopped early, the rest stays staged in RAM (make room in /var/tmp and try "  \
	"again): writing to the swap store: No space left on device\"}"

static const char full_swap_status[] =
	"{\"available\":true,\"state\":\"out\",\"page_size_bytes\":4096,\"pages_total\":" GREAT
	",\"pages_swapped\":" GREAT ",\"working_set_pages\":77,\"tables_bytes\":1048576,"
	"\"tables_bytes_per_page\":12.5,\"compression_ratio\":2.311,\"store_live_bytes\":2048,"
	"\"store_disk_bytes\":4096,\"store\":{\"path\":\"/var/swap\",\"pool_limit_bytes\":8388608,"
	"\"pool_bytes\":4194304,\"limit_bytes\":1073741824,\"compression\":\"zstd\",\"level\":3,"
	"\"encryption\":true,\"uring\":true,\"direct\":true,\"written_bytes\":1,\"read_bytes\":2,"
	"\"ram_bytes\":3,\"evicted_bytes\":5},\"latency\":{\"zero\":" KIND ",\"staged\":" KIND
	",\"pool\":" KIND ",\"file\":" KIND "},\"counters\":{\"trimmed_clean\":" GREAT
	"},\"operation\":" REPORT ",\"last\":{\"enable\":" REPORT ",\"out\":" REPORT
	",\"working_set\":" REPORT ",\"checksum_memory\":" REPORT
	"},\"auto\":{\"policy\":\"idle=604800,pressure\",\"phase\":\"suspended\","
	"\"waits_for\":\"the guest to work, after a swap command of yours\","
	"\"remaining_ns\":5000000000}}";

static void full_swap_status_fits_a_terminal(void **state)
{
	(void)state;
	render("swap status", full_swap_status);
	assert_fits();
}

static void swap_status_shows_the_store(void **state)
{
	(void)state;
	render("swap status", full_swap_status);
	assert_says("  path               /var/swap\n");
	assert_says("  how                zstd:3, encrypted, io_uring, O_DIRECT\n");
	assert_says("  compression ratio  2.31\n");
	assert_says("  pool               4.0 MiB of 8.0 MiB\n");
	assert_says("  on disk            4.0 KiB of 1.0 GiB\n");
	assert_says("  tables             1.0 MiB, 12.5 bytes a guest page\n");
	assert_says("written per freed    0.41\n");
	assert_says("clean, skipped       4294967295    16.0 TiB\n");
	assert_says("working set                  77     308 KiB\n");
}

static void swap_status_shows_latencies(void **state)
{
	(void)state;
	render("swap status", full_swap_status);
	assert_says("p50       p90       p99     p99.9       max\n");
	assert_says("from the pool  4294967295    4.2 us    123 us    1.2 ms");
}

static void latencies_of_no_faults_are_not_zero(void **state)
{
	(void)state;
	render("swap status", "{\"latency\":{\"zero\":{\"count\":0,\"p50_ns\":0}}}");
	assert_says(
		"zero page               0         -         -         -         -         -\n");
}

static void failure_of_the_last_operation_is_told_below(void **state)
{
	(void)state;
	render("swap status", full_swap_status);
	assert_says("  failed\n      swap out: stopped early, the rest stays staged in RAM ");
}

static void automatic_swap_says_what_it_waits_for(void **state)
{
	(void)state;
	render("swap auto",
	       "{\"policy\":\"idle=60\",\"phase\":\"watching\",\"waits_for\":\"the guest to be idle "
	       "for 120 s\",\"remaining_ns\":5000000000,\"backoff\":2,\"cycles\":3,\"cpu_share\":0.5,"
	       "\"pressure\":{\"source\":\"psi\",\"percent\":1.5,\"level\":\"low\"},\"last\":"
	       "{\"operation\":\"out\",\"cause\":\"idle\",\"ago_ns\":70000000000,\"running\":false,"
	       "\"result\":0,\"message\":\"\"}}");
	assert_says("automatic            idle=60: watching\n");
	assert_says("the guest to be idle for 120 s\n");
	assert_says("  for another        5.0 s\n");
	assert_says("guest uses           50.0 % of a CPU\n");
	assert_says("pressure on host     low (psi 1.5 %)\n");
	assert_says("last step            out (idle), 70 s ago: done\n");
	assert_fits();
	free_text(NULL);
	render("swap auto", "{\"policy\":\"off\",\"phase\":\"off\",\"waits_for\":\"\"}");
	assert_says("automatic            off: off\n");
}

static void status_sums_the_store_up(void **state)
{
	(void)state;
	render("status",
	       "{\"swap\":{\"available\":true,\"state\":\"out\",\"store_disk_bytes\":4096,"
	       "\"pool_bytes\":8192,\"compression_ratio\":2.5,\"auto\":\"asleep\"}}");
	assert_says("swap auto            asleep\n");
	assert_says("swap compression     2.50\n");
	assert_says("swap pool            8.0 KiB\n");
	assert_says("swap on disk         4.0 KiB\n");
}

static void checksum_is_its_digest_alone(void **state)
{
	(void)state;
	render("checksum-memory", "{\"digest\":\"sha256:12ab\",\"pages_moved\":5}");
	assert_string_equal(text, "sha256:12ab\n");
}

static void dump_names_its_file(void **state)
{
	(void)state;
	render("dump-memory", "{\"file\":\"/tmp/d\",\"pages_moved\":256,\"page_size_bytes\":4096,"
			      "\"duration_ns\":1500000,\"state\":\"out\"}");
	assert_string_equal(text, "dump-memory: 256 pages (1.0 MiB) in 1.5 ms to /tmp/d\n");
}

static void prefetch_says_what_came_back(void **state)
{
	(void)state;
	render("resume --prefetch", "{\"state\":\"running\",\"prefetch\":null}");
	assert_string_equal(text, "running\n");
	free_text(NULL);
	render("resume --prefetch",
	       "{\"state\":\"running\",\"prefetch\":{\"pages_moved\":1,\"page_size_bytes\":4096,"
	       "\"duration_ns\":9000}}");
	assert_string_equal(text,
			    "working set: 1 page (4.0 KiB) in 9.0 us; the machine is running\n");
}

static void operation_is_one_line(void **state)
{
	(void)state;
	render("swap out", "{\"operation\":\"out\",\"pages_moved\":256,\"page_size_bytes\":4096,"
			   "\"duration_ns\":1500000,\"state\":\"out\"}");
	assert_string_equal(text, "swap out: 256 pages (1.0 MiB) in 1.5 ms; state: out\n");
}

static void progress_keeps_within_the_terminal(void **state)
{
	json_t *progress = json_pack("{s:s,s:i,s:i}", "operation", "out", "pages_done", 50,
				     "pages_total", 100);
	FILE *out;

	(void)state;
	for (unsigned columns = 20; columns < 200; columns += 20) {
		out = open_text();
		render_progress(out, progress, columns);
		fclose(out);
		assert_true(text_length <= columns + 1);
		assert_says("50 %");
		free_text(NULL);
	}
	json_decref(progress);
}

static void progress_shows_rate_and_time_left(void **state)
{
	json_t *progress =
		json_pack("{s:s,s:s,s:i,s:i,s:i,s:I}", "operation", "dump_memory", "command",
			  "dump-memory", "pages_done", 50, "pages_total", 100, "rate_bytes_per_s",
			  124780544, "eta_ns", (json_int_t)12500000000);
	FILE *out = open_text();

	(void)state;
	render_progress(out, progress, 80);
	fclose(out);
	assert_says("dump-memory     [");
	assert_says("119 MiB/s");
	assert_says("12 s left");
	json_decref(progress);
}

static void progress_without_an_estimate_shows_none(void **state)
{
	json_t *progress = json_pack("{s:s,s:i,s:i,s:n}", "operation", "out", "pages_done", 0,
				     "pages_total", 100, "eta_ns");
	FILE *out = open_text();

	(void)state;
	render_progress(out, progress, 80);
	fclose(out);
	assert_null(strstr(text, "left"));
	json_decref(progress);
}

static void progress_of_nothing_divides_by_nothing(void **state)
{
	json_t *progress = json_pack("{s:i,s:i}", "pages_done", 5, "pages_total", 0);
	FILE *out = open_text();

	(void)state;
	render_progress(out, progress, 80);
	fclose(out);
	assert_says("0 %");
	json_decref(progress);
}

static void list_has_a_line_per_machine(void **state)
{
	json_t *machines = json_loads(
		"[{\"name\":\"a\",\"pid\":1,\"state\":\"running\",\"memory_bytes\":1048576,"
		"\"memory_allocated_bytes\":4096,\"swap\":{\"available\":true,\"state\":\"staged\"}},"
		"{\"name\":\"b\",\"pid\":2,\"state\":\"unresponsive\"}]",
		0, NULL);
	FILE *out = open_text();

	(void)state;
	render_list(out, machines);
	fclose(out);
	json_decref(machines);
	assert_says("NAME");
	assert_says("running    1.0 MiB    4.0 KiB        0 B        0 B  staged\n");
	assert_says("unresponsive\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(status_is_an_aligned_table, free_text),
		cmocka_unit_test_teardown(status_shows_network_cards, free_text),
		cmocka_unit_test_teardown(missing_members_are_left_out, free_text),
		cmocka_unit_test_teardown(members_of_a_wrong_type_are_left_out, free_text),
		cmocka_unit_test_teardown(swap_status_shows_pages_as_bytes, free_text),
		cmocka_unit_test_teardown(full_swap_status_fits_a_terminal, free_text),
		cmocka_unit_test_teardown(swap_status_shows_the_store, free_text),
		cmocka_unit_test_teardown(swap_status_shows_latencies, free_text),
		cmocka_unit_test_teardown(latencies_of_no_faults_are_not_zero, free_text),
		cmocka_unit_test_teardown(failure_of_the_last_operation_is_told_below, free_text),
		cmocka_unit_test_teardown(automatic_swap_says_what_it_waits_for, free_text),
		cmocka_unit_test_teardown(status_sums_the_store_up, free_text),
		cmocka_unit_test_teardown(checksum_is_its_digest_alone, free_text),
		cmocka_unit_test_teardown(dump_names_its_file, free_text),
		cmocka_unit_test_teardown(prefetch_says_what_came_back, free_text),
		cmocka_unit_test_teardown(operation_is_one_line, free_text),
		cmocka_unit_test_teardown(progress_keeps_within_the_terminal, free_text),
		cmocka_unit_test_teardown(progress_shows_rate_and_time_left, free_text),
		cmocka_unit_test_teardown(progress_without_an_estimate_shows_none, free_text),
		cmocka_unit_test_teardown(progress_of_nothing_divides_by_nothing, free_text),
		cmocka_unit_test_teardown(list_has_a_line_per_machine, free_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
