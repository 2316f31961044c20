"""One ebb in which a call may fail, its guest and its control socket: for faults.py.

All waits have limits. A fault may lose an answer or make a command fail once; whoever operates a VM
would try again, and so does this. Refused: a command failed twice. Ended: ebb has ended. Lost: it does
not do what it should, or the guest's memory is wrong.
"""
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time

import host
from ebb import GuestFailure, Serial

TIMEOUT = 120     # for anything that goes on
PATIENCE = 6      # for an answer that a fault may have lost; then it is asked for again,
ATTEMPTS = 8      # so often
USER = 23456
MEMORY = "20M"
BALLOON_PAGES = 64


class Ended(Exception):
    pass


class Lost(Exception):
    pass


class Refused(Exception):
    pass


def as_user(directory):
    """Command words in front of `ebb` that make it an ordinary user's, who may use KVM; as root."""
    os.chmod(directory, 0o755)
    script = ["set -e"]
    for device in ("kvm", "userfaultfd"):
        node = os.path.join(directory, device)
        os.mknod(node, stat.S_IFCHR | 0o666, os.stat(f"/dev/{device}").st_rdev)
        os.chmod(node, 0o666)
        script.append(f"mount --bind {node} /dev/{device}")
    for path, _, names in os.walk(directory):
        for name in ["."] + names:
            os.chown(os.path.join(path, name), USER, USER)
    script.append(f'exec setpriv --reuid {USER} --regid {USER} --clear-groups "$@"')
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script), "sh"]


def copies_for_users():
    """ebb and its guest where an ordinary user can get at them. Before other threads start programs: those
    would hold the copy open for writing, which then cannot be started."""
    place = tempfile.TemporaryDirectory(prefix="ebb-faults-", dir=host.SCRATCH)
    os.chmod(place.name, 0o755)
    return place, *(shutil.copy(path, place.name) for path in (host.BINARY, host.image("bare.elf")))


def can_be_user():
    return (os.geteuid() == 0 and all(shutil.which(tool) for tool in ("unshare", "setpriv"))
            and all(os.path.exists(f"/dev/{device}") for device in ("kvm", "userfaultfd")))


class Machine:
    def __init__(self, directory, options, fault, copies=None):
        """@copies: of copies_for_users(), to be an ordinary user's."""
        self.directory = directory
        self.fault = fault or ""
        self.runtime, self.swap_dir = (os.path.join(directory, name) for name in ("runtime", "swap"))
        os.mkdir(self.runtime, 0o700)
        os.mkdir(self.swap_dir)
        self.report = os.path.join(directory, "report")
        disk = os.path.join(directory, "disk")
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        environment = dict(os.environ, XDG_RUNTIME_DIR=self.runtime, EBB_FAULT_REPORT=self.report)
        if fault:
            environment["EBB_FAULT"] = fault
        _, binary, kernel = copies or (None, host.BINARY, host.image("bare.elf"))
        prefix = as_user(directory) if copies else []
        self.error_path = os.path.join(directory, "errors")
        with open(self.error_path, "wb") as errors:
            self.process = subprocess.Popen(
                [*prefix, binary, "run", "--name", "vm", "--kernel", kernel, "--memory", MEMORY, "--swap-dir", self.swap_dir,
                 "--disk", disk, *options],
                env=environment, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self.serial = Serial(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.started = self.paused = self.was_killed = self.is_mute = self.disk_is_broken = self.asked_to_pause = False
        self.lasting = bool(fault) and fault.endswith(":always")
        self.stopped = self.layers = None
        self.is_brief = False
        self.refusals = []

    def errors(self):
        with open(self.error_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def left(self):
        """Files that should have gone with the VM."""
        return [os.path.join(path, name) for root in (self.runtime, self.swap_dir)
                for path, _, names in os.walk(root) for name in names]

    def end(self, lost):
        """After the scenario, whatever it came to: ebb is given time to end, then killed; at once if @lost."""
        if lost:
            self.process.kill()
        elif not self.wait_end(TIMEOUT):
            self.was_killed = True
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        deadline = time.monotonic() + 5
        while not self.serial.ended and time.monotonic() < deadline:
            time.sleep(0.01)
        self.process.stdout.close()

    def wait_end(self, seconds):
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def check_ended(self):
        if self.process.poll() is not None:
            raise Ended(f"status {self.process.returncode}")

    def protection(self):
        """What the sandbox is, as ebb says it and as it looks from outside."""
        result = dict(self.control("status")["sandbox"])
        if not result["on"]:
            return result
        found = {name: set() for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm", "CapBnd")}
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                with open(f"/proc/{self.process.pid}/task/{thread}/status", encoding="utf-8") as file:
                    text = file.read()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # Somebody else's bounding set can only be emptied in a user namespace; there is nothing to be gained.
            if not re.search(r"^Uid:\s*0\b", text, re.M):
                found.pop("CapBnd", None)
            for name, values in found.items():
                values.add(int(re.search(rf"^{name}:\s*(\w+)", text, re.M).group(1), 16))
        result.update(found)
        result["spaces"] = {name for name in ("mnt", "net", "ipc", "uts") if os.readlink(
            f"/proc/{self.process.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")}
        return result

    # The control socket.

    def exchange(self, command, arguments, timeout=TIMEOUT):
        """The answer to one request, or None if the connection broke."""
        request = {"command": command}
        if arguments:
            request["arguments"] = list(arguments)
        data = b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout)
                connection.connect(os.path.join(self.runtime, "ebb", "vm.sock"))
                line = json.dumps(request).encode() + b"\n"
                if command == "dump-memory":
                    with open(arguments[0], "wb") as file:
                        socket.send_fds(connection, [line], [file.fileno()])
                else:
                    connection.sendall(line)
                while True:
                    part = connection.recv(65536)
                    if not part:
                        return None
                    data += part
                    for line in data.split(b"\n")[:-1]:
                        answer = json.loads(line)
                        if "progress" not in answer:
                            return answer
        except TimeoutError:
            raise Lost(f"{command}: no answer for {timeout} s") from None
        except OSError:
            return None

    def ask(self, command, *arguments):
        """The result; an error raises Refused."""
        for _ in range(3):
            answer = self.exchange(command, arguments)
            if answer:
                break
            # Ebb may be about to end.
            self.wait_end(1)
            self.check_ended()
            self.refusals.append(f"{command}: disconnected")
        else:
            raise Lost(f"{command}: disconnected three times")
        if "error" in answer:
            raise Refused(f"{command}: {answer['error']['message']}")
        result = answer["result"]
        if result and result.get("result"):
            raise Refused(f"{command}: result {result['result']} {result.get('message', '')}")
        return result

    def control(self, command, *arguments, unlink=False):
        """A command, and once more if it is refused: a fault passes."""
        self.asked_to_pause = command == "pause"
        for attempt in range(4):
            try:
                result = self.ask(command, *arguments)
                break
            except Refused as refused:
                # The first attempt may have come so far that it is done.
                if attempt and re.search(r"swap is|already|machine is|not in state", str(refused)):
                    return None
                self.refusals.append(str(refused))
                # What fails for good is refused for good; everything else goes on.
                if attempt and self.lasting:
                    return None
                if attempt == 3:
                    raise
                self.mend()
                self.await_idle()
        if unlink and os.path.exists(arguments[0]):
            os.unlink(arguments[0])
        return result

    def await_idle(self):
        """An operation whose client was lost goes on."""
        deadline = time.monotonic() + TIMEOUT
        while self.ask("swap status").get("operation"):
            if time.monotonic() > deadline:
                raise Lost("the operation does not end")
            time.sleep(0.1)

    def mend(self):
        """If the VM has paused itself, that is right as long as it says why; resume it."""
        status = self.ask("status")
        if status["state"] == "stopped":
            self.stopped = status.get("reason")
            if not self.stopped:
                raise Lost("stopped without a reason")
            self.refusals.append(f"stopped: {self.stopped}")
            self.quit()
            raise Ended("stopped")
        if status["state"] != "paused":
            return False
        if self.asked_to_pause:
            self.ask("resume")
            return True
        if not status.get("reason"):
            raise Lost("paused without a reason")
        self.paused = True
        self.refusals.append(f"paused: {status['reason']}")
        deadline = time.monotonic() + TIMEOUT / 2
        while True:
            try:
                self.ask("resume")
                return True
            except Refused as refused:
                if time.monotonic() > deadline:
                    # Only what fails for good may make that final.
                    if not self.lasting:
                        raise Lost(f"cannot be resumed: {refused}") from None
                    self.stopped = str(refused)
                    self.quit()
                    raise Ended("stopped") from None
                time.sleep(0.2)

    # The guest.

    def wait_guest(self, pattern, start):
        """The match of @pattern in what the guest says, or None if it has been silent."""
        deadline = time.monotonic() + TIMEOUT
        quiet = time.monotonic() + PATIENCE
        expression = re.compile(pattern, re.M)
        while True:
            with self.serial.changed:
                match = expression.search(self.serial.text, start)
                if match:
                    return match
                self.serial.changed.wait(0.2)
            if self.serial.ended:
                self.wait_end(TIMEOUT)
                self.check_ended()
            self.check_ended()
            if time.monotonic() > quiet:
                quiet = time.monotonic() + PATIENCE
                if not self.mend():
                    return None
            if time.monotonic() > deadline:
                raise Lost(f"no {pattern!r} for {TIMEOUT} s")

    def guest(self, command):
        """What the agent answers to @command. Said again if it was not heard."""
        if self.disk_is_broken and command.startswith("blk"):
            return ""
        for attempt in range(ATTEMPTS):
            try:
                tag, _, start = self.serial.begin(command)
            except BrokenPipeError:
                self.wait_end(TIMEOUT)
                self.check_ended()
                raise Lost("ebb has closed its standard input") from None
            match = self.wait_guest(rf"@(ok|fail) {tag}(?: (.*?))?\r?\n", start)
            if match and match.group(1) == "ok":
                return match.group(2) or ""
            if match and not command.startswith("blk"):
                raise Lost(f"{command}: the guest says {match.group(2)}")
            self.refusals.append(f"guest: {command}: {match.group(2) if match else 'no answer'}")
            if self.serial_is_lost() or (match and attempt == 2):
                break
        # A broken disk is told, to the guest and to the operator; what was not written is not read back.
        if match and "IOERR" in match.group(2) and "warning: disk" in self.errors():
            self.disk_is_broken = True
            return match.group(2)
        raise Lost(f"{command}: no answer of the guest")

    def verify(self, seed):
        try:
            answer = self.guest(f"verifyall {seed}")
        except GuestFailure as error:
            raise Lost(f"wrong memory: {error}") from None
        bad, lost = (int(re.search(rf"\b{name}=(\d+)", answer).group(1)) for name in ("bad", "lost"))
        if bad or lost > 2 * BALLOON_PAGES:
            raise Lost(f"wrong memory: {answer}")

    # The steps that are more than one.

    def serial_is_lost(self):
        return re.search("(in|out)put of the serial line", self.errors())

    def await_boot(self, start):
        for _ in range(ATTEMPTS):
            if self.wait_guest(r"@ready \w+ (.*?)\r?\n", start):
                return
            if self.serial_is_lost():
                break
        raise Lost("the guest does not boot")

    def start(self):
        self.await_boot(0)
        self.started = True

    def reset(self):
        start = len(self.serial.text)
        self.control("reset")
        self.await_boot(start)

    def quit(self):
        try:
            self.control("quit")
        except Ended:
            return
        if not self.wait_end(TIMEOUT):
            self.was_killed = True
            raise Lost("quit does not end")
