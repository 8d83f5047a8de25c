"""With this folder on PYTHONPATH a program's clocks run ahead by what stands in the file that QSLOTS_TEST_CLOCK names.

Python imports it at its start; what the program spawns inherits it, and what it forks shares it. So the clock of a
whole fleet moves in one moment, in the middle of whatever it does; everything else is real.
"""

import mmap
import os
import pathlib
import struct
import time
from collections.abc import Callable

_SECONDS = struct.Struct("d")
_ROOM = _SECONDS.size


def create(path: pathlib.Path) -> Callable[[float], None]:
    """The file, and what moves the clock by so many seconds from the real one."""
    path.write_bytes(_SECONDS.pack(0.0))
    descriptor = os.open(path, os.O_RDWR)
    return lambda seconds: _SECONDS.pack_into(mmap.mmap(descriptor, _ROOM), 0, seconds)


def _move(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    room = mmap.mmap(descriptor, _ROOM, prot=mmap.PROT_READ)
    os.close(descriptor)
    monotonic, clock_gettime_ns = time.monotonic, time.clock_gettime_ns

    def ahead() -> float:
        return float(_SECONDS.unpack_from(room)[0])

    time.monotonic = lambda: monotonic() + ahead()
    time.clock_gettime_ns = lambda which: clock_gettime_ns(which) + int(ahead() * 1e9)


if "QSLOTS_TEST_CLOCK" in os.environ:
    _move(os.environ["QSLOTS_TEST_CLOCK"])
