"""Notices what a slot imports that the mold could have imported for all: every slot pays for it again.

It only tells the master, once a change. Where nothing is imported it costs two comparisons a pack, and once a second a
reading of statm. It must never go through all modules: each name it looked at would become private (3.2 MB for 2,000).
"""

import itertools
import socket
import sys

from . import orders
from .footprint import anonymous
from .scoreboard import LOOK_UP

MOST = 40  # names told at once


class LateImports:
    """Of one slot: what happens between ``begin`` and ``end``."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._modules = 0
        self._memory = 0
        self._look_at = 0

    def begin(self, now: int) -> None:
        """The application is about to run; ``now`` in ns since boot."""
        self._modules = len(sys.modules)
        if now >= self._look_at:
            self._memory, self._look_at = anonymous(), now + LOOK_UP

    def end(self) -> None:
        """It has run."""
        more = len(sys.modules) - self._modules
        if more > 0:
            grown = max(0, anonymous() - self._memory)
            latest = list(itertools.islice(reversed(sys.modules), more))
            orders.send(self._channel, orders.Imported(roots(latest[::-1])[:MOST], grown))
            self._look_at = 0


def roots(names: list[str]) -> tuple[str, ...]:
    """Those that are not part of another one of them, in the same order."""
    new = set(names)
    return tuple(name for name in names if name.rpartition(".")[0] not in new)
