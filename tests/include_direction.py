#!/usr/bin/env python3
"""Checks from the #include lines that the folders depend on each other in one direction only.

    include_direction.py ROOT

vmm -> {arch, devices, swap} -> memory -> vmm/base; inside of vmm/, as ALLOWED says. <linux/kvm.h>
belongs to vmm/ and arch/, <linux/userfaultfd.h> to swap/uffd.c. Prints each offending line; exit
status 1 if there is one.
"""
import pathlib
import re
import sys

ENGINE = {"arch", "devices", "swap", "memory", "vmm/base"}
ALLOWED = {
    "vmm/base": {"vmm/base"},
    "memory": {"memory", "vmm/base"},
    "arch": {"arch", "memory", "vmm/base"},
    "devices": {"devices", "memory", "vmm/base"},
    "swap": {"swap", "memory", "vmm/base"},
    "vmm/sandbox": {"vmm/sandbox"} | ENGINE,
    "vmm/machine": {"vmm/machine"} | ENGINE,
    "vmm/options": {"vmm/options", "vmm/machine"} | ENGINE,
    "vmm/control": {"vmm/control", "vmm/options", "vmm/machine", "vmm/sandbox"} | ENGINE,
    "vmm/metrics": {"vmm/metrics", "vmm/control", "vmm/machine"} | ENGINE,
    "vmm/client": {"vmm/client", "vmm/control", "vmm/options", "vmm/machine"} | ENGINE,
    "vmm/check": {"vmm/check", "vmm/options", "vmm/machine", "vmm/sandbox"} | ENGINE,
    "vmm": {"vmm", "vmm/check", "vmm/client", "vmm/metrics", "vmm/control", "vmm/options", "vmm/machine",
            "vmm/sandbox"} | ENGINE,
}
RESTRICTED = {
    "linux/kvm.h": lambda path: path.startswith(("vmm/", "arch/")) and not path.startswith("vmm/base/"),
    "linux/userfaultfd.h": lambda path: path == "swap/uffd.c",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def folder_of(path):
    """The layer that a path relative to the root belongs to, or None."""
    for folder in sorted(ALLOWED, key=len, reverse=True):
        if path.startswith(folder + "/"):
            return folder
    return None


def violations(root):
    for source in sorted(root.rglob("*.[chS]")) + sorted(root.rglob("*.asl")):
        path = source.relative_to(root).as_posix()
        folder = folder_of(path)
        if folder is None:
            continue
        for number, line in enumerate(source.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            own, system = match.groups()
            target = folder_of(own) if own else None
            if own and target is None:
                yield f"{path}:{number}: {own}: not a path from the project's root"
            elif own and target not in ALLOWED[folder]:
                yield f"{path}:{number}: {folder} must not include {own}"
            elif system in RESTRICTED and not RESTRICTED[system](path):
                yield f"{path}:{number}: <{system}> is not for this file"


def main():
    root = pathlib.Path(sys.argv[1])
    found = list(violations(root))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
