"""A slot that does nothing: forked from the loaded mold, measured while it lives, ended. What any slot costs at least.

Called in the mold when its heap is frozen. The child runs no code of the application.
"""

import contextlib
import gc
import os
import socket
import time
from typing import NoReturn

import msgspec

from qslots.errors import Error

from . import linux, memory


class FreshSlot(msgspec.Struct, frozen=True):
    """What it cost: bytes, and seconds from the order until it spoke."""

    size: int  # private + SwapPss + page tables
    private: int
    page_tables: int
    pss: int
    mold_pss: int  # of the mold, its pages shared with the slot
    seconds: float


def fork() -> FreshSlot:
    """Forks a slot and measures it. Error if it does not come to life, or may not be read."""
    ours, theirs = socket.socketpair()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _live(ours, theirs)
    theirs.close()
    try:
        with ours:
            if not ours.recv(1):
                raise Error("a fresh slot did not come to life: look for what the application does at a fork")
            seconds = time.monotonic() - began
            return _measured(pid, seconds)
    finally:
        os.waitpid(pid, 0)


def _live(ours: socket.socket, theirs: socket.socket) -> NoReturn:
    with contextlib.suppress(BaseException):  # whatever it is, the mold sees the end of the line
        linux.die_with_parent()
        ours.close()
        gc.enable()
        theirs.send(b".")
        theirs.recv(1)  # until it has been measured
    os._exit(0)


def _measured(pid: int, seconds: float) -> FreshSlot:
    slot, mold = memory.rollup(pid), memory.rollup(os.getpid())
    if not isinstance(slot, memory.Rollup) or not isinstance(mold, memory.Rollup):
        raise Error(f"the memory of a fresh slot cannot be read: {slot or 'it has ended'}")
    private = slot.private_dirty + slot.private_clean
    return FreshSlot(slot.size, private, slot.page_tables, slot.pss, mold.pss, seconds)
