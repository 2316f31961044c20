"""The sandbox: every wall is stepped on, and what a VM has to do works behind them.

EBB_SANDBOX_PROBE_BINARY is ebb with code that tries what is forbidden, in the thread that the environment names.
"""
import contextlib
import os
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import disks
import host
import vsock
from case import BareCase, MIB
from ebb import ControlError, Ebb
from terminal import CONTROL_A, CONTROL_D, Terminal

PROBE = os.environ.get("EBB_SANDBOX_PROBE_BINARY", "")
ACTS = ["openat", "openat2", "socket", "connect", "bind", "execve", "fork", "clone", "ptrace", "process_vm_readv",
        "kill", "tgkill", "mmap", "mprotect", "ioctl", "kvm_run", "uffd", "io_uring_setup", "unshare", "bpf", "mount",
        "setuid", "keyctl", "madvise", "fcntl", "prctl"]
# What each kind of thread is there for.
ALLOWED = {
    "main": {"uffd"},
    "vcpu": {"kvm_run"},
    "io": set(),
    "monitor": {"uffd", "io_uring_setup"},
    "worker": {"uffd", "io_uring_setup"},
    "disk": set(),
    "nursery": {"kvm_run", "uffd", "io_uring_setup"},
}
CALLS = {"kvm_run": "ioctl", "uffd": "ioctl"}
USER = 23456


def threads(pid):
    """The lines of each thread's status as dicts."""
    result = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as file:
                result.append(dict(re.findall(r"^(\w+):\s*(.*)$", file.read(), re.M)))
    return result


def mount_lines(pid):
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
        return [line.split(" ", 5) for line in file]


def mount_ids(pid):
    return {fields[0] for fields in mount_lines(pid)}


def mounts_of(pid):
    """The rest of the line by the place where it is mounted."""
    return {fields[4]: fields[5] for fields in mount_lines(pid)}


class Walls(BareCase):
    def setUp(self):
        super().setUp()
        if not PROBE:
            self.skipTest("this build has no ebb_sandbox_probe")

    def probe(self, wish, *options):
        return self.ebb("--kernel", host.image("bare.elf"), "--memory", "32M", "--cmdline", "test", "--swap-dir",
                        self.swap_dir, *options, binary=PROBE, environment={"EBB_SANDBOX_PROBE": wish})

    def provoke(self, guest):
        """Has threads of all kinds started; the guest may die of it at any time."""
        with contextlib.suppress(AssertionError, ControlError, OSError):
            guest.serial.ready(timeout=10)
            guest.serial.command("fill 8M 4M 1", timeout=10)
            guest.ctl("swap", "enable", timeout=10)
            guest.ctl("swap", "out", timeout=10)

    def step_on_all(self, kind, later):
        for act in ACTS:
            if act in ALLOWED[kind]:
                continue
            with self.subTest(act=act):
                with self.probe(f"{kind}:{act}", "--swap-io", "threads") as guest:
                    if later:
                        self.provoke(guest)
                    self.assertEqual(guest.wait(), -signal.SIGSYS)
                    errors = guest.errors.decode()
                    self.assertIn(f"({CALLS.get(act, act)})", errors)
                    self.assertIn("sandbox forbids", errors)
                    self.assertNotIn("got through", errors)
                shutil.rmtree(self.runtime + "/ebb", ignore_errors=True)

    def test_main_thread(self):
        self.step_on_all("main", later=False)

    def test_vcpu_thread(self):
        self.step_on_all("vcpu", later=False)

    def test_io_thread(self):
        self.step_on_all("io", later=False)

    def test_nursery(self):
        self.step_on_all("nursery", later=False)

    def test_monitor_thread(self):
        self.step_on_all("monitor", later=True)

    def test_worker_thread(self):
        self.step_on_all("worker", later=True)

    def test_disk_thread(self):
        self.step_on_all("disk", later=True)

    def test_io_thread_with_vsock_connects(self):
        guest = self.probe("io:connect", "--vsock", os.path.join(self.directory, "v"))
        guest.serial.ready()
        self.assertIn("probe: connect got through", guest.errors.decode())

    def test_the_message_names_the_thread(self):
        guest = self.probe("vcpu:openat")
        guest.wait()
        self.assertIn('thread "vcpu 0" called system call 257 (openat)', guest.errors.decode())

    def test_rights_that_are_left_without_the_filters(self):
        """Landlock, capabilities and namespaces stand for themselves, should a system call get through."""
        self.make_file("swap/victim", content=b"precious")
        listeners = [self.listen(os.path.join(place, "listener")) for place in (self.swap_dir, self.directory)]
        guest = self.probe(f"rights:{self.swap_dir}")
        guest.serial.ready()
        found = dict(re.findall(r"probe: (.*): (\w+)$", guest.errors.decode(), re.M))
        # In an empty file system there is nothing that could be refused.
        expected = {"mount": {"EPERM", "ENOENT"}, "chown": {"EPERM", "EACCES", "ENOENT"}, "hostname": {"EPERM"},
                    "unshare": {"EPERM"}, "trace": {"EPERM"}}
        layers = guest.ctl("status")["sandbox"]
        abi = layers["landlock_abi"]
        if abi >= 1:
            expected.update({name: {"EACCES", "ENOENT"}
                             for name in ("read /etc/passwd", "create", "remove", "list", "execute")})
        if abi >= 3:
            expected["truncate"] = {"EACCES", "ENOENT"}
        if layers["empty_root"]:
            expected.update({name: {"ENOENT"} for name in ("read /etc/passwd", "create", "remove", "execute",
                                                           "truncate", "chown", "mount", "socket", "socket above")})
        if abi >= 4:
            expected.update(bind={"EACCES"}, connect={"EACCES"})
        else:
            # The network namespace is empty: not even its loopback is up.
            expected["connect"] = {"ENETUNREACH"}
        expected["datagram"] = {"ENETUNREACH"}
        expected["abstract"] = {"ECONNREFUSED", "EPERM"}
        if abi >= 6:
            expected["signal"] = {"EPERM"}
        for name, errors in expected.items():
            self.assertIn(found.get(name), errors, name)
        self.assertEqual(set(os.listdir(self.swap_dir)), {"victim", "listener"})
        if layers["empty_root"]:
            for listener in listeners:
                self.assert_unconnected(listener)

    def test_sockets_beside_vsocks_are_reached_and_no_others(self):
        place = self.make_dir("vsock")
        beside, above = [self.listen(os.path.join(path, "listener")) for path in (place, self.directory)]
        guest = self.probe(f"rights:{place}", "--vsock", os.path.join(place, "v"))
        guest.serial.ready()
        if not guest.ctl("status")["sandbox"]["empty_root"]:
            self.skipTest("this host lets no root be changed")
        found = dict(re.findall(r"probe: (socket.*): (\w+)$", guest.errors.decode(), re.M))
        self.assertEqual(found, {"socket": "done", "socket above": "ENOENT"})
        beside.accept()[0].close()
        self.assert_unconnected(above)
        guest.ctl("quit")
        guest.wait()
        self.assertEqual(os.listdir(place), ["listener"])

    def listen(self, path):
        listener = self.enter(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        listener.settimeout(20 * host.SLOWNESS)
        return listener

    def assert_unconnected(self, listener):
        self.assertEqual(select.select([listener], [], [], 0)[0], [])

    def test_where_the_root_stays_what_is_unmounted_outside_goes(self):
        self.need_root("mounting")
        place = self.make_dir("mounted")
        subprocess.run(["mount", "-t", "tmpfs", "ebb-test", place], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", place], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["mount", "--make-shared", place], check=True)
        inner = os.path.join(place, "inner")
        os.mkdir(inner)
        subprocess.run(["mount", "-t", "tmpfs", "ebb-test", inner], check=True)
        guest = self.probe("root:kept")
        guest.serial.ready()
        layers = guest.ctl("status")["sandbox"]
        self.assertFalse(layers["empty_root"])
        if layers["namespaces"] == "none":
            self.skipTest("this host gives no namespaces")
        self.assertIn("no empty root", guest.errors.decode())
        self.assertIn(inner, mounts_of(guest.pid))
        subprocess.run(["umount", inner], check=True)
        self.assertNotIn(inner, mounts_of(guest.pid))


class Layers(BareCase):
    def test_every_thread_is_confined(self):
        guest = self.bare("--swap-io", "threads", "--cpus", "2", "--disk", self.make_file("disk", 8 * MIB))
        guest.serial.command("fill 32M 16M 1")
        guest.swap("enable")
        guest.swap("out")
        found = threads(guest.pid)
        names = {thread["Name"] for thread in found}
        self.assertTrue({"vcpu 0", "vcpu 1", "io", "ebb-monitor", "ebb-swap", "nursery"} <= names, names)
        for thread in found:
            with self.subTest(thread=thread["Name"]):
                self.assertEqual(thread["NoNewPrivs"], "1")
                self.assertEqual(thread["Seccomp"], "2")
                for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
                    if name != "CapBnd" or host.is_root():
                        self.assertEqual(int(thread[name], 16), 0, name)

    def test_status_and_check_tell_the_layers(self):
        guest = self.bare()
        layers = guest.ctl("status")["sandbox"]
        self.assertTrue(layers["on"] and layers["seccomp"] and layers["no_new_privileges"])
        self.assertEqual(layers["capabilities"], 0)
        checks = {check["name"]: check for check in host.check()["checks"]}
        self.assertEqual(checks["sandbox_landlock"]["ok"], layers["landlock_abi"] > 0)
        self.assertEqual(checks["sandbox_namespaces"]["ok"], layers["namespaces"] != "none")
        self.assertEqual(checks["sandbox_root"]["ok"], layers["empty_root"])
        self.assertTrue(checks["sandbox_seccomp"]["ok"])

    def test_namespaces_are_its_own(self):
        guest = self.bare()
        if guest.ctl("status")["sandbox"]["namespaces"] == "none":
            self.skipTest("this host gives none")
        for name in ("mnt", "net", "ipc", "uts"):
            self.assertNotEqual(os.readlink(f"/proc/{guest.pid}/ns/{name}"), os.readlink(f"/proc/self/ns/{name}"))

    def test_off_is_said_loudly(self):
        guest = self.bare("--sandbox", "off")
        self.assertIn("THE SANDBOX IS OFF", guest.errors.decode())
        self.assertFalse(guest.ctl("status")["sandbox"]["on"])
        self.assertEqual({thread["Seccomp"] for thread in threads(guest.pid)}, {"0"})
        guest.swap("enable")
        guest.swap("out")

    def test_descriptors_are_all_closed_on_exec(self):
        guest = self.bare("--disk", self.make_file("disk", 8 * MIB), "--metrics", "0", "--cpus", "2")
        guest.swap("enable")
        for fd in os.listdir(f"/proc/{guest.pid}/fdinfo"):
            if int(fd) <= 2:
                continue
            with contextlib.suppress(FileNotFoundError):
                with open(f"/proc/{guest.pid}/fdinfo/{fd}", encoding="ascii") as file:
                    flags = int(re.search(r"^flags:\s+(\d+)", file.read(), re.M).group(1), 8)
                self.assertTrue(flags & os.O_CLOEXEC, os.readlink(f"/proc/{guest.pid}/fd/{fd}"))

    def test_no_directory_is_open_for_walking(self):
        """Those that sockets are removed from are on mounts of their own, which have nothing above them."""
        guest = self.bare()
        trees = mount_ids("self") | mount_ids(guest.pid)
        for fd in os.listdir(f"/proc/{guest.pid}/fd"):
            path = os.readlink(f"/proc/{guest.pid}/fd/{fd}")
            if not path.startswith("/") or path.startswith("/proc/") or not os.path.isdir(path):
                continue
            with open(f"/proc/{guest.pid}/fdinfo/{fd}", encoding="ascii") as file:
                mount = re.search(r"^mnt_id:\s+(\d+)", file.read(), re.M).group(1)
            self.assertNotIn(mount, trees, path)

    def test_file_systems_of_the_host_are_out_of_sight(self):
        guest = self.bare()
        self.need_empty_root(guest)
        self.assertEqual(list(mounts_of(guest.pid)), ["/"])
        self.assertRegex(mounts_of(guest.pid)["/"], "^ro,.* - tmpfs ")
        self.assertEqual(os.listdir(f"/proc/{guest.pid}/root/"), [])

    def test_sockets_go_whatever_their_paths_look_like(self):
        """Relative, through a link, through "..": all are removed at the end, and work before."""
        for name in ("here", "real", "other"):
            self.make_dir(name)
        os.symlink(os.path.join(self.directory, "real"), os.path.join(self.directory, "link"))
        here = os.path.join(self.directory, "here")
        guest = self.bare("--vsock", "../link/v", "--metrics", f"{self.directory}/other/../link/m", "--control", "c",
                          "--console", f"unix={self.directory}/link/../other/s", cwd=here)
        places = [os.path.join(self.directory, path) for path in ("real/v", "real/m", "here/c", "other/s")]
        for path in places:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        with vsock.EchoServer(places[0], 1234):
            self.assertEqual(guest.serial.command("vsock connect 1234 1000")["received"], 1000)
        result = subprocess.run([host.BINARY, "ctl", "--socket", f"{here}/c", guest.name, "quit"], check=False)
        self.assertEqual((result.returncode, guest.wait()), (0, 0))
        for name in ("here", "real", "other"):
            self.assertEqual(os.listdir(os.path.join(self.directory, name)), [])

    def test_directories_may_go_before_their_sockets(self):
        gone = self.make_dir("gone")
        guest = self.bare("--console", f"unix={gone}/s")
        shutil.rmtree(gone)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def test_root_without_the_right_to_namespaces(self):
        """A user namespace that it may make and not map is none."""
        self.need_root("giving up capabilities")
        self.need("setpriv", "util-linux")
        lacks = "-sys_admin,-setfcap"
        guest = self.bare(prefix=["setpriv", "--bounding-set", lacks, "--inh-caps", lacks])
        self.assertEqual(guest.ctl("status")["sandbox"]["namespaces"], "none")

    def test_root_is_told_what_it_cannot_remove(self):
        self.need_root("a directory of somebody else's")
        theirs = self.make_dir("theirs")
        os.chmod(theirs, 0o700)
        os.chown(theirs, USER, USER)
        guest = self.bare("--console", f"unix={theirs}/s")
        self.assertIn(f"{theirs}/s: its directory is not", guest.errors.decode())
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)

    def need_empty_root(self, guest):
        if not guest.ctl("status")["sandbox"]["empty_root"]:
            self.skipTest("this host lets no root be changed")


class Core(BareCase):
    def dump_core(self, *options):
        """ebb killed by a signal that dumps core; the directory where its core would be."""
        with open("/proc/sys/kernel/core_pattern", encoding="ascii") as file:
            if "/" in file.read() or not host.is_root():
                self.skipTest("this host's core dumps go elsewhere")
        place = self.make_dir("core")
        infinite = resource.RLIM_INFINITY

        guest = self.bare(*options, memory="64M", cwd=place,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (infinite, infinite)))
        guest.serial.command("fill 16M 32M 77")
        guest.swap("enable")
        guest.swap("out")
        guest.serial.command("verify 16M 8M 77")
        # What is in guest RAM now, seen from outside: the marker.
        path = os.path.join(self.directory, "ram")
        guest.ctl("dump-memory", path)
        with open(path, "rb") as file:
            file.seek(18 * MIB)
            self.marker = file.read(64)
        self.assertGreater(len(set(self.marker)), 8)
        guest.signal(signal.SIGQUIT)
        guest.wait()
        return [os.path.join(place, name) for name in os.listdir(place)]

    def test_sandboxed_leaves_no_core_or_one_without_guest_memory(self):
        for path in self.dump_core():
            self.assert_lacks_marker(path)

    def test_unsandboxed_core_has_no_guest_memory(self):
        cores = self.dump_core("--sandbox", "off")
        self.assertEqual(len(cores), 1)
        self.assert_lacks_marker(cores[0])

    def assert_lacks_marker(self, path):
        with open(path, "rb") as file:
            self.assertNotIn(self.marker, file.read())


class Works(BareCase):
    """What a VM does, behind the walls. (All other tests run there, too.)"""

    def cycle(self, guest):
        guest.serial.command("fill 16M 24M 5")
        for _ in range(2):
            guest.swap("enable")
            guest.swap("trim")
            guest.swap("out")
            guest.serial.command("verify 16M 12M 5")
            guest.swap("in")
            guest.serial.command("verify 16M 24M 5")
        guest.swap("enable")
        guest.swap("out")
        self.assertRegex(guest.ctl("checksum-memory")["digest"], "^sha256:")
        guest.swap("disable")
        guest.serial.command("verify 16M 24M 5")

    def test_swap_through_threads(self):
        self.cycle(self.bare("--swap-io", "threads", memory="64M"))

    def test_swap_through_a_pool_and_zstd(self):
        self.cycle(self.bare("--swap-pool", "8M", "--swap-compress", "zstd", memory="64M"))

    def test_store_after_store_in_one_file(self):
        """The file is opened once, for all stores; each gives its space back."""
        guest = self.bare(memory="64M")
        for _ in range(3):
            self.cycle(guest)
        store = [fd for fd in os.listdir(f"/proc/{guest.pid}/fd")
                 if os.readlink(f"/proc/{guest.pid}/fd/{fd}").startswith(self.swap_dir)]
        self.assertEqual([os.stat(f"/proc/{guest.pid}/fd/{fd}").st_blocks for fd in store], [0])

    def test_reset_pause_and_balloon(self):
        guest = self.bare("--cpus", "2", "--disk", self.make_file("disk", 8 * MIB), memory="64M")
        start = len(guest.serial.text)
        guest.ctl("reset")
        guest.serial.ready(start=start)
        guest.ctl("pause")
        guest.ctl("resume")
        guest.ctl("balloon", "48M")
        self.cycle(guest)
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
        self.assertEqual([name for _, _, names in os.walk(self.runtime) for name in names], [])

    def test_console_is_another_process_without_the_walls(self):
        argv = [host.BINARY, "run", "--name", "onterm", "--kernel", host.image("bare.elf"), "--memory", "32M",
                "--cmdline", "test"]
        environment = dict(os.environ, XDG_RUNTIME_DIR=self.runtime, HOME=self.directory)
        with Terminal(argv, environment) as terminal:
            terminal.expect("@ready")
            for _ in range(2):
                start = terminal.position
                terminal.send(CONTROL_A + "c")
                terminal.expect_prompt("ebb onterm> ", start=start)
                start = terminal.position
                terminal.send("status\n")
                # The prompt, too: before that, Ctrl-D is the terminal's own, and lost.
                terminal.expect_prompt("(seccomp|OFF)(?s:.*)ebb onterm> ", start=start)
                terminal.send(CONTROL_D)
                disks.poll(self, lambda: os.tcgetpgrp(terminal.master) == terminal.process.pid,
                           "the console gives the terminal back")
                time.sleep(0.5)
            terminal.send(CONTROL_A + "x")
            terminal.process.wait(20 * host.SLOWNESS)

    def test_as_an_ordinary_user(self):
        self.need_root("becoming somebody else")
        self.need("setpriv", "util-linux")
        self.need("unshare", "util-linux")
        place = self.enter(tempfile.TemporaryDirectory(prefix="ebb-user-", dir=host.SCRATCH))
        os.chmod(place, 0o755)
        mine = {}
        for name in ("runtime", "swap"):
            mine[name] = os.path.join(place, name)
            os.mkdir(mine[name], 0o700)
            os.chown(mine[name], USER, USER)
        script = ["set -e"]
        for device in ("kvm", "userfaultfd"):
            if not os.path.exists(f"/dev/{device}"):
                self.skipTest(f"this host has no /dev/{device}")
            node = os.path.join(place, device)
            os.mknod(node, stat.S_IFCHR | 0o666, os.stat(f"/dev/{device}").st_rdev)
            os.chmod(node, 0o666)
            script.append(f"mount --bind {node} /dev/{device}")
        for name, source in (("ebb", host.BINARY), ("bare.elf", host.image("bare.elf"))):
            shutil.copy(source, os.path.join(place, name))
            os.chmod(os.path.join(place, name), 0o755)
        script.append(f'exec setpriv --reuid {USER} --regid {USER} --clear-groups "$@"')
        prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script), "sh"]
        binary = os.path.join(place, "ebb")
        guest = self.enter(Ebb("--kernel", os.path.join(place, "bare.elf"), "--memory", "64M", "--cmdline", "test",
                               "--swap-dir", mine["swap"], runtime_dir=mine["runtime"], binary=binary, prefix=prefix))
        guest.client = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", binary]
        guest.serial.ready()
        layers = guest.ctl("status")["sandbox"]
        self.assertTrue(layers["seccomp"])
        self.assertEqual(layers["capabilities"], 0)
        self.assertEqual({thread["CapEff"] for thread in threads(guest.pid)}, {"0" * 16})
        self.cycle(guest)
        guest.ctl("dump-memory", os.path.join(mine["swap"], "dump"))
        guest.ctl("quit")
        self.assertEqual(guest.wait(), 0)
