"""Swap devices of the host's own kernel, active for as long as a `with` block lasts.

Each takes pages before any other device of the host (highest priority), and is gone afterwards,
also if the block ends by an exception. Where the host does not allow it, entering raises Unavailable
with the reason.
"""
import contextlib
import os
import subprocess
import time

CONTROL = "/sys/class/zram-control"
PRIORITY = "32767"


class Unavailable(Exception):
    pass


def call(*words):
    try:
        result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable(f"{words[0]} is not installed (apt-get install mount util-linux)") from None
    if result.returncode:
        raise Unavailable(f"{' '.join(words)}: {result.stdout.strip()}")


def used_bytes():
    """By device."""
    with open("/proc/swaps", encoding="ascii") as file:
        lines = file.read().splitlines()[1:]
    return {line.split()[0]: int(line.split()[3]) * 1024 for line in lines}


def swap_off(path):
    for _ in range(20):
        if subprocess.run(["swapoff", path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        if path not in used_bytes():
            return
        time.sleep(0.2)
    print(f"swapoff {path} failed: do it by hand, and remove it")


def own_cgroup_v1():
    with open("/proc/self/cgroup", encoding="ascii") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                return f"/sys/fs/cgroup/memory{path.rstrip('/')}"
    return None


@contextlib.contextmanager
def cgroup():
    """A memory cgroup for one program: (file to enter by, file that makes it reclaim), or (None, None)."""
    parent, name = own_cgroup_v1(), "memory.force_empty"
    if parent is None:
        # Only the root may hold processes beside groups with controllers.
        parent, name = "/sys/fs/cgroup", "memory.reclaim"
    path = f"{parent}/ebb-bench-{os.getpid()}"
    try:
        os.mkdir(path)
    except OSError:
        yield None, None
        return
    try:
        usable = os.path.exists(f"{path}/{name}")
        yield (f"{path}/cgroup.procs", f"{path}/{name}") if usable else (None, None)
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(path)
                break
            time.sleep(0.1)


@contextlib.contextmanager
def active(path):
    if os.geteuid() != 0:
        raise Unavailable("swapon needs root")
    call("mkswap", path)
    call("swapon", "-p", PRIORITY, path)
    try:
        yield path
    finally:
        swap_off(path)


@contextlib.contextmanager
def swap_file(directory, size):
    path = os.path.join(os.path.realpath(directory), f"ebb-bench-swap-{os.getpid()}")
    try:
        try:
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from None
        with active(path):
            yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def write(path, text):
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None


@contextlib.contextmanager
def zram(size):
    """A zram device of its own, with lz4."""
    if os.geteuid() != 0:
        raise Unavailable("zram needs root")
    if not os.path.exists(CONTROL):
        subprocess.run(["modprobe", "zram", "num_devices=0"], stderr=subprocess.DEVNULL, check=False)
    try:
        with open(f"{CONTROL}/hot_add", encoding="ascii") as file:
            number = file.read().strip()
    except OSError:
        raise Unavailable("this kernel has no zram") from None
    settings = f"/sys/block/zram{number}"
    try:
        write(f"{settings}/comp_algorithm", "lz4")
        write(f"{settings}/disksize", str(size))
        for _ in range(50):
            if os.path.exists(f"/dev/zram{number}"):
                break
            time.sleep(0.02)
        with active(f"/dev/zram{number}"):
            yield f"/dev/zram{number}"
    finally:
        with contextlib.suppress(Unavailable):
            write(f"{settings}/reset", "1")
            write(f"{CONTROL}/hot_remove", number)
