/* Clients of the control server that follow events. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "control_fixture.h"

static int follow(const char *request)
{
	int fd = connect_client();

	send_text(fd, request);
	assert_receives(fd, "{\"event\":{\"type\":\"subscribed\",");
	return fd;
}

static void follower_hears_of_what_happens(void **state)
{
	int follower = follow("{\"command\":\"events\"}\n");
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"pause\"}\n{\"command\":\"swap enable\"}\n");
	await(&fake.starts, 1);
	finish_operation(0);
	assert_receives(follower, "\"state\":\"paused\",\"was\":\"running\"");
	assert_receives(follower, "\"type\":\"swap_started\"");
	assert_receives(follower, "\"type\":\"swap_ended\"");
	close(follower);
	close(fd);
	assert_serves();
}

static void follower_may_ask_for_what_was_before(void **state)
{
	int fd;

	(void)state;
	eventfd_write(vm.emit_fd, 3);
	assert_serves();
	fd = follow("{\"command\":\"events\",\"arguments\":[\"1\"]}\n");
	assert_receives(fd, "\"sequence\":2,");
	assert_receives(fd, "\"sequence\":3,");
	close(fd);
}

static void follower_of_the_future_is_refused(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"events\",\"arguments\":[\"99\"]}\n");
	assert_receives(fd, "\"invalid_argument\"");
	send_text(fd, "{\"command\":\"events\",\"arguments\":[\"-1\"]}\n");
	assert_receives(fd, "\"invalid_argument\"");
	send_text(fd, "{\"command\":\"status\"}\n");
	assert_receives(fd, "{\"result\":");
	close(fd);
}

static void follower_that_does_not_read_loses_events_and_stays(void **state)
{
	int fd = follow("{\"command\":\"events\"}\n");
	bool lost = false;

	(void)state;
	for (int i = 0; i < 200; i++) {
		eventfd_write(vm.emit_fd, 100);
		usleep(1000);
	}
	usleep(2 * STALL_NS / 1000);
	assert_serves();
	for (;;) {
		const char *line = receive(fd);

		assert_string_not_equal(line, "");
		lost = lost || strstr(line, "\"type\":\"lost\"");
		if (strstr(line, "\"sequence\":20000,"))
			break;
	}
	assert_true(lost);
	close(fd);
}

static void half_closed_follower_is_served_on(void **state)
{
	int fd = follow("{\"command\":\"events\"}\n");

	(void)state;
	shutdown(fd, SHUT_WR);
	assert_serves();
	eventfd_write(vm.emit_fd, 1);
	assert_receives(fd, "\"type\":\"test\"");
	close(fd);
}

static void follower_makes_room_when_it_leaves(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3 * CONTROL_CLIENTS_MAX; i++) {
		close(follow("{\"command\":\"events\"}\n"));
		assert_serves();
	}
}

static void follower_gets_no_answers_to_requests(void **state)
{
	int fd = follow("{\"command\":\"events\"}\n{\"command\":\"reset\"}\n");

	(void)state;
	assert_serves();
	assert_int_equal(fake.resets, 0);
	close(fd);
}

static void follower_gets_the_last_events_before_the_end(void **state)
{
	int fd = follow("{\"command\":\"events\"}\n");

	(void)state;
	eventfd_write(vm.emit_fd, 1);
	assert_serves();
	stop_server();
	assert_receives(fd, "\"type\":\"test\"");
	assert_string_equal(receive(fd), "");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONTROL_TEST(follower_hears_of_what_happens),
		CONTROL_TEST(follower_may_ask_for_what_was_before),
		CONTROL_TEST(follower_of_the_future_is_refused),
		CONTROL_TEST(follower_that_does_not_read_loses_events_and_stays),
		CONTROL_TEST(half_closed_follower_is_served_on),
		CONTROL_TEST(follower_makes_room_when_it_leaves),
		CONTROL_TEST(follower_gets_no_answers_to_requests),
		CONTROL_TEST(follower_gets_the_last_events_before_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
