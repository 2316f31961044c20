"""Places to swap to that go wrong, and groups that take something away from ebb: for tests.

Whatever is made here is undone when the test ends, however it ends. What the host does not permit
skips the test.
"""
import contextlib
import glob
import os
import subprocess
import time

import host

MIB = 1 << 20


def run(*argv):
    """A host command: its standard output, without the last newline."""
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          text=True, check=True).stdout.strip()


def _try(case, *argv):
    try:
        return run(*argv)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip()
        return case.skipTest(f"{argv[0]} is refused here: {detail}")


def _write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def poll(case, condition, what, timeout=30):
    """Waits until @condition() is true; its value."""
    deadline = time.monotonic() + timeout * host.SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        case.assertLess(time.monotonic(), deadline, f"never happened: {what}")
        time.sleep(0.05)


def tmpfs(case, size, name="tmpfs"):
    """A small file system; its directory."""
    case.need_root("a small file system")
    path = case.make_dir(name)
    _try(case, "mount", "-t", "tmpfs", "-o", f"size={size}", "none", path)
    case.addCleanup(subprocess.run, ["umount", "-l", path], check=False)
    return path


class Loop:
    """A block device on a file of @size bytes."""

    def __init__(self, case, size):
        case.need_root("a loop device")
        self.size = size
        self.file = case.make_file("loop.img", size)
        self.path = _try(case, "losetup", "-f", "--show", self.file)
        case.addCleanup(subprocess.run, ["losetup", "-d", self.path], check=False)

    @property
    def number(self):
        """MAJOR:MINOR"""
        status = os.stat(self.path)
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"

    def sync(self):
        run("blockdev", "--flushbufs", self.path)

    def lose(self):
        """From here on nothing can be read: EIO. Returns what mends it."""
        self.sync()
        with open(self.file, "rb") as file:
            content = file.read()
        os.truncate(self.file, 0)
        self.sync()

        def mend():
            with open(self.file, "r+b") as file:
                file.write(content)
        return mend


class Zram:
    """A block device that takes no more than @limit bytes of what is written, and then fails: EIO."""

    def __init__(self, case, size, limit):
        case.need_root("a zram device")
        try:
            with open("/sys/class/zram-control/hot_add", encoding="ascii") as file:
                number = file.read().strip()
        except OSError as error:
            case.skipTest(f"there is no zram here: {error}")
        self.control = f"/sys/block/zram{number}"
        self.path = f"/dev/zram{number}"
        case.addCleanup(self._remove, number)
        _write(f"{self.control}/disksize", str(size))
        self.set_limit(limit)

    def set_limit(self, limit):
        _write(f"{self.control}/mem_limit", str(limit))

    def _remove(self, number):
        # Whoever held it may be gone for a moment only.
        for _ in range(100):
            with contextlib.suppress(OSError):
                _write(f"{self.control}/reset", "1")
                _write("/sys/class/zram-control/hot_remove", number)
                return
            time.sleep(0.1)


class Cgroup:
    """A control group of @controller, v1 or v2. Processes enter by join(), for preexec_fn."""

    def __init__(self, case, controller):
        case.need_root("a control group")
        v1, v2 = f"/sys/fs/cgroup/{controller}", "/sys/fs/cgroup"
        self.v1 = os.path.exists(f"{v1}/cgroup.procs")
        if not self.v1:
            try:
                with open(f"{v2}/cgroup.controllers", encoding="ascii") as file:
                    if controller not in file.read().split():
                        case.skipTest(f"there is no {controller} controller here")
                _write(f"{v2}/cgroup.subtree_control", f"+{controller}")
            except OSError as error:
                case.skipTest(f"control groups are not to be had here: {error}")
        self.path = os.path.join(v1 if self.v1 else v2, f"ebb-test-{os.getpid()}-{id(self) & 0xffff}")
        try:
            os.mkdir(self.path)
        except OSError as error:
            case.skipTest(f"control groups are not to be had here: {error}")
        case.addCleanup(self._remove)

    def join(self):
        self.write("cgroup.procs", "0")

    def write(self, name, text):
        _write(os.path.join(self.path, name), str(text))

    def read(self, name):
        with open(os.path.join(self.path, name), encoding="ascii") as file:
            return file.read()

    def _remove(self):
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
                return
            time.sleep(0.1)


class MemoryGroup(Cgroup):
    def __init__(self, case):
        super().__init__(case, "memory")

    def usage(self):
        return int(self.read("memory.usage_in_bytes" if self.v1 else "memory.current"))

    def limit(self, size):
        """Bytes, or None. The kernel pushes out what it can; what it cannot is refused (v1)."""
        if self.v1:
            self.write("memory.limit_in_bytes", -1 if size is None else size)
        else:
            self.write("memory.max", "max" if size is None else size)

    def kills(self):
        """Processes that were killed for want of memory."""
        text = self.read("memory.oom_control" if self.v1 else "memory.events")
        return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))

    def statistics(self):
        return {name: int(value) for name, value in
                (line.split() for line in self.read("memory.stat").splitlines())}

    def page_cache(self):
        """Bytes of files, without shared memory."""
        statistics = self.statistics()
        return statistics["cache" if self.v1 else "file"] - statistics["shmem"]


class DiskGroup(Cgroup):
    """Makes one device slow for its members."""

    def __init__(self, case, device):
        self.device = device
        super().__init__(case, "blkio" if os.path.exists("/sys/fs/cgroup/blkio/cgroup.procs") else "io")
        if self.v1 and not os.path.exists(os.path.join(self.path, "blkio.throttle.read_bps_device")):
            case.skipTest("this kernel does not throttle disks")

    def slow(self, read=None, write=None):
        """Bytes a second; None: as fast as it goes."""
        if self.v1:
            self.write("blkio.throttle.read_bps_device", f"{self.device.number} {read or 0}")
            self.write("blkio.throttle.write_bps_device", f"{self.device.number} {write or 0}")
        else:
            self.write("io.max", f"{self.device.number} rbps={read or 'max'} wbps={write or 'max'}")


def store_path(guest, where):
    """The store's file in @where as a path that can be opened, though it has no name."""
    for path in glob.glob(f"/proc/{guest.pid}/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(where) and not os.readlink(path) == where:
                return path
    raise AssertionError(f"ebb has no store in {where}")
