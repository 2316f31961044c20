"""Hosts that fail around a running machine: signals, memory, clocks, crowds, streams that go away."""
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import termios
import time
import unittest

import disks
import host
from case import MIB, BareCase
from ebb import Ebb

YEAR = 365 * 24 * 3600


class Stopped(BareCase):
    """SIGSTOP takes ebb away in the middle of an operation, vCPUs and all; SIGCONT gives it back."""

    def stop_during(self, operations, during):
        guest = self.bare(memory="160M")
        guest.serial.command("fillall 2", timeout=60)
        for operation in operations:
            guest.swap(operation)
        running = guest.ctl_begin("swap", during)
        for _ in range(6):
            time.sleep(0.03)
            guest.signal(signal.SIGSTOP)
            disks.poll(self, lambda: self.state(guest) == "T", "ebb is stopped")
            time.sleep(0.1)
            guest.signal(signal.SIGCONT)
        self.assertEqual(guest.ctl_finish(running)["result"], 0)
        result = guest.serial.command("verifyall 2", timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    @staticmethod
    def state(guest):
        with open(f"/proc/{guest.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]

    def test_during_enable(self):
        self.stop_during([], "enable")

    def test_during_trim(self):
        self.stop_during(["enable"], "trim")

    def test_during_out(self):
        self.stop_during(["enable"], "out")

    def test_during_in(self):
        self.stop_during(["enable", "out"], "in")

    def test_during_disable(self):
        self.stop_during(["enable", "out"], "disable")


class Memory(BareCase):
    def test_killed_for_want_of_memory_it_leaves_nothing_in_the_way(self):
        group = disks.MemoryGroup(self)
        guest = self.bare(memory="256M", name="again", preexec_fn=group.join)
        group.limit(group.usage() + 48 * MIB)
        guest.serial.begin("fillall 1")
        self.assertEqual(guest.wait(60), -signal.SIGKILL)
        self.assertGreater(group.kills(), 0)
        self.assertEqual(os.listdir(self.swap_dir), [])
        again = self.bare(memory="32M", name="again")
        again.serial.command("fillall 2")
        again.swap("enable")
        again.swap("out")
        again.serial.command("verifyall 2")
        again.ctl("quit")
        self.assertEqual(again.wait(), 0)
        self.assert_nothing_left()

    def limited_start(self, what, value):
        return self.run_ebb("run", "--kernel", host.image("bare.elf"), "--memory", "64M", "--swap-dir", self.swap_dir,
                            prefix=["prlimit", f"--{what}={value}"])

    def refused_below(self, what, values):
        """Whatever is too little is refused by a message of one line, and leaves nothing."""
        for value in values:
            with self.subTest(limit=value):
                status, _, errors = self.limited_start(what, value)
                self.assertEqual(status, 1, errors)
                self.assertEqual(len(errors.strip().splitlines()), 1, errors)
                self.assertRegex(errors, "(?i)cannot allocate|too many open files|temporarily unavailable")
                self.assert_nothing_left()

    def test_start_without_descriptors_says_so(self):
        self.refused_below("nofile", [8, 16, 24])

    def test_start_without_address_space_says_so(self):
        with open(host.BINARY, "rb") as file:
            if b"__asan_init" in file.read():
                return  # it takes terabytes of it for itself
        self.refused_below("as", [60 * MIB, 100 * MIB, 140 * MIB])


class Clock(BareCase):
    def setUp(self):
        super().setUp()
        self.shim = os.environ.get("EBB_CLOCK_SHIM", "")
        self.assertTrue(os.path.exists(self.shim), "EBB_CLOCK_SHIM is not set: run this by ctest")
        self.clock = self.make_file("clock", content=bytes(8))

    def jump(self, seconds):
        with open(self.clock, "r+b", buffering=0) as file:
            file.write(struct.pack("<q", seconds))

    def guest_with_a_clock(self, *options):
        """Only `ebb run` gets this clock; the tests' own tools keep theirs."""
        before = dict(os.environ)
        os.environ.update(LD_PRELOAD=self.shim, EBB_CLOCK_FILE=self.clock,
                          ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0")
        try:
            guest = self.bare("--disk", self.make_file("disk", size=MIB), *options, memory="64M")
        finally:
            os.environ.clear()
            os.environ.update(before)
        guest.env = dict(before, XDG_RUNTIME_DIR=self.runtime)
        return guest

    def events_time(self, guest):
        """The wall clock that ebb has."""
        return guest.ctl("history")["now_s"]

    def test_jumps_during_a_swap_cycle_harm_nothing(self):
        guest = self.guest_with_a_clock()
        guest.serial.command("fillall 3")
        for seconds, operation in ((10 * YEAR, "enable"), (-10 * YEAR, "out"), (20 * YEAR, "in"), (0, "disable")):
            began = time.monotonic()
            running = guest.ctl_begin("swap", operation)
            self.jump(seconds)
            self.assertEqual(guest.ctl_finish(running)["result"], 0)
            self.assertAlmostEqual(self.events_time(guest), time.time() + seconds, delta=120)
            uptime = guest.ctl("status")["uptime_ns"] / 1e9
            self.assertLess(uptime, 600)
            self.assertGreater(uptime, time.monotonic() - began)
        guest.serial.command("blk put 0 0 8 0x2000000")
        guest.serial.command("verifyall 3")
        # The end waits for threads with a time limit.
        self.jump(-30 * YEAR)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def test_a_jump_is_no_idle_time(self):
        guest = self.guest_with_a_clock("--swap-auto", "idle=3600")
        guest.serial.command("fillall 4")
        self.jump(5 * YEAR)
        time.sleep(3)
        self.assertEqual(guest.ctl("swap", "status")["state"], "disabled")
        guest.serial.command("verifyall 4")


class Crowd(BareCase):
    CONNECTIONS = 1000

    def descriptors(self, guest):
        return len(os.listdir(f"/proc/{guest.pid}/fd"))

    def connect_all(self, guest):
        path = os.path.join(self.runtime, "ebb", f"{guest.name}.sock")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit[1], 4096), limit[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        crowd = []
        for _ in range(self.CONNECTIONS):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.settimeout(20 * host.SLOWNESS)
            self.connect(connection, path)
            crowd.append(connection)
        return crowd

    @staticmethod
    def connect(connection, path):
        """While the queue is full the kernel says so at once: the machine takes them one by one."""
        for _ in range(1000 * host.SLOWNESS):
            try:
                connection.connect(path)
                return
            except BlockingIOError:
                time.sleep(0.02)
        raise AssertionError("the machine takes no connections")

    def answer(self, connection):
        """The answer to a request; a machine that is busy gives it unasked and hangs up."""
        try:
            connection.sendall(b'{"command":"status"}\n')
        except (BrokenPipeError, ConnectionResetError):
            pass
        data = b""
        while not data.endswith(b"\n"):
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            data += part
        return json.loads(data) if data else {"error": {"code": "reset"}}

    def test_a_thousand_connections_at_once_are_served_or_refused(self):
        guest = self.bare()
        guest.serial.command("fillall 1")
        before = self.descriptors(guest)
        crowd = self.connect_all(guest)
        self.assertLess(self.descriptors(guest), before + 200)
        answers = [self.answer(connection) for connection in crowd]
        served = sum("result" in answer for answer in answers)
        codes = {answer["error"]["code"] for answer in answers if "error" in answer}
        self.assertGreater(served, 30)
        self.assertLessEqual(codes, {"busy", "reset"})
        self.assertIn("busy", codes)
        # The guest, whoever is connected already, and whoever comes when the crowd has gone.
        guest.serial.command("verifyall 1")
        self.assertIn("result", self.answer(crowd[0]))
        for connection in crowd:
            connection.close()
        disks.poll(self, lambda: self.descriptors(guest) <= before, "the descriptors are closed")
        guest.swap("enable")
        guest.swap("out")
        guest.serial.command("verifyall 1")


class Streams(BareCase):
    """Where ebb writes its messages and its guest's lines goes away."""

    def complaining(self, guest):
        """Makes ebb log something: a guest that panics."""
        guest.serial.command("panic 1")

    def alive(self, guest):
        guest.serial.command("fillall 6")
        self.complaining(guest)
        guest.swap("enable")
        guest.swap("out")
        self.complaining(guest)
        guest.serial.command("verifyall 6")
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    def test_nobody_reads_the_log_any_more(self):
        reader, writer = os.pipe()
        guest = self.bare(stderr=writer)
        os.close(writer)
        os.close(reader)
        self.alive(guest)

    def test_the_log_is_closed_from_the_start(self):
        guest = self.bare(stderr=None, preexec_fn=lambda: os.close(2))
        self.alive(guest)

    def test_a_log_on_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            guest = self.bare(stderr=full)
        self.alive(guest)

    def test_nobody_reads_the_serial_line_any_more(self):
        guest = self.bare()
        guest.serial.command("fillall 7")
        guest.serial.send("#9 verifyall 7\n")
        reader = guest.process.stdout
        # The reading thread keeps the pipe; a new one in its place closes it.
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, reader.fileno())
        os.close(null)
        for operation in ("enable", "out", "in", "disable"):
            guest.swap(operation)
        self.assertEqual(guest.ctl("status")["state"], "running")
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()


class GoneTerminal(BareCase):
    """The window is closed, the connection breaks: the terminal of --serial stdio is no more."""

    def start(self, **popen):
        master, slave = os.openpty()
        guest = Ebb("--kernel", host.image("bare.elf"), "--memory", "64M", "--cmdline", "test", "--swap-dir",
                    self.swap_dir, runtime_dir=self.runtime, stdin=slave, stdout=slave, stderr=slave, **popen)
        self.enter(guest)
        os.close(slave)
        disks.poll(self, lambda: b"@ready" in self.read(master), "the guest is up")
        return guest, master

    said = b""

    def read(self, master):
        os.set_blocking(master, False)
        try:
            self.said += os.read(master, 65536)
        except BlockingIOError:
            pass
        return self.said

    def checksum(self, guest):
        return guest.ctl("checksum-memory")["digest"]

    def test_without_a_signal_the_machine_goes_on(self):
        guest, master = self.start()
        os.close(master)
        guest.ctl("pause")
        before = self.checksum(guest)
        for operation in ("enable", "out", "in", "disable"):
            guest.swap(operation)
        self.assertEqual(self.checksum(guest), before)
        guest.ctl("resume")
        self.assertEqual(guest.ctl("status")["state"], "running")
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    def test_it_costs_no_cpu_time(self):
        guest, master = self.start()
        os.close(master)
        guest.ctl("pause")
        before = guest.threads_cpu_seconds()
        time.sleep(3)
        self.assertLess(guest.threads_cpu_seconds() - before, 1)

    def test_of_a_session_leader_it_asks_the_guest_to_power_down(self):
        guest, master = self.start(start_new_session=True, preexec_fn=controlling_terminal)
        os.close(master)
        # A shell's own comes a moment after the kernel's, and means no more than that one.
        time.sleep(0.5)
        guest.signal(signal.SIGHUP)
        time.sleep(0.5)
        self.assertEqual(guest.ctl("status")["state"], "running")
        guest.signal()
        guest.wait()
        self.assert_nothing_left()


def controlling_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    unittest.main()
