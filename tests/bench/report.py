"""From the raw runs to figures: medians, ratios to the references of the same run, targets."""
import statistics

MIB = 1 << 20
GIB = 1 << 30
PAGE = 4096


class Runs:
    """Medians over the rounds of what the programs said."""

    def __init__(self, results):
        self.runs = results["runs"]
        self.main = results["main_size"]
        self.sizes = results["sizes"]

    def values(self, kind, path, size=None):
        found = []
        for run in self.runs:
            if run["kind"] != kind or run["size"] != (self.main if size is None else size):
                continue
            value = run["data"]
            for key in path.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.append(value)
        return found

    def median(self, kind, path, size=None):
        found = self.values(kind, path, size)
        return statistics.median(found) if found else None

    def worst(self, kind, path, size=None):
        return max(self.values(kind, path, size), default=None)

    def whole_rate(self, kind, path, size=None):
        """MB/s of all of guest memory, zero pages too, as a reference that touches every page has them."""
        ns = self.median(kind, f"{path}.ns", size)
        return divided(self.main if size is None else size, scaled(ns, 1e-3))

    def rate(self, kind, path, size=None, amount="freed_bytes"):
        """MB/s of guest memory that an operation freed or brought back."""
        pairs = zip(self.values(kind, f"{path}.{amount}", size), self.values(kind, f"{path}.ns", size))
        rates = [abs(bytes_) * 1e3 / ns for bytes_, ns in pairs if ns]
        return statistics.median(rates) if rates else None

    def per_gib(self, kind, path, scale, size=None):
        value = self.median(kind, path, size)
        return None if value is None else value * scale * GIB / (self.main if size is None else size)


def scaled(value, factor):
    return None if value is None else value * factor


def divided(value, by):
    return None if value is None or not by else value / by


class Table:
    def __init__(self):
        self.rows = []

    def add(self, group, name, value, unit, reference=None, against="", target=None, text=""):
        """@target: ("<=", limit) or (">=", limit), of the ratio, or of the value without a reference."""
        ratio = divided(value, reference)
        measure = ratio if against else value
        met = None
        if target and measure is not None:
            met = measure <= target[1] if target[0] == "<=" else measure >= target[1]
        self.rows.append({"group": group, "name": name, "value": value, "unit": unit, "reference": reference,
                          "against": against, "ratio": ratio, "target": target, "met": met, "text": text})


def size_name(size):
    return f"{size // GIB}G" if size % GIB == 0 else f"{size // MIB}M"


def enable_rows(runs, table):
    copy = runs.per_gib("reference", "memcpy.ns", 1e-6)
    table.add("enable", "zap", runs.per_gib("ebb-file", "idle.enable.zap_ns", 1e-6), "ms/GiB", copy,
              "a copy of the memory", ("<=", 0.1))
    table.add("enable", "enable in all", runs.per_gib("ebb-file", "idle.enable.ns", 1e-6), "ms/GiB", copy,
              "a copy of the memory")
    copy_ms = scaled(runs.median("reference", "memcpy.ns"), 1e-6)
    table.add("enable", "longest stall of a busy thread, median",
              scaled(runs.median("ebb-file", "idle.enable.longest_stall_ns"), 1e-6), "ms", copy_ms,
              "a copy of the memory")
    table.add("enable", "the same before enable", scaled(runs.median("ebb-file", "idle.enable.longest_stall_before_ns"),
                                                         1e-6), "ms")


def out_rows(runs, table):
    kernel = {"swapfile": runs.rate("swapfile", "out"), "zram": runs.rate("zram", "out")}
    disk = scaled(runs.median("reference", "disk.write_bytes_per_s"), 1e-6)
    labels = {"none": "out, neither compressed nor encrypted, to file", "file": "out, lz4, encrypted, to file",
              "pool": "out, lz4, to pool", "pool-encrypted": "out, lz4, encrypted, to pool",
              "zstd": "out, zstd 1, encrypted, to file"}
    targets = {"none": ("swapfile", (">=", 1.4)), "file": ("zram", (">=", 2)), "pool": ("zram", (">=", 2)),
               "pool-encrypted": ("zram", (">=", 2)), "zstd": ("zram", None)}
    names = {"swapfile": "the kernel's swap file", "zram": "the kernel's zram, lz4"}
    for store, (device, target) in targets.items():
        table.add("out", labels[store], runs.rate(f"ebb-{store}", "idle.out"), "MB/s", kernel[device], names[device],
                  target)
    table.add("out", labels["none"], runs.rate("ebb-none", "idle.out"), "MB/s", disk, "the disk's raw write")
    for device, name in names.items():
        table.add("out", f"{name}, two threads", runs.rate(device, "out_2_threads"), "MB/s", kernel[device],
                  "one thread")
    for store in ("file", "none", "zstd"):
        freed = runs.median(f"ebb-{store}", "idle.out.freed_bytes")
        written = runs.median(f"ebb-{store}", "idle.out.written_bytes")
        written = written or runs.median(f"ebb-{store}", "idle.out.store_file_bytes")
        table.add("out", f"written per byte freed, {labels[store][5:]}", divided(written, freed), "",
                  target=("<=", 0.45) if store == "file" else None)
    pool = runs.median("ebb-pool", "idle.out.store_pool_bytes")
    table.add("out", "pool per byte freed", divided(pool, runs.median("ebb-pool", "idle.out.freed_bytes")), "")
    for store, (device, _) in targets.items():
        table.add("out", f"CPU: {labels[store][5:]}", runs.per_gib(f"ebb-{store}", "idle.out.cpu_s", 1), "s/GiB",
                  runs.per_gib(device, "out.cpu_s", 1), names[device])
    for store in ("file", "none"):
        freed = runs.median(f"ebb-{store}", "idle.out.freed_bytes")
        cached = runs.median(f"ebb-{store}", "idle.out.page_cache_change")
        table.add("out", f"page cache left behind per byte freed, {store}", divided(cached, freed), "",
                  target=("<=", 0.02))


def fault_rows(runs, table):
    bare = runs.median("reference", "uffd.continue.per_cpu.p50")
    table.add("faults", "staging, random, p50", runs.median("ebb-file", "faults.staged.random.p50"), "us", bare,
              "bare CONTINUE, a thread per CPU", ("<=", 1.15))
    table.add("faults", "staging, random, p50", runs.median("ebb-file", "faults.staged.random.p50"), "us",
              runs.median("reference", "uffd.continue.cross_cpu_poll.p50"), "bare CONTINUE, other CPU, poll()",
              ("<=", 0.25))
    table.add("faults", "pool, random, p50", runs.median("ebb-pool", "faults.stored.random.p50"), "us",
              runs.median("zram", "random.p50"), "the kernel's zram", ("<=", 1.3))
    for store in ("file", "none"):
        label = "file" if store == "file" else "file, not compressed"
        table.add("faults", f"{label}, cold, random, p50", runs.median(f"ebb-{store}", "faults.stored.random.p50"), "us",
                  runs.median("swapfile", "random.p50"), "the kernel's swap file", ("<=", 1))
        table.add("faults", f"{label}, cold, sequential, mean",
                  runs.median(f"ebb-{store}", "faults.stored.sequential.mean"), "us",
                  runs.median("swapfile", "sequential.mean"), "the kernel's swap file, sequential", ("<=", 1 / 3))
        table.add("faults", f"{label}, cold, sequential, mean",
                  runs.median(f"ebb-{store}", "faults.stored.sequential.mean"), "us",
                  runs.median("swapfile", "random.mean"), "the kernel's swap file, random")
    table.add("faults", "pool, sequential, mean", runs.median("ebb-pool", "faults.stored.sequential.mean"), "us",
              runs.median("zram", "sequential.mean"), "the kernel's zram, sequential")


def latency_rows(runs, table):
    """All latencies side by side, without a target."""
    sources = [("ebb: staging", "ebb-file", "faults.staged"), ("ebb: pool", "ebb-pool", "faults.stored"),
               ("ebb: file", "ebb-file", "faults.stored"), ("ebb: file, not compressed", "ebb-none", "faults.stored"),
               ("kernel: zram", "zram", ""), ("kernel: swap file", "swapfile", "")]
    for name, kind, path in sources:
        for order in ("random", "sequential"):
            prefix = ".".join(filter(None, (path, order)))
            text = percentiles(runs, kind, prefix)
            table.add("latencies", f"{name}, {order}", runs.median(kind, f"{prefix}.p50"), "us", text=text)
    for kind in ("continue", "copy"):
        for placement, name in (("same_cpu", "answered on the same CPU"), ("per_cpu", "a thread per CPU, read()"),
                                ("per_cpu_poll", "a thread per CPU, poll()"),
                                ("per_cpu_paused", "a thread per CPU, a toucher that sleeps between"),
                                ("cross_cpu_poll", "answered on another CPU, poll()")):
            prefix = f"uffd.{kind}.{placement}"
            table.add("latencies", f"bare {kind.upper()}: {name}", runs.median("reference", f"{prefix}.p50"), "us",
                      text=percentiles(runs, "reference", prefix))
    table.add("latencies", "disk: random 4 KiB read", runs.median("reference", "disk.random.p50"), "us",
              text=percentiles(runs, "reference", "disk.random"))


def percentiles(runs, kind, prefix):
    values = [runs.median(kind, f"{prefix}.{key}") for key in ("p50", "p99", "p999", "mean", "max")]
    if None in values:
        return ""
    return "p50 {:.1f}  p99 {:.1f}  p99.9 {:.1f}  mean {:.1f}  max {:.0f}".format(*values)


def busy_rows(runs, table):
    for store in ("file", "pool"):
        for size in runs.sizes:
            staged = runs.median(f"ebb-{store}", "busy.idle_staged.p99", size)
            stored = runs.median(f"ebb-{store}", "busy.idle_stored.p99", size)
            if staged is None or stored is None:
                continue
            for operation in ("out", "in"):
                # During out the touched page may be staged or stored already.
                name = f"during {operation}, {store}, {size_name(size)}"
                table.add("busy", f"{name}: p99", runs.median(f"ebb-{store}", f"busy.{operation}.faults.p99", size),
                          "us", max(staged, stored), "idle", ("<=", 3),
                          percentiles(runs, f"ebb-{store}", f"busy.{operation}.faults") if size == runs.main else "")
                longest = f"busy.{operation}.touches.max"
                usual = scaled(runs.median(f"ebb-{store}", longest, size), 1e-3)
                table.add("busy", f"{name}: longest of all rounds",
                          scaled(runs.worst(f"ebb-{store}", longest, size), 1e-3), "ms", target=("<=", 5),
                          text="" if usual is None else f"median of the rounds' {number(usual)} ms")


def in_rows(runs, table):
    kernel = scaled(runs.median("swapfile", "sequential.bytes_per_s"), 1e-6)
    zram = scaled(runs.median("zram", "sequential.bytes_per_s"), 1e-6)
    disk = scaled(runs.median("reference", "disk.read_bytes_per_s"), 1e-6)
    for store, label in (("file", "in, from file, cold"), ("none", "in, from file, cold, not compressed")):
        table.add("in", label, runs.whole_rate(f"ebb-{store}", "idle.in"), "MB/s", kernel,
                  "the kernel's swap file, sequential", (">=", 4))
        table.add("in", f"{label}: without zero pages", runs.rate(f"ebb-{store}", "idle.in"), "MB/s", disk,
                  "the disk's raw read", (">=", 0.6))
    table.add("in", "in, from pool", runs.whole_rate("ebb-pool", "idle.in"), "MB/s", zram,
              "the kernel's zram, sequential")
    pages = runs.median("ebb-file", "faults.working_set.pages_moved")
    table.add("in", "working set, from file, cold",
              runs.rate("ebb-file", "faults.working_set") if pages else None, "MB/s", kernel,
              "the kernel's swap file, sequential", text=f"{pages * PAGE / MIB:.0f} MiB" if pages else "not available")


def cycle_ns(runs, store, path):
    return sum_of(runs.median(f"ebb-{store}", f"{path}.enable.ns"), runs.median(f"ebb-{store}", f"{path}.out.ns"))


def sum_of(first, second):
    return None if first is None or second is None else first + second


def second_rows(runs, table):
    for store in ("file", "pool"):
        first = cycle_ns(runs, store, "idle")
        woken = cycle_ns(runs, store, "idle.woken")
        text = f"{woken / 1e6:.0f} ms after {first / 1e6:.0f}" if woken and first else ""
        table.add("second cycle", f"{store}, idle guest that touched 2 %: times faster", divided(first, woken), "x",
                  target=(">=", 10), text=text)
        for percent in (0, 1, 10, 50):
            again = cycle_ns(runs, store, f"idle.dirty_{percent}")
            text = f"{again / 1e6:.0f} ms after {first / 1e6:.0f}" if first and again else ""
            table.add("second cycle", f"{store}, {percent} % changed: times faster", divided(first, again), "x", text=text)
        for percent in (0, 1, 10, 50):
            stored = runs.median(f"ebb-{store}", f"idle.dirty_{percent}.out.stored")
            table.add("second cycle", f"{store}, {percent} % changed: pages stored", stored, "pages",
                      runs.median(f"ebb-{store}", "idle.out.stored"), "the first cycle")


def growth_rows(runs, table):
    figures = [("zap", "idle.enable.zap_ns"), ("enable", "idle.enable.ns"), ("out", "idle.out.ns"), ("in", "idle.in.ns")]
    sizes = [size for size in runs.sizes if size >= GIB] or runs.sizes
    if len(sizes) < 2:
        return
    for name, path in figures:
        growth_row(runs, table, name, sizes, lambda size, path=path: divided(runs.median("ebb-file", path, size),
                                                                             size / PAGE), "ns/page")
    for name, path in (("fault from staging, p50, paused toucher", "busy.idle_staged.p50"),
                       ("fault from file, p50, paused toucher", "busy.idle_stored.p50")):
        growth_row(runs, table, name, sizes, lambda size, path=path: runs.median("ebb-file", path, size), "us")


def growth_row(runs, table, name, sizes, figure, unit):
    values = {size: figure(size) for size in runs.sizes}
    smallest = values[sizes[0]]
    known = [values[size] for size in sizes if values[size] is not None]
    text = "  ".join(f"{size_name(size)} {value:.4g}" for size, value in values.items() if value is not None)
    table.add("growth", name, max(known, default=None), unit, smallest, f"at {size_name(sizes[0])}", ("<=", 1.2), text)


def guest_rows(runs, table):
    for store in ("file", "pool"):
        resident = runs.median("guest", f"{store}.resident.p50", 0)
        for where in ("staged", "stored"):
            if store == "pool" and where == "staged":
                continue
            label = "staging" if where == "staged" else store
            p99 = runs.median("guest", f"{store}.{where}.p99", 0)
            host = runs.median(f"ebb-{store}", f"faults.{where}.random.p50")
            table.add("guest", f"{label}, random, p50", runs.median("guest", f"{store}.{where}.p50", 0), "us", host,
                      "seen by a thread of the host", text="" if p99 is None else f"p99 {p99:.1f} us")
        if store == "file":
            table.add("guest", "resident page, p50", resident, "us")


SECTIONS = [("enable", {"enable"}, enable_rows), ("out", {"out"}, out_rows), ("faults", {"faults"}, fault_rows),
            ("latencies", {"faults"}, latency_rows), ("busy", {"busy"}, busy_rows), ("in", {"in"}, in_rows),
            ("second cycle", {"second"}, second_rows), ("growth", {"growth"}, growth_rows),
            ("guest", {"guest"}, guest_rows)]

TITLES = {"enable": "enable: staging all of memory", "out": "out: writing it and freeing the RAM",
          "faults": "faults: one thread that touches cold pages", "latencies": "latencies in microseconds",
          "busy": "faults while an operation runs (a touch every 100 us)", "in": "in: bringing it back",
          "second cycle": "second cycle: enable and out again, after a short waking or after in", "growth": "growth with the guest's size",
          "guest": "seen by the bare guest (ring 3, rdtsc)"}


def rows(results):
    runs, table = Runs(results), Table()
    for _, parts, add in SECTIONS:
        if parts & set(results["parts"]):
            add(runs, table)
    return table.rows


def number(value):
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(results):
    host, contents, directory = results["host"], results["contents"], results["directory"]
    print(f"ebb benchmark: {host['cpus']} CPUs ({host['cpu']}), {host['memory_bytes'] / GIB:.0f} GiB, Linux {host['kernel']}, "
          f"{directory['path']} on {directory['file_system']} ({directory['device']})")
    print(f"contents {results['mix']}: {contents['zero']:.0%} zero, the rest compresses to {contents['lz4']:.2f} (lz4), "
          f"{contents['zstd']:.2f} (zstd 1); guest of {size_name(results['main_size'])} if not said otherwise; "
          f"medians of {results['rounds']}; {results['seconds']:.0f} s")
    group = None
    for row in results["table"]:
        if row["value"] is None and not row["target"] and not row["text"]:
            continue
        if row["group"] != group:
            group = row["group"]
            print(f"\n{TITLES[group]}")
        show_row(row)
    for note in results["notes"]:
        print(f"\nnote: {note}", end="")
    missed = sum(row["met"] is False for row in results["table"])
    met = sum(row["met"] is True for row in results["table"])
    unknown = sum(row["met"] is None and row["target"] is not None for row in results["table"])
    print(f"\n\ntargets: {met} met, {missed} missed, {unknown} not measured")


def show_row(row):
    value = f"{number(row['value'])} {row['unit']}"
    if row["group"] == "latencies":
        print(f"  {row['name']:<58} {row['text']}")
        return
    against = f"{number(row['reference'])} {row['against']}" if row["against"] else ""
    ratio = f"{row['ratio']:.2f} x" if row["ratio"] is not None else ""
    target = mark = ""
    if row["target"]:
        target = f"{row['target'][0]} {row['target'][1]:.3g}"
        mark = {True: "met", False: "MISSED", None: "not measured"}[row["met"]]
    print(f"  {row['name']:<48} {value:>14}  {ratio:>8}  {target:<8} {mark:<7} {against}"
          f"{'; ' if against and row['text'] else ''}{row['text']}".rstrip())
