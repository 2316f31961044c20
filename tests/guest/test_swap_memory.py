"""Reading a guest's memory without waking it: dump-memory, checksum-memory; and resume --prefetch."""
import hashlib
import os
import re
import stat
import unittest

import disks
import host
from case import MIB, BareCase
from ebb import ControlError
from terminal import CONTROL_C, Terminal


class MemoryCase(BareCase):
    def path(self, name):
        return os.path.join(self.directory, name)

    def dump(self, guest, name):
        path = self.path(name)
        result = guest.ctl("dump-memory", path)
        self.assertEqual(result["file"], path)
        return path

    @staticmethod
    def digest(path):
        with open(path, "rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

    def refused(self, guest, *words):
        with self.assertRaises(ControlError) as refused:
            guest.ctl(*words)
        return refused.exception


class Dump(MemoryCase):
    def test_of_a_swapped_out_guest_is_that_of_the_resident_one(self):
        guest = self.bare()
        guest.serial.command("fill 32M 48M 1")
        guest.ctl("pause")
        resident = self.dump(guest, "resident")
        guest.swap("enable")
        guest.swap("trim")
        guest.swap("out")
        before = guest.ctl("swap", "status")
        held = guest.memfd_bytes()
        out = self.dump(guest, "out")
        after = guest.ctl("swap", "status")
        self.assertEqual(after["pages_swapped"], before["pages_swapped"])
        self.assertEqual(after["state"], "out")
        self.assertLessEqual(guest.memfd_bytes(), held)
        self.assertEqual(os.stat(out).st_size, 128 * MIB)
        self.assertEqual(self.digest(out), self.digest(resident))
        guest.ctl("resume")
        guest.serial.command("verify 32M 48M 1")

    def test_is_sparse_and_for_its_owner_alone(self):
        guest = self.bare()
        guest.serial.command("fill 32M 16M 1")
        status = os.stat(self.dump(guest, "dump"))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertGreater(status.st_blocks * 512, 16 * MIB)
        self.assertLess(status.st_blocks * 512, 32 * MIB)

    def test_file_is_relative_to_the_clients_directory(self):
        guest = self.bare(memory="32M")
        guest.ctl_finish((guest.ctl_process("dump-memory", "here", cwd=self.directory),
                          ("dump-memory", "here")))
        self.assertEqual(os.stat(self.path("here")).st_size, 32 * MIB)

    def test_existing_file_is_refused_and_kept(self):
        guest = self.bare(memory="32M")
        path = self.make_file("precious", content=b"keep me")
        error = self.refused(guest, "dump-memory", path)
        self.assertIn(path, error.message)
        self.assertIn("exists", error.message)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"keep me")

    def test_bad_names_are_refused(self):
        guest = self.bare(memory="32M")
        for words in (["dump-memory"], ["dump-memory", ""], ["dump-memory", "a", "b"]):
            with self.subTest(words=words):
                self.assertEqual(self.refused(guest, *words).code, "invalid_argument")
        self.assertIn("no-such-directory",
                      self.refused(guest, "dump-memory", "/no-such-directory/dump").message)

    def test_works_without_a_place_to_swap_to(self):
        guest = self.bare(swap=False, memory="32M")
        path = self.dump(guest, "dump")
        self.assertEqual(os.stat(path).st_size, 32 * MIB)
        self.assertRegex(guest.ctl("checksum-memory")["digest"], "^sha256:[0-9a-f]{64}$")

    def test_control_c_leaves_no_file_and_the_guest_as_it_was(self):
        guest = self.bare(memory="2G")
        guest.serial.command("fillall 3", timeout=120)
        path = self.path("dump")
        argv = [host.BINARY, "ctl", guest.name, "dump-memory", path]
        with Terminal(argv, guest.env) as terminal:
            terminal.expect(r"dump-memory +\[")
            terminal.send(CONTROL_C)
            self.assertEqual(terminal.process.wait(20 * host.SLOWNESS), 1)
            terminal.expect("dump-memory was cancelled after")
        self.assertFalse(os.path.exists(path))
        guest.serial.command("ping")

    def test_quit_leaves_no_file(self):
        guest = self.bare(memory="1G")
        guest.serial.command("fillall 4", timeout=120)
        path = self.path("dump")
        process = guest.ctl_process("dump-memory", path)
        while process.poll() is None and not os.path.exists(path):
            pass
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        process.communicate()
        self.assertFalse(os.path.exists(path))

    def test_quit_leaves_nothing_in_the_file_of_a_client_that_was_killed(self):
        guest = self.bare(memory="1G")
        guest.serial.command("fillall 4", timeout=120)
        path = self.path("dump")
        process = guest.ctl_process("dump-memory", path)
        disks.poll(self, lambda: os.path.exists(path) and os.path.getsize(path), "the dump begins")
        process.kill()
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        process.communicate()
        self.assertEqual(os.path.getsize(path), 0)

    def test_a_full_file_system_leaves_no_file(self):
        self.need_root("a small file system")
        small = self.make_dir("small")
        if os.system(f"mount -t tmpfs -o size=16M none {small}"):
            self.skipTest("cannot mount a tmpfs here")
        self.addCleanup(os.system, f"umount -l {small}")
        guest = self.bare()
        guest.serial.command("fillall 5")
        error = self.refused(guest, "dump-memory", os.path.join(small, "dump"))
        self.assertEqual(error.code, "no_space")
        self.assertEqual(os.listdir(small), [])
        guest.serial.command("verifyall 5")


class Checksum(MemoryCase):
    def test_is_the_same_resident_staged_and_out_and_that_of_the_dump(self):
        guest = self.bare()
        guest.serial.command("fillall 6")
        guest.ctl("pause")
        resident = guest.ctl("checksum-memory")["digest"]
        self.assertEqual(resident, self.digest(self.dump(guest, "dump")))
        for operation, state in (("enable", "staged"), ("trim", "staged"), ("out", "out")):
            guest.swap(operation)
            before = guest.ctl("swap", "status")
            with self.subTest(operation=operation):
                self.assertEqual(guest.ctl("checksum-memory")["digest"], resident)
                after = guest.ctl("swap", "status")
                self.assertEqual(after["state"], state)
                self.assertEqual(after["pages_swapped"], before["pages_swapped"])
                self.assertEqual(after["pages_staged"], before["pages_staged"])
        guest.swap("in")
        self.assertEqual(guest.ctl("checksum-memory")["digest"], resident)

    def test_people_get_one_line(self):
        guest = self.bare(memory="32M")
        status, output, errors = self.run_ebb("ctl", guest.name, "checksum-memory")
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(output, r"\Asha256:[0-9a-f]{64}\n\Z")


class Prefetch(MemoryCase):
    def test_resumes_a_guest_that_is_out(self):
        guest = self.bare()
        guest.serial.command("fillall 7")
        guest.swap("enable")
        guest.swap("out")
        guest.ctl("pause")
        result = guest.ctl("resume", "--prefetch")
        self.assertEqual(result["state"], "running")
        self.assertIn("prefetch", result)
        guest.serial.command("verifyall 7", timeout=60)

    def test_resumes_a_guest_that_was_never_swapped_out(self):
        guest = self.bare(swap=False, memory="32M")
        guest.ctl("pause")
        result = guest.ctl("resume", "--prefetch")
        self.assertEqual((result["state"], result["prefetch"]), ("running", None))
        guest.serial.command("ping")

    def test_of_a_running_guest_is_refused(self):
        guest = self.bare(memory="32M")
        error = self.refused(guest, "resume", "--prefetch")
        self.assertEqual(error.code, "wrong_state")
        self.assertRegex(error.message, r"resume --prefetch.*running")


class Tables(MemoryCase):
    def test_swap_status_fits_a_terminal(self):
        guest = self.bare()
        guest.serial.command("fillall 8")
        for operation in ("enable", "trim", "out", "in"):
            guest.swap(operation)
        guest.ctl("checksum-memory")
        status, output, errors = self.run_ebb("ctl", guest.name, "swap", "status")
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual([line for line in output.splitlines() if len(line) > 80], [])
        for part in ("faults", "p99.9", "checksum", "automatic", "on disk"):
            self.assertTrue(re.search(part, output), f"{part!r} is not in:\n{output}")


if __name__ == "__main__":
    unittest.main()
