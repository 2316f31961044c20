"""A stock Linux guest's network on a tap interface: both ways, offloads, swapped out."""
import hashlib
import os
import socket
import threading
import time
import unittest

import host
import network
from case import MIB, LinuxCase
from network import Tap, ping

GUEST, HOST = "10.0.0.2", "10.0.0.1"


def receive_all(sock):
    """Everything until the other side's end: its size and digest."""
    digest, total = hashlib.sha256(), 0
    while True:
        data = sock.recv(1 << 18)
        if not data:
            return total, digest.hexdigest()
        digest.update(data)
        total += len(data)


class Taps(LinuxCase):
    def setUp(self):
        super().setUp()
        network.enter_namespace(self)
        self.tap = Tap(self)

    def start(self, *options, **arguments):
        """A guest whose card has its address."""
        guest = self.linux("--net", "tap=tap0", *options, **arguments)
        self.sh(guest, f"ip address add {GUEST}/24 dev eth0 && ip link set eth0 up")
        return guest

    def sh(self, guest, command, timeout=60):
        answer = guest.serial.command(f"sh {command}", timeout)
        self.assertEqual(answer["status"], 0, answer["output"])
        return answer["output"].replace("\\n", "\n").strip()

    def card(self, guest):
        return guest.ctl("status")["nets"][0]

    def listener(self):
        sock = self.enter(socket.create_server((HOST, 0)))
        sock.settimeout(60 * host.SLOWNESS)
        return sock

    def connect(self, port):
        """To the guest's listener, which may need a moment."""
        deadline = time.monotonic() + 30 * host.SLOWNESS
        while True:
            try:
                return self.enter(socket.create_connection((GUEST, port), 60 * host.SLOWNESS))
            except ConnectionRefusedError:
                self.assertLess(time.monotonic(), deadline, "the guest does not listen")
                time.sleep(0.1)

    def loopback_rate(self, data):
        """Bytes a second through the host's own loopback, sent and received as with the guest."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            def send():
                with socket.create_connection(server.getsockname()) as client:
                    client.sendall(data)

            start = time.monotonic()
            thread = threading.Thread(target=send)
            thread.start()
            with server.accept()[0] as sock:
                self.assertEqual(receive_all(sock)[0], len(data))
            thread.join()
            return len(data) / (time.monotonic() - start)


class Traffic(Taps):
    def test_ping_and_tcp_both_ways(self):
        guest = self.start()
        self.assertIsNotNone(ping(GUEST, os.urandom(1400)))
        self.sh(guest, f"ping -c 3 {HOST}")
        features = self.sh(guest, "cat /sys/class/net/eth0/device/features")
        for bit in (network.CSUM, network.GUEST_CSUM, network.GUEST_TSO4, network.HOST_TSO4, network.MERGEABLE):
            self.assertEqual(features[bit.bit_length() - 1], "1", f"feature {bit:#x} in {features}")

        data = os.urandom(MIB) * host.size(64, 16)
        digest = hashlib.sha256(data).hexdigest()
        reference = self.loopback_rate(data)

        # Into the guest.
        before = self.card(guest)
        begun = guest.serial.begin("sh nc -l -p 5000 | sha256sum")
        sock = self.connect(5000)
        start = time.monotonic()
        sock.sendall(data)
        sock.close()
        answer = guest.serial.finish(begun, timeout=120)
        inward = len(data) / (time.monotonic() - start)
        self.assertIn(digest, answer["output"])
        between = self.card(guest)
        # Segments of more than a frame on any wire: the guest takes them whole.
        self.assertGreater((between["rx_bytes"] - before["rx_bytes"]) / (between["rx_frames"] - before["rx_frames"]),
                           1514)

        # Out of it. Its random numbers are slow to make.
        self.sh(guest, "dd if=/dev/urandom of=/tmp/one bs=1M count=1 2>/dev/null")
        expected = self.sh(guest, f"for i in $(seq {len(data) // MIB}); do cat /tmp/one; done | sha256sum")
        listener = self.listener()
        begun = guest.serial.begin(f"sh for i in $(seq {len(data) // MIB}); do cat /tmp/one; done | "
                                   f"nc {HOST} {listener.getsockname()[1]}")
        sock = self.enter(listener.accept()[0])
        start = time.monotonic()
        total, found = receive_all(sock)
        outward = total / (time.monotonic() - start)
        sock.close()  # the guest's nc waits for it
        guest.serial.finish(begun)
        self.assertEqual((total, found), (len(data), expected.split()[0]))
        after = self.card(guest)
        # How much a slow guest puts into one segment is its own affair.
        frame = (after["tx_bytes"] - between["tx_bytes"]) / (after["tx_frames"] - between["tx_frames"])
        self.assertEqual((after["rx_dropped"], after["tx_dropped"]), (0, 0))
        print(f"on average {frame:.0f} bytes in a frame from the guest")
        print(f"of the host's loopback ({reference / MIB:.0f} MiB/s, same run): "
              f"into the guest {inward / reference:.3f}, out of it {outward / reference:.3f}")

    def test_a_swapped_out_guest_answers(self):
        guest = self.start()
        megabytes = host.size(160, 32)
        guest.serial.command(f"mem alloc {megabytes} 5", timeout=60)
        self.assertIsNotNone(ping(GUEST))
        guest.swap("enable")
        guest.swap("out")
        before = guest.ctl("swap", "status")
        for sequence in range(3):
            self.assertIsNotNone(ping(GUEST, os.urandom(1000), sequence))
        after = guest.ctl("swap", "status")
        self.assertEqual(after["state"], "out")
        # What was allocated stays where it is.
        self.assertGreater(after["pages_swapped"], megabytes * 256)
        print(f"pages that came back for three pings, and for what else the guest did: "
              f"{before['pages_swapped'] - after['pages_swapped']}")
        # A connection works as before, and memory is what it was.
        begun = guest.serial.begin("sh nc -l -p 5001 | sha256sum")
        data = os.urandom(MIB)
        sock = self.connect(5001)
        sock.sendall(data)
        sock.close()
        self.assertIn(hashlib.sha256(data).hexdigest(), guest.serial.finish(begun, timeout=120)["output"])
        guest.serial.command("mem verify", timeout=120)
        self.assertEqual(self.card(guest)["rx_dropped"], 0)


if __name__ == "__main__":
    unittest.main()
