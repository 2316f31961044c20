#include "swap/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/checked.h"

/* Newer than some distributions' headers. */
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define UFFD_DEVICE "/dev/userfaultfd"

struct uffd {
	int fd;
};

static const struct {
	enum uffd_feature feature;
	uint64_t kernel_bit;
	const char *name;
} feature_table[] = {
	{UFFD_CAN_MISSING_SHMEM, UFFD_FEATURE_MISSING_SHMEM, "UFFD_FEATURE_MISSING_SHMEM"},
	{UFFD_CAN_MINOR_SHMEM, UFFD_FEATURE_MINOR_SHMEM, "UFFD_FEATURE_MINOR_SHMEM"},
	{UFFD_CAN_EVENT_REMOVE, UFFD_FEATURE_EVENT_REMOVE, "UFFD_FEATURE_EVENT_REMOVE"},
	{UFFD_CAN_WP_SHMEM, UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "UFFD_FEATURE_WP_HUGETLBFS_SHMEM"},
	{UFFD_CAN_WP_ASYNC, UFFD_FEATURE_WP_ASYNC, "UFFD_FEATURE_WP_ASYNC"},
};

static unsigned from_kernel_bits(uint64_t bits)
{
	unsigned features = 0;

	for (size_t i = 0; i < ARRAY_SIZE(feature_table); i++)
		if (bits & feature_table[i].kernel_bit)
			features |= feature_table[i].feature;
	return features;
}

static uint64_t to_kernel_bits(unsigned features)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(feature_table); i++)
		if (features & feature_table[i].feature)
			bits |= feature_table[i].kernel_bit;
	return bits;
}

const char *uffd_feature_name(enum uffd_feature feature)
{
	for (size_t i = 0; i < ARRAY_SIZE(feature_table); i++)
		if (feature_table[i].feature == feature)
			return feature_table[i].name;
	return "unknown";
}

/* The device, open for the life of the process; -1: it is opened for each use. */
static int kept_device = -1;

void uffd_keep_device(void)
{
	if (kept_device < 0)
		kept_device = open(UFFD_DEVICE, O_RDWR | O_CLOEXEC);
}

bool uffd_device_is_kept(void)
{
	return kept_device >= 0;
}

/* A new descriptor that serves kernel faults, not yet agreed on features. Returns it or -errno. */
static int open_descriptor(struct error *err)
{
	int device = kept_device >= 0 ? kept_device : open(UFFD_DEVICE, O_RDWR | O_CLOEXEC);
	int device_errno = errno;
	int fd;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		device_errno = errno;
		if (device != kept_device)
			close(device);
		if (fd >= 0)
			return fd;
	}
	/* Without UFFD_USER_MODE_ONLY: that could not serve faults that KVM takes for the guest. */
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	if (errno == ENOSYS)
		return error_say(err, ENOSYS,
				 "userfaultfd: this kernel is built without it; use one with "
				 "CONFIG_USERFAULTFD=y (every Debian kernel has it)");
	if (errno == EPERM)
		return error_say(err, EPERM,
				 "userfaultfd: permission denied (" UFFD_DEVICE ": %s); run `sudo "
				 "setfacl -m u:$USER:rw " UFFD_DEVICE "`, or `sudo sysctl "
				 "vm.unprivileged_userfaultfd=1`",
				 strerrordesc_np(device_errno));
	return error_errno(err, errno, "userfaultfd");
}

/* One handshake: *features in, what the kernel has out. The descriptor is used up by it. */
static int handshake(int fd, uint64_t wanted, uint64_t *offered)
{
	struct uffdio_api api = {.api = UFFD_API, .features = wanted};

	if (ioctl(fd, UFFDIO_API, &api))
		return -errno;
	*offered = api.features;
	return 0;
}

int uffd_probe(unsigned *features, struct error *err)
{
	uint64_t offered = 0;
	int fd = open_descriptor(err);
	int result;

	if (fd < 0)
		return fd;
	result = handshake(fd, 0, &offered);
	close(fd);
	if (result)
		return error_errno(err, -result, "userfaultfd: UFFDIO_API");
	*features = from_kernel_bits(offered);
	return 0;
}

int uffd_open(unsigned required, struct uffd **out, struct error *err)
{
	struct uffd *uffd;
	unsigned offered = 0, missing;
	uint64_t ignored;
	int result = uffd_probe(&offered, err);

	if (result)
		return result;
	missing = required & ~offered;
	if (missing)
		return error_say(err, ENOTSUP,
				 "userfaultfd: this kernel lacks %s; Linux 5.14 or newer is needed",
				 uffd_feature_name(missing & -missing));
	uffd = calloc(1, sizeof(*uffd));
	if (!uffd)
		return error_errno(err, ENOMEM, "userfaultfd");
	uffd->fd = open_descriptor(err);
	if (uffd->fd < 0) {
		result = uffd->fd;
		goto free_uffd;
	}
	result = handshake(uffd->fd, to_kernel_bits(required), &ignored);
	if (result) {
		error_errno(err, -result, "userfaultfd: UFFDIO_API");
		goto close_fd;
	}
	*out = uffd;
	return 0;

close_fd:
	close(uffd->fd);
free_uffd:
	free(uffd);
	return result;
}

void uffd_close(struct uffd *uffd)
{
	if (!uffd)
		return;
	close(uffd->fd);
	free(uffd);
}

int uffd_descriptor(const struct uffd *uffd)
{
	return uffd->fd;
}

int uffd_register(const struct uffd *uffd, void *address, size_t length, unsigned modes)
{
	struct uffdio_register reg = {
		.range = {(uint64_t)address, length},
		.mode = (modes & UFFD_MODE_MISSING ? UFFDIO_REGISTER_MODE_MISSING : 0) |
			(modes & UFFD_MODE_MINOR ? UFFDIO_REGISTER_MODE_MINOR : 0),
	};

	return ioctl(uffd->fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int uffd_unregister(const struct uffd *uffd, void *address, size_t length)
{
	struct uffdio_range range = {(uint64_t)address, length};

	return ioctl(uffd->fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

/*
 * One resolving ioctl. *moved: bytes resolved, or a negative error in the field that the kernel
 * reports through. Returns what ioctl() did, with errno.
 */
typedef int (*resolve_once)(int fd, uint64_t address, uint64_t source, uint64_t length,
			    int64_t *moved);

static int zero_once(int fd, uint64_t address, uint64_t source, uint64_t length, int64_t *moved)
{
	struct uffdio_zeropage zero = {.range = {address, length}};
	int result = ioctl(fd, UFFDIO_ZEROPAGE, &zero);

	(void)source;
	*moved = zero.zeropage;
	return result;
}

static int copy_once(int fd, uint64_t address, uint64_t source, uint64_t length, int64_t *moved)
{
	struct uffdio_copy copy = {.dst = address, .src = source, .len = length};
	int result = ioctl(fd, UFFDIO_COPY, &copy);

	*moved = copy.copy;
	return result;
}

static int continue_once(int fd, uint64_t address, uint64_t source, uint64_t length, int64_t *moved)
{
	struct uffdio_continue cont = {.range = {address, length}};
	int result = ioctl(fd, UFFDIO_CONTINUE, &cont);

	(void)source;
	*moved = cont.mapped;
	return result;
}

/*
 * The kernel stops at the first page that it cannot resolve and then says EAGAIN with the count so
 * far if there was progress: the rest is asked for again, and only the answer to that is an error.
 */
static int resolve(const struct uffd *uffd, resolve_once once, void *address, const void *source,
		   size_t length, size_t *done)
{
	size_t total = 0;
	int result = 0;

	while (total < length) {
		int64_t moved = 0;

		if (!once(uffd->fd, (uint64_t)address + total, (uint64_t)source + total,
			  length - total, &moved)) {
			total = length;
			break;
		}
		result = -errno;
		if (result != -EAGAIN || moved <= 0)
			break;
		total += (size_t)moved;
		result = 0;
	}
	if (done)
		*done = total;
	return result;
}

int uffd_zero(const struct uffd *uffd, void *address, size_t length, size_t *done)
{
	return resolve(uffd, zero_once, address, NULL, length, done);
}

int uffd_copy(const struct uffd *uffd, void *address, const void *source, size_t length,
	      size_t *done)
{
	return resolve(uffd, copy_once, address, source, length, done);
}

int uffd_continue(const struct uffd *uffd, void *address, size_t length, size_t *done)
{
	return resolve(uffd, continue_once, address, NULL, length, done);
}

int uffd_wake(const struct uffd *uffd, void *address, size_t length)
{
	struct uffdio_range range = {(uint64_t)address, length};

	return ioctl(uffd->fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

static struct uffd_event translate(const struct uffd_msg *msg)
{
	struct uffd_event event = {.kind = UFFD_OTHER};

	if (msg->event == UFFD_EVENT_REMOVE) {
		event.kind = UFFD_REMOVED;
		event.start = msg->arg.remove.start;
		event.end = msg->arg.remove.end;
	} else if (msg->event == UFFD_EVENT_PAGEFAULT) {
		uint64_t flags = msg->arg.pagefault.flags;

		event.kind =
			flags & UFFD_PAGEFAULT_FLAG_MINOR ? UFFD_FAULT_MINOR : UFFD_FAULT_MISSING;
		event.start = msg->arg.pagefault.address;
	}
	return event;
}

int uffd_read_events(const struct uffd *uffd, struct uffd_event events[static UFFD_EVENTS_MAX],
		     size_t *count)
{
	struct uffd_msg messages[UFFD_EVENTS_MAX];
	ssize_t length = read(uffd->fd, messages, sizeof(messages));

	if (length < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	*count = length > 0 ? (size_t)length / sizeof(messages[0]) : 0;
	for (size_t i = 0; i < *count; i++)
		events[i] = translate(&messages[i]);
	return 0;
}
