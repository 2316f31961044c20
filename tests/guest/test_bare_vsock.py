"""vsock and the virtio console with the bare guest, whose port 7 echoes."""
import contextlib
import os
import random
import socket
import stat
import struct
import unittest

import fcntl
import pty
import signal
import termios

import host
import vsock
from case import MIB, BareCase
from ebb import GuestFailure

ECHO = 7


class Vsock(BareCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.directory, "v.sock")

    def guest(self, *options, **arguments):
        return self.bare("--vsock", self.path, *options, **arguments)

    def connect(self, port=ECHO):
        return self.enter(vsock.connect(self.path, port))

    def assert_echoes(self, size, seed=1):
        data = random.Random(seed).randbytes(size)
        with vsock.connect(self.path, ECHO) as stream:
            self.assertEqual(vsock.exchange(stream, data), data)
            stream.shutdown(socket.SHUT_WR)
            self.assertEqual(stream.recv(1), b"")

    def test_ten_mebibytes_come_back_whole(self):
        guest = self.guest("--vsock", f"{self.path},cid=77", swap=False)
        self.assertEqual(guest.serial.command("vsock info")["cid"], 77)
        self.assert_echoes(10 * MIB)
        status = guest.serial.command("vsock info")
        self.assertEqual((status["echoed"], status["open"], status["damaged"]), (10 * MIB, 0, 0))

    def test_many_connections_at_once(self):
        guest = self.guest(swap=False)
        streams = [self.connect() for _ in range(48)]
        for size in (1, 333, 4097):
            for number, stream in enumerate(streams):
                stream.sendall(random.Random(number).randbytes(size))
            for number, stream in enumerate(streams):
                self.assertEqual(vsock.read_exactly(stream, size), random.Random(number).randbytes(size))
        self.assertEqual(guest.serial.command("vsock info")["open"], 48)
        for stream in streams:
            stream.close()
        self.assert_echoes(100)

    def test_what_nobody_listens_on_is_refused(self):
        guest = self.guest(swap=False)
        with self.assertRaises(ConnectionRefusedError):
            vsock.connect(self.path, 8)
        with self.assertRaisesRegex(GuestFailure, "refused"):
            guest.serial.command("vsock connect 1234 1")
        self.assertEqual(guest.serial.command("vsock flood 3000", timeout=60)["resets"], 3000)
        self.assert_echoes(5000)

    def test_the_guest_connects_to_the_host(self):
        guest = self.guest(swap=False)
        with vsock.EchoServer(self.path, 1234) as server:
            for size in (0, 1, 1000003):
                reply = guest.serial.command(f"vsock connect 1234 {size}", timeout=60)
                self.assertEqual(reply["received"], size)
            self.assertEqual(server.bytes, 1000004)

    def test_a_swapped_out_guest_answers_with_few_pages(self):
        guest = self.guest()
        guest.serial.command("fillall 3")
        before = self.connect()
        before.sendall(b"hello")
        self.assertEqual(vsock.read_exactly(before, 5), b"hello")
        guest.swap("enable")
        guest.swap("out")
        out = guest.ctl("swap", "status")["pages_swapped"]
        self.assertGreater(out, 20000)
        # A connection from before, a new one, and one from the guest.
        before.sendall(b"again")
        self.assertEqual(vsock.read_exactly(before, 5), b"again")
        self.assert_echoes(200000)
        with vsock.EchoServer(self.path, 9):
            self.assertEqual(guest.serial.command("vsock connect 9 50000")["received"], 50000)
        self.assertLess(out - guest.ctl("swap", "status")["pages_swapped"], 1000)
        guest.serial.command("verifyall 3", timeout=60)

    def test_streams_run_through_swap_cycles(self):
        guest = self.guest()
        guest.serial.command("fillall 4")
        data = random.Random(5).randbytes(300001)
        stream = self.connect()
        for _ in range(4):
            guest.swap("enable")
            self.assertEqual(vsock.exchange(stream, data), data)
            begun = guest.ctl_begin("swap", "out")
            self.assertEqual(vsock.exchange(stream, data), data)
            guest.ctl_finish(begun)
            guest.swap("disable")
        guest.serial.command("verifyall 4", timeout=60)

    def test_a_reset_ends_connections_and_the_next_guest_has_new_ones(self):
        guest = self.guest(swap=False)
        stream = self.connect()
        start = len(guest.serial.text)
        guest.ctl("reset")
        self.assertEqual(stream.recv(1), b"")
        guest.serial.ready(start=start)
        self.assert_echoes(10000)

    def test_a_paused_guest_answers_when_it_goes_on(self):
        guest = self.guest(swap=False)
        stream = self.connect()
        guest.ctl("pause")
        stream.sendall(b"wait for it")
        stream.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            stream.recv(1)
        guest.ctl("resume")
        stream.settimeout(60)
        self.assertEqual(vsock.read_exactly(stream, 11), b"wait for it")

    def test_the_socket_is_private_and_goes_with_the_machine(self):
        guest = self.guest(swap=False)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        # A second machine cannot take it.
        status, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--vsock", self.path,
                                         "--serial", "none")
        self.assertEqual(status, 1)
        self.assertIn("another program listens there", errors)
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(), 0)
        self.assertFalse(os.path.exists(self.path))

    def test_what_a_killed_machine_left_is_replaced(self):
        guest = self.guest(swap=False)
        guest.process.kill()
        guest.process.wait()
        self.assertTrue(os.path.exists(self.path))
        self.guest(swap=False)
        self.assert_echoes(1000)


class Console(BareCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.directory, "console.sock")

    def alphabet(self, size):
        letters = b"abcdefghijklmnopqrstuvwxyz"
        return (letters * (size // 26 + 1))[:size]

    def test_bytes_go_both_ways_while_swapped_out_too(self):
        guest = self.bare("--console", f"unix={self.path}")
        stream = self.enter(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        stream.settimeout(60)
        stream.connect(self.path)
        guest.serial.command("fillall 6")
        for swapped in (False, True):
            if swapped:
                guest.swap("enable")
                guest.swap("out")
            command = guest.serial.begin("console write 1000000")
            self.assertEqual(vsock.read_exactly(stream, 1000000), self.alphabet(1000000))
            guest.serial.finish(command, timeout=60)
            data = random.Random(7).randbytes(100003)
            command = guest.serial.begin(f"console echo {len(data)}")
            self.assertEqual(vsock.exchange(stream, data), data)
            guest.serial.finish(command, timeout=60)
        guest.serial.command("verifyall 6", timeout=60)

    def test_a_reader_that_waits_loses_nothing(self):
        guest = self.bare("--console", f"unix={self.path}", swap=False)
        stream = self.enter(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        stream.settimeout(60)
        stream.connect(self.path)
        command = guest.serial.begin("console write 3000000")
        # The rest of the machine goes on while the console's guest waits.
        for _ in range(3):
            self.assertEqual(guest.ctl("status")["state"], "running")
        self.assertEqual(vsock.read_exactly(stream, 3000000), self.alphabet(3000000))
        guest.serial.finish(command, timeout=60)

    def test_it_goes_to_a_file(self):
        path = os.path.join(self.directory, "output")
        guest = self.bare("--console", f"file={path}", swap=False)
        guest.serial.command("console write 100000")
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(), 0)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), self.alphabet(100000))

    def test_a_terminal_tells_its_size(self):
        near, far = pty.openpty()
        self.addCleanup(os.close, near)
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        guest = self.ebb("--kernel", host.image("bare.elf"), "--memory", "32M", "--console", "stdio",
                         "--serial", f"unix={self.path}", stdin=far, stdout=far, start_new_session=True)
        os.close(far)
        guest.serial = None
        line = self.enter(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        line.settimeout(60)
        self.wait_for_socket(line)
        # What comes before the guest has set its port up is lost.
        while "@ok" not in self.ask(line, "ping"):
            pass
        self.assertRegex(self.ask(line, "console info"), "size=1 columns=100 rows=30")
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 132, 0, 0))
        guest.signal(signal.SIGWINCH)
        for _ in range(100):
            if "columns=132 rows=40" in self.ask(line, "console info"):
                break
        else:
            self.fail("the new size does not arrive")

    def wait_for_socket(self, line):
        for _ in range(600):
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                line.connect(self.path)
                return
            signal.sigtimedwait([], 0.05)
        self.fail("there is no socket for the serial line")

    def ask(self, line, command):
        line.sendall(command.encode() + b"\n")
        answer = b""
        while not (answer.endswith(b"\n") and (b"@ok" in answer or b"@fail" in answer)):
            piece = line.recv(4096)
            self.assertTrue(piece, answer)
            answer += piece
        return answer.decode()


if __name__ == "__main__":
    unittest.main()
