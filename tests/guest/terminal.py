"""A pseudo terminal with a program on it, for tests of what people do at a keyboard."""
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time

from ebb import Serial
from host import SLOWNESS

CONTROL_A = "\x01"
CONTROL_C = "\x03"
CONTROL_D = "\x04"


class Terminal:
    """Use as a context manager; the program is killed at its end."""

    def __init__(self, argv, env=None, rows=24, columns=100):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        env=dict(env or os.environ, TERM="xterm"), start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.serial = Serial(self.master, self.master)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        # The reading thread ends when the last slave is closed; then the master may go.
        os.close(self.slave)
        deadline = time.monotonic() + 5
        while not self.serial.ended and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            os.close(self.master)

    def send(self, text):
        self.serial.send(text)

    def expect(self, pattern, timeout=20, start=0):
        return self.serial.wait(pattern, timeout, start)

    def expect_prompt(self, prompt, timeout=20, start=0):
        """Like expect(), and waits until keys are read: the line editor shows its prompt just before it
        changes the terminal's modes, and what is typed in between is taken as a cooked line."""
        match = self.expect(prompt, timeout, start)
        time.sleep(0.2 * SLOWNESS)
        return match

    @property
    def position(self):
        """Where what comes from now on will start, for expect()."""
        return len(self.serial.text)

    def is_restored(self):
        return termios.tcgetattr(self.slave) == self.before

    def plain(self, start=0):
        """What was shown, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.serial.text[start:])
