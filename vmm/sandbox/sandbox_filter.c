#include "vmm/sandbox/sandbox_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/log.h"
#include "vmm/base/terminal.h"
#include "vmm/base/thread.h"
#include "vmm/sandbox/sandbox_filters.h"
#include "vmm/sandbox/sandbox_probe.h"

struct program {
	const struct sock_filter *code;
	size_t count;
};

/* Of one kind: without vsock, and with it. */
#define PROGRAMS(kind)                                                                             \
	{                                                                                          \
		{filter_##kind##_0, ARRAY_SIZE(filter_##kind##_0)},                                \
			{filter_##kind##_1, ARRAY_SIZE(filter_##kind##_1)},                        \
	}

static const struct {
	const char *name;
	struct program programs[2];
} table[SANDBOX_KINDS] = {
	[SANDBOX_MAIN] = {"main", PROGRAMS(0)},       [SANDBOX_VCPU] = {"vcpu", PROGRAMS(1)},
	[SANDBOX_IO] = {"io", PROGRAMS(2)},           [SANDBOX_MONITOR] = {"monitor", PROGRAMS(3)},
	[SANDBOX_WORKER] = {"worker", PROGRAMS(4)},   [SANDBOX_DISK] = {"disk", PROGRAMS(5)},
	[SANDBOX_NURSERY] = {"nursery", PROGRAMS(6)},
};

/* Which kind a thread is, by the beginning of its name. */
static const struct {
	const char *prefix;
	enum sandbox_kind kind;
} kinds[] = {
	{"vcpu ", SANDBOX_VCPU},      {"io", SANDBOX_IO},        {"ebb-monitor", SANDBOX_MONITOR},
	{"ebb-swap", SANDBOX_WORKER}, {"swap-io", SANDBOX_DISK}, {"block-io", SANDBOX_DISK},
	{"nursery", SANDBOX_NURSERY},
};

/* With the process's number filled in. Constant once the sandbox is closed. */
static struct sock_fprog programs[SANDBOX_KINDS];

/* A thread to be born. */
struct birth {
	pthread_t *thread;
	const char *name;
	void *(*run)(void *);
	void *arg;
	int result;
	bool done;
	struct birth *next;
};

/* Guards births, done of each, and the outcome in struct confined. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER;
static pthread_cond_t born = PTHREAD_COND_INITIALIZER;
static struct birth *births;

/* On the stack of who starts the thread, which is waited for until it is @done. */
struct confined {
	enum sandbox_kind kind;
	void *(*run)(void *);
	void *arg;
	int result; /* of the filter */
	bool done;
};

const char *sandbox_kind_name(enum sandbox_kind kind)
{
	return table[kind].name;
}

int sandbox_filter_probe(void)
{
	uint32_t action = SECCOMP_RET_TRAP;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) ? -errno : 0;
}

/* Says what was tried, and dies of it. */
static void on_violation(int number, siginfo_t *info, void *context)
{
	const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
	unsigned call = (unsigned)info->si_syscall;
	char thread[16] = "?";
	sigset_t own;

	pthread_getname_np(pthread_self(), thread, sizeof(thread));
	log_error("thread \"%s\" called system call %u (%s) with %#llx, %#llx, %#llx, which the "
		  "sandbox forbids: this is a bug of ebb or an attack; ending",
		  thread, call,
		  call < ARRAY_SIZE(call_names) && call_names[call] ? call_names[call] : "unknown",
		  (unsigned long long)registers[REG_RDI], (unsigned long long)registers[REG_RSI],
		  (unsigned long long)registers[REG_RDX]);
	terminal_restore();
	signal(number, SIG_DFL);
	sigemptyset(&own);
	sigaddset(&own, number);
	pthread_sigmask(SIG_UNBLOCK, &own, NULL);
	raise(number);
	_exit(1);
}

static int take_violations(void)
{
	struct sigaction action = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO};

	sigfillset(&action.sa_mask);
	return sigaction(SIGSYS, &action, NULL) ? -errno : 0;
}

static int load_programs(bool vsock)
{
	for (int kind = 0; kind < SANDBOX_KINDS; kind++) {
		const struct program *program = &table[kind].programs[vsock];
		struct sock_filter *code = malloc(program->count * sizeof(*code));

		if (!code)
			return -ENOMEM;
		memcpy(code, program->code, program->count * sizeof(*code));
		for (size_t i = 0; i < program->count; i++)
			if (code[i].k == SANDBOX_OWN_PID)
				code[i].k = (uint32_t)getpid();
		programs[kind] = (struct sock_fprog){(unsigned short)program->count, code};
	}
	return 0;
}

static int confine(enum sandbox_kind kind)
{
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[kind]) ? -errno : 0;
}

static void *run_confined(void *opaque)
{
	struct confined *starter = opaque;
	const struct confined own = *starter;
	int result = confine(own.kind);

	pthread_mutex_lock(&lock);
	starter->result = result;
	starter->done = true;
	pthread_cond_broadcast(&born);
	pthread_mutex_unlock(&lock);
	/* To go on without would be to pretend. */
	if (result)
		return NULL;
	sandbox_probe(own.kind);
	return own.run(own.arg);
}

/* A thread that cannot be confined is none. */
static int await_confined(pthread_t thread, const char *name, struct confined *confined)
{
	pthread_mutex_lock(&lock);
	while (!confined->done)
		pthread_cond_wait(&born, &lock);
	pthread_mutex_unlock(&lock);
	if (!confined->result)
		return 0;
	pthread_join(thread, NULL);
	log_error("thread \"%s\" cannot be sandboxed and is not started: seccomp: %s", name,
		  strerrordesc_np(-confined->result));
	return confined->result;
}

static int start_confined(const struct birth *birth)
{
	struct confined confined = {.run = birth->run, .arg = birth->arg};
	size_t i = 0;
	int result;

	while (i < ARRAY_SIZE(kinds) &&
	       strncmp(birth->name, kinds[i].prefix, strlen(kinds[i].prefix)) != 0)
		i++;
	if (i == ARRAY_SIZE(kinds)) {
		log_error("the sandbox knows no thread \"%s\"", birth->name);
		return -EPERM;
	}
	confined.kind = kinds[i].kind;
	result = thread_create(birth->thread, birth->name, run_confined, &confined);
	return result ? result : await_confined(*birth->thread, birth->name, &confined);
}

static void *run_nursery(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	for (;;) {
		struct birth *birth = births;

		if (!birth) {
			pthread_cond_wait(&wanted, &lock);
			continue;
		}
		births = birth->next;
		pthread_mutex_unlock(&lock);
		birth->result = start_confined(birth);
		pthread_mutex_lock(&lock);
		birth->done = true;
		pthread_cond_broadcast(&born);
	}
	return NULL;
}

/* thread_start() from now on: whoever calls it, the nursery does it. */
static int start_in_nursery(pthread_t *thread, const char *name, void *(*run)(void *), void *arg)
{
	struct birth birth = {.thread = thread, .name = name, .run = run, .arg = arg};

	pthread_mutex_lock(&lock);
	birth.next = births;
	births = &birth;
	pthread_cond_signal(&wanted);
	while (!birth.done)
		pthread_cond_wait(&born, &lock);
	pthread_mutex_unlock(&lock);
	return birth.result;
}

int sandbox_filter_close(bool vsock, struct error *err)
{
	const struct birth nursery_birth = {
		.thread = &(pthread_t){0},
		.name = "nursery",
		.run = run_nursery,
	};
	int result = load_programs(vsock);

	if (!result)
		result = take_violations();
	if (!result)
		result = start_confined(&nursery_birth);
	if (result)
		return error_errno(err, -result, "sandbox: starting the nursery");
	thread_start_by(start_in_nursery);
	result = confine(SANDBOX_MAIN);
	if (result)
		return error_errno(err, -result, "sandbox: seccomp");
	sandbox_probe(SANDBOX_MAIN);
	return 0;
}
