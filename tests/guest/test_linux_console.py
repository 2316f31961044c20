"""hvc0 and AF_VSOCK in a stock Linux guest, awake and swapped out."""
import os
import random
import socket
import unittest

import vsock
from case import LinuxCase
from host import SLOWNESS, size

PORT = 1024


class Line:
    """A shell behind a Unix socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60 * SLOWNESS)
        self.socket.connect(path)
        self.text = ""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def expect(self, text):
        while text not in self.text:
            data = self.socket.recv(4096)
            if not data:
                raise AssertionError(f"no {text!r} in {self.text!r}")
            self.text += data.decode(errors="replace")
        self.text = self.text.partition(text)[2]

    def send(self, text):
        self.socket.sendall(text.encode())


class Talk(LinuxCase):
    def test_hvc0_and_vsock_work_awake_and_swapped_out(self):
        console, path = os.path.join(self.directory, "hvc0"), os.path.join(self.directory, "v")
        guest = self.linux("--console", f"unix={console}", "--vsock", f"{path},cid=1234",
                           cmdline="console=hvc0")
        line = self.enter(Line(console))
        self.assertEqual(guest.serial.command("vsock cid")["cid"], 1234)
        guest.serial.command(f"vsock serve {PORT}")
        guest.serial.command("sh setsid sh -c 'exec sh -i </dev/hvc0 >/dev/hvc0 2>&1' &")
        guest.serial.command(f"mem alloc {size(96, 16)} 1", timeout=60)
        self.enter(vsock.EchoServer(path, 77))
        with self.assertRaises(ConnectionRefusedError):
            vsock.connect(path, PORT + 1)
        for swapped in (False, True):
            if swapped:
                guest.swap("enable")
                guest.swap("out")
                out = guest.ctl("swap", "status")["pages_swapped"]
            # The kernel's own console, and a terminal in both directions.
            guest.serial.command("sh echo '<0>from the kernel' >/dev/kmsg")
            line.expect("from the kernel")
            line.send("echo $((6 * 7))-$((2 * 2))\n")
            line.expect("42-4")
            data = random.Random(2).randbytes(size(10 << 20, 300001))
            with vsock.connect(path, PORT) as stream:
                self.assertEqual(vsock.exchange(stream, data), data)
                stream.shutdown(socket.SHUT_WR)
                self.assertEqual(stream.recv(1), b"")
            reply = guest.serial.command(f"vsock connect 77 {size(10 << 20, 300001)}", timeout=120)
            self.assertEqual(reply["bytes"], size(10 << 20, 300001))
            if swapped:
                # What was not needed for that is still out.
                self.assertGreater(guest.ctl("swap", "status")["pages_swapped"], out // 2)
        guest.serial.command("mem verify", timeout=120)
        guest.serial.begin("poweroff")
        self.assertEqual(guest.wait(60), 0)
        self.assertFalse(os.path.exists(console) or os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
