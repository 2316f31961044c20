"""The frames between the host and the command agent in the host VM.

A frame is the magic, a type, the session it belongs to and its payload's length, then the payload.
Whoever finds no magic where a frame should start looks for the next one: a client that was killed
in the middle of a frame harms nobody after it.

    host to VM  P ping           R run: JSON {argv, cwd, env, pty: [rows, columns] or null}
                I input          E end of input    W window size: JSON [rows, columns]
    VM to host  p answer to P    O output          X error output    Q ended: JSON {status}
"""
import struct

MAGIC = b"ebbF"
HEADER = struct.Struct("<4scII")
PAYLOAD_MAX = 1 << 20
PORTS = 8


def frame(kind, session, payload=b""):
    return HEADER.pack(MAGIC, kind, session, len(payload)) + payload


class Parser:
    def __init__(self):
        self.data = bytearray()

    def feed(self, data):
        """The frames completed by @data, as (kind, session, payload)."""
        self.data += data
        while True:
            start = self.data.find(MAGIC)
            if start < 0:
                del self.data[:max(0, len(self.data) - len(MAGIC) + 1)]
                return
            del self.data[:start]
            if len(self.data) < HEADER.size:
                return
            _, kind, session, length = HEADER.unpack_from(self.data)
            if length > PAYLOAD_MAX:
                del self.data[:1]
                continue
            if len(self.data) < HEADER.size + length:
                return
            payload = bytes(self.data[HEADER.size:HEADER.size + length])
            del self.data[:HEADER.size + length]
            yield kind, session, payload
