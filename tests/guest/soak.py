#!/usr/bin/env python3
"""Random operations on several guests at once, their memory and disks verified all the time.

See tests/soak.sh, which sets the environment (host.py says which).
"""
import argparse
import collections
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.path.insert(1, os.path.join(ROOT, "guest-images", "hostvm"))
import host  # noqa: E402
import soak_model as model  # noqa: E402
from case import MIB  # noqa: E402

SKIPPED = 77


class Together:
    """Many may be inside of `beside_others`, or one inside of `alone`."""

    def __init__(self):
        self.changed = threading.Condition()
        self.inside = self.waiting = 0
        self.alone, self.beside_others = self._alone(), self._beside()

    def _alone(together):
        class Alone:
            def __enter__(self):
                together.changed.acquire()
                together.waiting += 1
                together.changed.wait_for(lambda: together.inside == 0)
                together.waiting -= 1

            def __exit__(self, *exception):
                together.changed.notify_all()
                together.changed.release()
        return Alone()

    def _beside(together):
        class Beside:
            def __enter__(self):
                with together.changed:
                    together.changed.wait_for(lambda: together.waiting == 0)
                    together.inside += 1

            def __exit__(self, *exception):
                with together.changed:
                    together.inside -= 1
                    together.changed.notify_all()
        return Beside()


class Soak:
    """What the guests of a run share."""

    def __init__(self, seconds, runtime):
        self.started = time.monotonic()
        self.end = self.started + seconds
        self.runtime = runtime
        self.guests = []
        self.failed = threading.Event()
        together = Together()
        self.alone, self.beside_others = together.alone, together.beside_others

    def over(self):
        return self.failed.is_set() or time.monotonic() >= self.end

    def swap_all_done(self, operation, machines):
        """`ebb swap --all` was run while nothing else was: takes over how it went."""
        for guest in self.guests:
            if not guest.guest:
                continue
            line = machines.get(guest.name)
            assert line is not None, f"{guest.name} was left out"
            code = (line.get("error") or {}).get("code")
            full = operation == "out" and guest.store_fills_up and code == "no_space"
            illegal = code == "wrong_state" and guest.state not in model.LEGAL.get(operation, model.STATES)
            assert code is None or full or illegal or guest.auto, f"{guest.name}: {line}"
            if not guest.auto:
                before = guest.state
                guest.adopt_state()
                if operation == "status":
                    assert guest.state == before, f"{guest.name}: {before} became {guest.state}"

    def run_guest(self, guest):
        """The thread of one guest."""
        try:
            guest.setUp()
            guest.run_soak()
        except unittest.SkipTest as reason:
            print(f"SKIP: {reason}", flush=True)
            guest.counts["skipped"] += 1
            self.failed.set()
        except BaseException:
            first = not self.failed.is_set()
            self.failed.set()
            guest.failure = traceback.format_exc()
            if first:
                print(f"\nFAILED: guest {guest.name}\n{guest.failure}\n{guest.describe()}", flush=True)
        finally:
            with contextlib.suppress(Exception):
                guest.doCleanups()


def summary(soak, seed):
    """Operations by kind, one column for each guest."""
    guests = soak.guests
    kinds = sorted({kind for guest in guests for kind in guest.counts})
    rows = [("operation", *(guest.name for guest in guests), "all")]
    for kind in kinds:
        numbers = [guest.counts[kind] for guest in guests]
        rows.append((kind, *map(str, numbers), str(sum(numbers))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  " + row[0].ljust(widths[0]) + "".join("  " + cell.rjust(width)
                                                       for cell, width in zip(row[1:], widths[1:])))
    totals = collections.Counter()
    for guest in guests:
        for name in ("verified", "faults", "echoed", "increments"):
            totals[name] += guest.totals[name]
    print(f"\nsoak: {sum(guest.operations for guest in guests)} operations on {len(guests)} guests in "
          f"{time.monotonic() - soak.started:.0f} s, seed {seed}: {totals['verified'] / MIB:.0f} MiB verified, "
          f"{totals['faults']} faults, {totals['increments']} increments, {totals['echoed']} bytes echoed, "
          f"{sum(guest.boots for guest in guests)} starts; ebb itself grew by at most "
          f"{max(guest.totals['growth'] for guest in guests) / MIB:.1f} MiB and logged at most "
          f"{max(guest.totals['log lines'] for guest in guests)} lines", flush=True)


def use_processors(number):
    """Leaves the others to others."""
    if number:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def run_here(options):
    from soak_operations import BareGuest
    guests = [(BareGuest, f"bare{i}") for i in range(options.bare)]
    if options.linux:
        from soak_linux import LinuxGuest
        guests += [(LinuxGuest, f"linux{i}") for i in range(options.linux)]
    if options.only:
        guests = [guest for guest in guests if guest[1] == options.only]
    if not guests:
        sys.exit(f"no guest is called {options.only}")
    use_processors(options.processors)
    with tempfile.TemporaryDirectory(prefix="ebb-soak-", dir=host.SCRATCH) as runtime:
        soak = Soak(options.minutes * 60, runtime)
        soak.guests = [kind(soak, name, options.seed) for kind, name in guests]
        threads = [threading.Thread(target=soak.run_guest, args=(guest,)) for guest in soak.guests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [os.path.join(path, name) for path, _, names in os.walk(runtime) for name in names]
    summary(soak, options.seed)
    if any(guest.counts["skipped"] for guest in soak.guests):
        return 1 if os.environ.get("CI") == "true" else SKIPPED
    if left and not soak.failed.is_set():
        print(f"left in the runtime directory: {left}")
        soak.failed.set()
    if soak.failed.is_set():
        print(f"soak: FAILED. Once more: tests/soak.sh --minutes {options.minutes:g} --seed {options.seed} "
              f"--bare {options.bare} --linux {options.linux}")
        return 1
    return 0


def run_in_hostvm(options):
    """Linux guests where this host's own KVM runs no stock kernels."""
    import hostvm
    from run import hostvm_state
    argv = [os.path.realpath(sys.executable), "-S", os.path.abspath(__file__), "--minutes", f"{options.minutes:g}",
            "--seed", str(options.seed), "--bare", "0", "--linux", str(options.linux)]
    argv += ["--only", options.only] if options.only else []
    try:
        return hostvm.run(hostvm_state(), argv, timeout=options.minutes * 60 + 900, cwd=HERE,
                          env={"EBB_IN_HOSTVM": "1"})
    except hostvm.HostVmError as error:
        print(f"host VM: {error}")
        return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("EBB_SOAK_SECONDS", 120)) / 60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--bare", type=int, default=4)
    parser.add_argument("--linux", type=int, default=0)
    parser.add_argument("--only", help="just this guest of them, say bare2")
    parser.add_argument("--processors", type=int, default=0)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    print(f"soak: seed {options.seed}, {options.bare} bare and {options.linux} Linux guests, "
          f"{options.minutes:g} minutes", flush=True)
    elsewhere = options.linux and not host.IN_HOSTVM and not host.check()["stock_kernels"]
    if not elsewhere:
        return run_here(options)
    from run import hostvm as hostvm_verb
    if hostvm_verb("start"):
        return 1
    results = []
    inside = threading.Thread(target=lambda: results.append(run_in_hostvm(options)))
    inside.start()
    if options.bare:
        here = argparse.Namespace(**{**vars(options), "linux": 0})
        results.append(run_here(here))
    inside.join()
    hostvm_verb("stop")
    return max(results)


if __name__ == "__main__":
    sys.exit(main())
