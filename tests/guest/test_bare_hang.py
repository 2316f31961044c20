"""The disk of the store hangs: it neither answers nor fails. The operator is told, and keeps the say."""
import time
import unittest

import disks
from case import BareCase
from ebb import ControlError
from frozen import Frozen


class HungDisk(BareCase):
    def hung(self, operation=None, touch=True):
        """A guest whose patterned memory is on a disk that hangs; what it then looks at, and its line."""
        self.disk = self.enter(Frozen(self))
        self.swap_dir = self.disk.path
        guest = self.bare(memory="64M")
        guest.serial.command("fillall 7")
        guest.swap("enable")
        if operation != "out":
            guest.swap("out")
        self.disk.hang()
        if operation:
            guest.ctl_begin("swap", operation)
        return guest, guest.serial.begin("verifyall 7") if touch else None

    def await_told(self, guest):
        reason = disks.poll(self, lambda: guest.ctl("status")["state"] == "paused" and
                            guest.ctl("status")["reason"], "the VM is paused", timeout=60)
        self.assertIn("does not answer", reason)

    @staticmethod
    def resumes(guest):
        try:
            guest.ctl("resume")
        except ControlError:
            return False
        return True

    def assert_ends(self, guest):
        """While the disk still hangs."""
        guest.wait(timeout=60)
        self.assertTrue(self.disk.holds.is_set())

    def test_the_guest_is_paused_and_goes_on_when_the_disk_answers(self):
        guest, verification = self.hung()
        self.await_told(guest)
        with self.assertRaises(ControlError) as refused:
            guest.ctl("resume")
        self.assertIn("still missing", refused.exception.message)
        self.disk.go_on()
        disks.poll(self, lambda: self.resumes(guest), "the VM can be resumed")
        result = guest.serial.finish(verification, timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))

    def test_pausing_comes_to_an_end_and_so_does_quit(self):
        guest, _ = self.hung()
        time.sleep(0.5)
        guest.ctl("pause")
        self.await_told(guest)
        guest.ctl("quit")
        self.assert_ends(guest)

    def test_a_reset_is_refused_and_the_guest_stays(self):
        guest, verification = self.hung()
        time.sleep(0.5)
        with self.assertRaises(ControlError):
            guest.ctl("reset")
        self.await_told(guest)
        self.disk.go_on()
        disks.poll(self, lambda: self.resumes(guest), "the VM can be resumed")
        result = guest.serial.finish(verification, timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))

    def test_the_second_signal_ends_it_before_anybody_is_told(self):
        guest, _ = self.hung()
        time.sleep(0.5)
        guest.signal_twice()
        self.assert_ends(guest)

    def test_quit_ends_a_worker_that_writes(self):
        guest, _ = self.hung("out", touch=False)
        time.sleep(0.5)
        guest.ctl("quit")
        self.assert_ends(guest)


if __name__ == "__main__":
    unittest.main()
