#!/usr/bin/env python3
"""Measures what the README promises, with the bare guest on this host's /dev/kvm.

    EBB_BINARY=build/release/vmm/ebb EBB_IMAGES=OUT tests/bench/figures.py [--rounds N]

(OUT: guest-images/build.sh bare OUT.) Each figure is the median of N rounds. Times depend on the host
and on what else it does, so the same run measures a reference beside each: starting a process, copying
the same amount of memory.
"""
import argparse
import mmap
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest"))
import host  # noqa: E402
from ebb import Ebb  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30


def bare(directory, memory):
    guest = Ebb("--kernel", host.image("bare.elf"), "--memory", memory, "--swap-dir", directory,
                runtime_dir=directory)
    guest.serial.ready()
    return guest


def start_ms(directory, memory):
    """From the start of ebb to the guest's first instruction, as ebb tells it."""
    with bare(directory, memory) as guest:
        first = guest.ctl("status")["first_run_ns"] / 1e6
        guest.ctl("quit")
        guest.wait()
    return first


def process_ms():
    """Reference: how long this host takes to run a program that does nothing."""
    start = time.monotonic()
    subprocess.run([host.BINARY, "version"], stdout=subprocess.DEVNULL, check=True)
    return (time.monotonic() - start) * 1e3


def copy_ms_per_gib():
    """Reference: what copying the guest's memory would take (memcpy into fresh memory)."""
    size = 256 * MIB
    source = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        source[offset] = 1
    start = time.monotonic()
    target = mmap.mmap(-1, size)
    target[:] = source
    elapsed = time.monotonic() - start
    source.close()
    target.close()
    return elapsed * 1e3 * GIB / size


def own_rss_mib(guest):
    """RSS that is not guest memory: the guest's memory is shared (a memfd), ebb's own is not."""
    with open(f"/proc/{guest.pid}/status", encoding="ascii") as file:
        text = file.read()
    kib = sum(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M).group(1)) for name in ("RssAnon", "RssFile"))
    return kib / 1024


def enable_figures(directory):
    """RSS, zap time and the guest's longest gap around an enable of a full 1 GiB guest."""
    with bare(directory, "1G") as guest:
        guest.serial.command("fillall 1", timeout=120)
        clock = cycles_per_ms(guest)
        quiet = guest.serial.command(f"gap {int(500 * clock)}")["max"] / clock
        gap = guest.serial.begin(f"gap {int(1000 * clock)}")
        time.sleep(0.2)
        enable = guest.swap("enable")
        worst = guest.serial.finish(gap)["max"] / clock
        rss = own_rss_mib(guest)
        staged = enable["pages_moved"] * 4096
        guest.ctl("quit")
        guest.wait()
    return {"rss": rss, "zap": enable["zap_ns"] / 1e6 * GIB / staged,
            "enable": enable["duration_ns"] / 1e6 * GIB / staged, "gap": worst, "quiet": quiet}


def cycles_per_ms(guest):
    start = time.monotonic()
    cycles = guest.serial.command("gap 500000000")["cycles"]
    return cycles / ((time.monotonic() - start) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    median = statistics.median
    with tempfile.TemporaryDirectory(prefix="ebb-figures-", dir=host.SCRATCH) as directory:
        small = [start_ms(directory, "128M") for _ in range(rounds)]
        large = [start_ms(directory, "8G") for _ in range(rounds)]
        process = [process_ms() for _ in range(rounds)]
        copy = [copy_ms_per_gib() for _ in range(rounds)]
        enable = [enable_figures(directory) for _ in range(rounds)]

    def figure(name):
        return median(round_[name] for round_ in enable)

    rows = [
        ("start to first guest instruction, 128 MiB", f"{median(small):.1f} ms", f"{median(process):.1f} ms: a process that does nothing"),
        ("start to first guest instruction, 8 GiB", f"{median(large):.1f} ms", ""),
        ("ebb's own RSS, 1 GiB guest, swap enabled", f"{figure('rss'):.1f} MiB", ""),
        ("zap", f"{figure('zap'):.0f} ms/GiB", f"{median(copy):.0f} ms/GiB: a copy of the memory"),
        ("swap enable in all", f"{figure('enable'):.0f} ms/GiB", ""),
        ("longest gap that the guest sees, idle", f"{figure('quiet'):.2f} ms", "the host's own scheduling"),
        ("longest gap that the guest sees, during enable", f"{figure('gap'):.2f} ms", "vCPUs are not stopped"),
    ]
    for name, value, reference in rows:
        print(f"{name:<48} {value:>14}   {reference}")


if __name__ == "__main__":
    main()
