"""`ebb top` on a terminal (tmux) and without one, and memory-map behind it, with bare guests."""
import json
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import threading
import time
import unittest

import host
from case import MIB, BareCase
from ebb import ControlError

PLACES = ("empty", "resident", "staged", "pool", "disk", "filled")


class Tmux:
    """A program on a terminal whose screen can be read. Use as a context manager."""

    def __init__(self, directory, argv, env, columns=80, rows=24):
        self.socket = os.path.join(directory, "tmux")
        self.env = {name: value for name, value in os.environ.items() if name not in ("TMUX", "TERM")}
        self.env.update(LC_ALL="C.UTF-8", TERM="xterm-256color", SHELL="/bin/sh")
        config = os.path.join(directory, "tmux.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write("set -g status off\nset -g default-terminal screen-256color\n")
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
        command = f"env {settings} {shlex.join(argv)}; echo status=$?; exec sleep 600"
        self.run("-f", config, "new-session", "-d", "-x", str(columns), "-y", str(rows), command)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.run("kill-server")

    def run(self, *words):
        return subprocess.run(["tmux", "-S", self.socket, *words], env=self.env, check=True, text=True,
                              stdout=subprocess.PIPE, timeout=30 * host.SLOWNESS).stdout

    def press(self, *keys):
        self.run("send-keys", *keys)

    def resize(self, columns, rows):
        self.run("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, *options):
        return self.run("capture-pane", "-p", *options)

    def expect(self, pattern, timeout=30):
        """The match of @pattern on the screen, as soon as there is one."""
        deadline = time.monotonic() + timeout * host.SLOWNESS
        while True:
            screen = self.screen()
            match = re.search(pattern, screen, re.M)
            if match:
                return match
            if time.monotonic() >= deadline:
                raise AssertionError(f"waiting for {pattern!r}; the screen:\n{screen}")
            time.sleep(0.1)


class Crowd:
    """As many machines as one likes, of which nothing runs but the answers on their control sockets."""

    def __init__(self, runtime, count):
        directory = os.path.join(runtime, "ebb")
        os.makedirs(directory, mode=0o700)
        self.selector = selectors.DefaultSelector()
        for number in range(count):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.path.join(directory, f"vm-{number:03}.sock"))
            listener.listen()
            self.selector.register(listener, selectors.EVENT_READ, "listener")
        self.ending = False
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ending = True
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()

    def serve(self):
        while not self.ending:
            for key, _ in self.selector.select(0.2):
                if key.data == "listener":
                    self.selector.register(key.fileobj.accept()[0], selectors.EVENT_READ, "machine")
                    continue
                lines = key.fileobj.recv(65536).splitlines()
                if not lines:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                for line in lines:
                    key.fileobj.sendall(self.answer(json.loads(line)["command"]))

    @staticmethod
    def answer(command):
        status = {"state": "running", "memory_bytes": 64 * MIB, "memory_allocated_bytes": 16 * MIB, "vcpus": 1}
        swap = {"state": "out", "available": True, "page_size_bytes": 4096, "pages_resident": 4096,
                "pages_swapped": 12288, "store": {"entries": 1}}
        return json.dumps({"result": status if command == "status" else swap}).encode() + b"\n"


class Top(BareCase):
    def setUp(self):
        super().setUp()
        self.need("tmux", "tmux")

    def top(self, *arguments, columns=80, rows=24, **env):
        settings = {"XDG_RUNTIME_DIR": self.runtime, "LC_ALL": "C.UTF-8", **env}
        return self.enter(Tmux(self.directory, [host.BINARY, "top", "--interval", "0.2", *arguments],
                               settings, columns, rows))

    def test_keys_swap_the_selected_machine_out_and_in(self):
        guest = self.bare(name="dev")
        guest.serial.command("fillall 1")
        top = self.top()
        top.expect(r"▸ dev +running +128M +1\d\dM  █{19}")
        top.press("o")
        top.expect(r"dev: swap out: not in state \"disabled\"")
        top.press("e")
        top.expect(r"▸ dev +staged +128M.*▓{15}")
        top.press("o")
        top.expect(r"▸ dev +out +128M +\d+(\.\d)?[KM].*░{15}")
        self.assertEqual(guest.ctl("swap", "status")["state"], "out")
        top.expect(r"^  all 1 +128M.*░{15}")
        top.press("i")
        top.expect(r"▸ dev +resident.*█{15}")
        top.press("d")
        top.expect(r"▸ dev +running")
        guest.serial.command("verifyall 1")
        top.press("h")
        top.expect(r"o +swap out: what stayed cold")
        top.press("x")
        top.expect(r"^  NAME +STATE")
        top.press("q")
        top.expect(r"^status=0")

    def test_progress_is_shown_and_cancelled(self):
        guest = self.bare("--swap-compress", "zstd:19", name="dev")
        guest.serial.command("fillall 2")
        guest.swap("enable")
        top = self.top()
        top.expect(r"▸ dev +staged")
        top.press("o")
        top.expect(r"▸ dev +out \d+%")
        top.press("Enter")
        first = int(top.expect(r"^ swap out ▕.*▏ +(\d+) %").group(1))
        top.press("c")
        top.expect(r"cancelled")
        # Where it stopped stays to be seen.
        stopped = top.expect(r"^ swap out: stopped at (\d+)%")
        self.assertGreaterEqual(int(stopped.group(1)), first)
        guest.serial.command("verifyall 2", timeout=60)

    def test_map_changes_as_memory_ebbs(self):
        guest = self.bare(name="dev")
        guest.serial.command("fill 64M 32M 3")
        top = self.top("dev")
        top.expect(r"guest memory: a cell is ")
        top.expect(r"^ 0x004\w+ .*█{60}")
        self.assertIsNone(re.search(r"^ 0x002\w+ .*█", top.screen(), re.M))
        guest.swap("enable")
        top.expect(r"^ 0x004\w+ .*▓{60}")
        guest.swap("out")
        top.expect(r"^ 0x004\w+ .*░{60}")
        guest.serial.command("touch 80M 8M")
        top.expect(r"^ 0x005\w+ .*██░")
        top.expect(r"disk \d\S+/\d\S+")
        top.press("q")
        top.expect(r"^  NAME")

    def test_resized_to_one_by_one_and_back(self):
        self.bare(name="dev")
        top = self.top()
        top.expect(r"▸ dev +running")
        for screen in ("Enter", "h"):
            for columns, rows in ((1, 1), (2, 1), (1, 50), (200, 1), (13, 4), (80, 24)):
                top.resize(columns, rows)
                time.sleep(0.3)
                top.screen()
            top.expect("ebb top")
            top.press(screen)
        top.expect("swap cancel: stop what is running")
        top.press("x", "q")
        top.expect(r"▸ dev +running")
        top.resize(120, 40)
        top.expect(r"DISK FLT/S +P99 +CPU")

    def test_a_machine_that_vanishes_is_marked_and_removed(self):
        stays = self.bare(name="stays")
        goes = self.bare(name="goes")
        top = self.top()
        top.expect(r"▸ goes +running")
        top.press("Enter")
        top.expect(r"ebb top +goes +running")
        goes.signal(signal.SIGKILL)
        top.expect(r"ebb top +goes +ended")
        top.expect(r"goes has ended")
        top.press("q")
        top.expect(r"▸ stays +running")
        self.assertNotIn("goes ", top.expect(r"(?s)^  NAME.*^  all 1 ").group(0))
        stays.ctl("quit")
        top.expect(r"no machines are running")

    def test_a_machine_that_hangs_freezes_nobody(self):
        self.bare(name="fine")
        stuck = self.bare(name="stuck")
        top = self.top()
        top.expect(r"stuck +running")
        stuck.signal(signal.SIGSTOP)
        top.expect(r"stuck +no answer")
        top.press("e")
        top.expect(r"▸ fine +staged")
        stuck.signal(signal.SIGCONT)
        top.expect(r"stuck +running")

    def test_a_hundred_machines_scroll(self):
        self.enter(Crowd(self.runtime, 100))
        top = self.top()
        top.expect(r"▸ vm-000 +out +64M +16M  █████░+")
        top.expect(r"^  all 100 +6.2G +1.6G  █████░+")
        top.press("G")
        top.expect(r"▸ vm-099 +out")
        top.press("PageUp", "k")
        top.expect(r"▸ vm-082 +out")
        top.press("g", "q")
        top.expect(r"^status=0")

    def test_a_terminal_without_colours_and_unicode(self):
        guest = self.bare(name="dev")
        guest.serial.command("fill 16M 32M 4")
        top = self.top(TERM="vt100", LC_ALL="C")
        top.expect(r"> dev +running +128M.*#####+\.+")
        guest.swap("enable")
        top.expect(r"> dev +staged +128M.*=====+")
        guest.swap("out")
        top.expect(r"> dev +out +128M.*:::::+")
        styled = top.screen("-e")
        self.assertTrue(styled.isascii(), styled)
        self.assertIsNone(re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|38;5;\d+|48;5;\d+)m", styled), styled)

    def test_colours_where_there_are_some(self):
        self.bare(name="dev")
        top = self.top(TERM="screen-256color")
        top.expect(r"▸ dev +running")
        self.assertRegex(top.screen("-e"), r"\x1b\[[0-9;]*38;5;45m[^█]*█")

    def test_an_unknown_terminal_type_is_named(self):
        top = self.top(TERM="no-such-terminal")
        top.expect(r"^status=1")
        self.assertIn('"no-such-terminal" is not known', top.screen())


class Once(BareCase):
    def test_no_machines_are_a_list_too(self):
        status, text, errors = self.run_ebb("top", "--once")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("no machines are running", text)
        status, text, _ = self.run_ebb("top", "--json")
        self.assertEqual(status, 0)
        self.assertEqual(json.loads(text)["machines"], [])

    def test_the_list_and_the_map_are_printed(self):
        guest = self.bare(name="dev")
        guest.serial.command("fill 16M 64M 5")
        guest.swap("enable")
        guest.swap("out")
        status, text, errors = self.run_ebb("top", "--once", "--interval", "0.2")
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(text, r"(?m)^  dev +out +128M")
        self.assertRegex(text, r"(?m)^  all 1 ")
        self.assertNotIn("\x1b", text)
        # So it is where there is no terminal.
        status, text, _ = self.run_ebb("top", "--interval", "0.2", "dev")
        self.assertEqual(status, 0)
        self.assertRegex(text, r"(?m)^ 0x00[12]\w+ .*(░{60}|:{60})")
        status, text, _ = self.run_ebb("top", "--json", "--interval", "0.2", "dev")
        answer = json.loads(text)
        machine, = answer["machines"]
        self.assertEqual((machine["name"], machine["swap_state"]), ("dev", "out"))
        self.assertEqual(sum(machine["memory"].values()), 128 * MIB)
        self.assertGreater(machine["memory"]["disk_bytes"], 60 * MIB)
        self.assertEqual(answer["total"]["memory_bytes"], 128 * MIB)
        self.assertIn("disk", answer["map"]["cells"])

    def test_wrong_usage_is_refused(self):
        for arguments in (["--interval", "0"], ["--interval", "soon"], ["--frob"], ["a", "b"], ["../x"]):
            status, _, errors = self.run_ebb("top", *arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn("ebb top: ", errors)
        status, _, errors = self.run_ebb("top", "--once", "nobody")
        self.assertEqual(status, 1)
        self.assertIn('no machine named "nobody"', errors)


class Map(BareCase):
    def assert_equals_status(self, guest):
        memory_map = guest.ctl("memory-map", "300")
        status = guest.ctl("swap", "status")
        sums = {place: sum(memory_map[place]) for place in PLACES}
        for place in PLACES:
            self.assertEqual(len(memory_map[place]), memory_map["cells"])
        self.assertTrue(memory_map["exact"])
        self.assertEqual(sum(sums.values()), status["pages_total"])
        self.assertEqual(sum(region["bytes"] for region in memory_map["regions"]), 128 * MIB)
        # The guest's agent touches a page or two between the two answers.
        for names, count in ((("resident",), status["pages_resident"]),
                             (("staged",), status["pages_staged"] + status["pages_writing"]),
                             (("pool", "disk", "filled"), status["pages_swapped"])):
            self.assertAlmostEqual(sum(sums[name] for name in names), count, delta=16)
        return sums

    def test_sums_equal_swap_status_before_and_after_out(self):
        guest = self.bare("--swap-pool", "16M")
        guest.serial.command("fill 16M 64M 6")
        sums = {place: sum(guest.ctl("memory-map")[place]) for place in PLACES}
        self.assertAlmostEqual(sums["resident"] * 4096, guest.memfd_bytes(), delta=MIB)
        self.assertEqual(sum(sums.values()), 128 * 256)
        guest.swap("enable")
        self.assertGreater(self.assert_equals_status(guest)["staged"], 64 * 256 - 64)
        guest.swap("out")
        sums = self.assert_equals_status(guest)
        self.assertGreater(sums["pool"], 0)
        self.assertGreater(sums["disk"], 0)
        guest.serial.command("touch 16M 8M")
        self.assertGreater(self.assert_equals_status(guest)["resident"], 8 * 256 - 64)
        guest.swap("in")
        self.assertEqual(self.assert_equals_status(guest)["disk"], 0)

    def test_the_number_of_cells_is_bounded(self):
        guest = self.bare(swap=False)
        self.assertEqual(len(guest.ctl("memory-map", "16384")["resident"]), 16384)
        for cells in ("0", "16385", "-1", "x"):
            with self.assertRaises(ControlError) as refused:
                guest.ctl("memory-map", cells)
            self.assertEqual(refused.exception.code, "invalid_argument")
        status, text, _ = self.run_ebb("ctl", guest.name, "memory-map", "128")
        self.assertEqual(status, 0)
        self.assertRegex(text, r"(?m)^0x000000000 [#.]{64}$")


if __name__ == "__main__":
    unittest.main()
