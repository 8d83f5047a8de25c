"""A throw-away child of the mold, forked as slots are: what a fresh slot needs, and how long it takes to fork one.

It is asked before any slot is forked, so that limits which no slot could keep end a start, or refuse a reload, before
anything is replaced. It runs no hook and connects to nothing, so it is a little less than what a real slot begins with;
each of those is counted from its own beginning in any case.
"""

import gc
import os
import select
import signal
import struct
import time

from . import upkeep

PATIENCE = 15.0  # seconds, as for a birth
_FIGURES = struct.Struct("d q")


def fork() -> tuple[int, float]:
    """Bytes that it has made private, and seconds until it ran; zeros if it did not come to that."""
    ours, theirs = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _live(theirs, began)
    os.close(theirs)
    if not select.select([ours], [], [], PATIENCE)[0]:
        os.kill(pid, signal.SIGKILL)
    told = os.read(ours, _FIGURES.size)
    os.close(ours)
    os.waitpid(pid, 0)
    seconds, grown = _FIGURES.unpack(told) if len(told) == _FIGURES.size else (0.0, 0)
    return grown, seconds


def _live(theirs: int, began: float) -> None:
    try:
        seconds = time.monotonic() - began
        gc.enable()
        os.write(theirs, _FIGURES.pack(seconds, upkeep.grown()))
    finally:
        os._exit(0)  # whatever happens: this is not the mold
