"""What a bare guest's memory and disks must contain, for the soak test.

Both are divided into grains. A grain is ZERO, UNKNOWN, or (seed, base): the pattern that the guest's
`fill` writes with that seed at address base. What the balloon took is no matter of the model: the guest
knows itself which pages it gave up, and leaves them out.
"""
GRAIN = 64 << 10
SECTORS = GRAIN // 512
ZERO, UNKNOWN = "zero", "unknown"
MASK = (1 << 64) - 1


def mix(value):
    """The guest's: splitmix64's finaliser."""
    value = (value + 0x9e3779b97f4a7c15) & MASK
    value = ((value ^ value >> 30) * 0xbf58476d1ce4e5b9) & MASK
    value = ((value ^ value >> 27) * 0x94d049bb133111eb) & MASK
    return value ^ value >> 31


def content(grain):
    """The bytes of a grain that is known."""
    if grain == ZERO:
        return bytes(GRAIN)
    seed, base = grain
    seed = mix(seed)
    return b"".join(((base + offset ^ seed) * 0x9e3779b97f4a7c15 & MASK).to_bytes(8, "little")
                    for offset in range(0, GRAIN, 8))


class Grains:
    """@count grains from address @start on."""

    def __init__(self, start, count):
        self.start = start
        self.grains = [ZERO] * count

    def __len__(self):
        return len(self.grains)

    def address(self, index):
        return self.start + index * GRAIN

    def fill(self, first, count, seed):
        for index in range(first, first + count):
            self.grains[index] = (seed, self.address(index))

    def set(self, first, count, value):
        self.grains[first:first + count] = [value] * count

    def runs(self, first=0, count=None):
        """(index, count, grain): neighbours whose contents go on from each other are one run."""
        end = len(self.grains) if count is None else first + count
        while first < end:
            grain, length = self.grains[first], 1
            while first + length < end and self.grains[first + length] == self._next(grain, length):
                length += 1
            yield first, length, grain
            first += length

    @staticmethod
    def _next(grain, distance):
        if grain in (ZERO, UNKNOWN):
            return grain
        return grain[0], grain[1] + distance * GRAIN


# Swap: in which states an operation may be begun, and the state after it.
STATES = ("disabled", "staged", "out", "resident")
LEGAL = {"enable": STATES, "trim": ("staged",), "out": ("staged",), "in": ("staged", "out"),
         "in --working-set": ("staged", "out"), "disable": ("staged", "out", "resident")}
AFTER = {"enable": "staged", "trim": "staged", "out": "out", "in": "resident", "disable": "disabled"}


def after(operation, state):
    return AFTER.get(operation, state)


def after_interruption(operation, state):
    """The states that are right when the operation was cancelled, or failed."""
    if operation == "enable":
        # With device I/O under way it takes everything back.
        return {state, "staged", "resident", "disabled" if state == "disabled" else state}
    return {state}
