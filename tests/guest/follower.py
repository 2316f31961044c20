"""Somebody who follows the events of a machine."""
import contextlib
import json
import queue
import threading

import host


class Follower:
    """`ebb ctl --json NAME events`, read by a thread."""

    def __init__(self, guest, *words):
        self.process = guest.ctl_process("events", *words)
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line)["event"])
        self.lines.put(None)

    def next(self, timeout=20):
        try:
            event = self.lines.get(timeout=timeout * host.SLOWNESS)
        except queue.Empty:
            raise AssertionError(f"no event; so far: {self.seen}") from None
        self.seen.append(event)
        return event

    def wait(self, kind, **members):
        """The next event of type @kind with these members."""
        while True:
            event = self.next()
            if event is None:
                raise AssertionError(f"no {kind} {members} before the end: {self.seen}")
            if event["type"] == kind and all(event[key] == value for key, value in members.items()):
                return event

    def rest(self):
        """What comes until the machine ends."""
        while self.next() is not None:
            pass
        return self.seen[:-1]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
