#!/usr/bin/env python3
"""Runs ctest and says what went wrong, and what was skipped and why.

    report.py BUILD_DIRECTORY [CTEST_OPTION…]

Shows a line for each test, the whole output of those that failed, the reasons of those that were
skipped (lines with "SKIP:", also from programs that go on behind it), then ctest's own summary, which
comes last. Exit status: ctest's; with CI=true in the environment 1 if anything was skipped.
"""
import collections
import os
import re
import subprocess
import sys

OUTPUT = re.compile(r"^(\d+): (.*)$")
RESULT = re.compile(r"^\s*\d+/\d+ Test\s+#(\d+): (\S+) \.*\s*(.*)$")
SUMMARY = re.compile(r"^\d+% tests passed")
# What -V adds to each test's start.
NOISE = re.compile(r"^\s+Start\s+\d+:|^test \d+$|^\d+: (Test command|Working Directory|Environment variables|"
                   r"Test timeout computed|\s+[A-Z_]+=)|^$|^(UpdateCTest|Constructing|Done constructing|"
                   r"Updating|Checking|Added|Internal ctest|Test project|The following tests passed)|^\t")


class Report:
    def __init__(self):
        self.output = collections.defaultdict(list)
        self.skips = []
        self.in_summary = False

    def line(self, line):
        if SUMMARY.match(line):
            self.in_summary = True
            self.say_skips()
        if self.in_summary:
            print(line, flush=True)
            return
        output = OUTPUT.match(line)
        if NOISE.match(line):
            return
        if output:
            self.output[output.group(1)].append(output.group(2))
            return
        result = RESULT.match(line)
        if result:
            self.result(*result.groups(), line)

    def result(self, number, name, verdict, line):
        print(line, flush=True)
        text = self.output.pop(number, [])
        reasons = [entry[entry.index("SKIP:") + 5:].strip() for entry in text if "SKIP:" in entry]
        self.skips += [f"{name}: {reason}" for reason in reasons]
        if "Skipped" in verdict and not reasons:
            self.skips.append(f"{name}: (it does not say why)")
        if "Passed" not in verdict and "Skipped" not in verdict:
            print("\n".join(f"    {entry}" for entry in text), flush=True)

    def say_skips(self):
        if self.skips:
            print("\nSkipped, and why:")
            print("\n".join(f"    {entry}" for entry in self.skips))
            if os.environ.get("CI") == "true":
                print("    CI=true: these count as failures")
        print(flush=True)


def main():
    command = ["ctest", "--test-dir", sys.argv[1], "-V", *sys.argv[2:]]
    report = Report()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        for line in process.stdout:
            report.line(line.rstrip("\n"))
    if not report.in_summary:
        print(f"report.py: {' '.join(command)} ended early (status {process.returncode})")
    if report.skips and os.environ.get("CI") == "true":
        return 1
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
