"""The bare guest's network card on a tap interface; the kernel's own stack and sockets are its peer."""
import os
import threading
import unittest

import host
import network
from disks import poll
from net_case import NetCase
from network import (CSUM, EVENT_INDEX, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MERGEABLE, Tap, number,
                     ping, udp)

GUEST = "10.0.0.2"
ECHO, DISCARD = (GUEST, 7), (GUEST, 9)


class TapCase(NetCase):
    address = GUEST

    def setUp(self):
        super().setUp()
        network.enter_namespace(self)
        self.tap = Tap(self)

    def start(self, *options, features=None, **arguments):
        guest = self.bare("--net", "tap=tap0", *options, **arguments)
        if features is not None:
            guest.serial.command(f"net features 0 {features:#x}")
        return guest

    def echo(self, sock, payload, target=ECHO):
        sock.sendto(payload, target)
        self.assertEqual(sock.recvfrom(65536), (payload, target))


class Traffic(TapCase):
    def test_answers_ping_and_echo(self):
        guest = self.start()
        served = self.serve(guest)
        for sequence in range(20):
            self.assertIsNotNone(ping(GUEST, os.urandom(sequence * 70 + 1), sequence))
        sock = udp(self)
        for size in (1, 17, 1000, 1471, 1472):
            self.echo(sock, os.urandom(size))
        counts = self.end(guest, served)
        self.assertEqual((counts["icmp"], counts["echoed"]), (20, 5))
        card = self.card(guest)
        self.assertGreaterEqual(card["rx_frames"], 26)
        self.assertEqual((card["rx_dropped"], card["tx_dropped"], card["link_up"]), (0, 0, True))

    def test_every_set_of_features_works(self):
        guest = self.start()
        sock = udp(self)
        for features in (0, MERGEABLE, EVENT_INDEX, MERGEABLE | EVENT_INDEX | CSUM,
                         MERGEABLE | CSUM | GUEST_CSUM, MERGEABLE | CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4):
            with self.subTest(features=hex(features)):
                taken = guest.serial.command(f"net features 0 {features:#x}")["features"]
                self.assertEqual(taken & features, features)
                served = self.serve(guest)
                for size in (10, 1472):
                    self.echo(sock, os.urandom(size))
                counts = self.end(guest, served)
                self.assertEqual(counts["echoed"], 2)
                # The host leaves checksums to whoever can make them.
                self.assertEqual(counts["partial"] > 0, bool(features & GUEST_CSUM))

    def test_the_guest_sends_to_the_host(self):
        guest = self.start(features=MERGEABLE | CSUM)
        for size, count in ((4, 10), (1400, 500)):
            sock = udp(self)
            answer = guest.serial.command(
                f"net send 0 {number(GUEST)} {number('10.0.0.1')} {sock.getsockname()[1]} {count} {size}")
            self.assertEqual(answer["sent"], count)
            for sequence in range(count):
                data = sock.recv(65536)
                self.assertEqual(data[:4], sequence.to_bytes(4, "big"))
                self.assertEqual(data[4:], bytes((sequence + i) & 255 for i in range(4, size)))

    def test_the_address_is_stable_unless_given(self):
        network.run("ip", "tuntap", "add", "dev", "tap1", "mode", "tap")
        first = self.bare("--net", "tap=tap0", "--net", "tap=tap1,mac=02:00:00:12:34:56", swap=False, name="one")
        macs = [first.serial.command(f"net info {card}")["mac"] for card in (0, 1)]
        self.assertEqual(macs[1], 0x020000123456)
        self.assertEqual(macs[0] >> 40 & 3, 2)  # locally administered, one card's
        self.assertEqual(self.card(first)["mac"], ":".join(f"{macs[0]:012x}"[i:i + 2] for i in range(0, 12, 2)))
        first.ctl("quit")
        first.wait()
        again = self.bare("--net", "tap=tap0", swap=False, name="one")
        self.assertEqual(again.serial.command("net info 0")["mac"], macs[0])
        again.ctl("quit")
        again.wait()
        other = self.bare("--net", "tap=tap0", swap=False, name="two")
        self.assertNotEqual(other.serial.command("net info 0")["mac"], macs[0])

    def test_a_guest_reset_starts_the_card_anew(self):
        guest = self.start()
        served = self.serve(guest)
        self.assertIsNotNone(ping(GUEST))
        start = len(guest.serial.text)
        guest.ctl("reset")
        guest.serial.ready(start=start)
        del served
        served = self.serve(guest)
        self.assertIsNotNone(ping(GUEST))
        self.end(guest, served)


class Large(TapCase):
    def setUp(self):
        super().setUp()
        self.payload = bytes((i * 7 + (i >> 8)) & 255 for i in range(50000))

    def test_jumbo_frames_take_several_buffers(self):
        network.run("ip", "link", "set", "tap0", "mtu", "9000")
        guest = self.start()
        self.assertEqual(guest.serial.command("net info 0")["mtu"], 9000)
        served = self.serve(guest)
        sock = udp(self)
        for _ in range(10):
            self.echo(sock, os.urandom(8900))
        counts = self.end(guest, served)
        self.assertEqual((counts["merged"], counts["echoed"]), (10, 10))

    def send_segment(self, guest, features):
        """The host sends one TCP segment of 50000 bytes; what the guest has counted."""
        guest.serial.command(f"net features 0 {features:#x}")
        mac = guest.serial.command("net info 0")["mac"].to_bytes(6, "big")
        sock = network.packets(self, "tap0", vnet_header=True)
        frame = network.tcp_frame(self.tap.mac(), mac, "10.0.0.1", GUEST, self.payload)
        served = self.serve(guest)
        sock.send(frame)
        self.assertIsNotNone(ping(GUEST))  # it comes behind
        counts = self.end(guest, served)
        self.assertEqual(counts["tcp_bytes"], len(self.payload))
        return counts

    def test_a_segment_arrives_whole_if_the_guest_can_take_it(self):
        counts = self.send_segment(self.start(), MERGEABLE | GUEST_CSUM | GUEST_TSO4)
        self.assertEqual(counts["largest"], 54 + len(self.payload))
        self.assertEqual(counts["merged"], 1)

    def test_the_host_cuts_the_segment_if_the_guest_cannot(self):
        counts = self.send_segment(self.start(), MERGEABLE)
        self.assertLessEqual(counts["largest"], 1514)
        self.assertGreaterEqual(counts["frames"], len(self.payload) // 1448)

    def test_the_guest_sends_a_segment_for_the_host_to_cut(self):
        guest = self.start(features=MERGEABLE | CSUM | HOST_TSO4)
        sock = network.packets(self, "tap0", vnet_header=True)
        guest.serial.command(f"net segment 0 {number(GUEST)} {number('10.0.0.1')} {len(self.payload)}")
        got = b""
        while len(got) < len(self.payload):
            data = sock.recv(70000)
            if len(data) > 64 and data[10 + 23] == 6:
                self.assertEqual(data[1], network.GSO_TCPV4)
                got += data[10 + 54:]
        self.assertEqual(got, self.payload)


class Storm(TapCase):
    QUEUE = 10000  # of the tap

    def setUp(self):
        super().setUp()
        network.run("ip", "link", "set", "tap0", "txqueuelen", str(self.QUEUE))
        self.guest = self.start()
        self.served = self.serve(self.guest)
        self.assertIsNotNone(ping(GUEST))
        self.socket = udp(self)

    def send(self, count):
        for _ in range(count):
            self.socket.sendto(bytes(600), DISCARD)

    def settle(self):
        """Waits until all that left the tap is with the guest."""
        poll(self, lambda: self.card(self.guest)["rx_frames"] == self.tap.statistics()["tx"]["packets"],
             "what left the tap arrives")

    def test_a_hundred_thousand_datagrams_arrive_if_the_tap_holds_them(self):
        for _ in range(20):
            self.send(self.QUEUE // 2)
            self.settle()
        self.assertIsNotNone(ping(GUEST))  # it comes behind the rest
        self.assertEqual(self.end(self.guest, self.served)["discarded"], 10 * self.QUEUE)
        self.assertEqual(self.tap.statistics()["tx"]["dropped"], 0)
        self.assertEqual(self.card(self.guest)["rx_dropped"], 0)

    def test_only_a_full_tap_loses_datagrams(self):
        self.send(5 * self.QUEUE)
        self.settle()
        self.assertIsNotNone(ping(GUEST))
        lost = self.tap.statistics()["tx"]["dropped"]
        self.assertEqual(self.end(self.guest, self.served)["discarded"], 5 * self.QUEUE - lost)
        self.assertEqual(self.card(self.guest)["rx_dropped"], 0)

    def test_both_ways_while_memory_comes_and_goes(self):
        guest, sock = self.guest, self.socket
        self.end(guest, self.served)
        guest.serial.command("fillall 21")
        served = self.serve(guest)
        stop = threading.Event()
        failures = []

        def talk():
            try:
                while not stop.is_set():
                    self.echo(sock, os.urandom(1200))
            except Exception as error:  # shown below
                failures.append(error)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            for operation in ("enable", "trim", "out", "in", "disable") * 3:
                guest.swap(operation)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(self.end(guest, served)["echoed"], 10)
        guest.serial.command("verifyall 21", timeout=60)


class Swap(TapCase):
    def test_a_packet_wakes_only_what_it_needs(self):
        guest = self.start(memory="256M")
        guest.serial.command("fillall 22", timeout=60)
        served = self.serve(guest)
        self.assertIsNotNone(ping(GUEST))
        guest.swap("enable")
        guest.swap("out")
        out = guest.ctl("swap", "status")["pages_swapped"]
        self.assertGreater(out, 60000)
        self.assertIsNotNone(ping(GUEST, os.urandom(1400)))
        self.echo(udp(self), os.urandom(1400))
        status = guest.ctl("swap", "status")
        self.assertLess(out - status["pages_swapped"], 200)
        self.assertEqual(status["state"], "out")
        self.end(guest, served)
        guest.serial.command("verifyall 22", timeout=120)

    def test_receives_into_buffers_that_are_swapped_out(self):
        guest = self.start()
        guest.serial.command("fillall 23")
        # The guest does not look: the card fills all its buffers, which are in the store.
        self.assertIsNotNone(self.card(guest))
        network.run("ip", "neighbour", "replace", GUEST, "lladdr", self.card(guest)["mac"], "dev", "tap0")
        guest.swap("enable")
        guest.swap("out")
        before = self.card(guest)["rx_frames"]
        sock = udp(self)
        payloads = [os.urandom(1000) for _ in range(40)]
        for payload in payloads:
            sock.sendto(payload, ECHO)
        poll(self, lambda: self.card(guest)["rx_frames"] >= before + 40, "the card has received all")
        served = self.serve(guest)
        self.assertEqual(sorted(sock.recv(65536) for _ in payloads), sorted(payloads))
        self.assertEqual(self.end(guest, served)["echoed"], 40)
        guest.serial.command("verifyall 23", timeout=60)


class Trouble(TapCase):
    def test_the_interface_disappears(self):
        guest = self.start()
        self.assertEqual(guest.serial.command("net info 0")["link"], 1)
        network.run("ip", "link", "delete", "tap0")
        guest.expect_error("tap backend is gone")
        self.assertEqual(guest.serial.command("net info 0")["link"], 0)
        self.assertFalse(self.card(guest)["link_up"])
        self.assertEqual(guest.ctl("status")["state"], "running")

    def test_the_interface_is_down_for_a_while(self):
        network.run("ip", "link", "set", "tap0", "down")
        guest = self.start()
        guest.expect_error("ip link set tap0 up")
        network.run("ip", "link", "set", "tap0", "up")
        served = self.serve(guest)
        self.assertIsNotNone(ping(GUEST))
        self.end(guest, served)

    def refused(self, interface, pattern, prefix=()):
        status, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--net", f"tap={interface}",
                                         prefix=prefix)
        self.assertEqual(status, 1)
        self.assertRegex(errors, pattern)
        self.assertLessEqual(errors.count("\n"), 2)

    def test_says_what_is_wrong_with_the_interface(self):
        self.start(swap=False)
        self.refused("tap0", "another program uses it")
        self.refused("tap9", "no such interface.*ip tuntap add dev tap9 mode tap user")
        self.refused("lo", "no tap")

    def test_says_what_right_is_missing(self):
        self.need("setpriv", "util-linux")
        prefix = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
        self.tap_of_user(65534)
        self.refused("tap0", "belongs to somebody else.*ip tuntap add dev tap0 mode tap user", prefix=prefix)
        # With the interface made as it says, no privilege is needed.
        self.tap_of_user(os.geteuid())
        tree = os.path.join(self.directory, "dtb")
        status, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--net", "tap=tap0",
                                         "--dump-dtb", tree, prefix=prefix)
        self.assertEqual(status, 0, errors)

    def tap_of_user(self, uid):
        network.run("ip", "link", "delete", "tap0")
        network.run("ip", "tuntap", "add", "dev", "tap0", "mode", "tap", "user", str(uid))


if __name__ == "__main__":
    unittest.main()
