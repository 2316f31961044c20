"""The host's side of a guest's network, for tests: a network namespace, tap interfaces, packets.

A namespace belongs to one test: the test's own thread enters it, and what it starts is inside too. It
is gone with the test, and nothing in it meets what runs beside it.
"""
import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import time

import host

CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
ETH_P_ALL = 3

# virtio-net's features (virtio 1.2, section 5.1.3).
CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MERGEABLE, EVENT_INDEX = (1 << bit for bit in (0, 1, 7, 11, 15, 29))
NEEDS_CSUM, GSO_TCPV4 = 1, 1


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout


def _call(result):
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def enter_namespace(case):
    """A network of the test's own."""
    case.need_root("a network namespace")
    case.need("ip", "iproute2")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    case.addCleanup(os.close, before)
    try:
        _call(libc.unshare(CLONE_NEWNET))
    except OSError as error:
        case.skipTest(f"no network namespace is to be had here: {error}")
    case.addCleanup(libc.setns, before, CLONE_NEWNET)
    run("ip", "link", "set", "lo", "up")


class Tap:
    """A tap interface with the address @host/24."""

    def __init__(self, case, name="tap0", address="10.0.0.1", mtu=1500):
        self.name, self.address = name, address
        if not os.path.exists("/dev/net/tun"):
            case.skipTest("there is no /dev/net/tun: modprobe tun")
        run("ip", "tuntap", "add", "dev", name, "mode", "tap")
        # The kernel's own packets would be counted among the test's.
        with contextlib.suppress(OSError), \
                open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")
        run("ip", "link", "set", name, "mtu", str(mtu), "up")
        run("ip", "address", "add", f"{address}/24", "dev", name)

    def statistics(self):
        """What the kernel has counted: {"tx": {"packets", "dropped", …}, "rx": …}, tx being to the guest."""
        return json.loads(run("ip", "-s", "-j", "link", "show", self.name))[0]["stats64"]

    def mac(self):
        return bytes.fromhex(json.loads(run("ip", "-j", "link", "show", self.name))[0]["address"].replace(":", ""))


def number(address):
    """10.0.0.2 as the bare guest wants it."""
    return "0x" + socket.inet_aton(address).hex()


def udp(case, address=None, timeout=5):
    """A socket with a time limit; the system chooses its port."""
    sock = case.enter(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((address or "", 0))
    sock.settimeout(timeout * host.SLOWNESS)
    return sock


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ping(address, payload=b"ebb" * 20, sequence=1, timeout=20):
    """One ICMP echo: seconds until the answer came, whose content is compared. None without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xffff, sequence)
        packet = head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:] + payload
        start = time.monotonic()
        sock.sendto(packet, (address, 0))
        deadline = start + timeout * host.SLOWNESS
        while select.select([sock], [], [], max(0, deadline - time.monotonic()))[0]:
            answer, (source, _) = sock.recvfrom(65536)
            icmp = answer[(answer[0] & 15) * 4:]
            if source == address and icmp[0] == 0 and icmp[4:8] == packet[4:8]:
                assert icmp[8:] == payload and checksum(icmp) == 0, "the answer differs from what was sent"
                return time.monotonic() - start
    return None


def packets(case, interface, vnet_header=False):
    """A packet socket on @interface; with a virtio_net_hdr before each frame if wanted."""
    sock = case.enter(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    if vnet_header:
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.bind((interface, ETH_P_ALL))
    sock.settimeout(5 * host.SLOWNESS)
    return sock


def tcp_frame(source_mac, target_mac, source, target, payload):
    """A frame with one (large) TCP segment whose checksum is to be made, and its virtio_net_hdr."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    length = 20 + len(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    pseudo = ~checksum(addresses + struct.pack("!HH", 6, length)) & 0xffff
    tcp = struct.pack("!HHIIBBHHH", 9, 9, 1, 1, 0x50, 0x10, 1000, pseudo, 0)
    frame = target_mac + source_mac + b"\x08\x00" + ip + tcp + payload
    header = struct.pack("<BBHHHH", NEEDS_CSUM, GSO_TCPV4, 54, 1448, 34, 16)
    return header + frame
