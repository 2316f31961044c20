"""Swapping the bare-metal guest out and in. What the host holds is read from /proc."""
import os
import unittest

import host
from case import MIB, BareCase
from ebb import ControlError


class Swap(BareCase):
    def store_bytes(self, guest):
        """Blocks of the store: a file without a name in the swap directory."""
        total = 0
        for name in os.listdir(f"/proc/{guest.pid}/fd"):
            path = f"/proc/{guest.pid}/fd/{name}"
            try:
                if os.readlink(path).startswith(self.swap_dir):
                    total = max(total, os.stat(path).st_blocks * 512)
            except OSError:
                continue
        return total

    def test_keeps_patterns_through_ten_cycles(self):
        guest = self.bare()
        free = guest.serial.command("fillall 1")["pages"]
        for cycle in range(10):
            seed = cycle + 1
            guest.swap("enable")
            guest.serial.command("touch 32M 8M 4096 1")
            guest.swap("trim")
            guest.swap("out")
            self.assertEqual(guest.ctl("swap", "status")["state"], "out")
            guest.serial.command("touch 16M 16M 20480")
            guest.serial.command(f"verify 64M 8M {seed}")
            guest.swap("in")
            guest.swap("disable")
            self.assertEqual(guest.serial.command(f"verifyall {seed}")["pages"], free)
            guest.serial.command(f"fillall {seed + 1}")

    def test_pages_that_stay_out_keep_their_content(self):
        guest = self.bare()
        guest.serial.command("fillall 2")
        guest.swap("enable")
        guest.swap("out")
        # All of it comes back by touch, from the store.
        guest.serial.command("verifyall 2", timeout=60)
        status = guest.ctl("swap", "status")
        counters = status["counters"]
        self.assertGreater(counters["faults_copied"] + counters["faults_ahead"], 20000)
        # The guest goes in order: far fewer faults than pages.
        self.assertLess(counters["faults_copied"], 5000)
        self.assertLess(status["pages_swapped"], 500)

    def test_an_idle_guest_costs_almost_no_memory_after_out(self):
        guest = self.bare(memory="256M")
        guest.serial.command("fillall 5", timeout=60)
        before = guest.held_bytes()
        self.assertGreater(before, 250 * MIB)
        guest.swap("enable")
        guest.swap("out")
        after = guest.held_bytes()
        self.assertLess(guest.memfd_bytes(), 8 * MIB)
        self.assertLess(after, 64 * MIB if "asan" in host.BINARY else 24 * MIB)
        self.assertGreater(self.store_bytes(guest), 240 * MIB)
        guest.serial.command("verifyall 5", timeout=120)
        self.assertGreater(guest.memfd_bytes(), 250 * MIB)

    def test_disable_gives_the_disk_space_back(self):
        guest = self.bare()
        guest.serial.command("fillall 6")
        guest.swap("enable")
        guest.swap("out")
        self.assertGreater(self.store_bytes(guest), 100 * MIB)
        guest.swap("disable")
        self.assertEqual(self.store_bytes(guest), 0)
        self.assertEqual(guest.ctl("swap", "status")["state"], "disabled")
        guest.serial.command("verifyall 6")

    def test_zero_pages_are_trimmed_and_take_no_room(self):
        guest = self.bare()
        guest.serial.command("zero 32M 64M")
        guest.swap("enable")
        guest.swap("trim")
        self.assertGreaterEqual(guest.ctl("swap", "status")["counters"]["trimmed_zero"], 64 * 256)
        guest.swap("out")
        self.assertLess(self.store_bytes(guest), 60 * MIB)

    def test_clean_pages_go_out_again_without_being_written(self):
        guest = self.bare()
        guest.serial.command("fillall 7")
        guest.swap("enable")
        guest.swap("out")
        stored = guest.ctl("swap", "status")["counters"]["stored"]
        guest.serial.command("touch 32M 64M")
        guest.swap("enable")
        guest.swap("trim")
        guest.swap("out")
        status = guest.ctl("swap", "status")
        self.assertGreaterEqual(status["counters"]["trimmed_clean"], 64 * 256 - 8)
        self.assertLess(status["counters"]["stored"], stored + 2000)
        guest.serial.command("verifyall 7", timeout=60)

    def test_writer_loses_no_increment_while_cycles_run(self):
        guest = self.bare()
        guest.serial.command("fillall 8")
        churn = guest.serial.begin("churn 32M 32M")
        for _ in range(5):
            guest.swap("enable")
            guest.swap("trim")
            guest.swap("out")
            guest.swap("in")
            guest.swap("disable")
        guest.serial.send("\n")
        self.assertGreater(guest.serial.finish(churn, timeout=60)["increments"], 100000)
        guest.serial.command("verifyall 8")

    def test_balloon_inflates_while_swapped_out(self):
        guest = self.bare()
        guest.serial.command("fillall 9")
        guest.swap("enable")
        guest.swap("out")
        before = guest.ctl("swap", "status")
        guest.serial.command("balloon inflate 8192")
        after = guest.ctl("swap", "status")
        self.assertLessEqual(after["pages_swapped"], before["pages_swapped"] - 8000)
        self.assertLess(after["store_live_bytes"], before["store_live_bytes"] - 31 * MIB)
        self.assertLess(guest.memfd_bytes(), 12 * MIB)
        guest.swap("in")
        guest.swap("disable")
        guest.serial.command("balloon deflate 8192")
        again = guest.serial.command("verifyall 9")
        self.assertEqual((again["lost"], again["lost_zero"]), (8192, 8192))

    def test_balloon_inflates_while_staged_and_while_operations_run(self):
        guest = self.bare()
        guest.serial.command("fillall 10")
        for _ in range(3):
            guest.swap("enable")
            operation = guest.ctl_begin("swap", "out")
            guest.serial.command("balloon inflate 4096")
            guest.ctl_finish(operation)
            operation = guest.ctl_begin("swap", "in")
            guest.serial.command("balloon deflate 4096")
            guest.serial.command("balloon inflate 1024")
            guest.ctl_finish(operation)
            guest.serial.command("balloon deflate 1024")
            guest.serial.command("verifyall 10", timeout=60)
            guest.serial.command("fillall 10")
            guest.swap("disable")
        guest.serial.command("verifyall 10")

    def test_free_pages_are_reported_while_swapped_out(self):
        guest = self.bare()
        guest.serial.command("fillall 11")
        guest.swap("enable")
        guest.swap("out")
        before = guest.ctl("swap", "status")
        guest.serial.command("balloon report 16 512")
        after = guest.ctl("swap", "status")
        self.assertLessEqual(after["pages_swapped"], before["pages_swapped"] - 16 * 512)
        self.assertGreaterEqual(after["counters"]["removed"], before["counters"]["removed"] + 16 * 512)
        again = guest.serial.command("verifyall 11", timeout=60)
        self.assertEqual((again["lost"], again["lost_zero"]), (8192, 8192))

    def test_disk_reads_into_and_writes_from_swapped_out_pages(self):
        guest = self.bare("--disk", self.make_file("disk.img", 16 * MIB))
        guest.serial.command("fillall 12")
        guest.serial.command("blk put 0 0 16384 32M")
        for state in ("staged", "out"):
            with self.subTest(state=state):
                guest.swap("enable")
                if state == "out":
                    guest.swap("out")
                # From cold pages to the disk, and from the disk to other cold pages.
                guest.serial.command("blk put 0 16384 16384 48M")
                guest.serial.command("blk get 0 0 16384 64M")
                guest.serial.command("blk get 0 16384 16384 80M")
                guest.serial.command(f"verify 64M 8M 12 {32 * MIB}")
                guest.serial.command(f"verify 80M 8M 12 {48 * MIB}")
                guest.swap("disable")
                guest.serial.command("fill 64M 8M 12")
                guest.serial.command("fill 80M 8M 12")
        guest.serial.command("verifyall 12")

    def test_reset_while_staged_and_while_out(self):
        guest = self.bare()
        for operations in (["enable"], ["enable", "out"], ["enable", "out", "in"]):
            with self.subTest(operations=operations):
                guest.serial.command("fillall 13")
                for operation in operations:
                    guest.swap(operation)
                start = len(guest.serial.text)
                guest.serial.begin("reset")
                guest.serial.ready(start=start)
                again = guest.serial.command("verifyall 13", timeout=60)
                self.assertEqual((again["pages"], again["lost"] - again["lost_zero"]), (0, 0))
                guest.swap("disable")
                guest.serial.command("ping")

    def test_poweroff_while_swapped_out(self):
        guest = self.bare()
        guest.serial.command("fillall 14")
        guest.swap("enable")
        guest.swap("out")
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    def test_quit_while_swapped_out_and_during_an_operation(self):
        for during in (False, True):
            with self.subTest(during=during):
                guest = self.bare()
                guest.serial.command("fillall 15")
                guest.swap("enable")
                operation = guest.ctl_begin("swap", "out")
                if not during:
                    guest.ctl_finish(operation)
                guest.ctl("quit")
                self.assertEqual(guest.wait(), 0)
                if during:
                    operation[0].communicate()
                self.assert_nothing_left()

    def test_both_sides_of_the_hole_are_swapped(self):
        guest = self.bare(memory="5G")
        ranges = [(64 * MIB, 16 * MIB), (0xC0000000 - 16 * MIB, 16 * MIB), (1 << 32, 16 * MIB),
                  ((6 << 30) - 16 * MIB, 16 * MIB)]
        for start, length in ranges:
            guest.serial.command(f"fill {start} {length} {start}")
        guest.swap("enable")
        guest.swap("out")
        self.assertLess(guest.memfd_bytes(), 8 * MIB)
        for start, length in ranges[:2]:
            guest.serial.command(f"verify {start} {length} {start}")
        guest.swap("in")
        for start, length in ranges:
            guest.serial.command(f"verify {start} {length} {start}")

    def test_fresh_memory_is_provided_while_swap_is_on(self):
        guest = self.bare(memory="256M")
        guest.swap("enable")
        guest.swap("out")
        guest.serial.command("fillall 16", timeout=60)
        guest.serial.command("verifyall 16", timeout=60)
        self.assertGreater(guest.ctl("swap", "status")["counters"]["faults_zeroed"], 50000)


class Commands(BareCase):
    def refused(self, guest, *words):
        with self.assertRaises(ControlError) as refused:
            guest.ctl(*words)
        return refused.exception

    def test_a_command_in_the_wrong_state_is_refused_naming_the_state(self):
        guest = self.bare()
        for operation in ("trim", "out", "in", "disable"):
            error = self.refused(guest, "swap", operation)
            self.assertEqual(error.code, "wrong_state")
            self.assertIn("disabled", error.message)
        guest.swap("enable")
        guest.swap("out")
        for operation in ("out", "trim"):
            error = self.refused(guest, "swap", operation)
            self.assertEqual(error.code, "wrong_state")
            self.assertRegex(error.message, r"\bout\b")
        self.assertEqual(self.refused(guest, "swap", "cancel").code, "wrong_state")

    def test_without_a_swap_directory_the_commands_say_so(self):
        guest = self.bare(swap=False)
        error = self.refused(guest, "swap", "enable")
        self.assertEqual(error.code, "unsupported")
        self.assertIn("--swap-dir", error.message)

    def test_an_operation_can_be_cancelled(self):
        guest = self.bare(memory="512M")
        guest.serial.command("fillall 17", timeout=60)
        guest.swap("enable")
        operation = guest.ctl_begin("swap", "out")
        cancelled = False
        for _ in range(200):
            try:
                guest.ctl("swap", "cancel")
                cancelled = True
                break
            except ControlError:
                if operation[0].poll() is not None:
                    break
        if cancelled:
            with self.assertRaises(ControlError) as ended:
                guest.ctl_finish(operation)
            self.assertEqual(ended.exception.code, "cancelled")
            self.assertEqual(guest.ctl("swap", "status")["state"], "staged")
            guest.swap("out")
        guest.swap("disable")
        guest.serial.command("verifyall 17", timeout=60)

    def test_one_operation_at_a_time(self):
        guest = self.bare(memory="512M")
        guest.serial.command("fillall 18", timeout=60)
        guest.swap("enable")
        operation = guest.ctl_begin("swap", "out")
        codes = set()
        # It must have begun, or an enable could come first.
        while operation[0].poll() is None and guest.ctl("swap", "status")["operation"] is None:
            pass
        while operation[0].poll() is None:
            try:
                guest.ctl("swap", "enable")
            except ControlError as error:
                codes.add(error.code)
        guest.ctl_finish(operation)
        # It may have ended just before the last try.
        self.assertLessEqual(codes, {"busy", "wrong_state"})

    def test_cycles_can_be_repeated_in_any_legal_order(self):
        guest = self.bare(memory="64M")
        guest.serial.command("fillall 19")
        for operation in ("enable enable trim trim out enable out in enable trim in enable disable "
                          "enable disable enable out disable enable out enable enable out in disable").split():
            guest.swap(operation)
            guest.serial.command("touch 32M 16M")
        guest.serial.command("verifyall 19")

    def test_a_full_swap_directory_leaves_the_guest_whole(self):
        self.need_root("a small file system")
        small = self.make_dir("small")
        if os.system(f"mount -t tmpfs -o size=16M none {small}"):
            self.skipTest("cannot mount a tmpfs here")
        self.addCleanup(os.system, f"umount -l {small}")
        guest = self.bare("--swap-dir", small, memory="128M")
        guest.serial.command("fillall 20")
        guest.swap("enable")
        error = self.refused(guest, "swap", "out")
        self.assertEqual(error.code, "no_space")
        self.assertIn(small, error.message)
        status = guest.ctl("swap", "status")
        self.assertEqual(status["state"], "staged")
        self.assertGreater(status["last"]["out"]["pages_moved"], 0)
        guest.serial.command("verifyall 20")
        guest.swap("disable")
        guest.serial.command("verifyall 20")


if __name__ == "__main__":
    unittest.main()
