"""
A directory on a disk that can hang: a file system (FUSE, fuse(4)) of one file, served by a thread of the
test, which stops to answer when it is told to.
"""
import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import tempfile
import threading

MAX_WRITE = 128 << 10
ROOT, FILE = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)

# enum fuse_opcode of <linux/fuse.h>
(LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, OPEN, READ, WRITE, STATFS, RELEASE, INIT, OPENDIR, READDIR,
 RELEASEDIR, CREATE, INTERRUPT, BATCH_FORGET, FALLOCATE) = (
     1, 2, 3, 4, 10, 14, 15, 16, 17, 18, 26, 27, 28, 29, 35, 36, 42, 43)
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)
BIG_WRITES = 1 << 5
SETS_SIZE = 1 << 3


def _call(result, what):
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


class Frozen:
    """The file system at @path. A context: unmounted, and whoever waits for it let go, at its end."""

    def __init__(self, case, name="frozen"):
        case.need_root("a file system of the test's own")
        self.path = case.make_dir(name)
        self.name = None
        self.holds = threading.Event()
        self.ends = False
        try:
            self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            case.skipTest(f"/dev/fuse: {error.strerror}")
        self.backing = tempfile.TemporaryFile(dir=case.directory, buffering=0)
        options = f"fd={self.device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        try:
            _call(LIBC.mount(b"ebb-test", self.path.encode(), b"fuse.ebb-test", 0, options.encode()),
                  "mounting a FUSE file system")
        except OSError as error:
            os.close(self.device)
            case.skipTest(f"{error}")
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.go_on()
        subprocess.run(["umount", "-l", self.path], check=False)
        self.ends = True
        self.thread.join()
        os.close(self.device)
        self.backing.close()

    def hang(self):
        """From now on nothing is answered."""
        self.holds.set()

    def go_on(self):
        self.holds.clear()

    def _serve(self):
        room = MAX_WRITE + 4096
        while not self.ends:
            # What was not read yet can be given up by who is killed, as with a disk's queue.
            if self.holds.wait(0.01) or not select.select([self.device], [], [], 0.05)[0] or self.holds.is_set():
                continue
            try:
                self._answer(os.read(self.device, room))
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno not in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    raise

    def _answer(self, request):
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in SILENT:
            return
        try:
            answer, code = self._do(opcode, node, request[40:]), 0
        except OSError as error:
            answer, code = b"", error.errno
        os.write(self.device, struct.pack("<IiQ", 16 + len(answer), -code, unique) + answer)

    def _attributes(self, node):
        info = os.fstat(self.backing.fileno())
        mode = stat.S_IFREG | 0o600 if node == FILE else stat.S_IFDIR | 0o700
        size, blocks = (info.st_size, info.st_blocks) if node == FILE else (0, 0)
        return struct.pack("<6Q10I", node, size, blocks, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(),
                           0, 4096, 0)

    def _entry(self):
        return struct.pack("<4Q2I", FILE, 0, 0, 0, 0, 0) + self._attributes(FILE)

    def _do(self, opcode, node, body):
        fd = self.backing.fileno()
        if opcode == INIT:
            return struct.pack("<4I2H2I2H8I", 7, 31, 0, BIG_WRITES, 16, 12, MAX_WRITE, 1, 32, 0, *[0] * 8)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") == self.name:
                return self._entry()
            raise OSError(errno.ENOENT, "")
        if opcode in (GETATTR, SETATTR):
            if opcode == SETATTR and struct.unpack_from("<I", body)[0] & SETS_SIZE:
                os.ftruncate(fd, struct.unpack_from("<Q", body, 16)[0])
            return struct.pack("<Q2I", 0, 0, 0) + self._attributes(node)
        if opcode == CREATE:
            self.name = body[16:].rstrip(b"\0")
            os.ftruncate(fd, 0)
            return self._entry() + struct.pack("<QII", 0, 0, 0)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if opcode == UNLINK:
            self.name = None
            return b""
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(fd, size, offset)
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            return struct.pack("<II", os.pwrite(fd, body[40:40 + size], offset), 0)
        if opcode == FALLOCATE:
            _, offset, length, mode = struct.unpack_from("<3QI", body)
            _call(LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)), "fallocate")
            return b""
        if opcode == STATFS:
            return struct.pack("<5Q4I6I", 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096, *[0] * 7)
        if opcode in (RELEASE, RELEASEDIR, READDIR):
            return b""
        # FLUSH among them: the kernel asks no more, and who is killed need not wait for it.
        raise OSError(errno.ENOSYS, "")
