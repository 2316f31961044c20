#!/usr/bin/env python3
"""Takes the ELF vmlinux out of a bzImage.

    extract-vmlinux.py BZIMAGE OUTPUT

The setup header (Linux x86 boot protocol 2.08 and later) says where the compressed kernel lies; its
first bytes say how it was compressed. gzip, xz, bzip2 and lzma need nothing but Python, zstd and
lz4 the tools of the same names.
"""
import bz2
import lzma
import struct
import subprocess
import sys
import zlib


def tool(*command):
    """A decompressor that is a program. Its complaint about the length word at the end is no
    failure: whether it worked shows in what it wrote."""
    def run(data):
        try:
            return subprocess.run(command, input=data, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, check=False).stdout
        except FileNotFoundError:
            sys.exit(f"extract-vmlinux.py: {command[0]} is not installed: apt-get install {command[0]}")
    return run


METHODS = [
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x5d\x00\x00", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"\x28\xb5\x2f\xfd", tool("zstd", "-qdc")),
    (b"\x02\x21\x4c\x18", tool("lz4", "-qdc")),
]


def payload(image):
    if len(image) < 0x268 or image[0x202:0x206] != b"HdrS":
        raise ValueError("no bzImage (the setup header has no HdrS)")
    version, = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise ValueError(f"boot protocol {version >> 8}.{version & 255:02d} does not tell the payload")
    setup_sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if start + length > len(image):
        raise ValueError("truncated: the payload ends beyond the file")
    # The last four bytes are the uncompressed length.
    return image[start:start + length]


def extract(image):
    data = payload(image)
    for magic, decompress in METHODS:
        if data.startswith(magic):
            kernel = decompress(data)
            size, = struct.unpack("<I", data[-4:])
            # lz4 takes the length word for a further block, which it drops.
            if kernel[:4] != b"\x7fELF" or len(kernel) != size:
                raise ValueError(f"the payload does not decompress to an ELF file of {size} bytes")
            return kernel
    raise ValueError(f"unknown compression (first bytes {data[:6].hex()})")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        image = file.read()
    try:
        kernel = extract(image)
    except ValueError as error:
        sys.exit(f"extract-vmlinux.py: {sys.argv[1]}: {error}")
    with open(sys.argv[2], "wb") as file:
        file.write(kernel)


if __name__ == "__main__":
    main()
