"""What is taken away from ebb: io_uring, memory, its life; and what it takes from the host."""
import ctypes
import mmap
import os
import struct
import unittest

import disks
from case import MIB, BareCase
from ebb import ControlError

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYS_IO_URING_SETUP, EPERM = 425, 1
SECCOMP_ALLOW, SECCOMP_ERRNO = 0x7fff0000, 0x00050000


class LimitsCase(BareCase):
    def assert_whole(self, guest, seed, timeout=60):
        result = guest.serial.command(f"verifyall {seed}", timeout=timeout)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))


def refuse_io_uring():
    """For preexec_fn: io_uring_setup() gives EPERM from here on, as in many containers."""
    instructions = [(0x20, 0, 0, 0),                           # load the system call's number
                    (0x15, 0, 1, SYS_IO_URING_SETUP),          # unless it is this one, skip
                    (0x06, 0, 0, SECCOMP_ERRNO | EPERM),
                    (0x06, 0, 0, SECCOMP_ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in instructions))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code)))
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


class WithoutIoUring(LimitsCase):
    def full_cycle(self, *options, uring, **arguments):
        disk = self.make_file(f"disk-{len(os.listdir(self.directory))}", 8 * MIB)
        guest = self.bare("--disk", disk, *options, memory="64M", **arguments)
        guest.serial.command("fillall 1")
        guest.serial.command("blk put 0 0 8192 32M")
        guest.swap("enable")
        self.assertEqual(guest.ctl("swap", "status")["store"]["uring"], uring)
        guest.swap("trim")
        guest.swap("out")
        self.assertLess(guest.memfd_bytes(), 8 * MIB)
        guest.serial.command("blk get 0 0 8192 40M")
        guest.serial.command(f"verify 40M 4M 1 {32 * MIB}")
        guest.serial.command("fill 40M 4M 1")
        guest.swap("in")
        self.assert_whole(guest, 1)
        guest.swap("enable")
        guest.swap("out")
        self.assert_whole(guest, 1)
        guest.swap("disable")
        self.assert_whole(guest, 1)

    def test_threads_do_the_same(self):
        self.full_cycle("--swap-io", "threads", uring=False)

    def test_refused_io_uring_is_done_without(self):
        self.full_cycle(uring=False, preexec_fn=refuse_io_uring)

    def test_refused_io_uring_is_done_without_behind_a_pool(self):
        self.full_cycle("--swap-pool", "16M", uring=False, preexec_fn=refuse_io_uring)

    def test_insisting_on_refused_io_uring_fails_saying_so(self):
        guest = self.bare("--swap-io", "uring", memory="32M", preexec_fn=refuse_io_uring)
        with self.assertRaises(ControlError) as refused:
            guest.swap("enable")
        self.assertRegex(refused.exception.message, "io_uring|--swap-io")
        guest.serial.command("ping")


class Killed(LimitsCase):
    """SIGKILL, at whatever ebb is doing."""

    def kill_during(self, operations, during):
        """Kills ebb while it does @during, after @operations; starts one of the same name."""
        guest = self.bare(memory="160M", name="again")
        guest.serial.command("fillall 2", timeout=60)
        for operation in operations:
            guest.swap(operation)
        if during:
            running = guest.ctl_begin("swap", during)
            disks.poll(self, lambda: running[0].poll() is not None or guest.ctl("swap", "status")["operation"],
                       "the operation runs")
        guest.process.kill()
        guest.wait()
        if during:
            running[0].communicate()
        self.assertEqual(os.listdir(self.swap_dir), [])
        again = self.bare(memory="32M", name="again")
        again.serial.command("fillall 3")
        again.swap("enable")
        again.swap("out")
        self.assert_whole(again, 3)
        again.ctl("quit")
        self.assertEqual(again.wait(), 0)
        self.assert_nothing_left()

    def test_during_enable(self):
        self.kill_during([], "enable")

    def test_during_trim(self):
        self.kill_during(["enable"], "trim")

    def test_during_out(self):
        self.kill_during(["enable"], "out")

    def test_while_out(self):
        self.kill_during(["enable", "out"], None)

    def test_during_in(self):
        self.kill_during(["enable", "out"], "in")

    def test_during_disable(self):
        self.kill_during(["enable", "out"], "disable")

    def test_gives_the_disk_space_back(self):
        self.swap_dir = disks.tmpfs(self, "160M", "small")
        free = os.statvfs(self.swap_dir).f_bfree
        guest = self.bare(memory="96M")
        guest.serial.command("fillall 4")
        guest.swap("enable")
        guest.swap("out")
        self.assertLess(os.statvfs(self.swap_dir).f_bfree, free - 80 * 256)
        guest.process.kill()
        guest.wait()
        disks.poll(self, lambda: os.statvfs(self.swap_dir).f_bfree == free, "the space is free again")


class Memory(LimitsCase):
    def tight(self, *options, pool=0):
        """A guest in a control group that holds little more than the guest itself."""
        self.group = disks.MemoryGroup(self)
        guest = self.bare(*options, memory="256M", preexec_fn=self.group.join)
        guest.serial.command("fillall 5", timeout=60)
        self.group.limit(self.group.usage() + 16 * MIB + pool)
        guest.swap("enable")
        guest.swap("out")
        self.assertEqual(guest.ctl("swap", "status")["pages_staged"], 0)
        return guest

    def live_in(self, guest, size):
        """The guest goes from one small working set to the next in @size bytes of host memory."""
        disks.poll(self, lambda: self.shrinks_to(size), f"ebb needs no more than {size >> 20} MiB")
        for start in range(32, 232, 20):
            guest.serial.command(f"touch {start}M 8M 4096 1", timeout=60)
            guest.serial.command(f"verify {start}M 8M 5", timeout=60)
            guest.swap("enable")
            guest.swap("out")
        self.assertEqual(self.group.kills(), 0)
        self.group.limit(None)
        self.assert_whole(guest, 5)
        guest.swap("disable")
        self.assert_whole(guest, 5)

    def shrinks_to(self, size):
        try:
            self.group.limit(size)
        except OSError:
            return False
        return True

    def test_swaps_out_with_hardly_more_than_the_guest_has_and_lives_on_in_little(self):
        self.live_in(self.tight(), 40 * MIB)

    def test_swaps_out_to_a_pool_and_lives_on_in_little(self):
        pool = 32 * MIB
        guest = self.tight("--swap-pool", "32M", pool=pool)
        self.assertGreater(guest.ctl("swap", "status")["store"]["pool_bytes"], 24 * MIB)
        self.live_in(guest, 40 * MIB + pool)

    def resident_bytes(self, path):
        """What of a file is in the page cache."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
            LIBC.mmap.restype = ctypes.c_void_p
            address = LIBC.mmap(None, ctypes.c_size_t(size), 0, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0))
            self.assertNotEqual(address, ctypes.c_void_p(-1).value)
            present = (ctypes.c_ubyte * pages)()
            result = LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), present)
            LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
            self.assertEqual(result, 0)
        return sum(byte & 1 for byte in bytes(present)) * mmap.PAGESIZE

    def test_what_is_swapped_out_does_not_fill_the_page_cache(self):
        guest = self.bare(memory="256M")
        guest.serial.command("fillall 6", timeout=60)
        guest.swap("enable")
        guest.swap("out")
        status = guest.ctl("swap", "status")
        self.assertGreater(status["store"]["written_bytes"], 230 * MIB)
        self.assertLess(guest.memfd_bytes(), 8 * MIB)
        self.assertLess(self.resident_bytes(disks.store_path(guest, self.swap_dir)), 32 * MIB)
        guest.swap("in")
        self.assertLess(self.resident_bytes(disks.store_path(guest, self.swap_dir)), 32 * MIB)
        self.assert_whole(guest, 6)

    def test_what_is_swapped_out_is_free_memory(self):
        # In a group of its own: others use the host too.
        group = disks.MemoryGroup(self)
        guest = self.bare(memory="256M", preexec_fn=group.join)
        guest.serial.command("fillall 7", timeout=60)
        guest.swap("enable")
        guest.swap("out")
        self.assertLess(group.page_cache(), 48 * MIB)
        self.assertLess(group.usage(), 64 * MIB)
        self.assert_whole(guest, 7)


if __name__ == "__main__":
    unittest.main()
