"""The soak test on stock Linux guests: stress-ng and memtester verify memory, and the agent's own patterns."""
import random

import host
from case import MIB, LinuxCase
from prometheus import Scrape
from soak_guest import TIMEOUT
from soak_operations import BareGuest

BLOCK_MB = host.size(64, 8)
DISK_MB = host.size(32, 4)
BALLOON_STEP = 16 * MIB
STRESS = f"/usr/bin/stress-ng --vm 1 --vm-bytes {host.size(64, 8)}M --vm-method all --verify --timeout 0"
MEMTESTER = f"/usr/sbin/memtester {host.size(16, 2)}M 1"


class LinuxGuest(BareGuest, LinuxCase):
    """The same machine and the same model of swap; what the guest does differs."""

    WEIGHTS = {
        "swap": 20, "cycle": 14, "beside": 20, "race": 4, "cancel": 8, "hang_up": 3, "paused": 6,
        "touch": 8, "verify": 6, "writers": 6, "disk": 8, "balloon": 5, "auto": 2, "scrape": 3, "follow": 3,
        "stop_ebb": 3, "look": 1, "swap_all": 2, "testers": 6, "reset": 1,
    }
    kinds, weights = tuple(WEIGHTS), tuple(WEIGHTS.values())
    uses_network = False

    def boot(self):
        rng = random.Random(f"{self.seed}/boot{self.boots}")
        self.boots += 1
        self.memory_bytes = 320 * MIB
        options = ["--metrics", self.directory + "/metrics", "--disk", self.disk_paths[0]]
        place = rng.choice(("dir", "dir+pool", "limit"))
        self.store_fills_up = place == "limit"
        if place == "dir+pool":
            options += ["--swap-pool", "8M"]
        if place == "limit":
            options += ["--swap-limit", "32M"]
        self.note(f"boot {self.boots}: {' '.join(options)}")
        self.options = options
        self.guest = self.linux(*options, memory="320M", cpus=rng.choice((1, 2)), initramfs="initramfs-soak")
        self.state, self.auto, self.resets = "disabled", False, 0
        self.descriptors = self.own_baseline = None
        self.boot_operations = 0
        self.metrics = self.guest.ctl("status")["metrics"]
        self.begin_work()

    def begin_work(self):
        """After boot and reset: patterns in memory and on the disk, writers, and those who test memory."""
        self.command(f"mem alloc {BLOCK_MB} {self.operations + 1}", 2 * TIMEOUT)
        self.command("writers start 1 1")
        self.disk_seed = self.operations + 1
        self.command(f"disk write vda {DISK_MB} {self.disk_seed}", 2 * TIMEOUT)
        self.shell(f"{STRESS} >/root/stress.log 2>&1 &")
        self.shell(f"(while {MEMTESTER} >/root/memtester.log 2>&1; do echo 1 >>/root/passes; done; "
                   "echo wrong >>/root/passes) >/dev/null 2>&1 &")

    def shell(self, text):
        return self.command(f"sh {text}", 2 * TIMEOUT)

    def end(self, how):
        self.do_testers(None)
        result = self.shell("killall -INT stress-ng; sleep 3; grep -ciE 'fail|error' /root/stress.log; "
                            "cat /root/stress.log")
        assert result["output"].startswith("0"), result
        super().end(how)

    def check_disk_files(self):
        """The agent has verified the disk."""

    def check_balloon(self, status):
        """The guest moves in its own time."""

    def verify(self, *_):
        self.totals["verified"] += self.command("mem verify", 4 * TIMEOUT)["pages"] * 4096

    def some_use(self, rng):
        kind = rng.choice(("touch", "touch", "verify", "writers", "disk", "balloon"))
        self.note(f"  + {kind}")
        getattr(self, "do_" + kind)(rng)

    def do_verify(self, _):
        self.verify()

    def do_touch(self, rng):
        self.command(f"mem touch {rng.randint(1, 500)}", 2 * TIMEOUT)

    def do_writers(self, _):
        self.totals["increments"] = self.command("writers check", 2 * TIMEOUT).get("increments", 0)

    def do_testers(self, _):
        """stress-ng is at it, and has found nothing; nor has memtester."""
        result = self.shell("pidof stress-ng stress-ng-vm >/dev/null && echo runs; grep -iE 'fail|error' /root/stress.log; "
                            "grep -s wrong /root/passes && cat /root/memtester.log; true")
        assert result["output"].replace("\\n", "").strip() == "runs", result
        passes = self.shell("cat /root/passes 2>/dev/null | wc -l")["output"]
        self.counts["memtester passes"] = int(passes.replace("\\n", ""))

    def do_disk(self, rng):
        direct = rng.choice(("", " direct"))
        if rng.random() < 0.5:
            self.disk_seed += 1
            self.command(f"disk write vda {DISK_MB} {self.disk_seed}{direct}", 4 * TIMEOUT)
        self.command(f"disk verify vda {DISK_MB} {self.disk_seed}{direct}", 4 * TIMEOUT)
        self.totals["verified"] += DISK_MB * MIB

    def do_balloon(self, rng):
        self.guest.ctl("balloon", str(self.memory_bytes - rng.randint(0, 5) * BALLOON_STEP))

    def do_scrape(self, _):
        assert Scrape(self.metrics).sum("ebb_memory_bytes") == self.memory_bytes

    def do_look(self, rng):
        self.guest.ctl(rng.choice(("status", "history", "memory-map", "balloon")))

    def do_reset(self, rng):
        start = len(self.guest.serial.text)
        self.guest.ctl("reset")
        self.guest.serial.ready(timeout=2 * TIMEOUT, start=start)
        self.resets += 1
        self.begin_work()
