"""A stock Linux guest behind passt: DHCP, DNS, TCP both ways, and asleep in the store."""
import contextlib
import os
import socket
import threading
import time
import unittest

import host
import outside
from case import MIB, LinuxCase

GUEST_PORT = 8080


class Sink:
    """A TCP server on loopback that greets and counts what it is sent."""

    def __init__(self, case):
        self.socket = case.enter(socket.create_server(("127.0.0.1", 0)))
        self.port = self.socket.getsockname()[1]
        self.bytes = 0
        self.seconds = 0
        self.done = threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                start = time.monotonic()
                connection.sendall(b"hello from the host\n")
                self.bytes = 0
                with contextlib.suppress(ConnectionError):
                    while data := connection.recv(1 << 18):
                        self.bytes += len(data)
                self.seconds = time.monotonic() - start
            self.done.release()


class Passt(LinuxCase):
    def setUp(self):
        super().setUp()
        outside.enter(self)
        outside.use_name_server(self, {"host.test": outside.GATEWAY})
        self.sink = Sink(self)
        self.port = outside.free_port()
        self.guest = self.linux("--net", f"user,forward={self.port}:{GUEST_PORT}")

    def sh(self, command, timeout=60):
        answer = self.guest.serial.command("sh " + command, timeout=timeout)
        self.assertEqual(answer["status"], 0, f"{command}: {answer['output']}")
        return answer["output"]

    def echo(self, payload):
        """Through the forwarded port to the guest's echo server and back."""
        with socket.create_connection(("127.0.0.1", self.port), 30 * host.SLOWNESS) as connection:
            threading.Thread(target=connection.sendall, args=(payload,), daemon=True).start()
            got = b""
            while len(got) < len(payload):
                data = connection.recv(1 << 18)
                self.assertTrue(data, f"the guest closed after {len(got)} bytes")
                got += data
        self.assertEqual(got, payload)

    def flood_loopback(self, count):
        with socket.create_connection(("127.0.0.1", self.sink.port)) as connection:
            for _ in range(count):
                connection.sendall(bytes(MIB))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(100):
                pass
        self.assertTrue(self.sink.done.acquire(timeout=30 * host.SLOWNESS))
        return self.sink.seconds

    def test_a_guest_lives_behind_passt(self):
        # An address, and the gateway's.
        self.sh("udhcpc -i eth0 -n -q -t 10")
        self.assertIn(f"inet {outside.ADDRESS}/{outside.PREFIX}", self.sh("ip address show eth0"))
        self.assertIn(f"default via {outside.GATEWAY}", self.sh("ip route"))

        # A name.
        self.assertIn(outside.GATEWAY, self.sh("nslookup -type=a host.test"))
        answer = self.guest.serial.command("sh nslookup -type=a nobody.test", timeout=60)
        self.assertIn("NXDOMAIN", answer["output"])

        # The host.
        self.assertIn("hello from the host", self.sh(f"nc {outside.GATEWAY} {self.sink.port} </dev/null"))
        self.sink.done.acquire(timeout=30 * host.SLOWNESS)
        count = host.size(512, 6)
        self.sh(f"dd if=/dev/zero bs=65536 count={count * 16} 2>/dev/null | "
                f"nc {outside.GATEWAY} {self.sink.port} >/dev/null", timeout=120)
        self.assertTrue(self.sink.done.acquire(timeout=30 * host.SLOWNESS))
        self.assertEqual(self.sink.bytes, count * MIB)
        seconds = self.sink.seconds
        self.assertGreater(seconds, 0)
        ratio = self.flood_loopback(count) / seconds
        print(f"\nthroughput to the host: {count / seconds:.0f} MiB/s, {ratio:.3f} of loopback's")

        # The guest, through the forwarded port.
        self.sh(f"(nc -ll -p {GUEST_PORT} -e cat </dev/null >/dev/null 2>&1 &)")
        self.sh(f"for i in 1 2 3 4 5 6 7 8 9; do netstat -ltn | grep -q :{GUEST_PORT} && exit 0; sleep 1; done; exit 1")
        self.echo(os.urandom(host.size(8, 1) * MIB))

        # The guest sleeps, answers, and what that takes is all that wakes.
        self.guest.swap("enable")
        self.guest.swap("out")
        before = self.guest.ctl("swap", "status")["pages_swapped"]
        self.echo(os.urandom(1000))
        after = self.guest.ctl("swap", "status")["pages_swapped"]
        print(f"pages out: {before}, after an answer {after}")
        self.assertGreater(before, 5000)
        self.assertLess(before - after, before // 3)
        self.assertEqual(self.guest.ctl("status")["nets"][0]["link_up"], True)


if __name__ == "__main__":
    unittest.main()
