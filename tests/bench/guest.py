"""What a guest sees of swapping: the bare guest times its own touches by rdtsc, in ring 3 on KVM."""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest"))

MIB = 1 << 20
START = 64 * MIB
DATA = 64 * MIB
PIECE = 8 * MIB  # one disk command of the guest


class NoGuest(Exception):
    pass


class Bare:
    """A bare guest with the benchmark's contents (without zero pages) in its memory."""

    def __init__(self, directory, disk, options):
        import host
        from ebb import Ebb
        self.guest = Ebb("--kernel", host.image("bare.elf"), "--memory", "192M", "--disk", disk, *options,
                         runtime_dir=directory)

    def __enter__(self):
        try:
            self.guest.serial.ready()
        except AssertionError as error:
            self.__exit__()
            raise NoGuest((self.guest.errors.decode(errors="replace").strip() or str(error))[-300:]) from None
        for offset in range(0, DATA, PIECE):
            self.guest.serial.command(f"blk get 0 {offset // 512} {PIECE // 512} {START + offset}")
        self.cycles_per_us = self.clock()
        return self

    def __exit__(self, *exception):
        process = self.guest.process
        if process.poll() is None:
            process.kill()
        process.wait()

    def clock(self):
        start = time.monotonic()
        cycles = self.guest.serial.command("gap 500000000")["cycles"]
        return cycles / ((time.monotonic() - start) * 1e6)

    def latency(self, part):
        """Touches of one eighth of the data, in microseconds."""
        length = DATA // 8
        answer = self.guest.serial.command(f"latency {START + part * length} {length}", timeout=60)
        return {name: answer[name] / self.cycles_per_us for name in ("p50", "p99", "max", "mean")}


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        pass


def measure_one(directory, disk, options):
    with Bare(directory, disk, options) as bare:
        result = {"resident": bare.latency(0)}
        bare.guest.swap("enable")
        result["staged"] = bare.latency(1)
        bare.guest.swap("out")
        drop_caches()
        result["stored"] = bare.latency(2)
        bare.guest.ctl("quit")
        bare.guest.wait()
    return result


def measure(binary, images, contents, directory, stores):
    """{store: {resident, staged, stored} or {skipped: reason}}."""
    import host
    host.BINARY = binary
    host.IMAGES = images
    import ebb
    ebb.BINARY = binary
    results = {}
    with tempfile.TemporaryDirectory(prefix="ebb-bench-", dir=directory) as scratch:
        disk = os.path.join(scratch, "contents.img")
        subprocess.run([contents, "--size", str(DATA), "--mix", "text=20,code=25,heap=45,random=10",
                        "--output", disk], stdout=subprocess.DEVNULL, check=True)
        for name, options in stores.items():
            words = [word.replace("DIRECTORY", scratch) for word in options]
            try:
                results[name] = measure_one(scratch, disk, words)
            except (NoGuest, AssertionError, OSError) as error:
                results[name] = {"skipped": str(error).splitlines()[0][:300]}
            except Exception as error:  # pylint: disable=broad-except
                # A command that the VM refused: its reason is the result.
                results[name] = {"skipped": f"{type(error).__name__}: {error}"[:300]}
    return results


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:5], {"file": ["--swap-dir", "DIRECTORY"]}), indent=1))
