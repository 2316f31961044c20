"""A small world outside for passt, which takes the guest's addresses from the host: a network namespace
with an interface that has a default route, and a DNS server. It leads nowhere; what the guest reaches is
the namespace's loopback, at the gateway's address."""
import ctypes
import os
import socket
import struct
import subprocess
import threading

import network

ADDRESS, GATEWAY, PREFIX = "10.9.0.2", "10.9.0.1", 24
CLONE_NEWNS = 0x20000


def enter(case):
    """The test's own thread, and what it starts, see this network alone."""
    case.need("passt", "passt")
    network.enter_namespace(case)
    for arguments in (["dummy"], ["veth", "peer", "name", "outside1"]):
        command = ["ip", "link", "add", "outside0", "type", *arguments]
        if not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            break
    else:
        case.skipTest("this kernel has neither dummy nor veth interfaces: modprobe dummy")
    network.run("ip", "address", "add", f"{ADDRESS}/{PREFIX}", "dev", "outside0")
    if arguments[0] == "veth":
        network.run("ip", "link", "set", "outside1", "up")
    network.run("ip", "link", "set", "outside0", "up")
    network.run("ip", "route", "add", "default", "via", GATEWAY)


def use_name_server(case, names):
    """/etc/resolv.conf names a server on loopback, which knows @names: {"a.test": "10.0.0.1"}."""
    path = case.make_file("resolv.conf", content=b"nameserver 127.0.0.1\n")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    case.addCleanup(os.close, before)
    if libc.unshare(CLONE_NEWNS):
        case.skipTest(f"no mount namespace is to be had here: {os.strerror(ctypes.get_errno())}")
    case.addCleanup(libc.setns, before, CLONE_NEWNS)
    network.run("mount", "--make-rprivate", "/")
    network.run("mount", "--bind", path, "/etc/resolv.conf")
    sock = case.enter(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 53))
    threading.Thread(target=_serve_names, args=(sock, names), daemon=True).start()


def _serve_names(sock, names):
    while True:
        try:
            query, sender = sock.recvfrom(512)
            sock.sendto(_answer(query, names), sender)
        except (OSError, IndexError, struct.error):
            if sock.fileno() < 0:
                return


def _answer(query, names):
    """RFC 1035: A records for @names; no such name for others; nothing of other types."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    question = query[12:at + 5]
    address = names.get(".".join(labels))
    kind = struct.unpack_from("!H", query, at + 1)[0]
    records = b""
    if address and kind == 1:
        records = struct.pack("!HHHIH", 0xc00c, 1, 1, 60, 4) + socket.inet_aton(address)
    flags = 0x8580 if address else 0x8583
    return query[:2] + struct.pack("!HHHHH", flags, 1, bool(records), 0, 0) + question + records


def free_port(kind=socket.SOCK_STREAM):
    """A port of loopback that nobody has."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
