#include "net.h"

#include "runtime.h"
#include "virtio.h"

#define FEATURE_CSUM      0
#define FEATURE_MTU       3
#define FEATURE_MAC       5
#define FEATURE_HOST_TSO4 11
#define FEATURE_MRG_RXBUF 15
#define FEATURE_STATUS    16

#define RX 0
#define TX 1

#define HEADER_NEEDS_CSUM 1
#define GSO_TCPV4         1

#define CARDS_MAX   2
#define BUFFER_SIZE 2048u
#define FRAME_MAX   (65536u + 64u)
#define MSS         1448u

#define TYPE_IPV4     0x0800
#define TYPE_ARP      0x0806
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP  6
#define PROTOCOL_UDP  17
#define PORT_ECHO     7
#define PORT_DISCARD  9

/* Where things are in a frame. All numbers in it are big-endian. */
#define IP_START   14u
#define DATA_START (IP_START + 20u)
#define UDP_HEADER 8u
#define TCP_HEADER 20u

#define TIMEOUT_CYCLES (1ull << 35)

struct net_header {
	uint8_t flags, gso_type;
	uint16_t header_length, gso_size, csum_start, csum_offset, buffers;
};

struct counts {
	uint64_t frames, bytes, largest, merged, partial, arp, icmp, echoed, discarded, tcp_bytes,
		bad, other;
};

struct card {
	struct virtio device;
	uint8_t mac[6];
	uint32_t address;
	bool peer_known; /* @peer_mac is of whom we asked for */
	uint8_t peer_mac[6];
	uint32_t peer;
	struct counts counts;
	uint8_t buffers[VIRTQ_SIZE][BUFFER_SIZE];
};

struct packet {
	struct net_header header;
	uint8_t frame[FRAME_MAX];
} __attribute__((packed));

static struct card cards[CARDS_MAX];
static unsigned card_count;
static struct packet in, out;

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint64_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint64_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

/* The ones' complement sum (RFC 1071) of @length bytes on top of @sum. */
static uint64_t add_up(uint64_t sum, const uint8_t *data, uint32_t length)
{
	for (; length >= 2; data += 2, length -= 2)
		sum += get16(data);
	return length ? sum + (uint64_t)(*data << 8) : sum;
}

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Of the pseudo header in front of TCP and UDP, from the IPv4 header at @ip. */
static uint64_t pseudo_sum(const uint8_t *ip, uint32_t length)
{
	return add_up(0, ip + 12, 8) + ip[9] + length;
}

static unsigned queue_count(uint64_t features)
{
	(void)features;
	return 2;
}

static void offer_buffer(struct card *card, uint16_t index)
{
	card->device.queues[RX]->desc[index] = (struct virtq_desc){
		(uint64_t)card->buffers[index], BUFFER_SIZE, VIRTQ_DESC_WRITE, 0};
	virtio_offer(&card->device, RX, index);
}

static const char *start(struct card *card, uint64_t base, uint64_t features)
{
	const char *problem = virtio_start(&card->device, base,
					   features | 1ull << FEATURE_MAC | 1ull << FEATURE_STATUS |
						   1ull << FEATURE_MTU,
					   queue_count);

	if (problem)
		return problem;
	for (unsigned i = 0; i < sizeof(card->mac); i++)
		card->mac[i] = mmio_read8(base + VIRTIO_CONFIG + i);
	card->peer_known = false;
	for (uint16_t i = 0; i < VIRTQ_SIZE; i++)
		offer_buffer(card, i);
	virtio_notify(&card->device, RX);
	return NULL;
}

const char *net_start(uint64_t base)
{
	const char *problem;

	if (card_count == CARDS_MAX)
		return "too many cards";
	problem = start(&cards[card_count], base,
			1ull << FEATURE_MRG_RXBUF | 1ull << VIRTIO_FEATURE_EVENT_INDEX);
	if (!problem)
		card_count++;
	return problem;
}

static struct card *find(uint64_t number)
{
	if (number < card_count)
		return &cards[number];
	answer_fail("no such card");
	return NULL;
}

/* The next frame, gathered into @in: its length, or 0 if there is none. */
static uint32_t receive(struct card *card)
{
	uint32_t total = 0;
	unsigned left = 1;

	for (unsigned part = 0; part < left; part++) {
		uint64_t begin = rdtsc();
		uint32_t length;
		uint16_t head;

		while (!virtio_take(&card->device, RX, &head, &length))
			if (!part || rdtsc() - begin > TIMEOUT_CYCLES)
				return 0;
		if (head >= VIRTQ_SIZE || length > BUFFER_SIZE || total + length > sizeof(in)) {
			card->counts.bad++;
			return 0;
		}
		memcpy((uint8_t *)&in + total, card->buffers[head], length);
		total += length;
		offer_buffer(card, head);
		if (!part)
			left = in.header.buffers;
	}
	virtio_notify(&card->device, RX);
	if (total < sizeof(in.header) + IP_START) {
		card->counts.bad++;
		return 0;
	}
	card->counts.merged += left > 1;
	return total - (uint32_t)sizeof(in.header);
}

/* Sends @length bytes of @out.frame with the header that is there. NULL, or why not. */
static const char *transmit(struct card *card, uint32_t length)
{
	card->device.queues[TX]->desc[0] =
		(struct virtq_desc){(uint64_t)&out, (uint32_t)sizeof(out.header) + length, 0, 0};
	return virtio_request(&card->device, TX, 1, NULL);
}

static void put_ethernet(const struct card *card, const uint8_t *to, uint16_t type)
{
	memset(&out.header, 0, sizeof(out.header));
	memcpy(out.frame, to, 6);
	memcpy(out.frame + 6, card->mac, 6);
	put16(out.frame + 12, type);
}

static void put_ip(const struct card *card, uint32_t to, uint8_t protocol, uint32_t data_length)
{
	uint8_t *ip = out.frame + IP_START;

	memset(ip, 0, DATA_START - IP_START);
	ip[0] = 0x45;
	put16(ip + 2, DATA_START - IP_START + data_length);
	put16(ip + 6, 0x4000); /* not to be fragmented */
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, card->address);
	put32(ip + 16, to);
	put16(ip + 10, (uint16_t)~fold(add_up(0, ip, DATA_START - IP_START)));
}

/* Of TCP or UDP at DATA_START, @offset into it: by the device if it can. */
static void put_checksum(const struct card *card, uint32_t length, uint16_t offset)
{
	uint8_t *data = out.frame + DATA_START;
	uint64_t pseudo = pseudo_sum(out.frame + IP_START, length);
	uint16_t sum;

	put16(data + offset, 0);
	if (virtio_has(&card->device, FEATURE_CSUM)) {
		out.header.flags = HEADER_NEEDS_CSUM;
		out.header.csum_start = DATA_START;
		out.header.csum_offset = offset;
		put16(data + offset, fold(pseudo));
		return;
	}
	sum = (uint16_t)~fold(add_up(pseudo, data, length));
	put16(data + offset, sum ? sum : 0xffff);
}

static void put_arp(const struct card *card, const uint8_t *to, uint16_t operation,
		    const uint8_t *target_mac, uint32_t target)
{
	uint8_t *arp = out.frame + IP_START;

	put_ethernet(card, to, TYPE_ARP);
	put32(arp, 0x00010800);
	put32(arp + 4, 0x06040000u | operation);
	memcpy(arp + 8, card->mac, 6);
	put32(arp + 14, card->address);
	memcpy(arp + 18, target_mac, 6);
	put32(arp + 24, target);
}

static void handle_arp(struct card *card, uint32_t length)
{
	const uint8_t *arp = in.frame + IP_START;

	if (length < IP_START + 28 || get32(arp) != 0x00010800) {
		card->counts.bad++;
		return;
	}
	card->counts.arp++;
	if (get32(arp + 24) != card->address)
		return;
	if (get16(arp + 6) == 1) {
		put_arp(card, arp + 8, 2, arp + 8, get32(arp + 14));
		transmit(card, IP_START + 28);
	} else if (get32(arp + 14) == card->peer) {
		memcpy(card->peer_mac, arp + 8, 6);
		card->peer_known = true;
	}
}

/* Begins the answer to the packet in @in, with @length bytes of data like it. */
static void begin_answer(const struct card *card, uint8_t protocol, uint32_t length)
{
	put_ethernet(card, in.frame + 6, TYPE_IPV4);
	put_ip(card, get32(in.frame + IP_START + 12), protocol, length);
	memcpy(out.frame + DATA_START, in.frame + DATA_START, length);
}

static void handle_icmp(struct card *card, uint32_t length)
{
	uint8_t *answer = out.frame + DATA_START;

	if (length < 8 || fold(add_up(0, in.frame + DATA_START, length)) != 0xffff) {
		card->counts.bad++;
		return;
	}
	if (in.frame[DATA_START] != 8) {
		card->counts.other++;
		return;
	}
	card->counts.icmp++;
	begin_answer(card, PROTOCOL_ICMP, length);
	answer[0] = 0;
	put16(answer + 2, 0);
	put16(answer + 2, (uint16_t)~fold(add_up(0, answer, length)));
	transmit(card, DATA_START + length);
}

/* The sum of TCP or UDP; one that is not made yet has no say. */
static bool sum_is_right(struct card *card, uint32_t length)
{
	uint64_t pseudo = pseudo_sum(in.frame + IP_START, length);

	if (in.header.flags & HEADER_NEEDS_CSUM) {
		card->counts.partial++;
		return true;
	}
	return fold(add_up(pseudo, in.frame + DATA_START, length)) == 0xffff;
}

static void handle_udp(struct card *card, uint32_t length)
{
	const uint8_t *udp = in.frame + DATA_START;
	uint8_t *answer = out.frame + DATA_START;
	/* Datagrams may come without (RFC 768), as from a stack whose frames never leave the host. */
	bool no_sum = length >= UDP_HEADER && !get16(udp + 6);

	if (length < UDP_HEADER || get16(udp + 4) != length ||
	    (!no_sum && !sum_is_right(card, length))) {
		card->counts.bad++;
		return;
	}
	if (get16(udp + 2) == PORT_DISCARD) {
		card->counts.discarded++;
	} else if (get16(udp + 2) == PORT_ECHO) {
		card->counts.echoed++;
		begin_answer(card, PROTOCOL_UDP, length);
		put16(answer, PORT_ECHO);
		put16(answer + 2, get16(udp));
		put_checksum(card, length, 6);
		transmit(card, DATA_START + length);
	} else {
		card->counts.other++;
	}
}

static void handle_tcp(struct card *card, uint32_t length)
{
	if (length < TCP_HEADER || !sum_is_right(card, length))
		card->counts.bad++;
	else
		card->counts.tcp_bytes += length - TCP_HEADER;
}

static void handle_ip(struct card *card, uint32_t frame_length)
{
	const uint8_t *ip = in.frame + IP_START;
	uint32_t length = frame_length - IP_START;
	uint32_t total;

	if (length < 20 || ip[0] != 0x45 || fold(add_up(0, ip, 20)) != 0xffff) {
		card->counts.bad++;
		return;
	}
	total = get16(ip + 2);
	if (total < 20 || total > length) {
		card->counts.bad++;
		return;
	}
	if (get32(ip + 16) != card->address || get16(ip + 6) & 0x3fff) {
		card->counts.other++;
		return;
	}
	switch (ip[9]) {
	case PROTOCOL_ICMP:
		handle_icmp(card, total - 20);
		break;
	case PROTOCOL_UDP:
		handle_udp(card, total - 20);
		break;
	case PROTOCOL_TCP:
		handle_tcp(card, total - 20);
		break;
	default:
		card->counts.other++;
		break;
	}
}

/* True if there was a frame. */
static bool serve_one(struct card *card)
{
	uint32_t length = receive(card);

	if (!length)
		return false;
	card->counts.frames++;
	card->counts.bytes += length;
	if (length > card->counts.largest)
		card->counts.largest = length;
	if (get16(in.frame + 12) == TYPE_ARP)
		handle_arp(card, length);
	else if (get16(in.frame + 12) == TYPE_IPV4)
		handle_ip(card, length);
	else
		card->counts.other++;
	return true;
}

void net_command_list(const uint64_t *arguments)
{
	(void)arguments;
	answer_ok("cards=%u", (uint64_t)card_count);
}

void net_command_info(const uint64_t *arguments)
{
	struct card *card = find(arguments[0]);
	uint64_t config, mac = 0;

	if (!card)
		return;
	config = card->device.base + VIRTIO_CONFIG;
	for (unsigned i = 0; i < sizeof(card->mac); i++)
		mac = mac << 8 | card->mac[i];
	answer_ok("mac=%x link=%u mtu=%u features=%x offered=%x", mac,
		  (uint64_t)(mmio_read8(config + 6) & 1),
		  (uint64_t)(mmio_read8(config + 10) | mmio_read8(config + 11) << 8),
		  card->device.features, virtio_offered(card->device.base));
}

void net_command_features(const uint64_t *arguments)
{
	struct card *card = find(arguments[0]);
	const char *problem;

	if (!card)
		return;
	problem = start(card, card->device.base, arguments[1]);
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("features=%x", card->device.features);
}

void net_command_serve(const uint64_t *arguments)
{
	struct card *card = find(arguments[0]);
	const struct counts *c;
	unsigned idle = 0;

	if (!card)
		return;
	c = &card->counts;
	card->counts = (struct counts){0};
	card->address = (uint32_t)arguments[1];
	print("serving\r\n");
	/* Asking the serial line leaves the guest, so it is not asked often. */
	for (unsigned turn = 0; turn % 256 || !serial_has_input(); turn++)
		if (!serve_one(card))
			for (idle = 0; idle < 100; idle++)
				cpu_pause();
	answer_ok("frames=%u bytes=%u largest=%u merged=%u partial=%u arp=%u icmp=%u echoed=%u "
		  "discarded=%u tcp_bytes=%u bad=%u other=%u",
		  c->frames, c->bytes, c->largest, c->merged, c->partial, c->arp, c->icmp,
		  c->echoed, c->discarded, c->tcp_bytes, c->bad, c->other);
}

/* Finds out @to's address on the wire. NULL, or why not. */
static const char *resolve(struct card *card, uint32_t to)
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nobody[6];

	card->peer = to;
	card->peer_known = false;
	for (unsigned tries = 0; tries < 10; tries++) {
		uint64_t begin = rdtsc();
		const char *problem;

		put_arp(card, everybody, 1, nobody, to);
		problem = transmit(card, IP_START + 28);
		if (problem)
			return problem;
		while (rdtsc() - begin < TIMEOUT_CYCLES / 10) {
			serve_one(card);
			if (card->peer_known)
				return NULL;
		}
	}
	return "no answer to ARP";
}

/* The card of @arguments with its address set and the peer's found out; NULL: answered. */
static struct card *reach(const uint64_t *arguments)
{
	struct card *card = find(arguments[0]);
	const char *problem;

	if (!card)
		return NULL;
	card->address = (uint32_t)arguments[1];
	problem = resolve(card, (uint32_t)arguments[2]);
	if (!problem)
		return card;
	answer_fail("%s", problem);
	return NULL;
}

void net_command_send(const uint64_t *arguments)
{
	struct card *card = reach(arguments);
	uint64_t port = arguments[3], count = arguments[4], size = arguments[5];
	uint8_t *udp = out.frame + DATA_START;
	const char *problem = NULL;

	if (!card)
		return;
	if (size < 4 || size > 60000) {
		answer_fail("a size from 4 to 60000");
		return;
	}
	for (uint64_t number = 0; number < count && !problem; number++) {
		uint32_t length = UDP_HEADER + (uint32_t)size;

		put_ethernet(card, card->peer_mac, TYPE_IPV4);
		put_ip(card, card->peer, PROTOCOL_UDP, length);
		put16(udp, PORT_DISCARD);
		put16(udp + 2, port);
		put16(udp + 4, length);
		put32(udp + UDP_HEADER, number);
		for (uint32_t i = 4; i < size; i++)
			udp[UDP_HEADER + i] = (uint8_t)(number + i);
		put_checksum(card, length, 6);
		problem = transmit(card, DATA_START + length);
	}
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("sent=%u", count);
}

void net_command_segment(const uint64_t *arguments)
{
	struct card *card = reach(arguments);
	uint64_t size = arguments[3];
	uint8_t *tcp = out.frame + DATA_START;
	const char *problem;

	if (!card)
		return;
	if (size > 60000 || !virtio_has(&card->device, FEATURE_HOST_TSO4)) {
		answer_fail("up to 60000 bytes, with the features CSUM and HOST_TSO4");
		return;
	}
	put_ethernet(card, card->peer_mac, TYPE_IPV4);
	put_ip(card, card->peer, PROTOCOL_TCP, TCP_HEADER + (uint32_t)size);
	memset(tcp, 0, TCP_HEADER);
	put16(tcp, PORT_DISCARD);
	put16(tcp + 2, PORT_DISCARD);
	tcp[12] = 0x50;
	tcp[13] = 0x10;
	for (uint32_t i = 0; i < size; i++)
		tcp[TCP_HEADER + i] = (uint8_t)(i * 7 + (i >> 8));
	put_checksum(card, TCP_HEADER + (uint32_t)size, 16);
	out.header.gso_type = GSO_TCPV4;
	out.header.gso_size = MSS;
	out.header.header_length = DATA_START + TCP_HEADER;
	problem = transmit(card, DATA_START + TCP_HEADER + (uint32_t)size);
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("");
}
