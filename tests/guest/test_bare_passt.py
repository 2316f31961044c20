"""The bare guest's network card behind passt itself."""
import contextlib
import os
import shutil
import signal
import socket
import time
import unittest

import host
import network
import outside
from case import BareCase
from disks import poll
from net_case import NetCase

ECHO, DISCARD = 7, 9


def children(pid):
    """Processes that any thread of @pid has started."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class PasstCase(NetCase):
    address = outside.ADDRESS

    def setUp(self):
        super().setUp()
        outside.enter(self)

    def start(self, *options, **arguments):
        self.echo_port = outside.free_port(socket.SOCK_DGRAM)
        self.discard_port = outside.free_port(socket.SOCK_DGRAM)
        guest = self.bare("--net", f"user,forward-udp={self.echo_port}:{ECHO},"
                          f"forward-udp={self.discard_port}:{DISCARD}", *options, **arguments)
        self.passt, = children(guest.pid)
        return guest

    def talk(self, *sizes):
        """Datagrams through the forwarded port to the guest's echo and back; lost ones are sent again."""
        sock = self.enter(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.connect(("127.0.0.1", self.echo_port))
        sock.settimeout(0.5)
        for size in sizes:
            payload = os.urandom(size)
            deadline = time.monotonic() + 20 * host.SLOWNESS
            while True:
                self.assertLess(time.monotonic(), deadline, f"{size} bytes are not answered")
                sock.send(payload)
                with contextlib.suppress(TimeoutError):
                    if sock.recv(65536) == payload:
                        break


class PasstTraffic(PasstCase):
    def test_forwarded_datagrams_are_answered(self):
        guest = self.start()
        served = self.serve(guest)
        self.talk(1, 100, 1472, 9000, 40000)
        counts = self.end(guest, served)
        self.assertGreaterEqual(counts["echoed"], 5)
        self.assertGreater(counts["merged"], 0)
        card = self.card(guest)
        self.assertEqual((card["backend"], card["link_up"], card["tx_dropped"]), ("passt", True, 0))
        self.assertEqual(guest.serial.command("net info 0")["mtu"], 65520)

    def test_the_guest_reaches_the_hosts_loopback_at_the_gateway(self):
        guest = self.start()
        sock = self.enter(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5 * host.SLOWNESS)
        answer = guest.serial.command(
            f"net send 0 {network.number(outside.ADDRESS)} {network.number(outside.GATEWAY)} "
            f"{sock.getsockname()[1]} 20 5000")
        self.assertEqual(answer["sent"], 20)
        for sequence in range(20):
            data = sock.recv(65536)
            self.assertEqual(data[:4], sequence.to_bytes(4, "big"))
            self.assertEqual(data[4:], bytes((sequence + i) & 255 for i in range(4, 5000)))

    def test_a_flood_leaves_the_stream_in_order(self):
        guest = self.start()
        served = self.serve(guest)
        self.talk(10)
        sock = self.enter(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.connect(("127.0.0.1", self.discard_port))
        for size in (60, 1400, 60000):
            for _ in range(2000):
                sock.send(bytes(size))
        self.talk(10, 20000)
        counts = self.end(guest, served)
        self.assertGreater(counts["discarded"], 0)
        self.assertTrue(self.card(guest)["link_up"])

    def test_a_packet_wakes_only_what_it_needs(self):
        guest = self.start()
        guest.serial.command("fillall 31", timeout=60)
        served = self.serve(guest)
        self.talk(100)
        guest.swap("enable")
        guest.swap("out")
        before = guest.ctl("swap", "status")["pages_swapped"]
        self.assertGreater(before, 25000)
        self.talk(1400)
        self.assertLess(before - guest.ctl("swap", "status")["pages_swapped"], 300)
        self.end(guest, served)
        guest.serial.command("verifyall 31", timeout=60)

    def test_two_cards_have_a_passt_each(self):
        guest = self.bare("--net", "user", "--net", "user", swap=False)
        self.assertEqual(guest.serial.command("net list")["cards"], 2)
        self.assertEqual(len(children(guest.pid)), 2)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)


class PasstEnd(PasstCase):
    def test_passt_ends_with_the_machine(self):
        guest = self.start(swap=False)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assertTrue(ended(self.passt))
        self.assertNotIn(b"passt", guest.errors)

    def test_passt_ends_when_ebb_is_killed(self):
        guest = self.start(swap=False)
        guest.signal(signal.SIGKILL)
        guest.wait()
        poll(self, lambda: ended(self.passt), "passt ends")

    def test_passt_that_hangs_is_killed(self):
        # Root's becomes another user, whom a root without capabilities cannot kill: it is to stay who it was.
        wrapper = self.make_file("passt", content=f'#!/bin/sh\nexec {shutil.which("passt")} --runas 0 "$@"\n'.encode())
        os.chmod(wrapper, 0o755)
        path = {"PATH": f"{self.directory}:{os.environ['PATH']}"} if host.is_root() else {}
        guest = self.start(swap=False, environment=path)
        os.kill(self.passt, signal.SIGSTOP)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assertTrue(ended(self.passt))

    def test_the_machine_outlives_passt(self):
        guest = self.start()
        served = self.serve(guest)
        self.talk(10)
        os.kill(self.passt, signal.SIGKILL)
        guest.expect_error(r"passt was ended by signal 9")
        guest.expect_error(r"link is down")
        self.end(guest, served)
        self.assertEqual(guest.serial.command("net info 0")["link"], 0)
        self.assertFalse(self.card(guest)["link_up"])
        self.assertTrue(ended(self.passt))
        guest.serial.command("fillall 32", timeout=60)
        guest.swap("enable")
        guest.swap("out")
        guest.serial.command("verifyall 32", timeout=60)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def test_a_guest_reset_keeps_passt(self):
        guest = self.start(swap=False)
        self.serve(guest)
        self.talk(10)
        start = len(guest.serial.text)
        guest.ctl("reset")
        guest.serial.ready(start=start)
        served = self.serve(guest)
        self.talk(10)
        self.end(guest, served)
        self.assertEqual(children(guest.pid), [self.passt])


class PasstBadInput(BareCase):
    def refused(self, option, pattern, path=None):
        environment = [] if path is None else ["env", f"PATH={path}"]
        status, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--net", option,
                                         prefix=environment)
        self.assertEqual(status, 1)
        self.assertRegex(errors, pattern)
        self.assertEqual(errors.count("\n"), 1)
        self.assert_nothing_left()

    def test_missing_passt_is_named_with_its_package(self):
        self.refused("user", "apt-get install passt", path="/nowhere")

    def test_a_port_in_use_is_named(self):
        outside.enter(self)
        for kind, option in ((socket.SOCK_STREAM, "forward"), (socket.SOCK_DGRAM, "forward-udp")):
            sock = self.enter(socket.socket(socket.AF_INET, kind))
            sock.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            port = sock.getsockname()[1]
            self.refused(f"user,{option}={port}:80",
                         f"port {port} of 127.0.0.1 .*choose another in {option}={port}:80: Address already in use")

    def test_a_host_without_a_route_is_told_what_is_missing(self):
        self.need("passt", "passt")
        network.enter_namespace(self)
        self.refused("user", "default route")


if __name__ == "__main__":
    unittest.main()
