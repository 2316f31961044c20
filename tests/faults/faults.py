#!/usr/bin/env python3
"""Every call of the host that can fail does, in turn.

    EBB_BINARY=…/ebb_faults EBB_IMAGES=… tests/faults/faults.py [--quick] [--only TEXT] [--first N] [-j N]

A first run of each scenario (start, boot of the bare guest, swap cycles, disks, balloon, dump, reset,
exit) records the sites: calls that can fail, by the place they are made from (inject.c). Then each site
gets runs of its own, in which its first, its second and its last call fail, and further ones by the
kind of call: only part of the bytes goes through, a signal comes first, all calls from there on fail.

What is right: the guest runs on and its memory is whole (tolerated); a command or the start is refused
by a message (refused); the VM pauses, stops or ends and says why (paused, stopped, ended); the serial
line is lost and that is said (mute). What is wrong: a sanitizer speaks, a signal kills it, it hangs,
ends without a word, wrong guest memory, descriptors, threads or files that are left.

A build without sanitizers has the sandbox. There an error must not take a way that the sandbox forbids,
and what fails while it closes must keep the VM from starting, by a message that names the layer, unless
ebb says that it goes on without: the layers are looked at from outside, too.

Left out is memory that libcrypto asks for; memory of jansson's is in. --quick makes those of
REGRESSIONS and a few more, always the same, so that it lasts about a minute. Exit status: 1 if anything was wrong.
"""
import argparse
import collections
import concurrent.futures
import functools
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest"))

import host  # noqa: E402
from machine import Ended, Lost, Machine, Refused, can_be_user, copies_for_users  # noqa: E402

HEADER = struct.Struct("<QQqq")
SITE = struct.Struct("<24sQQQQ")

TRANSFERS = {"read", "write", "pread", "pwrite", "preadv", "pwritev2", "recv", "send", "readv", "writev",
             "io_uring request"}
INTERRUPTED = {"read", "write", "pread", "pwrite", "preadv", "pwritev2", "recv", "send", "readv", "writev",
               "recvmsg", "sendmsg", "poll", "ppoll", "epoll_wait", "accept4", "io_uring_submit"}
LASTING = {"pread", "pwrite", "preadv", "pwritev2", "io_uring request", "fallocate", "io_uring_submit", "mmap",
           "pthread_create", "madvise", "open", "fstat", "stat", "lstat", "io_uring_wait"}

SCENARIOS = {
    "uring": ["--swap-io", "uring", "--cpus", "2"],
    "threads": ["--swap-io", "threads", "--swap-pool", "8M", "--swap-compress", "zstd", "--vsock", "vsock", "--console",
                "unix=console"],
}

# Of a build with the sandbox: an ordinary user needs a user namespace.
SANDBOX_SCENARIOS = {
    "user": ["--swap-io", "threads"],
}

# What is said of a layer that is done without.
WITHOUT = {
    "seccomp": "system calls are not restricted", "Seccomp": "system calls are not restricted",
    "landlock_abi": "no Landlock", "namespaces": "no namespaces", "spaces": "no namespaces",
    "empty_root": "no empty root|no namespaces",
}

# What libcrypto asks for while it sets itself up: version 3.0 does not look whether it got it.
LIBRARY = {"crypto_malloc", "crypto_realloc"}

# Descriptors that ebb opens before its sandbox closes, and keeps: /proc, /dev/userfaultfd and the like, the
# directories of its sockets. A life without a fault says how many; no more than this.
KEPT_MAX = 10

# Sites whose faults ebb did not bear once: tested by --quick too. Name of the call and of its function.
REGRESSIONS = {
    ("fstat", "own_descriptor"),             # a VM that neither spoke nor said why
    ("lstat", "is_locked_file"),             # looked again for ever
    ("epoll_ctl", "event_source_remove"),    # used after it was freed
    ("epoll_wait", "event_loop_run"),        # devices that were dead without a word
    ("read", "chardev_port_read"),           # input that ended without a word
    ("calloc", "pager_context_create"),      # a monitor thread too few: paused, never to be resumed
    ("json memory", "control_request_parse"),  # "no JSON", which it was
    ("read", "uffd_read_events"),            # paused until the next fault, which did not come
    ("sigaction", "install_kick_handler"),   # killed by its own signal
}


user_copies = functools.cache(copies_for_users)


class Site(collections.namedtuple("Site", "name detail caller outer")):
    def fault(self, nth, mode):
        return f"{self.name}:{self.detail:x}:{self.caller:x}:{self.outer:x}:{nth}:{mode}"


class Report:
    """What inject.c writes."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        count, self.injected, self.fds_left, self.threads_left = HEADER.unpack_from(data)
        self.sites = {}
        for i in range(count):
            name, *place, calls = SITE.unpack_from(data, HEADER.size + i * SITE.size)
            self.sites[Site(name.rstrip(b"\0").decode(), *place)] = calls


class Symbols:
    """Function and line of addresses in the program."""

    def __init__(self, addresses):
        self.known = {}
        addresses = sorted(addresses)
        # A return address is behind the call.
        result = subprocess.run(["addr2line", "-a", "-f", "-i", "-e", host.BINARY],
                                input="".join(f"{address - 1:#x}\n" for address in addresses),
                                stdout=subprocess.PIPE, text=True, check=True).stdout
        for address, text in zip(addresses, re.split(r"^0x[0-9a-f]+\n", result, flags=re.M)[1:]):
            frames = re.findall(r"(\S+)\n(\S+).*\n", text)
            # What the C library's headers put in between is no place of ebb's.
            function, place = next((frame for frame in frames if "/include/" not in frame[1]), frames[0])
            self.known[address] = (function, os.path.basename(place))

    def function(self, site):
        return self.known[site.caller][0]

    def functions(self, site):
        return f"{self.known[site.caller][0]} {self.known[site.outer][0]}"

    def of_sandbox(self, site):
        return any(self.known[address][1].startswith("sandbox") for address in (site.caller, site.outer))

    def describe(self, site):
        function, line = self.known[site.caller]
        outer, outer_line = self.known[site.outer]
        detail = f" {site.detail:#x}" if site.detail else ""
        return f"{site.name}{detail} in {function} ({line}) for {outer} ({outer_line.split(':')[0]})"


Outcome = collections.namedtuple("Outcome", "right kind text injected")


def check_protection(machine, expected):
    """No layer of the sandbox is less than without a fault, unless that is said."""
    found = machine.protection()
    # Root gets them this way, too.
    if found["namespaces"] == "own, in a user namespace":
        found["namespaces"] = "own"
    machine.layers = machine.layers or found
    for name, value in found.items() if expected else []:
        if value != expected[name] and (name not in WITHOUT or not re.search(WITHOUT[name], machine.errors())):
            raise Lost(f"unprotected: {name} is {value}")


def scenario(machine, layers):
    """A life. What a fault may make impossible is tried again once by Machine; the rest raises."""
    machine.start()
    check_protection(machine, layers)
    if machine.is_brief:
        machine.control("swap enable")
        machine.control("swap out")
        check_protection(machine, layers)
        machine.quit()
        return
    machine.guest("fillall 1")
    machine.control("status")
    machine.guest("blk put 0 0 8 0xc00000")
    machine.guest("blk get 0 0 8 0xc00000")
    machine.guest("blk flush 0")
    for operation in ("enable", "trim", "out", "status"):
        machine.control(f"swap {operation}")
    machine.guest("blk get 0 0 8 0xc00000")
    machine.guest("touch 0x800000 0x100000")
    machine.control("swap in")
    machine.control("swap disable")
    machine.verify(1)
    machine.control("checksum-memory")
    machine.control("pause")
    machine.control("resume")
    machine.guest("balloon inflate 64")
    machine.control("swap enable")
    machine.control("swap out")
    machine.control("dump-memory", os.path.join(machine.directory, "dump"), unlink=True)
    machine.verify(1)
    check_protection(machine, layers)
    machine.guest("balloon deflate 64")
    machine.control("history")
    machine.reset()
    machine.guest("fillall 2")
    machine.control("swap disable")
    machine.verify(2)
    machine.quit()


def life(machine, layers):
    """The scenario, as far as the guest can be talked to: the serial line may be lost if that is said."""
    try:
        scenario(machine, layers)
    except Lost as lost:
        if not machine.serial_is_lost() or "unprotected" in str(lost):
            raise
        machine.is_mute = True
        if machine.ask("status")["state"] != "running":
            raise
        machine.quit()


def judge(machine, report, problem, kept):
    """What a run has come to, when ebb has ended."""
    status, errors = machine.process.returncode, machine.errors()
    injected = report.injected if report else 0
    said = [line for line in errors.splitlines() if "EBB_FAULT" not in line]

    def wrong(kind, text):
        return Outcome(False, kind, text, injected)

    sanitizer = re.search(r"(ERROR: \w+Sanitizer.*|runtime error:.*)", errors)
    if sanitizer:
        frames = re.findall(r"#\d+ \S+ in (\w+) (\S+)", errors)
        return wrong("sanitizer", f"{sanitizer.group(1)} {frames[:6]}")
    if machine.was_killed or isinstance(problem, Lost):
        return wrong("hang" if machine.was_killed else "lost",
                     f"{problem}: {' | '.join(machine.refusals + said)[-300:]}")
    # 2: wrong usage, and whatever else keeps the options from being read.
    if status not in (0, 1, 2) or (status == 2 and machine.started):
        return wrong("killed", f"status {status}: {errors[-400:]}")
    # Who cannot lock cannot know whose lock file it is; and what cannot be removed stays.
    may_stay = ".lock: " in errors or machine.fault.startswith(("unlink:", "flock:"))
    left = [path for path in machine.left() if not (may_stay and path.endswith((".lock", ".sock")))]
    if left:
        return wrong("files left", " ".join(left))
    message = " | ".join(machine.refusals + said).replace(machine.directory + "/", "")
    stuck = "the guest was ended as it stood" in errors
    if report and report.fds_left > kept:
        return wrong("descriptors", f"{report.fds_left} left: {message}")
    if report and report.threads_left > 0 and not stuck:
        return wrong("threads", f"{report.threads_left} left: {message}")
    if report and report.fds_left < 0 and not stuck:
        return wrong("exit", f"no orderly exit: {message}")
    if machine.stopped:
        return Outcome(True, "stopped", message, injected)
    if isinstance(problem, Ended):
        if not re.search(r"\w{3,}.*\w{3,}", " ".join(said)):
            return wrong("silent", f"status {status} without a word")
        if status == 0:
            return wrong("status", f"ended with status 0: {message}")
        return Outcome(True, "ended" if machine.started else "no start", message, injected)
    if status and not stuck:
        return wrong("status", f"{status} in the end: {message}")
    kind = "mute" if machine.is_mute else "paused" if machine.paused else "refused" if machine.refusals else "tolerated"
    return Outcome(True, kind, message, injected)


def run(name, fault=None, layers=None, brief=False, kept=KEPT_MAX):
    """One life with one fault: its outcome, the report and the layers of the sandbox."""
    with tempfile.TemporaryDirectory(prefix="ebb-faults-", dir=host.SCRATCH) as directory:
        copies = user_copies() if name == "user" else None
        machine = Machine(directory, SCENARIOS.get(name) or SANDBOX_SCENARIOS[name], fault, copies)
        problem, machine.is_brief = None, brief
        try:
            life(machine, layers)
        except (Ended, Lost) as error:
            problem = error
        except Refused as error:
            problem = Lost(f"refused again: {error}")
        except Exception:
            # A mistake here, or an answer that nobody thought of.
            problem = Lost(traceback.format_exc())
        finally:
            machine.end(isinstance(problem, Lost))
        report = Report(machine.report) if os.path.exists(machine.report) else None
        return judge(machine, report, problem, kept), report, machine.layers


def plan(name, sites):
    """(scenario, site, nth, mode) of all runs."""
    for site, calls in sites.items():
        # Of many places that build the same answer one is enough at the beginning.
        many = {1, calls} if site.name == "json memory" else {1, 2, calls}
        for nth in sorted(many if calls > 1 else {1}):
            yield name, site, nth, "fail"
        if site.name in LASTING:
            yield name, site, 1, "always"
        if site.name in TRANSFERS:
            yield name, site, 1, "short"
        if site.name in INTERRUPTED:
            yield name, site, 1, "eintr"


def record(name):
    """The sites of a scenario, the layers of the sandbox in it, and the descriptors kept; it must go well."""
    outcome, report, layers = run(name)
    if not outcome.right or outcome.kind != "tolerated":
        sys.exit(f"{name}: without a fault: {outcome.kind}: {outcome.text}")
    return report.sites, layers, report.fds_left


def record_all(wanted):
    """The sites of each scenario, and the layers of the sandbox in it."""
    recorded = {name: record(name) for name in ([wanted] if wanted else SCENARIOS)}
    if not wanted and recorded["uring"][1]["on"] and can_be_user():
        recorded["user"] = record("user")
    return recorded


def plan_all(recorded, symbols):
    """The sites that each scenario adds, not all again. But for an ordinary user the sandbox is another one."""
    seen = set()
    for name, (sites, _, _) in recorded.items():
        yield from plan(name, {site: calls for site, calls in sites.items()
                               if site not in seen or (name == "user" and symbols.of_sandbox(site))})
        seen.update(sites)


def pick(runs, symbols, options):
    if options.only:
        return [entry for entry in runs if re.search(options.only, symbols.describe(entry[1]) + " " + entry[3])]
    if not options.quick:
        return runs[options.first:]

    def lot(entry):
        # Which are drawn does not change with the rest of the program, nor with its line numbers.
        name, site, nth, mode = entry
        text = f"{name} {site.name} {site.detail} {symbols.functions(site)} {min(nth, 3)} {mode}"
        return zlib.crc32(text.encode())

    drawn = sorted(runs, key=lot)
    chosen = drawn[:options.sample]
    for wanted in sorted(REGRESSIONS):
        chosen += [entry for entry in drawn if entry[2:] == (1, "fail") and entry not in chosen
                   and (entry[1].name, symbols.function(entry[1])) == wanted][:3]
    return chosen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sample", type=int, default=20, help="how many --quick draws")
    parser.add_argument("--first", type=int, default=0, help="the number of the run to begin with: to go on")
    parser.add_argument("--only", help="faults whose description matches this regular expression")
    parser.add_argument("--scenario", choices=[*SCENARIOS, *SANDBOX_SCENARIOS])
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    parser.add_argument("-v", "--verbose", action="store_true", help="show those that went well too")
    parser.add_argument("--list", action="store_true", help="list what would be done")
    options = parser.parse_args()
    started = time.monotonic()

    recorded = record_all(options.scenario)
    all_sites = {site: calls for sites, _, _ in recorded.values() for site, calls in sites.items()}
    symbols = Symbols({address for site in all_sites for address in (site.caller, site.outer)})
    runs = list(plan_all(recorded, symbols))
    print(f"{len(all_sites)} sites, {sum(all_sites.values())} calls, {len(runs)} runs", flush=True)
    runs = pick([entry for entry in runs if symbols.function(entry[1]) not in LIBRARY], symbols, options)

    def attempt(entry):
        name, site, nth, mode = entry
        if options.list:
            return entry, Outcome(True, "", "", 0)
        _, layers, kept = recorded[name]
        brief = layers["on"] and nth <= 2 and symbols.of_sandbox(site)
        try:
            outcome = run(name, site.fault(nth, mode), layers, brief, kept)[0]
        except Exception:
            outcome = Outcome(False, "driver", traceback.format_exc(), 0)
        if (outcome.kind == "no start" and symbols.known[site.caller][1].startswith("sandbox")
                and "sandbox" not in outcome.text):
            outcome = outcome._replace(right=False, kind="not named")
        return entry, outcome

    kinds, wrong, reached = collections.Counter(), 0, set()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(attempt, entry) for entry in runs]
        for future in concurrent.futures.as_completed(futures):
            (name, site, nth, mode), outcome = future.result()
            if outcome.injected:
                reached.add(site)
            kind = outcome.kind if outcome.injected else f"{outcome.kind} (not reached)"
            kinds[kind] += 1
            wrong += not outcome.right
            if not outcome.right or options.verbose or options.list:
                print(f"{'      ' if outcome.right else 'WRONG '}{kind}: {name}: {symbols.describe(site)}, "
                      f"call {nth}, {mode}: {outcome.text}", flush=True)
    print(f"{len(runs)} faults at {len(reached)} sites in {time.monotonic() - started:.0f} s: "
          + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + f"; {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
