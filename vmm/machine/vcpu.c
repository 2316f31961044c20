#include "vmm/machine/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm/base/clock.h"
#include "vmm/base/thread.h"
#include "vmm/machine/vcpu_exit.h"

/* Not a real-time signal: those are queued, and sending fails where the user's queue is full. */
#define KICK_SIGNAL SIGUSR1

enum vcpus_wish {
	VCPUS_HOLD,
	VCPUS_RUN,
	VCPUS_QUIT,
};

struct vcpu {
	struct vcpus *all;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started; /* the thread exists */
	bool has_run;
	bool runs; /* counted in all->running; guarded by all->lock */
};

struct vcpus {
	struct kvm *kvm;
	const struct vcpu_env *env;
	pthread_mutex_t lock;
	pthread_cond_t changed;        /* the wish, running, alive or abandoned */
	_Atomic(enum vcpus_wish) wish; /* written under lock */
	unsigned running;              /* threads that may be inside KVM_RUN or a device */
	unsigned alive;                /* threads that have not ended */
	bool abandoned;
	unsigned count;
	struct vcpu vcpus[];
};

/* Its delivery is all that counts: KVM_RUN returns with EINTR. */
static void on_kick(int signal)
{
	(void)signal;
}

static int install_kick_handler(void)
{
	struct sigaction action = {.sa_handler = on_kick};

	sigemptyset(&action.sa_mask);
	return sigaction(KICK_SIGNAL, &action, NULL) ? -errno : 0;
}

int vcpus_create(struct kvm *kvm, unsigned count, const struct vcpu_env *env, struct vcpus **out,
		 struct error *err)
{
	struct vcpus *vcpus = calloc(1, sizeof(*vcpus) + count * sizeof(vcpus->vcpus[0]));
	pthread_condattr_t monotonic;
	int result;

	if (!vcpus)
		return error_errno(err, ENOMEM, "create vCPUs");
	vcpus->kvm = kvm;
	vcpus->env = env;
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&vcpus->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	for (unsigned i = 0; i < count; i++) {
		struct vcpu *vcpu = &vcpus->vcpus[i];

		result = kvm_create_vcpu(kvm, i, &vcpu->fd, &vcpu->run, err);
		if (result)
			goto destroy_vcpus;
		vcpu->all = vcpus;
		vcpu->index = i;
		vcpus->count = i + 1;
	}
	result = install_kick_handler();
	if (result) {
		error_errno(err, -result, "create vCPUs: the handler of their signal");
		goto destroy_vcpus;
	}
	*out = vcpus;
	return 0;

destroy_vcpus:
	vcpus_destroy(vcpus);
	return result;
}

int vcpus_fd(const struct vcpus *vcpus, unsigned index)
{
	return vcpus->vcpus[index].fd;
}

static void kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->started)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

static void set_wish(struct vcpus *vcpus, enum vcpus_wish wish)
{
	pthread_mutex_lock(&vcpus->lock);
	if (atomic_load(&vcpus->wish) != VCPUS_QUIT)
		atomic_store(&vcpus->wish, wish);
	pthread_cond_broadcast(&vcpus->changed);
	if (wish != VCPUS_RUN)
		for (unsigned i = 0; i < vcpus->count; i++)
			kick(&vcpus->vcpus[i]);
	pthread_mutex_unlock(&vcpus->lock);
}

static void stop_running(struct vcpu *vcpu)
{
	if (!vcpu->runs)
		return;
	vcpu->runs = false;
	vcpu->all->running--;
	pthread_cond_broadcast(&vcpu->all->changed);
}

/* Sleeps while the wish is HOLD. True: run; false: end. */
static bool wait_for_release(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	enum vcpus_wish wish;

	pthread_mutex_lock(&all->lock);
	stop_running(vcpu);
	while ((wish = atomic_load(&all->wish)) == VCPUS_HOLD)
		pthread_cond_wait(&all->changed, &all->lock);
	if (wish == VCPUS_RUN) {
		vcpu->runs = true;
		all->running++;
	}
	pthread_mutex_unlock(&all->lock);
	return wish == VCPUS_RUN;
}

/* The guest's watchdogs must not count the time it was held. Fails if it uses no kvmclock: fine. */
static void tell_guest_it_was_held(struct vcpu *vcpu)
{
	if (vcpu->has_run)
		kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
}

static void note_first_run(struct vcpu *vcpu)
{
	if (vcpu->has_run)
		return;
	vcpu->has_run = true;
	if (vcpu->index == 0)
		vcpu->all->env->first_run(vcpu->all->env->opaque);
}

/* 0, or -errno: EINTR is how a kick ends it, so it must be seen. */
static int enter_guest(struct vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, NULL) < 0 ? -errno : 0;
}

/* False when the thread shall end. */
static bool run_once(struct vcpu *vcpu)
{
	const struct vcpu_env *env = vcpu->all->env;
	int result;

	/* In this order: see the top of vcpu.h. */
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (atomic_load(&vcpu->all->wish) != VCPUS_RUN || !vcpu->runs) {
		if (!wait_for_release(vcpu))
			return false;
		tell_guest_it_was_held(vcpu);
		return true;
	}
	note_first_run(vcpu);
	result = enter_guest(vcpu);
	if (!result)
		vcpu_handle_exit(env, vcpu->index, vcpu->fd, vcpu->run);
	else if (result != -EINTR && result != -EAGAIN)
		vcpu_handle_error(env, vcpu->index, vcpu->fd, -result);
	return true;
}

static void *vcpu_thread(void *opaque)
{
	struct vcpu *vcpu = opaque;
	struct vcpus *all = vcpu->all;
	sigset_t kicks;

	sigemptyset(&kicks);
	sigaddset(&kicks, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kicks, NULL);
	while (run_once(vcpu))
		;
	pthread_mutex_lock(&all->lock);
	all->alive--;
	pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

static int start_thread(struct vcpu *vcpu, struct error *err)
{
	struct vcpus *all = vcpu->all;
	char name[16];
	int result;

	snprintf(name, sizeof(name), "vcpu %u", vcpu->index);
	pthread_mutex_lock(&all->lock);
	result = thread_start(&vcpu->thread, name, vcpu_thread, vcpu);
	if (!result) {
		vcpu->started = true;
		all->alive++;
	}
	pthread_mutex_unlock(&all->lock);
	if (result)
		return error_errno(err, -result,
				   "start the thread of vCPU %u (limits: `ulimit -u`)",
				   vcpu->index);
	return 0;
}

int vcpus_start(struct vcpus *vcpus, struct error *err)
{
	for (unsigned i = 0; i < vcpus->count; i++) {
		int result = start_thread(&vcpus->vcpus[i], err);

		if (result)
			return result;
	}
	return 0;
}

void vcpus_release(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->abandoned = false;
	pthread_mutex_unlock(&vcpus->lock);
	set_wish(vcpus, VCPUS_RUN);
}

void vcpus_hold(struct vcpus *vcpus)
{
	set_wish(vcpus, VCPUS_HOLD);
}

static struct timespec patience_end(void)
{
	uint64_t end = clock_monotonic_ns() + VCPUS_PATIENCE_NS;

	return (struct timespec){
		.tv_sec = (time_t)(end / NS_PER_SEC),
		.tv_nsec = (long)(end % NS_PER_SEC),
	};
}

/* Sleeps until *@count is 0; if the vCPUs are abandoned, for a last moment only. */
static bool wait_for_none(struct vcpus *vcpus, const unsigned *count)
{
	struct timespec end = {0};
	int result = 0;
	bool held;

	pthread_mutex_lock(&vcpus->lock);
	while (*count && result != ETIMEDOUT) {
		if (!vcpus->abandoned) {
			pthread_cond_wait(&vcpus->changed, &vcpus->lock);
			continue;
		}
		if (!end.tv_sec)
			end = patience_end();
		result = pthread_cond_timedwait(&vcpus->changed, &vcpus->lock, &end);
	}
	held = !*count;
	pthread_mutex_unlock(&vcpus->lock);
	return held;
}

bool vcpus_wait_held(struct vcpus *vcpus)
{
	return wait_for_none(vcpus, &vcpus->running);
}

void vcpus_abandon(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->abandoned = true;
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}

uint64_t vcpus_cpu_time_ns(struct vcpus *vcpus)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&vcpus->lock);
	for (unsigned i = 0; i < vcpus->count; i++) {
		struct timespec used;
		clockid_t clock;

		/* They fail for a thread that has ended. */
		if (vcpus->vcpus[i].started &&
		    !pthread_getcpuclockid(vcpus->vcpus[i].thread, &clock) &&
		    !clock_gettime(clock, &used))
			sum += (uint64_t)used.tv_sec * NS_PER_SEC + (uint64_t)used.tv_nsec;
	}
	pthread_mutex_unlock(&vcpus->lock);
	return sum;
}

bool vcpus_stop(struct vcpus *vcpus)
{
	set_wish(vcpus, VCPUS_QUIT);
	return wait_for_none(vcpus, &vcpus->alive);
}

void vcpus_destroy(struct vcpus *vcpus)
{
	if (!vcpus)
		return;
	for (unsigned i = 0; i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpus[i];

		if (vcpu->started)
			pthread_join(vcpu->thread, NULL);
		kvm_destroy_vcpu(vcpus->kvm, vcpu->fd, vcpu->run);
	}
	pthread_cond_destroy(&vcpus->changed);
	pthread_mutex_destroy(&vcpus->lock);
	free(vcpus);
}
