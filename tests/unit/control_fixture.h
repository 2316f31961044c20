/*
 * A control server with a machine that only remembers, for tests: its loop runs on a thread of its
 * own, clients connect to its socket.
 */
#ifndef EBB_TESTS_CONTROL_FIXTURE_H
#define EBB_TESTS_CONTROL_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fake_machine.h"
#include "vmm/base/clock.h"
#include "vmm/control/control_server.h"
#include "vmm/control/control_socket.h"
#include "vmm/control/events.h"

#define PATIENCE_MS 5000
#define STALL_NS    (300 * NS_PER_MS)

struct control_vm {
	char directory[64];
	struct control_socket *socket;
	struct event_loop *loop;
	struct event_source *done_source;
	int done_fd;
	struct events *events;
	int emit_fd; /* as many events as are written to it */
	struct event_source *emit_source;
	struct control_server *server;
	pthread_t thread;
	atomic_int quits;
};

extern struct control_vm vm;

int control_setup(void **state);
int control_teardown(void **state); /* fails if a file was left behind */
void stop_server(void);             /* before the teardown does it */

/* The worker is done. */
void finish_operation(int result);

int connect_client(void);
void send_text(int fd, const char *text);

/* The next line, in a buffer that is used again; "" at the end of the connection. */
const char *receive(int fd);
void assert_receives(int fd, const char *part);

/* Another client is answered. */
void assert_serves(void);

/* Waits until @value has become @wanted. */
void await(atomic_int *value, int wanted);

#define CONTROL_TEST(name) cmocka_unit_test_setup_teardown(name, control_setup, control_teardown)

#endif
