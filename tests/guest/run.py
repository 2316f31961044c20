#!/usr/bin/env python3
"""Runs guest tests, where they can run.

    run.py --list FILE                     prints the tests in it: Class.test_name, one a line
    run.py FILE:CLASS.TEST                 runs one test (or CLASS, or all of FILE)
    run.py --hostvm start|stop             the host VM, if this host needs one for Linux guests

A test with a stock kernel is run inside the host VM if this host's own KVM cannot run one. A skipped
test prints SKIP and why, and the exit status is 77 (1 if the environment has CI=true).

Environment: see host.py; EBB_HOSTVM_STATE is the host VM's directory.
"""
import argparse
import ast
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.path.insert(1, os.path.join(ROOT, "guest-images", "hostvm"))
import host  # noqa: E402

SKIPPED = 77
# Inside the host VM a test may take this long, in seconds.
HOSTVM_TIMEOUT = 900


def list_tests(path):
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                    print(f"{node.name}.{item.name}")


def hostvm_state():
    """The host VM's directory, ours alone."""
    state = os.environ["EBB_HOSTVM_STATE"]
    os.makedirs(state, mode=0o700, exist_ok=True)
    status = os.stat(state)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        sys.exit(f"{state}: belongs to somebody else; set EBB_HOSTVM_STATE")
    return state


def needs_hostvm():
    return not host.IN_HOSTVM and not host.check()["stock_kernels"]


def hostvm(verb):
    import hostvm as machine
    if not needs_hostvm():
        print("this host runs stock kernels itself")
        return 0
    try:
        # One that was left behind may see files of before.
        machine.stop(hostvm_state())
        if verb == "start":
            machine.start(host.IMAGES, hostvm_state())
    except machine.HostVmError as error:
        print(f"host VM: {error}")
        return 1
    return 0


def run_in_hostvm(test):
    import hostvm as machine
    environment = {"EBB_IN_HOSTVM": "1"}
    argv = [os.path.realpath(sys.executable), "-S", os.path.abspath(__file__), test]
    try:
        return machine.run(hostvm_state(), argv, timeout=HOSTVM_TIMEOUT, cwd=HERE, env=environment)
    except machine.HostVmError as error:
        print(f"host VM: {error}")
        return 1


def run_here(test):
    name, _, member = test.partition(":")
    module = os.path.splitext(os.path.basename(name))[0]
    suite = unittest.defaultTestLoader.loadTestsFromName(f"{module}.{member}" if member else module)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for case, reason in result.skipped:
        print(f"SKIP: {case.id()}: {reason}")
    if not result.wasSuccessful():
        return 1
    if result.skipped and os.environ.get("CI") == "true":
        print("skipped tests are failures here (CI=true)")
        return 1
    return SKIPPED if result.skipped else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--hostvm", choices=("start", "stop"))
    parser.add_argument("test", nargs="?")
    options = parser.parse_args()
    if options.hostvm:
        return hostvm(options.hostvm)
    if not options.test:
        parser.error("which test?")
    if options.list:
        list_tests(options.test)
        return 0
    if os.path.basename(options.test).startswith("test_linux") and needs_hostvm():
        return run_in_hostvm(options.test)
    return run_here(options.test)


if __name__ == "__main__":
    sys.exit(main())
