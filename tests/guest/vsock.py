"""The host's side of vsock, as users of Firecracker's convention write it."""
import os
import socket
import threading

import host


def connect(path, port):
    """A stream to the guest's @port. ConnectionRefusedError if nobody answers there."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(60 * host.SLOWNESS)
    stream.connect(path)
    try:
        stream.sendall(b"CONNECT %d\n" % port)
        line = b""
        while not line.endswith(b"\n"):
            byte = stream.recv(1)
            if not byte:
                raise ConnectionRefusedError(f"{path}: port {port} does not answer")
            line += byte
    except BaseException:
        stream.close()
        raise
    word, number = line.split()
    assert word == b"OK" and int(number) > 0, line
    return stream


def read_exactly(stream, size):
    data = bytearray()
    while len(data) < size:
        piece = stream.recv(min(size - len(data), 1 << 16))
        if not piece:
            raise AssertionError(f"the stream ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def exchange(stream, data):
    """Sends @data and reads as many bytes meanwhile: what came."""
    sender = threading.Thread(target=stream.sendall, args=(data,), daemon=True)
    sender.start()
    received = read_exactly(stream, len(data))
    sender.join()
    return received


class EchoServer:
    """Sends back what the guest sends to @port, until the guest has closed."""

    def __init__(self, path, port):
        self.path = f"{path}_{port}"
        self.bytes = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(64)

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.listener.close()
        os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with stream:
            while True:
                data = stream.recv(1 << 16)
                if not data:
                    return
                stream.sendall(data)
                self.bytes += len(data)
