"""ctl, console, ls and the control socket, with a bare guest behind them."""
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import time
import unittest

import host
from case import BareCase
from terminal import CONTROL_A, CONTROL_C, CONTROL_D, Terminal

REQUEST_MAX = 4096


class Socket(BareCase):
    def setUp(self):
        super().setUp()
        self.guest = self.bare()
        self.path = os.path.join(self.runtime, "ebb", f"{self.guest.name}.sock")

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10 * host.SLOWNESS)
        connection.connect(self.path)
        self.addCleanup(connection.close)
        return connection

    @staticmethod
    def answer(connection):
        data = b""
        # What was said, and asked, before both ends were there is gone.
        for _ in range(10 * host.SLOWNESS):
            os.write(fd, b"#1 ping\n")
            if select.select([fd], [], [], 1)[0]:
                data += os.read(fd, 4096)
            if b"@ok #1 pong" in data:
                return
        self.fail(f"no answer: {data}")


if __name__ == "__main__":
    unittest.main()
