#include "vmm/sandbox/sandbox_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/log.h"

static long probe_openat(void)
{
	return openat(AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long probe_openat2(void)
{
	return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0);
}

static long probe_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long probe_connect(void)
{
	const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};

	return connect(0, (const struct sockaddr *)&address, sizeof(address));
}

static long probe_bind(void)
{
	const struct sockaddr_in address = {.sin_family = AF_INET};

	return bind(0, (const struct sockaddr *)&address, sizeof(address));
}

static long probe_execve(void)
{
	char *const nothing[] = {NULL};

	return execve("/bin/true", nothing, nothing);
}

static long probe_fork(void)
{
	return syscall(SYS_fork);
}

static long probe_clone(void)
{
	return syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_NEWUSER, 0, 0, 0,
		       0);
}

static long probe_ptrace(void)
{
	return ptrace(PTRACE_ATTACH, 1, NULL, NULL);
}

static long probe_process_vm_readv(void)
{
	return process_vm_readv(1, NULL, 0, NULL, 0, 0);
}

static long probe_kill(void)
{
	return syscall(SYS_kill, 1, 0);
}

static long probe_tgkill(void)
{
	return syscall(SYS_tgkill, 1, 1, 0);
}

static long probe_mmap(void)
{
	return (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long probe_mprotect(void)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

/* Types into somebody's terminal. */
static long probe_ioctl(void)
{
	return ioctl(0, TIOCSTI, "x");
}

static long probe_kvm_run(void)
{
	return ioctl(0, KVM_RUN, 0);
}

static long probe_uffd(void)
{
	return ioctl(0, 0xc018aa3ful, 0); /* UFFDIO_API */
}

static long probe_io_uring_setup(void)
{
	return syscall(SYS_io_uring_setup, 1, NULL);
}

static long probe_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static long probe_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0);
}

static long probe_mount(void)
{
	return mount("none", "/tmp", "tmpfs", 0, NULL);
}

static long probe_setuid(void)
{
	return syscall(SYS_setuid, 0);
}

static long probe_keyctl(void)
{
	return syscall(SYS_keyctl, 0, 0, 0);
}

static long probe_madvise(void)
{
	return madvise(NULL, 0, 100 /* MADV_HWPOISON */);
}

static long probe_fcntl(void)
{
	return fcntl(0, F_SETOWN, 1);
}

static long probe_prctl(void)
{
	return syscall(SYS_prctl, 4 /* PR_SET_DUMPABLE */, 1, 0, 0, 0);
}

static const struct {
	const char *name;
	long (*act)(void);
} acts[] = {
	{"openat", probe_openat},   {"openat2", probe_openat2},
	{"socket", probe_socket},   {"connect", probe_connect},
	{"bind", probe_bind},       {"execve", probe_execve},
	{"fork", probe_fork},       {"clone", probe_clone},
	{"ptrace", probe_ptrace},   {"process_vm_readv", probe_process_vm_readv},
	{"kill", probe_kill},       {"tgkill", probe_tgkill},
	{"mmap", probe_mmap},       {"mprotect", probe_mprotect},
	{"ioctl", probe_ioctl},     {"kvm_run", probe_kvm_run},
	{"uffd", probe_uffd},       {"io_uring_setup", probe_io_uring_setup},
	{"unshare", probe_unshare}, {"bpf", probe_bpf},
	{"mount", probe_mount},     {"setuid", probe_setuid},
	{"keyctl", probe_keyctl},   {"madvise", probe_madvise},
	{"fcntl", probe_fcntl},     {"prctl", probe_prctl},
};

/* What EBB_SANDBOX_PROBE wants of @who, NULL: nothing. */
static const char *wanted_of(const char *who)
{
	const char *wish = getenv("EBB_SANDBOX_PROBE");
	size_t length = strlen(who);

	if (!wish || strncmp(wish, who, length) != 0 || wish[length] != ':')
		return NULL;
	return wish + length + 1;
}

void sandbox_probe(enum sandbox_kind kind)
{
	static atomic_bool done;
	const char *wanted = wanted_of(sandbox_kind_name(kind));

	if (!wanted || atomic_exchange(&done, true))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
		if (!strcmp(acts[i].name, wanted)) {
			long result = acts[i].act();

			log_error("probe: %s got through: %ld, %s", wanted, result,
				  strerrorname_np(errno));
		}
	}
}

bool sandbox_probe_keeps_root(void)
{
	return wanted_of("root");
}

static void tell(const char *what, long result)
{
	log_info("probe: %s: %s", what, result < 0 ? strerrorname_np(errno) : "done");
}

/* Connects to the socket @name in @directory. */
static void reach(const char *what, const char *directory, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/%s", directory, name);
	tell(what, connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
			   sizeof(address)));
}

void sandbox_probe_rights(void)
{
	const char *directory = wanted_of("rights");
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0ebb-probe"};
	char path[256];

	if (!directory)
		return;
	tell("read /etc/passwd", open("/etc/passwd", O_RDONLY | O_CLOEXEC));
	snprintf(path, sizeof(path), "%s/left-by-probe", directory);
	tell("create", open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	snprintf(path, sizeof(path), "%s/victim", directory);
	tell("remove", unlink(path));
	tell("truncate", truncate(path, 0));
	tell("list", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	tell("execute", execl("/bin/true", "true", NULL));
	tell("mount", mount("none", directory, "tmpfs", 0, NULL));
	tell("chown", chown(directory, 12345, 12345));
	tell("hostname", sethostname("probe", 5));
	tell("unshare", unshare(CLONE_NEWNET));
	tell("signal", kill(getppid(), 0));
	tell("trace", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
	tell("bind",
	     bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof(address)));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons(9);
	tell("connect", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address,
				sizeof(address)));
	tell("datagram", sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0,
				(struct sockaddr *)&address, sizeof(address)));
	reach("socket", directory, "listener");
	reach("socket above", directory, "../listener");
	tell("abstract", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&abstract,
				 sizeof(abstract)));
}
