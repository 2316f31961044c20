"""The machine, with the bare-metal guest: boot, memory, devices, reset and the ends of a machine."""
import os
import shutil
import signal
import subprocess
import time
import unittest

import host
from case import MIB, BareCase
from ebb import ControlError, GuestFailure


class Machine(BareCase):
    def test_boots_and_answers(self):
        guest = self.bare(cmdline="hello world")
        self.assertEqual(guest.greeting["dtb"], 1)
        self.assertEqual(guest.greeting["cmdline"], "hello world")
        guest.serial.command("ping")
        status = guest.ctl("status")
        self.assertEqual((status["state"], status["vcpus"], status["memory_bytes"]), ("running", 1, 128 * MIB))
        self.assertGreater(status["first_run_ns"], 0)

    def test_has_the_memory_asked_for(self):
        for size in (16, 64, 1024):
            with self.subTest(size=size):
                guest = self.bare(memory=f"{size}M", swap=False)
                memory = guest.serial.command("memory")
                self.assertEqual(memory["end"], size * MIB)
                # What is not free holds this program and the boot structures.
                self.assertGreater(memory["free_pages"], size * 256 - 1500)

    def test_keeps_patterns_on_both_sides_of_the_hole(self):
        guest = self.bare(memory="5G", swap=False)
        memory = guest.serial.command("memory")
        self.assertEqual((memory["ram_ranges"], memory["end"]), (2, 6 << 30))
        ranges = [(0xC0000000 - 4 * MIB, 4 * MIB), (1 << 32, 4 * MIB), ((6 << 30) - 4 * MIB, 4 * MIB)]
        for start, length in ranges:
            guest.serial.command(f"fill {start} {length} {start}")
        for start, length in ranges:
            guest.serial.command(f"verify {start} {length} {start}")

    def test_uses_little_memory_until_the_guest_touches_it(self):
        guest = self.bare(memory="1G")
        guest.serial.command("ping")
        self.assertLess(guest.held_bytes(), 48 * MIB)

    def test_more_vcpus_than_one(self):
        for cpus in (2, 4):
            with self.subTest(cpus=cpus):
                guest = self.bare("--cpus", str(cpus), swap=False)
                self.assertEqual(guest.ctl("status")["vcpus"], cpus)
                guest.serial.command("ping")

    def test_device_tree_can_be_dumped(self):
        self.need("dtc", "device-tree-compiler")
        path = os.path.join(self.directory, "machine.dtb")
        status, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--memory", "5G",
                                         "--disk", self.make_file("disk", MIB), "--dump-dtb", path)
        self.assertEqual(status, 0, errors)
        source = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", path], stdout=subprocess.PIPE, text=True,
                                stderr=subprocess.DEVNULL, check=True).stdout
        self.assertIn("memory@100000000", source)
        self.assertIn("virtio_mmio@d0000000", source)
        self.assert_nothing_left()


class Ends(BareCase):
    def test_poweroff_ends_with_status_0(self):
        guest = self.bare()
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    def test_triple_fault_is_reported_with_status_1(self):
        guest = self.bare()
        guest.serial.begin("triple")
        self.assertEqual(guest.wait(), 1)
        self.assertRegex(guest.errors.decode(), r"(?i)triple fault|shut ?down")
        self.assert_nothing_left()

    def test_quit_ends_with_status_0(self):
        guest = self.bare()
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    def test_second_sigterm_quits(self):
        guest = self.bare()
        guest.signal(signal.SIGTERM)
        guest.expect_error("signal again")
        # This bare guest does not look at its power button: it goes on.
        guest.serial.command("ping")
        guest.signal(signal.SIGTERM)
        self.assertEqual(guest.wait(), 0)
        self.assert_nothing_left()

    def test_no_output_is_lost_at_exit(self):
        guest = self.bare()
        start = len(guest.serial.text)
        guest.serial.begin("help")
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(), 0)
        guest.serial.wait("(?s)ping.*triple.*@ok #1.*@ok #2", start=start)

    def test_reset_without_a_kernel_ends_the_machine(self):
        kernel = os.path.join(self.directory, "kernel")
        shutil.copyfile(host.image("bare.elf"), kernel)
        guest = self.bare("--kernel", kernel, swap=False)
        os.truncate(kernel, 100)
        with self.assertRaisesRegex(ControlError, "kernel"):
            guest.ctl("reset")
        self.assertEqual(guest.wait(), 1)

    def test_reset_starts_the_guest_anew(self):
        guest = self.bare()
        guest.serial.command("fillall 1")
        for resets in (1, 2, 3):
            start = len(guest.serial.text)
            guest.serial.begin("reset")
            guest.serial.ready(start=start)
            self.assertEqual(guest.ctl("status")["resets"], resets)
        start = len(guest.serial.text)
        guest.ctl("reset")
        guest.serial.ready(start=start)
        # Memory starts as zeros again.
        self.assertEqual(guest.serial.command("verifyall 1")["pages"], 0)
        lost = guest.serial.command("verifyall 1")
        self.assertEqual(lost["lost"], lost["lost_zero"])

    def test_pause_stops_the_guest_and_resume_continues_it(self):
        guest = self.bare()
        guest.ctl("pause")
        self.assertEqual(guest.ctl("status")["state"], "paused")
        begun = guest.serial.begin("ping")
        with self.assertRaises(ControlError) as refused:
            guest.ctl("pause")
        self.assertEqual(refused.exception.code, "wrong_state")
        self.assertNotIn("@ok " + begun[0], guest.serial.text)
        guest.ctl("resume")
        guest.serial.finish(begun)


class Disks(BareCase):
    def disk(self, size=8 * MIB, name="disk.img"):
        return self.make_file(name, size)

    def test_write_read_verify(self):
        path = self.disk()
        guest = self.bare("--disk", path)
        guest.serial.command(f"fill 16M 2M 5")
        guest.serial.command("blk put 0 0 4096 16M")
        guest.serial.command("blk flush 0")
        guest.serial.command("zero 32M 2M")
        guest.serial.command("blk get 0 0 4096 32M")
        guest.serial.command("verify 32M 2M 5 16M")
        # The same bytes are in the host's file.
        with open(path, "rb") as file:
            content = file.read()
        self.assertNotEqual(content[:2 * MIB], bytes(2 * MIB))
        self.assertEqual(content[2 * MIB:], bytes(6 * MIB))

    def test_several_disks_are_told_apart_by_id(self):
        paths = [self.disk(name=f"disk{i}") for i in range(3)]
        guest = self.bare("--disk", f"{paths[0]},id=first", "--disk", f"{paths[1]},ro,id=second",
                          "--disk", paths[2])
        self.assertEqual(guest.serial.command("blk list")["disks"], 3)
        infos = [guest.serial.command(f"blk info {i}") for i in range(3)]
        self.assertEqual([info["id"] for info in infos], ["first", "second", "disk2"])
        self.assertEqual([info["read_only"] for info in infos], [0, 1, 0])
        self.assertEqual([info["sectors"] for info in infos], [8 * MIB // 512] * 3)

    def test_read_only_disk_cannot_be_written(self):
        path = self.disk()
        guest = self.bare("--disk", f"{path},ro")
        with self.assertRaisesRegex(Exception, "IOERR"):
            guest.serial.command("blk put 0 0 8 16M")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), bytes(8 * MIB))

    def test_access_beyond_the_end_is_an_error(self):
        guest = self.bare("--disk", self.disk())
        for command in ("blk get 0 16384 1 16M", "blk get 0 16383 2 16M", "blk put 0 0xfffffffffffffff 8 16M"):
            with self.subTest(command=command), self.assertRaisesRegex(Exception, "IOERR"):
                guest.serial.command(command)
        guest.serial.command("blk get 0 16383 1 16M")

    def test_discard_and_write_zeroes_give_the_space_back(self):
        path = self.disk()
        guest = self.bare("--disk", path)
        guest.serial.command("fill 16M 4M 9")
        guest.serial.command("blk put 0 0 8192 16M")
        guest.serial.command("blk flush 0")
        before = os.stat(path).st_blocks
        guest.serial.command("blk discard 0 0 4096 1")
        guest.serial.command("blk zeroes 0 4096 2048 1")
        self.assertLess(os.stat(path).st_blocks, before)
        guest.serial.command("blk get 0 4096 2048 64M")
        guest.serial.command("zero 32M 1M")
        guest.serial.command("blk get 0 6144 2048 32M")
        guest.serial.command(f"verify 32M 1M 9 {19 * MIB}")
        with open(path, "rb") as file:
            content = file.read(4 * MIB)
        self.assertEqual(content[2 * MIB:3 * MIB], bytes(1 * MIB))

    def test_a_request_may_have_many_ranges(self):
        path = self.disk()
        guest = self.bare("--disk", path)
        guest.serial.command("fill 16M 4M 9")
        guest.serial.command("blk put 0 0 8192 16M")
        guest.serial.command("blk flush 0")
        with open(path, "rb") as file:
            before = file.read(4 * MIB)
        # Each command takes every other stretch of 64 sectors: of the first MiB, the second, the third.
        for kind, sector, frees in (("discard", 0, True), ("unmap", 2048, True), ("zeroes", 4096, False)):
            blocks = os.stat(path).st_blocks
            guest.serial.command(f"blk {kind} 0 {sector} 64 16")
            freed = blocks - os.stat(path).st_blocks
            if frees:
                self.assertGreater(freed, 15 * 64, kind)
            else:
                self.assertLess(freed, 64, kind)
        with open(path, "rb") as file:
            after = file.read(4 * MIB)
        for start in range(0, 3 * MIB, 64 * 1024):
            self.assertEqual(after[start:start + 32768], bytes(32768))
            self.assertEqual(after[start + 32768:start + 65536], before[start + 32768:start + 65536])
        self.assertEqual(after[3 * MIB:], before[3 * MIB:])
        # One bad range, and nothing is done.
        with self.assertRaises(GuestFailure):
            guest.serial.command("blk discard 0 6144 1024 6")
        with open(path, "rb") as file:
            self.assertEqual(file.read(4 * MIB), after)

    def test_a_guest_that_breaks_the_protocol_harms_only_its_device(self):
        guest = self.bare("--disk", self.disk())
        for kind in ("address", "hole", "short", "status", "loop", "next", "index", "head"):
            with self.subTest(kind=kind):
                guest.serial.command(f"blk abuse 0 {kind}")
                guest.serial.command("blk get 0 0 8 16M")
        self.assertEqual(guest.ctl("status")["state"], "running")


class Balloon(BareCase):
    def test_inflating_gives_memory_back_to_the_host(self):
        guest = self.bare(swap=False)
        guest.serial.command("fillall 3")
        before = guest.memfd_bytes()
        guest.serial.command("balloon inflate 16384")
        self.assertLess(guest.memfd_bytes(), before - 60 * MIB)
        self.assertEqual(guest.ctl("balloon")["actual_bytes"], 64 * MIB)
        guest.serial.command("verifyall 3")
        guest.serial.command("balloon deflate 16384")
        again = guest.serial.command("verifyall 3")
        self.assertEqual((again["lost"], again["lost_zero"]), (16384, 16384))

    def test_follows_the_target_of_the_console(self):
        guest = self.bare(swap=False)
        self.assertEqual(guest.ctl("balloon", "96M")["target_bytes"], 32 * MIB)
        self.assertEqual(guest.serial.command("balloon follow")["inside"], 32 * 256)
        self.assertEqual(guest.ctl("balloon")["actual_bytes"], 32 * MIB)
        guest.ctl("balloon", "128M")
        self.assertEqual(guest.serial.command("balloon follow")["inside"], 0)

    def test_sizes_that_make_no_sense_are_refused(self):
        guest = self.bare(swap=False)
        for size in ("129M", "nonsense", "99999999G", "1M2"):
            with self.subTest(size=size), self.assertRaises(ControlError):
                guest.ctl("balloon", size)
        self.assertEqual(guest.ctl("balloon")["target_bytes"], 0)

    def test_statistics_reach_the_host(self):
        guest = self.bare(swap=False)
        wanted = guest.serial.command("balloon stats")
        # The device hands the buffer back when it wants newer ones.
        for _ in range(20):
            stats = guest.ctl("balloon")["stats"]
            if stats and stats["total_bytes"]:
                break
            guest.serial.command("balloon stats")
        self.assertEqual(stats["total_bytes"], wanted["total"])
        self.assertEqual(stats["free_bytes"], wanted["free"])

    def test_reported_pages_are_given_back(self):
        guest = self.bare(swap=False)
        guest.serial.command("fillall 4")
        before = guest.memfd_bytes()
        reported = guest.serial.command("balloon report 20 512")
        self.assertEqual(reported["pages"], 20 * 512)
        self.assertLess(guest.memfd_bytes(), before - 36 * MIB)
        self.assertEqual(guest.ctl("balloon")["reported_bytes"], 40 * MIB)
        again = guest.serial.command("verifyall 4")
        self.assertEqual((again["lost"], again["lost_zero"]), (20 * 512, 20 * 512))


class SerialLine(BareCase):
    def test_output_goes_to_a_file(self):
        path = os.path.join(self.directory, "serial.log")
        guest = self.ebb("--kernel", host.image("bare.elf"), "--memory", "32M", "--serial", f"file={path}")
        text = ""
        for _ in range(100 * host.SLOWNESS):
            time.sleep(0.05)
            if os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    text = file.read()
            if "cmdline=" in text:
                break
        self.assertIn("@ready bare dtb=1", text)
        self.assertEqual(guest.ctl("status")["state"], "running")

    def test_none_drops_it(self):
        guest = self.ebb("--kernel", host.image("bare.elf"), "--memory", "32M", "--serial", "none")
        for _ in range(50 * host.SLOWNESS):
            try:
                if guest.ctl("status")["first_run_ns"]:
                    break
            except AssertionError:
                continue
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assertEqual(guest.serial.text, "")


if __name__ == "__main__":
    unittest.main()
