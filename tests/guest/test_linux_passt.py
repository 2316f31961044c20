"""A stock Linux guest behind passt: DHCP, DNS, TCP both ways, and asleep in the store."""
import http.client
import http.server
import os
import socket
import threading
import time
import unittest

import host
import outside
from case import MIB, LinuxCase

GUEST_PORT = 8080


class Web:
    """
    An HTTP server on loopback: / greets, /zeros has @length bytes, and what is posted is counted. Both
    sides know by its length where a message ends: a guest that ended its half of the connection first
    could wait for ever for the other's end, which the passt of Debian 12 may lose.
    """

    def __init__(self, case, length):
        web = self
        self.posted = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, body):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.answer(bytes(length) if self.path == "/zeros" else b"hello from the host\n")

            def do_POST(self):
                web.posted = len(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(b"taken\n")

            def log_message(self, *arguments):
                pass

        self.server = case.enter(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        case.addCleanup(self.server.shutdown)


class Passt(LinuxCase):
    def setUp(self):
        super().setUp()
        outside.enter(self)
        outside.use_name_server(self, {"host.test": outside.GATEWAY})
        self.length = host.size(512, 6) * MIB
        self.web = Web(self, self.length)
        self.port = outside.free_port()
        self.guest = self.linux("--net", f"user,forward={self.port}:{GUEST_PORT}")

    def sh(self, command, timeout=60):
        answer = self.guest.serial.command("sh " + command, timeout=timeout)
        self.assertEqual(answer["status"], 0, f"{command}: {answer['output']}")
        return answer["output"]

    def echo(self, payload):
        """Through the forwarded port to the guest's echo server and back."""
        with socket.create_connection(("127.0.0.1", self.port), 30 * host.SLOWNESS) as connection:
            threading.Thread(target=connection.sendall, args=(payload,), daemon=True).start()
            got = b""
            while len(got) < len(payload):
                data = connection.recv(1 << 18)
                self.assertTrue(data, f"the guest closed after {len(got)} bytes")
                got += data
        self.assertEqual(got, payload)

    def load_by_loopback(self):
        """How long the same takes on this side."""
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.web.port)
        connection.request("GET", "/zeros")
        self.assertEqual(len(connection.getresponse().read()), self.length)
        connection.close()
        return time.monotonic() - start

    def test_a_guest_lives_behind_passt(self):
        # An address, and the gateway's.
        self.sh("udhcpc -i eth0 -n -q -t 10")
        self.assertIn(f"inet {outside.ADDRESS}/{outside.PREFIX}", self.sh("ip address show eth0"))
        self.assertIn(f"default via {outside.GATEWAY}", self.sh("ip route"))

        # A name.
        self.assertIn(outside.GATEWAY, self.sh("nslookup -type=a host.test"))
        answer = self.guest.serial.command("sh nslookup -type=a nobody.test", timeout=60)
        self.assertIn("NXDOMAIN", answer["output"])

        # The host.
        url = f"http://{outside.GATEWAY}:{self.web.port}"
        self.assertIn("hello from the host", self.sh(f"wget -q -O - {url}/"))
        start = time.monotonic()
        count = self.sh(f"wget -q -O - {url}/zeros | wc -c", timeout=120)
        seconds = time.monotonic() - start
        self.assertEqual(int(count.split("\\n")[0]), self.length)
        print(f"\nthroughput from the host: {self.length / MIB / seconds:.1f} MiB/s, "
              f"{self.load_by_loopback() / seconds:.3f} of loopback's")
        self.sh("yes | head -c 1000000 >/tmp/file")  # busybox posts text
        self.assertIn("taken", self.sh(f"wget -q -O - --post-file /tmp/file {url}/", timeout=120))
        self.assertEqual(self.web.posted, 1000000)

        # The guest, through the forwarded port.
        self.sh(f"(nc -ll -p {GUEST_PORT} -e cat </dev/null >/dev/null 2>&1 &)")
        self.sh(f"for i in 1 2 3 4 5 6 7 8 9; do netstat -ltn | grep -q :{GUEST_PORT} && exit 0; sleep 1; done; exit 1")
        self.echo(os.urandom(host.size(8, 1) * MIB))

        # The guest sleeps, answers, and what that takes is all that wakes.
        self.guest.swap("enable")
        self.guest.swap("out")
        before = self.guest.ctl("swap", "status")["pages_swapped"]
        self.echo(os.urandom(1000))
        after = self.guest.ctl("swap", "status")["pages_swapped"]
        print(f"pages out: {before}, after an answer {after}")
        self.assertGreater(before, 5000)
        self.assertLess(before - after, before // 3)
        self.assertEqual(self.guest.ctl("status")["nets"][0]["link_up"], True)


if __name__ == "__main__":
    unittest.main()
