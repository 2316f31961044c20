"""--swap-auto. The bare guest polls and is never idle of itself; while it is paused it is."""
import time
import unittest

import host
from case import MIB, BareCase
from ebb import ControlError


class Auto(BareCase):
    def await_phase(self, guest, *phases, timeout=10):
        deadline = time.monotonic() + timeout * host.SLOWNESS
        while True:
            status = guest.ctl("swap", "auto")
            if status["phase"] in phases:
                return status
            self.assertLess(time.monotonic(), deadline, f"never {phases}: {status}")
            time.sleep(0.1)

    def assert_stays(self, guest, seconds, phase):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertEqual(guest.ctl("swap", "auto")["phase"], phase)
            time.sleep(0.2)

    def test_an_idle_guest_is_swapped_out_and_wakes_whole(self):
        guest = self.bare("--swap-auto", "idle=2")
        guest.serial.command("fillall 1")
        guest.ctl("pause")
        status = self.await_phase(guest, "asleep")
        self.assertEqual(status["last"]["operation"], "out")
        self.assertEqual((status["last"]["cause"], status["last"]["result"], status["cycles"]), ("idle", 0, 1))
        swap = guest.ctl("swap", "status")
        self.assertEqual(swap["state"], "out")
        self.assertEqual(swap["auto"]["phase"], "asleep")
        self.assertLess(guest.memfd_bytes(), 8 * MIB)
        guest.ctl("resume")
        guest.serial.command("verifyall 1", timeout=60)
        self.await_phase(guest, "watching")

    def test_a_guest_that_works_stays(self):
        guest = self.bare("--swap-auto", "idle=1")
        guest.serial.command("fillall 2")
        churn = guest.serial.begin("churn 32M 32M")
        self.assert_stays(guest, 5, "watching")
        self.assertEqual(guest.ctl("swap", "status")["state"], "disabled")
        guest.serial.send("\n")
        guest.serial.finish(churn, timeout=60)

    def test_a_guest_that_wakes_while_it_settles_stays(self):
        guest = self.bare("--swap-auto", "idle=4")
        guest.serial.command("fillall 3")
        guest.ctl("pause")
        self.await_phase(guest, "settling")
        guest.ctl("resume")
        guest.serial.command("verifyall 3", timeout=60)
        status = self.await_phase(guest, "watching")
        self.assertEqual((status["backoff"], status["cycles"]), (2, 0))
        self.assertEqual(guest.ctl("swap", "status")["pages_swapped"], 0)

    def test_the_console_switches_it_on_and_off(self):
        guest = self.bare(memory="64M")
        self.assertEqual(guest.ctl("swap", "auto")["phase"], "off")
        with self.assertRaises(ControlError) as refused:
            guest.ctl("swap", "auto", "on")
        self.assertEqual(refused.exception.code, "invalid_argument")
        status = guest.ctl("swap", "auto", "idle=100")
        self.assertEqual((status["policy"], status["phase"]), ("idle=100", "watching"))
        self.assertEqual(guest.ctl("swap", "auto", "off")["policy"], "off")
        self.assertEqual(guest.ctl("swap", "auto", "on")["policy"], "idle=100")
        guest.ctl("pause")
        self.assertEqual(guest.ctl("swap", "auto", "idle=1,pressure")["policy"], "idle=1,pressure")
        self.await_phase(guest, "asleep")
        guest.ctl("swap", "auto", "off")
        guest.swap("in")
        time.sleep(3)
        self.assertEqual(guest.ctl("swap", "status")["state"], "resident")

    def test_bad_policies_are_refused_and_change_nothing(self):
        guest = self.bare("--swap-auto", "idle=100", memory="64M")
        for policy in ("soon", "idle=0", "idle=", "idle=5,", "pressure=5"):
            with self.subTest(policy=policy), self.assertRaises(ControlError) as refused:
                guest.ctl("swap", "auto", policy)
            self.assertEqual(refused.exception.code, "invalid_argument")
        self.assertEqual(guest.ctl("swap", "auto")["policy"], "idle=100")

    def test_a_command_of_the_user_suspends_it(self):
        guest = self.bare("--swap-auto", "idle=1", memory="64M")
        guest.serial.command("fillall 4")
        guest.ctl("pause")
        self.await_phase(guest, "asleep")
        guest.swap("in")
        self.assert_stays(guest, 4, "suspended")
        self.assertEqual(guest.ctl("swap", "status")["state"], "resident")
        # It works and is idle again.
        guest.ctl("resume")
        guest.serial.command("verifyall 4", timeout=60)
        time.sleep(2)
        guest.ctl("pause")
        self.await_phase(guest, "asleep")
        guest.ctl("resume")
        guest.serial.command("verifyall 4", timeout=60)

    def test_reading_memory_does_not_disturb_it(self):
        guest = self.bare("--swap-auto", "idle=1", memory="64M")
        guest.ctl("pause")
        self.await_phase(guest, "asleep")
        guest.ctl("checksum-memory")
        self.assert_stays(guest, 2, "asleep")

    def test_prefetch_wakes_and_it_sleeps_again(self):
        guest = self.bare("--swap-auto", "idle=1", memory="64M")
        guest.serial.command("fillall 5")
        guest.ctl("pause")
        self.await_phase(guest, "asleep")
        guest.ctl("resume", "--prefetch")
        guest.serial.command("verifyall 5", timeout=60)
        self.await_phase(guest, "watching")
        guest.ctl("pause")
        self.await_phase(guest, "asleep")

    def test_needs_a_place_to_swap_to(self):
        status, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--swap-auto", "idle=5")
        self.assertEqual(status, 2)
        self.assertIn("--swap-dir", errors)
        guest = self.bare(swap=False, memory="32M")
        with self.assertRaises(ControlError) as refused:
            guest.ctl("swap", "auto", "idle=5")
        self.assertEqual(refused.exception.code, "unsupported")


if __name__ == "__main__":
    unittest.main()
