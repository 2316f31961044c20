"""`ebb run --metrics`: what is served, to whom, and what hostile clients cannot do to the VM."""
import json
import os
import re
import socket
import threading
import time
import unittest

import host
import prometheus
from case import MIB, BareCase
from prometheus import Scrape

DASHBOARD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "vmm", "metrics",
                         "grafana-dashboard.json")


class MetricsCase(BareCase):
    def served(self, *options, metrics="0", **arguments):
        """A bare guest with metrics, and where they are."""
        guest = self.bare("--metrics", metrics, *options, **arguments)
        return guest, guest.ctl("status")["metrics"]

    def assert_refused(self, pattern, *options, status=2):
        code, _, errors = self.run_ebb("run", "--kernel", host.image("bare.elf"), "--memory", "16M", *options)
        self.assertEqual(code, status, errors)
        self.assertRegex(errors, pattern)


class Contents(MetricsCase):
    def test_prometheus_is_content_through_a_swap_cycle(self):
        guest, place = self.served("--swap-pool", "16M")
        guest.serial.command("fillall 1")
        scrapes = [Scrape(place)]
        for operation in ("enable", "trim", "out"):
            guest.swap(operation)
            scrapes.append(Scrape(place))
        guest.serial.command("touch 32M 32M 4096")
        scrapes.append(Scrape(place))
        guest.swap("in")
        guest.swap("disable")
        scrapes.append(Scrape(place))
        for scrape in scrapes:
            self.assertIn(prometheus.check_with_promtool(scrape.text), ("", None))
            self.assertEqual(scrape.sum("ebb_memory_bytes"), 128 * MIB)
            self.assertEqual(scrape.get("ebb_guest_memory_bytes"), 128 * MIB)
        self.assert_monotone(scrapes)
        self.assert_states(scrapes)
        self.assertEqual(scrapes[-1].get("ebb_swap_operations_total", operation="out", result="done"), 1)
        self.assertEqual(scrapes[-1].get("ebb_swap_operation_duration_seconds_count", operation="in"), 1)
        self.assertGreater(scrapes[-1].get("ebb_swap_disk_bytes_total", direction="write"), 0)
        guest.serial.command("verifyall 1")

    def assert_monotone(self, scrapes):
        for before, after in zip(scrapes, scrapes[1:]):
            self.assertEqual(before.families.keys(), after.families.keys())
            for name, family in before.families.items():
                if family.type in ("counter", "histogram", "summary"):
                    for key, value in family.samples.items():
                        self.assertGreaterEqual(after.families[name].samples[key], value, key)

    def assert_states(self, scrapes):
        filled, _, _, out, touched, disabled = scrapes
        self.assertEqual(filled.get("ebb_swap_state", state="disabled"), 1)
        self.assertGreater(filled.get("ebb_memory_bytes", state="resident"), 120 * MIB)
        self.assertEqual(out.get("ebb_swap_state", state="out"), 1)
        self.assertEqual(out.sum("ebb_swap_state"), 1)
        self.assertLess(out.get("ebb_memory_bytes", state="resident"), 8 * MIB)
        self.assertGreater(out.get("ebb_memory_bytes", state="pool"), 0)
        self.assertGreater(out.get("ebb_memory_bytes", state="disk"), 0)
        self.assertGreater(out.get("ebb_swap_store_bytes", place="pool"), 0)
        for one in (touched, disabled):
            faults = sum(one.get("ebb_swap_faults_total", kind=kind) for kind in ("pool", "file"))
            self.assertGreater(faults, 0)
            self.assertEqual(one.get("ebb_swap_fault_duration_seconds_count", kind="pool"),
                             one.get("ebb_swap_faults_total", kind="pool"))
        self.assertGreater(touched.get("ebb_memory_bytes", state="resident"), 30 * MIB)
        self.assertEqual(disabled.sum("ebb_swap_store_bytes"), 0)

    def test_the_balloon_and_the_process_are_shown(self):
        guest, place = self.served()
        guest.serial.command("balloon inflate 8192")
        scrape = Scrape(place)
        self.assertEqual(scrape.get("ebb_balloon_bytes"), 32 * MIB)
        self.assertEqual(scrape.get("ebb_memory_bytes", state="ballooned"), 32 * MIB)
        self.assertEqual(scrape.get("ebb_guest_info", name=guest.name), 1)
        self.assertEqual(scrape.get("ebb_guest_state", state="running"), 1)
        self.assertAlmostEqual(scrape.get("process_start_time_seconds"), time.time(), delta=3600)
        self.assertAlmostEqual(scrape.get("process_resident_memory_bytes"), guest.rss_bytes(), delta=32 * MIB)
        self.assertGreater(scrape.get("process_open_fds"), 10)
        self.assertGreater(scrape.get("ebb_vcpu_seconds_total"), 0)

    def test_the_dashboard_uses_what_there_is(self):
        _, place = self.served()
        scrape = Scrape(place)
        known = {name for family in scrape.families.values() for name in family.names()}
        with open(DASHBOARD, encoding="utf-8") as file:
            dashboard = json.load(file)
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        expressions += [entry["expr"] for entry in dashboard["annotations"]["list"]]
        expressions += [entry["query"]["query"] for entry in dashboard["templating"]["list"]
                        if entry["type"] == "query"]
        used = set()
        for expression in expressions:
            used |= set(re.findall(r"\b(?:ebb|process)_[a-z_]+", expression))
        self.assertGreater(len(used), 15)
        self.assertEqual(used - known, set())
        self.assert_labels_exist(scrape, expressions)

    def assert_labels_exist(self, scrape, expressions):
        """A label that is summed by is one of each metric in the expression."""
        labels = {}
        for family in scrape.families.values():
            for name, pairs in family.samples:
                labels.setdefault(name, {"instance", "job"}).update(pair[0] for pair in pairs)
        for expression in expressions:
            for by, metric in re.findall(r"by \(([^)]*)\) \((?:\w+\()?(\w+)\{", expression):
                self.assertLessEqual(set(by.split(", ")), labels[metric], expression)


class Places(MetricsCase):
    def test_a_unix_socket_is_for_its_owner_and_goes_with_the_machine(self):
        path = os.path.join(self.directory, "metrics.sock")
        left = socket.socket(socket.AF_UNIX)
        left.bind(path)  # as a machine leaves it that was killed
        left.close()
        guest, place = self.served(metrics=path)
        self.assertEqual(place, f"unix:{path}")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        Scrape(place)
        self.assert_refused("another program listens there", "--metrics", path, status=1)
        guest.ctl("quit")
        guest.wait()
        self.assertFalse(os.path.exists(path))

    def test_a_file_is_not_replaced_by_a_socket(self):
        path = self.make_file("precious", content=b"data")
        self.assert_refused("is no socket", "--metrics", path, status=1)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"data")

    def test_a_port_in_use_is_said_to_be(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.assert_refused(f"port {port} of 127.0.0.1 is in use", "--metrics", str(port), status=1)

    def test_loopback_is_where_it_listens(self):
        guest, place = self.served()
        self.assertRegex(place, r"^http://127\.0\.0\.1:\d+/metrics$")
        self.assertIn(place, guest.errors.decode())
        with open("/proc/self/net/tcp", encoding="ascii") as file:
            port = int(re.search(r":(\d+)/", place)[1])
            self.assertRegex(file.read(), rf" 0100007F:{port:04X} 00000000:0000 0A ")

    def test_ipv6_loopback(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            # Containers are often without.
            self.assert_refused("does not have the address ::1|Address family not supported",
                                "--metrics", "[::1]:0", status=1)
            return
        _, place = self.served(metrics="[::1]:0")
        Scrape(place)

    def test_the_public_is_refused_unless_it_is_invited(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:9100"):
            self.assert_refused("--metrics-public", "--metrics", address)
        _, place = self.served("--metrics-public", "on", metrics="0.0.0.0:0")
        Scrape(place.replace("0.0.0.0", "127.0.0.1"))

    def test_an_address_of_another_host_is_said_to_be(self):
        self.assert_refused("does not have the address 192.0.2.1", "--metrics", "192.0.2.1:0",
                            "--metrics-public", "on", status=1)


class Hostile(MetricsCase):
    def test_other_requests_get_their_status(self):
        _, place = self.served(swap=False)
        self.assertEqual(prometheus.request(place, path="/")[0], 404)
        self.assertEqual(prometheus.request(place, path="/metrics/../../etc/passwd")[0], 404)
        status, headers, _ = prometheus.request(place, "POST", more="Content-Length: 5\r\n")
        self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))
        status, headers, body = prometheus.request(place, "HEAD")
        self.assertEqual((status, body), (200, ""))
        self.assertGreater(int(headers["content-length"]), 1000)
        self.assertEqual(prometheus.request(place, path="/metrics?a=b")[0], 200)
        Scrape(place)

    def test_garbage_and_huge_heads_end_the_connection(self):
        guest, place = self.served(swap=False)
        for garbage in (b"\0" * 4096, b"\xff" * 65536 + b"\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n",
                        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                        b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 1000000 + b"\r\n\r\n",
                        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 100000 + b"\r\n",
                        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"):
            with prometheus.connect(place) as connection:
                try:
                    connection.sendall(garbage)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                except TimeoutError:
                    raise
                except OSError:
                    pass  # ended while there was more to send
        Scrape(place)
        guest.serial.command("ping")

    def test_slow_clients_are_ended_and_lock_nobody_out(self):
        guest, place = self.served(swap=False)
        slow = [prometheus.connect(place) for _ in range(100)]
        for connection in slow:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        # The oldest make room.
        Scrape(place)
        deadline = time.monotonic() + 30 * host.SLOWNESS
        open_ones = slow
        while open_ones:
            self.assertLess(time.monotonic(), deadline, f"{len(open_ones)} are still open")
            # One byte at a time does not keep a connection alive for longer.
            open_ones = [connection for connection in open_ones if self.is_alive(connection, b"X")]
            time.sleep(0.2)
        for connection in slow:
            connection.close()
        guest.serial.command("ping")
        Scrape(place)

    def is_alive(self, connection, byte):
        try:
            connection.send(byte)
            connection.setblocking(False)
            return connection.recv(65536) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def test_a_thousand_connections_do_not_hurt_the_machine(self):
        guest, place = self.served()
        guest.serial.command("fillall 3")
        before = self.fds(guest)
        failures = []

        def knock():
            try:
                for _ in range(250):
                    with prometheus.connect(place) as connection:
                        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            except OSError as error:
                failures.append(error)

        threads = [threading.Thread(target=knock) for _ in range(4)]
        for thread in threads:
            thread.start()
        for operation in ("enable", "out", "in", "disable"):
            guest.swap(operation)
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        guest.serial.command("verifyall 3")
        Scrape(place)
        self.assertLess(self.fds(guest), before + 64)

    def fds(self, guest):
        return len(os.listdir(f"/proc/{guest.pid}/fd"))


if __name__ == "__main__":
    unittest.main()
