"""What the tests know of the host they run on, and where things are.

Environment: EBB_BINARY, the program; EBB_IMAGES, what guest-images/build.sh made; EBB_IN_HOSTVM,
set inside the host VM, where everything is many times slower.
"""
import functools
import json
import os
import subprocess
import tempfile

BINARY = os.environ.get("EBB_BINARY", "ebb")
IMAGES = os.environ.get("EBB_IMAGES", "")
IN_HOSTVM = bool(os.environ.get("EBB_IN_HOSTVM"))

# Time limits are for a machine that runs natively; an emulated one gets more.
SLOWNESS = 10 if IN_HOSTVM else 3



def size(native, emulated):
    """How much work a test does: what takes a second natively takes minutes in the host VM."""
    return emulated if IN_HOSTVM else native


# A place for swap stores and disks: a real file system with O_TMPFILE.
SCRATCH = "/run/scratch" if IN_HOSTVM else tempfile.gettempdir()


def image(name):
    return os.path.join(IMAGES, name)


@functools.lru_cache(maxsize=None)
def check():
    """What `ebb check --json` says, as a dict."""
    result = subprocess.run([BINARY, "check", "--json", "--swap-dir", SCRATCH], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, timeout=60 * SLOWNESS, check=False)
    if not result.stdout.strip():
        raise RuntimeError(f"{BINARY} check --json said nothing (status {result.returncode}): {result.stderr}")
    return json.loads(result.stdout)


def failures():
    """The checks that failed, one line."""
    return "; ".join(f"{entry['name']}: {entry['detail']}" for entry in check()["checks"]
                     if entry["needed"] and not entry["ok"])


def is_root():
    return os.geteuid() == 0
