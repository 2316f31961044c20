"""Pages in headless Chromium: their document after the scripts ran, and pictures of them."""
import html.parser
import os
import struct
import subprocess
import zlib

import host

CHROMIUM = "chromium"


def chromium(directory, page, *options):
    """Standard output of Chromium, without network, for the file @page."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
               "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={os.path.join(directory, 'chromium')}",
               "--virtual-time-budget=3000", *options, f"file://{page}"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=dict(os.environ, HOME=directory), timeout=60 * host.SLOWNESS, check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout.decode()


class Element:
    def __init__(self, name, attributes):
        self.name, self.attributes, self.children = name, attributes, []

    def __iter__(self):
        """All elements inside, in order."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def find(self, name=None, **attributes):
        wanted = {key.replace("_", "-").rstrip("-"): value for key, value in attributes.items()}
        return [element for element in self if name in (None, element.name)
                and all(element.attributes.get(key) == value for key, value in wanted.items())]

    def rows(self):
        return [[cell.text for cell in row if cell.name in ("td", "th")] for row in self.find("tr")]


class Document(html.parser.HTMLParser):
    """Made of what --dump-dom prints: well-formed but for the void elements."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.root = Element("", {})
        self.stack = [self.root]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.stack[-1].children.append(element)
        if tag not in self.VOID:
            self.stack.append(element)

    def handle_endtag(self, tag):
        while len(self.stack) > 1 and self.stack.pop().name != tag:
            pass

    def handle_data(self, data):
        self.stack[-1].children.append(data)


def png_pixels(path):
    """Width, height and the rows of an 8-bit RGB or RGBA picture, as (r, g, b)."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    position, packed = 8, b""
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8:position + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", body)
            assert depth == 8 and colour in (2, 6), (depth, colour)
        elif kind == b"IDAT":
            packed += body
        position += length + 12
    return width, height, unfilter(zlib.decompress(packed), width, height, 3 if colour == 2 else 4)


def unfilter(raw, width, height, size):
    """PNG, section 9.2."""
    stride, rows = width * size, []
    last = bytearray(stride)
    for y in range(height):
        kind = raw[y * (stride + 1)]
        line = bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride if kind else 0):
            left, above = line[x - size] if x >= size else 0, last[x]
            corner = last[x - size] if x >= size else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = above
            elif kind == 3:
                guess = (left + above) // 2
            else:
                guess = min((left, above, corner), key=lambda v: abs(left + above - corner - v))
            line[x] = (line[x] + guess) & 0xFF
        rows.append([tuple(line[x:x + 3]) for x in range(0, stride, size)])
        last = line
    return rows
