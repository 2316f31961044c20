"""A disk with Debian on it, as guest-images/debian.sh builds it: systemd, a login, swap, a clean end."""
import os
import re
import shutil
import subprocess
import unittest

import host
from case import MIB, LinuxCase


class Debian(LinuxCase):
    def disk(self):
        """A copy to write to, of the disk and of what is beside it, and larger."""
        path = os.path.join(self.directory, "debian.raw")
        for suffix in ("vmlinuz", "initrd", "cmdline"):
            shutil.copy(host.image(f"debian.{suffix}"), self.directory)
        subprocess.run(["cp", "--sparse=always", host.image("debian.raw"), path], check=True)
        os.truncate(path, os.stat(path).st_size + 256 * MIB)
        return path

    def sh(self, guest, command, timeout=60):
        """What a command says in the guest's shell; it must succeed."""
        tag = next(guest.serial.tags)
        start = len(guest.serial.text)
        guest.serial.send(f"{command}; echo @$?:{tag}@\n")
        end = guest.serial.wait(rf"@(\d+):{tag}@", timeout, start)
        text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", guest.serial.text[start:end.start()])
        self.assertEqual(end.group(1), "0", f"{command}: {text}")
        return text

    def test_is_lived_in_swapped_out_and_shut_down(self):
        path = self.disk()
        guest = self.ebb("--disk", path, "--memory", "512M", "--swap-dir", self.swap_dir, "--swap-encrypt",
                         "on" if not host.IN_HOSTVM else "off")
        guest.expect_error(re.escape(os.path.join(self.directory, "debian.vmlinuz")))
        guest.serial.wait(r"^debian login: ", timeout=120)
        start = len(guest.serial.text)
        guest.serial.send("root\n")
        guest.serial.wait("Password: ", timeout=60, start=start)
        guest.serial.send("geheim\n")
        guest.serial.wait(r"root@debian:~# ", timeout=60, start=start)
        self.assertIn("running", self.sh(guest, "systemctl is-system-running --wait", timeout=120))
        # The file system has grown with the disk.
        blocks = int(re.search(r"^(\d+)$", self.sh(guest, "stat -f -c %b /"), re.M).group(1))
        self.assertGreater(blocks * 4096, 740 * MIB)

        self.sh(guest, "head -c 8M /dev/urandom | tee /root/file | sha256sum >/dev/shm/sum", timeout=120)
        guest.swap("enable")
        guest.swap("trim")
        guest.swap("out")
        self.assertGreater(guest.ctl("swap", "status")["pages_swapped"], 10000)
        self.sh(guest, "sha256sum /root/file | cut -c 1-64 | grep -q -f - /dev/shm/sum", timeout=120)
        self.sh(guest, "systemctl is-active multi-user.target")
        self.sh(guest, "fstrim /")
        guest.swap("in")
        guest.swap("disable")

        guest.ctl("powerdown")
        self.assertEqual(guest.wait(120), 0)
        self.assertNotIn("FAILED", guest.serial.text)
        result = subprocess.run(["/sbin/e2fsck", "-fn", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
