"""One bare guest of the soak test: how it is started and ended, and what must hold after every operation."""
import collections
import contextlib
import glob
import hashlib
import os
import random
import signal
import time

import host
import network
import soak_model as model
from case import MIB, BareCase
from ebb import ControlError, Ebb
from follower import Follower
from soak_model import GRAIN, Grains

LOW = 16 * MIB  # below are the guest's program and what ebb handed over
DISK_GRAINS = 96
LOG_KEPT = 50
# Of ebb's own memory, over what it was once everything had run for a while.
GROWTH_LIMIT = 24 * MIB
WARM_UP = 40
TIMEOUT = 60


class SoakGuest(BareCase):
    """
    Runs operations until the soak ends. What is done follows from the seed and the name alone; what is
    expected follows from the model here.
    """

    uses_network = True

    def __init__(self, soak, name, seed):
        super().__init__()
        self.soak, self.name, self.seed = soak, name, f"{seed}/{name}"
        self.log = collections.deque(maxlen=LOG_KEPT)
        self.counts = collections.Counter()
        self.totals = collections.Counter()
        self.boots = self.operations = 0
        self.guest = self.follower = None
        self.has_net = False

    def setUp(self):
        super().setUp()
        self.runtime = self.soak.runtime
        if not host.check()["can_swap"]:
            self.skipTest("this host cannot swap guests out: " + host.failures())
        self.disk_paths = [self.make_file(f"disk{i}", DISK_GRAINS * GRAIN) for i in range(3)]
        self.disks = [Grains(0, DISK_GRAINS) for _ in self.disk_paths]
        self.vsock_path = os.path.join(self.directory, "vsock")
        # Those who are not root go without a network.
        self.has_net = self.uses_network and host.is_root() and os.path.exists("/dev/net/tun")
        if self.has_net:
            network.enter_namespace(self)
            self.tap = network.Tap(self)
        self.addCleanup(self.kill)

    # Starting and ending.

    def ebb(self, *options, **arguments):
        return Ebb(*options, runtime_dir=self.runtime, name=self.name, **arguments)

    def boot(self):
        rng = random.Random(f"{self.seed}/boot{self.boots}")
        self.boots += 1
        self.memory_bytes = rng.choice((32, 48, 64, 96)) * MIB
        self.cpus = rng.choice((1, 2))
        options = ["--cpus", str(self.cpus), "--metrics", os.path.join(self.directory, "metrics"),
                   "--swap-compress", rng.choice(("lz4", "lz4", "zstd", "none")),
                   "--swap-encrypt", rng.choice(("on", "on", "off")),
                   "--swap-io", rng.choice(("auto", "auto", "threads"))]
        place = rng.choice(("dir", "dir", "dir+pool", "pool", "limit", "limit+pool"))
        self.store_fills_up = "limit" in place or place == "pool"
        if "pool" in place:
            options += ["--swap-pool", rng.choice(("4M", "16M"))]
        if "limit" in place:
            options += ["--swap-limit", rng.choice(("6M", "24M"))]
        self.disk_count = rng.randint(1, 3)
        for path in self.disk_paths[:self.disk_count]:
            options += ["--disk", path]
        if self.has_net:
            options += ["--net", "tap=tap0"]
        options += ["--vsock", self.vsock_path]
        self.note(f"boot {self.boots}: {' '.join(options)} --memory {self.memory_bytes // MIB}M, {place}")
        self.options = options
        self.guest = self.bare(*options, memory=f"{self.memory_bytes // MIB}M", swap=place != "pool")
        self.state, self.auto, self.resets = "disabled", False, 0
        self.descriptors = self.own_baseline = None
        self.boot_operations = 0
        self.new_memory()
        self.metrics = self.guest.ctl("status")["metrics"]

    def new_memory(self):
        """The guest has begun anew."""
        self.memory = Grains(LOW, (self.memory_bytes - LOW) // GRAIN)
        self.seed_number = 0
        self.balloon_pages = 0

    def end(self, how):
        """Ends ebb; nothing of it may be left."""
        self.stop_follower()
        guest = self.guest
        if how in ("poweroff", "triple"):
            guest.serial.begin(how)
        elif how == "quit":
            guest.ctl("quit")
        elif how == "signals":
            guest.signal_twice()
        else:
            guest.signal(signal.SIGKILL)
        status = guest.wait(TIMEOUT)
        assert status == {"kill": -signal.SIGKILL, "triple": 1}.get(how, 0), f"ended with status {status} by {how}"
        left = os.listdir(self.swap_dir)
        assert not left, f"left in the swap directory: {left}"
        if how != "kill":
            left = [path for path in glob.glob(f"{self.runtime}/**", recursive=True)
                    if os.path.basename(path).startswith(self.name + ".")] + \
                [path for path in (os.path.join(self.directory, "metrics"), self.vsock_path) if os.path.exists(path)]
            assert not left, f"left behind: {left}"
        self.check_disk_files()
        self.close()

    def check_disk_files(self):
        """A grain of each disk, as the host sees it."""
        for path, disk in zip(self.disk_paths, self.disks):
            index = self.operations % len(disk)
            if disk.grains[index] != model.UNKNOWN:
                with open(path, "rb") as file:
                    file.seek(index * GRAIN)
                    assert file.read(GRAIN) == model.content(disk.grains[index]), f"{path}: grain {index} is wrong"
                self.totals["verified"] += GRAIN

    def kill(self):
        self.stop_follower()
        if self.guest and self.guest.process.poll() is None:
            self.guest.process.kill()
            self.guest.process.wait()
        self.close()

    def close(self):
        if self.guest:
            with contextlib.suppress(OSError):
                self.guest.process.stdin.close()
            self.guest._stderr.join(5)
        self.guest = None

    # The story so far.

    def note(self, text):
        self.log.append(f"{self.operations:6} {time.monotonic() - self.soak.started:8.2f} {text}")

    def count(self, kind):
        self.counts[kind] += 1

    # What operations are made of.

    def command(self, text, timeout=TIMEOUT):
        return self.guest.serial.command(text, timeout)

    def new_seed(self):
        self.seed_number += 1
        return self.seed_number

    def swap(self, operation):
        """Runs it to its end; what it says must be what the model says."""
        before = self.state
        begun = self.begin_swap(operation)
        self.finish_swap(begun, operation, before)

    def begin_swap(self, operation):
        self.count("swap " + operation)
        return self.guest.ctl_begin("swap", *operation.split())

    def finish_swap(self, begun, operation, before, interrupted=False):
        try:
            self.guest.ctl_finish(begun, timeout=2 * TIMEOUT)
            code = "ok"
        except ControlError as error:
            code, message = error.code, error.message
            self.note(f"… {operation}: {message}")
        if self.auto:
            assert code in ("ok", "wrong_state", "busy", "cancelled", "no_space"), message
            return code
        legal = before in model.LEGAL[operation]
        if not legal:
            assert code == "wrong_state", f"swap {operation} while {before}: {code}"
        elif code == "ok":
            self.state = model.after(operation, before)
        elif code == "cancelled" and interrupted:
            self.adopt_state(model.after_interruption(operation, before))
        elif code == "no_space" and operation == "out" and self.store_fills_up:
            self.count("store full")
        else:
            raise AssertionError(f"swap {operation} while {before}: {code}: {message}")
        return code

    def adopt_state(self, allowed=model.STATES):
        """Timing decides in which of these states it is now."""
        self.await_quiet()
        self.state = self.guest.ctl("swap", "status")["state"]
        assert self.state in allowed, f"state {self.state}, not one of {allowed}"

    def await_quiet(self):
        self.poll(lambda: self.guest.ctl("swap", "status")["operation"] is None, "the operation ends")

    def poll(self, condition, what):
        deadline = time.monotonic() + TIMEOUT * host.SLOWNESS
        while not condition():
            assert time.monotonic() < deadline, f"never: {what}"
            time.sleep(0.05)

    def verify(self, first=0, count=None):
        """Compares what the guest has with what it must have."""
        for index, length, grain in self.memory.runs(first, count):
            where = f"{self.memory.address(index)} {length * GRAIN}"
            if grain == model.UNKNOWN:
                continue
            if grain == model.ZERO:
                result = self.command(f"known zeroes {where}")
            else:
                result = self.command(f"known verify {where} {grain[0]} {grain[1]}")
            # What was given back has become zero pages.
            assert result["lost"] == result["lost_zero"], f"{where}: {result}"
            self.totals["verified"] += (result["pages"] + result["lost"]) * 4096

    def fill(self, first, count):
        seed = self.new_seed()
        self.command(f"known fill {self.memory.address(first)} {count * GRAIN} {seed}")
        self.memory.fill(first, count, seed)

    def digest(self):
        return self.guest.ctl("checksum-memory")["digest"]

    def dump_digest(self, name="dump"):
        path = os.path.join(self.directory, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.guest.ctl("dump-memory", path)
        with open(path, "rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        assert os.stat(path).st_size == self.memory_bytes
        return digest

    def dumps_differ(self, one="dump", other="dump-after"):
        """Where, page by page."""
        differences = []
        with open(os.path.join(self.directory, one), "rb") as a, open(os.path.join(self.directory, other), "rb") as b:
            for page in range(self.memory_bytes // 4096):
                before, after = a.read(4096), b.read(4096)
                if before != after:
                    first = next(i for i in range(4096) if before[i] != after[i])
                    last = next(i for i in reversed(range(4096)) if before[i] != after[i])
                    differences.append(f"{page * 4096 + first:#x}: {before[first:last + 1][:64].hex()} became "
                                       f"{after[first:last + 1][:64].hex()} (of {last + 1 - first} bytes)")
        return f"{len(differences)} pages: " + "; ".join(differences[:20])

    def start_follower(self):
        self.follower = Follower(self.guest, "0")
        self.follower.__enter__()

    def stop_follower(self):
        if self.follower:
            self.follower.__exit__()
            self.follower = None

    # What must hold.

    def check(self):
        """After every operation."""
        guest = self.guest
        assert guest.process.poll() is None, f"ebb has ended with status {guest.process.returncode}"
        status, swap = guest.ctl("status"), guest.ctl("swap", "status")
        assert status["state"] == "running", f"{status['state']}: {status['reason']}"
        assert status["resets"] == self.resets, f"{status['resets']} resets instead of {self.resets}"
        self.check_balloon(status)
        self.check_swap(swap)
        self.check_log()
        if self.state == "disabled" and not self.auto and not self.follower:
            self.check_own()

    def check_balloon(self, status):
        actual = status["balloon"]["actual_bytes"]
        assert actual == self.balloon_pages * 4096, f"balloon: {actual} bytes instead of {self.balloon_pages} pages"

    def check_swap(self, swap):
        if not self.auto:
            assert swap["state"] == self.state, f"swap is {swap['state']}, not {self.state}"
            assert swap["operation"] is None, f"{swap['operation']} is still running"
        pages = sum(swap["pages_" + kind] for kind in ("empty", "resident", "staged", "writing", "swapped"))
        total = self.memory_bytes // 4096
        assert swap["pages_total"] == total, swap
        assert pages == (total if swap["state"] != "disabled" else 0), f"pages sum up to {pages}: {swap}"
        self.totals["faults"] += max(0, self.faults(swap) - self.faults_seen) if self.boot_operations else 0
        self.faults_seen = self.faults(swap)
        if swap["state"] == "disabled":
            used = {name: swap["store"][name] for name in ("entries", "live_bytes", "pool_bytes", "file_bytes")}
            assert not any(used.values()) and not swap["store_disk_bytes"], f"disabled, but the store has {used}"
            if not self.auto:
                blocks = self.store_file_bytes()
                assert not blocks, f"disabled, but the store takes {blocks} bytes of the disk"

    @staticmethod
    def faults(swap):
        return sum(swap["counters"][name] for name in ("faults_zeroed", "faults_continued", "faults_copied"))

    def store_file_bytes(self):
        total = 0
        for path in glob.glob(f"/proc/{self.guest.pid}/fd/*"):
            with contextlib.suppress(OSError):
                target = os.readlink(path)
                if target.startswith(self.swap_dir) and target != self.swap_dir:
                    total += os.stat(path).st_blocks * 512
        return total

    def check_log(self):
        lines = self.guest.errors.count(b"\n")
        limit = 50 + 3 * self.boot_operations
        assert lines <= limit, f"{lines} lines on standard error after {self.boot_operations} operations"
        self.totals["log lines"] = max(self.totals["log lines"], lines)

    def open_descriptors(self):
        kinds = collections.Counter()
        for path in glob.glob(f"/proc/{self.guest.pid}/fd/*"):
            with contextlib.suppress(OSError):
                kinds[os.readlink(path).partition("[")[0].partition(":")[0]] += 1
        for path in glob.glob(f"/proc/{self.guest.pid}/task/*/comm"):
            with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
                name = file.read().strip()
                # The kernel's own come and go.
                if not name.startswith(("iou-", "kvm-")):
                    kinds["thread " + name] += 1
        return kinds

    def check_own(self):
        """Swap is disabled and nobody is connected: ebb holds what it held the last time that was so."""
        if not self.swap_ran:
            return
        if self.descriptors is None:
            self.descriptors = self.open_descriptors()
        deadline = time.monotonic() + 10 * host.SLOWNESS
        # A client's connection may outlast it by a moment.
        while not (now := self.open_descriptors()) <= self.descriptors:
            if time.monotonic() > deadline:
                raise AssertionError(f"more descriptors and threads: {dict(now - self.descriptors)} beside "
                                     f"{dict(self.descriptors)}")
            time.sleep(0.1)
        self.descriptors = now
        if self.boot_operations >= WARM_UP:
            own = self.guest.own_bytes()
            self.own_baseline = self.own_baseline or own
            growth = own - self.own_baseline
            self.totals["growth"] = max(self.totals["growth"], growth)
            # A sanitizer keeps what is freed.
            assert growth <= GROWTH_LIMIT or "asan" in host.BINARY, f"ebb itself has grown by {growth} bytes to {own}"

    @property
    def swap_ran(self):
        return self.guest.ctl("swap", "status")["last"]["disable"] is not None

    # The run.

    def run_soak(self):
        """Until the time is over. Raises what went wrong; describe() tells the rest."""
        self.faults_seen = 0
        self.boot()
        while not self.soak.over():
            rng = random.Random(f"{self.seed}/{self.operations}")
            kind = rng.choices(self.kinds, self.weights)[0]
            self.operations += 1
            self.boot_operations += 1
            self.note(kind)
            with self.soak.alone if kind == "swap_all" else self.soak.beside_others:
                getattr(self, "do_" + kind)(rng)
                self.check()
            self.count(kind)
        with self.soak.beside_others:
            self.note("the end")
            self.verify()
            self.end("quit")

    def describe(self):
        """The last operations, what ebb and the guest said, and where ebb's threads are."""
        parts = [f"guest {self.name}: the last operations (number, seconds, what):", *self.log]
        if self.guest:
            parts.append(f"state of swap in the model: {self.state}; options: {' '.join(self.options)}")
            if self.guest.process.poll() is None:
                parts.append("threads of ebb:")
                for task in sorted(glob.glob(f"/proc/{self.guest.pid}/task/*")):
                    line = [os.path.basename(task)]
                    for name in ("comm", "wchan", "syscall"):
                        with contextlib.suppress(OSError), open(os.path.join(task, name), encoding="ascii") as file:
                            line.append(file.read().strip())
                    parts.append("  " + " ".join(line))
            parts.append("standard error of ebb:\n" + self.guest.errors.decode(errors="replace")[-6000:])
            parts.append("serial line of the guest:\n" + self.guest.serial.text[-3000:])
        return "\n".join(parts)
