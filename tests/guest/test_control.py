"""ctl, console, ls and the control socket, with a bare guest behind them."""
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import time
import unittest

import host
from case import BareCase
from terminal import CONTROL_A, CONTROL_C, CONTROL_D, Terminal

REQUEST_MAX = 4096


class Socket(BareCase):
    def setUp(self):
        super().setUp()
        self.guest = self.bare()
        self.path = os.path.join(self.runtime, "ebb", f"{self.guest.name}.sock")

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10 * host.SLOWNESS)
        connection.connect(self.path)
        self.addCleanup(connection.close)
        return connection

    @staticmethod
    def answer(connection):
        data = b""
        while not data.endswith(b"\n"):
            part = connection.recv(65536)
            if not part:
                break
            data += part
        return [json.loads(line) for line in data.splitlines()]

    def assert_alive(self):
        self.assertEqual(self.guest.ctl("status")["state"], "running")
        self.guest.serial.command("ping")

    def test_is_only_for_its_owner(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode), 0o700)

    def test_malformed_requests_get_an_error_and_harm_nothing(self):
        for line in (b"nonsense", b"{}", b"[]", b"null", b"{\"command\":5}", b"{\"command\":\"status\",\"x\":1}",
                     b"{\"command\":\"status\",\"arguments\":[1]}", b"\xff\xfe\x00", b"{\"command\":\"no such\"}",
                     b"[" * 2000, b"{\"command\":\"status\",\"arguments\":[\"a\",\"b\"]}"):
            with self.subTest(line=line[:40]):
                connection = self.connect()
                connection.sendall(line + b"\n")
                self.assertIn("error", self.answer(connection)[0])
        self.assert_alive()

    def test_oversized_request_is_answered_and_cut_off(self):
        connection = self.connect()
        try:
            connection.sendall(b"x" * (REQUEST_MAX * 16))
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            self.assertIn("error", self.answer(connection)[0])
            self.assertEqual(connection.recv(1), b"")
        except ConnectionResetError:
            pass
        self.assert_alive()

    def test_half_sent_request_waits_for_the_rest(self):
        connection = self.connect()
        connection.sendall(b"{\"command\":")
        self.assert_alive()
        connection.sendall(b"\"status\"}\n")
        self.assertIn("result", self.answer(connection)[0])
        other = self.connect()
        other.sendall(b"{\"comm")
        other.close()
        self.assert_alive()

    def test_half_closed_connection_is_still_answered(self):
        connection = self.connect()
        connection.sendall(b"{\"command\":\"status\"}\n")
        connection.shutdown(socket.SHUT_WR)
        self.assertIn("result", self.answer(connection)[0])

    def test_client_that_stops_reading_harms_nobody(self):
        connection = self.connect()
        connection.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                sent += connection.send(b"{\"command\":\"status\"}\n" * 100)
            except BlockingIOError:
                if not select.select([], [connection], [], 0.5)[1]:
                    break
            except (BrokenPipeError, ConnectionResetError):
                break
        self.assertGreater(sent, 0)
        self.assert_alive()

    def test_ten_clients_at_once_are_served(self):
        connections = [self.connect() for _ in range(10)]
        for connection in connections:
            connection.sendall(b"{\"command\":\"status\"}\n")
        for connection in connections:
            self.assertEqual(self.answer(connection)[0]["result"]["name"], self.guest.name)
        self.assert_alive()

    def test_clients_that_vanish_during_an_operation_do_not_stop_it(self):
        self.guest.serial.command("fillall 1")
        connection = self.connect()
        connection.sendall(b"{\"command\":\"swap enable\"}\n")
        connection.close()
        for _ in range(200 * host.SLOWNESS):
            status = self.guest.ctl("swap", "status")
            if status["state"] == "staged" and not status["operation"]:
                break
            time.sleep(0.05)
        self.assertEqual(status["state"], "staged")
        self.guest.serial.command("verifyall 1")


class Programs(BareCase):
    def test_ls_shows_the_machines_and_survives_a_stale_socket(self):
        first, second = self.bare(memory="32M"), self.bare(memory="64M")
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(os.path.join(self.runtime, "ebb", "stale.sock"))
        stale.close()
        status, output, errors = self.run_ebb("ls", "--json")
        self.assertEqual(status, 0, errors)
        machines = {machine["name"]: machine for machine in map(json.loads, output.splitlines())}
        self.assertEqual(set(machines), {first.name, second.name})
        self.assertEqual(machines[second.name]["memory_bytes"], 64 << 20)
        status, output, _ = self.run_ebb("ls")
        self.assertIn(first.name, output)
        self.assertIn("running", output)

    def test_ctl_prints_tables_for_people(self):
        guest = self.bare()
        guest.serial.command("fillall 1")
        guest.swap("enable")
        guest.swap("out")
        for words, expected in ((["status"], guest.name), (["swap", "status"], "out"), (["balloon"], "MiB"),
                                (["help"], "swap enable")):
            status, output, errors = self.run_ebb("ctl", guest.name, *words)
            self.assertEqual(status, 0, errors)
            self.assertIn(expected, output)

    def test_ctl_tells_no_such_machine_and_wrong_usage_apart(self):
        status, _, errors = self.run_ebb("ctl", "nobody", "status")
        self.assertEqual(status, 1)
        self.assertIn("nobody", errors)
        guest = self.bare()
        for arguments in ([], [guest.name], [guest.name, "no-such-command"], ["--no-such-option", guest.name, "status"]):
            status, _, errors = self.run_ebb("ctl", *arguments)
            self.assertEqual((status, bool(errors)), (2, True), arguments)

    def test_control_path_of_the_users_choice(self):
        path = os.path.join(self.directory, "my.sock")
        guest = self.bare("--control", path)
        status, output, errors = self.run_ebb("ctl", "--socket", path, guest.name, "status")
        self.assertEqual(status, 0, errors)
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(), 0)
        self.assertFalse(os.path.exists(path))

    def test_console_reads_commands_from_a_pipe(self):
        guest = self.bare()
        result = subprocess.run([host.BINARY, "console", guest.name], input="status\nswap status\nnonsense\n",
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=guest.env,
                                timeout=20 * host.SLOWNESS, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("running", result.stdout)
        self.assertIn("disabled", result.stdout)
        self.assertIn("nonsense", result.stderr)

    def test_console_on_a_terminal(self):
        guest = self.bare()
        guest.serial.command("fillall 1")
        with Terminal([host.BINARY, "console", guest.name], guest.env) as terminal:
            prompt = f"ebb {re.escape(guest.name)}> "
            terminal.expect_prompt(prompt)
            # A command; completion of a half-typed one; history; a wrong one; a line given up.
            for keys, expected in (("status\n", "running"), ("swap en\t\n", "state: staged"),
                                   ("\x1b[A\n", "state: staged"), ("nonsense\n", "nonsense.*\n.*nonsense"),
                                   ("half a line" + CONTROL_C, ""), ("swap disable\n", "state: disabled")):
                start = terminal.position
                terminal.send(keys)
                terminal.expect_prompt(f"{expected}(?s:.*){prompt}", start=start)
            terminal.send(CONTROL_D)
            self.assertEqual(terminal.process.wait(20 * host.SLOWNESS), 0)
            self.assertTrue(terminal.is_restored())


class VmTerminal(BareCase):
    """The machine's own terminal."""

    def terminal(self, *options):
        argv = [host.BINARY, "run", "--name", "tty", "--kernel", host.image("bare.elf"), "--memory", "64M",
                "--swap-dir", self.swap_dir, *options]
        return self.enter(Terminal(argv, dict(os.environ, XDG_RUNTIME_DIR=self.runtime)))

    def test_control_a_c_opens_the_console_and_leads_back(self):
        terminal = self.terminal()
        terminal.expect("@ready bare")
        terminal.send("#1 ping\n")
        terminal.expect("@ok #1 pong")
        for command, expected in (("status", "running"), ("swap enable", "state: staged"),
                                  ("swap out", "state: out")):
            start = terminal.position
            terminal.send(CONTROL_A + "c")
            terminal.expect_prompt("ebb tty> ", start=start)
            terminal.send(command + "\n")
            terminal.expect_prompt(expected + "(?s:.*)ebb tty> ", start=start)
            terminal.send(CONTROL_D)
            time.sleep(0.5)
            start = terminal.position
            terminal.send("#2 ping\n")
            terminal.expect("@ok #2 pong", start=start)
        terminal.send("#3 poweroff\n")
        self.assertEqual(terminal.process.wait(20 * host.SLOWNESS), 0)
        self.assertTrue(terminal.is_restored())

    def test_the_guest_gets_control_a_and_control_c(self):
        terminal = self.terminal()
        terminal.expect("@ready bare")
        # They arrive as characters of the command; nothing is interrupted.
        terminal.send("#1 ping" + CONTROL_C + "\n")
        terminal.expect("@fail #1 no such command")
        terminal.send("#2 ping" + CONTROL_A + CONTROL_A + "\n")
        terminal.expect("@fail #2 no such command")
        self.assertIsNone(terminal.process.poll())

    def test_control_a_x_quits_and_restores_the_terminal(self):
        terminal = self.terminal()
        terminal.expect("@ready bare")
        self.assertFalse(terminal.is_restored())
        terminal.send(CONTROL_A + "x")
        self.assertEqual(terminal.process.wait(20 * host.SLOWNESS), 0)
        self.assertTrue(terminal.is_restored())

    def test_the_terminal_is_restored_whatever_happens(self):
        for how in ("triple", "terms", "console"):
            with self.subTest(how=how):
                terminal = self.terminal("--name", f"tty-{how}")
                terminal.expect("@ready bare")
                if how == "triple":
                    terminal.send("#1 triple\n")
                else:
                    if how == "console":
                        terminal.send(CONTROL_A + "c")
                        time.sleep(0.5)
                    self.signal_until_end(terminal.process)
                self.assertEqual(terminal.process.wait(20 * host.SLOWNESS), 1 if how == "triple" else 0)
                self.assertTrue(terminal.is_restored())

    def signal_until_end(self, process):
        """Two signals are enough, unless the second comes before the first was taken."""
        for _ in range(20 * host.SLOWNESS):
            if process.poll() is not None:
                return
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)

    def test_serial_on_a_pty_of_its_own(self):
        guest = self.ebb("--kernel", host.image("bare.elf"), "--memory", "32M", "--serial", "pty")
        for _ in range(100 * host.SLOWNESS):
            match = re.search(r"/dev/pts/\d+", guest.errors.decode() + guest.serial.text)
            if match:
                break
            time.sleep(0.1)
        self.assertTrue(match, "the pty's name was not told")
        fd = os.open(match.group(0), os.O_RDWR | os.O_NOCTTY)
        self.addCleanup(os.close, fd)
        data = b""
        deadline = time.monotonic() + 20 * host.SLOWNESS
        # What was said, and asked, before both ends were there is gone: ask again after a silence.
        while b"@ok #1 pong" not in data:
            self.assertLess(time.monotonic(), deadline, data)
            if select.select([fd], [], [], 1)[0]:
                data += os.read(fd, 4096)
            else:
                os.write(fd, b"#1 ping\n")
        while select.select([fd], [], [], 1)[0]:
            os.read(fd, 4096)
        # Who reads late has the last lines, too.
        os.write(fd, b"#2 ping\n")
        while self.unread(fd) < len("@ok #2 pong"):
            self.assertLess(time.monotonic(), deadline, "no answer")
            time.sleep(0.02)
        guest.ctl("quit")
        time.sleep(1)
        self.assertIsNone(guest.process.poll(), "it did not wait for its reader")
        data = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(fd, 4096):
                data += chunk
        self.assertIn(b"@ok #2 pong", data)
        self.assertEqual(guest.wait(), 0)

    def unread(self, fd):
        return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, struct.pack("i", 0)))[0]


if __name__ == "__main__":
    unittest.main()
