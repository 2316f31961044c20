"""Prometheus' text format 0.0.4, read strictly, and HTTP by hand to an ebb that serves it."""
import os
import re
import socket
import subprocess

import host

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
PROMTOOL = host.image("promtool")


class Family:
    def __init__(self, name):
        self.name, self.help, self.type = name, None, None
        self.samples = {}  # (name, ((label, value), …)) → float

    def names(self):
        """What its samples may be called."""
        return {"histogram": {self.name + end for end in ("_bucket", "_sum", "_count")},
                "summary": {self.name, self.name + "_sum", self.name + "_count"}}.get(self.type, {self.name})


def parse_labels(text):
    labels, end = [], 0
    while end < len(text):
        match = LABEL.match(text, end)
        assert match, f"bad labels: {text!r}"
        value = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match[2])
        labels.append((match[1], value))
        end = match.end()
    assert len(dict(labels)) == len(labels), f"a label is there twice: {text!r}"
    return tuple(sorted(labels))


def parse(text):
    """The families by name. Stricter than Prometheus itself: HELP, TYPE and samples, in this order."""
    assert text.endswith("\n"), "the last line does not end"
    families, family = {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, explanation = line[7:].partition(" ")
            assert re.fullmatch(NAME, name) and explanation, line
            assert name not in families, f"{name} is there twice"
            family = families[name] = Family(name)
            family.help = explanation
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert family and name == family.name and not family.type and kind in TYPES, line
            family.type = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            assert family and family.type and match[1] in family.names(), f"not of its family: {line!r}"
            key = (match[1], parse_labels(match[2] or ""))
            assert key not in family.samples, f"there twice: {line!r}"
            family.samples[key] = float(match[3])
    for family in families.values():
        check_family(family)
    return families


def check_family(family):
    """Prometheus' conventions on names, and the sums of histograms."""
    name = family.name
    assert family.samples, f"{name} has no samples"
    assert name.endswith("_total") == (family.type == "counter"), f"{name} is a {family.type}"
    assert not re.search(r"(milli|micro|nano)seconds|kilobytes|megabytes", name), name
    assert re.match(r"ebb_|process_", name), name
    if family.type == "counter":
        assert all(value >= 0 for value in family.samples.values()), name
    if family.type == "histogram":
        check_histogram(family)


def check_histogram(family):
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(label for label in labels if label[0] != "le")
        one = series.setdefault(rest, {"buckets": []})
        if name.endswith("_bucket"):
            one["buckets"].append((float(dict(labels)["le"]), value))
        else:
            one[name.rpartition("_")[2]] = value
    for labels, one in series.items():
        bounds = [bound for bound, _ in one["buckets"]]
        counts = [count for _, count in one["buckets"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == float("inf"), f"{labels}: {bounds}"
        assert counts == sorted(counts), f"{labels}: not cumulative: {counts}"
        assert counts[-1] == one["count"], f"{labels}: {counts[-1]} in +Inf, {one['count']} in all"
        assert one["sum"] >= 0 and (one["count"] > 0 or one["sum"] == 0), labels


def check_with_promtool(text):
    """What promtool says of @text: "" if it is content, None if there is no promtool."""
    if not os.access(PROMTOOL, os.X_OK):
        return None
    result = subprocess.run([PROMTOOL, "check", "metrics"], input=text, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=60 * host.SLOWNESS, check=False)
    return result.stdout + ("" if result.returncode in (0, 3) else f"status {result.returncode}")


def connect(place, timeout=20):
    """A connection to what `status` calls "metrics"."""
    if place.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        address = place[5:]
    else:
        match = re.fullmatch(r"http://\[?([0-9a-f.:]+?)\]?:(\d+)/metrics", place)
        connection = socket.socket(socket.AF_INET6 if ":" in match[1] else socket.AF_INET)
        address = (match[1], int(match[2]))
    connection.settimeout(timeout * host.SLOWNESS)
    connection.connect(address)
    return connection


def request(place, method="GET", path="/metrics", more="", timeout=20):
    """Status, headers and body of one request."""
    with connect(place, timeout) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: ebb\r\n{more}\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    top, _, body = answer.decode().partition("\r\n\r\n")
    first, *lines = top.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


class Scrape:
    """The metrics of one moment."""

    def __init__(self, place):
        status, headers, self.text = request(place)
        assert status == 200, f"status {status}"
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", headers
        assert int(headers["content-length"]) == len(self.text.encode())
        self.families = parse(self.text)

    def get(self, sample, **labels):
        wanted = tuple(sorted(labels.items()))
        for family in self.families.values():
            if sample in family.names():
                return family.samples[(sample, wanted)]
        raise KeyError(sample)

    def sum(self, sample):
        return sum(self.families[sample].samples.values())
