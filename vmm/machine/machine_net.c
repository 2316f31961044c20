#include "devices/net_tap.h"
#include "devices/virtio_net.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/machine/machine_internal.h"
#include "vmm/machine/net_user.h"

/* FNV-1a: the same text gives the same number on every host and in every version. */
static uint64_t hash(const char *text, uint64_t seed)
{
	uint64_t value = 0xcbf29ce484222325ull ^ seed;

	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * 0x100000001b3ull;
	return value;
}

/*
 * The address that was given; or one that the VM's name and the card's place make, so that the guest
 * and the network know it again: locally administered, of one card.
 */
static void choose_mac(const struct vm_config *config, size_t index, uint8_t *mac)
{
	static const uint8_t none[VIRTIO_NET_MAC_BYTES];
	uint64_t number;

	if (memcmp(config->nets[index].mac, none, sizeof(none)) != 0) {
		memcpy(mac, config->nets[index].mac, VIRTIO_NET_MAC_BYTES);
		return;
	}
	number = hash(config->name, index);
	number ^= number >> 32;
	for (size_t i = 0; i < VIRTIO_NET_MAC_BYTES; i++)
		mac[i] = (uint8_t)(number >> (8 * i));
	mac[0] = (uint8_t)((mac[0] & 0xfcu) | 0x02u);
}

static int open_backend(const struct net_config *config, struct net_backend **out,
			struct error *err)
{
	switch (config->kind) {
	case NET_TAP:
		return net_tap_create(config->interface, out, err);
	case NET_USER:
		return net_user_open(config, out, err);
	}
	assert(false);
	return -EINVAL;
}

int machine_net_create(struct machine *machine, const struct vm_config *config, size_t index,
		       struct virtio_device **out, struct error *err)
{
	struct machine_devices *devices = &machine->devices;
	struct machine_net *net = &devices->nets[index];
	struct net_backend *backend = NULL;
	int result = open_backend(&config->nets[index], &backend, err);

	if (result)
		return result;
	choose_mac(config, index, net->mac);
	result = virtio_net_create(machine->memory, devices->io_loop, backend, net->mac, out);
	if (result) {
		net_backend_destroy(backend);
		return error_errno(err, -result, "create a network card");
	}
	net->device = *out;
	net->backend = backend->ops->name;
	return 0;
}

void machine_net_get_status(const struct machine *machine, struct machine_status *status)
{
	const struct machine_devices *devices = &machine->devices;

	status->net_count = devices->net_count;
	for (size_t i = 0; i < devices->net_count; i++) {
		const struct machine_net *net = &devices->nets[i];
		struct machine_net_status *to = &status->nets[i];
		struct virtio_net_counters counters;

		virtio_net_get_counters(net->device, &counters);
		*to = (struct machine_net_status){
			.backend = net->backend,
			.link_up = counters.link_up,
			.rx_frames = counters.rx_frames,
			.rx_bytes = counters.rx_bytes,
			.rx_dropped = counters.rx_dropped,
			.tx_frames = counters.tx_frames,
			.tx_bytes = counters.tx_bytes,
			.tx_dropped = counters.tx_dropped,
		};
		memcpy(to->mac, net->mac, sizeof(to->mac));
	}
}
