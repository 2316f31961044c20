"""`ebb report` and the history behind it; the page is looked at in headless Chromium."""
import collections
import json
import os
import re
import shutil
import unittest

import page
from case import MIB, BareCase


class ReportCase(BareCase):
    def report(self, guest):
        path = os.path.join(self.directory, "report.html")
        status, output, errors = self.run_ebb("report", guest.name, "-o", path)
        self.assertEqual((status, output, errors), (0, "", ""))
        return path

    def data_of(self, path):
        with open(path, encoding="utf-8") as file:
            return json.loads(re.search(r'id="data">(.*?)</script>', file.read(), re.S)[1])

    def cycle(self, guest):
        guest.serial.command("fillall 1")
        guest.swap("enable")
        guest.swap("out")
        guest.serial.command("touch 32M 32M 4096")
        guest.swap("in")
        guest.swap("disable")


class History(ReportCase):
    def test_a_cycle_is_in_the_history(self):
        guest = self.bare()
        guest.serial.command("fillall 1")
        guest.swap("enable")
        guest.swap("out")
        out = guest.ctl("history")
        guest.serial.command("touch 32M 32M 4096")
        guest.swap("disable")
        history = guest.ctl("history")
        self.assertEqual([entry["operation"] for entry in history["operations"]], ["enable", "out", "disable"])
        self.assertEqual({entry["outcome"] for entry in history["operations"]}, {"done"})
        self.assertGreater(history["operations"][1]["moved_bytes"], 100 * MIB)
        self.assert_joined(history)
        self.assertLess(out["bytes"]["staged"], 8 * MIB)
        self.assertGreater(out["bytes"]["disk"], 100 * MIB)
        faults = sum(kind["count"] for sample in history["samples"] for kind in sample["faults"].values())
        latency = guest.ctl("swap", "status")["latency"]
        self.assertEqual(faults, sum(kind["count"] for kind in latency.values()))

    def assert_joined(self, history):
        end = 0
        for sample in history["samples"]:
            self.assertEqual(sample["start_ns"], end)
            end = sample["end_ns"]
            self.assertEqual(sum(sample["bytes"].values()), history["memory_bytes"])
        self.assertLessEqual(end, history["age_ns"])

    def test_the_history_as_people_read_it(self):
        guest = self.bare(swap=False)
        guest.ctl("history")
        status, output, _ = self.run_ebb("ctl", guest.name, "history")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"until +resident +staged +swapped +faults +p99\n")
        self.assertRegex(output.splitlines()[-1], r"[KM]iB +0 B +0 B +0 +-$")


class Page(ReportCase):
    def setUp(self):
        super().setUp()
        self.need(page.CHROMIUM, "chromium")

    def look(self, path, *options):
        return page.Document(page.chromium(self.directory, path, "--dump-dom", *options)).root

    def test_the_browser_draws_what_happened(self):
        guest = self.bare("--swap-pool", "16M")
        self.cycle(guest)
        path = self.report(guest)
        data = self.data_of(path)
        document = self.look(path)
        self.assertEqual(document.find("html")[0].attributes.get("data-ready"), "yes")
        self.assertEqual(document.find("h1")[0].text, guest.name)
        self.assert_areas(document, data)
        self.assert_tables(document, data)
        self.assertTrue(document.find("path", class_="latency"))
        for path_ in document.find("path"):
            self.assertRegex(path_.attributes["d"], r"^M[-0-9. MLHVZ]+$")
        marks = [mark.attributes["data-operation"] for mark in document.find(id="memory")[0].find("rect")]
        self.assertEqual(marks, ["enable", "out", "in", "disable"])
        self.assert_picture(path)

    def assert_areas(self, document, data):
        states = {state for sample in data["history"]["samples"] for state, size in sample["bytes"].items() if size}
        areas = document.find("path", class_="area")
        self.assertEqual({area.attributes["data-state"] for area in areas}, states)
        for area in areas:
            # One step for each sample, there and back.
            self.assertEqual(area.attributes["d"].count("H"), 2 * len(data["history"]["samples"]))

    def assert_tables(self, document, data):
        samples = data["history"]["samples"]
        _, *figures = document.find(id="figures")[0].rows()
        self.assertEqual(len(figures), len(samples))
        column = document.find(id="figures")[0].rows()[0].index("pool p99")
        for row, sample in zip(figures, samples):
            self.assertEqual(row[column] != "–", "pool" in sample["faults"])
            self.assertAlmostEqual(self.size(row[2]), sample["bytes"]["resident"], delta=MIB)
        _, *operations = document.find(id="operations")[0].rows()
        self.assertEqual([row[2] for row in operations], ["swap enable", "swap out", "swap in", "swap disable"])
        facts = dict(document.find(id="facts")[0].rows())
        self.assertEqual(facts["Memory"], "128 MiB")
        self.assertEqual(facts["Store"], f"{self.swap_dir}, with a pool of 16 MiB")
        self.assertEqual(facts["Encryption"], "AES-256-GCM")

    def size(self, text):
        number, unit = text.split(" ")
        return float(number) * 1024 ** ("B", "KiB", "MiB", "GiB").index(unit)

    def assert_picture(self, path):
        """In both schemes, memory that is resident and memory that is on the disk are seen."""
        wanted = {"light": ((0x2a, 0x78, 0xd6), (0xfc, 0xfc, 0xfb)), "dark": ((0x39, 0x87, 0xe5), (0x1a, 0x1a, 0x19))}
        for scheme, colours in wanted.items():
            picture = os.path.join(self.directory, f"{scheme}.png")
            page.chromium(self.directory, path, f"--screenshot={picture}", "--window-size=900,800",
                          f"--blink-settings=preferredColorScheme={('dark', 'light').index(scheme)}")
            width, height, rows = page.png_pixels(picture)
            self.assertEqual((width, height), (900, 800))
            pixels = collections.Counter(pixel for row in rows for pixel in row)
            for colour in colours:
                self.assertGreater(pixels[colour], 5000, f"{scheme}: {pixels.most_common(8)}")
            if os.environ.get("EBB_KEEP_SCREENSHOTS"):
                shutil.copy(picture, os.environ["EBB_KEEP_SCREENSHOTS"])

    def test_hostile_names_stay_text(self):
        parts = ("<", "script><script>document.title='gone'<", "script><img src=x onerror=document.title='gone'>&lt;'\"\\")
        hostile = self.swap_dir
        for part in parts:
            hostile = os.path.join(hostile, part)
            os.mkdir(hostile)
        guest = self.bare("--swap-dir", hostile, memory="64M")
        guest.swap("enable")
        path = self.report(guest)
        document = self.look(path)
        self.assertEqual(document.find("title")[0].text, f"ebb: {guest.name}")
        self.assertEqual(dict(document.find(id="facts")[0].rows())["Store"], hostile)
        self.assertEqual(document.find("img"), [])
        self.assertEqual(len(document.find("script")), 2)

    def test_a_machine_that_has_just_started_has_a_page(self):
        guest = self.bare(swap=False)
        document = self.look(self.report(guest))
        self.assertEqual(document.find("html")[0].attributes.get("data-ready"), "yes")
        self.assertIn("No faults yet", document.find(id="latency")[0].text)
        self.assertEqual(dict(document.find(id="facts")[0].rows())["Swap"], "not available")


class Output(ReportCase):
    def test_a_file_is_replaced_whole_or_not_at_all(self):
        guest = self.bare(swap=False)
        path = self.make_file("report.html", content=b"before")
        self.assertEqual(self.run_ebb("report", "nobody", "-o", path)[0], 1)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"before")
        self.report(guest)
        self.assertEqual(self.data_of(path)["status"]["name"], guest.name)
        self.assertEqual([name for name in os.listdir(self.directory) if name.startswith("report.html")],
                         ["report.html"])

    def test_standard_output_and_what_cannot_be_written(self):
        guest = self.bare(swap=False)
        status, output, _ = self.run_ebb("report", guest.name, "-o", "-")
        self.assertEqual(status, 0)
        self.assertTrue(output.startswith("<!doctype html>") and output.endswith("</html>\n"))
        for path in ("/dev/full", os.path.join(self.directory, "none", "report.html")):
            status, _, errors = self.run_ebb("report", guest.name, "-o", path)
            self.assertEqual(status, 1)
            self.assertIn(f"{path}: cannot be written", errors)
        self.assertTrue(os.path.exists("/dev/full"))

    def test_wrong_usage(self):
        for arguments in ((), ("name",), ("name", "other", "-o", "x"), ("-o", "x"), ("a/b", "-o", "x"), ("--what",)):
            status, _, errors = self.run_ebb("report", *arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn("ebb report: ", errors)


if __name__ == "__main__":
    unittest.main()
