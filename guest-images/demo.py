#!/usr/bin/env python3
"""What demo.sh runs, on the machine that ebb runs on. See there."""
import os
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "guest"))
import host  # noqa: E402
from ebb import Ebb  # noqa: E402

MIB = 1 << 20
MEMORY = host.size("1G", "256M")
WORKLOAD_MB = host.size(512, 64)


def options(directory, cmdline=""):
    return ["--kernel", host.image("bzImage"), "--initrd", host.image("initramfs"), "--cmdline",
            f"console=ttyS0 quiet pci=off {cmdline}".strip(), "--memory", MEMORY, "--cpus", "2", "--swap-dir", directory]


def say(text):
    print(text, flush=True)


class Table:
    """One line for each stage, read from /proc."""

    def __init__(self, guest, directory):
        self.guest, self.directory = guest, directory
        say("\n  as /proc of the machine that ebb runs on tells    ebb itself   guest RAM held   swap file")

    def store_bytes(self):
        """The store has no name: it is found among ebb's open files."""
        total = 0
        folder = f"/proc/{self.guest.pid}/fd"
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.readlink(path).startswith(self.directory):
                total = max(total, os.stat(path).st_blocks * 512)
        return total

    def row(self, stage):
        numbers = [value / MIB for value in (self.guest.own_bytes(), self.guest.memfd_bytes(), self.store_bytes())]
        say(f"  {stage:<47} {numbers[0]:>8.1f} MiB {numbers[1]:>12.1f} MiB {numbers[2]:>7.1f} MiB")
        return sum(numbers[:2])


def show(directory):
    say(f"booting stock Linux in {MEMORY} of memory, on 2 vCPUs...")
    started = time.monotonic()
    with Ebb(*options(directory), name="demo", runtime_dir=directory) as guest:
        greeting = guest.serial.ready(timeout=60)
        say(f"Linux {greeting['release']} is up after {time.monotonic() - started:.1f} s; "
            f"a workload fills {WORKLOAD_MB} MiB and computes for a while...")
        table = Table(guest, directory)
        table.row("booted")
        guest.serial.command(f"mem alloc {WORKLOAD_MB} 42", timeout=120)
        guest.serial.command("writers start 2 8")
        time.sleep(2)
        guest.serial.command("writers stop", timeout=60)
        before = table.row("after the workload; the guest is idle now")
        guest.swap("enable")
        time.sleep(2)
        table.row("swap enable: staged, nothing copied")
        guest.swap("trim")
        guest.swap("out")
        after = table.row("swap out: what stayed cold is on disk")
        guest.serial.command("ping", timeout=60)
        table.row("the guest has answered a ping")
        checked = guest.serial.command("mem verify", timeout=240)
        table.row("the guest has read all its memory again")
        guest.swap("disable")
        table.row("swap disable: all is back, the file is gone")
        say(f"\nthe guest checked {checked['pages']} pages of its workload: all are as it left them.")
        say(f"swapped out it cost {after:.0f} MiB instead of {before:.0f} MiB.")
        guest.serial.begin("poweroff")
        return guest.wait(60)


def interact(directory):
    arguments = [host.BINARY, "run", "--name", "demo", *options(directory, f"ebb.shell ebb.workload={WORKLOAD_MB}")]
    say("\nA shell in the guest follows, with some memory in use.\n"
        "Ctrl-A c opens the console: try `swap enable`, `swap out`, `status`, `swap status`; Ctrl-D leads back.\n"
        "`poweroff -f` in the guest or Ctrl-A x ends it.\n")
    os.environ["XDG_RUNTIME_DIR"] = directory
    return os.spawnv(os.P_WAIT, host.BINARY, arguments)


def main():
    with tempfile.TemporaryDirectory(prefix="ebb-demo-", dir=host.SCRATCH) as directory:
        os.chmod(directory, 0o700)
        return interact(directory) if "--interactive" in sys.argv[1:] else show(directory)


if __name__ == "__main__":
    sys.exit(main())
