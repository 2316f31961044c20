#!/usr/bin/env python3
"""Says how much of the fuzzed code the fuzz targets reach.

    coverage.py BUILD_DIRECTORY CORPUS…     BUILD_DIRECTORY was configured with EBB_COVERAGE=ON

Each target runs over its inputs in the CORPUS directories (CORPUS/TARGET/*); then gcov tells which
lines of the files it is about were run.
"""
import json
import os
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
    "virtio_vsock": ["devices/virtio_vsock.c", "devices/vsock_packet.c"],
    "vsock_connection": ["devices/vsock_connection.c", "devices/vsock_muxer.c"],
    "net_framing": ["devices/net_framing.c"],
    "config_file": ["vmm/options/config_file.c"],
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
    "render": ["vmm/client/render.c", "vmm/client/render_row.c", "vmm/client/render_progress.c", "vmm/client/render_swap.c"],
    "options": ["vmm/options/options.c", "vmm/options/options_swap.c"],
    "swap_policy": ["vmm/base/size.c"],
    "codec": ["swap/codec.c"],
    "store": ["swap/store_read.c", "swap/cipher.c"],
}


def forget(build):
    for path, _, names in os.walk(build):
        for name in names:
            if name.endswith(".gcda"):
                os.unlink(os.path.join(path, name))


def lines_of(build, source):
    """Lines that can run, and that did, of @source (relative to the project's root)."""
    name = source + ".gcda"
    found = [os.path.join(path, file) for path, _, names in os.walk(build) for file in names
             if os.path.join(path, file).endswith(os.path.basename(name))
             and os.path.dirname(source) in path]
    if not found:
        return 0, 0
    output = subprocess.run(["gcov", "--json-format", "--stdout", os.path.abspath(found[0])], cwd=build,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    lines = {}
    for document in output.splitlines():
        for file in json.loads(document)["files"]:
            if file["file"].endswith(source):
                for line in file["lines"]:
                    lines[line["line_number"]] = lines.get(line["line_number"], 0) + line["count"]
    return len(lines), sum(1 for count in lines.values() if count)


def main():
    build, corpora = sys.argv[1], sys.argv[2:]
    built = {name.removeprefix("fuzz_") for name in os.listdir(os.path.join(build, "tests", "fuzz"))
             if name.startswith("fuzz_")}
    if built != set(TARGETS):
        sys.exit(f"coverage.py: TARGETS and the programs differ in {', '.join(sorted(built ^ set(TARGETS)))}")
    print(f"{'target':18} {'inputs':>7} {'lines':>6} {'reached':>8}   of")
    for target, sources in TARGETS.items():
        directories = [path for path in (os.path.join(corpus, target) for corpus in corpora) if os.path.isdir(path)]
        inputs = sum(len(os.listdir(path)) for path in directories)
        forget(build)
        subprocess.run([os.path.join(build, "tests", "fuzz", "fuzz_" + target), *directories],
                       stdout=subprocess.DEVNULL, check=True)
        counts = [lines_of(build, source) for source in sources]
        total, reached = (sum(column) for column in zip(*counts))
        share = f"{100 * reached / total:.0f} %" if total else "?"
        print(f"{target:18} {inputs:7} {total:6} {share:>8}   {', '.join(sources)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
