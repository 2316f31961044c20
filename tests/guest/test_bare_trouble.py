"""What the operator sees when a guest's memory cannot be provided: the VM stops, nothing is invented."""
import glob
import os
import time
import unittest

import host
from case import BareCase
from ebb import ControlError
from follower import Follower

PAGE = 4096


class SwapTrouble(BareCase):
    def swapped_out(self):
        """A bare guest whose patterned memory is in the store."""
        guest = self.bare(memory="64M")
        guest.serial.command("fillall 7")
        guest.swap("enable")
        guest.swap("out")
        return guest

    def store_path(self, guest):
        for path in glob.glob(f"/proc/{guest.pid}/fd/*"):
            target = os.readlink(path)
            if target.startswith(self.swap_dir) and target.endswith("(deleted)"):
                return path
        self.fail("ebb has no store file")

    def flip(self, guest):
        """Flips a bit of every page in the store; doing it twice mends it."""
        with open(self.store_path(guest), "r+b", buffering=0) as file:
            for offset in range(0, os.fstat(file.fileno()).st_size, PAGE):
                byte = os.pread(file.fileno(), 1, offset)
                os.pwrite(file.fileno(), bytes([byte[0] ^ 4]), offset)

    def await_pause(self, guest):
        deadline = time.monotonic() + 20 * host.SLOWNESS
        while guest.ctl("status")["state"] != "paused":
            self.assertLess(time.monotonic(), deadline, "the VM is not paused")
            time.sleep(0.05)
        return guest.ctl("status")["reason"]

    def damaged_and_touched(self):
        guest = self.swapped_out()
        self.flip(guest)
        verification = guest.serial.begin("verifyall 7")
        reason = self.await_pause(guest)
        self.assertIn("cannot be read back", reason)
        return guest, verification

    def test_trouble_is_told_to_who_follows_the_events(self):
        guest = self.swapped_out()
        follower = self.enter(Follower(guest))
        follower.wait("subscribed", swap="out")
        self.flip(guest)
        guest.serial.begin("verifyall 7")
        self.assertIn("cannot be read back", follower.wait("swap_trouble")["reason"])
        follower.wait("state", state="paused", was="running")
        self.assertIn("paused", follower.wait("log", level="error")["message"])

    def test_a_damaged_store_pauses_the_vm_until_it_is_mended(self):
        guest, verification = self.damaged_and_touched()
        with self.assertRaises(ControlError) as refused:
            guest.ctl("resume")
        self.assertIn("still missing", refused.exception.message)
        self.flip(guest)
        deadline = time.monotonic() + 20 * host.SLOWNESS
        while True:
            try:
                guest.ctl("resume")
                break
            except ControlError:
                self.assertLess(time.monotonic(), deadline, "the VM cannot be resumed")
                time.sleep(0.2)
        result = guest.serial.finish(verification, timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def test_a_vm_whose_memory_is_missing_answers_and_quits(self):
        guest, _ = self.damaged_and_touched()
        self.assertEqual(guest.ctl("swap", "status")["state"], "out")
        with self.assertRaises(ControlError):
            guest.ctl("reset")
        guest.ctl("quit")
        guest.wait()
        self.assert_nothing_left()

    def test_a_vm_whose_memory_is_missing_ends_at_the_second_sigterm(self):
        guest, _ = self.damaged_and_touched()
        guest.signal_twice()
        guest.wait()
        self.assert_nothing_left()

    def test_swap_in_reports_a_damaged_store_and_keeps_what_it_has(self):
        guest = self.swapped_out()
        self.flip(guest)
        before = guest.ctl("swap", "status")["pages_swapped"]
        with self.assertRaises((ControlError, AssertionError)):
            guest.swap("in")
        self.assertGreater(guest.ctl("swap", "status")["pages_swapped"], before // 2)
        self.flip(guest)
        guest.swap("in")
        result = guest.serial.command("verifyall 7", timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))

    def test_a_killed_ebb_leaves_no_store_behind(self):
        guest = self.swapped_out()
        guest.process.kill()
        guest.wait()
        self.assertEqual(os.listdir(self.swap_dir), [])


if __name__ == "__main__":
    unittest.main()
