"""Stock Linux kernels: boot, devices, reboot, power, the console at a terminal."""
import os
import signal
import time
import unittest

import host
from case import MIB, LinuxCase
from follower import Follower
from terminal import CONTROL_A, CONTROL_D, Terminal


class Boot(LinuxCase):
    def boots(self, kernel, cpus):
        guest = self.linux(kernel=kernel, cpus=cpus)
        self.assertEqual(guest.greeting["cpus"], cpus)
        self.assertEqual(guest.greeting["buttons"], 1)
        self.assertGreater(guest.greeting["total_kb"], 180 * 1024)
        self.assertEqual(guest.serial.command("cpus")["cpus"], cpus)
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(60), 0)
        self.assert_nothing_left()

    def test_boots_a_bzimage(self):
        self.boots("bzImage", 1)

    def test_boots_a_bzimage_on_4_vcpus(self):
        self.boots("bzImage", 4)

    def test_boots_a_vmlinux(self):
        self.boots("vmlinux", 1)

    def test_boots_a_vmlinux_on_4_vcpus(self):
        self.boots("vmlinux", 4)

    def test_small_and_large_memory(self):
        # 64 MiB is not enough for an uncompressed initramfs beside the kernel's decompression.
        for memory, least_kb in (("96M", 40 << 10), ("3584M", 3300 << 10)):
            with self.subTest(memory=memory):
                guest = self.linux(memory=memory)
                self.assertGreater(guest.greeting["total_kb"], least_kb)
                guest.ctl("quit")
                self.assertEqual(guest.wait(), 0)

    def test_uses_kvmclock_and_sees_its_devices(self):
        guest = self.linux("--disk", self.make_file("disk", MIB) + ",id=mine")
        clock = guest.serial.command("sh cat /sys/devices/system/clocksource/clocksource0/available_clocksource")
        self.assertIn("kvm-clock", clock["output"])
        drivers = guest.serial.command("sh ls /sys/bus/virtio/drivers/*/ | grep virtio")["output"]
        for number in range(3):
            self.assertIn(f"virtio{number}", drivers)
        self.assertEqual(guest.serial.command("sh cat /sys/block/vda/serial")["output"], "mine")
        rng = guest.serial.command("sh cat /sys/class/misc/hw_random/rng_available")["output"]
        self.assertIn("virtio_rng", rng)
        random = guest.serial.command("sh dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum")["output"]
        self.assertNotIn("3b5d3c7d207e37dceeedd301e35e2e58", random)  # of 64 zeros
        # Reading the clock through the CMOS must not fail.
        year = guest.serial.command("sh date +%Y")["output"]
        self.assertGreaterEqual(int(year.split("\\n")[0]), time.gmtime().tm_year - 1)


class Disks(LinuxCase):
    def test_write_read_verify(self):
        path = self.make_file("disk", 64 * MIB)
        guest = self.linux("--disk", path, "--disk", self.make_file("other", 16 * MIB), cpus=2)
        for words in ("24 1", "24 2 direct"):
            guest.serial.command(f"disk write vda {words}", timeout=60)
            guest.serial.command(f"disk verify vda {words}", timeout=60)
        guest.serial.command("disk write vdb 16 3", timeout=60)
        guest.serial.command("disk verify vda 24 2", timeout=60)
        guest.serial.command("disk verify vdb 16 3 direct", timeout=60)
        used = os.stat(path).st_blocks
        guest.serial.command("disk discard vda 24")
        self.assertLess(os.stat(path).st_blocks, used)

    def test_a_file_system_survives_a_reboot(self):
        guest = self.linux("--disk", self.make_file("disk", 64 * MIB))
        steps = ["mkdir /mnt", "mke2fs -q /dev/vda", "mount -t ext2 /dev/vda /mnt",
                 "cp /bin/busybox /mnt/copy", "umount /mnt"]
        for step in steps:
            self.assertEqual(guest.serial.command("sh " + step, timeout=60)["status"], 0, step)
        start = len(guest.serial.text)
        guest.serial.begin("reboot")
        guest.serial.ready(timeout=60, start=start)
        self.assertEqual(guest.ctl("status")["resets"], 1)
        for step in ["mkdir /mnt", "mount -t ext2 /dev/vda /mnt", "cmp /bin/busybox /mnt/copy"]:
            self.assertEqual(guest.serial.command("sh " + step, timeout=60)["status"], 0, step)


class Power(LinuxCase):
    def test_sigterm_presses_the_power_button(self):
        guest = self.linux()
        guest.signal(signal.SIGTERM)
        self.assertEqual(guest.wait(60), 0)
        self.assertIn("power button: powering off", guest.serial.text)
        self.assert_nothing_left()

    def test_powerdown_and_quit_by_the_console(self):
        guest = self.linux()
        guest.ctl("powerdown")
        self.assertEqual(guest.wait(60), 0)
        guest = self.linux(ready=False)
        time.sleep(2)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def test_reboots_again_and_again(self):
        guest = self.linux(cpus=2)
        for resets in (1, 2):
            start = len(guest.serial.text)
            guest.serial.begin("reboot")
            guest.serial.ready(timeout=60, start=start)
            self.assertEqual(guest.ctl("status")["resets"], resets)
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(60), 0)

    def test_a_panic_is_told_and_ends_in_a_reset(self):
        guest = self.linux(cmdline="panic=-1")
        follower = self.enter(Follower(guest))
        follower.wait("subscribed", panicked=False)
        start = len(guest.serial.text)
        guest.serial.begin("sh echo c >/proc/sysrq-trigger")
        guest.serial.ready(timeout=60, start=start)
        follower.wait("guest_panicked", crash_loaded=False)
        follower.wait("reset", resets=1)
        status = guest.ctl("status")
        self.assertEqual((status["resets"], status["panicked"]), (1, False))


class Shell(LinuxCase):
    def test_console_session_at_the_machines_terminal(self):
        argv = [host.BINARY, "run", "--name", "tty", "--kernel", host.image("bzImage"), "--initrd",
                host.image("initramfs"), "--cmdline", "console=ttyS0 quiet ebb.shell", "--memory", "256M",
                "--swap-dir", self.swap_dir]
        terminal = self.enter(Terminal(argv, dict(os.environ, XDG_RUNTIME_DIR=self.runtime)))
        terminal.expect(r"guest:.*# ", timeout=60)
        terminal.send("echo $((6 * 7))\n")
        terminal.expect(r"^42\r?$")
        # Job control: Ctrl-C interrupts what runs.
        start = terminal.position
        terminal.send("sleep 1000\n")
        time.sleep(2)
        terminal.send("\x03")
        terminal.expect(r"guest:.*# ", start=start)
        for command, expected in (("swap enable", "state: staged"), ("swap out", "state: out"),
                                  ("status", "running")):
            start = terminal.position
            terminal.send(CONTROL_A + "c")
            terminal.expect_prompt("ebb tty> ", start=start)
            terminal.send(command + "\n")
            terminal.expect_prompt(expected + "(?s:.*)ebb tty> ", timeout=60, start=start)
            terminal.send(CONTROL_D)
            time.sleep(2)
        start = terminal.position
        terminal.send("echo $((7 * 8))\n")
        terminal.expect(r"^56\r?$", timeout=60, start=start)
        terminal.send("poweroff -f\n")
        self.assertEqual(terminal.process.wait(60 * host.SLOWNESS), 0)
        self.assertTrue(terminal.is_restored())


if __name__ == "__main__":
    unittest.main()
