"""The operations of the soak test on bare guests. Each draws all it needs from the generator it gets."""
import json
import os
import signal
import socket
import subprocess
import time

import host
import network
import soak_model as model
import vsock
from case import MIB
from ebb import ControlError, GuestFailure
from prometheus import Scrape
from soak_guest import TIMEOUT, SoakGuest
from soak_model import GRAIN, SECTORS

SWAP = ("enable", "trim", "out", "in", "in --working-set", "disable")
CYCLE = ("enable", "trim", "out", "enable", "out")
ADDRESS = "10.0.0.2"
VSOCK_ECHO = 7


class BareGuest(SoakGuest):
    """do_NAME(rng) for each NAME in WEIGHTS."""

    WEIGHTS = {
        "swap": 20, "cycle": 12, "beside": 24, "race": 6, "cancel": 10, "hang_up": 4,
        "fill": 8, "zero": 4, "verify": 8, "verify_all": 4, "touch": 6, "churn": 6, "second_cpu": 5,
        "balloon": 8, "inflate": 5, "report": 5, "paused": 8, "checksum": 3, "reset": 4,
        "put": 8, "get": 8, "discard": 5, "flush": 2, "network": 5, "vsock": 5, "auto": 3, "pressure": 1,
        "scrape": 4, "follow": 4, "look": 4, "stop_ebb": 4, "swap_all": 3, "restart": 2,
    }
    kinds, weights = tuple(WEIGHTS), tuple(WEIGHTS.values())

    # Swap.

    def do_swap(self, rng):
        operation = rng.choice(SWAP)
        self.note(f"  {operation}")
        self.swap(operation)

    def do_cycle(self, rng):
        for operation in CYCLE[:rng.randint(2, 5)] + rng.choice(((), ("in",), ("disable",))):
            self.swap(operation)
            if rng.random() < 0.4:
                self.some_use(rng)

    def do_beside(self, rng):
        """The guest works while an operation runs."""
        operation = rng.choice(("enable", "out", "out", "in", "in --working-set", "disable", "trim"))
        before = self.state
        # What leaves it something to do, mostly.
        if rng.random() < 0.7 and before not in ("staged",) and operation in ("out", "trim"):
            self.swap("enable")
            before = self.state
        self.note(f"  {operation}")
        begun = self.begin_swap(operation)
        for _ in range(rng.randint(1, 4)):
            self.some_use(rng)
        self.finish_swap(begun, operation, before)

    def some_use(self, rng):
        """Something that the guest does."""
        kind = rng.choice(("fill", "zero", "verify", "touch", "inflate", "balloon", "report", "put", "get", "discard"))
        self.note(f"  + {kind}")
        getattr(self, "do_" + kind)(rng)

    def do_race(self, rng):
        """Several clients at once."""
        before, operations = self.state, rng.choices(SWAP, k=rng.randint(2, 3))
        self.note(f"  {operations}")
        allowed = {"ok", "busy", "wrong_state"}
        begun = [(self.begin_swap(operation), operation) for operation in operations]
        self.some_use(rng)
        for one, operation in begun:
            try:
                self.guest.ctl_finish(one, timeout=2 * TIMEOUT)
            except ControlError as error:
                full = operation == "out" and self.store_fills_up and error.code == "no_space"
                assert full or self.auto or error.code in allowed, f"{operation} while {before}: {error}"
        if not self.auto:
            self.adopt_state()

    def do_cancel(self, rng):
        before, operation = self.state, rng.choice(SWAP)
        if operation in ("out", "trim") and before not in ("staged",):
            self.swap("enable")
            before = self.state
        self.note(f"  {operation}")
        begun = self.begin_swap(operation)
        time.sleep(rng.choice((0, 0.01, 0.03, 0.1)) * rng.random())
        try:
            self.guest.ctl("swap", "cancel")
        except ControlError as error:
            assert error.code == "wrong_state", error
        if self.finish_swap(begun, operation, before, interrupted=True) == "cancelled":
            self.count("cancelled")

    def do_hang_up(self, rng):
        """The client is gone in the middle, by Ctrl-C or worse."""
        before, operation = self.state, rng.choice(SWAP)
        number = rng.choice((signal.SIGINT, signal.SIGKILL))
        self.note(f"  {operation}, {number.name}")
        process, _ = self.begin_swap(operation)
        time.sleep(0.05 * rng.random())
        process.send_signal(number)
        process.communicate(timeout=TIMEOUT * host.SLOWNESS)
        if not self.auto:
            allowed = {before}
            if before in model.LEGAL[operation]:
                allowed = {model.after(operation, before), *model.after_interruption(operation, before)}
            self.adopt_state(allowed)

    def do_auto(self, rng):
        """The policy puts a paused guest to sleep, or is stopped on its way."""
        policy = rng.choice(("idle=1", "idle=1,pressure"))
        self.note(f"  {policy}")
        self.guest.ctl("swap", "auto", policy)
        self.auto = True
        self.guest.ctl("pause")
        before = self.digest()
        end = time.monotonic() + rng.choice((0.5, 2, 6))
        while time.monotonic() < end and self.guest.ctl("swap", "auto")["phase"] != "asleep":
            time.sleep(0.1)
        self.note(f"  {self.guest.ctl('swap', 'auto')['phase']}")
        assert self.checksum_when_free() == before, "memory has changed under the policy"
        self.guest.ctl("resume")
        if rng.random() < 0.5:
            self.verify()
        self.no_auto()

    def checksum_when_free(self):
        result = []

        def done():
            try:
                result.append(self.digest())
            except ControlError as error:
                assert error.code in ("busy", "cancelled"), error
            return result
        self.poll(done, "checksum-memory has its turn")
        return result[0]

    def no_auto(self):
        self.guest.ctl("swap", "auto", "off")
        self.adopt_state()
        self.auto = False

    def do_pressure(self, rng):
        """The policy acts on this host's pressure while the guest works."""
        self.guest.ctl("swap", "auto", "pressure")
        self.auto = True
        for _ in range(rng.randint(1, 3)):
            self.some_use(rng)
            self.swap(rng.choice(SWAP))
        self.no_auto()

    # Memory.

    def some_grains(self, rng, most=None):
        first = rng.randrange(len(self.memory))
        return first, rng.randint(1, min(len(self.memory) - first, most or len(self.memory)))

    def do_fill(self, rng):
        self.fill(*self.some_grains(rng, 256))

    def do_zero(self, rng):
        first, count = self.some_grains(rng, 64)
        self.command(f"known zero {self.memory.address(first)} {count * GRAIN}")
        self.memory.set(first, count, model.ZERO)

    def do_verify(self, rng):
        self.verify(*self.some_grains(rng, 64))

    def do_verify_all(self, _):
        self.verify()

    def in_free_ram(self, command, timeout=TIMEOUT):
        """None if the balloon has some of the memory that @command is for."""
        try:
            return self.command(command, timeout)
        except GuestFailure as error:
            if "free RAM" not in str(error):
                raise
            self.count("in the balloon")
            return None

    def do_touch(self, rng):
        first, count = self.some_grains(rng)
        self.in_free_ram(f"touch {self.memory.address(first)} {count * GRAIN} {rng.choice((4096, 8192, 65536, 20480))} "
                         f"{rng.randint(0, 1)}")

    def do_churn(self, rng):
        """Increments at random places while operations run; none is lost."""
        first, count = self.some_grains(rng, 128)
        operations = rng.choices(SWAP, k=rng.randint(1, 4))
        self.note(f"  {operations}")
        where = f"{self.memory.address(first)} {count * GRAIN}"
        if self.in_free_ram(f"churn {where} 1") is None:
            return
        churn = self.guest.serial.begin(f"churn {where}")
        for operation in operations:
            self.swap(operation)
        self.guest.serial.send("\n")
        self.totals["increments"] += self.guest.serial.finish(churn, timeout=TIMEOUT)["increments"]
        self.fill(first, count)

    def do_second_cpu(self, rng):
        """Another vCPU writes to one place all the while."""
        grain, word = rng.randrange(len(self.memory)), rng.randrange(GRAIN // 8)
        operations = rng.choices(SWAP, k=rng.randint(1, 4))
        if self.cpus < 2 or self.in_free_ram(f"second start {self.memory.address(grain) + 8 * word}") is None:
            return
        self.note(f"  {operations}")
        for operation in operations:
            self.swap(operation)
            self.do_verify_others(rng, grain)
        result = self.command("second stop")
        assert result["value"] in (1, 2) and result["count"], result
        self.fill(grain, 1)

    def do_verify_others(self, rng, grain):
        first, count = self.some_grains(rng, 32)
        if not first <= grain < first + count:
            self.verify(first, count)

    # The balloon.

    def do_balloon(self, rng):
        """By the console, and the guest follows."""
        size = self.memory_bytes - rng.randrange(0, (self.memory_bytes - 8 * MIB) // 2, 4096)
        self.guest.ctl("balloon", str(size))
        self.moved(self.command("balloon follow"))

    def do_inflate(self, rng):
        """By the guest's own decision."""
        pages = rng.randint(1, 2048)
        if rng.random() < 0.6 and self.balloon_pages + pages < self.memory_bytes // 4096 // 2:
            self.moved(self.command(f"balloon inflate {pages}"))
        elif self.balloon_pages:
            self.moved(self.command(f"balloon deflate {min(pages, self.balloon_pages)}"))

    def moved(self, result):
        self.balloon_pages = result["inside"]

    def do_report(self, rng):
        runs, pages, step = rng.choice(((1, 512, 1), (8, 64, 1), (64, 4, 3), (200, 1, 2)))
        self.command(f"balloon report {runs} {pages} {step}")

    # The whole machine.

    def do_paused(self, rng):
        """Memory that nobody changes stays the same, wherever it is."""
        self.guest.ctl("pause")
        before = self.digest()
        assert self.dump_digest() == before, "the dump is another than the checksum's"
        for _ in range(rng.randint(1, 4)):
            what = rng.choice((*SWAP, *SWAP, "checksum", "pause"))
            self.note(f"  {what}")
            if what == "pause":
                try:
                    self.guest.ctl("pause")
                except ControlError as error:
                    assert error.code == "wrong_state", error
            elif what != "checksum":
                self.swap(what)
            if self.digest() != before:
                self.dump_digest("dump-after")
                raise AssertionError(f"memory has changed by {what}: {self.dumps_differ()}")
            self.totals["verified"] += self.memory_bytes
        self.guest.ctl("resume", *rng.choice(((), ("--prefetch",))))

    def do_checksum(self, rng):
        """Of a running guest: it says something, and the guest goes on."""
        begun = self.guest.ctl_begin("checksum-memory")
        self.some_use(rng)
        self.guest.ctl_finish(begun)

    def do_reset(self, rng):
        how, beside = rng.choice(("ctl", "guest")), rng.choice((None, *SWAP))
        self.note(f"  {how} beside {beside}")
        before, start = self.state, len(self.guest.serial.text)
        begun = beside and self.begin_swap(beside)
        if how == "ctl":
            self.guest.ctl("reset")
        else:
            self.guest.serial.begin("reset")
        self.guest.serial.ready(timeout=TIMEOUT, start=start)
        if begun:
            self.finish_swap(begun, beside, before, interrupted=True)
        self.resets += 1
        self.new_memory()
        self.verify()

    def do_stop_ebb(self, rng):
        """All of ebb stands still for a while, with a command waiting."""
        self.guest.signal(signal.SIGSTOP)
        begun = self.guest.ctl_begin("swap", "status")
        time.sleep(0.3 * rng.random())
        self.guest.signal(signal.SIGCONT)
        self.guest.ctl_finish(begun)

    def do_restart(self, rng):
        how = rng.choice(("poweroff", "quit", "signals", "triple", "kill"))
        self.note(f"  {how}")
        if rng.random() < 0.5:
            self.verify()
        if rng.random() < 0.5:
            self.end_in_the_middle(rng, how)
        else:
            self.end(how)
        self.count("end by " + how)
        self.boot()

    def end_in_the_middle(self, rng, how):
        """Of a swap operation, whose client gets some answer or none."""
        operation = rng.choice(SWAP)
        if operation in ("out", "trim") and self.state != "staged":
            self.swap("enable")
        self.note(f"  in {operation}")
        process, _ = self.begin_swap(operation)
        time.sleep(0.05 * rng.random())
        self.end(how)
        process.communicate(timeout=TIMEOUT * host.SLOWNESS)

    # Disks.

    def some_disk(self, rng, most=16):
        """A disk of those there are, a run of grains on it, and the first grain of as many in memory."""
        number = rng.randrange(3) % self.disk_count
        first = rng.randrange(len(self.disks[number]))
        count = rng.randint(1, min(most, len(self.disks[number]) - first))
        return number, first, count, rng.randrange(len(self.memory) - most)

    def do_put(self, rng):
        number, first, count, at = self.some_disk(rng)
        seed, where = self.new_seed(), self.memory.address(at)
        if self.in_free_ram(f"fill {where} {count * GRAIN} {seed}") is None:
            return
        self.memory.fill(at, count, seed)
        self.command(f"blk put {number} {first * SECTORS} {count * SECTORS} {where}")
        self.disks[number].grains[first:first + count] = self.memory.grains[at:at + count]

    def do_get(self, rng):
        number, first, count, at = self.some_disk(rng)
        seed, where = self.new_seed(), self.memory.address(at)
        # So that it is known that something has come.
        if self.in_free_ram(f"fill {where} {count * GRAIN} {seed}") is None:
            return
        self.command(f"blk get {number} {first * SECTORS} {count * SECTORS} {where}")
        self.memory.grains[at:at + count] = self.disks[number].grains[first:first + count]
        self.verify(at, count)
        for index in range(at, at + count):
            if self.memory.grains[index] == model.UNKNOWN:
                self.fill(index, 1)

    def do_discard(self, rng):
        number, first, count, _ = self.some_disk(rng)
        kind = rng.choice(("discard", "zeroes", "unmap"))
        pieces = 1
        if count > 2:
            # Every second grain of the run.
            pieces, count = (count + 1) // 2, 1
        self.command(f"blk {kind} {number} {first * SECTORS} {count * SECTORS} {pieces}")
        for piece in range(pieces):
            self.disks[number].set(first + 2 * piece * count, count,
                                   model.UNKNOWN if kind == "discard" else model.ZERO)

    def do_flush(self, rng):
        self.command(f"blk flush {rng.randrange(3) % self.disk_count}")

    # The network.

    def do_network(self, rng):
        """Packets, of which none is lost or damaged, while an operation runs."""
        before, operation = self.state, rng.choice(SWAP)
        if not self.has_net:
            return
        self.note(f"  {operation}")
        served = self.guest.serial.begin(f"net serve 0 {network.number(ADDRESS)}")
        self.guest.serial.wait("serving", start=served[2])
        begun = self.begin_swap(operation)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect((ADDRESS, 7))
            for _ in range(rng.randint(1, 60)):
                payload = rng.randbytes(rng.randint(1, 1472))
                sock.send(payload)
                assert sock.recv(65536) == payload, "the echo is another"
                self.totals["echoed"] += len(payload)
        self.finish_swap(begun, operation, before)
        self.guest.serial.send("\n")
        assert self.guest.serial.finish(served, TIMEOUT)["bad"] == 0
        # Or the host asks some seconds later whether it is still there, and the question comes into
        # the memory of a guest that is paused by then.
        network.run("ip", "neigh", "flush", "dev", self.tap.name)

    def do_vsock(self, rng):
        """Streams from the host and from the guest, while an operation runs."""
        before, operation = self.state, rng.choice(SWAP)
        self.note(f"  {operation}")
        begun = self.begin_swap(operation)
        data = rng.randbytes(rng.randint(1, 300000))
        with vsock.connect(self.vsock_path, VSOCK_ECHO) as stream:
            assert vsock.exchange(stream, data) == data, "the echo is another"
        size = rng.randint(0, 100000)
        with vsock.EchoServer(self.vsock_path, 1234):
            assert self.command(f"vsock connect 1234 {size}")["received"] == size
        self.totals["echoed"] += len(data) + size
        self.finish_swap(begun, operation, before)
        status = self.command("vsock info")
        assert status["damaged"] == 0, status

    # Those who watch.

    def do_scrape(self, _):
        scrape = Scrape(self.metrics)
        assert scrape.sum("ebb_memory_bytes") == self.memory_bytes, scrape.text
        assert scrape.sum("ebb_swap_state") == 1, scrape.text
        assert scrape.get("ebb_balloon_bytes") == self.balloon_pages * 4096

    def do_follow(self, rng):
        """Somebody comes to follow the events, falls asleep, or goes."""
        if not self.follower:
            self.start_follower()
        elif rng.random() < 0.4:
            self.follower.process.send_signal(rng.choice((signal.SIGSTOP, signal.SIGCONT)))
        else:
            self.stop_follower()

    def do_look(self, rng):
        words = rng.choice((("status",), ("history",), ("memory-map",), ("memory-map", "7"), ("balloon",),
                            ("swap", "auto"), ("help",)))
        self.guest.ctl(*words)
        program = rng.choice((("ls",), ("top", "--once"), ("top", "--json"),
                              ("report", self.name, "-o", os.path.join(self.directory, "report.html"))))
        status, _, errors = self.run_ebb(*program, timeout=TIMEOUT)
        assert status == 0, f"{program}: {errors}"

    def do_swap_all(self, rng):
        """All guests at once; nobody else does anything."""
        operation = rng.choice(("enable", "trim", "out", "in", "disable", "status"))
        self.note(f"  {operation}")
        result = subprocess.run([host.BINARY, "swap", "--json", "--all", operation], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.guest.env,
                                timeout=2 * TIMEOUT * host.SLOWNESS, check=False)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        machines = {line["name"]: line for line in lines if "name" in line}
        self.soak.swap_all_done(operation, machines)
