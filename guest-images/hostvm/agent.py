#!/usr/bin/env python3
"""Init of the host VM once its root is there: runs commands that arrive over virtio-serial ports.

Each port serves one session at a time. A session ends with its command, or when the host's end of
the port is closed: then the command's whole process group is killed. Without any session for
IDLE_LIMIT seconds the machine switches itself off, so that a forgotten one does not stay.
"""
import contextlib
import fcntl
import glob
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from protocol import Parser, frame  # noqa: E402

IDLE_LIMIT = 900
CHUNK = 65536
# How long output may still come from those that a finished command leaves behind.
LINGER = 0.5

last_activity = time.monotonic()


class HostGone(Exception):
    """The host closed its end."""


class Port:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.parser = Parser()
        self.session = 0

    def frames(self):
        """What has arrived. Raises HostGone if nobody is there any more."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return []
        if not data:
            raise HostGone
        return list(self.parser.feed(data))

    def send(self, kind, payload=b""):
        data = frame(kind, self.session, payload)
        while data:
            poller = select.poll()
            poller.register(self.fd, select.POLLOUT)
            events = poller.poll()[0][1]
            if events & (select.POLLHUP | select.POLLERR):
                raise HostGone
            try:
                data = data[os.write(self.fd, data):]
            except BlockingIOError:
                pass

    def serve(self):
        global last_activity
        while True:
            poller = select.poll()
            poller.register(self.fd, select.POLLIN)
            events = poller.poll()[0][1]
            if events & select.POLLHUP and not events & select.POLLIN:
                self.parser = Parser()
                time.sleep(0.05)
                continue
            try:
                for kind, session, payload in self.frames():
                    last_activity = time.monotonic()
                    self.session = session
                    if kind == b"P":
                        self.send(b"p")
                    elif kind == b"R":
                        Session(self, json.loads(payload)).run()
            except HostGone:
                self.parser = Parser()
                time.sleep(0.05)


class Session:
    def __init__(self, port, request):
        self.port = port
        self.pty = request.get("pty")
        self.master = None
        environment = dict(os.environ)
        environment.update(request.get("env") or {})
        options = {"cwd": request.get("cwd") or "/", "env": environment, "start_new_session": True}
        if self.pty:
            self.master, slave = pty.openpty()
            self.resize(self.pty)
            options.update(stdin=slave, stdout=slave, stderr=slave,
                           preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        else:
            options.update(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.process, self.error = None, None
        try:
            self.process = subprocess.Popen(request["argv"], **options)
        except OSError as error:
            self.error = f"{request['argv'][0]}: {error}\n".encode()
        if self.pty:
            os.close(slave)
        self.pending = bytearray()
        self.input_ended = False

    def resize(self, size):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[0], size[1], 0, 0))

    def input_fd(self):
        if self.pty:
            return self.master
        return self.process.stdin.fileno() if self.process.stdin else -1

    def outputs(self):
        if self.pty:
            return {self.master: b"O"}
        return {self.process.stdout.fileno(): b"O", self.process.stderr.fileno(): b"X"}

    def close_input(self):
        if not self.pty and self.process.stdin:
            self.process.stdin.close()
            self.process.stdin = None

    def run(self):
        if not self.process:
            self.port.send(b"X", self.error)
            self.port.send(b"Q", json.dumps({"status": 127}).encode())
            if self.master is not None:
                os.close(self.master)
            return
        try:
            self.relay()
        except HostGone:
            self.kill()
            raise
        finally:
            self.kill()
            if self.master is not None:
                os.close(self.master)
            else:
                self.close_input()
                self.process.stdout.close()
                self.process.stderr.close()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def relay(self):
        global last_activity
        outputs = self.outputs()
        deadline = None
        while outputs:
            if deadline is None and self.process.poll() is not None:
                deadline = time.monotonic() + LINGER
            if deadline is not None and time.monotonic() > deadline:
                break
            last_activity = time.monotonic()
            self.step(outputs)
        status = self.process.wait()
        self.port.send(b"Q", json.dumps({"status": status if status >= 0 else 128 - status}).encode())

    def step(self, outputs):
        poller = select.poll()
        poller.register(self.port.fd, select.POLLIN)
        for fd in outputs:
            poller.register(fd, select.POLLIN)
        target = self.input_fd()
        if target >= 0 and self.pending:
            events = select.POLLOUT | (select.POLLIN if target in outputs else 0)
            poller.register(target, events)
        for fd, events in poller.poll(100):
            if fd == self.port.fd:
                self.from_host(events)
                continue
            if fd == target and events & (select.POLLOUT | select.POLLERR) and self.pending:
                self.feed(target)
            if fd in outputs and events & (select.POLLIN | select.POLLHUP):
                self.to_host(fd, outputs)

    def feed(self, target):
        try:
            del self.pending[:os.write(target, self.pending[:4096])]
        except OSError:
            self.pending.clear()
            self.close_input()
        if self.input_ended and not self.pending:
            self.close_input()

    def to_host(self, fd, outputs):
        try:
            data = os.read(fd, CHUNK)
        except OSError:
            data = b""
        if data:
            self.port.send(outputs[fd], data)
        else:
            del outputs[fd]

    def from_host(self, events):
        if events & select.POLLHUP and not events & select.POLLIN:
            raise HostGone
        for kind, session, payload in self.port.frames():
            if session != self.port.session:
                continue
            if kind == b"I":
                self.pending += payload
            elif kind == b"E":
                self.input_ended = True
                if not self.pending:
                    self.close_input()
            elif kind == b"W" and self.pty:
                self.resize(json.loads(payload))


def wait_for_ports():
    while not glob.glob("/sys/class/virtio-ports/*/name"):
        time.sleep(0.05)
    for path in sorted(glob.glob("/sys/class/virtio-ports/*/name")):
        with open(path, encoding="ascii") as file:
            if file.read().startswith("ebb.command"):
                yield "/dev/" + path.split("/")[4]


def power_off():
    os.sync()
    # reboot(2) by its number's name in the C library: the standard library has no wrapper.
    import ctypes
    ctypes.CDLL(None).reboot(0x4321FEDC)


def main():
    os.environ.update(HOME="/root", PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                      XDG_RUNTIME_DIR="/run/user/0", LANG="C.UTF-8")
    os.chdir("/")
    for path in wait_for_ports():
        threading.Thread(target=Port(path).serve, daemon=True).start()
    print("host VM: ready", flush=True)
    while time.monotonic() - last_activity < IDLE_LIMIT:
        time.sleep(1)
        reap()
    power_off()


def reap():
    """Takes leave of orphans that have ended. A session's own process leads a session of the kernel's,
    and whoever started it waits for it."""
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                state, parent, _, leader = file.read().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        pid = int(path.split("/")[2])
        if state == "Z" and int(parent) == os.getpid() and int(leader) != pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


if __name__ == "__main__":
    main()
