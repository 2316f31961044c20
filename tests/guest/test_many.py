"""Many guests at once: `ebb swap`, `ebb ls`."""
import glob
import json
import os
import signal
import socket
import subprocess
import time

import host
from case import MIB, BareCase

GUESTS = host.size(20, 4)


class Many(BareCase):
    def swap_all(self, *arguments, status=0, timeout=120):
        """`ebb swap --json ARGUMENTS`: machines by name, and the total."""
        code, output, errors = self.run_ebb("swap", "--json", *arguments, timeout=timeout)
        self.assertEqual(code, status, output + errors)
        lines = [json.loads(line) for line in output.splitlines()]
        machines = {line["name"]: line for line in lines[:-1]}
        total = lines[-1]["total"]
        self.assertEqual(total["machines"], len(machines))
        self.assertEqual(total["failed"], sum(not line["done"] for line in machines.values()))
        return machines, total

    def list_all(self):
        code, output, errors = self.run_ebb("ls", "--json")
        self.assertEqual(code, 0, errors)
        return {machine["name"]: machine for machine in map(json.loads, output.splitlines())}

    def each(self, guests, command, step=1, timeout=120):
        """The same command in all guests at the same time; {} is the guest's number, @step apart."""
        begun = [guest.serial.begin(command.format(i * step)) for i, guest in enumerate(guests)]
        for guest, tag in zip(guests, begun):
            guest.serial.finish(tag, timeout)


    def filled_guests(self, count):
        """Guests that run, each full of its own pattern."""
        guests = []
        for i in range(count):
            guests.append(self.bare(memory="32M", name=f"g{i}"))
            guests[i].serial.command(f"fillall {i}", timeout=60)
            guests[i].ctl("pause")  # bare guests poll: the next one starts sooner
        for guest in guests:
            guest.ctl("resume")
        return guests


class AtOnce(Many):
    def test_twenty_guests_go_out_and_come_back_whole(self):
        guests = self.filled_guests(GUESTS)
        names = [guest.name for guest in guests]

        machines, total = self.swap_all("--all", "out")
        self.assertEqual(sorted(machines), sorted(names))
        self.assertTrue(all(machine["state"] == "out" for machine in machines.values()), machines)
        self.assertEqual(total["bytes"], sum(machine["bytes"] for machine in machines.values()))
        self.assertGreater(total["bytes"], GUESTS * 24 * MIB)
        for guest in guests:
            self.assertLess(guest.memfd_bytes(), 8 * MIB, guest.name)

        listed = self.list_all()
        self.assertEqual(sorted(listed), sorted(names))
        _, total = self.swap_all("--all", "status")
        self.assertEqual(total["memory_bytes"], GUESTS * 32 * MIB)
        self.assertGreater(total["swapped_bytes"], GUESTS * 24 * MIB)
        self.assertGreater(total["store_disk_bytes"], 0)
        _, output, _ = self.run_ebb("ls")
        self.assertRegex(output.splitlines()[-1], rf"^{GUESTS} machines +{GUESTS * 32} MiB ")

        # Half of them by touch, the rest by command.
        self.each(guests[::2], "verifyall {}", step=2)
        machines, _ = self.swap_all("--all", "in")
        self.assertTrue(all(machine["state"] == "resident" for machine in machines.values()), machines)
        self.each(guests, "verifyall {}")
        machines, total = self.swap_all("--all", "in")
        self.assertTrue(all(machine["skipped"] for machine in machines.values()), machines)
        self.assertEqual(total["bytes"], 0)
        self.swap_all("--all", "disable")
        self.each(guests, "verifyall {}")


class Trouble(Many):
    """One guest's trouble is no other's."""

    def damage_store(self, guest):
        # Several descriptors may lead to one file, which is to be damaged once.
        paths = {os.readlink(path): path for path in glob.glob(f"/proc/{guest.pid}/fd/*")}
        for target, path in paths.items():
            if target.startswith(self.swap_dir) and target.endswith("(deleted)"):
                with open(path, "r+b", buffering=0) as file:
                    for offset in range(0, os.fstat(file.fileno()).st_size, 4096):
                        byte = os.pread(file.fileno(), 1, offset)
                        os.pwrite(file.fileno(), bytes([byte[0] ^ 4]), offset)

    def test_killed_stopped_and_broken_machines_hold_up_no_other(self):
        guests = self.filled_guests(6)
        killed, stopped, broken, refusing, *sound = guests
        self.swap_all(broken.name, "out")
        self.damage_store(broken)
        stopped.signal(signal.SIGSTOP)
        killed.process.kill()
        killed.process.wait()
        refusing.ctl("swap", "enable")
        refusing.ctl("swap", "disable")

        machines, total = self.swap_all("--timeout", "3", "--jobs", "2", "--all", "out", status=1)
        self.assertNotIn(killed.name, machines)
        self.assertEqual(machines[stopped.name]["error"]["code"], "silent")
        for guest in sound:
            self.assertEqual(machines[guest.name]["state"], "out", machines)
        self.assertEqual(total["machines"], 5)
        started = time.monotonic()
        listed = self.list_all()
        self.assertLess(time.monotonic() - started, 10 * host.SLOWNESS)
        self.assertNotIn(killed.name, listed)
        self.assertEqual(listed[stopped.name]["state"], "unresponsive")
        self.assertEqual(listed[stopped.name]["pid"], stopped.pid)

        machines, total = self.swap_all("--timeout", "3", "--all", "in", status=1)
        self.assertFalse(machines[broken.name]["done"])
        self.assertIn("reading pages back", machines[broken.name]["error"]["message"])
        self.assertEqual(total["failed"], 2)
        for number, guest in enumerate(sound, start=4):
            self.assertEqual(machines[guest.name]["state"], "resident", machines)
            guest.serial.command(f"verifyall {number}")
        stopped.signal(signal.SIGCONT)
        stopped.serial.command("verifyall 1", timeout=60)

    def test_named_machines_that_are_missing_or_cannot_swap_are_reported(self):
        sound, unable = self.bare(memory="32M"), self.bare(memory="32M", swap=False)
        machines, _ = self.swap_all(sound.name, unable.name, "nobody", "out", status=1)
        self.assertEqual(machines["nobody"]["error"]["code"], "absent")
        self.assertEqual(machines[unable.name]["error"]["code"], "unsupported")
        self.assertIn("--swap-dir", machines[unable.name]["error"]["message"])
        self.assertEqual(machines[sound.name]["state"], "out")
        code, output, _ = self.run_ebb("swap", sound.name, unable.name, "nobody", "in")
        self.assertEqual(code, 1)
        self.assertRegex(output, rf"(?m)^{sound.name} +resident")
        self.assertRegex(output, rf"(?m)^{unable.name} +disabled +nothing to do$")
        self.assertRegex(output, r"(?m)^nobody +failed: no machine named")
        self.assertRegex(output.splitlines()[-1], "^3 machines .* 1 failed$")

    def test_control_c_cancels_what_runs_and_starts_nothing_more(self):
        guests = [self.bare(memory="64M", name=f"c{i}") for i in range(3)]
        self.each(guests, "fillall {}")
        for guest in guests:
            guest.signal(signal.SIGSTOP)
        environment = dict(os.environ, XDG_RUNTIME_DIR=self.runtime)
        with subprocess.Popen([host.BINARY, "swap", "--json", "--jobs", "1", "--all", "out"], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            for guest in guests:
                guest.signal(signal.SIGCONT)
            output, _ = process.communicate(timeout=60 * host.SLOWNESS)
        self.assertEqual(process.returncode, 1)
        codes = [json.loads(line)["error"]["code"] for line in output.splitlines()[:-1]]
        self.assertEqual(codes, ["interrupted"] * 3)
        self.each(guests, "verifyall {}")
        for guest in guests:
            self.assertEqual(guest.ctl("swap", "status")["pages_swapped"], 0)


class Hundred(Many):
    def listen(self, name):
        """A socket where a machine listens that does not answer."""
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(os.path.join(self.runtime, "ebb", f"{name}.sock"))
        listener.listen(0)
        return listener

    def test_ls_with_a_hundred_sockets_dead_and_hanging_ones_among_them(self):
        guests = [self.bare(memory="16M", name=f"real{i}") for i in range(4)]
        for i in range(60):
            self.listen(f"stale{i}").close()
        for i in range(36):
            self.listen(f"hangs{i}")
        full = self.listen("full")
        callers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for caller in callers:
            self.addCleanup(caller.close)
            caller.setblocking(False)
            try:
                caller.connect(full.getsockname())
            except BlockingIOError:
                pass
        started = time.monotonic()
        listed = self.list_all()
        self.assertLess(time.monotonic() - started, 10 * host.SLOWNESS)
        self.assertEqual(len(listed), 4 + 36 + 1)
        for guest in guests:
            self.assertEqual(listed[guest.name]["state"], "running")
        self.assertEqual({listed[name]["state"] for name in listed if not name.startswith("real")}, {"unresponsive"})
        code, output, errors = self.run_ebb("ls")
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(output.splitlines()[-1], r"^41 machines +64\.0 MiB .*\(37 without an answer\)$")

    def test_a_hundred_machines_are_listed_and_swapped_out(self):
        count = host.size(100, 5)
        for i in range(count):
            # Paused, for a bare guest polls and takes a CPU.
            self.bare(memory="16M", name=f"h{i}").ctl("pause")
        listed = self.list_all()
        self.assertEqual([listed[f"h{i}"]["state"] for i in range(count)], ["paused"] * count)
        machines, total = self.swap_all("--all", "out")
        self.assertEqual(total["done"], count)
        _, total = self.swap_all("--all", "status")
        self.assertEqual(total["memory_bytes"], count * 16 * MIB)
        self.assertLess(total["memory_allocated_bytes"], count * 2 * MIB)
        _, output, _ = self.run_ebb("ls")
        self.assertEqual(len(output.splitlines()), count + 2)
