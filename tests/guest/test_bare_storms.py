"""Discards, disk I/O and compaction while operations run."""
import unittest

import disks
from case import MIB, BareCase

CYCLE = ("enable", "trim", "out", "enable", "out", "in", "disable")


class Storms(BareCase):
    def assert_nothing_kept(self, guest):
        status = guest.ctl("swap", "status")
        self.assertEqual((status["state"], status["store"]["entries"], status["store_disk_bytes"]),
                         ("disabled", 0, 0))

    def beside(self, guest, operation, commands):
        """Runs the operation while the guest does @commands; at their end, too."""
        begun = [guest.serial.begin(command) for command in commands]
        running = guest.ctl_begin("swap", operation)
        for one in begun:
            guest.serial.finish(one, timeout=60)
        self.assertEqual(guest.ctl_finish(running)["result"], 0)

    def test_pages_given_back_during_every_operation_are_gone_and_the_others_whole(self):
        for options in ([], ["--swap-pool", "16M"], ["--swap-encrypt", "off", "--swap-compress", "zstd"]):
            with self.subTest(options=options):
                guest = self.bare(*options, memory="64M")
                for seed in (1, 2):
                    guest.serial.command(f"fillall {seed}")
                    for operation in CYCLE:
                        self.beside(guest, operation, ["balloon inflate 2048", "balloon report 8 64",
                                                       "balloon deflate 2048", "balloon report 64 4 3"])
                    result = guest.serial.command(f"verifyall {seed}", timeout=60)
                    # Nobody has written to them since.
                    self.assertEqual(result["lost"], result["lost_zero"])
                    self.assertGreater(result["lost"], 2048)
                    self.assert_nothing_kept(guest)

    def test_a_guest_that_gives_everything_back_leaves_an_empty_store(self):
        for options in ([], ["--swap-pool", "16M"]):
            with self.subTest(options=options):
                guest = self.bare(*options, memory="96M")
                free = guest.serial.command("fillall 3")["pages"]
                guest.swap("enable")
                guest.swap("out")
                self.assertGreater(guest.ctl("swap", "status")["store"]["entries"], 20000)
                # Every second one first, then those between.
                guest.serial.command(f"balloon report {free // 2 - 8} 1 2", timeout=60)
                half = guest.ctl("swap", "status")
                self.assertLess(half["pages_swapped"], free // 2 + 1024)
                guest.serial.command(f"balloon inflate {free}", timeout=60)
                # What is left are pages of the guest's own program.
                last = disks.poll(self, lambda: self.small_store(guest), "the store is empty")
                copies = last["store"]["entries"] - last["pages_swapped"]
                self.assertTrue(0 <= copies <= last["pages_resident"] + last["pages_staged"], last)
                guest.swap("disable")
                self.assert_nothing_kept(guest)

    @staticmethod
    def small_store(guest):
        status = guest.ctl("swap", "status")
        return status if status["store"]["entries"] < 1024 and status["store_disk_bytes"] < 16 * MIB and \
            status["store"]["pool_bytes"] < 16 * MIB else None

    def test_disk_reads_into_pages_on_their_way_out_and_in_are_right(self):
        guest = self.bare("--disk", self.make_file("disk.img", 32 * MIB), memory="128M")
        guest.serial.command("fillall 4")
        guest.serial.command("blk put 0 0 16384 16M")
        guest.serial.command("blk put 0 16384 16384 32M")
        for cycle in range(2):
            for operation in CYCLE:
                self.beside(guest, operation, ["blk get 0 0 16384 64M", "blk get 0 16384 16384 80M",
                                               # And out of such pages.
                                               "blk put 0 32768 8192 96M",
                                               "blk get 0 0 16384 104M"])
                for target, source in ((64, 16), (80, 32), (104, 16)):
                    guest.serial.command(f"verify {target}M 8M 4 {source * MIB}")
                guest.serial.command(f"blk get 0 32768 8192 {112 * MIB}")
                guest.serial.command(f"verify {112 * MIB} 4M 4 {96 * MIB}")
                # So that what is read next is not there already.
                guest.serial.command(f"fill 64M 24M {cycle + 50}")
                guest.serial.command("fill 104M 12M 4")
            guest.serial.command("fill 64M 24M 4")
        guest.serial.command("verifyall 4")
        self.assert_nothing_kept(guest)

    def test_memory_freed_in_scattered_pages_shrinks_the_file(self):
        guest = self.bare(memory="288M")
        free = guest.serial.command("fillall 5", timeout=60)["pages"]
        guest.swap("enable")
        guest.swap("out")
        before = guest.ctl("swap", "status")
        self.assertGreater(before["store_disk_bytes"], 280 * MIB)
        guest.serial.command(f"balloon report {free // 2 - 8} 1 2", timeout=120)

        def shrunk():
            status = guest.ctl("swap", "status")
            return status if status["store_disk_bytes"] <= 1.3 * status["store_live_bytes"] + 64 * MIB else None

        after = disks.poll(self, shrunk, "the store's file has shrunk")
        self.assertLess(after["store_live_bytes"], 0.55 * before["store_live_bytes"])
        self.assertGreater(after["counters"]["compacted"], 10000)
        self.assertEqual(after["state"], "out")
        # All at once: a fault for every second page would take its time.
        guest.swap("in")
        result = guest.serial.command("verifyall 5", timeout=60)
        self.assertEqual(result["lost"], result["lost_zero"])
        self.assertGreater(result["pages"], free // 2 - 16)
        guest.swap("disable")
        self.assert_nothing_kept(guest)


if __name__ == "__main__":
    unittest.main()
