"""The figures as one self-contained SVG page, with bars on logarithmic or linear scales."""
import html
import math

import report

WIDTH = 1060
LABEL = 330
BAR = 16
GAP = 5
RIGHT = 190
COLOURS = {"ebb": "#1f6fb4", "reference": "#9a9a9a", "met": "#2a8a3e", "missed": "#c0392b"}


def whose(name):
    return "ebb" if name.startswith("ebb") else "reference"


class Page:
    def __init__(self):
        self.parts = []
        self.y = 30

    def text(self, x, y, text, size=12, anchor="start", colour="#222222", bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
                          f'fill="{colour}"{weight}>{html.escape(text)}</text>')

    def rectangle(self, x, y, width, height, colour, opacity=1.0):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
                          f'fill="{colour}" fill-opacity="{opacity}"/>')

    def line(self, x1, y1, x2, y2, colour="#dddddd", width=1):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
                          f'stroke-width="{width}"/>')

    def heading(self, title, subtitle=""):
        self.y += 14
        self.text(20, self.y, title, 15, bold=True)
        if subtitle:
            self.text(20, self.y + 17, subtitle, 11, colour="#666666")
            self.y += 17
        self.y += 12

    def svg(self):
        height = self.y + 20
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
                f'height="{height:.0f}" font-family="system-ui, sans-serif">\n'
                f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def linear_bars(page, title, subtitle, bars, unit):
    """@bars: (name, value)."""
    bars = [bar for bar in bars if bar[1] is not None]
    if not bars:
        return
    page.heading(title, subtitle)
    top = max(value for _, value in bars)
    scale = (WIDTH - LABEL - RIGHT) / top if top else 0
    for name, value in bars:
        page.text(LABEL - 8, page.y + BAR - 4, name, 12, "end")
        page.rectangle(LABEL, page.y, value * scale, BAR, COLOURS[whose(name)])
        page.text(LABEL + value * scale + 6, page.y + BAR - 4, f"{report.number(value)} {unit}", 12)
        page.y += BAR + GAP


def latency_bars(page, title, subtitle, bars):
    """@bars: (name, p50, p99, p99.9), in microseconds; a bar to p50, marks for the others."""
    bars = [bar for bar in bars if None not in bar]
    if not bars:
        return
    page.heading(title, subtitle)
    low = math.floor(math.log10(max(min(bar[1] for bar in bars), 0.01)))
    high = math.ceil(math.log10(max(bar[3] for bar in bars)))
    scale = (WIDTH - LABEL - RIGHT) / max(high - low, 1)

    def at(value):
        return LABEL + (math.log10(max(value, 10 ** low)) - low) * scale

    bottom = page.y + 12 + len(bars) * (BAR + GAP)
    for decade in range(low, high + 1):
        x = at(10 ** decade)
        page.line(x, page.y + 6, x, bottom)
        page.text(x, page.y + 2, f"{10 ** decade:g} us", 10, "middle", "#666666")
    page.y += 12
    for name, p50, p99, p999 in bars:
        colour = COLOURS[whose(name)]
        page.text(LABEL - 8, page.y + BAR - 4, name, 12, "end")
        page.rectangle(LABEL, page.y, at(p50) - LABEL, BAR, colour)
        page.rectangle(at(p50), page.y + 5, at(p99) - at(p50), BAR - 10, colour, 0.5)
        page.line(at(p99), page.y + 1, at(p99), page.y + BAR - 1, colour, 2)
        page.line(at(p99), page.y + BAR / 2, at(p999), page.y + BAR / 2, colour)
        page.line(at(p999), page.y + 4, at(p999), page.y + BAR - 4, colour)
        page.text(at(max(p999, p99)) + 6, page.y + BAR - 4, f"{p50:.1f} / {p99:.0f} / {p999:.0f}", 11)
        page.y += BAR + GAP


def latencies(runs, kind, name, path, size=None):
    return (name, *(runs.median(kind, f"{path}.{key}", size) for key in ("p50", "p99", "p999")))


def fault_panels(page, runs):
    for order in ("random", "sequential"):
        latency_bars(page, f"A touch of a cold page, {order}", "bar: p50, mark: p99, whisker: p99.9 (us)", [
            latencies(runs, "ebb-file", "ebb: staging", f"faults.staged.{order}"),
            latencies(runs, "reference", "bare userfaultfd, a thread per CPU", "uffd.continue.per_cpu"),
            latencies(runs, "reference", "bare userfaultfd, other CPU, poll()", "uffd.continue.cross_cpu_poll"),
            latencies(runs, "ebb-pool", "ebb: pool", f"faults.stored.{order}"),
            latencies(runs, "zram", "kernel: zram, lz4", order),
            latencies(runs, "ebb-file", "ebb: file, lz4, encrypted", f"faults.stored.{order}"),
            latencies(runs, "ebb-none", "ebb: file, plain", f"faults.stored.{order}"),
            latencies(runs, "swapfile", "kernel: swap file", order),
            latencies(runs, "reference", "disk: random 4 KiB read", "disk.random")])
    bars = []
    for size in runs.sizes:
        for operation in ("out", "in"):
            bars.append(latencies(runs, "ebb-file", f"ebb: during {operation}, {report.size_name(size)}",
                                  f"busy.{operation}.faults", size))
    bars.append(latencies(runs, "ebb-file", "ebb: idle, staging", "busy.idle_staged"))
    bars.append(latencies(runs, "ebb-file", "ebb: idle, file", "busy.idle_stored"))
    latency_bars(page, "A touch while an operation runs", "random touches, one every 100 us; file store", bars)


def rate_panels(page, runs):
    def disk(key):
        return report.scaled(runs.median("reference", f"disk.{key}_bytes_per_s"), 1e-6)

    linear_bars(page, "Out: guest memory freed", "MB/s; higher is better", [
        ("ebb: file, plain", runs.rate("ebb-none", "idle.out")),
        ("ebb: file, lz4, encrypted", runs.rate("ebb-file", "idle.out")),
        ("ebb: file, zstd, encrypted", runs.rate("ebb-zstd", "idle.out")),
        ("ebb: pool, lz4", runs.rate("ebb-pool", "idle.out")),
        ("ebb: pool, lz4, encrypted", runs.rate("ebb-pool-encrypted", "idle.out")),
        ("kernel: swap file", runs.rate("swapfile", "out")),
        ("kernel: swap file, two threads", runs.rate("swapfile", "out_2_threads")),
        ("kernel: zram, lz4", runs.rate("zram", "out")),
        ("kernel: zram, lz4, two threads", runs.rate("zram", "out_2_threads")),
        ("disk: raw write", disk("write"))], "MB/s")
    linear_bars(page, "In: guest memory brought back", "MB/s; higher is better", [
        ("ebb: file, plain, cold", runs.whole_rate("ebb-none", "idle.in")),
        ("ebb: file, lz4, encrypted, cold", runs.whole_rate("ebb-file", "idle.in")),
        ("ebb: pool", runs.whole_rate("ebb-pool", "idle.in")),
        ("kernel: swap file, sequential touches",
         report.scaled(runs.median("swapfile", "sequential.bytes_per_s"), 1e-6)),
        ("kernel: zram, sequential touches", report.scaled(runs.median("zram", "sequential.bytes_per_s"), 1e-6)),
        ("disk: raw read", disk("read"))], "MB/s")


def cycle_panels(page, runs):
    linear_bars(page, "Enable", "ms per GiB; lower is better", [
        ("ebb: zap", runs.per_gib("ebb-file", "idle.enable.zap_ns", 1e-6)),
        ("ebb: enable in all", runs.per_gib("ebb-file", "idle.enable.ns", 1e-6)),
        ("a copy of the memory", runs.per_gib("reference", "memcpy.ns", 1e-6))], "ms/GiB")
    cycles = [("ebb: first cycle", report.cycle_ns(runs, "file", "idle"))]
    cycles += [(f"ebb: second, {percent} % changed", report.cycle_ns(runs, "file", f"idle.dirty_{percent}"))
               for percent in (0, 1, 10, 50)]
    linear_bars(page, "Second cycle: enable and out", "ms; lower is better",
                [(name, report.scaled(ns, 1e-6)) for name, ns in cycles if len([c for c in cycles if c[1]]) > 1], "ms")
    if len(runs.sizes) > 1:
        for name, path in (("Out", "idle.out.ns"), ("In", "idle.in.ns"), ("Enable", "idle.enable.ns")):
            linear_bars(page, f"Growth: {name.lower()}", "ns per page; flat is good", [
                (f"ebb: {report.size_name(size)}",
                 report.divided(runs.median("ebb-file", path, size), size / report.PAGE)) for size in runs.sizes],
                        "ns/page")


def target_panel(page, rows):
    rows = [row for row in rows if row["target"]]
    if not rows:
        return
    page.heading("Targets", "ratio to the reference of the same run, or the value itself")
    for row in rows:
        measure = row["ratio"] if row["against"] else row["value"]
        mark, colour = {True: ("met", COLOURS["met"]), False: ("missed", COLOURS["missed"]),
                        None: ("not measured", "#888888")}[row["met"]]
        against = f" / {row['against']}" if row["against"] else f" ({row['unit']})" if row["unit"] else ""
        page.text(20, page.y + 12, f"{row['group']}: {row['name']}{against}")
        page.text(WIDTH - 250, page.y + 12, report.number(measure), anchor="end")
        page.text(WIDTH - 230, page.y + 12, f"{row['target'][0]} {row['target'][1]:.3g}", colour="#666666")
        page.text(WIDTH - 130, page.y + 12, mark, colour=colour, bold=True)
        page.y += 18


def page(results):
    runs, drawing = report.Runs(results), Page()
    host, directory = results["host"], results["directory"]
    drawing.text(20, drawing.y, "ebb: swapping a guest, against the host's own means", 19, bold=True)
    drawing.y += 20
    drawing.text(20, drawing.y, f"{host['cpus']} CPUs ({host['cpu']}), Linux {host['kernel']}, "
                 f"{directory['file_system']} on {directory['device']}; guest of "
                 f"{report.size_name(results['main_size'])}; contents {results['mix']}", 11, colour="#666666")
    drawing.y += 16
    drawing.rectangle(20, drawing.y - 9, 12, 10, COLOURS["ebb"])
    drawing.text(36, drawing.y, "ebb", 11)
    drawing.rectangle(70, drawing.y - 9, 12, 10, COLOURS["reference"])
    drawing.text(86, drawing.y, f"references, measured in the same run; medians of {results['rounds']}", 11)
    drawing.y += 8
    fault_panels(drawing, runs)
    rate_panels(drawing, runs)
    cycle_panels(drawing, runs)
    target_panel(drawing, results["table"])
    return drawing.svg()
