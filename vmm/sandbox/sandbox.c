#include "vmm/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swap/uffd.h"
#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/base/removal.h"
#include "vmm/base/size.h"
#include "vmm/sandbox/sandbox_filter.h"
#include "vmm/sandbox/sandbox_probe.h"
#include "vmm/sandbox/sandbox_tree.h"

#define DESCRIPTORS_MAX 4096u

/* A root without CAP_IPC_LOCK is bound by this limit like others: room for keys, and for io_uring. */
#define LOCKED_MEMORY (64 * MIB)

/* Private anonymous memory and ELF headers: no shared memory, which guest RAM is (core(5)). */
#define CORE_FILTER "0x11"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

#ifdef EBB_FOR_FINDING_BUGS
#define BUILT_FOR_FINDING_BUGS true
#else
#define BUILT_FOR_FINDING_BUGS false
#endif

struct sandbox_layers sandbox_layers;

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = fd < 0 ? -errno : io_write_full(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return result;
}

/* ---- limits ---- */

static void set_limits(void)
{
	struct rlimit files, locked;
	int result;

	if (write_file("/proc/self/coredump_filter", CORE_FILTER))
		log_warning("sandbox: what core dumps contain cannot be set; guest memory is left "
			    "out by madvise(2) alone");
	result = getrlimit(RLIMIT_NOFILE, &files);
	if (!result) {
		if (files.rlim_cur > DESCRIPTORS_MAX)
			files.rlim_cur = DESCRIPTORS_MAX;
		files.rlim_max = files.rlim_cur;
		result = setrlimit(RLIMIT_NOFILE, &files);
	}
	if (result)
		log_warning("sandbox: descriptors are not limited: %s", strerrordesc_np(errno));
	/* Only root may raise it: then it is what its capability stood for. */
	if (!getrlimit(RLIMIT_MEMLOCK, &locked) && locked.rlim_cur < LOCKED_MEMORY) {
		locked.rlim_cur = LOCKED_MEMORY;
		if (locked.rlim_max < LOCKED_MEMORY)
			locked.rlim_max = LOCKED_MEMORY;
		setrlimit(RLIMIT_MEMLOCK, &locked);
	}
}

/* ---- namespaces ---- */

/* Everybody keeps his number. Others have none in there. */
static int map_user(uid_t user, gid_t group)
{
	char line[64];
	int result = write_file("/proc/self/setgroups", "deny");

	snprintf(line, sizeof(line), "%u %u 1", (unsigned)user, (unsigned)user);
	if (!result)
		result = write_file("/proc/self/uid_map", line);
	snprintf(line, sizeof(line), "%u %u 1", (unsigned)group, (unsigned)group);
	if (!result)
		result = write_file("/proc/self/gid_map", line);
	return result;
}

static int enter_namespaces(enum sandbox_namespaces *entered)
{
	uid_t user = geteuid();
	gid_t group = getegid();

	if (!unshare(NAMESPACES)) {
		*entered = SANDBOX_NAMESPACES;
		return 0;
	}
	/* Together: a kernel may allow the user namespace, and then nothing inside. */
	if (unshare(CLONE_NEWUSER | NAMESPACES))
		return -errno;
	*entered = SANDBOX_USER_NAMESPACES;
	return map_user(user, group) ? -EACCES : 0;
}

/*
 * What is mounted in here stays in here; what is unmounted outside goes in here too, or it would
 * only seem to go. -EOPNOTSUPP: all else is well, but the host's files are still to be seen.
 */
static int close_mounts(const struct sandbox_file *files, size_t count, struct error *err)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) {
		error_errno(err, errno, "MS_SLAVE");
		return -EOPNOTSUPP;
	}
	if (sandbox_probe_keeps_root()) {
		error_say(err, EOPNOTSUPP, "a test keeps it");
		return -EOPNOTSUPP;
	}
	return sandbox_tree_close(files, count, err);
}

#define PROBED_ROOT 0x10 /* in the exit status: the root is empty, too */

static int probe_in_child(bool root)
{
	enum sandbox_namespaces entered = SANDBOX_NO_NAMESPACES;

	if (enter_namespaces(&entered))
		return SANDBOX_NO_NAMESPACES;
	return (int)entered | (root && !close_mounts(NULL, 0, NULL) ? PROBED_ROOT : 0);
}

/* A child tries first: half a step, a user namespace without its maps, cannot be taken back. */
enum sandbox_namespaces sandbox_probe_namespaces(bool *empty_root)
{
	pid_t child = fork();
	int status = 0;
	int found;

	if (!child)
		_exit(probe_in_child(empty_root));
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	found = child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : SANDBOX_NO_NAMESPACES;
	if (empty_root)
		*empty_root = found & PROBED_ROOT;
	return (enum sandbox_namespaces)(found & ~PROBED_ROOT);
}

static int close_namespaces(struct error *err)
{
	int result = -EPERM;

	/* Root tries, too: it may lack the capabilities that it is known for. */
	if (sandbox_probe_namespaces(NULL) != SANDBOX_NO_NAMESPACES)
		result = enter_namespaces(&sandbox_layers.namespaces);
	if (!result)
		return 0;
	if (sandbox_layers.namespaces == SANDBOX_USER_NAMESPACES)
		return error_errno(err, -result, "sandbox: user namespace");
	sandbox_layers.namespaces = SANDBOX_NO_NAMESPACES;
	log_warning("sandbox: this host gives no namespaces of its own: %s",
		    strerrordesc_np(-result));
	return 0;
}

static int close_root(const struct sandbox_needs *needs, struct error *err)
{
	struct error why;
	int result;

	if (sandbox_layers.namespaces == SANDBOX_NO_NAMESPACES)
		return 0;
	result = close_mounts(needs->files, needs->count, &why);
	if (result == -EOPNOTSUPP) {
		log_warning("sandbox: no empty root: %s; the host's sockets are protected by their "
			    "owners' rights alone",
			    why.text);
		return 0;
	}
	if (result)
		*err = why;
	else
		sandbox_layers.empty_root = true;
	return result;
}

/* ---- capabilities ---- */

/* Swap makes a userfaultfd each time it is enabled: without the device that is a capability's. */
static uint64_t needed_capabilities(void)
{
	return uffd_device_is_kept() ? 0 : 1ull << CAP_SYS_PTRACE;
}

/* Without CAP_SETPCAP nothing can be dropped here, and nothing gained. */
static int empty_bounding_set(bool allowed, struct error *err)
{
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
		if (sandbox_layers.capabilities & 1ull << capability)
			continue;
		/* EINVAL: this kernel has fewer of them. */
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) && allowed && errno != EINVAL)
			return error_errno(err, errno, "sandbox: PR_CAPBSET_DROP");
	}
	return 0;
}

static int drop_capabilities(struct error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct now[2], left[2] = {{0}, {0}};
	uint64_t needed = needed_capabilities();
	int result;

	if (syscall(SYS_capget, &header, now))
		return error_errno(err, errno, "sandbox: capget");
	for (int i = 0; i < 2; i++) {
		uint32_t part = (uint32_t)(needed >> 32 * i) & now[i].permitted;

		left[i].effective = left[i].permitted = part;
		sandbox_layers.capabilities |= (uint64_t)part << 32 * i;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return error_errno(err, errno, "sandbox: PR_CAP_AMBIENT_CLEAR_ALL");
	result = empty_bounding_set(now[0].effective & 1u << CAP_SETPCAP, err);
	if (result)
		return result;
	if (syscall(SYS_capset, &header, left))
		return error_errno(err, errno, "sandbox: capset");
	if (sandbox_layers.capabilities)
		log_warning("sandbox: CAP_SYS_PTRACE is kept, because swap needs it where "
			    "/dev/userfaultfd (Linux 6.1) is missing");
	return 0;
}

/* ---- all ---- */

/* *ruleset: for close_files(); -1 where there is no Landlock. */
static int prepare_files(const struct sandbox_needs *needs, int *ruleset, struct error *err)
{
	sandbox_layers.landlock_abi = sandbox_files_abi();
	*ruleset = -1;
	if (!sandbox_layers.landlock_abi) {
		log_warning("sandbox: this kernel has no Landlock: files are not restricted: %s",
			    strerrordesc_np(errno));
		return 0;
	}
	*ruleset = sandbox_files_prepare(sandbox_layers.landlock_abi, needs->files, needs->count,
					 needs->may_signal, err);
	return *ruleset < 0 ? *ruleset : 0;
}

static int close_files(int ruleset, struct error *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		if (ruleset >= 0)
			close(ruleset);
		return error_errno(err, errno, "sandbox: PR_SET_NO_NEW_PRIVS");
	}
	sandbox_layers.no_new_privileges = true;
	return ruleset < 0 ? 0 : sandbox_files_close(ruleset, err);
}

/* A root without capabilities is bound by the rights of files, those of other users' directories too. */
static void tell_what_will_stay(const struct sandbox_needs *needs)
{
	for (size_t i = 0; i < needs->count; i++) {
		const struct sandbox_file *file = &needs->files[i];

		if (file->right != SANDBOX_FILE_READ && !removal_is_allowed(file->path))
			log_warning("%s: its directory is not this VM's to write to once it runs, "
				    "so the socket stays there when it ends; the next one with "
				    "this path replaces it",
				    file->path);
	}
}

static int close_calls(bool vsock, struct error *err)
{
	if (sandbox_filter_probe()) {
		log_warning("sandbox: this kernel has no seccomp filters: system calls are not "
			    "restricted");
		return 0;
	}
	sandbox_layers.seccomp = true;
	return sandbox_filter_close(vsock, err);
}

static int close_rights(const struct sandbox_needs *needs, struct error *err)
{
	int ruleset;
	int result = prepare_files(needs, &ruleset, err);

	if (result)
		return result;
	result = close_namespaces(err);
	if (!result)
		result = close_root(needs, err);
	if (result) {
		if (ruleset >= 0)
			close(ruleset);
		return result;
	}
	result = close_files(ruleset, err);
	if (!result)
		result = drop_capabilities(err);
	return result;
}

int sandbox_close(bool enabled, const struct sandbox_needs *needs, struct error *err)
{
	int result;

	if (!enabled) {
		log_warning("THE SANDBOX IS OFF: a guest that breaks out of its machine has all "
			    "rights of this process; this is for debugging");
		return 0;
	}
	if (BUILT_FOR_FINDING_BUGS) {
		log_debug("the sandbox is off in this build, which is for finding bugs");
		return 0;
	}
	sandbox_layers.on = true;
	set_limits();
	result = close_rights(needs, err);
	if (result)
		return result;
	tell_what_will_stay(needs);
	sandbox_probe_rights();
	return close_calls(needs->vsock, err);
}

json_t *sandbox_status(void)
{
	static const char *const namespaces[] = {"none", "own", "own, in a user namespace"};

	return json_pack("{s:b,s:b,s:i,s:s,s:b,s:b,s:I}", "on", sandbox_layers.on, "seccomp",
			 sandbox_layers.seccomp, "landlock_abi", sandbox_layers.landlock_abi,
			 "namespaces", namespaces[sandbox_layers.namespaces], "empty_root",
			 sandbox_layers.empty_root, "no_new_privileges",
			 sandbox_layers.no_new_privileges, "capabilities",
			 (json_int_t)sandbox_layers.capabilities);
}
