/*
 * Runs at build time: compiles the table below by libseccomp and prints the filters as C, for
 * sandbox_filter.c. So the start of a VM costs nothing for them, and nothing can fail there.
 *
 * A call that is not in a kind's list traps. Families of calls are allowed, rather than the one of
 * them that this C library happens to use. What is given to everybody neither opens anything nor
 * reaches another process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/sandbox/sandbox_filter.h"

#define MAIN    (1u << SANDBOX_MAIN)
#define VCPU    (1u << SANDBOX_VCPU)
#define IO      (1u << SANDBOX_IO)
#define MONITOR (1u << SANDBOX_MONITOR)
#define WORKER  (1u << SANDBOX_WORKER)
#define DISK    (1u << SANDBOX_DISK)
#define NURSERY (1u << SANDBOX_NURSERY)
#define VSOCK   (1u << 31) /* if the VM has vsock alone */
#define ALL     (MAIN | VCPU | IO | MONITOR | WORKER | DISK)
#define SWAP    (MONITOR | WORKER)

/* <linux/userfaultfd.h> is swap/uffd.c's alone: _IO, _IOR or _IOWR of type 0xAA, by number. */
#define UFFD_TYPE 0xAAu
#define UFFD_MASK 0xFFC0u /* type, and numbers below 0x40 */

/* Linux 6.13; what glibc guards stacks by from 2.42 on. */
#define GUARD_INSTALL 102
#define GUARD_REMOVE  103

#define NO_EXEC(index) SCMP_CMP(index, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)
/* The kernel looks at 32 bits of these. */
#define IS(index, value) SCMP_CMP(index, SCMP_CMP_MASKED_EQ, 0xffffffffu, (scmp_datum_t)(value))
#define HAS(index, bits) SCMP_CMP(index, SCMP_CMP_MASKED_EQ, bits, bits)

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
	 CLONE_NEWCGROUP)

struct rule {
	unsigned kinds;
	int call;
	unsigned count;
	struct scmp_arg_cmp argument;
};

#define CALL(kinds, name)                                                                          \
	{                                                                                          \
		kinds, SCMP_SYS(name), 0,                                                          \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define CALL_IF(kinds, name, ...)                                                                  \
	{                                                                                          \
		kinds, SCMP_SYS(name), 1, __VA_ARGS__                                              \
	}
#define IOCTL(kinds, request)  CALL_IF(kinds, ioctl, IS(1, request))
#define FCNTL(kinds, command)  CALL_IF(kinds, fcntl, IS(1, command))
#define MADVISE(kinds, advice) CALL_IF(kinds, madvise, IS(2, advice))

/* clang-format off */
static const struct rule rules[] = {
	/* What is hot comes first. */
	IOCTL(VCPU, KVM_RUN),
	CALL_IF(SWAP | MAIN, ioctl, SCMP_CMP(1, SCMP_CMP_MASKED_EQ, UFFD_MASK, UFFD_TYPE << 8)),

	/* ---- everybody ---- */
	CALL(ALL, read), CALL(ALL, readv), CALL(ALL, write), CALL(ALL, writev), CALL(ALL, close),
	CALL(ALL, futex),
	CALL(ALL, poll), CALL(ALL, ppoll),
	CALL(ALL, fstat), CALL_IF(ALL, newfstatat, HAS(3, AT_EMPTY_PATH)),
	CALL(ALL, brk), CALL(ALL, munmap), CALL(ALL, mremap),
	CALL_IF(ALL, mmap, NO_EXEC(2)), CALL_IF(ALL, mprotect, NO_EXEC(2)),
	MADVISE(ALL, MADV_DONTNEED), MADVISE(ALL, MADV_FREE), MADVISE(ALL, MADV_NOHUGEPAGE),
	MADVISE(ALL, MADV_DONTDUMP), MADVISE(ALL, MADV_DONTFORK),
	MADVISE(ALL, GUARD_INSTALL), MADVISE(ALL, GUARD_REMOVE),
	CALL(ALL, clock_gettime), CALL(ALL, clock_getres), CALL(ALL, gettimeofday), CALL(ALL, time),
	CALL(ALL, nanosleep), CALL(ALL, clock_nanosleep), CALL(ALL, restart_syscall),
	CALL(ALL, sched_yield), CALL(ALL, getcpu), CALL(ALL, sched_getaffinity),
	CALL(ALL, getrandom), CALL(ALL, sysinfo), /* glibc's qsort() looks for RAM */
	CALL(ALL, getpid), CALL(ALL, gettid), CALL(ALL, getpgrp), CALL(ALL, getpgid),
	CALL(ALL, set_robust_list), CALL(ALL, get_robust_list), CALL(ALL, rseq),
	CALL(ALL, membarrier),
	CALL(ALL, exit), CALL(ALL, exit_group),
	/* Signals between own threads; a thread that crashes puts the terminal back. */
	CALL(ALL, rt_sigaction), CALL(ALL, rt_sigprocmask), CALL(ALL, rt_sigreturn),
	CALL(ALL, sigaltstack), CALL_IF(ALL, prctl, IS(0, PR_GET_NAME)),
	CALL_IF(ALL, tgkill, IS(0, SANDBOX_OWN_PID)),
	IOCTL(ALL, TCGETS), IOCTL(ALL, TCSETS), IOCTL(ALL, TCSETSW), IOCTL(ALL, TCSETSF),
	IOCTL(ALL, TIOCGPGRP), IOCTL(ALL, TIOCSPGRP),

	/* ---- event loops, and those who arm their timers and sources ---- */
	CALL(MAIN | IO, epoll_wait), CALL(MAIN | IO, epoll_pwait), CALL(MAIN | IO, epoll_pwait2),
	CALL(MAIN | IO | VCPU, epoll_ctl),
	CALL(MAIN | IO | VCPU, timerfd_settime), CALL(MAIN | IO | VCPU, timerfd_gettime),

	/* ---- the guest ---- */
	IOCTL(VCPU | MAIN, KVM_KVMCLOCK_CTRL),
	IOCTL(VCPU | MAIN, KVM_GET_REGS), IOCTL(VCPU | MAIN, KVM_GET_SREGS),
	IOCTL(VCPU, KVM_TRANSLATE),

	/* ---- devices ---- */
	CALL(IO | VCPU | MAIN, io_uring_enter),
	CALL(IO | DISK | SWAP, preadv), CALL(IO | DISK | SWAP, pwritev),
	CALL(IO | DISK | SWAP, preadv2), CALL(IO | DISK | SWAP, pwritev2),
	CALL(IO | DISK | SWAP | MAIN, pread64), CALL(IO | DISK | SWAP, pwrite64),
	CALL(IO | DISK | SWAP, fdatasync), CALL(IO | DISK | SWAP | MAIN, fallocate),
	IOCTL(IO | DISK | SWAP | MAIN, BLKDISCARD), IOCTL(IO | DISK | SWAP, BLKZEROOUT),
	MADVISE(IO | VCPU | MAIN | SWAP, MADV_REMOVE),
	IOCTL(IO | VCPU | MAIN, TUNSETOFFLOAD),
	CALL(IO | MAIN, recvmsg), CALL(IO | MAIN, recvfrom), CALL(IO | MAIN, recvmmsg),
	CALL(IO | MAIN, sendmsg), CALL(IO | MAIN, sendto), CALL(IO | MAIN, sendmmsg),
	CALL(IO | MAIN, accept4), CALL(IO | MAIN, shutdown),
	CALL(IO | MAIN, getsockopt), CALL(IO | MAIN, setsockopt),
	CALL(IO | MAIN, getsockname), CALL(IO | MAIN, getpeername),
	/* What a guest's program connects to is a socket by path, beside the VM's own. */
	CALL_IF(IO | VSOCK, socket, IS(0, AF_UNIX)), CALL(IO | VSOCK, connect),
	FCNTL(IO | MAIN | SWAP, F_DUPFD_CLOEXEC),
	FCNTL(IO | MAIN | SWAP, F_GETFL), FCNTL(IO | MAIN | SWAP, F_SETFL),
	FCNTL(IO | MAIN | SWAP, F_GETFD), FCNTL(IO | MAIN | SWAP, F_SETFD),
	IOCTL(IO | MAIN, FIONREAD), IOCTL(IO | MAIN, FIONBIO),

	/* ---- swap ---- */
	CALL(SWAP, io_uring_setup), CALL(SWAP, io_uring_enter), CALL(SWAP | MAIN, io_uring_register),
	CALL(SWAP | MAIN, mincore), CALL(SWAP | MAIN, lseek), CALL(SWAP | MAIN, ftruncate),
	CALL(SWAP, fstatfs),
	CALL(SWAP | DISK, sync_file_range), CALL(SWAP | DISK, fadvise64),
	CALL_IF(SWAP, statx, HAS(2, AT_EMPTY_PATH)),
	IOCTL(WORKER, BLKGETSIZE64),
	CALL(WORKER | MAIN, eventfd2),
	CALL(SWAP, mlock), CALL(SWAP | MAIN, munlock), CALL(SWAP | MAIN, prlimit64),
	CALL(SWAP, sched_setaffinity), CALL(SWAP, sched_setattr), CALL(SWAP, sched_getattr),
	CALL(SWAP, sched_setscheduler), CALL(SWAP, sched_getscheduler), CALL(SWAP, sched_getparam),
	CALL(SWAP, getpriority), CALL(SWAP, setpriority),
	CALL(WORKER, userfaultfd), /* only with CAP_SYS_PTRACE, or where everybody may */

	/* ---- main: control, console, metrics, the VM made anew at a reset ---- */
	CALL(MAIN, accept), CALL(MAIN, pipe2), CALL(MAIN, epoll_create1), CALL(MAIN, timerfd_create),
	CALL(MAIN, unlink), CALL(MAIN, unlinkat),
	CALL(MAIN, stat), CALL(MAIN, lstat), CALL(MAIN, newfstatat),
	CALL(MAIN, getdents64), CALL(MAIN, getrlimit), CALL(MAIN, getrusage),
	CALL(MAIN, uname), CALL(MAIN, times),
	CALL(MAIN, getuid), CALL(MAIN, geteuid), CALL(MAIN, getgid), CALL(MAIN, getegid),
	CALL(MAIN, wait4), CALL(MAIN | IO, waitid), /* passt, the spawner */
	CALL(MAIN, pidfd_send_signal), /* to what it has started: it can open no other */
	IOCTL(MAIN, TIOCGWINSZ), IOCTL(MAIN, TIOCGPTPEER),
	IOCTL(MAIN, KVM_CREATE_VM), IOCTL(MAIN, KVM_CHECK_EXTENSION),
	IOCTL(MAIN, KVM_GET_SUPPORTED_CPUID), IOCTL(MAIN, KVM_GET_VCPU_MMAP_SIZE),
	IOCTL(MAIN, KVM_GET_API_VERSION), IOCTL(MAIN, KVM_GET_MSR_INDEX_LIST),
	IOCTL(MAIN, KVM_SET_IDENTITY_MAP_ADDR), IOCTL(MAIN, KVM_SET_TSS_ADDR),
	IOCTL(MAIN, KVM_CREATE_IRQCHIP), IOCTL(MAIN, KVM_CREATE_PIT2),
	IOCTL(MAIN, KVM_SET_USER_MEMORY_REGION), IOCTL(MAIN, KVM_IRQFD), IOCTL(MAIN, KVM_IOEVENTFD),
	IOCTL(MAIN, KVM_CREATE_VCPU), IOCTL(MAIN, KVM_SET_CPUID2), IOCTL(MAIN, KVM_SET_REGS),
	IOCTL(MAIN, KVM_SET_SREGS), IOCTL(MAIN, KVM_SET_FPU), IOCTL(MAIN, KVM_SET_MSRS),
	IOCTL(MAIN, KVM_SET_XCRS), IOCTL(MAIN, KVM_GET_LAPIC), IOCTL(MAIN, KVM_SET_LAPIC),
	IOCTL(MAIN, KVM_GET_MP_STATE), IOCTL(MAIN, KVM_SET_MP_STATE),

	/* ---- the nursery: threads are born there, with all its rights until they take their own ---- */
	CALL(NURSERY, set_tid_address),
	CALL_IF(NURSERY, prctl, IS(0, PR_SET_NAME)),
	CALL_IF(NURSERY, seccomp, IS(0, SECCOMP_SET_MODE_FILTER)),
	CALL_IF(NURSERY, clone, SCMP_CMP(0, SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM | NEW_NAMESPACES,
					 CLONE_THREAD | CLONE_VM)),
};
/* clang-format on */

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "sandbox rules: %s: error %d\n", what, -result);
	exit(1);
}

static void add_rules(scmp_filter_ctx filter, enum sandbox_kind kind, bool vsock)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *rule = &rules[i];

		/* Filters add up: whoever is born in the nursery can do no more than it. */
		if (!(rule->kinds & 1u << kind) && kind != SANDBOX_NURSERY)
			continue;
		if (rule->kinds & VSOCK && !vsock)
			continue;
		/* A call that this libseccomp does not know, or this architecture has not. */
		if (rule->call < 0)
			continue;
		check(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, rule->count,
					     &rule->argument),
		      "rule");
	}
	/* Its flags are in memory, where no filter can see them: without it, clone(2) is used. */
	if (kind == SANDBOX_NURSERY)
		check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0),
		      "clone3");
}

static void print_filter(scmp_filter_ctx filter, enum sandbox_kind kind, bool vsock)
{
	struct sock_filter code[4096];
	FILE *file = tmpfile();
	size_t count;

	if (!file)
		check(-errno, "temporary file");
	check(seccomp_export_bpf(filter, fileno(file)), "export");
	rewind(file);
	count = fread(code, sizeof(code[0]), ARRAY_SIZE(code), file);
	fclose(file);
	if (count == 0 || count == ARRAY_SIZE(code))
		check(-EFBIG, "filter");
	printf("static const struct sock_filter filter_%d_%d[] = {\n", (int)kind, vsock);
	for (size_t i = 0; i < count; i++)
		printf("\t{%#x, %u, %u, %#x},\n", code[i].code, code[i].jt, code[i].jf, code[i].k);
	printf("};\n\n");
}

static void print_names(void)
{
	printf("static const char *const call_names[] = {\n");
	for (int call = 0; call < 512; call++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, call);

		if (name)
			printf("\t[%d] = \"%s\",\n", call, name);
		free(name);
	}
	printf("};\n");
}

static void compile(enum sandbox_kind kind, bool vsock)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);

	if (!filter)
		check(-ENOMEM, "filter");
	check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS),
	      "architecture");
	check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), "binary tree");
	add_rules(filter, kind, vsock);
	print_filter(filter, kind, vsock);
	seccomp_release(filter);
}

int main(void)
{
	for (int kind = 0; kind < SANDBOX_KINDS; kind++) {
		compile((enum sandbox_kind)kind, false);
		compile((enum sandbox_kind)kind, true);
	}
	print_names();
	return 0;
}
