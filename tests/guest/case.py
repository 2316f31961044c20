"""The base of the guest tests: directories of their own, guests that end with the test."""
import os
import shutil
import subprocess
import tempfile
import unittest

import host
from ebb import Ebb

MIB = 1 << 20


class GuestCase(unittest.TestCase):
    def setUp(self):
        self.directory = self.enter(tempfile.TemporaryDirectory(prefix="ebb-test-", dir=host.SCRATCH))
        self.runtime = self.make_dir("runtime")
        os.chmod(self.runtime, 0o700)
        self.swap_dir = self.make_dir("swap")

    def enter(self, context):
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def make_dir(self, name):
        path = os.path.join(self.directory, name)
        os.mkdir(path)
        return path

    def make_file(self, name, size=0, content=b""):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content)
            if size:
                file.truncate(size)
        return path

    def ebb(self, *options, **arguments):
        """A running ebb that ends with the test."""
        return self.enter(Ebb(*options, runtime_dir=self.runtime, **arguments))

    def run_ebb(self, *arguments, prefix=(), timeout=20):
        """`ebb ARGUMENTS` to its end: status, standard output, standard error."""
        try:
            result = subprocess.run([*prefix, host.BINARY, *arguments], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    env=dict(os.environ, XDG_RUNTIME_DIR=self.runtime),
                                    timeout=timeout * host.SLOWNESS, check=False)
        except subprocess.TimeoutExpired as error:
            self.fail(f"ebb {' '.join(arguments)} does not end: {error.stdout} {error.stderr}")
        return result.returncode, result.stdout, result.stderr

    def assert_nothing_left(self):
        """No control socket, nothing in the swap directory."""
        left = [os.path.join(path, name) for root in (self.runtime, self.swap_dir)
                for path, _, names in os.walk(root) for name in names]
        self.assertEqual(left, [])

    def need(self, program, package):
        if shutil.which(program) is None:
            self.skipTest(f"{program} is not installed: apt-get install {package}")

    def need_root(self, what):
        if not host.is_root():
            self.skipTest(f"{what} needs root: run the tests by sudo")


class BareCase(GuestCase):
    """Tests with the bare-metal guest, which every working /dev/kvm can run."""

    def setUp(self):
        super().setUp()
        if not host.check()["can_run"]:
            self.skipTest("this host cannot run guests: " + host.failures())

    def bare(self, *options, memory="128M", swap=True, cmdline="test", **arguments):
        """A bare guest that has said @ready."""
        if swap and not host.check()["can_swap"]:
            self.skipTest("this host cannot swap guests out: " + host.failures())
        extra = ["--swap-dir", self.swap_dir] if swap else []
        guest = self.ebb("--kernel", host.image("bare.elf"), "--memory", memory, "--cmdline", cmdline,
                         *extra, *options, **arguments)
        guest.greeting = guest.serial.ready()
        return guest


class LinuxCase(GuestCase):
    """Tests with a stock kernel."""

    def setUp(self):
        super().setUp()
        if not host.check()["can_run"]:
            self.skipTest("this host cannot run guests: " + host.failures())
        if not host.check()["stock_kernels"]:
            self.skipTest("this host's KVM runs no stock kernels, and this is not the host VM")

    def linux(self, *options, kernel="bzImage", initramfs="initramfs", memory="256M", cpus=1, cmdline="",
              ready=True, encrypt=None, **arguments):
        """
        A Linux guest that has said @ready. Encryption is on by default where it is not emulated, instruction
        by instruction: there it takes longer than all the rest.
        """
        if encrypt is None:
            encrypt = not host.IN_HOSTVM
        options = ["--swap-encrypt", "on" if encrypt else "off", *options]
        guest = self.ebb("--kernel", host.image(kernel), "--initrd", host.image(initramfs),
                         "--cmdline", f"console=ttyS0 quiet {cmdline}", "--memory", memory,
                         "--cpus", str(cpus), "--swap-dir", self.swap_dir, *options, **arguments)
        if ready:
            guest.greeting = guest.serial.ready(timeout=60)
        return guest
