#include "devices/net_tap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/log.h"

#define TUN_PATH "/dev/net/tun"

#define FEATURE(bit) (1ull << (bit))

/* What the driver sends needs no leave of the tap: its kernel takes any offload. */
#define SENT_OFFLOADS                                                                              \
	(FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_TSO4) |                            \
	 FEATURE(VIRTIO_NET_F_HOST_TSO6) | FEATURE(VIRTIO_NET_F_HOST_ECN) |                        \
	 FEATURE(VIRTIO_NET_F_HOST_UFO))

struct net_tap {
	struct net_backend backend;
	char name[IFNAMSIZ];
};

/* What the driver receives is asked for by TUNSETOFFLOAD. */
static const struct offload {
	uint8_t feature;
	unsigned flag;
} offloads[] = {
	{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM}, {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
	{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6}, {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	{VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},
};

static int set_offloads(struct net_backend *backend, uint64_t features)
{
	unsigned long flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++) {
		if (features & FEATURE(offloads[i].feature))
			flags |= offloads[i].flag;
	}
	return ioctl(backend->fd, TUNSETOFFLOAD, flags) ? -errno : 0;
}

static ssize_t tap_receive(struct net_backend *backend, void *buffer)
{
	ssize_t size = read(backend->fd, buffer, NET_FRAME_MAX);

	if (size >= 0)
		return size;
	return errno == EINTR ? -EAGAIN : -errno;
}

static int tap_send(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
		    const struct iovec *frame, size_t count)
{
	struct iovec iov[NET_FRAME_PIECES_MAX + 1];

	assert(count <= NET_FRAME_PIECES_MAX);
	iov[0] = (struct iovec){(void *)(uintptr_t)header, sizeof(*header)};
	memcpy(iov + 1, frame, count * sizeof(*frame));
	if (writev(backend->fd, iov, (int)count + 1) >= 0)
		return 0;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return -EAGAIN;
	case EBADFD: /* the interface was deleted */
	case ENODEV:
		return -errno;
	default:
		/* The interface is down, memory is short, the frame is not to the kernel's taste. */
		return 0;
	}
}

static void tap_destroy(struct net_backend *backend)
{
	struct net_tap *tap = container_of(backend, struct net_tap, backend);

	close(backend->fd);
	free(tap);
}

static const struct net_backend_ops tap_ops = {
	.name = "tap",
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = set_offloads,
	.destroy = tap_destroy,
};

static int say_open_failed(int errnum, struct error *err)
{
	switch (errnum) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return error_say(err, errnum,
				 "%s: not there, so this host has no tap interfaces; load the "
				 "kernel's module as root: modprobe tun",
				 TUN_PATH);
	case EACCES:
	case EPERM:
		return error_say(err, errnum,
				 "%s: no right to open it; give it to all as root (interfaces keep "
				 "their own rights): chmod 0666 %s",
				 TUN_PATH, TUN_PATH);
	default:
		return error_errno(err, errnum, "%s: open", TUN_PATH);
	}
}

static int say_missing(const char *name, struct error *err)
{
	return error_say(
		err, ENODEV,
		"tap %s: there is no such interface; make it as root: ip tuntap add dev %s "
		"mode tap user $USER && ip link set %s up",
		name, name, name);
}

static int say_attach_failed(const char *name, int errnum, struct error *err)
{
	switch (errnum) {
	case EPERM:
		return error_say(err, errnum,
				 "tap %s: it belongs to somebody else; make it anew as root: ip "
				 "link del %s; ip tuntap add dev %s mode tap user $USER",
				 name, name, name);
	case EBUSY:
		return error_say(err, errnum,
				 "tap %s: another program uses it, perhaps another machine; give "
				 "each machine a tap of its own: ip tuntap add dev NAME mode tap "
				 "user $USER",
				 name);
	case EINVAL:
		return error_say(
			err, errnum,
			"tap %s: this interface is no tap (ip -d link show %s tells what it "
			"is); make one: ip tuntap add dev NAME mode tap user $USER",
			name, name);
	default:
		return error_errno(err, errnum, "tap %s: attach to the interface", name);
	}
}

static int attach(struct net_tap *tap, struct error *err)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int result;

	/* TUNSETIFF would make one, which nobody has set up. */
	if (!if_nametoindex(tap->name))
		return say_missing(tap->name, err);
	memcpy(request.ifr_name, tap->name, sizeof(tap->name));
	result = ioctl(tap->backend.fd, TUNSETIFF, &request);
	if (result && errno == EINVAL) {
		/* One that was made for several queues. */
		request.ifr_flags |= IFF_MULTI_QUEUE;
		result = ioctl(tap->backend.fd, TUNSETIFF, &request);
	}
	return result ? say_attach_failed(tap->name, errno, err) : 0;
}

/* Headers as the device wants them; no offloads until a driver asks for them. */
static int configure(struct net_tap *tap, struct error *err)
{
	int fd = tap->backend.fd;
	int header_size = sizeof(struct virtio_net_hdr_v1);
	int little_endian = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &header_size))
		return error_errno(err, errno, "tap %s: set the header's size", tap->name);
	ioctl(fd, TUNSETVNETLE, &little_endian); /* as the host is anyway */
	tap->backend.offloads = SENT_OFFLOADS;
	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++) {
		uint64_t feature = FEATURE(offloads[i].feature);

		/* Kernels differ in what they have. */
		if (!set_offloads(&tap->backend, tap->backend.offloads | feature))
			tap->backend.offloads |= feature;
	}
	if (set_offloads(&tap->backend, 0))
		return error_errno(err, errno, "tap %s: switch offloads off", tap->name);
	return 0;
}

/* The interface's MTU, and a word if it is down. */
static void look_at_interface(struct net_tap *tap)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};

	if (fd < 0)
		return;
	memcpy(request.ifr_name, tap->name, sizeof(tap->name));
	if (!ioctl(fd, SIOCGIFMTU, &request) && request.ifr_mtu > 0 &&
	    request.ifr_mtu <= UINT16_MAX)
		tap->backend.mtu = (uint16_t)request.ifr_mtu;
	memcpy(request.ifr_name, tap->name, sizeof(tap->name));
	if (!ioctl(fd, SIOCGIFFLAGS, &request) && !(request.ifr_flags & IFF_UP))
		log_warning(
			"tap %s: the interface is down, so nothing gets through; as root: ip link "
			"set %s up",
			tap->name, tap->name);
	close(fd);
}

int net_tap_create(const char *name, struct net_backend **out, struct error *err)
{
	struct net_tap *tap;
	int result;

	if (strlen(name) >= sizeof(tap->name))
		return error_say(err, EINVAL,
				 "tap %.80s: an interface's name has at most %d "
				 "characters",
				 name, IFNAMSIZ - 1);
	tap = calloc(1, sizeof(*tap));
	if (!tap)
		return error_errno(err, ENOMEM, "tap %s", name);
	memcpy(tap->name, name, strlen(name) + 1);
	tap->backend.ops = &tap_ops;
	tap->backend.fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->backend.fd < 0) {
		result = say_open_failed(errno, err);
		goto free_tap;
	}
	result = attach(tap, err);
	if (!result)
		result = configure(tap, err);
	if (result)
		goto close_fd;
	look_at_interface(tap);
	*out = &tap->backend;
	return 0;

close_fd:
	close(tap->backend.fd);
free_tap:
	free(tap);
	return result;
}
