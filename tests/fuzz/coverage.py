#!/usr/bin/env python3
"""Says what the fuzz targets did, and how much of the fuzzed code they reach.

    coverage.py [--log FILE] [--missing] [--target NAME]… BUILD_DIRECTORY CORPUS…

BUILD_DIRECTORY was configured with EBB_COVERAGE=ON. Each target runs over its inputs in the CORPUS
directories (CORPUS/TARGET/*); then gcov tells which lines and branches of the files it is about
were run.

--log FILE     ctest's log of a fuzzing run: adds how often each target was executed, and how often
               it was stopped by an input that breaks it
--missing      names the lines that no input reaches
--target NAME  this one only
"""
import argparse
import json
import os
import re
import subprocess
import sys

# What each target is about.
TARGETS = {
    "virtqueue": ["devices/virtqueue.c"],
    "virtio_mmio": ["devices/virtio_mmio.c", "devices/virtio_device.c"],
    "virtio_rng": ["devices/virtio_rng.c"],
    "virtio_balloon": ["devices/virtio_balloon.c"],
    "virtio_blk": ["devices/virtio_blk.c"],
    "virtio_net": ["devices/virtio_net.c", "devices/net_header.c"],
    "virtio_console": ["devices/virtio_console.c"],
    "virtio_vsock": ["devices/virtio_vsock.c", "devices/vsock_packet.c", "devices/vsock_muxer.c"],
    "vsock_connection": ["devices/vsock_connection.c"],
    "net_framing": ["devices/net_framing.c"],
    "net_stream": ["devices/net_stream.c"],
    "disk_format": ["devices/block_format.c"],
    "legacy_ports": ["devices/pvpanic.c", "devices/power.c"],
    "serial": ["devices/serial.c"],
    "rtc": ["devices/rtc.c"],
    "i8042": ["devices/i8042.c"],
    "bus": ["devices/bus.c"],
    "kernel_file": ["arch/x86_64/boot.c"],
    "bzimage": ["arch/x86_64/bzimage.c"],
    "elf": ["arch/x86_64/elf.c"],
    "boot_parameters": ["arch/x86_64/linux_params.c", "arch/x86_64/pvh.c"],
    "device_tree": ["arch/x86_64/device_tree.c"],
    "control_protocol": ["vmm/control/control_protocol.c"],
    "control_server": ["vmm/control/control_server.c", "vmm/control/control_connection.c",
                       "vmm/control/control_request.c", "vmm/control/control_operation.c", "vmm/control/commands.c",
                       "vmm/control/commands_swap.c"],
    "console": ["vmm/client/console.c", "vmm/client/completion.c", "vmm/client/control_session.c",
                "vmm/client/control_client.c"],
    "render": ["vmm/client/render.c", "vmm/client/render_row.c", "vmm/client/render_progress.c",
               "vmm/client/render_swap.c", "vmm/client/render_event.c", "vmm/client/render_map.c",
               "vmm/client/render_history.c", "vmm/client/render_list.c"],
    "top": ["vmm/client/top/model.c", "vmm/client/top/map.c", "vmm/client/top/link.c", "vmm/client/top/view.c",
            "vmm/client/top/draw.c", "vmm/client/top/draw_list.c", "vmm/client/top/draw_parts.c",
            "vmm/client/top/draw_vm.c", "vmm/client/top/canvas.c", "vmm/client/top/json.c"],
    "options": ["vmm/options/options.c", "vmm/options/options_swap.c", "vmm/options/options_net.c",
                "vmm/options/options_console.c", "vmm/options/options_metrics.c"],
    "config_file": ["vmm/options/config_file.c", "vmm/options/json_places.c", "vmm/options/option_values.c"],
    "swap_policy": ["vmm/base/size.c", "vmm/machine/swap_policy.c"],
    "codec": ["swap/codec.c"],
    "store": ["swap/store_read.c", "swap/cipher.c"],
}



def objects_of(build):
    """Where gcov finds each source's notes: {source relative to the project's root: paths}."""
    objects = {}
    for path, _, names in os.walk(build):
        for name in names:
            if name.endswith(".gcno"):
                file = os.path.join(path, name)
                source = re.sub(r"CMakeFiles/[^/]+\.dir/", "", os.path.relpath(file, build))
                objects.setdefault(source.removesuffix(".gcno"), []).append(file)
    return objects


def forget(build):
    for path, _, names in os.walk(build):
        for name in names:
            if name.endswith(".gcda"):
                os.unlink(os.path.join(path, name))


def read_counts(build, objects, source):
    """({line: times it ran}, {(line, number): times that branch was taken}) of @source."""
    lines, branches = {}, {}
    for note in objects.get(source) or sys.exit(f"coverage.py: {source} is in no program"):
        output = subprocess.run(
            ["gcov", "--branch-probabilities", "--json-format", "--stdout", os.path.abspath(note)],
            cwd=build, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        for file in (file for text in output.splitlines() for file in json.loads(text)["files"]):
            if not file["file"].endswith(source):
                continue
            for line in file["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, 0) + line["count"]
                for i, branch in enumerate(line["branches"]):
                    branches[number, i] = branches.get((number, i), 0) + branch["count"]
    return lines, branches


def read_log(path):
    """{target: (executions, findings)} of ctest's log."""
    done = {}
    with open(path, encoding="utf-8", errors="replace") as log:
        for part in re.split(r"^\d+/\d+ Testing: ", log.read(), flags=re.MULTILINE)[1:]:
            target = part.split("\n", 1)[0].strip().removeprefix("fuzz/")
            executed = re.search(r"stat::number_of_executed_units: *(\d+)", part)
            findings = len(re.findall(r"Test unit written to", part))
            if not findings and "Test Passed" not in part:
                findings = 1
            done[target] = (executed.group(1) if executed else "?", str(findings))
    return done


def share(counts):
    return f"{100 * sum(1 for count in counts if count) / len(counts):.0f} %" if counts else "-"


def ranges(numbers):
    """"3-5, 9" of [3, 4, 5, 9]."""
    runs = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if first != last else f"{first}" for first, last in runs)


def measure(build, objects, target, corpora, missing):
    """Runs @target over its inputs. Returns the cells of its row."""
    directories = [path for path in (os.path.join(corpus, target) for corpus in corpora)
                   if os.path.isdir(path)]
    inputs = sum(len(os.listdir(path)) for path in directories)
    lines, branches = [], []
    forget(build)
    ran = subprocess.run([os.path.join(build, "tests", "fuzz", "fuzz_" + target), *directories],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    for source in TARGETS[target]:
        by_line, by_branch = read_counts(build, objects, source)
        lines += by_line.values()
        branches += by_branch.values()
        if missing:
            print(f"{target}: {source}: {ranges(n for n, count in by_line.items() if not count)}")
    if ran.returncode:
        print(f"{target}: an input ends it ({ran.returncode}); what it reached is unknown")
    return [str(inputs), str(len(lines)), share(lines), share(branches)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("build")
    parser.add_argument("corpus", nargs="+")
    options = parser.parse_args()
    built = {name.removeprefix("fuzz_")
             for name in os.listdir(os.path.join(options.build, "tests", "fuzz"))
             if name.startswith("fuzz_")}
    if built != set(TARGETS):
        sys.exit(f"coverage.py: TARGETS and the programs differ in {', '.join(sorted(built ^ set(TARGETS)))}")
    log = read_log(options.log) if options.log else {}
    objects = objects_of(options.build)
    rows = [["target", "executions", "findings", "inputs", "lines", "reached", "branches", "of"]]
    for target, sources in TARGETS.items():
        if options.target and target not in options.target:
            continue
        rows.append([target, *log.get(target, ("-", "-")),
                     *measure(options.build, objects, target, options.corpus, options.missing),
                     ", ".join(sources)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print(row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:])), "",
              row[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
