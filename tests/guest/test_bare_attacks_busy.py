"""A guest that attacks while disks are busy and memory is on its way out, or by resets and noise."""
import collections
import contextlib
import re
import threading
import time
import unittest

import disks
import network
from attack_case import BURST, INTERVAL, AttackCase
from case import MIB
from ebb import ControlError

RESETS = 20


class Moving:
    """A guest whose memory goes out and comes back all the time, as a context."""

    def __init__(self, guest):
        self.guest, self.done, self.rounds = guest, threading.Event(), 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.done.is_set():
            for operation in ("enable", "out", "in", "disable"):
                self.guest.swap(operation)
            self.rounds += 1
            self.done.wait(0.2)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.done.set()
        self.thread.join()


class BusyAttacks(AttackCase):
    def swapping_attacker(self):
        guest = self.attacker(swap=True, memory="32M")
        guest.serial.command("fillall 5")
        return guest

    def run_cases(self, kind, least):
        """All cases with swap disabled, staged, out and on the way."""
        bystander = self.bystander()
        guest = self.swapping_attacker()
        total = self.all_cases(guest, kind)
        for state, operations in (("staged", ["enable"]), ("out", ["enable", "out"])):
            total += self.all_cases(guest, kind, f"{state}.",
                                    lambda: [guest.swap(operation) for operation in operations])
        guest.swap("disable")
        with Moving(guest) as moving:
            total += self.all_cases(guest, kind, "moving.")
        self.assertGreater(moving.rounds, 0)
        print(f"{kind}: {total} cases in all, the last with {moving.rounds} rounds of swapping beside them")
        self.assertGreater(total, 4 * least)
        self.assert_untouched(guest, 5)
        self.assert_untouched(bystander)
        self.assert_runs(guest)

    def test_a_balloon_of_pages_twice_never_outside_ram_and_in_use(self):
        self.run_cases("balloon", 40)

    def test_a_disk_reset_moved_and_broken_under_io(self):
        self.run_cases("disk", 15)

    def test_a_slow_disk_reset_moved_and_broken_under_io(self):
        loop = disks.Loop(self, 1 * MIB)
        group = disks.DiskGroup(self, loop)
        guest = self.bare("--disk", loop.path, memory="32M", swap=False, preexec_fn=group.join)
        guest.serial.command("fillall 5")
        group.slow(read=4 * MIB, write=4 * MIB)
        self.assertGreater(self.all_cases(guest, "disk", "slow."), 15)
        self.assert_untouched(guest, 5)


class Endings(AttackCase):
    def reset(self, guest, way, busy):
        """The guest resets the machine; True if that is a way."""
        start = len(guest.serial.text)
        guest.serial.begin(f"attack reset {way} {int(busy)}")
        return guest.serial.wait(r"@ready|survived=1", timeout=60, start=start).group(0) == "@ready"

    def test_every_way_to_reset_with_the_memory_out_and_the_disk_busy(self):
        bystander = self.bystander()
        guest = self.attacker(swap=True, memory="32M")
        resets = 0
        for round_ in range(RESETS):
            guest.swap("enable")
            guest.swap("out")
            resets += self.reset(guest, round_ % 8, round_ % 3 > 0)
            with contextlib.suppress(ControlError):
                guest.swap("disable")
        print(f"reset: {RESETS} rounds, {resets} resets")
        self.assertEqual(guest.ctl("status")["resets"], resets)
        self.assertEqual(resets, sum(round_ % 8 < 5 for round_ in range(RESETS)))
        self.assert_runs(guest)
        self.assert_untouched(bystander)

    def test_resets_during_swap_operations(self):
        guest = self.attacker(swap=True, memory="48M")
        rounds = 8
        for round_ in range(rounds):
            guest.serial.command("fillall 3", timeout=60)
            guest.swap("enable")
            if round_ % 4 > 1:
                guest.swap("out")
            operation = ("out", "trim", "in", "disable")[round_ % 4]
            running = guest.ctl_begin("swap", operation)
            self.assertTrue(self.reset(guest, 0, round_ & 1))
            # Done, or cut short by the reset, or too late.
            with contextlib.suppress(ControlError, AssertionError):
                guest.ctl_finish(running)
            if guest.ctl("swap", "status")["state"] != "disabled":
                guest.swap("disable")
        self.assertEqual(guest.ctl("status")["resets"], rounds)
        self.assert_runs(guest)

    def test_a_guest_that_panics_and_resets_in_a_loop_does_not_fill_the_log(self):
        guest = self.attacker(memory="16M")
        start = time.monotonic()
        for _ in range(3 * BURST):
            self.assertTrue(self.reset(guest, 4, False))
        self.assertIn(b"panicked", guest.errors)
        self.assertLessEqual(guest.errors.count(b"panicked"), BURST + (time.monotonic() - start) // INTERVAL + 1)

    def test_triple_faults_again_and_again(self):
        """A supervisor starts the guest anew each time: status 1, and nothing left of it."""
        bystander = self.bystander()
        for state in ([], ["enable"], ["enable", "out"]):
            guest = self.attacker(swap=True, memory="32M")
            for operation in state:
                guest.swap(operation)
            guest.serial.begin("triple")
            self.assertEqual(guest.wait(), 1)
            self.assertRegex(guest.errors.decode(), "(?i)triple fault")
            self.assertLess(guest.errors.count(b"\n"), 5)
        self.assert_untouched(bystander)
        bystander.ctl("quit")
        bystander.wait()
        self.assert_nothing_left()

    def test_power_off_and_triple_fault_during_swap_out(self):
        for command, status in (("poweroff", 0), ("triple", 1)) * 2:
            guest = self.attacker(swap=True, memory="64M")
            guest.serial.command("fillall 9", timeout=60)
            guest.swap("enable")
            running = guest.ctl_begin("swap", "out")
            guest.serial.begin(command)
            self.assertEqual(guest.wait(), status)
            with contextlib.suppress(ControlError, AssertionError, IndexError):
                guest.ctl_finish(running)
        self.assert_nothing_left()


class Noise(AttackCase):
    SECONDS = 10

    def test_ten_seconds_of_every_complaint_are_few_lines(self):
        network.enter_namespace(self)
        network.Tap(self)
        guest = self.attacker("--net", "tap=tap0", "--vsock", f"{self.directory}/v",
                              "--console", f"file={self.directory}/output")
        start = time.monotonic()
        rounds = guest.serial.command(f"attack noise {self.SECONDS}", timeout=120)["rounds"]
        self.assert_runs(guest)
        lines = guest.errors.decode().splitlines()
        kinds = collections.Counter(re.match(r"ebb: warning: ([\w-]+)", line).group(1) for line in lines)
        print(f"noise: {rounds} rounds, {len(lines)} lines: {dict(kinds)}")
        self.assertGreaterEqual(max(kinds.values()), BURST)
        self.assertGreater(len(kinds), 5)
        most = BURST + (time.monotonic() - start) // INTERVAL + 1
        for kind, count in kinds.items():
            with self.subTest(kind):
                self.assertLessEqual(count, most, kind)


if __name__ == "__main__":
    unittest.main()
