"""What a slot does about its own memory, in its own process: weighs itself when it is born, tidies when it is told to.

It decides nothing: whether a slot has grown too much is its master's to say.
"""

import gc
import os
import re

from qslots.footprint import anonymous, read_proc
from qslots.orders import Fresh

from . import linux, memory

_SWAPPED = re.compile(r"^VmSwap:\s+(\d+) kB$", re.MULTILINE)


def grown() -> int:
    """Bytes that this process has made private by writing, 0 if the kernel does not say. Takes 3 ms a GB."""
    found = memory.rollup(os.getpid())
    return found.grown if isinstance(found, memory.Rollup) else 0


def fresh() -> Fresh:
    """What this slot weighs now, before its first task: what it grows is counted from here."""
    return Fresh(grown(), anonymous() + _swapped())


def _swapped() -> int:
    """Bytes of this process that are swapped out: they come back without having grown."""
    found = _SWAPPED.search(read_proc("/proc/self/status"))
    return int(found[1]) << 10 if found else 0


def tidy() -> int:
    """Collects garbage, gives free heap back to the kernel, and measures what has grown all the same.

    The heap that came from the mold is frozen: collecting does not write to it.
    """
    gc.collect()
    linux.malloc_trim()
    return grown()
