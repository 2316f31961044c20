"""Runs the benchmark's programs in rounds, and reports. See run.sh for the options."""
import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time

import guest
import host_swap
import plot
import report

MIB = 1 << 20
GIB = 1 << 30
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

PARTS = ("enable", "out", "faults", "busy", "in", "second", "growth", "guest")

# The ways to store pages; "file" is what a user gets by default. ebb's own options come third.
STORES = {
    "file": (["--compress", "lz4", "--encrypt", "on"], None,
             ["--swap-dir", "DIRECTORY"]),
    "none": (["--compress", "none", "--encrypt", "off"], None,
             ["--swap-dir", "DIRECTORY", "--swap-compress", "none", "--swap-encrypt", "off"]),
    "pool": (["--compress", "lz4", "--encrypt", "off", "--no-store-file"], 1,
             ["--swap-pool", "128M", "--swap-encrypt", "off"]),
    "pool-encrypted": (["--compress", "lz4", "--encrypt", "on", "--no-store-file"], 1, ["--swap-pool", "128M"]),
    "zstd": (["--compress", "zstd", "--level", "1", "--encrypt", "on"], None,
             ["--swap-dir", "DIRECTORY", "--swap-compress", "zstd:1"]),
}
# Faults and in from these only; the others show what out costs.
FULL_STORES = ("file", "none", "pool")
GUEST_STORES = ("file", "pool")

TIMEOUT = 240


def parse_size(text):
    units = {"K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}
    unit = units.get(text[-1:].upper(), 1)
    return int(text[:-1] if unit > 1 else text) * unit


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def command_line():
    parser = argparse.ArgumentParser(prog="run.sh", add_help=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sizes", "--size")
    parser.add_argument("--only")
    parser.add_argument("--stores")
    parser.add_argument("--no-references", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--mix")
    parser.add_argument("--contents")
    parser.add_argument("--swap-dir", default="/var/tmp")
    parser.add_argument("--out", required=True)
    parser.add_argument("--build", required=True)
    options = parser.parse_args()
    for name, allowed in (("only", PARTS), ("stores", STORES)):
        chosen = getattr(options, name)
        chosen = chosen.split(",") if chosen else list(allowed)
        unknown = set(chosen) - set(allowed)
        if unknown:
            parser.error(f"--{name}: no such: {', '.join(unknown)} (there are: {', '.join(allowed)})")
        setattr(options, name, [name_ for name_ in allowed if name_ in chosen])
    everything = len(options.only) == len(PARTS)
    if not options.rounds:
        options.rounds = 3 if everything and not options.quick else 1
    try:
        sizes = options.sizes or ("64M" if options.quick else "256M,1G,4G,8G" if everything else "1G")
        options.sizes = sorted({parse_size(text) for text in sizes.split(",")})
    except ValueError:
        parser.error(f"--sizes: {options.sizes}: not sizes like 256M,1G")
    return options


def describe_host():
    def first(path, prefix=""):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(prefix):
                    return line[len(prefix):].strip(" \t:\n")
        return "?"
    return {"cpus": os.cpu_count(), "cpu": first("/proc/cpuinfo", "model name"), "kernel": platform.release(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "load": os.getloadavg()[0]}


def describe_directory(path):
    status = os.stat(path)
    device = f"/sys/dev/block/{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    with open("/proc/mounts", encoding="utf-8") as file:
        mounts = {line.split()[1]: line.split()[2] for line in file}
    below = os.path.realpath(path)
    while below not in mounts and below != "/":
        below = os.path.dirname(below)
    return {"path": path, "file_system": mounts.get(below, "?"),
            "device": os.path.basename(os.path.realpath(device)) if os.path.exists(device) else "none"}


class Bench:
    def __init__(self, options):
        self.options = options
        self.programs = os.path.join(options.build, "tests", "bench")
        self.raw = []
        self.notes = []
        self.started = self.turn = time.monotonic()

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def say(self, text):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{time.monotonic() - self.started:5.0f} s  {text}", end="", file=sys.stderr, flush=True)

    def contents_options(self):
        words = []
        if self.options.mix:
            words += ["--mix", self.options.mix]
        if self.options.contents:
            words += ["--contents", self.options.contents]
        return words

    def run(self, name, words, group=None):
        """One program's JSON; {"error": reason} if it ended otherwise. Never leaves it behind."""
        def enter():
            with open(group, "w", encoding="ascii") as file:
                file.write("0")

        command = [os.path.join(self.programs, name), "--swap-dir", self.options.swap_dir,
                   *self.contents_options(), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=enter if group else None) as process:
            try:
                output, errors = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return {"error": f"no end after {TIMEOUT} s"}
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            reason = errors.strip().splitlines()[-1:] or [f"status {process.returncode}"]
            return {"error": f"{name}: {reason[0]}"}
        return json.loads(output)

    def record(self, kind, size, round_, data):
        now = time.monotonic()
        self.raw.append({"kind": kind, "size": size, "round": round_, "seconds": round(now - self.turn, 2),
                         "load": round(os.getloadavg()[0], 2), "data": data})
        self.turn = now
        for part, value in data.items():
            reason = value.get("error", value.get("skipped")) if isinstance(value, dict) else None
            if part in ("error", "skipped"):
                reason = value
            if reason:
                self.note(f"{kind}: {reason}")

    def reference(self, parts, size, round_):
        self.say(f"references: {parts}")
        data = self.run("bench_reference", ["--size", str(size), "--parts", parts])
        self.record("reference", size, round_, data)

    def kernel_swap(self, kind, size, round_):
        self.say(f"the kernel's swap: {kind}")
        room = size + size // 8
        context = host_swap.swap_file(self.options.swap_dir, room) if kind == "swapfile" else host_swap.zram(room)
        try:
            with context as path, host_swap.cgroup() as (group, reclaim):
                others = {name: used for name, used in host_swap.used_bytes().items() if name != path}
                words = ["--size", str(size), "--parts", "swap"]
                if reclaim:
                    words += ["--reclaim", reclaim]
                data = self.run("bench_reference", words, group)
                now = host_swap.used_bytes()
                if any(now.get(name, 0) > used + 16 * MIB for name, used in others.items()):
                    self.note(f"{kind}: another swap device of the host took pages too")
        except host_swap.Unavailable as error:
            data = {"skipped": str(error)}
        self.record(kind, size, round_, data.get("swap", data))

    def engine(self, store, size, round_, parts):
        self.say(f"ebb: {store}, {size // MIB} MiB: {parts}")
        words, pool, _ = STORES[store]
        words = [*words, "--size", str(size), "--parts", parts]
        if pool:
            words += ["--pool", str(size * pool)]
        self.record(f"ebb-{store}", size, round_, self.run("bench_engine", words))

    def engine_parts(self, store):
        only = self.options.only
        parts = []
        if {"enable", "out", "in", "second"} & set(only):
            parts.append("idle")
        if "second" in only and store in ("file", "pool"):
            parts.append("second")
        if "faults" in only and store in FULL_STORES:
            parts.append("faults")
        if "busy" in only and store in ("file", "pool"):
            parts.append("busy")
        return ",".join(parts)

    def main_round(self, size, round_):
        """References and engine by turns, so that all meet the same weather."""
        only = set(self.options.only)
        turns = []
        if not self.options.no_references:
            kernel = bool({"out", "in", "faults"} & only)
            if "enable" in only:
                turns.append(lambda: self.reference("memcpy", size, round_))
            if "faults" in only or "busy" in only:
                turns.append(lambda: self.reference("uffd", size, round_))
            if {"out", "in"} & only:
                turns.append(lambda: self.reference("disk", size, round_))
            if kernel:
                turns.append(lambda: self.kernel_swap("swapfile", size, round_))
                turns.append(lambda: self.kernel_swap("zram", size, round_))
        stores = [store for store in self.options.stores if self.engine_parts(store)]
        ours = [lambda store=store: self.engine(store, size, round_, self.engine_parts(store)) for store in stores]
        while turns or ours:
            for queue in (turns, ours):
                if queue:
                    queue.pop(0)()

    def guest_round(self, round_):
        self.say("the bare guest")
        images = os.environ.get("EBB_IMAGES") or os.path.join(self.options.build, "guest-images")
        binary = os.path.join(self.options.build, "vmm", "ebb")
        subprocess.run([os.path.join(ROOT, "guest-images", "build.sh"), "bare", images],
                       stdout=subprocess.DEVNULL, check=True)
        stores = {name: STORES[name][2] for name in GUEST_STORES if name in self.options.stores}
        data = guest.measure(binary, images, os.path.join(self.programs, "bench_contents"),
                             self.options.swap_dir, stores)
        self.record("guest", 0, round_, data)

    def run_all(self):
        options = self.options
        sizes = [size for size in options.sizes if size * 5 // 2 + 512 * MIB < available_memory()]
        for size in set(options.sizes) - set(sizes):
            self.note(f"{size // MIB} MiB: left out, there is too little free memory")
        if not sizes:
            sys.exit("run.sh: not enough free memory for any of the sizes")
        main = max([size for size in sizes if size <= GIB] or sizes[:1])
        for round_ in range(options.rounds):
            self.main_round(main, round_)
            if "growth" in options.only:
                for size in sizes:
                    # Large ones take minutes, and vary less.
                    if size != main and (size <= 2 * GIB or round_ == 0):
                        self.engine("file", size, round_, "idle,busy")
            if "guest" in options.only:
                self.guest_round(round_)
        return main, sizes


def warn_of_load(bench):
    load = os.getloadavg()[0]
    if load > 0.5:
        bench.note(f"the load average was {load:.2f} at the start: others were at work, times are not to be trusted")
        print(f"warning: {bench.notes[-1]}", file=sys.stderr)


def main():
    options = command_line()
    bench = Bench(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    host = describe_host()
    warn_of_load(bench)
    contents = bench.run("bench_contents", ["--size", str(256 * MIB)])
    if "error" in contents:
        sys.exit(f"run.sh: {contents['error']}")
    main_size, sizes = bench.run_all()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    os.makedirs(options.out, exist_ok=True)
    results = {"host": host, "directory": describe_directory(options.swap_dir), "contents": contents,
               "mix": options.contents or options.mix or "zero=15,text=15,code=20,heap=40,random=10",
               "rounds": options.rounds, "main_size": main_size, "sizes": sizes, "parts": options.only,
               "seconds": round(time.monotonic() - bench.started, 1), "load_at_end": os.getloadavg()[0],
               "notes": bench.notes, "runs": bench.raw}
    results["table"] = report.rows(results)
    with open(os.path.join(options.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    with open(os.path.join(options.out, "results.svg"), "w", encoding="utf-8") as file:
        file.write(plot.page(results))
    report.show(results)
    print(f"\n{os.path.join(options.out, 'results.json')} and results.svg: all of it")
    if not any(row["value"] is not None for row in results["table"]):
        sys.exit("run.sh: nothing could be measured")


if __name__ == "__main__":
    main()
