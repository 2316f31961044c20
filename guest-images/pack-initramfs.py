#!/usr/bin/env python3
"""Packs an initramfs (cpio, "newc", not compressed) without needing root.

    pack-initramfs.py OUTPUT [--file SOURCE=TARGET]… [--link NAME=TARGET]… [--dir PATH]…
                      [--modules TREE NAME,NAME…]

--modules takes the named modules of a lib/modules tree with everything that they need, and writes
/modules/order, the order to load them in. A module that is built into the kernel is left out.
"""
import argparse
import lzma
import os
import re
import stat
import sys


class Archive:
    def __init__(self):
        self.data = bytearray()
        self.seen = set()
        self.inode = 0

    def add(self, path, mode, content=b"", device=(0, 0)):
        path = path.strip("/")
        if path in self.seen:
            return
        parent = os.path.dirname(path)
        if parent:
            self.add(parent, stat.S_IFDIR | 0o755)
        self.seen.add(path)
        self.inode += 1
        self._entry(path, mode, content, device)

    def _entry(self, path, mode, content, device):
        name = path.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(name), 0)
        self.data += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (name, content):
            self.data += part
            self.data += bytes(-len(self.data) % 4)

    def finish(self):
        self.inode = 0
        self._entry("TRAILER!!!", 0, b"", (0, 0))
        return bytes(self.data)


def normal(name):
    return name.replace("-", "_")


class Modules:
    def __init__(self, tree):
        self.tree = tree
        self.paths, self.needs = {}, {}
        with open(os.path.join(tree, "modules.dep"), encoding="ascii") as file:
            for line in file:
                path, needs = line.rstrip("\n").split(":")
                self.paths[self.name_of(path)] = path
                self.needs[path] = needs.split()
        with open(os.path.join(tree, "modules.builtin"), encoding="ascii") as file:
            self.builtin = {self.name_of(line.strip()) for line in file}

    @staticmethod
    def name_of(path):
        return normal(re.sub(r"\.ko(\.xz)?$", "", os.path.basename(path)))

    def order(self, names):
        """Paths in the order to load them: what is needed comes first."""
        result = []

        def visit(path):
            # modules.dep lists the nearest first.
            for need in self.needs[path]:
                visit(need)
            if path not in result:
                result.append(path)

        for name in map(normal, names):
            if name in self.paths:
                visit(self.paths[name])
            elif name not in self.builtin:
                sys.exit(f"pack-initramfs.py: {self.tree} has no module {name}")
        return result

    def read(self, path):
        with open(os.path.join(self.tree, path), "rb") as file:
            data = file.read()
        return lzma.decompress(data) if path.endswith(".xz") else data


def pair(text):
    left, separator, right = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text}: not of the form A=B")
    return left, right


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--file", type=pair, action="append", default=[])
    parser.add_argument("--link", type=pair, action="append", default=[])
    parser.add_argument("--dir", action="append", default=[])
    parser.add_argument("--modules", nargs=2)
    options = parser.parse_args()

    archive = Archive()
    # The kernel opens it for init before anything is mounted.
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for path in options.dir:
        archive.add(path, stat.S_IFDIR | 0o755)
    for source, target in options.file:
        with open(source, "rb") as file:
            archive.add(target, stat.S_IFREG | (os.stat(source).st_mode & 0o777), file.read())
    for name, target in options.link:
        archive.add(name, stat.S_IFLNK | 0o777, target.encode())
    if options.modules:
        modules = Modules(options.modules[0])
        order = []
        for path in modules.order(options.modules[1].split(",")):
            name = modules.name_of(path) + ".ko"
            archive.add("modules/" + name, stat.S_IFREG | 0o644, modules.read(path))
            order.append(name)
        archive.add("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in order).encode())
    temporary = options.output + ".new"
    with open(temporary, "wb") as file:
        file.write(archive.finish())
    os.replace(temporary, options.output)


if __name__ == "__main__":
    main()
