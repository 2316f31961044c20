"""A Debian system in a directory, with its own systemd if need be, out of name spaces alone.

No container manager: those want to be run by a systemd, which a CI machine may not have. Root only.
"""
import contextlib
import os
import shutil
import signal
import subprocess
import time

from host import SLOWNESS

# The new root's file systems. $1 is its directory, which becomes a mount point.
MOUNTS = """set -e
r=$1; shift
mount --make-rprivate /
mount --bind $r $r
mount -t proc proc $r/proc
mount -t sysfs -o ro sysfs $r/sys
mount -t tmpfs -o mode=755 tmpfs $r/run
mount -t tmpfs -o mode=755 tmpfs $r/dev
for d in null zero full random urandom tty; do touch $r/dev/$d; mount --bind /dev/$d $r/dev/$d; done
mkdir $r/dev/pts $r/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts $r/dev/pts
ln -s pts/ptmx $r/dev/ptmx
ln -s /proc/self/fd $r/dev/fd
mount -t tmpfs tmpfs $r/dev/shm
"""

# What udev does by ebb's rule: a container has no udev.
DEVICES = """gid=$(sed -n 's/^kvm:[^:]*:\\([0-9]*\\):.*/\\1/p' $r/etc/group)
for d in kvm userfaultfd; do
	mknod -m 660 $r/dev/$d c $((0x$(stat -c %t /dev/$d))) $((0x$(stat -c %T /dev/$d)))
	chown 0:$gid $r/dev/$d
done
"""

CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def make_base(tar, packages):
    """A minimal Debian 12 with @packages, in @tar unless it is there."""
    if os.path.exists(tar):
        return
    part = f"{tar}.{os.getpid()}.part"
    try:
        subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar",
                        f"--include={','.join(packages)}", "bookworm", part], check=True)
        os.rename(part, tar)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def unpack(tar, root):
    os.makedirs(os.path.join(root, "dev"))
    subprocess.run(["tar", "-C", root, "--exclude=./dev/*", "-xf", tar], check=True)
    shutil.copy("/etc/resolv.conf", os.path.join(root, "etc/resolv.conf"))


def run_in(root, *argv):
    """One command in @root without a systemd."""
    return subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
                           MOUNTS + 'exec chroot $r "$@"', "sh", root, *argv], env=CLEAN, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


class Cgroup:
    """A cgroup (version 2) of its own, for what is started in it."""

    def __init__(self, name):
        with open("/proc/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            here = [line.strip()[3:] for line in file if line.startswith("0::")]
        self.path = None
        if mounts and here:
            self.path = os.path.join(mounts[0] + here[0], name)
            os.mkdir(self.path)

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write("0")

    def remove(self):
        for path, _, _ in os.walk(self.path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


class Container:
    """systemd as process 1 of @root. Use as a context manager."""

    def __init__(self, root):
        self.root = root
        self.cgroup = Cgroup(f"ebb-test-{os.getpid()}")

    def __enter__(self):
        script = MOUNTS + DEVICES + ("mkdir -p $r/sys/fs/cgroup\nmount -t cgroup2 cgroup2 $r/sys/fs/cgroup\n"
                                     "exec chroot $r env -i container=ebb-test PATH=/usr/sbin:/usr/bin "
                                     "/lib/systemd/systemd --system --unit=multi-user.target\n")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "sh", "-c", script,
             "sh", self.root], stdin=subprocess.DEVNULL, preexec_fn=self.cgroup.enter)
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(OSError):
            os.kill(self.init(), signal.SIGKILL)
        self.process.wait()
        for _ in range(100):
            self.cgroup.remove()
            if not os.path.exists(self.cgroup.path):
                break
            time.sleep(0.1)

    def init(self):
        """Process 1, as seen from here."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return int(file.read().split()[0])

    def run(self, *argv):
        """A command inside: its status and its output."""
        result = subprocess.run(["nsenter", "-t", str(self.init()), "-m", "-p", "-i", "-u", "-C", "-r", "-w", *argv],
                                env=CLEAN, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, timeout=120 * SLOWNESS, check=False)
        return result.returncode, result.stdout

    def wait_until_up(self):
        deadline = time.monotonic() + 60 * SLOWNESS
        state = ""
        while state not in ("running", "degraded"):
            assert self.process.poll() is None, "systemd ended"
            assert time.monotonic() < deadline, f"systemd is still {state}"
            time.sleep(0.2)
            with contextlib.suppress(IndexError, OSError):
                state = self.run("systemctl", "is-system-running")[1].strip()
