#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "swap/uffd.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/base/thread.h"
#include "vmm/check/check_internal.h"
#include "vmm/machine/passt.h"

/* Descriptors of a VM with 14 disks: two dozen for devices, a few for each disk and client. */
#define DESCRIPTORS_NEEDED 512
/* A vCPU each, I/O, monitors, worker. */
#define THREADS_TRIED     16
#define SWAP_SPACE_WANTED (1ull << 30)
#define TRIAL_SIZE        65536

/*
 * userfaultfd
 */

static void fix_userfaultfd(struct check_result *result, int errnum)
{
	if (errnum == EPERM || errnum == EACCES)
		check_fix(result, "sudo setfacl -m u:$USER:rw /dev/userfaultfd  # since Linux 6.1; "
				  "before: sudo sysctl vm.unprivileged_userfaultfd=1");
	else
		check_fix(result, "sudo apt-get install linux-image-amd64  # and reboot: "
				  "CONFIG_USERFAULTFD, Linux 5.14 or later");
}

static void check_uffd_features(struct check_report *report, unsigned features)
{
	static const enum uffd_feature known[] = {
		UFFD_CAN_MISSING_SHMEM, UFFD_CAN_MINOR_SHMEM, UFFD_CAN_EVENT_REMOVE,
		UFFD_CAN_WP_SHMEM,      UFFD_CAN_WP_ASYNC,
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		bool needed = UFFD_REQUIRED & known[i], ok = features & known[i];
		struct check_result *result =
			check_add(report, uffd_feature_name(known[i]),
				  needed ? CHECK_NEEDED_TO_SWAP : CHECK_OPTIONAL, ok, "%s",
				  ok ? "offered" : (needed ? "missing" : "missing; not needed"));

		if (!ok && needed)
			fix_userfaultfd(result, ENOTSUP);
	}
}

void check_userfaultfd(struct check_report *report)
{
	unsigned features = 0;
	struct error err;
	struct uffd *uffd;
	int result = uffd_probe(&features, &err);

	if (result) {
		fix_userfaultfd(check_add(report, "userfaultfd", CHECK_NEEDED_TO_SWAP, false, "%s",
					  err.text),
				-result);
		return;
	}
	check_uffd_features(report, features);
	result = uffd_open(UFFD_REQUIRED, &uffd, &err);
	if (result) {
		fix_userfaultfd(check_add(report, "userfaultfd", CHECK_NEEDED_TO_SWAP, false, "%s",
					  err.text),
				-result);
		return;
	}
	uffd_close(uffd);
	check_add(report, "userfaultfd", CHECK_NEEDED_TO_SWAP, true,
		  "opens for faults from kernel mode, as KVM needs");
}

/*
 * memfd
 */

static int try_memfd(void)
{
	int fd = memfd_create("ebb-check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *mapped = MAP_FAILED;
	int result = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, TRIAL_SIZE) || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK))
		result = -errno;
	if (!result)
		mapped = mmap(NULL, TRIAL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!result && mapped == MAP_FAILED)
		result = -errno;
	if (mapped != MAP_FAILED) {
		*(volatile char *)mapped = 1;
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, TRIAL_SIZE))
			result = -errno;
		munmap(mapped, TRIAL_SIZE);
	}
	close(fd);
	return result;
}

void check_memfd(struct check_report *report)
{
	int result = try_memfd();
	struct check_result *added =
		check_add(report, "memfd", CHECK_NEEDED_TO_RUN, !result, "%s",
			  result ? strerror(-result) : "sealed, mapped and punched");

	if (result)
		check_fix(added, "sudo apt-get install linux-image-amd64  # and reboot: "
				 "memfd_create with sealing, Linux 3.17 or later");
}

/*
 * Swap directory
 */

static int try_store_file(const char *dir, const char **step)
{
	char block[4096];
	int fd, result = 0;

	*step = "open a nameless file (O_TMPFILE)";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	memset(block, 0x5a, sizeof(block));
	*step = "write to it";
	if (pwrite(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block))
		result = errno ? -errno : -EIO;
	if (!result) {
		*step = "punch a hole into it";
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, sizeof(block)))
			result = -errno;
	}
	close(fd);
	return result;
}

static void fix_swap_directory(struct check_result *result, const char *dir, int errnum)
{
	switch (errnum) {
	case ENOENT:
		check_fix(result, "mkdir -p -m 0700 '%s'", dir);
		break;
	case ENOSPC:
	case EDQUOT:
		check_fix(result, "df -h '%s'  # and make room, or give --swap-dir elsewhere", dir);
		break;
	default:
		check_fix(result, "mkdir -m 0700 ~/.ebb-swap  # on ext4, xfs, btrfs or tmpfs, and "
				  "give --swap-dir ~/.ebb-swap");
	}
}

static void check_free_space(struct check_report *report, const char *dir)
{
	struct statvfs fs;
	struct check_result *result;
	uint64_t available;
	char text[32];

	if (statvfs(dir, &fs))
		return;
	available = (uint64_t)fs.f_bavail * fs.f_frsize;
	result = check_add(report, "swap_dir_space", CHECK_OPTIONAL, available >= SWAP_SPACE_WANTED,
			   "%s free in %s; swapping out needs as "
			   "much as the guests' memory at worst",
			   size_format(available, text, sizeof(text)), dir);
	if (!result->ok)
		fix_swap_directory(result, dir, ENOSPC);
}

void check_swap_directory(struct check_report *report, const char *dir)
{
	const char *step;
	int result = try_store_file(dir, &step);

	if (result) {
		fix_swap_directory(check_add(report, "swap_dir", CHECK_NEEDED_TO_SWAP, false,
					     "%s: cannot %s: %s", dir, step, strerror(-result)),
				   dir, -result);
		return;
	}
	check_add(report, "swap_dir", CHECK_NEEDED_TO_SWAP, true,
		  "%s: a nameless file can be written and punched", dir);
	check_free_space(report, dir);
}

/*
 * Limits
 */

static void check_descriptors(struct check_report *report)
{
	struct rlimit limit;
	struct check_result *result;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	result = check_add(report, "limit_descriptors", CHECK_NEEDED_TO_RUN,
			   limit.rlim_cur >= DESCRIPTORS_NEEDED,
			   "%" PRIu64 " open files (%d needed)", (uint64_t)limit.rlim_cur,
			   DESCRIPTORS_NEEDED);
	if (!result->ok)
		check_fix(result, "ulimit -n 1024");
}

static void check_address_space(struct check_report *report)
{
	struct rlimit limit;
	struct check_result *result;

	if (getrlimit(RLIMIT_AS, &limit))
		return;
	/* Guest RAM is mapped twice. */
	result = check_add(report, "limit_address_space", CHECK_NEEDED_TO_RUN,
			   limit.rlim_cur == RLIM_INFINITY, "%s",
			   limit.rlim_cur == RLIM_INFINITY
				   ? "unlimited"
				   : "limited; a guest needs more than twice its memory");
	if (!result->ok)
		check_fix(result, "ulimit -v unlimited");
}

static void *do_nothing(void *opaque)
{
	return opaque;
}

static void check_threads(struct check_report *report)
{
	pthread_t threads[THREADS_TRIED];
	struct check_result *result;
	unsigned started = 0;

	while (started < THREADS_TRIED &&
	       !thread_start(&threads[started], "check", do_nothing, NULL))
		started++;
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	result = check_add(report, "limit_threads", CHECK_NEEDED_TO_RUN, started == THREADS_TRIED,
			   "%u threads of %u started", started, THREADS_TRIED);
	if (!result->ok)
		check_fix(result, "ulimit -u 4096");
}

static void check_overcommit(struct check_report *report)
{
	FILE *file = fopen("/proc/sys/vm/overcommit_memory", "re");
	struct check_result *result;
	int mode = 0;

	if (!file)
		return;
	if (fscanf(file, "%d", &mode) != 1) /* NOLINT(cert-err34-c): the kernel wrote it */
		mode = 0;
	fclose(file);
	result = check_add(report, "overcommit", CHECK_OPTIONAL, mode != 2,
			   mode == 2 ? "vm.overcommit_memory is 2: memory that guests have not "
				       "touched may count against the host's limit"
				     : "memory that guests have not touched costs nothing");
	if (mode == 2)
		check_fix(result, "sudo sysctl vm.overcommit_memory=0");
}

void check_limits(struct check_report *report)
{
	check_descriptors(report);
	check_address_space(report);
	check_threads(report);
	check_overcommit(report);
}

/* Those that one option or another starts. */
void check_programs(struct check_report *report)
{
	char path[256];
	bool found = !passt_find(path, sizeof(path));
	struct check_result *result = check_add(
		report, "passt", CHECK_OPTIONAL, found, found ? "%s: --net user works" : "%s",
		found ? path : "not in $PATH; `ebb run --net user` starts it");

	if (!found)
		check_fix(result, "sudo apt-get install " PASST_PACKAGE);
}
