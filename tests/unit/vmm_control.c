/*
 * The control server as its clients see it: a real socket, the server's loop on a thread of its
 * own, a machine that only remembers.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "control_fixture.h"
#include "vmm/client/control_client.h"

static struct error error;

static void commands_are_answered_in_order(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd,
		  "{\"command\":\"pause\"}\n{\"command\":\"pause\"}\n{\"command\":\"resume\"}\n");
	assert_receives(fd, "{\"result\":{\"state\":\"paused\"}}");
	assert_receives(fd,
			"{\"error\":{\"code\":\"wrong_state\",\"message\":\"the machine is paused");
	assert_receives(fd, "{\"result\":{\"state\":\"running\"}}");
	close(fd);
}

static void malformed_lines_leave_the_connection_usable(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "hello\n");
	assert_receives(fd, "\"invalid_request\"");
	send_text(fd, "\n{\"command\":\"fly\"}\n");
	assert_receives(fd, "\"invalid_request\"");
	assert_receives(fd, "\"unknown_command\"");
	send_text(fd, "{\"command\":\"pause\",\"arguments\":[\"now\"]}\n");
	assert_receives(fd, "\"invalid_argument\"");
	send_text(fd, "{\"command\":\"status\"}\n");
	assert_receives(fd, "{\"result\":");
	close(fd);
}

static void oversized_request_ends_the_connection(void **state)
{
	static char junk[3 * CONTROL_REQUEST_MAX];
	int fd = connect_client();

	(void)state;
	memset(junk, 'x', sizeof(junk));
	send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
	assert_receives(fd, "too long");
	assert_string_equal(receive(fd), "");
	close(fd);
	assert_serves();
}

static void half_sent_request_is_awaited(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"comm");
	assert_serves();
	send_text(fd, "and\":\"status\"}");
	usleep(20000);
	send_text(fd, "\n");
	assert_receives(fd, "{\"result\":");
	close(fd);
}

static void half_sent_request_is_forgotten(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"quit\"}");
	close(fd);
	assert_serves();
	assert_int_equal(vm.quits, 0);
}

static void half_closed_client_is_answered(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap enable\"}\n");
	shutdown(fd, SHUT_WR);
	await(&fake.starts, 1);
	finish_operation(0);
	assert_receives(fd, "{\"result\":{\"operation\":\"enable\"");
	assert_string_equal(receive(fd), "");
	close(fd);
}

static void request_of_a_client_that_left_is_carried_out(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"reset\"}\n");
	close(fd);
	await(&fake.resets, 1);
}

static void binary_junk_does_no_harm(void **state)
{
	(void)state;
	srand(7);
	for (int round = 0; round < 50; round++) {
		char junk[2000];
		int fd = connect_client();

		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (char)rand();
		send(fd, junk, (size_t)rand() % sizeof(junk), MSG_NOSIGNAL);
		close(fd);
	}
	assert_serves();
}

static void operation_tells_progress_and_result(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap out\"}\n");
	assert_receives(fd, "\"command\":\"swap out\",\"pages_done\":25,");
	assert_receives(fd, "{\"progress\":");
	fake.swap_state = SWAP_OUT;
	finish_operation(0);
	assert_receives(
		fd,
		"{\"result\":{\"operation\":\"out\",\"command\":\"swap out\",\"running\":false,");
	send_text(fd, "{\"command\":\"status\"}\n");
	assert_receives(fd, "{\"result\":{\"name\"");
	close(fd);
}

static void end_of_an_operation_is_noticed_untold(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap in\"}\n");
	await(&fake.starts, 1);
	fake_machine_finish(0);
	assert_receives(fd, "{\"result\":{\"operation\":\"in\"");
	close(fd);
}

static void operation_in_the_wrong_state_is_refused(void **state)
{
	int fd = connect_client();

	(void)state;
	fake.refusal = -EINVAL;
	send_text(fd, "{\"command\":\"swap out\"}\n");
	assert_receives(fd, "\"wrong_state\",\"message\":\"swap is disabled");
	close(fd);
}

static void failed_operation_says_why(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap out\"}\n");
	await(&fake.starts, 1);
	finish_operation(-ENOSPC);
	assert_receives(fd, "\"no_space\",\"message\":\"the store is full\"");
	close(fd);
}

static void second_operation_is_refused(void **state)
{
	int first = connect_client();
	int second = connect_client();

	(void)state;
	send_text(first, "{\"command\":\"swap out\"}\n");
	await(&fake.starts, 1);
	send_text(second, "{\"command\":\"swap in\"}\n");
	assert_receives(second, "\"busy\",\"message\":\"`swap out` is running");
	assert_int_equal(fake.starts, 1);
	finish_operation(0);
	close(first);
	close(second);
}

static void operation_is_cancelled_from_another_connection(void **state)
{
	int first = connect_client();
	int second = connect_client();

	(void)state;
	send_text(first, "{\"command\":\"swap out\"}\n");
	await(&fake.starts, 1);
	send_text(second, "{\"command\":\"swap cancel\"}\n");
	assert_receives(second, "{\"result\":{\"operation\":\"out\",\"command\":\"swap out\"}}");
	finish_operation(0);
	assert_receives(first,
			"\"cancelled\",\"message\":\"swap out was cancelled after 25 of 100");
	close(first);
	close(second);
}

static void requests_behind_an_operation_wait(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap enable\"}\n{\"command\":\"swap out\"}\n");
	await(&fake.starts, 1);
	finish_operation(0);
	assert_receives(fd, "{\"result\":{\"operation\":\"enable\"");
	await(&fake.starts, 2);
	finish_operation(0);
	assert_receives(fd, "{\"result\":{\"operation\":\"out\"");
	close(fd);
}

static void operation_outlives_its_client(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap out\"}\n");
	await(&fake.starts, 1);
	close(fd);
	assert_serves();
	assert_int_equal(fake.operation, SWAP_OP_OUT);
	finish_operation(0);
	usleep(20000);
	fd = connect_client();
	send_text(fd, "{\"command\":\"swap in\"}\n");
	await(&fake.starts, 2);
	finish_operation(0);
	assert_receives(fd, "{\"result\":{\"operation\":\"in\"");
	close(fd);
}

static void client_that_does_not_read_is_dropped(void **state)
{
	static const char line[] = "{\"command\":\"help\"}\n";
	int fd = connect_client();
	uint64_t end = clock_monotonic_ns() + PATIENCE_MS * NS_PER_MS;
	ssize_t count = 0;

	(void)state;
	while (clock_monotonic_ns() < end) {
		count = send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (count < 0 && errno != EAGAIN)
			break;
		if (count < 0) {
			assert_serves(); /* meanwhile */
			usleep(10000);
		}
	}
	assert_true(count < 0 && (errno == EPIPE || errno == ECONNRESET));
	close(fd);
}

static void slow_reader_gets_everything(void **state)
{
	static char burst[64 * 20];
	int fd = connect_client();

	(void)state;
	for (int i = 0; i < 64; i++)
		strcat(burst, "{\"command\":\"help\"}\n");
	for (int i = 0; i < 10; i++)
		send_text(fd, burst);
	usleep(100000);
	for (int i = 0; i < 640; i++)
		assert_receives(fd, "{\"result\":{\"commands\":");
	close(fd);
}

static void ten_clients_at_once_are_served(void **state)
{
	int fds[10];

	(void)state;
	for (int i = 0; i < 10; i++)
		fds[i] = connect_client();
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 10; i++)
			send_text(fds[i], "{\"command\":\"status\"}\n");
		for (int i = 9; i >= 0; i--)
			assert_receives(fds[i], "{\"result\":");
	}
	for (int i = 0; i < 10; i++)
		close(fds[i]);
}

static void too_many_clients_are_told(void **state)
{
	int fds[CONTROL_CLIENTS_MAX + 1];

	(void)state;
	for (size_t i = 0; i <= CONTROL_CLIENTS_MAX; i++)
		fds[i] = connect_client();
	assert_receives(fds[CONTROL_CLIENTS_MAX], "\"busy\",\"message\":\"too many clients");
	close(fds[0]);
	usleep(50000);
	assert_serves();
	for (size_t i = 1; i <= CONTROL_CLIENTS_MAX; i++)
		close(fds[i]);
}

static void quit_is_answered_first(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"quit\"}\n");
	assert_receives(fd, "{\"result\":{\"state\":\"running\"}}");
	await(&vm.quits, 1);
	close(fd);
}

static void end_of_the_machine_is_told(void **state)
{
	int fd = connect_client();

	(void)state;
	send_text(fd, "{\"command\":\"swap out\"}\n");
	await(&fake.starts, 1);
	stop_server();
	assert_receives(fd, "\"quitting\"");
	assert_string_equal(receive(fd), "");
	close(fd);
}

static void client_understands_the_answers(void **state)
{
	const char *const size[] = {"16M"};
	struct control_client *client;
	enum control_code code;
	json_t *answer = NULL;

	(void)state;
	assert_int_equal(control_client_connect("web", NULL, &client, &error), 0);
	assert_int_equal(
		control_client_call(client, "balloon", size, 1, NULL, &code, &answer, &error), 0);
	assert_int_equal(code, CONTROL_OK);
	assert_int_equal(json_integer_value(json_object_get(answer, "guest_bytes")), 16 << 20);
	json_decref(answer);
	assert_int_equal(
		control_client_call(client, "resume", NULL, 0, NULL, &code, &answer, &error), 0);
	assert_int_equal(code, CONTROL_WRONG_STATE);
	assert_string_equal(error.text, "the machine is running");
	control_client_destroy(client);
}

static void client_notices_the_end(void **state)
{
	struct control_client *client;
	enum control_code code;
	json_t *answer = NULL;

	(void)state;
	assert_int_equal(control_client_connect("web", NULL, &client, &error), 0);
	stop_server();
	assert_int_equal(
		control_client_call(client, "status", NULL, 0, NULL, &code, &answer, &error),
		-ECONNRESET);
	control_client_destroy(client);
	assert_int_equal(control_client_connect("web", NULL, &client, &error), -ENOENT);
	assert_non_null(strstr(error.text, "no machine named \"web\""));
}

static void socket_is_for_its_user_alone(void **state)
{
	struct stat info;
	char path[96];

	(void)state;
	assert_int_equal(stat(control_socket_path(vm.socket), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	snprintf(path, sizeof(path), "%s/ebb", vm.directory);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0700);
}

static void name_in_use_is_refused(void **state)
{
	struct control_socket *socket;

	(void)state;
	assert_int_equal(control_socket_claim("web", NULL, &socket, &error), -EADDRINUSE);
	assert_non_null(strstr(error.text, "\"web\" runs already"));
	assert_serves();
}

/* Binds a socket at @path and forgets it, as a VM does that is killed. */
static void leave_stale_socket(const char *path, bool listening)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (listening)
		listen(fd, 1); /* and stays open */
	else
		close(fd);
}

static void stale_socket_is_replaced(void **state)
{
	struct control_socket *socket;
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/ebb/old.sock", vm.directory);
	leave_stale_socket(path, false);
	assert_int_equal(control_socket_claim("old", NULL, &socket, &error), 0);
	control_socket_release(socket);
	assert_int_equal(access(path, F_OK), -1);
}

static void live_socket_without_a_lock_is_not_replaced(void **state)
{
	struct control_socket *socket;
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/ebb/alien.sock", vm.directory);
	leave_stale_socket(path, true);
	assert_int_equal(control_socket_claim("alien", NULL, &socket, &error), -EADDRINUSE);
	unlink(path);
}

static void file_that_is_no_socket_is_kept(void **state)
{
	struct control_socket *socket;
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/ebb/precious", vm.directory);
	fclose(fopen(path, "w"));
	assert_int_equal(control_socket_claim("x", path, &socket, &error), -EEXIST);
	assert_int_equal(unlink(path), 0);
}

static void open_directory_is_refused(void **state)
{
	struct control_socket *socket;
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/ebb", vm.directory);
	chmod(path, 0755);
	assert_int_equal(control_socket_claim("x", NULL, &socket, &error), -EPERM);
	assert_non_null(strstr(error.text, "chmod 700"));
	chmod(path, 0700);
}

static void too_long_a_path_is_refused(void **state)
{
	struct control_socket *socket;
	char path[200];

	(void)state;
	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(control_socket_claim("x", path, &socket, &error), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONTROL_TEST(commands_are_answered_in_order),
		CONTROL_TEST(malformed_lines_leave_the_connection_usable),
		CONTROL_TEST(oversized_request_ends_the_connection),
		CONTROL_TEST(half_sent_request_is_awaited),
		CONTROL_TEST(half_sent_request_is_forgotten),
		CONTROL_TEST(half_closed_client_is_answered),
		CONTROL_TEST(request_of_a_client_that_left_is_carried_out),
		CONTROL_TEST(binary_junk_does_no_harm),
		CONTROL_TEST(operation_tells_progress_and_result),
		CONTROL_TEST(end_of_an_operation_is_noticed_untold),
		CONTROL_TEST(operation_in_the_wrong_state_is_refused),
		CONTROL_TEST(failed_operation_says_why),
		CONTROL_TEST(second_operation_is_refused),
		CONTROL_TEST(operation_is_cancelled_from_another_connection),
		CONTROL_TEST(requests_behind_an_operation_wait),
		CONTROL_TEST(operation_outlives_its_client),
		CONTROL_TEST(client_that_does_not_read_is_dropped),
		CONTROL_TEST(slow_reader_gets_everything),
		CONTROL_TEST(ten_clients_at_once_are_served),
		CONTROL_TEST(too_many_clients_are_told),
		CONTROL_TEST(quit_is_answered_first),
		CONTROL_TEST(end_of_the_machine_is_told),
		CONTROL_TEST(client_understands_the_answers),
		CONTROL_TEST(client_notices_the_end),
		CONTROL_TEST(socket_is_for_its_user_alone),
		CONTROL_TEST(name_in_use_is_refused),
		CONTROL_TEST(stale_socket_is_replaced),
		CONTROL_TEST(live_socket_without_a_lock_is_not_replaced),
		CONTROL_TEST(file_that_is_no_socket_is_kept),
		CONTROL_TEST(open_directory_is_refused),
		CONTROL_TEST(too_long_a_path_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
