"""ebb as a service: it tells systemd how far it is, reads its file again, and needs no privileges."""
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess

import host
from case import BareCase, GuestCase

# No account has these; the kernel does not mind.
USER, GROUP, DEVICE_GROUP = 64321, 64322, 64323


class Notification(BareCase):
    def setUp(self):
        super().setUp()
        path = os.path.join(self.directory, "notify")
        self.manager = self.enter(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.manager.bind(path)
        self.manager.settimeout(30 * host.SLOWNESS)
        self.config = {"kernel": host.image("bare.elf"), "cmdline": "test", "memory": "64M", "swap-dir": self.swap_dir}
        self.path = self.make_file("vm.json", content=json.dumps(self.config).encode())
        # A service has no terminal; a test that is run by hand may have one, but not here.
        self.guest = self.ebb("--config", self.path, environment={"NOTIFY_SOCKET": path})
        self.ready = self.message()

    def message(self):
        """The next message's lines, as a dict."""
        return dict(line.split("=", 1) for line in self.manager.recv(4096).decode().splitlines())

    def reload(self, **changes):
        """Changes the file and says so; the message that ends the reload."""
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(dict(self.config, **changes), file)
        self.guest.signal(signal.SIGHUP)
        begin = self.message()
        self.assertEqual(begin["RELOADING"], "1")
        self.assertGreater(int(begin["MONOTONIC_USEC"]), 0)
        return self.message()

    def test_machine_is_ready_when_its_commands_are_answered(self):
        self.assertEqual(self.ready["READY"], "1")
        self.assertIn(self.guest.name, self.ready["STATUS"])
        self.assertEqual(self.guest.ctl("status")["state"], "running")
        self.guest.serial.ready()

    def test_reload_sets_the_policy_and_names_what_has_to_wait(self):
        self.assertEqual(self.reload(**{"swap-auto": "idle=500", "cpus": 2, "memory": "1G"})["READY"], "1")
        self.assertEqual(self.guest.ctl("swap", "auto")["policy"], "idle=500")
        self.guest.expect_error(r"takes effect at the next start: memory, cpus\n")
        self.assertEqual(self.guest.ctl("status")["vcpus"], 1)
        # The file has the last word, and an option that is gone has its default.
        self.guest.ctl("swap", "auto", "idle=7")
        self.reload(**{"swap-auto": "idle=500"})
        self.assertEqual(self.guest.ctl("swap", "auto")["policy"], "idle=500")
        self.reload()
        self.assertEqual(self.guest.ctl("swap", "auto")["policy"], "off")

    def test_file_with_a_mistake_changes_nothing(self):
        self.assertEqual(self.reload(**{"swap-auto": "idle=500", "cpuz": 2})["READY"], "1")
        self.guest.expect_error(r'vm\.json:1:\d+: "cpuz": no such option.*stays as it is')
        self.assertEqual(self.guest.ctl("swap", "auto")["policy"], "off")
        os.unlink(self.path)
        self.guest.signal(signal.SIGHUP)
        self.guest.expect_error(r"vm\.json: read the configuration: No such file.*stays as it is")
        self.guest.serial.ready()

    def test_end_is_told(self):
        self.guest.signal()
        self.assertEqual(self.message()["STOPPING"], "1")
        self.guest.expect_error("signal again")
        self.guest.signal()
        self.assertEqual(self.guest.wait(), 0)


class Hangup(BareCase):
    def test_without_a_file_sighup_presses_the_power_button(self):
        guest = self.bare(swap=False)
        guest.signal(signal.SIGHUP)
        guest.expect_error("asking the guest to power down")
        guest.signal()
        self.assertEqual(guest.wait(), 0)

    def test_manager_that_is_gone_harms_nothing(self):
        for name in ("/nonexistent/socket", "@ebb-test-nobody", "relative", "/" + "x" * 200, "@", ""):
            guest = self.bare(swap=False, environment={"NOTIFY_SOCKET": name})
            guest.signal_twice()
            self.assertEqual(guest.wait(), 0)


class Unit(GuestCase):
    def test_is_what_systemd_understands(self):
        self.need("systemd-analyze", "systemd")
        source = os.path.join(os.path.dirname(__file__), "..", "..", "vmm", "systemd", "ebb@.service")
        with open(source, encoding="utf-8") as file:
            text = re.sub(r"(?m)^(ExecStart=)\S+", rf"\1{host.BINARY}", file.read())
        path = self.make_file("ebb@.service", content=text.encode())
        # The pages need not be installed to be right.
        result = subprocess.run(["systemd-analyze", "verify", "--man=no", path], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False)
        self.assertNotRegex(result.stdout, r"ebb@", result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout)


class Unprivileged(BareCase):
    """An ordinary user whose group may open the two devices, and nothing else."""

    def setUp(self):
        super().setUp()
        self.need_root("becoming another user")
        for program in ("unshare", "setpriv"):
            self.need(program, "util-linux")
        # The build may lie where only its owner can look.
        shutil.copy(host.BINARY, os.path.join(self.directory, "ebb"))
        self.kernel = shutil.copy(host.image("bare.elf"), self.directory)
        for path in (self.directory, self.runtime, self.swap_dir):
            os.chown(path, USER, GROUP)
        os.chmod(os.path.join(self.directory, "ebb"), 0o755)
        os.chmod(self.kernel, 0o644)

    def as_user(self, groups):
        """A command prefix: that user, on devices of group DEVICE_GROUP, in a name space of their own."""
        nodes = []
        for device in ("/dev/kvm", "/dev/userfaultfd"):
            number = os.stat(device).st_rdev
            nodes.append(f"mknod -m 660 $d/{os.path.basename(device)} c {os.major(number)} {os.minor(number)}\n"
                         f"chown 0:{DEVICE_GROUP} $d/{os.path.basename(device)}\n"
                         f"mount --bind $d/{os.path.basename(device)} {device}\n")
        script = ("set -e\nd=$1/dev\nmkdir -p $d\nmount -t tmpfs none $d\n" + "".join(nodes) + "home=$1\nshift 2\n"
                  f"exec setpriv --reuid {USER} --regid {GROUP} --groups {groups} --no-new-privs "
                  "--inh-caps=-all --ambient-caps=-all --bounding-set=-all $home/ebb \"$@\"\n")
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", self.directory]

    def test_user_with_the_devices_goes_through_a_whole_cycle_of_swap(self):
        guest = self.ebb("--kernel", self.kernel, "--cmdline", "test", "--memory", "128M", "--swap-dir", self.swap_dir,
                         prefix=self.as_user(DEVICE_GROUP))
        guest.serial.ready()
        with open(f"/proc/{guest.pid}/status", encoding="ascii") as file:
            status = file.read()
        self.assertIn(f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n", status)
        self.assertRegex(status, r"CapEff:\t0+\n")
        free = guest.serial.command("fillall 1")["pages"]
        for operation in ("enable", "trim", "out"):
            guest.swap(operation)
        self.assertLess(guest.memfd_bytes(), 16 << 20)
        self.assertEqual(guest.serial.command("verifyall 1", timeout=60)["pages"], free)
        for operation in ("in", "disable"):
            guest.swap(operation)
        self.assertEqual(guest.serial.command("verifyall 1")["pages"], free)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def test_user_without_the_devices_is_told_what_is_missing(self):
        status, _, errors = self.run_ebb("run", "--kernel", self.kernel, prefix=self.as_user(GROUP))
        self.assertEqual(status, 1)
        self.assertIn("/dev/kvm", errors)

    def test_socket_of_the_user_is_not_for_others(self):
        guest = self.ebb("--kernel", self.kernel, "--cmdline", "test", prefix=self.as_user(DEVICE_GROUP))
        guest.serial.ready()
        path = os.path.join(self.runtime, "ebb", f"{guest.name}.sock")
        info = os.stat(path)
        self.assertEqual((info.st_uid, stat.S_IMODE(info.st_mode)), (USER, 0o600))
        # Root does not trust what a user serves, unless it is the system's.
        status, _, errors = self.run_ebb("ctl", "--socket", path, guest.name, "status")
        self.assertEqual(status, 1)
        self.assertIn("not trusted", errors)
