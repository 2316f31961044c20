"""What a guest's memory goes through when the place it is swapped to fills up, fails or lies."""
import os
import time
import unittest

import disks
from case import MIB, BareCase
from ebb import ControlError

PAGE = 4096


class StorageCase(BareCase):
    def refused(self, guest, *words):
        with self.assertRaises(ControlError) as refused:
            guest.ctl(*words)
        return refused.exception

    def assert_whole(self, guest, seed, timeout=60):
        result = guest.serial.command(f"verifyall {seed}", timeout=timeout)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))
        return result["pages"]

    def assert_nothing_kept(self, guest):
        """Swap is off and holds nothing."""
        status = guest.ctl("swap", "status")
        self.assertEqual((status["state"], status["store"]["entries"], status["store_disk_bytes"]),
                         ("disabled", 0, 0))

    def await_pause(self, guest):
        disks.poll(self, lambda: guest.ctl("status")["state"] == "paused", "the VM is paused")
        return guest.ctl("status")["reason"]

    def resume_when_mended(self, guest):
        def resumed():
            try:
                guest.ctl("resume")
                return True
            except ControlError as error:
                self.assertIn("still missing", error.message)
                return False
        disks.poll(self, resumed, "the VM can be resumed")

    def staged(self, *options, seed, **arguments):
        guest = self.bare(*options, **arguments)
        guest.serial.command(f"fillall {seed}", timeout=60)
        guest.swap("enable")
        return guest

    def swapped_out(self, *options, seed, **arguments):
        guest = self.staged(*options, seed=seed, **arguments)
        guest.swap("out")
        return guest


class Full(StorageCase):
    def half_out(self, seed):
        """A guest half of which is in a file system that is full now."""
        self.small = disks.tmpfs(self, "32M")
        guest = self.staged("--swap-dir", self.small, seed=seed, memory="96M")
        error = self.refused(guest, "swap", "out")
        self.assertEqual(error.code, "no_space")
        self.assertIn(self.small, error.message)
        status = guest.ctl("swap", "status")
        self.assertEqual((status["state"], status["pages_writing"]), ("staged", 0))
        self.assertGreater(status["pages_swapped"], 4000)
        self.assertGreater(status["pages_staged"], 4000)
        return guest

    def test_file_system_full_in_the_middle_of_out_then_in(self):
        guest = self.half_out(1)
        guest.swap("in")
        self.assertEqual(guest.ctl("swap", "status")["pages_swapped"], 0)
        self.assert_whole(guest, 1)

    def test_file_system_full_in_the_middle_of_out_then_disable(self):
        guest = self.half_out(2)
        guest.swap("disable")
        self.assert_nothing_kept(guest)
        self.assertEqual(os.statvfs(self.small).f_bfree, os.statvfs(self.small).f_blocks)
        self.assert_whole(guest, 2)

    def test_file_system_full_in_the_middle_of_out_then_quit(self):
        guest = self.half_out(3)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assertEqual(os.statvfs(self.small).f_bfree, os.statvfs(self.small).f_blocks)
        self.assert_nothing_left()

    def test_out_goes_on_when_the_file_system_has_grown(self):
        guest = self.half_out(4)
        disks.run("mount", "-o", "remount,size=160M", self.small)
        guest.swap("out")
        self.assertEqual(guest.ctl("swap", "status")["pages_staged"], 0)
        self.assert_whole(guest, 4)


class Limits(StorageCase):
    def stops_at(self, guest, option):
        error = self.refused(guest, "swap", "out")
        self.assertEqual(error.code, "no_space")
        self.assertIn(option, error.message)
        status = guest.ctl("swap", "status")
        self.assertEqual((status["state"], status["pages_writing"]), ("staged", 0))
        return status

    def goes_on_after_a_discard(self, guest, option, seed, before):
        """What the guest frees makes room for a second `out`."""
        guest.serial.command("balloon report 32 512")
        status = guest.ctl("swap", "status")
        self.assertLess(status["pages_swapped"] + status["pages_staged"],
                        before["pages_swapped"] + before["pages_staged"] - 30 * 512)
        guest.serial.command("touch 24M 8M")
        guest.swap("enable")
        try:
            guest.swap("out")
        except ControlError as error:
            self.assertEqual(error.code, "no_space")
            self.assertIn(option, error.message)
        status = guest.ctl("swap", "status")
        self.assertLess(status["pages_staged"], before["pages_staged"])
        result = guest.serial.command(f"verifyall {seed}", timeout=60)
        self.assertEqual((result["lost"], result["lost_zero"]), (32 * 512, 32 * 512))

    def test_limit_stops_out_and_what_is_out_stays_out(self):
        guest = self.staged("--swap-limit", "64M", seed=5, memory="128M")
        status = self.stops_at(guest, "--swap-limit")
        self.assertLessEqual(status["store_disk_bytes"], 64 * MIB)
        self.assertGreater(status["pages_swapped"], 15000)
        again = self.stops_at(guest, "--swap-limit")
        self.assertGreaterEqual(again["pages_swapped"], status["pages_swapped"])
        self.assertLess(guest.memfd_bytes(), 72 * MIB)
        self.goes_on_after_a_discard(guest, "--swap-limit", 5, again)
        guest.swap("in")
        guest.swap("disable")
        self.assert_nothing_kept(guest)
        guest.serial.command("verifyall 5")

    def test_pool_alone_stops_out_and_what_is_out_stays_out(self):
        guest = self.staged("--swap-pool", "64M", seed=6, memory="128M", swap=False)
        status = self.stops_at(guest, "--swap-pool")
        self.assertLessEqual(status["store"]["pool_bytes"], 64 * MIB)
        self.assertEqual(status["store_disk_bytes"], 0)
        self.assertGreater(status["pages_swapped"], 15000)
        again = self.stops_at(guest, "--swap-pool")
        self.assertGreaterEqual(again["pages_swapped"], status["pages_swapped"])
        self.goes_on_after_a_discard(guest, "--swap-pool", 6, again)
        guest.swap("in")
        guest.swap("disable")
        self.assert_nothing_kept(guest)
        guest.serial.command("verifyall 6")

    def test_limit_reached_can_be_brought_in_and_quit(self):
        for options, option in ((["--swap-limit", "64M"], "--swap-limit"), (["--swap-pool", "64M"], "--swap-pool")):
            with self.subTest(option=option):
                guest = self.staged(*options, seed=7, memory="128M", swap=option == "--swap-limit")
                self.stops_at(guest, option)
                guest.swap("in")
                self.assert_whole(guest, 7)
                guest.swap("enable")
                self.stops_at(guest, option)
                guest.ctl("quit")
                self.assertEqual(guest.wait(), 0)
                self.assert_nothing_left()

    def test_pool_is_emptied_into_the_file_up_to_the_limit(self):
        guest = self.staged("--swap-pool", "24M", "--swap-limit", "48M", seed=8, memory="128M")
        status = self.stops_at(guest, "--swap-limit")
        store = status["store"]
        self.assertLessEqual(status["store_disk_bytes"], 48 * MIB)
        self.assertGreater(store["evicted_bytes"], 40 * MIB)
        # A segment for each thread may be open on top.
        self.assertLessEqual(store["pool_bytes"], 32 * MIB)
        self.assertGreater(status["pages_swapped"], 16000)
        self.assert_whole(guest, 8)
        guest.swap("enable")
        self.stops_at(guest, "--swap-limit")
        guest.swap("disable")
        self.assert_nothing_kept(guest)
        self.assert_whole(guest, 8)


class Broken(StorageCase):
    def test_disk_that_takes_no_more_stops_out_until_it_is_mended(self):
        zram = disks.Zram(self, 256 * MIB, 24 * MIB)
        guest = self.staged("--swap-dir", zram.path, seed=9, memory="96M")
        error = self.refused(guest, "swap", "out")
        self.assertIn(zram.path, error.message)
        status = guest.ctl("swap", "status")
        self.assertEqual((status["state"], status["pages_writing"]), ("staged", 0))
        self.assertGreater(status["pages_staged"], 8000)
        self.assertEqual(guest.ctl("status")["state"], "running")
        self.assert_whole(guest, 9)
        zram.set_limit(0)
        guest.swap("enable")
        guest.swap("out")
        self.assert_whole(guest, 9)
        guest.swap("disable")
        self.assert_nothing_kept(guest)
        self.assert_whole(guest, 9)

    def test_pool_whose_disk_takes_no_more_keeps_what_it_has(self):
        zram = disks.Zram(self, 256 * MIB, 16 * MIB)
        guest = self.staged("--swap-dir", zram.path, "--swap-pool", "16M", seed=10, memory="96M")
        self.refused(guest, "swap", "out")
        status = guest.ctl("swap", "status")
        self.assertEqual((status["state"], status["pages_writing"]), ("staged", 0))
        self.assertLessEqual(status["store"]["pool_bytes"], 24 * MIB)
        self.assert_whole(guest, 10)
        zram.set_limit(0)
        guest.swap("enable")
        guest.swap("out")
        guest.swap("in")
        self.assert_whole(guest, 10)

    def test_disk_that_cannot_be_read_pauses_the_vm_until_it_is_mended(self):
        for encryption in ("on", "off"):
            with self.subTest(encryption=encryption):
                loop = disks.Loop(self, 128 * MIB)
                guest = self.swapped_out("--swap-dir", loop.path, "--swap-encrypt", encryption, seed=11,
                                         memory="64M")
                mend = loop.lose()
                verification = guest.serial.begin("verifyall 11")
                self.assertIn("cannot be read back", self.await_pause(guest))
                self.assertIn("still missing", self.refused(guest, "resume").message)
                self.refused(guest, "swap", "in")
                self.assertGreater(guest.ctl("swap", "status")["pages_swapped"], 10000)
                mend()
                self.resume_when_mended(guest)
                result = guest.serial.finish(verification, timeout=60)
                self.assertEqual((result["bad"], result["lost"]), (0, 0))
                guest.ctl("quit")
                self.assertEqual(guest.wait(), 0)

    def flip(self, guest, every):
        """Flips a bit in each @every bytes of the store; doing it twice mends it."""
        path = disks.store_path(guest, self.swap_dir)
        with open(path, "r+b", buffering=0) as file:
            for offset in range(every // 2, os.fstat(file.fileno()).st_size, every):
                byte = os.pread(file.fileno(), 1, offset)
                os.pwrite(file.fileno(), bytes([byte[0] ^ 0x10]), offset)
            os.fsync(file.fileno())

    def test_flipped_bits_pause_the_vm_until_they_are_flipped_back(self):
        for encryption in ("on", "off"):
            with self.subTest(encryption=encryption):
                guest = self.swapped_out("--swap-encrypt", encryption, seed=12, memory="64M")
                # About one bit in 64 pages: most of the guest's memory is as it was.
                self.flip(guest, 64 * PAGE)
                verification = guest.serial.begin("verifyall 12")
                self.assertIn("cannot be read back", self.await_pause(guest))
                self.assertIn("still missing", self.refused(guest, "resume").message)
                self.flip(guest, 64 * PAGE)
                self.resume_when_mended(guest)
                result = guest.serial.finish(verification, timeout=60)
                self.assertEqual((result["bad"], result["lost"]), (0, 0))

    def test_truncated_store_pauses_the_vm_until_it_is_whole_again(self):
        guest = self.swapped_out(seed=13, memory="64M")
        path = disks.store_path(guest, self.swap_dir)
        with open(path, "rb") as file:
            content = file.read()
        os.truncate(path, PAGE)
        verification = guest.serial.begin("verifyall 13")
        self.assertIn("cannot be read back", self.await_pause(guest))
        self.assertIn("still missing", self.refused(guest, "resume").message)
        self.refused(guest, "swap", "in")
        with open(path, "r+b") as file:
            file.write(content)
        self.resume_when_mended(guest)
        result = guest.serial.finish(verification, timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))
        guest.swap("disable")
        self.assert_whole(guest, 13)

    def test_truncated_store_can_be_left_by_quit(self):
        guest = self.swapped_out(seed=14, memory="64M")
        os.truncate(disks.store_path(guest, self.swap_dir), 0)
        guest.serial.begin("verifyall 14")
        self.await_pause(guest)
        guest.ctl("quit")
        guest.wait()
        self.assert_nothing_left()


class Slow(StorageCase):
    """A disk that stands still for a while: slower than a page a second."""

    def guest_on(self, seed):
        self.loop = disks.Loop(self, 192 * MIB)
        self.group = disks.DiskGroup(self, self.loop)
        guest = self.staged("--swap-dir", self.loop.path, seed=seed, memory="96M", preexec_fn=self.group.join)
        # First of all, or ebb could not end.
        self.addCleanup(self.group.slow)
        return guest

    def test_out_to_a_disk_that_stands_still_harms_nobody(self):
        guest = self.guest_on(15)
        self.group.slow(write=1024)
        operation = guest.ctl_begin("swap", "out")
        disks.poll(self, lambda: guest.ctl("swap", "status")["pages_writing"], "pages are being written")
        # Staged pages and those being written come back without the disk.
        self.assert_whole(guest, 15)
        self.assertEqual(guest.ctl("status")["state"], "running")
        self.assertIsNone(operation[0].poll())
        guest.ctl("swap", "cancel")
        self.group.slow()
        with self.assertRaises(ControlError) as ended:
            guest.ctl_finish(operation)
        self.assertEqual(ended.exception.code, "cancelled")
        guest.swap("enable")
        guest.swap("out")
        self.assert_whole(guest, 15)

    def test_memory_that_waits_for_a_disk_that_stands_still_comes_in_the_end(self):
        guest = self.guest_on(16)
        guest.swap("out")
        self.group.slow(read=1024)
        verification = guest.serial.begin("verifyall 16")
        time.sleep(1)
        operation = guest.ctl_begin("swap", "in")
        disks.poll(self, lambda: guest.ctl("swap", "status")["operation"], "swap in runs")
        self.assertNotIn(f"@ok {verification[0]}", guest.serial.text)
        # Slow is not broken.
        self.assertEqual(guest.ctl("status")["state"], "running")
        guest.ctl("swap", "cancel")
        self.group.slow()
        with self.assertRaises(ControlError) as ended:
            guest.ctl_finish(operation)
        self.assertEqual(ended.exception.code, "cancelled")
        result = guest.serial.finish(verification, timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))
        guest.swap("disable")
        self.assert_whole(guest, 16)


if __name__ == "__main__":
    unittest.main()
