#!/usr/bin/env python3
"""Checks that the program was built to be hard to attack.

    hardening.py PROGRAM ARCHIVE…

Looks at what compiler and linker made, not at the options they were given: position-independent,
read-only relocations bound at start, no executable stack, stack protector, _FORTIFY_SOURCE; and, in the
ARCHIVEs that hold the program's own code, the mark that it stands indirect branch tracking and shadow
stacks (CET): the program as a whole has it only where the C library has it too, and Debian 12's has not.
"""
import re
import subprocess
import sys


def readelf(option, program):
    return subprocess.run(["readelf", "-W", option, program], stdout=subprocess.PIPE, text=True,
                          check=True).stdout


def objects_without(mark, archives):
    """Objects in @archives whose notes do not have @mark."""
    missing = []
    for archive in archives:
        for part in readelf("-n", archive).split("File: ")[1:]:
            if not re.search(rf"x86 feature:.*\b{mark}\b", part):
                missing.append(part.splitlines()[0])
    return missing


def main():
    program, archives = sys.argv[1], sys.argv[2:]
    header, segments = readelf("-h", program), readelf("-l", program)
    dynamic, symbols = readelf("-d", program), readelf("--dyn-syms", program)
    stack = re.search(r"GNU_STACK.*", segments)
    checks = {
        "position-independent (PIE)": "Type:" in header and "DYN" in header and "PIE" in dynamic,
        "relocations are read-only (RELRO)": "GNU_RELRO" in segments,
        "relocations are bound at start (BIND_NOW)": "NOW" in dynamic,
        "the stack is not executable": bool(stack) and "E" not in stack.group(0).split()[-2],
        "no segment is writable and executable": not re.search(r"LOAD.* RWE ", segments),
        "stack protector": "__stack_chk_fail" in symbols,
        "_FORTIFY_SOURCE": bool(re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", ""))),
        "indirect branch tracking (CET IBT)": bool(archives) and not objects_without("IBT", archives),
        "shadow stack (CET SHSTK)": bool(archives) and not objects_without("SHSTK", archives),
        "no search path for libraries": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
    }
    for name, good in checks.items():
        print(f"{'ok' if good else 'FAILED':8} {name}")
    for mark in ("IBT", "SHSTK"):
        for name in objects_without(mark, archives):
            print(f"         {mark} is missing in {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
