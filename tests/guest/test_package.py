"""The Debian package: what is in it, and that it works where it is installed."""
import glob
import json
import os
import re
import shutil
import subprocess
import time

import container
import host
from case import GuestCase

BUILD = os.path.dirname(os.path.dirname(host.BINARY))
# Not what ebb depends on: those are to be pulled by the package.
BASE = ("ca-certificates", "man-db", "systemd", "systemd-sysv", "dbus")


class PackageCase(GuestCase):
    def setUp(self):
        super().setUp()
        self.need("cpack", "cmake")
        self.need("dpkg-shlibdeps", "dpkg-dev")
        # A copy of the settings: nothing is built anew, and other tests see no change.
        result = subprocess.run(["cpack", "-G", "DEB", "--config", os.path.join(BUILD, "CPackConfig.cmake"),
                                 "-B", os.path.join(self.directory, "package")], cwd=self.directory,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.package, = glob.glob(os.path.join(self.directory, "package", "*.deb"))


def dpkg_deb(*arguments):
    return subprocess.run(["dpkg-deb", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


class Contents(PackageCase):
    def test_everything_has_its_place_and_rights(self):
        files = {}
        for line in dpkg_deb("-c", self.package).splitlines():
            mode, owner, _, _, _, path = line.split(None, 5)
            self.assertEqual(owner, "root/root", line)
            self.assertIn(mode, ("drwxr-xr-x", "-rwxr-xr-x" if path == "./usr/bin/ebb" else "-rw-r--r--"), line)
            files[path[1:]] = mode
        for path in ("/usr/bin/ebb", "/usr/lib/systemd/system/ebb@.service", "/usr/lib/sysusers.d/ebb.conf",
                     "/usr/lib/udev/rules.d/60-ebb.rules", "/etc/ebb/example.json", "/usr/share/doc/ebb/copyright",
                     "/usr/share/bash-completion/completions/ebb", "/usr/share/zsh/vendor-completions/_ebb",
                     "/usr/share/man/man1/ebb.1.gz", "/usr/share/man/man1/ebb-run.1.gz",
                     "/usr/share/man/man7/ebb-console.7.gz", "/usr/share/man/man7/ebb-swap.7.gz"):
            self.assertIn(path, files)
        # Nothing of the machine that built it, nothing for developers.
        for path in files:
            self.assertRegex(path, r"^/($|etc/|usr/$|usr/(bin|lib|share)/)")

    def test_says_what_it_needs(self):
        fields = dpkg_deb("-f", self.package)
        self.assertRegex(fields, r"(?m)^Recommends: passt$")
        depends = re.search(r"(?m)^Depends: (.*)$", fields).group(1)
        for library in ("libc6", "libjansson4", "liburing2", "libzstd1"):
            self.assertRegex(depends, rf"\b{library}\b")
        control = os.path.join(self.directory, "control")
        dpkg_deb("-e", self.package, control)
        for script in ("postinst", "prerm", "postrm"):
            subprocess.run(["sh", "-n", os.path.join(control, script)], check=True)
            self.assertTrue(os.access(os.path.join(control, script), os.X_OK))

    def test_example_is_a_configuration(self):
        root = os.path.join(self.directory, "root")
        dpkg_deb("-x", self.package, root)
        status, output, errors = self.run_ebb("run", "--print-config", "--config",
                                              os.path.join(root, "etc/ebb/example.json"))
        self.assertEqual((status, errors), (0, ""))
        with open(os.path.join(root, "etc/ebb/example.json"), encoding="utf-8") as file:
            self.assertEqual(json.loads(output), json.load(file))


class Installed(PackageCase):
    """In a minimal Debian 12 that has just been set up, with the real systemd."""

    def setUp(self):
        super().setUp()
        self.need_root("installing a package")
        self.need("mmdebstrap", "mmdebstrap")
        if not (host.check()["can_run"] and host.check()["can_swap"]):
            self.skipTest("this host cannot run guests and swap them out: " + host.failures())
        os.makedirs(host.IMAGES, exist_ok=True)
        base = os.path.join(host.IMAGES, "debian-minbase.tar")
        container.make_base(base, BASE)
        self.root = os.path.join(self.directory, "debian")
        container.unpack(base, self.root)
        shutil.copy(self.package, os.path.join(self.root, "ebb.deb"))

    def inside(self, *argv):
        result = container.run_in(self.root, *argv)
        self.assertEqual(result.returncode, 0, f"{argv}: {result.stdout}")
        return result.stdout

    def install(self):
        self.inside("apt-get", "-qq", "update")
        self.inside("apt-get", "-qq", "install", "--no-install-recommends", "./ebb.deb")

    def system(self, *argv, status=0):
        """A command where systemd runs."""
        result, output = self.debian.run(*argv)
        self.assertEqual(result, status, f"{argv}: {output}\n" + self.debian.run("journalctl", "--no-pager", "-n",
                                                                                  "40")[1])
        return output

    def ctl(self, *words, user="root"):
        output = self.system("runuser", "-u", user, "--", "ebb", "ctl", "--json", "dev", *words)
        return json.loads(output.splitlines()[-1])["result"]

    def configure(self, **changes):
        with open(os.path.join(self.root, "etc/ebb/dev.json"), "w", encoding="utf-8") as file:
            json.dump({"kernel": "/var/lib/bare.elf", "cmdline": "test button", "memory": "64M", "swap-dir": ".",
                       **changes}, file)

    def test_works_from_installation_to_removal(self):
        self.install()
        version = subprocess.run([host.BINARY, "version"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual(self.inside("ebb", "version"), version)
        self.assertEqual(self.inside("man", "-w", "ebb"), "/usr/share/man/man1/ebb.1.gz\n")
        self.assertRegex(self.inside("id", "ebb"), r"\(ebb\).*\(kvm\)")
        self.assertIn("passt", self.inside("apt-cache", "depends", "ebb") + self.inside("dpkg", "-s", "ebb"))
        shutil.copy(host.image("bare.elf"), os.path.join(self.root, "var/lib/bare.elf"))
        self.inside("useradd", "--groups", "ebb", "member")
        self.inside("useradd", "stranger")
        self.configure()
        with container.Container(self.root) as self.debian:
            self.debian.wait_until_up()
            self.check_service()
        self.inside("apt-get", "-qq", "remove", "ebb")
        self.assertTrue(os.path.exists(os.path.join(self.root, "etc/ebb/example.json")))
        self.inside("apt-get", "-qq", "purge", "ebb")
        self.assertFalse(os.path.exists(os.path.join(self.root, "etc/ebb/example.json")))

    def check_service(self):
        self.system("systemctl", "start", "ebb@dev")
        # Started means ready: nothing is waited for.
        self.assertEqual(self.ctl("status")["state"], "running")
        pid = self.system("systemctl", "show", "--value", "-p", "MainPID", "ebb@dev").strip()
        status = self.system("cat", f"/proc/{pid}/status")
        self.assertRegex(status, r"NoNewPrivs:\t1")
        self.assertRegex(status, r"CapBnd:\t0+\n")
        self.assertNotRegex(status, r"Uid:\t0\t")
        for operation in ("enable", "trim", "out", "in", "disable"):
            self.assertEqual(self.ctl("swap", operation)["result"], 0)
        self.check_who_may()
        self.check_reload()
        self.system("systemctl", "stop", "ebb@dev")
        # By the guest's own will, not by a signal.
        self.assertEqual(self.system("systemctl", "show", "--value", "-p", "Result", "ebb@dev"), "success\n")
        self.assertIn("asking the guest to power down", self.journal())
        self.check_mistake()

    def journal(self, unit="ebb@dev"):
        self.system("journalctl", "--sync")
        return self.system("journalctl", "--no-pager", "-u", unit)

    def check_who_may(self):
        self.assertEqual(self.ctl("status", user="member")["state"], "running")
        self.assertIn("dev", self.system("runuser", "-u", "member", "--", "ebb", "ls"))
        self.system("runuser", "-u", "stranger", "--", "ebb", "ctl", "dev", "status", status=1)
        self.assertNotIn("dev", self.system("runuser", "-u", "stranger", "--", "ebb", "ls"))

    def check_reload(self):
        self.configure(**{"swap-auto": "idle=900", "cpus": 2})
        self.system("systemctl", "reload", "ebb@dev")
        deadline = time.monotonic() + 20 * host.SLOWNESS
        while self.ctl("swap", "auto")["policy"] != "idle=900":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertIn("takes effect at the next start: cpus", self.journal())

    def check_mistake(self):
        self.configure(kernal="x")
        self.system("systemctl", "start", "ebb@dev", status=1)
        self.assertRegex(self.journal(), r'/etc/ebb/dev\.json:1:\d+: "kernal": no such option; did you mean "kernel"')
        self.system("systemctl", "start", "ebb@absent", status=1)
        self.assertIn("/etc/ebb/absent.json", self.journal("ebb@absent"))
