#!/usr/bin/env python3
"""A virtual machine that has a KVM able to run stock kernels, for hosts whose own has not.

    hostvm.py start --images DIR --state DIR     boots it and returns once it takes commands
    hostvm.py run --state DIR [--tty] [--timeout S] [--cwd DIR] [--env NAME=VALUE] COMMAND…
    hostvm.py stop --state DIR
    hostvm.py status --state DIR                 exit status 0 if it runs

qemu emulates the whole machine, AMD's SVM included (TCG), so that kvm-amd works inside of it. It
sees the host's file system, read-only with a writable layer of its own; STATE/share is writable and
at the same path on both sides; /run/scratch is an ext4 file system of its own. `run` behaves like
the command run here: its output, its exit status, its terminal with --tty. Nothing measured in
there says anything about performance.
"""
import argparse
import contextlib
import fcntl
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import tty

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from protocol import PORTS, Parser, frame  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
BOOT_TIMEOUT = 90
BOOT_ATTEMPTS = 2
MEMORY = "5G"
SCRATCH_BYTES = 12 << 30
# What a command inside may need to know of its surroundings.
PASSED_ON = ("CI", "TERM")


class HostVmError(Exception):
    """The machine does not do what it should; the text says what."""


def read_pid(state):
    """The process id of the machine's qemu, or 0."""
    try:
        with open(os.path.join(state, "pid"), encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return pid if os.fsencode(state) in file.read() else 0
    except (OSError, ValueError):
        return 0


def qemu_command(images, state):
    share = os.path.join(state, "share")
    agent = os.path.join(HERE, "agent.py")
    append = (f"console=ttyS0 quiet panic=-1 mitigations=off ebb.agent={agent} "
              f"ebb.python={os.path.realpath(sys.executable)} ebb.share={share}")
    # One CPU: qemu before 8.1 may lose changes of code between its TCG threads. With two, guests whose
    # pages come and go triple-fault now and then; with one, they also boot twice as fast.
    command = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", MEMORY,
        "-kernel", os.path.join(images, "hostvm", "bzImage"),
        "-initrd", os.path.join(images, "hostvm", "initramfs"), "-append", append,
        "-serial", "file:" + os.path.join(state, "console.log"),
        "-monitor", "unix:" + os.path.join(state, "monitor") + ",server=on,wait=off",
        "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
        "-virtfs", f"local,path={share},mount_tag=share,security_model=none,multidevs=remap",
        "-drive", f"file={os.path.join(state, 'scratch.img')},format=raw,if=virtio,cache=unsafe",
        "-device", "virtio-rng-pci", "-device", f"virtio-serial-pci,max_ports={PORTS + 1}",
    ]
    for port in range(PORTS):
        path = os.path.join(state, f"command{port}")
        command += ["-chardev", f"socket,id=c{port},path={path},server=on,wait=off",
                    "-device", f"virtserialport,chardev=c{port},name=ebb.command{port}"]
    return command


def start(images, state):
    if shutil.which("qemu-system-x86_64") is None:
        raise HostVmError("qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
    if read_pid(state):
        raise HostVmError(f"it runs already (process {read_pid(state)})")
    os.makedirs(os.path.join(state, "share"), mode=0o700, exist_ok=True)
    for attempt in range(BOOT_ATTEMPTS):
        try:
            start_once(images, state)
            return
        except HostVmError as error:
            # An emulated machine on a busy host may miss a time limit of its kernel's.
            print(f"hostvm.py: attempt {attempt + 1}: {error}", file=sys.stderr)
            stop(state)
    raise HostVmError("it does not boot")


def start_once(images, state):
    with open(os.path.join(state, "scratch.img"), "wb") as file:
        file.truncate(SCRATCH_BYTES)
    with open(os.path.join(state, "qemu.log"), "wb") as log:
        process = subprocess.Popen(qemu_command(images, state), stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True)
    with open(os.path.join(state, "pid"), "w", encoding="ascii") as file:
        file.write(str(process.pid))
    try:
        with Session(state, timeout=BOOT_TIMEOUT, alive=lambda: process.poll() is None):
            pass
    except HostVmError as error:
        process.kill()
        process.wait()
        raise HostVmError(f"it did not boot: {error}\n{tail(state)}") from None


def tail(state):
    """The last lines that the machine and qemu said."""
    text = ""
    for name in ("qemu.log", "console.log"):
        with contextlib.suppress(OSError):
            with open(os.path.join(state, name), encoding="utf-8", errors="replace") as file:
                text += "".join(file.readlines()[-15:])
    return text


def stop(state):
    pid = read_pid(state)
    if pid:
        os.kill(pid, signal.SIGKILL)
        for _ in range(200):
            if not read_pid(state):
                break
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
    for name in ["scratch.img", "pid", "monitor"] + [f"command{port}" for port in range(PORTS)] \
            + [f"command{port}.lock" for port in range(PORTS)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(state, name))


class Session:
    """One of the machine's command ports, ours for as long as it is open."""

    def __init__(self, state, timeout=30, alive=None):
        self.state = state
        self.alive = alive or (lambda: read_pid(state) != 0)
        self.id = random.getrandbits(32)
        self.parser = Parser()
        self.deadline = time.monotonic() + timeout
        self.lock = self.connection = None
        self.frames = []

    def __enter__(self):
        try:
            self.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        if self.connection:
            self.connection.close()
        if self.lock:
            self.lock.close()

    def check(self, what):
        if not self.alive():
            raise HostVmError(f"{what}: the machine does not run")
        if time.monotonic() > self.deadline:
            raise HostVmError(f"{what}: no answer")

    def take_port(self):
        while True:
            for port in range(PORTS):
                path = os.path.join(self.state, f"command{port}")
                lock = open(path + ".lock", "w", encoding="ascii")  # noqa: SIM115
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    lock.close()
                    continue
                self.lock = lock
                return path
            self.check("all ports are taken")
            time.sleep(0.1)

    def open(self):
        path = self.take_port()
        while True:
            self.check("connect")
            self.connection = socket.socket(socket.AF_UNIX)
            try:
                self.connection.connect(path)
                break
            except OSError:
                self.connection.close()
                time.sleep(0.1)
        # The VM may still be getting rid of a previous session: ask until it answers.
        while True:
            self.check("ping")
            self.connection.sendall(frame(b"P", self.id))
            if any(kind == b"p" for kind, _ in self.receive(0.5)):
                return

    def receive(self, timeout):
        """Frames of this session that arrive within @timeout seconds, as (kind, payload)."""
        if not select.select([self.connection], [], [], timeout)[0]:
            return []
        try:
            data = self.connection.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HostVmError("the machine went away:\n" + tail(self.state))
        return [(kind, payload) for kind, session, payload in self.parser.feed(data) if session == self.id]

    def send(self, kind, payload=b""):
        self.connection.sendall(frame(kind, self.id, payload))


def run(state, argv, timeout=None, cwd=None, env=None, use_tty=False, output=None):
    """Runs @argv inside. Its output goes to ours, or to the list @output as bytes. Its status."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment.update({name: value for name, value in os.environ.items() if name.startswith("EBB_")})
    environment.update(env or {})
    size = list(os.get_terminal_size(0)) if use_tty else None
    request = {"argv": argv, "cwd": cwd or os.getcwd(), "env": environment,
               "pty": [size[1], size[0]] if size else None}
    with Session(state) as session, raw_terminal(use_tty):
        session.send(b"R", json.dumps(request).encode())
        if output is not None:
            session.send(b"E")
        return relay(session, timeout, output)


@contextlib.contextmanager
def raw_terminal(wanted):
    if not wanted:
        yield
        return
    saved = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


def relay(session, timeout, output):
    deadline = time.monotonic() + timeout if timeout else None
    sources = [session.connection] + ([0] if output is None else [])
    while True:
        if deadline and time.monotonic() > deadline:
            raise HostVmError(f"the command did not end within {timeout:g} s")
        readable = select.select(sources, [], [], 1)[0]
        if 0 in readable:
            data = os.read(0, 65536)
            if data:
                session.send(b"I", data)
            else:
                session.send(b"E")
                sources.remove(0)
        if session.connection not in readable:
            continue
        for kind, payload in session.receive(0):
            if kind == b"Q":
                return json.loads(payload)["status"]
            if kind not in (b"O", b"X"):
                continue
            if output is not None:
                output.append(payload)
            else:
                write_all(2 if kind == b"X" else 1, payload)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("start", "run", "stop", "status"):
        verb = verbs.add_parser(name)
        verb.add_argument("--state", required=True, type=os.path.abspath)
        if name == "start":
            verb.add_argument("--images", required=True, type=os.path.abspath)
        elif name == "run":
            verb.add_argument("--tty", action="store_true")
            verb.add_argument("--timeout", type=float)
            verb.add_argument("--cwd")
            verb.add_argument("--env", action="append", default=[])
            verb.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        if options.verb == "start":
            start(options.images, options.state)
        elif options.verb == "stop":
            stop(options.state)
        elif options.verb == "status":
            return 0 if read_pid(options.state) else 1
        else:
            command = options.command[1:] if options.command[:1] == ["--"] else options.command
            return run(options.state, command, options.timeout, options.cwd,
                       dict(entry.split("=", 1) for entry in options.env), options.tty)
    except HostVmError as error:
        print(f"hostvm.py: {error}", file=sys.stderr)
        return 125
    return 0


if __name__ == "__main__":
    sys.exit(main())
