"""Swapping stock Linux guests out and in. What the host holds is read from /proc."""
import time
import unittest

from case import MIB, LinuxCase
from host import size


class Swap(LinuxCase):
    def test_memory_is_kept_through_ten_cycles_with_writers_running(self):
        guest = self.linux(cpus=2)
        guest.serial.command(f"mem alloc {size(96, 16)} 1", timeout=60)
        guest.serial.command(f"writers start 2 {size(16, 4)}")
        for cycle in range(10):
            guest.swap("enable")
            guest.serial.command("mem touch 200", timeout=60)
            guest.swap("trim")
            guest.swap("out")
            guest.serial.command("mem touch 200", timeout=60)
            guest.serial.command("writers check", timeout=60)
            guest.swap("in")
            guest.swap("disable")
            if cycle % 3 == 0:
                guest.serial.command("mem verify", timeout=60)
        guest.serial.command("mem verify", timeout=60)
        self.assertGreater(guest.serial.command("writers stop", timeout=60)["increments"], 1000)
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(60), 0)
        self.assert_nothing_left()

    def test_the_same_on_four_vcpus_booted_by_pvh(self):
        guest = self.linux(kernel="vmlinux", cpus=4)
        guest.serial.command(f"mem alloc {size(96, 12)} 2", timeout=60)
        guest.serial.command(f"writers start 4 {size(8, 1)}")
        for _ in range(size(5, 2)):
            guest.swap("enable")
            guest.swap("trim")
            guest.swap("out")
            guest.serial.command("mem verify", timeout=120)
            guest.serial.command("writers check", timeout=60)
            guest.swap("disable")
        guest.serial.command("writers stop", timeout=60)

    def test_an_idle_guest_falls_to_its_working_set(self):
        guest = self.linux(encrypt=True)
        megabytes = size(160, 48)
        guest.serial.command(f"mem alloc {megabytes} 3", timeout=60)
        before = guest.memfd_bytes()
        self.assertGreater(before, (megabytes + 20) * MIB)
        guest.swap("enable")
        time.sleep(5)
        guest.swap("trim")
        guest.swap("out")
        after = guest.held_bytes()
        # The rest is what the guest's kernel touches all the time, and ebb itself.
        self.assertLess(after, 48 * MIB)
        guest.serial.command("mem verify", timeout=120)
        self.assertGreater(guest.memfd_bytes(), size(150, 40) * MIB)

    def test_balloon_inflates_during_swap(self):
        guest = self.linux()
        guest.serial.command(f"mem alloc {size(48, 16)} 4", timeout=60)
        guest.serial.command(f"writers start 1 {size(8, 1)}")
        for operations in (["enable"], ["enable", "out"]):
            for operation in operations:
                guest.swap(operation)
            guest.ctl("balloon", "160M")
            self.wait_for(lambda: guest.ctl("balloon")["actual_bytes"] == 96 * MIB)
            guest.serial.command("mem verify", timeout=120)
            guest.serial.command("writers check", timeout=60)
            guest.ctl("balloon", "256M")
            self.wait_for(lambda: guest.ctl("balloon")["actual_bytes"] == 0)
            guest.swap("disable")
            guest.serial.command("mem verify", timeout=120)
        self.assertGreater(guest.ctl("swap", "status")["counters"]["removed"], 0)
        guest.serial.command("writers stop", timeout=60)

    def test_free_pages_are_reported(self):
        guest = self.linux()
        guest.serial.command("mem alloc 96 5", timeout=60)
        before = guest.memfd_bytes()
        guest.serial.command("mem free")
        # The kernel reports free pages about every two seconds.
        self.wait_for(lambda: guest.memfd_bytes() < before - 60 * MIB)
        self.assertGreater(guest.ctl("balloon")["reported_bytes"], 60 * MIB)

    def test_free_pages_are_reported_while_swapped_out(self):
        guest = self.linux()
        guest.serial.command(f"mem alloc {size(96, 64)} 6", timeout=60)
        guest.swap("enable")
        guest.swap("out")
        before = guest.ctl("swap", "status")
        guest.serial.command("mem free", timeout=60)
        self.wait_for(lambda: guest.ctl("swap", "status")["counters"]["removed"] >
                      before["counters"]["removed"] + 40 * 256)
        guest.swap("disable")
        guest.serial.command(f"mem alloc {size(96, 16)} 7", timeout=60)
        guest.serial.command("mem verify", timeout=60)

    def test_disk_io_into_swapped_out_pages(self):
        guest = self.linux("--disk", self.make_file("disk", 64 * MIB))
        guest.serial.command(f"disk write vda {size(24, 8)} 8", timeout=60)
        for mode in ("", " direct"):
            guest.swap("enable")
            guest.swap("out")
            guest.serial.command(f"disk verify vda {size(24, 8)} 8{mode}", timeout=120)
            guest.swap("enable")
            guest.serial.command(f"disk write vda {size(24, 8)} 8{mode}", timeout=120)
            guest.swap("out")
            guest.serial.command(f"disk verify vda {size(24, 8)} 8{mode}", timeout=120)
            guest.swap("disable")

    def test_reboot_and_poweroff_while_swapped_out(self):
        guest = self.linux()
        guest.serial.command(f"mem alloc {size(64, 16)} 9", timeout=60)
        guest.swap("enable")
        guest.swap("out")
        start = len(guest.serial.text)
        guest.serial.begin("reboot")
        guest.serial.ready(timeout=120, start=start)
        guest.serial.command(f"mem alloc {size(64, 16)} 10", timeout=60)
        guest.serial.command("mem verify", timeout=60)
        guest.swap("enable")
        guest.swap("out")
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(60), 0)
        self.assert_nothing_left()

    def wait_for(self, condition, timeout=120):
        deadline = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), deadline, "it does not come true")
            time.sleep(0.5)


if __name__ == "__main__":
    unittest.main()
