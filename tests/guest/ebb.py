"""A running ebb, its guest's agent and its console, for tests.

class Ebb starts `ebb run` and owns the process. What the guest says on the serial line is collected
by a thread; the agents of guest-images/ answer each command with a line "@ok #TAG …" or
"@fail #TAG …". All waits have time limits and fail with what was said so far.
"""
import contextlib
import glob
import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time

from host import BINARY, SLOWNESS


class GuestFailure(Exception):
    """The guest's agent answered @fail."""


class ControlError(Exception):
    """The VM refused a command: .code and .message of the control protocol."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def fields(text):
    """"a=1 b=x" as a dict; numbers become int. The field `output` takes the rest of the line."""
    result = {}
    while text:
        match = re.match(r"\s*([\w.]+)=", text)
        if not match:
            break
        name, text = match.group(1), text[match.end():]
        if name in ("output", "cmdline"):
            result[name] = text
            break
        value, _, text = text.partition(" ")
        with contextlib.suppress(ValueError):
            value = int(value, 0)
        result[name] = value
    return result


class Serial:
    """The guest's serial line over two file descriptors."""

    def __init__(self, read_fd, write_fd):
        self.read_fd, self.write_fd = read_fd, write_fd
        self.text = ""
        self.ended = False
        self.changed = threading.Condition()
        self.tags = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                data = os.read(self.read_fd, 65536)
            except OSError:
                data = b""
            with self.changed:
                self.text += data.decode("utf-8", "replace")
                self.ended = not data
                self.changed.notify_all()
            if not data:
                return

    def wait(self, pattern, timeout=20, start=0):
        """The match of @pattern in what came at or after position @start."""
        expression = re.compile(pattern, re.M)
        deadline = time.monotonic() + timeout * SLOWNESS
        with self.changed:
            while True:
                match = expression.search(self.text, start)
                if match:
                    return match
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    why = "the line ended" if self.ended else f"nothing for {timeout * SLOWNESS} s"
                    raise AssertionError(f"waiting for {pattern!r}: {why}; it said:\n{self.text[-3000:]}")
                self.changed.wait(left)

    def send(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.write_fd, data):]

    def begin(self, command):
        """Sends a command to the agent; finish() takes its answer."""
        tag = f"#{next(self.tags)}"
        start = len(self.text)
        self.send(f"{tag} {command}\n")
        return tag, command, start

    def finish(self, begun, timeout=20):
        tag, command, start = begun
        match = self.wait(rf"@(ok|fail) {tag}(?: (.*?))?\r?\n", timeout, start)
        if match.group(1) == "fail":
            raise GuestFailure(f"{command}: {match.group(2)}")
        return fields(match.group(2) or "")

    def command(self, command, timeout=20):
        return self.finish(self.begin(command), timeout)

    def ready(self, timeout=30, start=0):
        """The fields of the agent's greeting."""
        match = self.wait(r"@ready \w+ (.*?)\r?\n", timeout, start)
        return fields(match.group(1))


class Ebb:
    """One `ebb run`. Use as a context manager: it never outlives the block."""

    counter = itertools.count(1)

    def __init__(self, *options, name=None, runtime_dir, prefix=(), environment=(), binary=BINARY, **popen):
        """@prefix: a command that runs ebb, and `ebb ctl` too. @environment: added to that of the test."""
        self.name = name or f"t{os.getpid()}-{next(Ebb.counter)}"
        self.prefix = prefix
        self.env = dict(os.environ, XDG_RUNTIME_DIR=runtime_dir, **dict(environment))
        self.process = subprocess.Popen([*prefix, binary, "run", "--name", self.name, *options], env=self.env,
                                        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE,
                                           "stderr": subprocess.PIPE, **popen})
        self.client = [*prefix, BINARY]  # what `ebb ctl` is
        self.serial = None
        self.errors = b""
        if self.process.stdout:
            self.serial = Serial(self.process.stdout.fileno(), self.process.stdin.fileno())
        if self.process.stderr:
            self._stderr = threading.Thread(target=self._read_errors, daemon=True)
            self._stderr.start()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors += line

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        # Shown by whoever looks at a failed test.
        if self.errors:
            print(f"{self.name}: status {self.process.returncode}, standard error:\n"
                  f"{self.errors.decode(errors='replace')}")

    @property
    def pid(self):
        return self.process.pid

    def wait(self, timeout=20):
        """The exit status; fails if it does not end."""
        try:
            status = self.process.wait(timeout * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"ebb did not end; the guest said:\n{self.serial and self.serial.text[-2000:]}"
                                 f"\n{self.errors.decode(errors='replace')}") from None
        if self.process.stderr:
            self._stderr.join(5)
        return status

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def expect_error(self, pattern, timeout=20):
        """Waits for a message on standard error."""
        deadline = time.monotonic() + timeout * SLOWNESS
        while not re.search(pattern, self.errors.decode(errors="replace")):
            assert time.monotonic() < deadline, f"no {pattern!r} in: {self.errors.decode(errors='replace')}"
            time.sleep(0.02)

    def signal_twice(self):
        """SIGTERM, and again once the first was taken: signals that wait together become one."""
        self.signal()
        self.expect_error("signal again")
        self.signal()

    # The control socket.

    def ctl_process(self, *words, **popen):
        return subprocess.Popen([*self.client, "ctl", "--json", self.name, *words], env=self.env,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)

    def ctl_begin(self, *words):
        return self.ctl_process(*words), words

    def ctl_finish(self, begun, timeout=60):
        process, words = begun
        try:
            output, errors = process.communicate(timeout=timeout * SLOWNESS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"ctl {' '.join(words)}: no answer") from None
        lines = [json.loads(line) for line in output.splitlines()]
        answers = [line for line in lines if "progress" not in line]
        if len(answers) != 1:
            raise AssertionError(f"ctl {' '.join(words)}: {output!r} {errors!r}")
        if "error" in answers[0]:
            error = answers[0]["error"]
            # What was asked for makes no sense, or the VM cannot do it now.
            status = 2 if error["code"] in ("unknown_command", "invalid_argument") else 1
            assert process.returncode == status, f"status {process.returncode} with {error}"
            raise ControlError(error["code"], error["message"])
        assert process.returncode == 0, f"status {process.returncode}: {errors}"
        return answers[0]["result"]

    def ctl(self, *words, timeout=60):
        """One command; its result as a dict. Raises ControlError."""
        return self.ctl_finish(self.ctl_begin(*words), timeout)

    def swap(self, operation):
        result = self.ctl("swap", operation)
        assert result["result"] == 0 and not result["cancelled"], result
        return result

    # What the host's kernel says, not ebb.

    def _status_bytes(self, *names):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            text = file.read()
        return sum(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M).group(1)) * 1024 for name in names)

    def rss_bytes(self):
        return self._status_bytes("VmRSS")

    def own_bytes(self):
        """RSS without shared memory, which is guest RAM as far as it is mapped."""
        return self._status_bytes("RssAnon", "RssFile")

    def memfd_bytes(self):
        """Blocks of the memfds that ebb holds: guest RAM that the host holds for it."""
        seen = {}
        for path in glob.glob(f"/proc/{self.pid}/fd/*"):
            with contextlib.suppress(OSError):
                if os.readlink(path).startswith("/memfd:"):
                    status = os.stat(path)
                    seen[status.st_ino] = status.st_blocks * 512
        return sum(seen.values())

    def held_bytes(self):
        return self.rss_bytes() + self.memfd_bytes()

    def threads_cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            values = file.read().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
