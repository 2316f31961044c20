"""What `ebb run` says to what it cannot do: one line, a status, and nothing left behind."""
import os
import shutil
import stat
import struct
import subprocess
import unittest

import host
from case import MIB, BareCase

NOBODY = 65534


def bzimage(length=64 * 1024, protocol=0x20F, loadflags=1, xloadflags=1, init_size=1 * MIB):
    """A setup header that looks right, with nothing behind it."""
    image = bytearray(length)
    image[0x1F1] = 4
    struct.pack_into("<I", image, 0x1F4, (length - 5 * 512) // 16)
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    image[0x211] = loadflags
    struct.pack_into("<H", image, 0x236, xloadflags)
    struct.pack_into("<I", image, 0x238, 255)
    struct.pack_into("<Q", image, 0x258, 0x1000000)
    struct.pack_into("<I", image, 0x260, init_size)
    return bytes(image)


class BadInput(BareCase):
    def setUp(self):
        super().setUp()
        self.kernel = host.image("bare.elf")

    def refused(self, *options, status=1, says=(), kernel=None, prefix=(), swap=True):
        """`ebb run` must end at once with @status and one line that has each of @says in it."""
        arguments = ["run", "--name", "bad", "--kernel", kernel or self.kernel]
        if "--memory" not in options:
            arguments += ["--memory", "64M"]
        if swap and "--swap-dir" not in options:
            arguments += ["--swap-dir", self.swap_dir]
        code, output, errors = self.run_ebb(*arguments, *options, prefix=prefix)
        self.assertEqual(code, status, errors)
        self.assertEqual(output, "")
        self.assertEqual(len(errors.splitlines()), 1, errors)
        self.assertTrue(errors.startswith("ebb"), errors)
        for text in says:
            self.assertRegex(errors, text)
        self.assert_nothing_left()
        return errors

    # Kernels.

    def test_missing_kernel(self):
        self.refused(kernel="/no/such/kernel", says=["/no/such/kernel", "No such file"])

    def test_kernel_that_is_a_directory(self):
        self.refused(kernel=self.directory, says=[self.directory])

    def test_kernel_that_is_no_kernel(self):
        path = self.make_file("text", content=b"this is no kernel\n" * 1000)
        self.refused(kernel=path, says=[path, "kernel"])

    def test_empty_kernel(self):
        path = self.make_file("empty")
        self.refused(kernel=path, says=[path])

    def test_truncated_elf(self):
        with open(self.kernel, "rb") as file:
            content = file.read()
        for length in (10, 64, 100, 4000, 0x6800):
            path = self.make_file(f"cut{length}", content=content[:length])
            self.refused(kernel=path, says=[path])

    def test_truncated_bzimage(self):
        path = self.make_file("bzImage", content=bzimage()[:3000])
        self.refused(kernel=path, says=[path])

    def test_kernel_for_another_architecture(self):
        with open(self.kernel, "rb") as file:
            content = bytearray(file.read())
        struct.pack_into("<H", content, 18, 183)  # EM_AARCH64
        path = self.make_file("arm64", content=bytes(content))
        self.refused(kernel=path, says=[path])

    def test_elf_without_a_pvh_note(self):
        path = self.make_file("true", content=open("/bin/true", "rb").read())
        self.refused(kernel=path, says=[path, "PVH"])

    def test_bzimage_without_a_64_bit_entry(self):
        path = self.make_file("old", content=bzimage(xloadflags=0))
        self.refused(kernel=path, says=[path])

    def test_kernel_too_big_for_ram(self):
        path = self.make_file("big", content=bzimage(init_size=512 * MIB))
        self.refused(kernel=path, says=[path])

    # The initrd.

    def test_missing_initrd(self):
        self.refused("--initrd", "/no/such/initrd", says=["/no/such/initrd"])

    def test_initrd_that_does_not_fit(self):
        path = self.make_file("initrd", 256 * MIB)
        self.refused("--initrd", path, says=[path])

    # Memory and processors.

    def test_memory_sizes_that_make_no_sense(self):
        for size in ("0", "17", "15M", "nonsense", "", "16M1", "-1", "999999G", "99999999999999999999"):
            with self.subTest(size=size):
                self.refused("--memory", size, status=2, says=["--memory"])

    def test_more_memory_than_the_host_has(self):
        bytes_of_host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.refused("--memory", str((bytes_of_host // MIB + 1024) * MIB), status=2, says=["host"])

    def test_numbers_of_cpus_that_make_no_sense(self):
        for cpus in ("0", "65", "10000", "-1", "many", ""):
            with self.subTest(cpus=cpus):
                self.refused("--cpus", cpus, status=2, says=["--cpus"])

    # Disks.

    def test_missing_disk(self):
        self.refused("--disk", "/no/such/disk", says=["/no/such/disk"])

    def test_empty_disk(self):
        path = self.make_file("disk")
        self.refused("--disk", path, says=[path])

    def test_disk_that_is_a_directory(self):
        self.refused("--disk", self.directory, says=[self.directory])

    def test_disk_that_cannot_be_written(self):
        path = self.make_file("disk", MIB)
        os.chmod(path, 0o444)
        prefix = ()
        if host.is_root():
            # Root may write what it may not: take that right away.
            prefix = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
        self.refused("--disk", path, says=[path, "ro"], prefix=prefix)

    def test_disk_in_use_by_another_machine(self):
        path = self.make_file("disk", MIB)
        guest = self.bare("--disk", path)
        code, _, errors = self.run_ebb("run", "--name", "bad", "--kernel", self.kernel, "--disk", path)
        self.assertEqual(code, 1)
        self.assertEqual(len(errors.splitlines()), 1, errors)
        self.assertIn(path, errors)
        # Nor may it be read while somebody writes.
        guest.serial.command("blk info 0")

    def test_disk_used_twice_for_writing(self):
        path = self.make_file("disk", MIB)
        self.refused("--disk", path, "--disk", path, says=[path])

    def test_disk_options_that_make_no_sense(self):
        path = self.make_file("disk", MIB)
        for option in ("rw", "id=", "id=" + "x" * 21, ""):
            with self.subTest(option=option):
                self.refused("--disk", f"{path},{option}", status=2, says=["--disk"])

    # Formats of disks.

    def image(self, disk_format, name):
        """A real image by qemu-img."""
        self.need("qemu-img", "qemu-utils")
        path = os.path.join(self.directory, name)
        subprocess.run(["qemu-img", "create", "-q", "-f", disk_format, path, "8M"], check=True)
        return path

    def test_disk_images_of_other_formats(self):
        for disk_format, name in (("qcow2", "a.qcow2"), ("qcow", "a.qcow"), ("vmdk", "a.vmdk"), ("vdi", "a.vdi"),
                                  ("vhdx", "a.vhdx"), ("vpc", "a.vhd")):
            with self.subTest(name=name):
                path = self.image(disk_format, name)
                errors = self.refused("--disk", path, says=[f"is a {disk_format}", "ebb reads raw disks"])
                # The command that it names does it.
                command = errors[errors.index("qemu-img"):].split()
                self.assertEqual(command[-2:], [path, os.path.join(self.directory, "a.raw")])
                subprocess.run(command, check=True)
                self.assertGreaterEqual(os.stat(command[-1]).st_size, 8 * MIB)

    def test_content_does_not_make_a_raw_disk_an_image(self):
        """A guest may write that, and must neither lock itself out nor be shown other files."""
        secret = self.make_file("secret", content=b"secret" * 1000)
        overlay = os.path.join(self.directory, "a.raw")
        self.need("qemu-img", "qemu-utils")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", overlay, "8M"],
                       check=True)
        os.truncate(overlay, 8 * MIB)
        guest = self.bare("--disk", overlay)
        guest.expect_error("begins as a qcow2 image does.*used as a raw disk")
        guest.serial.command("fill 16M 1M 1")
        guest.serial.command("blk put 0 2048 2048 16M")
        with open(overlay, "rb") as file:
            self.assertEqual(file.read(4), b"QFI\xfb")
        self.assertEqual(os.stat(overlay).st_size, 8 * MIB)

    def test_disk_that_is_said_to_be_raw(self):
        path = self.image("qcow2", "a.qcow2")
        os.truncate(path, 8 * MIB)
        self.refused("--disk", path + ",format=qcow2", status=2, says=["raw"])
        guest = self.bare("--disk", path + ",format=raw")
        self.assertEqual(guest.serial.command("blk info 0")["sectors"], 8 * MIB // 512)
        self.assertNotIn(b"qcow2", guest.errors)

    # The kernel beside the disk.

    def test_no_kernel_beside_the_disk(self):
        path = self.make_file("a.raw", MIB)
        for disk, says in ((path, "a.vmlinuz"), (self.make_file("b.img", MIB), ".raw"), ("/no/such.raw", "no such")):
            code, _, errors = self.run_ebb("run", "--disk", disk)
            self.assertEqual((code, len(errors.splitlines())), (1, 1), errors)
            self.assertIn(says, errors)
        self.make_file("a.vmlinuz", content=b"this is no kernel\n" * 1000)
        code, _, errors = self.run_ebb("run", "--disk", path)
        self.assertEqual(code, 1)
        self.assertRegex(errors.splitlines()[-1], "a.vmlinuz.*kernel")

    def test_kernel_beside_the_disk_is_booted(self):
        shutil.copy(self.kernel, os.path.join(self.directory, "a.vmlinuz"))
        self.make_file("a.cmdline", content=b"from beside\n")
        guest = self.ebb("--disk", self.make_file("a.raw", MIB))
        self.assertEqual(guest.serial.ready()["cmdline"], "from beside")
        guest.expect_error("a.vmlinuz and the command line from beside the disk")

    # The swap directory.

    def test_missing_swap_directory(self):
        self.refused("--swap-dir", "/no/such/directory", says=["/no/such/directory"])

    def test_swap_directory_that_is_a_file(self):
        path = self.make_file("file", MIB)
        self.refused("--swap-dir", path, says=[path])

    def test_swap_directory_without_o_tmpfile(self):
        # /proc has no O_TMPFILE, and nothing can be written there.
        self.refused("--swap-dir", "/proc", says=["/proc"])

    # Names and sockets.

    def test_name_in_use(self):
        self.bare(name="bad")
        code, _, errors = self.run_ebb("run", "--name", "bad", "--kernel", self.kernel, "--memory", "32M")
        self.assertEqual(code, 1)
        self.assertEqual(len(errors.splitlines()), 1, errors)
        self.assertIn("bad", errors)
        status, _, _ = self.run_ebb("ctl", "bad", "status")
        self.assertEqual(status, 0)

    def test_name_of_a_dead_machine_can_be_used_again(self):
        guest = self.bare(name="bad")
        guest.process.kill()
        guest.process.wait()
        self.bare(name="bad").serial.command("ping")

    def test_names_that_make_no_sense(self):
        for name in ("", "../x", ".hidden", "a b", "x" * 65, "a/b"):
            with self.subTest(name=name):
                code, _, errors = self.run_ebb("run", "--name", name, "--kernel", self.kernel)
                self.assertEqual((code, len(errors.splitlines())), (2, 1), errors)

    def test_control_socket_that_cannot_be_made(self):
        self.refused("--control", "/no/such/dir/socket", says=["/no/such/dir"])
        self.refused("--control", os.path.join(self.directory, "x" * 200), says=["x" * 100])

    # Options.

    def test_wrong_usage(self):
        for arguments in (["run"], ["run", "--no-such-option"], ["run", "--kernel"], ["no-such-command"],
                          ["run", "--kernel", self.kernel, "extra"], ["run", "--kernel", self.kernel, "--serial", "x"]):
            with self.subTest(arguments=arguments):
                code, _, errors = self.run_ebb(*arguments)
                self.assertEqual(code, 2)
                self.assertEqual(len(errors.splitlines()), 1, errors)

    # The host's rights. A mount namespace changes what this one process sees.

    def hide(self, device, replacement):
        """A command prefix under which @device is @replacement, or gone."""
        self.need_root(f"hiding {device}")
        action = f"mount --bind {replacement} {device}" if replacement else \
            "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3"
        return ("unshare", "--mount", "sh", "-c", f'{action} && exec "$@"', "sh")

    def test_no_kvm(self):
        self.refused(prefix=self.hide("/dev/kvm", None), says=["/dev/kvm", "modprobe|enable|virtualization"])

    def test_kvm_that_is_something_else(self):
        self.refused(prefix=self.hide("/dev/kvm", "/dev/null"), says=["/dev/kvm"])

    def test_no_right_to_kvm(self):
        self.need_root("becoming somebody else")
        if os.stat("/dev/kvm").st_mode & stat.S_IROTH:
            self.skipTest("everybody may use /dev/kvm here")
        binary = os.path.join(self.directory, "ebb")
        shutil.copy(host.BINARY, binary)
        shutil.copy(self.kernel, self.directory)
        for path, _, _ in os.walk(self.directory):
            os.chown(path, NOBODY, NOBODY)
        code, _, errors = self.run_as_nobody(binary)
        self.assertEqual(code, 1)
        self.assertEqual(len(errors.splitlines()), 1, errors)
        self.assertIn("/dev/kvm", errors)
        self.assertRegex(errors, "kvm|group|setfacl|chmod")

    def run_as_nobody(self, binary):
        saved, host.BINARY = host.BINARY, binary
        try:
            return self.run_ebb("run", "--kernel", os.path.join(self.directory, "bare.elf"), "--memory", "32M",
                                prefix=("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"))
        finally:
            host.BINARY = saved


if __name__ == "__main__":
    unittest.main()
